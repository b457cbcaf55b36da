"""test_search — the objective and its gradient against their definitions; then the search on rotations that were planted."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from drawing import normal, rotation, seeded
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from crossvec import geometry
from crossvec.aligners import search as searching
from crossvec.aligners.objective import WITHIN, Clouds, Joined, Moments
from crossvec.aligners.search import KICKS, POWERS, Found, search
from crossvec.geometry import polar, principal_axes, unit

SHAPES = [(6, 6), (7, 4), (4, 7)]
shapes = pytest.mark.parametrize(("kx", "ky"), SHAPES)


@pytest.fixture(autouse=True)
def _exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Laws are laws of real numbers: no bfloat16 here."""
    for module in (geometry, searching):  # the search has the function under its own name
        monkeypatch.setattr(module, "fast_type", lambda _device: torch.float32)


def cloud(n: int, d: int, rows_seed: int, clusters: int = 30) -> Tensor:
    """Centred unit rows of one mixture of clusters of unequal size; `rows_seed` draws which rows."""
    generator = seeded(99)
    centres = torch.randn(clusters, d, generator=generator) * torch.linspace(1.6, 0.8, d)
    sizes = torch.rand(clusters, generator=generator) ** 2 + 0.1
    generator = seeded(rows_seed)
    rows = centres[torch.multinomial(sizes, n, replacement=True, generator=generator)]
    rows = rows + 0.3 * torch.randn(n, d, generator=generator)
    return unit(rows - rows.mean(0))


def on_axes(rows: Tensor) -> tuple[Tensor, Tensor]:
    axes, _ = principal_axes(rows)
    return rows @ axes, axes


def look(zx: Tensor, zy: Tensor, seed: int = 0, **options: float) -> Found:
    small = {"starts": 256, "keep": 3, "kicks": 3, "axes": 256, "damping": 0.5, **options}
    return search(zx, zy, **small, generator=seeded(seed), progress=lambda _doing, _done: None)  # type: ignore[arg-type]


@functools.cache
def moments(kx: int, ky: int, damping: float = 0.5) -> Moments:
    (zx, _), (zy, _) = on_axes(cloud(300, kx, 1)), on_axes(cloud(400, ky, 2))
    return Moments.of(zx, zy, kx, ky, damping)


def cubic(m: Moments, r: Tensor) -> Tensor:
    return torch.einsum("abc,ai,bj,ck,ijk->", m.tx, r, r, r, m.ty)


# The objective


@shapes
def test_the_gradient_is_a_third_of_what_autograd_finds(kx: int, ky: int) -> None:
    m, r = moments(kx, ky), normal(kx, ky).requires_grad_()
    cubic(m, r).backward()  # type: ignore[no-untyped-call]
    assert r.grad is not None
    assert torch.allclose(m.gradient(r.detach()), r.grad / 3, rtol=1e-3, atol=1e-4)


def test_many_rotations_at_once_are_the_same_as_one_by_one() -> None:
    m = moments(6, 6)
    r = torch.stack([rotation(6, seed) for seed in range(4)])
    for at_once, one in zip(m.gradients(r), r, strict=True):
        assert torch.allclose(at_once, m.gradient(one), rtol=1e-3, atol=1e-4)
    size = m.tx.norm() * m.ty.norm()
    assert torch.allclose(m.objectives(r), torch.stack([cubic(m, one) / size for one in r]), atol=1e-4)


@given(seed=st.integers(0, 10_000))
def test_the_objective_of_a_rotation_is_a_cosine(seed: int) -> None:
    assert moments(5, 5).objectives(rotation(5, seed)[None]).abs() <= 1 + 1e-5


def test_the_objective_is_one_at_the_truth_when_both_sides_are_the_same_rows() -> None:
    (zx, _), r = on_axes(cloud(500, 6, 1)), rotation(6)
    m = Moments.of(zx, zx @ r, 6, 6)
    # Between axes that are not scaled each by itself the truth is r; a common scale does not matter.
    m = Moments(m.tx * m.scale_x[0] ** 3, geometry.third_moment(zx @ r), m.scale_x, m.scale_y, m.spread_x, m.spread_y)
    assert float(m.objectives(r[None])) == pytest.approx(1.0, abs=1e-4)
    assert m.objectives(torch.stack([rotation(6, seed) for seed in range(1, 20)])).max() < 0.95


def test_damping_takes_scale_off_the_axes_and_natural_puts_it_back() -> None:
    zx, _ = on_axes(cloud(500, 6, 1))
    for damping in (0.0, 0.5, 1.0):
        m = Moments.of(zx, zx, 6, 6, damping)
        relative = m.spread_x / m.spread_x[0]
        variance = zx.square().mean(0)
        assert torch.allclose(relative, (variance / variance[0]) ** (1 - damping), rtol=1e-3)
        r = rotation(6)
        assert torch.allclose(m.natural(m.scale_x[:, None] * r * m.scale_y), r, atol=1e-5)


# Moments within clusters


