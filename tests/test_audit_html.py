"""test_audit_html — the page of an audit in a real browser: it asks for nothing, is readable, and can be used without a mouse.

Needs Chromium and its driver (Debian: apt-get install chromium chromium-driver) and selenium; skips itself where they are not.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from reported import DAY, TEXT, failed, leaking

from crossvec.audit import Audit
from crossvec.report.audit.html import html

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install selenium")

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
if not (BROWSER and DRIVER):
    pytest.skip("no Chromium here: apt-get install chromium chromium-driver", allow_module_level=True)

WIDTHS = (390, 1440)
PAPER = 703  # A4 upright between margins of 12 mm, at 96 dots an inch
CHARTS = {"leakage", "clouds-pairs", "confusion-pairs", "seeds", "frontier"}
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def audits() -> dict[str, Audit]:
    return {"leaking": leaking(), "failed": failed()}


@pytest.fixture(scope="module")
def pages(audits: dict[str, Audit], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The address of each audit's page."""
    folder = tmp_path_factory.mktemp("pages")
    for name, it in audits.items():
        (folder / f"{name}.html").write_text(html(it, day=DAY), encoding="utf-8")
    return {name: (folder / f"{name}.html").as_uri() for name in audits}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    # Without a sandbox, because CI's containers have no user that may make one; the page is our own.
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # The driver is named, so that selenium does not look for one on the network.
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield started
    started.quit()


@pytest.fixture
def opened(browser: Any, pages: dict[str, str]) -> Open:
    """Open a page at a width, in a colour scheme, on a screen or on paper, with everything that it folds unfolded."""

    def show(name: str, width: int = 1440, *, dark: bool = False, media: str = "", unfolded: bool = True) -> Any:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": scheme})
        browser.get(pages[name])
        if unfolded:
            browser.execute_script("document.querySelectorAll('details').forEach(one => one.open = true)")
        return browser

    return show


