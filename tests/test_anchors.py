"""test_anchors — mini-vec2vec part by part against its definition, and whole on a planted rotation."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from drawing import seeded
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from torch import Tensor

from crossvec.aligners import anchors
from crossvec.aligners.anchors import Anchors, lloyd, match, nearest_mean
from crossvec.errors import SettingError
from crossvec.geometry import unit


def symmetric(c: int, seed: int) -> Tensor:
    m = torch.randn(c, c, generator=seeded(seed), dtype=torch.float64)
    return m + m.T


def worth(a: Tensor, b: Tensor, p: Tensor) -> float:
    return float((a * b[p][:, p]).sum())


def mixture(n: int, d: int, clusters: int, seed: int, rows_seed: int) -> Tensor:
    """Rows of a mixture of random clusters of unequal size; `seed` fixes the clusters, `rows_seed` the rows."""
    generator = seeded(seed)
    centres = torch.randn(clusters, d, generator=generator)
    sizes = torch.rand(clusters, generator=generator) ** 2 + 0.1
    generator = seeded(rows_seed)
    rows = centres[torch.multinomial(sizes, n, replacement=True, generator=generator)]
    rows = rows + 0.35 * torch.randn(n, d, generator=generator)
    return unit(rows - rows.mean(dim=0))


# The quadratic assignment


@given(seed=st.integers(0, 10_000))
@hypothesis(max_examples=20, deadline=None)
def test_no_matching_of_six_is_better(seed: int) -> None:
    a, b = symmetric(6, seed), symmetric(6, seed + 1)
    p, objective = match(a, b, 30, seeded(seed))
    assert objective == pytest.approx(worth(a, b, p))
    assert objective == pytest.approx(max(worth(a, b, torch.tensor(q)) for q in permutations(range(6))))


@given(seed=st.integers(0, 10_000))
@hypothesis(max_examples=10, deadline=None)
def test_no_swap_of_two_improves_a_matching(seed: int) -> None:
    a, b = symmetric(9, seed), symmetric(9, seed + 1)
    p, objective = match(a, b, 1, seeded(seed))
    for r in range(9):
        for s in range(r):
            q = p.clone()
            q[r], q[s] = p[s], p[r]
            assert worth(a, b, q) <= objective + 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_it_matches_as_well_as_scipys_two_opt(seed: int) -> None:
    from scipy.optimize import quadratic_assignment

    points = torch.randn(12, 5, generator=seeded(seed), dtype=torch.float64)
    noisy = points + 0.4 * torch.randn(12, 5, generator=seeded(seed + 50), dtype=torch.float64)
    a, b = points @ points.T, (noisy @ noisy.T)
    ours = match(a, b, 30, seeded(seed))[1]
    rng = np.random.default_rng(seed)
    options = {"maximize": True, "rng": rng}
    theirs = max(quadratic_assignment(a.numpy(), b.numpy(), method="2opt", options=options).fun for _ in range(5))
    assert ours >= theirs - 1e-9


def test_a_shuffled_copy_is_put_in_order() -> None:
    a = symmetric(20, 0)
    shuffle = torch.randperm(20, generator=seeded(1))
    p, _ = match(a, a[shuffle][:, shuffle], 30, seeded(2))
    assert torch.equal(shuffle[p], torch.arange(20))


# k-means


def test_k_means_finds_clusters_that_are_far_apart() -> None:
    centres = 20 * torch.randn(8, 6, generator=seeded(0))
    rows = centres.repeat(50, 1) + 0.1 * torch.randn(400, 6, generator=seeded(1))
    found = lloyd(rows, 8, seeded(2))
    assert torch.cdist(centres, found).min(dim=1).values.max() < 0.2


@pytest.mark.parametrize("k", [10, 60])
def test_k_means_is_as_tight_as_scikit_learns(k: int) -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    rows = mixture(1500, 12, 25, 0, 1)

    def spread(centres: Tensor) -> float:
        return float(torch.cdist(rows, centres).min(dim=1).values.square().sum())

    ours = [spread(lloyd(rows, k, seeded(seed))) for seed in range(5)]
    theirs = [spread(torch.from_numpy(cluster.KMeans(k, random_state=s).fit(rows.numpy()).cluster_centers_)) for s in range(5)]
    assert sum(ours) < 1.03 * sum(theirs)


def test_k_means_keeps_the_order_of_the_centroids_it_starts_from() -> None:
    centres = 20 * torch.randn(8, 6, generator=seeded(0))
    rows = centres.repeat(50, 1) + 0.1 * torch.randn(400, 6, generator=seeded(1))
    found = lloyd(rows, 8, seeded(2), start=centres + 0.5)
    assert torch.cdist(centres, found).argmin(dim=1).tolist() == list(range(8))


def test_an_empty_cluster_moves_to_where_it_is_needed() -> None:
    rows = torch.cat([torch.ones(20, 2) * 10, torch.ones(20, 2) * 20]) + 0.01 * torch.randn(40, 2, generator=seeded(0))
    found = lloyd(rows, 2, seeded(0), start=torch.tensor([[10.0, 10.0], [-99.0, -99.0]]))
    assert torch.cdist(rows, found).min(dim=1).values.max() < 1


def test_more_clusters_than_different_rows_are_no_trouble() -> None:
    found = lloyd(torch.eye(3).repeat(10, 1), 8, seeded(0))
    assert found.isfinite().all()
    assert torch.cdist(torch.eye(3), found).min(dim=1).values.max() < 1e-3


# The read-out


def test_averaging_in_blocks_is_averaging(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = mixture(200, 8, 10, 0, 1), mixture(300, 8, 10, 0, 2)
    whole, score = nearest_mean(x, y, y, 7)
    expected = y[(x @ y.T).topk(7, dim=1).indices].mean(dim=1)
    assert torch.allclose(whole, expected, atol=1e-6)
    monkeypatch.setattr(anchors, "BLOCK", 1000)
    blocks, block_score = nearest_mean(x, y, y, 7)
    assert torch.allclose(blocks, whole, atol=1e-6)
    assert block_score == pytest.approx(score, rel=1e-5)


def test_the_first_map_is_that_of_relative_representations() -> None:
    """The published read-out compares rows by their cosines to the anchors; the bilinear form here orders them alike."""
    x, y = mixture(150, 9, 10, 0, 1), mixture(170, 7, 10, 3, 2)
    a, b = unit(torch.randn(40, 9, generator=seeded(4))), unit(torch.randn(40, 7, generator=seeded(5)))
    likeness = unit(x @ a.T) @ unit(y @ b.T).T
    targets = y[likeness.topk(5, dim=1).indices].mean(dim=1)
    u, _, vt = torch.linalg.svd(x.T @ targets, full_matrices=False)
    found = Anchors(neighbours=5)._pseudo_pairs(x, y, a, b, lambda doing, fraction: None)
    assert torch.allclose(found, u @ vt, atol=1e-3)


# The whole

FAST = {"runs": 12, "rows": 1500, "iterations": 30, "sample": 400, "neighbours": 20, "correction_clusters": 60}
D = 16


def embed(d: int, seed: int) -> Tensor:
    """A random rotation of the mixture's D dims into d, as orthonormal rows."""
    return torch.linalg.qr(torch.randn(d, D, generator=seeded(seed)))[0].T


