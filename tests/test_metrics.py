"""The laws of scoring, checked against plain float64 numpy that may hold the whole matrix."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

from crossvec import metrics
from crossvec.errors import SpaceError
from crossvec.geometry import unit


def noisy_pairs(n: int = 257, d: int = 24, noise: float = 1.0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=draw)
    return unit(x + noise * torch.randn(n, d, generator=draw)), unit(x)


def reference_ranks(scores: np.ndarray, tie: float = metrics.TIE) -> np.ndarray:
    """Mid-ranks of the diagonal within each row of a whole matrix."""
    own = scores.diagonal()[:, None]
    return 1 + (scores > own + tie).sum(1) + ((abs(scores - own) <= tie).sum(1) - 1) / 2


def reference_csls(queries: np.ndarray, pool: np.ndarray, k: int) -> np.ndarray:
    s = queries @ pool.T
    r_query = np.sort(s, axis=1)[:, -k:].mean(1)
    r_pool = np.sort(s, axis=0)[-k:].mean(0)
    return 2 * s - r_query[:, None] - r_pool[None]


@pytest.mark.parametrize("noise", [0.3, 1.0, 3.0])
def test_ranks_agree_with_a_brute_force_in_float64(noise):
    queries, pool = noisy_pairs(noise=noise)
    found = metrics.retrieve(queries, pool).plain
    scores = queries.double().numpy() @ pool.double().numpy().T
    for side, matrix in ((found.forward, scores), (found.backward, scores.T)):
        expected = reference_ranks(matrix)
        np.testing.assert_array_equal(side.mid.numpy(), expected)
        assert side.mean_rank == pytest.approx(expected.mean())
        assert side.top(1) == pytest.approx((expected == 1).mean())
        assert side.top(10) == pytest.approx((expected <= 10).mean())


@pytest.mark.parametrize("k", [1, 10, 5000])
def test_csls_is_its_formula(k):
    queries, pool = noisy_pairs(noise=2.0)
    found = metrics.retrieve(queries, pool, csls_neighbours=k, chunk=31).csls
    scores = reference_csls(queries.double().numpy(), pool.double().numpy(), k)
    np.testing.assert_array_equal(found.forward.mid.numpy(), reference_ranks(scores))
    np.testing.assert_array_equal(found.backward.mid.numpy(), reference_ranks(scores.T))


def test_csls_radii_are_the_mean_of_the_nearest_on_either_side():
    queries, pool = noisy_pairs(n=300)[0], noisy_pairs(n=120, seed=1)[1]
    s = np.sort(queries.double().numpy() @ pool.double().numpy().T)
    of_query, of_pool = metrics.csls_radii(queries, pool, 10, chunk=7)
    np.testing.assert_allclose(of_query, s[:, -10:].mean(1), atol=1e-6)
    np.testing.assert_allclose(of_pool, np.sort(queries.double() @ pool.double().T, axis=0)[-10:].mean(0), atol=1e-6)


def test_csls_brings_down_hubs_that_plain_cosine_ranks_first():
    queries, pool = noisy_pairs(n=400, d=32, noise=1.5)
    hubs = unit(pool + 1.5 * pool[0] * (torch.arange(len(pool)) % 20 == 0)[:, None])
    found = metrics.retrieve(unit(queries + 0.5 * pool[0]), hubs)
    assert found.csls.forward.top(1) > found.plain.forward.top(1)


@given(chunk=st.integers(1, 300), seed=st.integers(0, 5))
@settings(max_examples=15, deadline=None)
def test_the_size_of_the_chunk_changes_nothing(chunk, seed):
    queries, pool = noisy_pairs(seed=seed)
    whole, parts = (metrics.retrieve(queries, pool, chunk=c) for c in (len(pool), chunk))
    for rule in ("plain", "csls"):
        for side in ("forward", "backward"):
            a, b = (getattr(getattr(found, rule), side) for found in (whole, parts))
            assert torch.equal(a.above, b.above)
            assert torch.equal(a.tied, b.tied)


def test_rotating_both_clouds_changes_nothing():
    queries, pool = noisy_pairs()
    turn = torch.tensor(ortho_group.rvs(24, random_state=0), dtype=torch.float32)
    before, after = metrics.retrieve(queries, pool), metrics.retrieve(queries @ turn, pool @ turn)
    assert after.plain.forward.mean_rank == pytest.approx(before.plain.forward.mean_rank, abs=0.05)
    assert after.csls.backward.mean_rank == pytest.approx(before.csls.backward.mean_rank, abs=0.05)


def test_swapping_queries_and_pool_swaps_the_directions():
    queries, pool = noisy_pairs()
    one, other = metrics.retrieve(queries, pool), metrics.retrieve(pool, queries)
    assert torch.equal(one.plain.backward.above, other.plain.forward.above)
    assert torch.equal(one.csls.forward.above, other.csls.backward.above)


def test_a_copy_is_perfect():
    _, pool = noisy_pairs()
    found = metrics.retrieve(pool, pool).plain.forward
    assert (found.top(1), found.mean_rank, found.foscttm) == (1, 1, 0)


@pytest.mark.parametrize("d", [768, 3072])
def test_near_copies_in_many_columns_are_perfect_and_level_with_themselves(d):
    """Sums of 768 products and more differ by more than a tie where they are added in another order."""
    generator = torch.Generator().manual_seed(0)
    a = unit(torch.randn(4096, d, generator=generator))
    found = metrics.retrieve(a, unit(a + 0.005 * torch.randn(4096, d, generator=generator)))
    for way in (found.plain.forward, found.plain.backward, found.csls.forward, found.csls.backward):
        assert way.tied.min() >= 0
        assert (way.top(1), way.mean_rank) == (1.0, 1.0)


@pytest.mark.parametrize("n", [2, 257, 1000])
def test_a_constant_map_scores_exactly_at_chance_both_ways(n):
    _, pool = noisy_pairs(n=n)
    constant = unit(torch.randn(1, 24, generator=torch.Generator().manual_seed(9))).expand(n, -1).contiguous()
    for cloud in (constant, torch.zeros_like(pool)):
        found = metrics.retrieve(cloud, pool, chunk=100)
        for side in (found.plain.forward, found.plain.backward, found.csls.forward, found.csls.backward):
            assert side.mean_rank == pytest.approx((n + 1) / 2)
            assert side.top(1) == pytest.approx(1 / n)
            assert side.top(10) == pytest.approx(min(10, n) / n)
            assert side.foscttm == pytest.approx(0.5)


def test_a_map_to_few_places_cannot_win():
    _, pool = noisy_pairs(n=500)
    crowded = pool[torch.arange(500) % 5]
    found = metrics.retrieve(crowded, pool)
    for side in (found.plain.forward, found.plain.backward, found.csls.forward, found.csls.backward):
        assert side.top(1) <= 5 / 500 + 1e-9


def test_two_equal_targets_share_one_hit():
    pool = torch.eye(4)[[0, 0, 1, 2]]
    found = metrics.retrieve(pool, pool, csls_neighbours=0)
    np.testing.assert_allclose(found.plain.forward.hits(1), [0.5, 0.5, 1, 1])
    np.testing.assert_allclose(found.plain.forward.mid, [1.5, 1.5, 1, 1])
    assert found.csls is None


@given(above=st.integers(0, 30), tied=st.integers(0, 30), k=st.integers(1, 40))
def test_hits_are_what_a_fair_coin_over_the_ties_gives(above, tied, k):
    ranks = metrics.Ranks(torch.tensor([above]), torch.tensor([tied]), 100)
    places = np.arange(above + 1, above + tied + 2)
    assert ranks.top(k) == pytest.approx((places <= k).mean())
    assert ranks.mean_rank == pytest.approx(places.mean())


def test_duplicates_are_ties_wherever_they_stand():
    # BLAS may sum the last columns in another order; equal rows must still be level.
    row = unit(torch.randn(1, 768, generator=torch.Generator().manual_seed(0)))
    pool = row.expand(1003, -1).contiguous()
    found = metrics.retrieve(pool, pool, chunk=97).plain
    assert torch.equal(found.forward.tied, torch.full((1003,), 1002))
    assert not found.backward.above.any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_rows_that_are_not_finite_cannot_win_by_comparing_false(bad):
    queries, pool = noisy_pairs()
    queries[3, 2] = bad
    with pytest.raises(SpaceError, match="not finite"):
        metrics.retrieve(queries, pool)


def test_clouds_that_are_not_pairs_are_refused():
    queries, pool = noisy_pairs()
    with pytest.raises(SpaceError, match="queries are"):
        metrics.retrieve(queries[:-1], pool)
    with pytest.raises(SpaceError, match="cannot be searched"):
        metrics.retrieve(queries[:1], pool[:1])


def test_centring_gives_rows_at_the_mean_no_direction():
    mean = torch.randn(50, generator=torch.Generator().manual_seed(1))
    at_mean = mean * (1 + 1e-7 * torch.arange(5)[:, None])
    away = mean + torch.eye(50)[:1]
    rows = metrics.centred(torch.cat([at_mean, away]), mean)
    assert not rows[:5].any()
    torch.testing.assert_close(rows[5], torch.eye(50)[0], atol=1e-5, rtol=0)


def test_centring_leaves_what_it_is_given_as_it_was():
    rows = torch.ones(3, 2)
    metrics.centred(rows, torch.ones(2))
    assert torch.equal(rows, torch.ones(3, 2))


def test_centring_does_not_depend_on_the_scale():
    rows, mean = torch.randn(40, 8, generator=torch.Generator().manual_seed(2)), torch.ones(8)
    torch.testing.assert_close(metrics.centred(1e-12 * rows, 1e-12 * mean), metrics.centred(rows, mean), atol=1e-5, rtol=0)


def test_cosine_ignores_lengths_and_knows_no_direction_for_zero():
    a, b = noisy_pairs(n=50)
    torch.testing.assert_close(metrics.cosines(3 * a, 0.1 * b), (a * b).sum(1))
    assert not metrics.cosines(torch.zeros(4, 5), torch.ones(4, 5)).any()


def test_the_nearest_other_row_is_never_the_row_itself():
    a, _ = noisy_pairs(n=150)
    s = a.double().numpy() @ a.double().numpy().T
    np.fill_diagonal(s, -np.inf)
    np.testing.assert_allclose(metrics.nearest_other(a, chunk=40), s.max(1), atol=1e-6)
    assert not metrics.nearest_other(a[:1]).any()


def test_neighbour_overlap_agrees_with_a_brute_force():
    a, b = noisy_pairs(n=200)
    near = []
    for rows in (a, b):
        s = rows.double().numpy() @ rows.double().numpy().T
        np.fill_diagonal(s, -np.inf)
        near.append([set(row) for row in np.argsort(-s, axis=1)[:, :7]])
    expected = [len(p & q) / 7 for p, q in zip(*near, strict=True)]
    for chunk in (200, 33):
        np.testing.assert_allclose(metrics.neighbour_overlap(a, b, 7, chunk=chunk), expected, atol=1e-6)


def test_unrelated_and_constant_clouds_share_neighbours_at_chance():
    a, b = noisy_pairs(n=1500)[0], noisy_pairs(n=1500, seed=7)[0]
    constant = torch.ones(1500, 24) / 24**0.5
    for one, other in ((a, b), (a, constant), (constant, constant)):
        assert float(metrics.neighbour_overlap(one, other, 10).mean()) == pytest.approx(10 / 1499, abs=2e-3)


def test_neighbour_overlap_needs_more_rows_than_neighbours():
    with pytest.raises(SpaceError, match="more than k"):
        metrics.neighbour_overlap(torch.eye(10), torch.eye(10), 10)


def test_wilson_is_the_published_interval():
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3: 81 of 263 and 0 of 20.
    np.testing.assert_allclose(metrics.wilson(81.0, 263), (0.2553, 0.3662), atol=5e-5)
    np.testing.assert_allclose(metrics.wilson(0.0, 20), (0, 0.1611), atol=5e-5)


@pytest.mark.parametrize(("share", "n"), [(0.02, 200), (0.5, 50), (0.9, 400)])
def test_wilson_covers_about_as_often_as_it_says(share, n):
    hits = np.random.default_rng(0).binomial(n, share, size=2000)
    bounds = np.array([metrics.wilson(float(h), n) for h in hits])
    assert 0.92 <= ((bounds[:, 0] <= share) & (share <= bounds[:, 1])).mean() <= 0.98


def test_the_bootstrap_covers_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    bounds = np.array([metrics.bootstrap(rng.exponential(size=(150, 1)), 200, seed=i)[0] for i in range(200)])
    assert 0.90 <= ((bounds[:, 0] <= 1) & (bounds[:, 1] >= 1)).mean() <= 0.98


def test_the_bootstrap_resamples_whole_rows_and_repeats_itself():
    values = np.random.default_rng(0).normal(size=(80, 1))
    bounds = metrics.bootstrap(np.hstack([values, values, values + 1]), seed=3)
    np.testing.assert_allclose(bounds[0], bounds[1])
    np.testing.assert_allclose(bounds[0] + 1, bounds[2])
    np.testing.assert_allclose(bounds[:1], metrics.bootstrap(values, seed=3))
