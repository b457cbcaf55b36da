"""test_reports — what files hold reaches readers as text: it steers no terminal and turns no line; who may read reports."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from reported import DAY, accepted, leaking, recovering
from rich.console import Console

from crossvec import report, stores
from crossvec.audit import Audit
from crossvec.report import audit as reports
from crossvec.report.audit import words
from crossvec.space import Space

TURNS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
EVIL = f"a\x1b]0;owned\x07\x9b31m\nb\u2028{TURNS}"
STEERING = re.compile(f"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029{TURNS}]")
RESTRICTED = ("report.html", "report.json", "report.md")


def named(path: Path, column: str) -> Path:
    """A file of ten rows with a column of this name."""
    x = np.random.default_rng(0).standard_normal((10, 3)).astype(np.float32)
    stores.open(path).write([Space.of(x, payload={column: list(range(10))})])
    return path


def test_a_columns_name_does_not_steer_the_terminal(crossvec: Run, tmp_path: Path) -> None:
    path = named(tmp_path / "a.parquet", EVIL)
    code, out, _ = crossvec("inspect", str(path))
    assert code == 0 and not STEERING.search(out)
    (line,) = [line for line in out.splitlines() if "payload" in line]
    assert "owned" in line and line.rstrip().endswith("b")
    code, out, _ = crossvec("inspect", str(path), "--format", "json")
    assert code == 0 and not STEERING.search(out)
    assert json.loads(out)["payload"] == [EVIL]


@pytest.mark.parametrize("name", ["[/x]", "[red]b[/red]", ":smile:"])
def test_a_columns_name_is_no_markup(crossvec: Run, tmp_path: Path, name: str) -> None:
    code, out, _ = crossvec("inspect", str(named(tmp_path / "a.parquet", name)))
    assert code == 0 and name in out


def test_lines_notes_and_tables_of_a_report_hold_what_a_terminal_only_shows() -> None:
    from crossvec.report.text import line, listed, note

    console = Console(width=200, force_terminal=True, color_system=None)
    with console.capture() as seen:
        for one in (line(EVIL, (EVIL, "bold")), note(EVIL), listed({EVIL: [EVIL]}), report.bars(EVIL, {EVIL: 0.5})):
            console.print(one, crop=False)
    assert "owned" in seen.get() and not STEERING.search(seen.get())


def test_what_turns_the_direction_of_reading_is_taken_out() -> None:
    assert words.clean(f"x{TURNS}gpj.exe") == "xgpj.exe"
    assert words.clean("one\u2028two\nthree") == "one two three"
    assert words.clean("שלום ßπ 漢字 👩\u200d🔬") == "שלום ßπ 漢字 👩\u200d🔬"


def test_reasons_notes_and_labels_steer_no_reader_of_a_report() -> None:
    it = accepted()
    waived = tuple(one and replace(one, waiver=one.waiver and replace(one.waiver, reason=EVIL)) for one in it.findings)
    found = reports.texts(replace(it, findings=waived, notes=(EVIL,), store={**it.store, "name": EVIL}), day=DAY)
    for name, text in found.items():
        assert "owned" in text and not STEERING.search(text), name


def modes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}


@pytest.mark.skipif(os.name != "posix", reason="others have no rights to files there")
def test_reports_that_show_texts_are_for_their_owner_alone(tmp_path: Path) -> None:
    it: Audit = recovering(leaking(), "what was read", "what was written")
    before = os.umask(0o022)
    try:
        reports.write(it, tmp_path / "a", day=date(2026, 11, 22))
        assert set(modes(tmp_path / "a").values()) == {0o644}
        for folder in ("a", "b"):  # also over reports that others may read
            reports.write(it, tmp_path / folder, day=date(2026, 11, 22), show_text=True)
            told = modes(tmp_path / folder)
            assert {name for name, mode in told.items() if mode == 0o600} == set(RESTRICTED)
            texts = {name: (tmp_path / folder / name).read_text(encoding="utf-8") for name in told}
            assert {name for name, text in texts.items() if "what was written" in text} == set(RESTRICTED)
    finally:
        os.umask(before)


def test_errors_and_notes_do_not_steer_the_terminal(crossvec: Run, capsys: pytest.CaptureFixture[str]) -> None:
    from crossvec.cli import options

    code, _, err = crossvec("inspect", f"none{EVIL}.npy")
    assert code == 2 and "none" in err and not STEERING.search(err)
    options.advise(f"one {EVIL}\ntwo")
    told = capsys.readouterr().err
    assert told.splitlines()[-1] == "two" and not STEERING.search(told)
