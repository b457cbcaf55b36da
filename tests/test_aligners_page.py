"""test_aligners_page — docs/aligners.md tells of vec2vec what its code says, and its tables show what was measured."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest
from test_benchmarks import BENCHMARKS, program

from crossvec.aligners import ALIGNERS, create
from crossvec.aligners.vec2vec import PRESETS, Vec2Vec

PAGE = (BENCHMARKS.parent / "docs" / "aligners.md").read_text(encoding="utf-8")


@pytest.fixture
def render(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module = program("render")
    monkeypatch.setattr(module, "HERE", tmp_path)
    return module


def test_every_setting_of_vec2vec_is_on_the_page() -> None:
    told = PAGE[PAGE.index("## vec2vec") : PAGE.index("### From a linear start")]
    assert not [field.name for field in fields(Vec2Vec) if f"`{field.name}`" not in told and field.name != "preset"]


def test_the_presets_are_as_the_page_says() -> None:
    lines = {cells[0]: cells for line in PAGE.splitlines() if len(cells := [c.strip(" `") for c in line.split("|")[1:-1]]) == 7}
    assert set(PRESETS) <= set(lines)
    for name, preset in PRESETS.items():
        _, _, start, width, steps, rate, _ = lines[name]
        assert (start, int(steps)) == ("warm" if preset.warm else "cold", preset.recipe.steps)
        assert int(width.split(",")[0]) == preset.shape.width
        assert float(rate) == preset.recipe.rate


def test_every_command_on_the_page_names_settings_that_exist() -> None:
    for line in re.findall(r"^crossvec fit .*-a vec2vec.*$", PAGE, re.M):
        create("vec2vec", dict(word.split("=", 1) for word in re.findall(r"-s (\S+)", line)))


def test_every_aligner_has_its_place_on_the_page() -> None:
    assert not [name for name in ALIGNERS if name not in PAGE and name not in ("ridge", "procrustes", "low-rank")]


def row(part: str, variant: str, top1: float, seed: int = 0) -> dict:
    where = {"source": "a", "target": "b", "part": part, "variant": variant, "seed": seed, "settings": {}}
    way = {"top1": top1, "cosine": 0.5, "mean_rank": 2.0}
    both = {"forward": way, "backward": way}
    begun = {"forward": {**way, "top1": 0.25}, "backward": way}
    ran = {"machine": {"cpu": "c", "cores": 2, "threads": 1}, "commit": "abc", "date": "2026-11-22T00:00:00+00:00"}
    measured = {"scores": {"end": both, "start": begun}, "seconds": {"start": 70.0, "train_cpu": 30.0}, "error": None}
    return {"row": where, **measured, **ran, "versions": {"torch": "2"}}


def store(folder: Path, rows: list[dict]) -> None:
    place = folder / "results" / "vec2vec"
    place.mkdir(parents=True)
    for one in rows:
        name = "-".join(str(one["row"][key]) for key in ("part", "source", "target", "variant", "seed"))
        (place / f"{name}.json").write_text(json.dumps(one))
    (place / "universal-a-b-0.json").write_text(json.dumps({"row": {"part": "universal"}}))


@pytest.mark.parametrize(
    "name", ["choose", "vec2vec-warm", "vec2vec-scratch", "vec2vec-ablation", "vec2vec-pairs", "out-of-domain", "step-cost"]
)
def test_a_table_without_rows_says_that_nothing_was_measured(render: ModuleType, name: str) -> None:
    assert render.TABLES[name]() == "*Not measured yet.*"


def test_what_of_a_plan_was_not_run_is_named_and_no_number_stands_for_it(render: ModuleType, tmp_path: Path) -> None:
    store(tmp_path, [row("pairs", "10", 0.4), row("pairs", "1000", 0.7)])
    told = render.TABLES["vec2vec-pairs"]()
    assert [line.split(" | ")[1] for line in told.splitlines() if line.startswith("| a")] == ["`10`", "`1000`"]
    assert "Not measured yet: a → b: `0`, `100`." in told


def test_the_start_and_the_control_stand_beside_the_end(render: ModuleType, tmp_path: Path) -> None:
    store(tmp_path, [row("warm", "small", 0.6, seed) for seed in range(3)])
    told = render.TABLES["vec2vec-warm"]()
    assert "| 3 | .600 | .500 |" in told and ".250" in told and "| – | – |" in told, "no identity was measured there"
    line = next(line for line in render.TABLES["choose"]().splitlines() if "`vec2vec`" in line)
    assert line.split(" | ")[3:] == ["3", ".600", ".500", "100 |"], "the start's seconds count"
