"""verdict — did this alignment succeed? Answered without pairs.

In    x (n, dx), y (m, dy)  float32 centred unit rows, and the Alignment learned from them
Out   Verdict               aligned, uncertain or failed; a calibrated probability; the evidence
Uses  aligners, geometry

Each piece of evidence looks at the source, turned by the rotation that is nearest to the map, and at the target, in a way that
pairs are not needed for. The rotation, because final maps that stretch axes as retrieval likes it would each need a calibration
of their own; distinct rows, because copies look like sure knowledge of a shape and are none. What decides is `local`, which no
aligner maximises: do clusters of the target hold rows of the same shape from either side? Few rows blur it, so it is read
against what two halves of the target have of it. `thirds` is what `moments` maximises, so wrong maps have some of it too;
`reliability`, the same between two halves of the target, tells how much of it sampling lets anybody have, and with it how
sharp a map can be at all. The probability is logistic in the three, by regression over runs of known outcome, good, bad and
unrelated (benchmarks/calibrate.py; results/verdict/fit.json tells how it does on directions, and on sizes, held out).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from crossvec.aligners import Alignment, Status
from crossvec.aligners.objective import Moments
from crossvec.aligners.refine import RIDGE
from crossvec.aligners.search import SEARCH_AXES
from crossvec.geometry import TINY, distinct, kmeans, nearest, polar, polar_batch, principal_axes, third_moment, unit

__all__ = ["Verdict", "evidence", "judge", "probability", "readings"]

ROWS = 12_000  # rows of each side that are looked at
FEW_AXES = 32
DAMPING = 0.5  # what `moments` divides out of its axes by default
ROWS_PER_CLUSTER = 60
MOST_CLUSTERS = 100
FEWEST_AXES = 8  # in fewer dimensions two shapes are alike too easily to be sure of anything
CHANCE_DRAWS, CHANCE_STARTS, CHANCE_STEPS = 6, 16, 60
HALVINGS = 4  # of the target at random: one alone is off by some 3 %
FAINT = 0.15  # shapes that agree less with themselves are noise, and say nothing of an agreement with others
ENOUGH = 0.65  # reliability that real encoders come to with all rows; more is a sign of a cloud of another kind
SURE, LOST = 0.8, 0.25
"""At or above SURE the status is aligned, below LOST failed."""

EVIDENCE = ("thirds", "first_thirds", "reliability", "local", "local_reliability", "chance", "size", "usable")
WEIGHTS = {"shapes": 19.7, "reliability": 17.9, "thirds": 13.7}
BIAS = -27.7


@dataclass(frozen=True)
class Verdict:
    """The label-free answer to "did this alignment succeed?".

    `probability`: how sure it is that top-1 is above half of what paired data would reach;
    `evidence`: the numbers it was read from.
    """

    status: Status
    probability: float
    evidence: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return asdict(self)


def judge(x: Float[Tensor, "n dx"], y: Float[Tensor, "m dy"], alignment: Alignment, *, seed: int = 0) -> Verdict:
    """Return the verdict on an alignment of two centred clouds."""
    found = evidence(x, y, alignment, seed=seed)
    sure = probability(found)
    if min(x.shape[1], y.shape[1]) < FEWEST_AXES:
        sure = min(sure, 0.5)
    status: Status = "uncertain"
    if sure >= SURE:
        status = "aligned"
    elif sure < LOST:
        status = "failed"
    return Verdict(status, sure, {**found, **{k: float(v) for k, v in alignment.evidence.items()}})


def probability(found: Mapping[str, float]) -> float:
    """Return the probability that top-1 is above half of what paired data would reach, given the evidence."""
    if not found["usable"] or not all(map(math.isfinite, found.values())):
        return 0.0
    seen = readings(found)
    logit = BIAS + sum(weight * seen[name] for name, weight in WEIGHTS.items())
    # Half the way from what chance reaches to 1 is what the third moments of an alignment have at least.
    beyond = 2 * (found["first_thirds"] - found["chance"]) / max(1 - found["chance"], TINY)
    return min(max(beyond, 0.0), 1.0) / (1.0 + math.exp(-max(-60.0, min(60.0, logit))))


def readings(found: Mapping[str, float]) -> dict[str, float]:
    """Return what WEIGHTS weigh, given the evidence.

    `shapes`: `local` over its attenuation by sampling, at most 1, and 0 where that leaves noise: halves that agree by r have
    2r / (1 + r) of the shapes of the whole (Spearman 1910, Brown 1910).
    """
    half = max(found["local_reliability"], 0.0)
    whole = 2 * half / (1 + half)
    return {
        "shapes": min(found["local"] / whole, 1.0) if whole > FAINT else 0.0,
        "reliability": min(max(found["reliability"], 0.0), ENOUGH),
        "thirds": found["thirds"],
    }


def evidence(x: Float[Tensor, "n dx"], y: Float[Tensor, "m dy"], alignment: Alignment, *, seed: int = 0) -> dict[str, float]:
    """Return what the verdict is read from.

    `thirds`: agreement of the third moments on up to 128 axes, each divided by the root of its deviation; the objective that
    `moments` maximises, here for any aligner's map.
    `first_thirds`: cosine between the third moments of the turned rows and the target on its first 32 axes.
    `reliability`: the agreement on 128 axes between two halves of the target: what sampling allows.
    `local`: cosine between how the covariances inside matched clusters differ from their mean.
    `local_reliability`: the same between two halves of the target.
    `chance`: the most that rotations make of third moments with nothing in common, on the axes of `first_thirds`: in few
    dimensions a search carries anything to anything.
    `size`: log10 of the smaller number of rows.
    `usable`: 1, or 0 when the translated rows have no spread or are no numbers, or when too few of the rows are distinct to say
    anything.
    """
    generator = torch.Generator().manual_seed(seed)
    rows_x, rows_y = _sample(x, generator), _sample(y, generator)
    mapped = alignment.map(rows_x)
    size = math.log10(max(min(len(x), len(y)), 1))
    nothing = {**dict.fromkeys(EVIDENCE, 0.0), "size": size}
    few = min(len(rows_x), len(rows_y)) < 2 * ROWS_PER_CLUSTER or rows_y.shape[1] < 3
    if few or not bool(mapped.isfinite().all() and (mapped.var(0) > TINY).any()):
        return nothing
    p = rows_x @ _rotation(rows_x, unit(mapped - mapped.mean(0)))
    p = unit(p - p.mean(0))
    axes_x, axes_y = principal_axes(rows_x)[0], principal_axes(rows_y)[0]
    p_axes, y_axes = p @ axes_y[:, :FEW_AXES], rows_y @ axes_y[:, :FEW_AXES]
    clusters = min(MOST_CLUSTERS, min(len(p), len(rows_y)) // ROWS_PER_CLUSTER)
    in_y, centres = kmeans(rows_y, clusters, generator)
    in_p = nearest(p, centres, 1)[1][:, 0]
    thirds, reliability = _thirds(rows_x @ axes_x, rows_y @ axes_y, p @ axes_y)
    return {
        "thirds": thirds,
        "first_thirds": _cosine(third_moment(p_axes), third_moment(y_axes)),
        "reliability": reliability,
        "local": _shapes(p_axes, in_p, y_axes, in_y, clusters),
        "local_reliability": _halves(y_axes, in_y, clusters, generator),
        "chance": _chance(p_axes, y_axes, generator),
        "size": size,
        "usable": 1.0,
    }


def _rotation(x: Tensor, p: Tensor) -> Tensor:
    """Return the semi-orthogonal map nearest to the regression of p on x, which is the map itself where that is linear."""
    gram = x.T @ x
    gram += RIDGE * gram.trace() / len(gram) * torch.eye(len(gram)).to(gram)
    return polar(torch.linalg.solve(gram, x.T @ p))


def _thirds(zx: Tensor, zy: Tensor, p: Tensor) -> tuple[float, float]:
    """Return the objective of `aligners.search` at the rotation nearest to x -> p, and the target's agreement with itself."""
    kx, ky = min(SEARCH_AXES, zx.shape[1]), min(SEARCH_AXES, zy.shape[1])
    both = Moments.of(zx, zy, kx, ky, DAMPING)
    covariance = zx[:, :kx].T @ p[:, :ky]
    rotation = polar(covariance / both.scale_x[:, None] / both.scale_y)
    half = third_moment(zy[::2, :ky] / both.scale_y)
    return float(both.objectives(rotation)), _cosine(half, 2 * both.ty - half)


