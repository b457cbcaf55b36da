"""plans — soft assignments between rows of two spaces, and what it takes to imitate one.

In    scores (k, m) between batches x (k, dx) and y (m, dy), or rows carried there and back that give them
Out   means(), voted()      the mean rows that Sinkhorn's plan (arXiv 1306.0895) assigns to each row, both ways
      deviations()          how far cosines spread, which temperatures are told in
      imitation()           the cross entropy of a softmax to a plan (InfoNCE with soft targets, arXiv 1807.03748)
Uses  geometry

The matrices of all pairs are the largest tensors of a step, so none is made that a product of narrow ones replaces: a student
needs the mean row of a plan and not the plan, and deviations follow from products of the sides.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from crossvec.geometry import widened

BALANCING = 3  # Sinkhorn rounds; 10 change nothing that seeds do not

FLOOR = 1e-30
"""Below this a row or column of a kernel is as good as empty."""

LEAST = 1e-3
"""The least deviation that is divided by: a batch of copies has none."""

AT_ONCE = 2**22
"""Pairs of rows whose products a softmax is taken of at once: larger matrices come in fresh pages each time."""


class Deviations(NamedTuple):
    """Standard deviations of the cosines there and back, and of their sum once each is divided by its own.

    Tensors, so that a device need not stop to tell them; of float64 where it has one, so that products of them stay exact.
    """

    there: Float[Tensor, ""]
    back: Float[Tensor, ""]
    both: Float[Tensor, ""]


def deviations(
    there: Float[Tensor, "k dy"], back: Float[Tensor, "m dx"], x: Float[Tensor, "k dx"], y: Float[Tensor, "m dy"]
) -> Deviations:
    """Return those of the cosines of rows carried `there` with y, and of x with rows carried `back`."""
    wide = [covariance(*ends, *ends).sqrt().clamp_min(LEAST) for ends in ((there, y), (x, back))]
    correlation = covariance(there, y, x, back) / (wide[0] * wide[1])
    both = (2 + 2 * correlation).clamp_min(0).sqrt().clamp_min(LEAST)
    exact = torch.float32 if there.device.type == "mps" else torch.float64
    return Deviations(wide[0].to(exact), wide[1].to(exact), both.to(exact))


def covariance(
    a: Float[Tensor, "k d"], b: Float[Tensor, "m d"], c: Float[Tensor, "k e"], d: Float[Tensor, "m e"]
) -> Float[Tensor, ""]:
    """Return the covariance of all a_i b_j with all c_i d_j, without making any of them."""
    count = len(a) * len(b)
    both = (widened(a.T @ c) * widened(b.T @ d)).sum() / count
    ends = (a.sum(0) * b.sum(0)).sum() * (c.sum(0) * d.sum(0)).sum()
    return (both - ends / count**2).clamp_min(0) if a is c else both - ends / count**2


def voted(
    there: Float[Tensor, "k dy"],
    back: Float[Tensor, "m dx"],
    x: Float[Tensor, "k dx"],
    y: Float[Tensor, "m dy"],
    wide: Deviations,
    warmth: float,
    fast: torch.dtype,
) -> tuple[Float[Tensor, "k dy"], Float[Tensor, "m dx"]]:
    """Return `means` under the sum of both directions' cosines, each in its deviations: a product of rows laid side by side."""
    sharp = wide.both * warmth
    left = torch.cat([there / (wide.there * sharp), x / (wide.back * sharp)], 1)
    return means(products(left, torch.cat([y, back], 1), fast), x, y, fast)


def means(
    scores: Float[Tensor, "n m"], x: Float[Tensor, "n dx"], y: Float[Tensor, "m dy"], fast: torch.dtype = torch.float32
) -> tuple[Float[Tensor, "n dy"], Float[Tensor, "m dx"]]:
    """Return the mean rows that a plan assigns: of y to each of x, and of x to each of y. Overwrites the scores.

    Sinkhorn's rounds balance exp(scores) until rows sum to 1 and columns nearly to n / m; one more half round makes the plan of
    the way back. It is kept as a kernel with a factor for each row and column, and only the factors are balanced: the kernel is
    read and not written again. Its largest number in each row and each column is 1, so that none is lost however far apart the
    scores are. `fast` is the type of the products with x and y.
    """
    scores.sub_(scores.amax(0))
    shift = scores.amax(1)
    kernel = scores.sub_(shift[:, None]).exp_()
    rows = shift.exp()
    for _ in range(BALANCING):
        columns = (kernel.T @ rows).clamp_min(FLOOR).reciprocal()
        rows = (kernel @ columns).clamp_min(FLOOR).reciprocal()
    taken = (kernel.T @ rows).clamp_min(FLOOR)
    narrow = kernel.to(fast)
    there = (narrow @ (columns[:, None] * y).to(fast)).float() * rows[:, None]
    return there, (narrow.T @ (rows[:, None] * x).to(fast)).float() / taken[:, None]


def imitation(
    mapped: Float[Tensor, "k d"],
    rows: Float[Tensor, "m d"],
    meant: Float[Tensor, "k d"],
    temperature: float | Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Return the mean cross entropy of softmax(mapped rows^T / temperature) to a plan, but for what `mapped` does not change.

    As products are linear in the rows, of the plan it needs the mean only, which is `meant`.
    """
    sharp = mapped / temperature
    found: Tensor = LogSumExp.apply(sharp, rows)  # type: ignore[no-untyped-call]
    return found.mean() - (sharp * meant).sum(1).mean()


def products(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], fast: torch.dtype) -> Float[Tensor, "n m"]:
    """Return all inner products in float32 or wider, computed in the type `fast`."""
    return widened(a.to(fast) @ b.to(fast).T)


class LogSumExp(Function):
    """log sum_j exp(<a_i, b_j>) of each row of a (k, d) over rows of b (m, d), which get no gradient.

    Its gradient is the mean of b under the softmax, which the forward pass makes at once: the products, the largest tensor of a
    step, are then read by one softmax, in the type they come in, and nothing of their size is kept or gone through again.
    """

    @staticmethod
    def forward(ctx: Any, a: Float[Tensor, "k d"], b: Float[Tensor, "m d"]) -> Float[Tensor, " k"]:
        """Return the sums, in float32 or wider."""
        sums, meant = [], []
        for part in torch.split(a, max(1, AT_ONCE // len(b))):
            scores = part @ b.T
            with torch.autocast(a.device.type, enabled=False):  # which would widen the scores first
                chances = scores.softmax(1)
            meant.append(widened(chances @ b))
            sums.append(widened(scores.amax(1)) - widened(chances.amax(1)).log())
        ctx.save_for_backward(torch.cat(meant))
        return torch.cat(sums)

    @staticmethod
    def backward(ctx: Any, *gradients: Float[Tensor, " k"]) -> tuple[Float[Tensor, "k d"], None]:
        """Return the gradient of `a`."""
        (mean,) = ctx.saved_tensors
        return gradients[0][:, None] * mean, None
