"""test_supply — an audit of what crossvec depends on says what it could not ask about."""

from __future__ import annotations

import importlib.util
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
