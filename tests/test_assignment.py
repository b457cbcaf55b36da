"""test_assignment — what maps learned from soft assignments must and must not change."""

from __future__ import annotations

import pytest
import torch
from conftest import make_world
from drawing import seeded
from torch import Tensor

from crossvec.aligners import silent
from crossvec.aligners.assignment import TEMPERATURES, Temperatures, learn
from crossvec.geometry import polar, unit


def learned(x: Tensor, y: Tensor, w: Tensor, how: str = "ranking", steps: int = 20) -> Tensor:
    there, _ = learn(x, y, w, w.T.contiguous(), TEMPERATURES[how], steps=steps, generator=seeded(0), progress=silent)
    return unit(there(x))


def planted() -> tuple[Tensor, Tensor, Tensor]:
    """Two clouds of other texts, and the rotation that pairs of a third set of texts give."""
    world = make_world(pool=600, seed=3)
    x, y = (torch.from_numpy(side) for side in (world.x, world.y))
    ex, ey = (torch.from_numpy(side) for side in (world.eval_x, world.eval_y))
    mean_x, mean_y = x.mean(0), y.mean(0)
    return unit(x - mean_x), unit(y - mean_y), polar(unit(ex - mean_x).T @ unit(ey - mean_y))


def test_a_true_map_stays_true() -> None:
    x, y, truth = planted()
    assert float((learned(x, y, truth) * unit(x @ truth)).sum(1).mean()) > 0.9


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_the_size_of_the_map_it_starts_from_does_not_matter(size: float) -> None:
    x, y, truth = planted()
    assert float((learned(x, y, size * truth) * learned(x, y, truth)).sum(1).min()) > 0.999


def test_a_softer_student_keeps_nearer_to_where_target_rows_are_dense() -> None:
    """The trade: soft maps lean toward the mean of what a row may be, sharp ones lean away from what all rows share."""
    x, y, truth = planted()

    def crowding(how: str) -> float:
        return float((learned(x, y, truth, how) @ y.T).topk(50, dim=1).values.mean())

    assert crowding("faithful") > crowding("balanced") > crowding("ranking")


def test_the_finishes_are_ordered_from_sharp_to_soft() -> None:
    assert [TEMPERATURES[name].student for name in ("ranking", "balanced", "faithful")] == sorted(
        how.student for how in TEMPERATURES.values()
    )
    assert all(isinstance(how, Temperatures) for how in TEMPERATURES.values())


def test_the_same_generator_gives_the_same_map() -> None:
    x, y, truth = planted()
    assert torch.equal(learned(x, y, truth, steps=5), learned(x, y, truth, steps=5))
    assert not torch.equal(learned(x, y, truth, steps=5), learned(x, y, truth, steps=6))


def test_exchanging_the_spaces_exchanges_the_maps() -> None:
    """Up to the rows that are drawn: both directions are learned at once, and neither goes first."""
    x, y, truth = planted()
    back = truth.T.contiguous()

    def learned_between(x: Tensor, y: Tensor, there: Tensor, back: Tensor) -> tuple[Tensor, Tensor]:
        maps = learn(x, y, there, back, TEMPERATURES["ranking"], steps=20, generator=seeded(0), progress=silent)
        return maps[0].weight, maps[1].weight

    there, home = learned_between(x, y, truth, back)
    home_again, there_again = learned_between(y, x, back, truth)
    for one, other in ((there, there_again), (home, home_again)):
        assert float((unit(one.flatten()) * unit(other.flatten())).sum()) > 0.98
