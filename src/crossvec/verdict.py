"""verdict — did this alignment succeed? Answered without pairs.

In    x (n, dx), y (m, dy)  float32 centred unit rows, and the Alignment learned from them
Out   Verdict               aligned, uncertain or failed; a calibrated probability; the evidence
Uses  aligners, geometry

Each piece of evidence compares the translated cloud with the target cloud in a way that pairs are not needed for. `thirds` (do
their third moments agree, on many axes and on few?) is close to what `moments` maximises, so a wrong map has some of it too;
`reliability` (does the target agree with itself that far?) tells how much of it can be had. `local` (do matched clusters have
the same shape inside?) and `masses` (do they hold the same share of rows?) are maximised by no built-in aligner. The
probability is a logistic regression on them, fitted by benchmarks/calibrate.py on good and bad fits of known outcome.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from crossvec.aligners import Alignment
from crossvec.geometry import TINY, kmeans, nearest, principal_axes, third_moment, unit

__all__ = ["Verdict", "evidence", "judge"]

ROWS = 8_000  # rows of each side that are looked at
AXES, FEW_AXES = 100, 32
ROWS_PER_CLUSTER = 60
MOST_CLUSTERS = 100
SURE, LOST = 0.9, 0.25
"""At or above SURE the status is aligned, below LOST failed."""

WEIGHTS = {"thirds": 45.0, "first_thirds": 6.0, "reliability": 8.0, "local": 8.0, "masses": 4.0}
BIAS = -40.6


@dataclass(frozen=True)
class Verdict:
    """The label-free answer to "did this alignment succeed?".

    `probability` that top-1 is above half of what paired data would reach; `evidence` the numbers it was read from.
    """

    status: Literal["aligned", "uncertain", "failed"]
    probability: float
    evidence: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return asdict(self)


def judge(x: Float[Tensor, "n dx"], y: Float[Tensor, "m dy"], alignment: Alignment, *, seed: int = 0) -> Verdict:
    """Return the verdict on an alignment of two centred clouds."""
    found = evidence(x, y, alignment, seed=seed)
    logit = BIAS + sum(weight * found[name] for name, weight in WEIGHTS.items())
    probability = 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, logit))))
    if not found["usable"]:
        probability = 0.0
    status: Literal["aligned", "uncertain", "failed"] = "uncertain"
    if probability >= SURE:
        status = "aligned"
    elif probability < LOST:
        status = "failed"
    return Verdict(status, probability, {**found, **{k: float(v) for k, v in alignment.evidence.items()}})


def evidence(x: Float[Tensor, "n dx"], y: Float[Tensor, "m dy"], alignment: Alignment, *, seed: int = 0) -> dict[str, float]:
    """Return what the verdict is read from.

    `thirds`, `first_thirds`: cosine between the third moments of the translated and the target rows on the target's first
    100 and 32 axes, each axis divided by the root of its deviation.
    `reliability`: the same on 100 axes between two halves of the target.
    `local`: cosine between how the covariances inside matched clusters differ from their mean.
    `masses`: correlation of the shares of rows that matched clusters hold.
    `size`: log10 of the smaller number of rows.
    `usable`: 1, or 0 when the translated rows have no spread or are too few to say anything.
    """
    generator = torch.Generator().manual_seed(seed)
    rows_x, rows_y = _sample(x, generator), _sample(y, generator)
    p = alignment.map(rows_x)
    p = unit(p - p.mean(0))
    size = math.log10(max(min(len(x), len(y)), 1))
    nothing = {**dict.fromkeys(WEIGHTS, 0.0), "size": size, "usable": 0.0}
    if min(len(p), len(rows_y)) < 2 * ROWS_PER_CLUSTER or rows_y.shape[1] < 3 or not bool((p.var(0) > TINY).any()):
        return nothing
    axes = principal_axes(rows_y)[0][:, :AXES]
    p_axes, y_axes = p @ axes, rows_y @ axes
    scale = y_axes.square().mean(0).clamp_min(TINY) ** 0.25
    third_p = third_moment(p_axes / scale)
    halves = third_moment(y_axes[::2] / scale), third_moment(y_axes[1::2] / scale)
    third_y = (halves[0] + halves[1]) / 2
    few = slice(0, FEW_AXES)
    clusters = min(MOST_CLUSTERS, min(len(p), len(rows_y)) // ROWS_PER_CLUSTER)
    in_y, centres = kmeans(rows_y, clusters, generator)
    in_p = nearest(p, centres, 1)[1][:, 0]
    return {
        "thirds": _cosine(third_p, third_y),
        "first_thirds": _cosine(third_p[few, few, few], third_y[few, few, few]),
        "reliability": _cosine(*halves),
        "local": _shapes(p_axes[:, few], in_p, y_axes[:, few], in_y, clusters),
        "masses": _masses(in_p, in_y, clusters),
        "size": size,
        "usable": 1.0,
    }


def _shapes(p: Tensor, in_p: Tensor, y: Tensor, in_y: Tensor, clusters: int) -> float:
    """Return the cosine between the two families of cluster covariances, each freed of its mean over the clusters."""
    few = 8
    shapes_p, shapes_y, weights = [], [], []
    for cluster in range(clusters):
        a, b = p[in_p == cluster], y[in_y == cluster]
        if min(len(a), len(b)) >= few:
            shapes_p.append(_covariance(a))
            shapes_y.append(_covariance(b))
            weights.append(min(len(a), len(b)))
    if len(weights) < 2:
        return 0.0
    w = torch.tensor(weights, dtype=p.dtype, device=p.device)[:, None, None]
    left, right = torch.stack(shapes_p), torch.stack(shapes_y)
    left, right = left - (w * left).sum(0) / w.sum(), right - (w * right).sum(0) / w.sum()
    return _cosine(w.sqrt() * left, w.sqrt() * right)


def _masses(in_p: Tensor, in_y: Tensor, clusters: int) -> float:
    shares = [torch.bincount(index, minlength=clusters).float().sqrt() for index in (in_p, in_y)]
    a, b = (share - share.mean() for share in shares)
    return _cosine(a, b)


def _covariance(rows: Tensor) -> Tensor:
    centred = rows - rows.mean(0)
    return centred.T @ centred / len(rows)


def _cosine(a: Tensor, b: Tensor) -> float:
    return float((a * b).sum() / (a.norm() * b.norm()).clamp_min(TINY**2))


def _sample(rows: Tensor, generator: torch.Generator) -> Tensor:
    return rows[torch.randperm(len(rows), generator=generator)[:ROWS].to(rows.device)]
