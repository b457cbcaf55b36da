"""test_house — what the repository says about itself is true: versions, commands, extras, tables, sizes, the sample."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import checking
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z]+):", MAKEFILE, re.M))
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "RESPONSIBLE_USE.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md")) + [ROOT / "benchmarks" / "README.md"]
SAMPLE = "src/crossvec/sample/wiki.npz"


def tracked() -> list[str]:
    """Every file that git would commit; outside a git checkout there is nothing to judge."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def page(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_the_version_is_the_same_everywhere() -> None:
    version = PROJECT["version"]
    assert re.search(r'^__version__ = "(.+)"', page(ROOT / "src/crossvec/__init__.py"), re.M).group(1) == version
    assert re.search(r"^version: \"?([\d.]+)", page(ROOT / "CITATION.cff"), re.M).group(1) == version
    assert f"## [{version}]" in page(ROOT / "CHANGELOG.md") or "## [Unreleased]" in page(ROOT / "CHANGELOG.md")


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_make_command_a_page_names_exists(path: Path) -> None:
    named = set(re.findall(r"(?:`|^|\s)make ([a-z]+)(?=`|$|\s+#)", page(path), re.M))
    assert named <= TARGETS


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(path: Path) -> None:
    links = re.findall(r"\]\((?!https?://|mailto:|#)([^)#]+)", page(path))
    assert not [link for link in links if not (path.parent / link).exists()]


def test_the_readme_shows_the_two_commands() -> None:
    assert {"make demo", "make test"} <= set(page(ROOT / "README.md").splitlines())


def test_every_verb_a_page_names_exists_and_the_readme_shows_each() -> None:
    from crossvec.cli import cli

    def verbs(text: str) -> set[str]:
        code = "\n".join(re.findall(r"^```.*?^```", text, re.M | re.S) + re.findall(r"`([^`\n]+)`", text))
        return set(re.findall(r"(?:^|&& )crossvec ([a-z]+)", code, re.M))

    named = {path: verbs(page(path)) for path in PAGES}
    assert set().union(*named.values()) <= set(cli.commands)
    assert set(cli.commands) - {"demo", "plugins"} <= named[ROOT / "README.md"]


def test_the_page_of_formats_tells_what_each_store_takes_and_carries() -> None:
    from importlib import import_module

    from crossvec.stores import STORES

    lines = [line for line in page(ROOT / "docs/formats.md").splitlines() if line.startswith("| `.")]
    told = {suffix: line.split("|")[1:-1] for line in lines for suffix in re.findall(r"`(\.[a-z0-9.]+)`", line.split("|")[1])}
    assert set(told) == set(STORES)
    for suffix, home in STORES.items():
        module, name = home.split(":")
        store = getattr(import_module(module), name)
        assert [cell.strip() == "yes" for cell in told[suffix][2:4]] == ["ids" in store.carries, "payload" in store.carries], (
            suffix
        )
        assert set(re.findall(r"`(.+?)`", told[suffix][5])) == store.options, suffix


def test_the_changelog_names_every_aligner() -> None:
    from crossvec.aligners import ALIGNERS

    assert not [name for name in ALIGNERS if f"`{name}`" not in page(ROOT / "CHANGELOG.md")]


def test_ci_runs_make_test() -> None:
    ci = ROOT / ".ci/run"
    assert "make test" in page(ci).splitlines()
    assert ci.stat().st_mode & 0o111, ".ci/run is executable"


def test_every_install_is_held_to_the_constraints() -> None:
    assert "-c constraints.txt" in MAKEFILE
    assert len(re.findall(r"pip install", MAKEFILE)) == 1, "one definition of how to install"


def test_an_install_line_names_an_extra_that_exists() -> None:
    sources = [*(ROOT / "src").rglob("*.py"), *PAGES]
    named = {
        extra for path in sources for group in re.findall(r"crossvec\[([a-z0-9,]+)\]", page(path)) for extra in group.split(",")
    }
    assert named <= set(PROJECT["optional-dependencies"])


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    machine = re.compile(
        "|".join(f"(?<![\\w.])/{top}/" for top in ("work", "tmp/venv", "root", "home/(?!me/)[a-z]+", "Users/(?!me/)[a-z]+"))
    )
    wrong = []
    for name in tracked():
        if Path(name).suffix in {".npz", ".png", ".parquet", ".npy"}:
            continue
        text = (ROOT / name).read_text(encoding="utf-8")
        wrong += [f"{name}: {line.strip()[:120]}" for line in text.splitlines() if machine.search(line)]
    wrong = [line for line in wrong if not line.startswith("tests/test_house.py")]
    assert not wrong, "\n".join(wrong)


def test_nothing_large_is_committed_but_the_sample() -> None:
    large = {name for name in tracked() if (ROOT / name).stat().st_size > 500_000}
    assert large <= {SAMPLE}
    assert (ROOT / SAMPLE).stat().st_size <= 12_000_000


def test_the_benchmark_tables_are_drawn_from_the_results() -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/render.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_sample_is_two_clouds_and_pairs_to_score_on() -> None:
    from crossvec import sample

    given = sample.load()
    assert [space.array().shape for space in (given.source, given.target)] == [(36000, 256), (36000, 128)]
    assert len(given.eval_source) == len(given.eval_target) == 4096
    for space in (given.source, given.target, given.eval_source, given.eval_target):
        lengths = np.linalg.norm(space.array(), axis=1)
        assert np.allclose(lengths, 1, atol=1e-5)


def test_the_pairs_of_the_sample_are_pairs_and_its_clouds_are_not() -> None:
    """Row i of both evaluation clouds have alike neighbours; row i of source and of target have no more than chance."""
    from crossvec import sample

    given = sample.load()

    def shared(a: np.ndarray, b: np.ndarray, rows: int = 1000, k: int = 10) -> float:
        near = []
        for cloud in (a[:rows], b[:rows]):
            centred = cloud - cloud.mean(0)
            centred /= np.linalg.norm(centred, axis=1, keepdims=True)
            cosines = centred @ centred.T
            np.fill_diagonal(cosines, -1)
            near.append(np.argpartition(-cosines, k, axis=1)[:, :k])
        return float(np.mean([len(np.intersect1d(p, q)) / k for p, q in zip(*near, strict=True)]))

    assert shared(given.eval_source.array(), given.eval_target.array()) > 0.3
    assert shared(given.source.array(), given.target.array()) < 0.05


def test_every_call_in_these_tests_is_held_to_its_annotations() -> None:
    import importlib
    import pkgutil

    import crossvec

    for module in pkgutil.walk_packages(crossvec.__path__, "crossvec."):
        importlib.import_module(module.name)
    assert not set(checking.UNCHECKED), "mark the protocols in their annotations @runtime_checkable"
