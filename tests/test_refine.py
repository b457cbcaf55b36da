"""test_refine — pseudo-pairs against their definition, the algebra of each finish, and a bent map made straight."""

from __future__ import annotations

import pytest
import torch
from drawing import normal, rotation, seeded
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from crossvec import geometry
from crossvec.aligners import refine as refining
from crossvec.aligners.refine import ORTHOGONAL, RANKING, Finish, finish, neighbour_covariance, refine, spread
from crossvec.geometry import polar, principal_axes, unit


@pytest.fixture(autouse=True)
def _exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Laws are laws of real numbers: no bfloat16 here, whose ties are broken by the order of rows."""
    monkeypatch.setattr(geometry, "fast_type", lambda _device: torch.float32)


def cloud(n: int, d: int, rows_seed: int) -> Tensor:
    """Centred unit rows of one mixture of clusters, on axes of unequal size; `rows_seed` draws which rows."""
    centres = normal(40, d, seed=99) * torch.linspace(1.6, 0.7, d)
    generator = seeded(rows_seed)
    rows = centres[torch.randint(40, (n,), generator=generator)] + 0.3 * torch.randn(n, d, generator=generator)
    return unit(rows - rows.mean(0))


def refined(zx: Tensor, zy: Tensor, w: Tensor, rounds: int = 3) -> Tensor:
    return refine(zx, zy, w, rounds=rounds, k=10, progress=lambda _doing, _done: None)


def two_sides(dx: int, dy: int, bend: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two clouds on their principal axes, the planted map between those, and that map with a random turn after it."""
    shared = min(dx, dy)
    into_x, into_y = rotation(dx, 4)[:shared], rotation(dy, 5)[:shared]
    x, y = cloud(2500, shared, 1) @ into_x, cloud(2000, shared, 2) @ into_y
    axes_x, axes_y = principal_axes(x)[0], principal_axes(y)[0]
    truth = axes_x.T @ into_x.T @ into_y @ axes_y
    skew = bend * normal(dy, dy, seed=8)
    return x @ axes_x, y @ axes_y, truth, truth @ torch.linalg.matrix_exp(skew - skew.T)


def near(w: Tensor, truth: Tensor, zx: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(zx @ w, zx @ truth).mean())


# Pseudo-pairs


def test_with_one_neighbour_pseudo_pairs_are_the_nearest_rows_weighted_by_their_csls() -> None:
    zx, zy, w = unit(normal(30, 6)), unit(normal(20, 5, seed=1)), polar(normal(6, 5, seed=2))
    cosines = unit(zx @ w) @ zy.T
    near_y, near_x = cosines.max(1), cosines.max(0)
    there = sum(
        torch.exp(10 * (v - (near_y.values[i] + near_x.values[j]) / 2)) * torch.outer(zx[i], zy[j])
        for i, (v, j) in enumerate(zip(near_y.values, near_y.indices, strict=True))
    )
    back = sum(
        torch.exp(10 * (v - (near_x.values[j] + near_y.values[i]) / 2)) * torch.outer(zx[i], zy[j])
        for j, (v, i) in enumerate(zip(near_x.values, near_x.indices, strict=True))
    )
    weight_there = torch.exp(10 * (near_y.values - near_x.values[near_y.indices]) / 2).sum()
    weight_back = torch.exp(10 * (near_x.values - near_y.values[near_x.indices]) / 2).sum()
    exact = there / weight_there + back / weight_back
    found = neighbour_covariance(zx, zy, w, 1)
    assert (found - exact).norm() < 1e-4 * exact.norm()


@given(seed=st.integers(0, 1000))
def test_it_does_not_matter_which_side_is_called_the_source(seed: int) -> None:
    """Holds for a rotation: only then are neighbours of x w the same as neighbours of y w^T."""
    zx, zy, w = unit(normal(40, 5, seed=seed)), unit(normal(30, 5, seed=seed + 1)), rotation(5, seed)
    one, other = neighbour_covariance(zx, zy, w, 3), neighbour_covariance(zy, zx, w.T.contiguous(), 3)
    assert (one - other.T).norm() < 1e-4 * one.norm()


def test_the_order_of_rows_does_not_matter() -> None:
    zx, zy, w = cloud(200, 6, 1), cloud(150, 6, 2), rotation(6)
    order = torch.randperm(200, generator=seeded(0))
    assert torch.allclose(neighbour_covariance(zx[order], zy, w, 5), neighbour_covariance(zx, zy, w, 5), atol=1e-4)