def joined(kx: int, ky: int) -> Joined:
    zx, zy = on_axes(cloud(400, 8, 1))[0], on_axes(cloud(500, 8, 2))[0]
    m = Clouds.of(zx, zy, 10, 64, seeded(0)).moments(kx, ky, 0.5)
    assert isinstance(m, Joined)
    return m


@shapes
def test_the_joined_objective_is_the_weighted_mean_of_two_cosines_and_its_gradient_climbs_it(kx: int, ky: int) -> None:
    m = joined(kx, ky)
    r = polar(normal(kx, ky)).requires_grad_()

    def cosine(one: Moments) -> Tensor:
        return cubic(one, r) / (one.tx.norm() * one.ty.norm())

    mean = (cosine(m) + WITHIN * cosine(m.within)) / (1 + WITHIN)
    mean.backward()
    assert r.grad is not None
    assert m.objectives(r.detach()) == pytest.approx(float(mean.detach()), abs=1e-4)
    assert torch.allclose(m.gradient(r.detach()), r.grad * (1 + WITHIN) / 3, rtol=1e-3, atol=1e-4)


def test_many_rotations_at_once_are_the_same_as_one_by_one_with_clusters_too() -> None:
    m = joined(6, 6)
    r = torch.stack([rotation(6, seed) for seed in range(4)])
    assert torch.allclose(m.gradients(r), torch.stack([m.gradient(one) for one in r]), rtol=1e-3, atol=1e-4)
    assert torch.allclose(m.objectives(r), torch.stack([m.objectives(one) for one in r]), atol=1e-4)


def test_moments_within_clusters_do_not_know_where_the_clusters_lie_nor_how_far_apart() -> None:
    inside = normal(600, 5).abs() * 0.1
    topics = torch.arange(600) % 3
    # k-means that starts at a row of each topic finds the topics.
    seed = next(s for s in range(99) if len(set(topics[torch.randperm(600, generator=seeded(s))[:3]].tolist())) == 3)

    def within(centres: Tensor) -> Tensor:
        clouds = Clouds.of(inside + centres[topics], inside, 3, 64, seeded(seed))
        assert clouds.within is not None
        return geometry.third_moment(clouds.within[0])

    here, elsewhere = within(4 * torch.eye(5)[:3]), within(9 * rotation(5)[:3])
    assert torch.allclose(here, elsewhere, atol=1e-6)
    assert here.norm() > 1e-4


def test_a_search_with_clusters_finds_a_planted_rotation() -> None:
    r = rotation(14)

    def side(seed: int) -> Tensor:
        skewed = torch.empty(3000, 14).exponential_(generator=seeded(seed)) - 1
        return unit(cloud(3000, 14, seed) + 0.3 * skewed * torch.linspace(1.3, 0.7, 14))

    (zx, ax), (zy, ay) = on_axes(side(1)), on_axes(side(2) @ r)
    found = look(zx, zy, clusters=20, pool=True)
    assert (found.map * (ax.T @ r @ ay)).sum() / 14 > 0.9
    assert found.objective <= 1 + 1e-5


# Climbing


def test_climbing_never_leaves_the_rotations_and_ends_higher() -> None:
    m = moments(6, 6, damping=0.0)
    start = torch.stack([rotation(6, seed) for seed in range(16)])
    end = m.ascend(start, 40)
    assert torch.allclose(end @ end.transpose(1, 2), torch.eye(6).expand(16, 6, 6), atol=1e-2)
    assert m.objectives(end).median() > m.objectives(start).max()


@pytest.mark.parametrize("d", [4, 8, 14])
def test_annealing_from_near_the_truth_does_not_leave_it_and_tells_its_objective(d: int) -> None:
    r = rotation(d)
    (zx, ax), (zy, ay) = on_axes(cloud(2000, d, 1)), on_axes(cloud(2000, d, 2) @ r)
    truth = ax.T @ r @ ay
    m = Moments.of(zx, zy, d, d)
    objective, gradient = m.anneal(polar(truth + 0.1 * normal(d, d)), POWERS)
    reached = polar(gradient)
    assert objective == pytest.approx(float(cubic(m, reached) / (m.tx.norm() * m.ty.norm())), abs=1e-4)
    assert objective > 0.95
    assert (m.natural(reached) * truth).sum() > 0.9 * m.natural(reached).norm() * truth.norm()


@pytest.mark.parametrize("clusters", [0, 10])
def test_steps_of_half_the_digits_lead_to_the_same_place_and_are_judged_with_all_of_them(clusters: int) -> None:
    d = 12
    r = rotation(d)
    (zx, ax), (zy, ay) = on_axes(cloud(2000, d, 1)), on_axes(cloud(2000, d, 2) @ r)
    m = Clouds.of(zx, zy, clusters, d, seeded(0)).moments(d, d)
    start = polar(ax.T @ r @ ay + 0.1 * normal(d, d))
    (exact, _), (hasty, gradient) = (one.anneal(start, POWERS) for one in (m, replace(m, hasty=m.rounded(torch.bfloat16))))
    assert gradient.dtype == torch.float32
    assert hasty == pytest.approx(exact, abs=1e-3)


