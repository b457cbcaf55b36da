"""test_assignment — balanced plans by their definition, and what a map learned from them must and must not change."""

from __future__ import annotations

import pytest
import torch
from conftest import make_world
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from crossvec.aligners import silent
from crossvec.aligners.assignment import TEMPERATURES, Temperatures, _slope, balanced, learn
from crossvec.geometry import polar, unit


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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


@given(n=st.integers(1, 12), m=st.integers(1, 12), seed=st.integers(0, 1000))
def test_a_plan_shares_out_every_source_row_whole(n: int, m: int, seed: int) -> None:
    plan = balanced(2 * torch.randn(n, m, generator=seeded(seed)))
    assert torch.allclose(plan.sum(1), torch.ones(n), atol=1e-5)
    assert (plan >= 0).all()


def test_a_plan_gives_every_target_row_nearly_its_share() -> None:
    """A hub, near to every source row, takes most of a softmax and no more than its share of a balanced plan."""
    scores = torch.randn(300, 300, generator=seeded(0))
    scores[:, 7] += 4
    assert scores.softmax(1)[:, 7].sum() > 30
    assert 0.5 < balanced(scores).sum(0)[7] < 2


@given(seed=st.integers(0, 1000), hub=st.floats(-3, 3))
def test_what_all_source_rows_think_of_a_target_row_does_not_matter(seed: int, hub: float) -> None:
    scores = torch.randn(6, 9, generator=seeded(seed))
    liked = scores.clone()
    liked[:, 2] += hub
    assert torch.allclose(balanced(scores), balanced(liked), atol=1e-4)


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


def test_the_slope_is_what_autograd_finds() -> None:
    """Against the cross entropy written as one would, in float32."""
    generator = seeded(1)
    found, keys = (unit(torch.randn(n, 6, generator=generator)).requires_grad_(n == 20) for n in (20, 30))
    plan = torch.rand(20, 30, generator=generator).softmax(1)
    loss = -(plan * (found @ keys.T / 0.3).log_softmax(1)).sum(1).mean()
    (wanted,) = torch.autograd.grad(loss, found)
    slope = _slope(found.detach(), keys, (plan @ keys).detach(), 0.3)
    assert float((slope - wanted).norm() / wanted.norm()) < 0.02  # bfloat16 products where the hardware has them
