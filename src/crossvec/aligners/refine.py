"""refine — improve a map by the neighbours it finds, and estimate the cross-covariance that a finish is made from.

In    zx (n, dx), zy (m, dy)   unit rows on their own principal axes, and a map (dx, dy) that is roughly right
Out   a cross-covariance (dx, dy) of pseudo-pairs; its polar factor is the refined rotation
Uses  geometry

Every row is paired with the mean of its nearest rows across, in both directions (iterative closest points, as mini-vec2vec's
first refinement, arXiv 2510.02348, but symmetric and over all rows). Choosing y because it lies near x W tilts the pairs toward
W itself: to first order the cross-covariance gains a multiple of C_x W C_y. That share confirms whatever the map says and
freezes weak axes where they are, so a part of it is taken out in each round.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from crossvec.aligners import Step
from crossvec.geometry import nearest, polar, unit

DEBIAS = 0.45
"""Share of the self-confirming part that is taken out: the response to small random turns puts it at .45 to .5 of the whole."""


def refine(
    zx: Float[Tensor, "n dx"],
    zy: Float[Tensor, "m dy"],
    w: Float[Tensor, "dx dy"],
    *,
    rounds: int,
    neighbours: int,
    progress: Step,
) -> tuple[Float[Tensor, "dx dy"], Float[Tensor, "dx dy"]]:
    """Return the refined semi-orthogonal map and the cross-covariance of its pseudo-pairs."""
    spread_x, spread_y = zx.square().mean(0), zy.square().mean(0)
    c = w
    for number in range(rounds):
        progress("refining by neighbours", number / rounds)
        c = neighbour_covariance(zx, zy, w, neighbours)
        tilt = spread_x[:, None] * w * spread_y
        share = (c * tilt).sum() / tilt.square().sum().clamp_min(1e-30)
        w = polar(c - DEBIAS * share * tilt)
    progress("refining by neighbours", 1.0)
    return w, c


def neighbour_covariance(
    zx: Float[Tensor, "n dx"], zy: Float[Tensor, "m dy"], w: Float[Tensor, "dx dy"], neighbours: int
) -> Float[Tensor, "dx dy"]:
    """Return E[x mean(y near xW)^T] + E[mean(x near y) y^T], each mean over the nearest rows across."""
    across = unit(zx @ w)
    to_y = _mean_of(zy, nearest(across, zy, neighbours)[1])
    to_x = _mean_of(zx, nearest(zy, across, neighbours)[1])
    return zx.T @ to_y / len(zx) + to_x.T @ zy / len(zy)


def _mean_of(rows: Float[Tensor, "m d"], index: Tensor) -> Float[Tensor, "n d"]:
    total = torch.zeros(len(index), rows.shape[1], device=rows.device)
    for column in range(index.shape[1]):  # one column at a time: a gather of all would hold n k d numbers
        total += rows[index[:, column]]
    return total / index.shape[1]
