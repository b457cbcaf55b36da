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
        ([OURS], 4, "NOT ASKED"),
        ([], 4, "NOT ASKED: 0 packages (nothing answered)"),
        ([FLAWED, UNKNOWN], 1, "NOT ASKED: 1"),
    ],
)
def test_an_audit_never_passes_on_what_it_could_not_ask(
    script: ModuleType, dependencies: list[dict[str, Any]], code: int, words: str
) -> None:
    found, lines = script.told({"dependencies": dependencies})
    assert found == code and words in "\n".join(lines)


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
