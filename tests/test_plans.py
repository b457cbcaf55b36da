"""test_plans — balanced plans by their definition, and what is made of them without making them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from torch import Tensor

from crossvec.aligners import plans
from crossvec.aligners.plans import BALANCING, LogSumExp, covariance, imitation, means
from crossvec.geometry import unit


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def balanced(scores: Tensor) -> Tensor:
    """The plan itself: the mean rows that it assigns where the rows are the axes."""
    return means(scores.clone(), *(torch.eye(size) for size in scores.shape))[0]


@given(n=st.integers(1, 12), m=st.integers(1, 12), seed=st.integers(0, 1000))
def test_a_plan_shares_out_every_source_row_whole(n: int, m: int, seed: int) -> None:
    plan = balanced(2 * torch.randn(n, m, generator=torch.Generator().manual_seed(seed)))
    assert torch.allclose(plan.sum(1), torch.ones(n), atol=1e-5)
    assert (plan >= 0).all()


def test_a_plan_gives_every_target_row_nearly_its_share() -> None:
    """A hub, near to every source row, takes most of a softmax and no more than its share of a balanced plan."""
    scores = torch.randn(300, 300, generator=torch.Generator().manual_seed(0))
    scores[:, 7] += 4
    assert scores.softmax(1)[:, 7].sum() > 30
    assert 0.5 < balanced(scores).sum(0)[7] < 2


@given(seed=st.integers(0, 1000), hub=st.floats(-3, 3))
def test_what_all_source_rows_think_of_a_target_row_does_not_matter(seed: int, hub: float) -> None:
    scores = torch.randn(6, 9, generator=torch.Generator().manual_seed(seed))
    liked = scores.clone()
    liked[:, 2] += hub
    assert torch.allclose(balanced(scores), balanced(liked), atol=1e-4)


def test_imitation_has_the_slope_of_a_cross_entropy_to_the_plan() -> None:
    """Against the cross entropy written as one would."""
    generator = torch.Generator().manual_seed(1)
    found, keys = (unit(torch.randn(n, 6, generator=generator)).requires_grad_(n == 20) for n in (20, 30))
    plan = torch.rand(20, 30, generator=generator).softmax(1)
    (wanted,) = torch.autograd.grad(-(plan * (found @ keys.T / 0.3).log_softmax(1)).sum(1).mean(), found)
    (slope,) = torch.autograd.grad(imitation(found, keys, plan @ keys, 0.3), found)
    assert float((slope - wanted).norm() / wanted.norm()) < 1e-4


@pytest.mark.parametrize("spread", [1.0, 30.0, 300.0])
def test_assigned_rows_are_means_under_sinkhorns_plans_however_far_apart_the_scores_are(spread: float) -> None:
    scores = spread * torch.randn(40, 30, generator=torch.Generator().manual_seed(0))
    plan = scores
    for _ in range(BALANCING):  # in logarithms, as one would write it
        plan = plan - plan.logsumexp(0, keepdim=True)
        plan = plan - plan.logsumexp(1, keepdim=True)
    plan = plan.exp()
    again = (plan / plan.sum(0, keepdim=True)).T
    there, back = means(scores.clone(), torch.eye(40), torch.eye(30))
    assert torch.allclose(there, plan, atol=1e-5)
    assert torch.allclose(back, again, atol=1e-4)
    for found in (there, back):
        assert torch.allclose(found.sum(1), torch.ones(len(found)), atol=1e-4), "every row is given its share"


@given(seed=st.integers(0, 99), k=st.integers(2, 9), m=st.integers(2, 9))
@hypothesis(max_examples=15)
def test_deviations_of_products_are_known_without_the_products(seed: int, k: int, m: int) -> None:
    a, b, c, d = (
        torch.randn(n, w, generator=torch.Generator().manual_seed(seed + w)).double()
        for n, w in ((k, 3), (m, 3), (k, 5), (m, 5))
    )
    first, second = (a @ b.T).flatten(), (c @ d.T).flatten()
    assert float(covariance(a, b, a, b)) == pytest.approx(float(first.var(correction=0)), rel=1e-6, abs=1e-9)
    expected = float(((first - first.mean()) * (second - second.mean())).mean())
    assert float(covariance(a, b, c, d)) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("at_once", [2**22, 25, 1], ids=["whole", "two rows at once", "row by row"])
def test_the_log_sum_of_exponentials_and_its_slope_are_torchs(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "AT_ONCE", at_once)
    a, b = drawn(7, 4).mul_(9).requires_grad_(), drawn(11, 4, seed=1)
    own, theirs = LogSumExp.apply(a, b), (a @ b.T).logsumexp(1)
    assert torch.allclose(own, theirs, atol=1e-5)
    weights = torch.arange(7.0)
    (mine,) = torch.autograd.grad(own @ weights, a)
    (right,) = torch.autograd.grad(theirs @ weights, a)
    assert torch.allclose(mine, right, atol=1e-5)
