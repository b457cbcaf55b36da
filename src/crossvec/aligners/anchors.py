"""anchors — mini-vec2vec as published: match k-means centroids, turn them into pseudo-pairs, average neighbours.

In    x (n, dx), y (m, dy)  float32, centred, rows of unit length
Out   Alignment             a nearly orthogonal map (momentum leaves it so, as published) and its transpose
Uses  geometry, aligners.maps
Paper arXiv:2510.02348      mini-vec2vec (Dar 2025), with the settings of its notebook
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor
from torch.nn.functional import cosine_similarity, embedding_bag

from crossvec.aligners import Alignment, Effort, Step, part, silent
from crossvec.aligners.limits import Range, check
from crossvec.aligners.maps import Linear
from crossvec.errors import SettingError
from crossvec.geometry import TINY, procrustes, unit

BLOCK = 2**25
"""Similarities held at once: 128 MiB in float32, whatever n and m are."""

SCALE: Mapping[Effort, tuple[float, int]] = {"quick": (1 / 3, 1), "standard": (1, 1), "thorough": (2, 10)}
"""What effort multiplies: `runs` and `iterations`, and `sample` (10,000 in the paper's text, 1,000 in its notebook)."""


@dataclass(frozen=True)
class Anchors:
    """Unpaired alignment by matched cluster centres (mini-vec2vec, arXiv:2510.02348, sections 3.1 to 3.3).

    1. `runs` times: k-means with `clusters` centres on `rows` random rows of each side; a quadratic assignment of the
       doubly-centred Gram matrices, best of `restarts` local searches, pairs the centres into anchors.
    2. Every source row gets as pseudo-pair the mean of the `neighbours` target rows whose cosines to the anchors are most like
       its own; orthogonal Procrustes on them is the first map.
    3. `iterations` times: `sample` source rows, mapped, are paired with the mean of their `neighbours` nearest target rows;
       Procrustes on them, averaged into the map with `momentum`.
    4. Once: `correction_clusters` k-means centres of x, and those of y started at the mapped ones; Procrustes, same momentum.

    Different dims need no padding: a rectangular polar factor is what zero-padding comes to. Nothing of size n x m is held.
    `effort` multiplies `runs` and `iterations` by 1/3, 1 or 2, and for thorough `sample` by 10.

    Evidence: `self_consistency`, the mean cosine between mapped source centres and the target centres grown from them (step 4);
    `neighbour_cosine`, the mean cosine of mapped rows to their neighbours in the last iteration; `anchor_objective`, the mean
    over runs of the matched Gram matrices' correlation.

    Raises SettingError when a setting is out of range or asks for more clusters or neighbours than a side has rows.
    """

    name: ClassVar[str] = "anchors"
    needs_pairs: ClassVar[bool] = False

    seed: int = 0
    effort: Effort = "standard"
    runs: int = 30
    rows: int = 10_000
    clusters: int = 20
    restarts: int = 30
    neighbours: int = 50
    iterations: int = 100
    sample: int = 1_000
    momentum: float = 0.5
    correction_clusters: int = 500

    def __post_init__(self) -> None:
        check(self, momentum=Range(0.0, 1.0, above=True))

    def fit(
        self,
        x: Float[Tensor, "n dx"],
        y: Float[Tensor, "m dy"],
        *,
        pairs: Int[Tensor, "p 2"] | None = None,
        progress: Step = silent,
    ) -> Alignment:
        """Learn a map without pairs; `pairs` are not used. Deterministic by `seed` on one machine."""
        self._check(min(len(x), len(y), self.rows), min(len(x), len(y)))
        generator = torch.Generator().manual_seed(self.seed)
        trace: list[dict[str, Any]] = []

        a, b = self._anchors(x, y, generator, trace, part(progress, 0.0, 0.35))
        weight = self._pseudo_pairs(x, y, a, b, part(progress, 0.35, 0.5))
        weight = self._average(x, y, weight, generator, trace, part(progress, 0.5, 0.85))
        progress("correcting by clusters", 0.85)
        weight, consistency = self._correct(x, y, weight, generator)
        progress("aligned", 1.0)

        objectives = [r["objective"] for r in trace if r["step"] == "anchors"]
        evidence = {
            "self_consistency": consistency,
            "neighbour_cosine": trace[-1]["neighbour_cosine"],
            "anchor_objective": sum(objectives) / len(objectives),
        }
        return Alignment(Linear.of(weight), Linear.of(weight.T.contiguous()), evidence, tuple(trace))

    def _check(self, drawn: int, rows: int) -> None:
        for key, have in (("clusters", drawn), ("neighbours", rows), ("correction_clusters", rows)):
            if getattr(self, key) > have:
                hint = f"give more rows, or -s {key}={max(1, have // 10)}"
                raise SettingError(f"{key} is {getattr(self, key)}, but there are only {have} rows to choose from", hint)

    def _anchors(
        self, x: Tensor, y: Tensor, generator: Generator, trace: list[dict[str, Any]], progress: Step
    ) -> tuple[Tensor, Tensor]:
        """Step 1: matched unit anchors, (runs * clusters, dx) and (runs * clusters, dy)."""
        a, b = [], []
        runs = max(1, round(self.runs * SCALE[self.effort][0]))
        for run in range(runs):
            progress(f"matching cluster centres, run {run + 1} of {runs}", run / runs)
            cx = lloyd(_draw(x, self.rows, generator), self.clusters, generator)
            cy = lloyd(_draw(y, self.rows, generator), self.clusters, generator)
            kx, ky = _gram(cx), _gram(cy)
            permutation, objective = match(kx, ky, self.restarts, generator)
            a.append(cx)
            b.append(cy[permutation.to(y.device)])
            likeness = objective / max(float(kx.norm() * ky.norm()), TINY)
            trace.append({"step": "anchors", "run": run, "objective": likeness})
        return unit(torch.cat(a)), unit(torch.cat(b))

    def _pseudo_pairs(self, x: Tensor, y: Tensor, a: Tensor, b: Tensor, progress: Step) -> Tensor:
        """Step 2: the first map.

        The cosine of two relative representations, x a^T and y b^T, orders target rows as x (a^T b) (y / |y b^T|)^T does, so
        that neither representation nor their n x m similarities are needed.
        """
        keys = torch.cat([rows / (rows @ b.T).norm(dim=1, keepdim=True).clamp_min(TINY) for rows in torch.split(y, 8192)])
        bridge, cross, done = a.T @ b, x.new_zeros(x.shape[1], y.shape[1]), 0
        for rows in torch.split(x, 8192):
            progress("pairing rows by their anchors", done / len(x))
            cross += rows.T @ nearest_mean(rows @ bridge, keys, y, self.neighbours)[0]
            done += len(rows)
        return procrustes(torch.eye(len(cross), device=x.device), cross)

    def _average(
        self, x: Tensor, y: Tensor, weight: Tensor, generator: Generator, trace: list[dict[str, Any]], progress: Step
    ) -> Tensor:
        """Step 3, "Refine-1"."""
        more, larger = SCALE[self.effort]
        iterations = max(1, round(self.iterations * more))
        for iteration in range(iterations):
            progress(f"averaging neighbours, {iteration + 1} of {iterations}", iteration / iterations)
            rows = _draw(x, self.sample * larger, generator)
            means, cosine = nearest_mean(rows @ weight, y, y, self.neighbours)
            weight = torch.lerp(weight, procrustes(rows, means), self.momentum)
            trace.append({"step": "average", "iteration": iteration, "neighbour_cosine": cosine})
        return weight

    def _correct(self, x: Tensor, y: Tensor, weight: Tensor, generator: Generator) -> tuple[Tensor, float]:
        """Step 4, "Refine-2": the map, and the mean cosine of mapped centres to the centres grown from them."""
        cx = lloyd(x, self.correction_clusters, generator)
        mapped = cx @ weight
        cy = lloyd(y, self.correction_clusters, generator, start=mapped)
        consistency = float(cosine_similarity(mapped, cy).mean())
        return torch.lerp(weight, procrustes(cx, cy), self.momentum), consistency


def nearest_mean(
    queries: Float[Tensor, "k d"], keys: Float[Tensor, "m d"], values: Float[Tensor, "m dy"], neighbours: int
) -> tuple[Float[Tensor, "k dy"], float]:
    """Return each query's mean value over its `neighbours` best keys by inner product, and their mean score."""
    means, total = [], 0.0
    for rows in torch.split(queries, max(1, BLOCK // len(keys))):
        best = (unit(rows) @ keys.T).topk(neighbours, dim=1, sorted=False)
        means.append(embedding_bag(best.indices, values, mode="mean"))
        total += float(best.values.mean()) * len(rows)
    return torch.cat(means), total / len(queries)


def lloyd(
    x: Float[Tensor, "n d"], k: int, generator: Generator, *, start: Float[Tensor, "k d"] | None = None, steps: int = 300
) -> Float[Tensor, "k d"]:
    """Return k centroids of Euclidean k-means: greedy k-means++ (Arthur and Vassilvitskii 2007) or `start`, then Lloyd's steps.

    Stops as scikit-learn's KMeans does, by default, when the centroids move less than 1e-4 of the mean variance; an empty
    cluster restarts at the row farthest from its centroid. Same inertia as scikit-learn within 1 %, no dependency, any device.
    """
    # Apart from `geometry.kmeans`, which is spherical: the published method compares centroids of their own length, and unit
    # centres would change the Gram matrices that `match` is given.
    centroids = _spread(x, k, generator) if start is None else start
    enough = 1e-4 * float(x.var(dim=0, correction=0).mean())
    for _ in range(steps):
        labels, far = _assign(x, centroids)
        counts = labels.bincount(minlength=k)
        # Sums over sorted labels: deterministic on every device, which index_add is not.
        bounds = counts.cumsum(0) - counts
        moved = embedding_bag(labels.argsort(stable=True), x, bounds, mode="sum") / counts.clamp_min(1)[:, None]
        empty = (counts == 0).nonzero().squeeze(1)
        if len(empty):
            moved[empty] = x[far.topk(len(empty)).indices]
        shift = float((moved - centroids).square().sum())
        centroids = moved
        if shift <= enough:
            break
    return centroids


def match(
    a: Float[Tensor, "c c"], b: Float[Tensor, "c c"], restarts: int, generator: Generator
) -> tuple[Int[Tensor, " c"], float]:
    """Return the permutation p that maximises sum_ij a[i, j] b[p(i), p(j)] for symmetric a and b, and that sum.

    Best-improvement 2-swap from `restarts` random permutations, all at once. One product Q = a b' per step, b' = b permuted,
    prices every swap of r and s: (a_rr - a_ss)(b'_ss - b'_rr) + 2 sum over other k of (a_rk - a_sk)(b'_sk - b'_rk).
    """
    c = len(a)
    p = torch.stack([torch.randperm(c, generator=generator) for _ in range(restarts)])
    every = torch.arange(restarts)
    da = a.diagonal()
    worth = 1e-9 * float(a.norm() * b.norm())
    while True:
        bp = b[p[:, :, None], p[:, None, :]]
        q, db = a @ bp, bp.diagonal(dim1=1, dim2=2)
        dq = q.diagonal(dim1=1, dim2=2)
        others = q + q.mT - dq[:, :, None] - dq[:, None, :]
        others -= (da[:, None] - a) * (bp - db[:, :, None]) + (a - da[None, :]) * (db[:, None, :] - bp)
        gain = (da[:, None] - da[None, :]) * (db[:, None, :] - db[:, :, None]) + 2 * others
        best, where = gain.flatten(1).max(dim=1)
        going = best > worth
        if not going.any():
            break
        i, r, s = every[going], where[going] // c, where[going] % c
        p[i, r], p[i, s] = p[i, s], p[i, r]
    objective = dq.sum(1)
    winner = int(objective.argmax())
    return p[winner], float(objective[winner])


def _draw(x: Tensor, rows: int, generator: Generator) -> Tensor:
    return x[torch.randperm(len(x), generator=generator)[:rows].to(x.device)]


def _gram(centroids: Tensor) -> Tensor:
    """Return the doubly-centred Gram matrix of the centroids, in float64 on the CPU."""
    centred = centroids.cpu().double()
    centred = centred - centred.mean(dim=0)
    return centred @ centred.T


def _assign(x: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Return each row's nearest centroid, and the squared distance to it."""
    half = centroids.square().sum(1) / 2
    best = [(rows @ centroids.T - half).max(dim=1) for rows in torch.split(x, max(1, BLOCK // len(centroids)))]
    far = x.square().sum(1) - 2 * torch.cat([b.values for b in best])
    return torch.cat([b.indices for b in best]), far


def _spread(x: Tensor, k: int, generator: Generator) -> Tensor:
    """Start by greedy k-means++: of 2 + ln k rows drawn by squared distance, keep the one that leaves the least."""
    norms, trials = x.square().sum(1), 2 + int(math.log(k))
    chosen = [int(torch.randint(len(x), (1,), generator=generator))]
    left = (norms + norms[chosen[0]] - 2 * (x @ x[chosen[0]])).clamp_min(0)
    for _ in range(1, k):
        tried = torch.multinomial(left.cpu() + TINY, trials, replacement=True, generator=generator).to(x.device)
        each = torch.minimum(left, (norms + norms[tried, None] - 2 * (x[tried] @ x.T)).clamp_min(0))
        best = int(each.sum(1).argmin())
        left = each[best]
        chosen.append(int(tried[best]))
    return x[chosen]
