"""refine — improve a map by the neighbours it finds.

In    zx (n, dx), zy (m, dy)   unit rows on their own principal axes, and a map (dx, dy) that is roughly right
Out   a cross-covariance (dx, dy) of pseudo-pairs, and from it the map that a `Finish` describes
Uses  neighbours, geometry

Every row is paired with the mean of its nearest rows across, in both directions (iterative closest points, as mini-vec2vec's
first refinement, arXiv 2510.02348, but symmetric, over all rows, and weighted as CSLS weighs: arXiv 1710.04087). Choosing y
because it lies near x W tilts the pairs toward W itself: to first order the cross-covariance gains a multiple of C_x W C_y.
That share confirms whatever the map says and freezes weak axes where they are, so a part of it is taken out in each round.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from crossvec.aligners import Step, part, silent
from crossvec.aligners.neighbours import BLOCK, Carried, Index, neighbours
from crossvec.geometry import polar

DEBIAS = 0.4
"""Share of the self-confirming part that is taken out. The response to small random turns puts the part at .45 to .5 of the
whole; taking out .6 and more makes the rounds diverge on real encoders."""

SHARPNESS = 10.0
"""Weight of a neighbour is exp(SHARPNESS x CSLS/2). 20 gains a little more in two rounds and diverges after four."""

RIDGE = 1e-3
"""Added to the variances, relative to their mean, before they are divided by."""


class Finish(NamedTuple):
    """How a map is made from a cross-covariance C = U S V^T: C_x^-source polar(C_x^-source C C_y^-target, power) C_y^target.

    With source = target = 1/2 it is canonical correlation analysis coloured like the target, with power = 1 there the ridge
    regression; with all 0 it is Procrustes.
    """

    source: float
    target: float
    power: float


ORTHOGONAL = Finish(0.0, 0.0, 0.0)
RANKING = Finish(0.25, 0.1, 0.0)
"""Finds the right row more often than the rotation does: axes that many rows share count less."""


def refine(
    zx: Float[Tensor, "n dx"],
    zy: Float[Tensor, "m dy"],
    w: Float[Tensor, "dx dy"],
    *,
    rounds: int,
    k: int,
    index: Index = "auto",
    progress: Step,
) -> Float[Tensor, "dx dy"]:
    """Return the cross-covariance of the pseudo-pairs after some rounds, freed of its self-confirming part.

    Every row is paired with the mean of k rows; `index` says how those are found (see `aligners.neighbours`).
    """
    spread_x, spread_y = spread(zx), spread(zy)
    matching, c = w, w
    for number in range(rounds):
        c = neighbour_covariance(zx, zy, matching, k, index=index, progress=partial(_nth, progress, number, rounds))
        tilt = spread_x[:, None] * w * spread_y
        c = c - DEBIAS * (c * tilt).sum() / tilt.square().sum().clamp_min(1e-30) * tilt
        w, matching = polar(c), finish(c, spread_x, spread_y, RANKING)
    progress("refining by neighbours", 1.0)
    return c


def _nth(progress: Step, number: int, rounds: int, doing: str, done: float) -> None:
    progress(f"refining: {doing}", (number + done) / rounds)


def finish(
    c: Float[Tensor, "dx dy"], spread_x: Float[Tensor, " dx"], spread_y: Float[Tensor, " dy"], how: Finish
) -> Float[Tensor, "dx dy"]:
    """Return the map between principal axes of the given variances."""
    x, y = spread_x**-how.source, spread_y**how.target
    return x[:, None] * polar(x[:, None] * c / y, how.power) * y


def spread(z: Float[Tensor, "n d"]) -> Float[Tensor, " d"]:
    """Return the variance along each axis, kept away from 0."""
    variance = z.square().mean(0)
    return variance + RIDGE * variance.mean()


def neighbour_covariance(
    zx: Float[Tensor, "n dx"],
    zy: Float[Tensor, "m dy"],
    w: Float[Tensor, "dx dy"],
    k: int,
    *,
    index: Index = "auto",
    progress: Step = silent,
) -> Float[Tensor, "dx dy"]:
    """Return E[x y'^T] + E[x' y^T], where y' is the weighted mean of the k rows near x w, and x' of the rows near y."""
    across, along = Carried(zx, w), Carried(zy)
    near_y, of_y = neighbours(across, along, k, index=index, progress=part(progress, 0.0, 0.5))
    near_x, of_x = neighbours(along, across, k, index=index, progress=part(progress, 0.5, 1.0))
    radius_x, radius_y = near_y.mean(1), near_x.mean(1)
    weight_y = torch.exp(SHARPNESS * (near_y - (radius_x[:, None] + radius_y[of_y]) / 2))
    weight_x = torch.exp(SHARPNESS * (near_x - (radius_y[:, None] + radius_x[of_x]) / 2))
    return _pooled(zx, zy, of_y, weight_y) / weight_y.sum() + _pooled(zy, zx, of_x, weight_x).T / weight_x.sum()


def _pooled(
    rows: Float[Tensor, "n d"], others: Float[Tensor, "m e"], index: Int[Tensor, "n k"], weights: Float[Tensor, "n k"]
) -> Float[Tensor, "d e"]:
    """Return the sum of row (x) other, each row with the weighted sum of its neighbours."""
    whole = rows.new_zeros(rows.shape[1], others.shape[1])
    # By blocks and one column at a time: a gather of all would hold n k e numbers.
    for block, near, weight in zip(*(torch.split(each, BLOCK) for each in (rows, index, weights)), strict=True):
        total = sum(weight[:, column, None] * others[near[:, column]] for column in range(near.shape[1]))
        whole += block.T @ total
    return whole
