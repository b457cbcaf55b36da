"""What the verdict rests on: laws of its evidence, maps of known quality, and the calibration that its weights come from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from conftest import World, make_world
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from crossvec.aligners import Alignment, Linear
from crossvec.geometry import polar, procrustes, unit
from crossvec.verdict import BIAS, ENOUGH, EVIDENCE, WEIGHTS, Verdict, evidence, judge, probability, readings

FIT = Path(__file__).parent.parent / "benchmarks" / "results" / "verdict" / "fit.json"


def clouds(world: World) -> tuple[Tensor, Tensor]:
    x, y = torch.from_numpy(world.x), torch.from_numpy(world.y)
    return unit(x - x.mean(0)), unit(y - y.mean(0))


def true_map(world: World) -> Tensor:
    """The rotation that known pairs give."""
    x, y = (torch.from_numpy(side) for side in (world.eval_x, world.eval_y))
    return procrustes(unit(x - x.mean(0)), unit(y - y.mean(0)))


def alignment(w: Tensor) -> Alignment:
    return Alignment(Linear.of(w), Linear.of(w.T))


def turn(d: int, seed: int = 0) -> Tensor:
    return polar(torch.randn(d, d, generator=torch.Generator().manual_seed(seed)))


def told(x: Tensor, y: Tensor, w: Tensor) -> Verdict:
    return judge(x, y, alignment(w))


# Maps of known quality


def test_the_map_that_pairs_give_is_called_aligned(world: World) -> None:
    assert told(*clouds(world), true_map(world)).status == "aligned"


def test_the_same_map_turned_at_random_is_called_failed(world: World) -> None:
    w = true_map(world)
    assert told(*clouds(world), w @ turn(w.shape[1])).status == "failed"


def test_no_rotation_aligns_a_world_with_another_one(world: World) -> None:
    x, y = clouds(world)[0], clouds(make_world(n=10, pool=10, seed=7))[1]
    assert told(x, y, turn(x.shape[1])[:, : y.shape[1]]).status == "failed"


def test_a_map_that_carries_all_rows_to_one_point_is_no_alignment(world: World) -> None:
    x, y = clouds(world)
    one = Linear(torch.zeros(x.shape[1], y.shape[1]), y[0])
    assert judge(x, y, Alignment(one, one)) == Verdict(
        "failed", 0.0, {**dict.fromkeys(EVIDENCE, 0.0), "size": pytest.approx(3.477, abs=1e-3)}
    )


def test_a_map_of_which_a_part_is_no_number_is_no_alignment(world: World) -> None:
    w = true_map(world).clone()
    w[:, 3] = torch.nan
    assert (told(*clouds(world), w).status, told(*clouds(world), w).evidence["usable"]) == ("failed", 0.0)
    sure = dict.fromkeys(EVIDENCE, 0.9) | {"chance": 0.1, "usable": 1.0}
    assert probability(sure) > 0.9
    for piece in EVIDENCE:
        assert probability({**sure, piece: float("nan")}) == 0.0


def test_copies_of_a_few_rows_are_as_few_rows(world: World) -> None:
    """A hundred rows are too few to say anything, however often they come."""
    x, y = clouds(world)
    found = told(x[:100].repeat(30, 1), y, true_map(world))
    assert (found.status, found.evidence["usable"]) == ("failed", 0.0)


def test_below_eight_dimensions_nothing_is_sure() -> None:
    world = make_world(dx=7, dy=7, latent=7, n=1500, m=1500)
    x, y = clouds(world)
    assert probability(evidence(x, y, alignment(true_map(world)))) > 0.5  # what the evidence alone would say
    assert told(x, y, true_map(world)).probability <= 0.5


# Laws of the evidence


def test_evidence_does_not_depend_on_the_axes_that_rows_are_written_in(world: World) -> None:
    (x, y), w, r, s = clouds(world), true_map(world), turn(24, 1), turn(20, 2)
    before, after = evidence(x, y, alignment(w)), evidence(x @ r, y @ s, alignment(r.T @ w @ s))
    assert after == pytest.approx(before, abs=0.03)


@pytest.mark.parametrize("rows", [600, 1200, 3000])
def test_two_samples_of_one_space_have_all_the_shapes_that_sampling_leaves_however_few_their_rows(rows: int) -> None:
    """`local` itself falls with the rows; over its attenuation it stays near 1."""
    world = make_world(n=2 * rows)
    x = torch.from_numpy(world.x)
    x = unit(x - x.mean(0))
    found = evidence(x[:rows], x[rows:], alignment(torch.eye(x.shape[1])))
    assert 0.85 < readings(found)["shapes"] <= 1.0


def test_a_map_that_has_half_of_the_axes_wrong_has_fewer_shapes_than_the_true_one(world: World) -> None:
    (x, y), w = clouds(world), true_map(world)
    wrong = torch.eye(20)
    wrong[10:, 10:] = turn(10)
    axes = torch.linalg.eigh(y.T @ y)[1].flip(1)
    true, half = (readings(evidence(x, y, alignment(one)))["shapes"] for one in (w, w @ axes @ wrong @ axes.T))
    assert half < 0.9 * true


shares = st.floats(0, 1)
found = st.fixed_dictionaries(dict.fromkeys(("thirds", "first_thirds", "reliability", "local", "local_reliability"), shares))


@given(found, shares, shares)
def test_the_probability_never_falls_as_agreement_rises(seen: Mapping[str, float], more: float, chance: float) -> None:
    whole = {**seen, "chance": 0.9 * chance, "size": 4.0, "usable": 1.0}
    for piece in ("thirds", "first_thirds", "reliability", "local"):
        risen = {**whole, piece: whole[piece] + more * (1 - whole[piece])}
        assert 0.0 <= probability(whole) <= probability(risen) + 1e-12 <= 1.0 + 1e-12


@given(found)
def test_third_moments_that_chance_reaches_are_no_evidence(seen: Mapping[str, float]) -> None:
    assert probability({**seen, "chance": seen["first_thirds"], "size": 4.0, "usable": 1.0}) == 0.0


def test_a_target_that_agrees_with_itself_better_than_real_ones_gains_nothing_by_it() -> None:
    """Clouds of plain clusters do: an unrelated one would otherwise be carried by its reliability."""
    seen = dict.fromkeys(EVIDENCE, 0.5)
    assert (
        readings({**seen, "reliability": 0.95})["reliability"]
        == readings({**seen, "reliability": 0.7})["reliability"]
        == ENOUGH
    )


@given(found)
def test_agreement_with_shapes_that_are_noise_is_none(seen: Mapping[str, float]) -> None:
    """A Gaussian cloud's clusters are all shaped alike but for sampling: dividing by that would make much of nothing."""
    assert readings({**seen, "local_reliability": 0.05})["shapes"] == 0.0
    assert readings({**seen, "local_reliability": -0.01})["shapes"] == 0.0


# The calibration


def test_the_weights_are_those_of_the_committed_calibration_and_it_meets_its_bars() -> None:
    fitted = json.loads(FIT.read_text(encoding="utf-8"))
    assert WEIGHTS == {piece: round(weight, 1) for piece, weight in fitted["weights"].items()}
    assert round(fitted["bias"], 1) == BIAS
    assert fitted["runs"] >= 200 and fitted["unrelated"] >= 50
    for how in ("directions held out", "sizes held out", "shipped"):
        assert fitted[how]["auroc"] >= 0.97
        assert fitted[how]["aligned of unrelated"] == 0.0
