"""test_domain_shift — the domain-shift benchmark cuts what it says, and every remedy works where there is no shift."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from conftest import make_world
from hypothesis import given
from hypothesis import strategies as st

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def shift() -> ModuleType:
    """benchmarks/domain_shift.py, which is no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        spec = importlib.util.spec_from_file_location("benchmarks_domain_shift", BENCHMARKS / "domain_shift.py")
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        yield module


@given(share=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), seed=st.integers(0, 99), ordered=st.booleans())
def test_a_share_of_the_rows_lies_in_topics_of_both_sides_and_no_other(
    shift: ModuleType, share: float, seed: int, ordered: bool
) -> None:
    rng = np.random.default_rng(seed)
    source, target = rng.integers(0, 40, 2500), rng.integers(0, 40, 2300)
    first, second = shift.cut_topics(source, target, share, 800, None if ordered else np.random.default_rng(seed))
    assert len(set(first)) == len(set(second)) == 800, "rows are drawn once"
    both = set(source[first]) & set(target[second])
    assert np.isin(source[first], list(both)).sum() == np.isin(target[second], list(both)).sum() == round(800 * share)
    if ordered and share == 0:
        assert max(source[first]) < min(target[second]), "the sides are the two ends of the order"


def test_the_same_seed_cuts_the_same_rows(shift: ModuleType) -> None:
    topics = np.random.default_rng(0).integers(0, 40, 2500)
    once, twice, other = (shift.cut_topics(topics, topics, 0.5, 800, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(once, twice) and not np.array_equal(once, other)


def test_a_cut_that_needs_more_rows_than_there_are_is_refused(shift: ModuleType) -> None:
    topics = np.random.default_rng(0).integers(0, 40, 1000)
    with pytest.raises(ValueError, match="not 600 rows"):
        shift.cut_topics(topics, topics, 0.0, 600, np.random.default_rng(0))


def test_texts_of_one_subject_share_a_topic(shift: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shift, "TOPICS", 8)
    subjects = [[f"word{subject}x{number}" for number in range(30)] for subject in range(8)]
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(subjects[number % 8], 12)) for number in range(1600)]
    topics = shift.topics_of(texts)
    assert all(len(set(topics[subject::8])) == 1 for subject in range(8)) and len(set(topics)) == 8


@pytest.mark.slow
@pytest.mark.parametrize("method", ["moments", "kicked", "trimmed", "without-leading-axes", "wide"])
def test_without_a_shift_every_method_aligns_and_is_scored_beside_the_ceiling(shift: ModuleType, method: str) -> None:
    world = make_world(n=4000, m=4000, pool=300, paired=True)
    x, own = torch.from_numpy(world.x), torch.from_numpy(world.y)
    pool = shift.Space.of(world.eval_x), shift.Space.of(world.eval_y)
    cell = shift.Cell(x[:3000], own[1000:], own[:3000], pool, 2000)
    result = shift.measure(cell, {"seed": 0}, method)
    forward, ceiling = result["scores"]["forward"]["top1"], result["scores"]["ceiling"]["forward"]["top1"]
    assert ceiling > 0.8
    assert forward > 0.5 * ceiling
    assert result["verdict"]["status"] in ("aligned", "uncertain", "failed")


def test_passages_are_short_prose_and_none_comes_twice(
    shift: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_enough = "This paragraph has words enough to stand as a passage of its own and says so in plain prose."
    (tmp_path / "one.py").write_text(f'"""Short.\n\n{long_enough}\n"""\ndef f():\n    """{long_enough}"""\n')
    monkeypatch.setattr(shift.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path), "purelib": str(tmp_path)})
    assert shift.passages() == [long_enough]


def test_the_table_counts_every_run_against_half_of_the_ceiling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("benchmarks_render", BENCHMARKS / "render.py")
    render = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(render)
    monkeypatch.setattr(render, "HERE", tmp_path)
    folder = tmp_path / "results/domain-shift/topics-050"
    folder.mkdir(parents=True)
    ran = {"machine": {"cpu": "c", "cores": 2, "threads": 1}, "commit": "abc", "date": "2026-11-21T00:00:00+00:00"}
    for seed, top1 in enumerate((0.46, 0.44, None)):
        row = {
            "source": "a",
            "target": "b",
            "rows": 9,
            "cut": "topics",
            "share": 0.5,
            "aligner": "wide",
            "method": "wide",
            "seed": seed,
        }
        scores = {"forward": {"top1": top1, "mean_rank": 2.0}, "ceiling": {"forward": {"top1": 0.9}}}
        measured = {"scores": scores, "verdict": {"status": "failed"}, "seconds": {"fit": 3.0}, "versions": {"torch": "2"}}
        one = {"error": "killed"} if top1 is None else {"error": None, **measured}
        (folder / f"{seed}.json").write_text(json.dumps({"row": row, **one, **ran}))
    line = next(line for line in render.by_share().splitlines() if "`wide`" in line)
    assert "1 of 3" in line and ".000 / .440 / .460" in line and "50%" in line