# Finishes


@given(dx=st.integers(1, 8), dy=st.integers(1, 8), seed=st.integers(0, 10_000))
def test_the_orthogonal_finish_is_the_semi_orthogonal_polar_factor(dx: int, dy: int, seed: int) -> None:
    c = normal(dx, dy, seed=seed)
    w = finish(c, torch.rand(dx) + 0.1, torch.rand(dy) + 0.1, ORTHOGONAL)
    assert torch.allclose(w, polar(c), atol=1e-4)
    assert torch.allclose(torch.linalg.svdvals(w), torch.ones(min(dx, dy)), atol=1e-4)


def paired(n: int = 500, d: int = 5) -> tuple[Tensor, Tensor]:
    """Rows on their principal axes, paired and noisy, so that C = x^T y / n is a real cross-covariance."""
    x = normal(n, d) * torch.linspace(2, 0.5, d)
    y = x @ rotation(d) + 0.5 * normal(n, d, seed=1)
    return tuple(side @ principal_axes(side)[0] for side in (x, y))  # type: ignore[return-value]


def test_the_full_power_between_whitened_sides_is_least_squares() -> None:
    x, y = paired()
    spreads = x.square().mean(0), y.square().mean(0)
    w = finish(x.T @ y / len(x), *spreads, Finish(0.5, 0.5, 1.0))
    exact = torch.linalg.lstsq(x, y).solution
    assert torch.allclose(w / w.norm(), exact / exact.norm(), atol=1e-3)


def test_whitening_without_a_power_gives_the_target_its_own_covariance() -> None:
    x, y = paired()
    spreads = x.square().mean(0), y.square().mean(0)
    w = finish(x.T @ y / len(x), *spreads, Finish(0.5, 0.5, 0.0))
    assert torch.allclose((x @ w).T @ (x @ w) / len(x), torch.diag(spreads[1]), atol=1e-3)


@pytest.mark.parametrize("how", [ORTHOGONAL, RANKING, Finish(0.5, 0.5, 0.4)])
def test_every_finish_ignores_the_scale_of_what_it_is_given(how: Finish) -> None:
    x, y = paired()
    c, spreads = x.T @ y, (spread(x), spread(y))
    w = finish(c, *spreads, how)
    assert torch.allclose(finish(1000 * c, *spreads, how), w, atol=1e-3)
    # u W has the direction it had when a side is measured in another unit.
    scaled = finish(7 * c, 49 * spreads[0], spreads[1], how)
    assert torch.allclose(scaled / scaled.norm(), w / w.norm(), atol=1e-3)


def test_spread_is_the_variance_and_never_zero() -> None:
    z = normal(400, 3) * torch.tensor([2.0, 1.0, 0.0])
    variance = z.square().mean(0)
    assert torch.allclose(spread(z), variance, rtol=1e-2, atol=1e-2)
    assert (spread(z) > 0).all()


# Rounds


@pytest.mark.parametrize(("dx", "dy"), [(12, 12), (16, 12), (12, 16)])
def test_a_planted_map_that_was_bent_is_straightened(dx: int, dy: int) -> None:
    zx, zy, truth, bent = two_sides(dx, dy, bend=0.06)
    c = refined(zx, zy, bent)
    assert c.shape == (dx, dy)
    assert near(bent, truth, zx) < 0.97
    assert near(polar(c), truth, zx) > 0.99


def test_the_truth_stays_where_it_is_over_many_rounds() -> None:
    zx, zy, truth, _ = two_sides(12, 12, bend=0)
    assert near(polar(refined(zx, zy, truth, rounds=8)), truth, zx) > 0.99


def test_taking_out_what_confirms_itself_brings_a_bent_map_nearer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason for DEBIAS: without it, rows near x W tilt the pairs toward W itself."""
    zx, zy, truth, bent = two_sides(12, 12, bend=0.1)
    freed = near(polar(refined(zx, zy, bent, rounds=1)), truth, zx)
    monkeypatch.setattr(refining, "DEBIAS", 0.0)
    assert freed > near(polar(refined(zx, zy, bent, rounds=1)), truth, zx)


def test_no_row_and_no_neighbour_too_few_makes_it_stumble() -> None:
    """One row is its own neighbour; rows all alike have no axis to turn."""
    one = unit(normal(1, 4))
    assert refined(one, unit(normal(3, 4, seed=1)), torch.eye(4)).isfinite().all()
    alike = one.repeat(20, 1)
    assert refined(alike, alike, torch.eye(4)).isfinite().all()
