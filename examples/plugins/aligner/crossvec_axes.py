"""crossvec_axes — carry the first principal axis to the first, the second to the second, and so on.

In    x (n, dx), y (m, dy)  float32, centred, rows of unit length
Out   Alignment             a Linear map each way
Uses  crossvec.aligners

The oldest idea there is, and a weak one: axes of nearly the same spread swap places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from crossvec.aligners import Alignment, Linear, Step
from crossvec.aligners.limits import check


@dataclass(frozen=True)
class Axes:
    """Match principal axes by their order; each points to the side on which its third moment is positive."""

    name: ClassVar[str] = "axes"
    needs_pairs: ClassVar[bool] = False

    most: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        check(self)

    def fit(
        self,
        x: Float[Tensor, "n dx"],
        y: Float[Tensor, "m dy"],
        *,
        pairs: Int[Tensor, "p 2"] | None = None,
        progress: Step = lambda doing, fraction: None,
    ) -> Alignment:
        """Return the map that carries the leading axes of x to those of y; `pairs` are not looked at."""
        progress("finding axes", 0.0)
        axes = min(self.most, x.shape[1], y.shape[1])
        weight = self._axes(x, axes) @ self._axes(y, axes).T
        progress("aligned", 1.0)
        return Alignment(Linear.of(weight), Linear.of(weight.T.contiguous()), {"axes": float(axes)})

    def _axes(self, rows: Float[Tensor, "n d"], axes: int) -> Float[Tensor, "d k"]:
        _, vectors = torch.linalg.eigh(rows.T @ rows / len(rows))
        leading = vectors.flip(1)[:, :axes]
        skewed = ((rows @ leading) ** 3).mean(0)
        return leading * torch.where(skewed < 0, -1.0, 1.0)