@pytest.mark.parametrize("name", ["leaking", "failed"])
def test_the_console_is_silent_and_nothing_is_fetched(opened: Open, browser: Any, name: str) -> None:
    for log in ("browser", "performance"):
        browser.get_log(log)
    opened(name)
    browser.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    assert browser.get_log("browser") == []
    events = [json.loads(one["message"])["message"] for one in browser.get_log("performance")]
    asked = [one["params"]["request"]["url"] for one in events if one["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("data:")] == [browser.current_url]
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0


def test_the_policy_of_the_page_stops_what_it_does_not_hold(opened: Open) -> None:
    ran = opened("leaking").execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.head.append(s);"
        "return window.ran || 0"
    )
    assert ran == 0


@pytest.mark.parametrize("width", WIDTHS)
def test_every_picture_is_drawn_within_its_place_and_its_text_can_be_read(opened: Open, width: int) -> None:
    drawn = opened("leaking", width).execute_script(
        """return Object.fromEntries([...document.querySelectorAll('figure')].map(figure => {
            const svg = figure.querySelector('svg'), box = svg.getBoundingClientRect(), place = figure.getBoundingClientRect();
            const texts = [...svg.querySelectorAll('text')], boxes = texts.map(one => one.getBoundingClientRect());
            return [figure.id, {
                width: box.width, height: box.height, inside: box.right <= place.right + 1 && place.right <= innerWidth,
                marks: svg.querySelectorAll('path, use').length,
                least: Math.min(...texts.map(one => parseFloat(getComputedStyle(one).fontSize) * box.width /
                    svg.viewBox.baseVal.width)),
                cut: texts.filter((one, i) => boxes[i].left < box.left - 1 || boxes[i].right > box.right + 1
                    || boxes[i].top < box.top - 1 || boxes[i].bottom > box.bottom + 1).map(one => one.textContent),
            }]
        }))"""
    )
    assert set(drawn) == CHARTS
    for name, one in drawn.items():
        assert one["width"] > 300, name
        assert one["height"] > 80, name
        assert one["inside"], name
        assert one["marks"] > 5, name
        assert one["least"] >= 9, name
        assert one["cut"] == [], name


@pytest.mark.parametrize("name", ["leaking", "failed"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_never_scrolls_sideways(opened: Open, name: str, width: int) -> None:
    page = opened(name, width)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    size = page.execute_script("return parseFloat(getComputedStyle(document.querySelector('main p')).fontSize)")
    assert size >= 14


CONTRAST = """
const parse = colour => (colour.match(/[\\d.]+/g) || []).map(Number);
const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = one => { for (; one; one = one.parentElement) {
    const colour = parse(getComputedStyle(one).backgroundColor);
    if (colour.length === 3 || colour[3] > 0.99) return colour;
} };
return [...document.querySelectorAll('body *')].filter(one => one.getClientRects().length && one.tagName !== 'STYLE'
    && [...one.childNodes].some(node => node.nodeType === 3 && node.textContent.trim())).map(one => {
    const style = getComputedStyle(one), svg = one.closest('svg');
    const [a, b] = [light(parse(svg ? style.fill : style.color)), light(behind(svg ? svg.parentElement : one))];
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), one.textContent.trim().slice(0, 30), one.className];
})"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(opened: Open, dark: bool) -> None:
    page = opened("leaking", dark=dark)
    seen = page.execute_script(CONTRAST)
    assert len(seen) > 100
    assert [one for one in seen if one[0] < 4.5] == []  # WCAG 2.2, 1.4.3, level AA
    background = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") != dark


def test_a_reader_without_a_mouse_can_skip_to_the_summary_scroll_tables_and_unfold(opened: Open) -> None:
    from selenium.webdriver.common.keys import Keys

    page = opened("leaking", 390, unfolded=False)
    focused = page.switch_to.active_element
    focused.send_keys(Keys.TAB)
    skip = page.switch_to.active_element
    assert skip.text == "Skip to the summary"
    assert skip.rect["x"] >= 0
    assert page.execute_script("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    skip.send_keys(Keys.ENTER)
    assert page.execute_script("return document.activeElement.id") == "summary"
    fold = page.find_element("css selector", "details:not([open]) > summary")
    fold.send_keys(Keys.ENTER)
    assert fold.find_element("xpath", "..").get_attribute("open")
    assert page.execute_script(
        "return [...document.querySelectorAll('.scroll')].every(one => one.tabIndex === 0 && one.getAttribute('aria-label'))"
    )


def test_what_is_seen_is_told_to_who_cannot_see(opened: Open) -> None:
    page = opened("leaking")
    wrong = page.execute_script(
        """const bad = [], levels = [...document.querySelectorAll('h1,h2,h3,h4')].map(one => +one.tagName[1]);
        document.querySelectorAll('figure svg').forEach(one => {
            const told = one.getAttribute('aria-label') || '';
            if (one.getAttribute('role') !== 'img' || told.length < 15) bad.push('picture ' + told) });
        document.querySelectorAll('table').forEach(one => one.caption && one.caption.textContent || bad.push('no caption'));
        document.querySelectorAll('th').forEach(one => one.scope && one.textContent.trim() || bad.push('th ' + one.outerHTML));
        levels.forEach((level, i) => i && level > levels[i - 1] + 1 && bad.push('heading ' + i));
        document.querySelectorAll('a[href^="#"]').forEach(one =>
            document.getElementById(one.hash.slice(1)) || bad.push(one.hash));
        return bad"""
    )
    assert wrong == []
    assert page.execute_script("return document.documentElement.lang") == "en"


def test_paper_gets_everything_in_ink_on_white(opened: Open) -> None:
    page = opened("leaking", PAPER, dark=True, media="print", unfolded=False)
    assert page.execute_script("return document.documentElement.scrollWidth") <= PAPER
    told = page.execute_script(
        """return [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('nav')).display,
            [...document.querySelectorAll('details table')].filter(one => one.getBoundingClientRect().height < 10).length]"""
    )
    assert told == ["rgb(255, 255, 255)", "none", 0]


@pytest.mark.parametrize("name", ["leaking", "failed"])
def test_a_reader_sees_no_text_of_the_store(opened: Open, name: str) -> None:
    page = opened(name)
    seen = page.execute_script("return document.body.innerText")
    assert not TEXT.search(seen)
    assert "No text of the store" in seen
