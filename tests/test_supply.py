"""test_supply — what crossvec is made of is written down (SBOM), and an audit of it says what it could not ask about."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit_dependencies", ROOT / "scripts" / "audit_dependencies.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FINE = {"name": "numpy", "version": "2.0", "vulns": []}
OURS = {"name": "crossvec", "skip_reason": "not found on PyPI"}
UNKNOWN = {"name": "torch", "skip_reason": "not found on PyPI"}
FLAWED = {"name": "pillow", "version": "1.0", "vulns": [{"id": "CVE-1", "fix_versions": ["1.1"]}]}


@pytest.mark.parametrize(
    ("dependencies", "code", "words"),
    [
        ([FINE, OURS], 0, "1 packages were asked about, 0 have"),
        ([FINE, FLAWED], 1, "pillow 1.0: CVE-1, mended in 1.1"),
        ([FINE, UNKNOWN], 4, "NOT ASKED: 1 packages (torch)"),
        ([OURS], 4, "0 packages were asked about"),
        ([FLAWED, UNKNOWN], 1, "NOT ASKED: 1"),
    ],
)
def test_an_audit_never_passes_on_what_it_could_not_ask(
    script: ModuleType, dependencies: list[dict[str, Any]], code: int, words: str
) -> None:
    found, lines = script.told({"dependencies": dependencies})
    assert found == code and words in "\n".join(lines)


def test_a_finding_is_accepted_by_any_of_its_names_and_stays_counted(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {**FLAWED, "vulns": [{**FLAWED["vulns"][0], "aliases": ["GHSA-2"]}]}
    monkeypatch.setitem(script.ACCEPTED, "GHSA-2", "we read no such pictures")
    assert script.told({"dependencies": [FINE, named]}) == (
        0,
        ["2 packages were asked about, 0 have known vulnerabilities, 1 findings are accepted"],
    )
    monkeypatch.setitem(script.ACCEPTED, "GHSA-2", "another")
    worse = {**named, "vulns": [*named["vulns"], {"id": "CVE-9", "fix_versions": []}]}
    code, lines = script.told({"dependencies": [worse]})
    assert code == 1 and lines[0] == "pillow 1.0: CVE-9, mended in no version yet"


WITHOUT = [{"dependencies": [{"name": "numpy", "skip_reason": "not found on PyPI"}]}, None]


@pytest.mark.parametrize("answer", WITHOUT, ids=["a mirror that knows packages and no flaws", "no network"])
def test_a_service_that_knows_not_even_numpy_is_not_asked_about_the_others(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: dict[str, Any] | None
) -> None:
    questions: list[tuple[str, ...]] = []

    def audited(service: str, *words: str) -> tuple[dict[str, Any] | None, str]:
        questions.append((service, *words))
        return answer, "" if answer else "no answer"

    monkeypatch.setattr(script, "audited", audited)
    assert script.main() == 4
    out = capsys.readouterr().out
    assert "pypi could not be asked" in out and "osv could not be asked" in out and "NOT ASKED" in out
    assert [words[:2] for words in questions] == [("pypi", "-r"), ("osv", "-r")], "one question each, about one package"


@pytest.mark.slow
def test_the_sbom_is_valid_and_lists_what_crossvec_needs(tmp_path: Path) -> None:
    pytest.importorskip("cyclonedx_py")
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    recipe = next(line for line in (ROOT / "Makefile").read_text().splitlines() if "cyclonedx_py" in line)
    words = recipe.replace("$(BIN)/python", sys.executable).replace("build/sbom.cdx.json", str(tmp_path / "sbom.json")).split()
    subprocess.run(words, check=True, cwd=ROOT, capture_output=True)
    text = (tmp_path / "sbom.json").read_text(encoding="utf-8")
    told = json.loads(text)
    # As many parts as show the form: the validator takes a second for each, because it parses their addresses.
    few = told | {"components": told["components"][:5], "dependencies": told["dependencies"][:5]}
    assert JsonStrictValidator(SchemaVersion.from_version(told["specVersion"])).validate_str(json.dumps(few)) is None
    listed = {part["name"].lower().replace("_", "-") for part in told["components"]}
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {re.split(r"[<>=\[]", need)[0].lower() for need in needed} <= listed
    assert all(part.get("version") and part.get("purl") or part["name"] == "crossvec" for part in told["components"])