def _chance(p: Tensor, y: Tensor, generator: torch.Generator) -> float:
    """Return the highest cosine between the third moments of p and those of y with random signs, over many rotations.

    Signs leave a row's length and the covariance as they are, and take what the third moments say.
    """
    k, highest = y.shape[1], 0.0
    for _ in range(CHANCE_DRAWS):
        signs = torch.randint(0, 2, (len(y), 1), generator=generator).to(y) * 2 - 1
        both = Moments.of(p, y * signs, k, k)
        starts = polar_batch(torch.randn(CHANCE_STARTS, k, k, generator=generator).to(y), 16)
        highest = max(highest, float(both.objectives(both.ascend(starts, CHANCE_STEPS)).max()))
    return highest


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


def _halves(y: Tensor, in_y: Tensor, clusters: int, generator: torch.Generator) -> float:
    """Return `_shapes` between two halves of the target, the mean over some random halvings."""
    seen = []
    for _ in range(HALVINGS):
        order = torch.randperm(len(y), generator=generator).to(y.device)
        one, other = order[: len(y) // 2], order[len(y) // 2 :]
        seen.append(_shapes(y[one], in_y[one], y[other], in_y[other], clusters))
    return sum(seen) / len(seen)


def _covariance(rows: Tensor) -> Tensor:
    centred = rows - rows.mean(0)
    return centred.T @ centred / len(rows)


def _cosine(a: Tensor, b: Tensor) -> float:
    return float((a * b).sum() / (a.norm() * b.norm()).clamp_min(TINY**2))


def _sample(rows: Tensor, generator: torch.Generator) -> Tensor:
    return distinct(rows[torch.randperm(len(rows), generator=generator)[:ROWS].to(rows.device)])
