"""test_benchmarks — the numbers we publish: every row is measured as it says, and every run counts."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from conftest import make_world

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def program(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = program("run")
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    return module


@pytest.fixture
def render(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    module = program("render")
    monkeypatch.setattr(module, "HERE", tmp_path)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder like the one the suites run on, with two toy encoders."""
    place = tmp_path_factory.mktemp("vectors")
    world = make_world(n=1500, m=1500, pool=200, paired=True)
    for name, rows, held_out in (("minilm", world.x, world.eval_x), ("potion", world.y, world.eval_y)):
        np.save(place / f"{name}.npy", np.concatenate([rows, held_out]).astype(np.float16))
    (place / "splits.json").write_text(json.dumps({"source": [0, 700], "target": [700, 1500], "eval": [1500, 1700]}))
    return place


def row(aligner: str, seed: int = 0, rows: int = 500) -> dict:
    where = {"suite": "wiki", "source": "minilm", "target": "potion", "rows": rows}
    return {**where, "aligner": aligner, "seed": seed, "method": aligner, "settings": {}}


def test_a_row_leaves_scores_with_controls_and_where_they_come_from(run: ModuleType, folder: Path) -> None:
    run.child(row("procrustes"), folder)
    left = json.loads(run.place(row("procrustes")).read_text())
    assert left["error"] is None
    assert left["scores"]["forward"]["top1"] > 0.8, "the row of a paired aligner was given pairs"
    assert {"identity", "mean", "shuffled"} <= set(left["scores"]["controls"])
    assert left["scores"]["pool"] == 200
    assert left["row"] == row("procrustes")
    assert left["seconds"]["fit"] >= 0 and left["peak_memory_bytes"] > 0
    assert {"cpu", "cores", "threads", "system"} <= set(left["machine"]) and left["versions"]["torch"] and left["date"]


def test_a_refused_row_is_written_with_its_error(run: ModuleType, folder: Path) -> None:
    asked = row("mlp") | {"settings": {"no_such_setting": 1}}
    run.child(asked, folder)
    left = json.loads(run.place(asked).read_text())
    assert "no_such_setting" in left["error"] and "scores" not in left


def test_a_row_that_has_a_result_is_not_run_again(
    run: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for one in run.rows_of("wiki"):
        run.write(one, {"error": "was here before"})
    monkeypatch.setattr(sys, "argv", ["run.py", "wiki", "--data", str(folder)])
    assert run.main() == 0
    assert "wiki: 0 rows to run" in capsys.readouterr().err


@pytest.mark.parametrize("suite", ["wiki", "sample-size", "small-stores"])
def test_every_row_of_a_suite_has_a_name_of_its_own_and_a_known_aligner(run: ModuleType, suite: str) -> None:
    from crossvec.aligners import names

    rows = list(run.rows_of(suite))
    assert len({run.name(one) for one in rows}) == len(rows) > 0
    assert {one["method"] for one in rows} <= {"auto", *names()}


def test_the_settings_of_every_row_are_settings_of_its_aligner(run: ModuleType) -> None:
    from crossvec.aligners import create

    for suite in run.SUITES:
        for one in run.rows_of(suite):
            if one["method"] != "auto":
                create(one["method"], one["settings"])


def result(top1: float | None, aligner: str = "moments", seed: int = 0) -> dict:
    ran = {"machine": {"cpu": "c", "cores": 2, "threads": 1}, "commit": "abc", "date": "2026-11-21T00:00:00+00:00"}
    if top1 is None:
        return {"row": row(aligner, seed), "error": "killed", **ran}
    scores = {"top1": top1, "mean_rank": 2.0, "cosine_centred": 0.5}
    verdict = {"status": "aligned" if top1 > 0.5 else "failed"}
    measured = {"scores": {"forward": scores}, "verdict": verdict, "seconds": {"fit": 3.0}, "peak_memory_bytes": 2**30}
    return {"row": row(aligner, seed), "error": None, "versions": {"torch": "2"}, **measured, **ran}


def store(folder: Path, results: list[dict]) -> None:
    (folder / "results/wiki").mkdir(parents=True)
    for number, one in enumerate(results):
        (folder / f"results/wiki/{number}.json").write_text(json.dumps(one))


def test_a_run_that_failed_counts_against_the_aligner(render: ModuleType, tmp_path: Path) -> None:
    store(tmp_path, [result(0.9, "procrustes"), result(0.85, seed=0), result(0.80, seed=1), result(None, seed=2)])
    line = next(line for line in render.by_aligner("wiki").splitlines() if "`moments`" in line)
    assert "1 of 3" in line, "0.85 reaches 0.90 of the ceiling 0.9; 0.80 and the failed run do not"
    assert ".000 / .800 / .850" in line
    assert "2 aligned" in line


def test_without_a_ceiling_no_success_is_claimed(render: ModuleType, tmp_path: Path) -> None:
    store(tmp_path, [result(0.9)])
    line = next(line for line in render.by_aligner("wiki").splitlines() if "`moments`" in line)
    assert "of 1" not in line


def test_drawing_twice_changes_nothing_and_keeps_the_words_around(render: ModuleType, tmp_path: Path) -> None:
    store(tmp_path, [result(0.9, "procrustes"), result(0.85)])
    page = "before\n<!-- table wiki -->\nold numbers\n<!-- end -->\nafter\n"
    once = render.drawn(page)
    assert once.startswith("before\n") and once.endswith("after\n") and "old numbers" not in once and ".850" in once
    assert render.drawn(once) == once
