"""test_geometry — each piece of linear algebra against its definition, or against the slow and obvious way."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from drawing import normal, rotation, seeded
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from crossvec import geometry
from crossvec.geometry import kmeans, nearest, only_read, polar, polar_batch, principal_axes, procrustes, third_moment, unit

sizes = st.integers(1, 9)
seeds = st.integers(0, 10_000)


def ranked_exactly() -> bool:
    """Whether this machine ranks neighbours in float32; in bfloat16 they agree to its three digits."""
    return geometry.fast_type("cpu") == torch.float32


# Lengths


@given(n=sizes, d=sizes, seed=seeds)
def test_unit_rows_have_length_one_and_the_direction_they_had(n: int, d: int, seed: int) -> None:
    x = 7 * normal(n, d, seed=seed)
    assert torch.allclose(unit(x).norm(dim=1), torch.ones(n), atol=1e-5)
    assert torch.allclose(unit(x) * x.norm(dim=1, keepdim=True), x, atol=1e-4)
    assert torch.equal(unit(torch.zeros(n, d)), torch.zeros(n, d))


# Polar factors


@given(dx=sizes, dy=sizes, seed=seeds)
def test_the_polar_factor_is_semi_orthogonal_and_leaves_a_symmetric_part(dx: int, dy: int, seed: int) -> None:
    """M = polar(M) H with H symmetric and without negative eigenvalues: that is what makes it the polar factor."""
    m = normal(dx, dy, seed=seed).double()
    w = polar(m)
    assert torch.allclose(torch.linalg.svdvals(w), torch.ones(min(dx, dy)).double())
    h = w.T @ m if dx >= dy else m @ w.T
    assert torch.allclose(h, h.T)
    assert torch.linalg.eigvalsh(h).min() > -1e-9


def test_a_power_fades_what_is_little_known_from_the_rotation_to_the_matrix_itself() -> None:
    m = normal(6, 4).double()
    s = torch.linalg.svdvals(m) / torch.linalg.matrix_norm(m, 2)
    for power in (0.0, 0.25, 0.5, 1.0):
        assert torch.allclose(torch.linalg.svdvals(polar(m, power)), s**power)
    assert torch.allclose(polar(m, 1.0) * torch.linalg.matrix_norm(m, 2), m)


@pytest.mark.parametrize("condition", [1.0, 10.0, 100.0])
def test_products_alone_give_the_polar_factor_of_any_well_conditioned_matrix(condition: float) -> None:
    k = 12
    stretched = [rotation(k, i) * torch.linspace(1, 1 / condition, k) @ rotation(k, 50 + i) for i in range(5)]
    g = torch.stack(stretched)
    for made, one in zip(polar_batch(g), g, strict=True):
        assert torch.allclose(made, polar(one), atol=2e-2)
        assert torch.allclose(made @ made.T, torch.eye(k), atol=1e-2)


@given(scale=st.floats(1e-6, 1e6))
def test_products_alone_do_not_see_the_scale(scale: float) -> None:
    g = normal(2, 5, 5)
    assert torch.allclose(polar_batch(scale * g), polar_batch(g), atol=1e-3)


@given(dx=sizes, dy=sizes, seed=seeds)
def test_procrustes_finds_a_planted_rotation_and_no_turn_of_it_is_nearer(dx: int, dy: int, seed: int) -> None:
    wide = max(dx, dy)
    y_of_x = rotation(wide, seed)[:dx, :dy]
    x = normal(50, dx, seed=seed + 1)
    if dx <= dy:
        assert torch.allclose(procrustes(x, x @ y_of_x), y_of_x, atol=1e-3)
    y = x @ y_of_x + 0.5 * normal(50, dy, seed=seed + 2)
    w = procrustes(x, y)
    skew = 0.05 * normal(dy, dy, seed=seed + 3)
    turned = w @ torch.linalg.matrix_exp(skew - skew.T)
    assert (x.T @ y * w).sum() >= (x.T @ y * turned).sum() - 1e-3


# Moments


def test_principal_axes_are_a_rotation_that_makes_the_coordinates_uncorrelated_largest_first() -> None:
    x = normal(500, 7) @ normal(7, 7, seed=1)
    axes, variances = principal_axes(x)
    assert torch.allclose(axes.T @ axes, torch.eye(7), atol=1e-5)
    z = x @ axes
    assert torch.allclose(z.T @ z / 500, torch.diag(variances), atol=1e-3)
    assert variances.tolist() == sorted(variances.tolist(), reverse=True)


def test_axes_without_spread_have_variance_zero_and_never_less() -> None:
    x = normal(50, 2) @ normal(2, 9, seed=1)
    assert (principal_axes(x)[1] >= 0).all()
    assert (principal_axes(x)[1][2:] < 1e-5).all()


@pytest.mark.parametrize("rows", [50, 300], ids=["one block", "two blocks"])
def test_the_third_moment_is_the_mean_of_triple_products(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geometry, "TRIPLES", 1)  # the least block, of 256 rows
    z = normal(rows, 6)
    exact = torch.einsum("na,nb,nc->abc", z, z, z) / rows
    assert (third_moment(z) - exact).norm() < 1e-2 * exact.norm()


def test_the_third_moment_turns_with_the_cloud() -> None:
    z, r = normal(400, 5) ** 2, rotation(5)
    turned = torch.einsum("abc,ai,bj,ck->ijk", third_moment(z), r, r, r)
    assert (third_moment(z @ r) - turned).norm() < 1e-2 * turned.norm()


@given(q=sizes, m=sizes, k=sizes, seed=seeds)
def test_nearest_agrees_with_sorting_everything(q: int, m: int, k: int, seed: int) -> None:
    queries, keys = unit(normal(q, 5, seed=seed)), unit(normal(m, 5, seed=seed + 1))
    values, indices = nearest(queries, keys, k)
    assert values.shape == indices.shape == (q, min(k, m))
    cosines = queries @ keys.T
    slack = 1e-5 if ranked_exactly() else 2e-2
    assert torch.allclose(values, cosines.gather(1, indices), atol=slack)
    assert torch.allclose(values, cosines.sort(dim=1, descending=True)[0][:, :k], atol=slack)
    assert all(len(set(row)) == len(row) for row in indices.tolist()), "no key twice"


def test_neighbours_do_not_depend_on_the_block_they_are_found_in(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, keys = unit(normal(100, 8)), unit(normal(60, 8, seed=1))
    whole = nearest(queries, keys, 3)
    monkeypatch.setattr(geometry, "BLOCK", 7)
    blocks = nearest(queries, keys, 3)
    assert torch.allclose(whole[0], blocks[0], atol=1e-5)
    assert torch.equal(whole[1], blocks[1])
    monkeypatch.setattr(geometry, "KEYS", 13)
    parts = nearest(queries, keys, 3)
    assert torch.allclose(whole[0], parts[0], atol=1e-5)
    # Where bfloat16 ranks, keys that it cannot tell apart may come in another order.
    cosines = queries @ keys.T
    same = torch.equal(whole[1], parts[1])
    assert same or not ranked_exactly()
    assert same or torch.allclose(cosines.gather(1, whole[1]), cosines.gather(1, parts[1]), atol=2e-2)


# Clusters


def three_heaps() -> tuple[Tensor, Tensor]:
    """90 rows in three narrow heaps around orthogonal directions, and which heap each is of."""
    heap = torch.arange(90) % 3
    return unit(torch.eye(3, 6)[heap] + 0.05 * normal(90, 6)), heap


def test_kmeans_puts_rows_with_their_nearest_centre_and_makes_centres_unit_means() -> None:
    x, _ = three_heaps()
    index, centres = kmeans(x, 5, seeded(0), rounds=30)
    assert torch.equal(index, nearest(x, centres, 1)[1][:, 0]) or not ranked_exactly()
    for cluster in index.unique():
        assert torch.allclose(centres[cluster], unit(x[index == cluster].sum(0)), atol=1e-4)


def test_kmeans_finds_heaps_that_lie_apart_from_some_start() -> None:
    x, heap = three_heaps()

    def together(seed: int) -> bool:
        index = kmeans(x, 3, seeded(seed))[0]
        return all(len(index[heap == one].unique()) == 1 for one in range(3)) and len(index.unique()) == 3

    assert any(together(seed) for seed in range(10))


def test_the_same_seed_gives_the_same_clusters_and_copies_of_one_row_do_no_harm() -> None:
    x, _ = three_heaps()
    assert torch.equal(kmeans(x, 4, seeded(2))[0], kmeans(x, 4, seeded(2))[0])
    index, centres = kmeans(x[:1].repeat(20, 1), 4, seeded(0))
    assert centres.isfinite().all() and len(index) == 20


def test_more_clusters_than_rows_are_as_many_as_rows() -> None:
    x, _ = three_heaps()
    index, centres = kmeans(x[:5], 8, seeded(0))
    assert len(centres) == 5 and len(index.unique()) == 5


# Copies


@given(n=st.integers(1, 40), d=st.integers(2, 9), copies=st.integers(1, 5), seed=seeds)
def test_copies_of_a_row_count_once_and_the_order_stays(n: int, d: int, copies: int, seed: int) -> None:
    x = unit(normal(n, d, seed=seed))
    order = torch.randperm(n * copies, generator=seeded(seed))
    kept = geometry.distinct(x.repeat(copies, 1)[order])
    assert len(kept) == len(geometry.distinct(x)) <= n
    assert torch.equal(geometry.distinct(kept), kept)


def test_rows_that_differ_are_all_kept() -> None:
    x = unit(normal(2000, 12))
    assert torch.equal(geometry.distinct(x), x)


def test_read_only_rows_are_read_without_a_copy_or_a_warning_and_without_leaving_filters_behind() -> None:
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    shown = only_read(rows)
    rows.setflags(write=False)
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as threads, warnings.catch_warnings(record=True) as said:
        for found in threads.map(lambda _: only_read(rows), range(400)):
            assert found.data_ptr() == shown.data_ptr()
    assert not said
    assert warnings.filters == before