@given(seed=st.integers(0, 10_000))
def test_annealing_never_ends_below_where_one_step_would(seed: int) -> None:
    m, r = moments(5, 5), rotation(5, seed)
    assert m.anneal(r, POWERS)[0] >= m.settle(r)[0]


@pytest.mark.parametrize("kick", KICKS, ids=lambda kick: kick.__name__.strip("_"))
@shapes
def test_a_kick_moves_the_map_and_keeps_its_shape_and_size(
    kick: Callable[[Tensor, torch.Generator], Tensor], kx: int, ky: int
) -> None:
    g = 100 * polar(normal(kx, ky), 0.5)
    kicked = kick(g, seeded(3))
    assert kicked.shape == (kx, ky)
    assert torch.linalg.matrix_norm(kicked, 2) <= 1 + 1e-5
    assert not torch.allclose(kicked, polar(g, 0.5), atol=1e-3)
    assert torch.equal(kick(g, seeded(3)), kicked)


# The search


@pytest.mark.parametrize("d", [5, 8, 14])
def test_a_planted_rotation_is_found_between_different_rows_of_one_world(d: int) -> None:
    r = rotation(d)
    x, y = cloud(3000, d, 1), cloud(2500, d, 2) @ r
    (zx, ax), (zy, ay) = on_axes(x), on_axes(y)
    found = look(zx, zy)
    w = ax @ found.map @ ay.T
    assert torch.nn.functional.cosine_similarity(x @ w, x @ r).mean() > 0.95
    assert found.objective > 0.9
    wrong = look(zx, on_axes(cloud(2500, d, 2)[:, torch.randperm(d, generator=seeded(0))].abs())[0])
    assert wrong.objective < found.objective


@pytest.mark.parametrize(("dx", "dy"), [(20, 14), (14, 20)])
def test_a_cloud_that_lies_in_fewer_dimensions_on_one_side_is_found_too(dx: int, dy: int) -> None:
    z = [cloud(3000, min(dx, dy), seed) for seed in (1, 2)]
    into = rotation(dx, 4)[: min(dx, dy)], rotation(dy, 5)[: min(dx, dy)]
    x, y = z[0] @ into[0], z[1] @ into[1]
    (zx, ax), (zy, ay) = on_axes(x), on_axes(y)
    w = ax @ look(zx, zy).map @ ay.T
    assert torch.nn.functional.cosine_similarity(x @ w, z[0] @ into[1]).mean() > 0.95


@pytest.mark.parametrize(("dx", "dy"), [(1, 1), (1, 5), (2, 2), (13, 3), (30, 26)])
def test_what_is_found_is_semi_orthogonal_at_any_width(dx: int, dy: int) -> None:
    found = look(on_axes(cloud(200, dx, 1))[0], on_axes(cloud(150, dy, 2))[0], starts=64, keep=1, kicks=1)
    assert found.map.shape == (dx, dy)
    assert torch.allclose(torch.linalg.svdvals(found.map), torch.ones(min(dx, dy)), atol=1e-4)
    assert -1.001 <= found.objective <= 1.001


def test_more_axes_than_the_search_itself_uses_are_polished_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("FIRST_AXES", 8), ("LADDER", ((10, 4),)), ("SEARCH_AXES", 10)):
        monkeypatch.setattr(searching, name, value)
    d, r = 14, rotation(14)
    x, y = cloud(3000, d, 1), cloud(3000, d, 2) @ r
    (zx, ax), (zy, ay) = on_axes(x), on_axes(y)
    few, all_axes = look(zx, zy, axes=10), look(zx, zy)
    near = [float(torch.nn.functional.cosine_similarity(x @ ax @ f.map @ ay.T, x @ r).mean()) for f in (few, all_axes)]
    assert near[1] > 0.95 and near[1] > near[0]


def test_kicks_never_lower_the_objective_and_starts_are_told_best_first() -> None:
    (zx, _), (zy, _) = on_axes(cloud(600, 10, 1)), on_axes(cloud(600, 10, 2))
    none, many = look(zx, zy, kicks=0, keep=4), look(zx, zy, kicks=9, keep=4)
    assert none.kicks == 0
    assert none.objectives == many.objectives == tuple(sorted(none.objectives, reverse=True))
    assert len(none.objectives) == 4
    assert many.objective >= none.objective == pytest.approx(none.objectives[0])
    assert (many.kicks > 0) == (many.objective > none.objective)


def test_the_same_seed_finds_the_same_map() -> None:
    (zx, _), (zy, _) = on_axes(cloud(300, 8, 1)), on_axes(cloud(300, 8, 2))
    assert torch.equal(look(zx, zy, seed=5).map, look(zx, zy, seed=5).map)


def test_progress_only_grows() -> None:
    (zx, _), (zy, _) = on_axes(cloud(200, 8, 1)), on_axes(cloud(200, 8, 2))
    told: list[float] = []
    search(
        zx, zy, starts=300, keep=2, kicks=2, axes=256, damping=0.5, generator=seeded(0), progress=lambda _, f: told.append(f)
    )
    assert told == sorted(told) and told[0] == 0 and told[-1] == 1