@pytest.mark.parametrize(("dx", "dy"), [(16, 16), (20, 16), (16, 20)])
def test_it_finds_a_planted_rotation_of_clusters_without_pairs(dx: int, dy: int) -> None:
    to_x, to_y = embed(dx, 8), embed(dy, 9)
    x, y = mixture(2500, D, 27, 0, 1) @ to_x, mixture(2500, D, 27, 0, 2) @ to_y
    learned = Anchors(**FAST).fit(x, y)
    held_out = mixture(400, D, 27, 0, 3)
    for mapped, truth in ((learned.map(held_out @ to_x), held_out @ to_y), (learned.inverse(held_out @ to_y), held_out @ to_x)):
        assert torch.cosine_similarity(mapped, truth).mean() > 0.95
    assert learned.evidence["self_consistency"] > 0.9


def test_its_evidence_is_lower_for_a_cloud_that_has_no_clusters() -> None:
    x, same = mixture(1200, D, 27, 0, 1) @ embed(D, 8), mixture(1200, D, 27, 0, 2) @ embed(D, 9)
    other = unit(torch.randn(1200, D, generator=seeded(3)))
    related, unrelated = (Anchors(**FAST).fit(x, y).evidence for y in (same, other))
    assert all(related[key] > unrelated[key] for key in ("self_consistency", "neighbour_cosine", "anchor_objective"))


def test_effort_buys_runs_iterations_and_sample() -> None:
    x, y = mixture(300, 6, 9, 0, 1), mixture(300, 6, 9, 0, 2)
    small = {"runs": 3, "iterations": 6, "clusters": 5, "neighbours": 5, "sample": 20, "correction_clusters": 9}
    steps = {
        effort: [record["step"] for record in Anchors(effort=effort, **small).fit(x, y).trace]
        for effort in ("quick", "standard", "thorough")
    }
    assert [(s.count("anchors"), s.count("average")) for s in steps.values()] == [(1, 2), (3, 6), (6, 12)]


def test_the_defaults_are_those_of_the_published_notebook() -> None:
    made = Anchors()
    assert (made.runs, made.rows, made.clusters, made.restarts, made.neighbours) == (30, 10_000, 20, 30, 50)
    assert (made.iterations, made.sample, made.momentum, made.correction_clusters) == (100, 1_000, 0.5, 500)


@pytest.mark.parametrize("setting", ["clusters", "neighbours", "correction_clusters"])
def test_more_clusters_or_neighbours_than_rows_are_refused_with_a_number_that_fits(setting: str) -> None:
    x = mixture(30, 6, 9, 0, 1)
    fits = {"clusters": 5, "neighbours": 5, "correction_clusters": 9}
    with pytest.raises(SettingError, match=f"{setting} is 31.* 30 rows") as refused:
        Anchors(**{**fits, setting: 31}).fit(x, x)
    assert f"-s {setting}=3" in refused.value.hint


@pytest.mark.parametrize("setting", [{"runs": 0}, {"momentum": 0.0}, {"momentum": 1.5}, {"sample": -1}])
def test_impossible_settings_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(SettingError, match=next(iter(setting))) as refused:
        Anchors(**setting)  # type: ignore[arg-type]
    assert refused.value.hint
