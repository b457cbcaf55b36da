"""controls — what no learning gets: the floor every other aligner is compared with.

In    x (n, dx), y (m, dy)  float32, centred, rows of unit length
Out   Alignment             a Linear map that has learned nothing
Uses  aligners.maps
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from crossvec.aligners import Alignment, Step, silent
from crossvec.aligners.maps import Linear


@dataclass(frozen=True)
class Identity:
    """Keep the coordinates: zero-pad or cut to the target's dims ("naive" in arXiv:2505.12540). `seed` changes nothing."""

    name: ClassVar[str] = "identity"
    needs_pairs: ClassVar[bool] = False

    seed: int = 0

    def fit(
        self,
        x: Float[Tensor, "n dx"],
        y: Float[Tensor, "m dy"],
        *,
        pairs: Int[Tensor, "p 2"] | None = None,
        progress: Step = silent,
    ) -> Alignment:
        """Return the rectangular identity; rows and `pairs` are not looked at."""
        progress("aligned", 1.0)
        weight = torch.eye(x.shape[1], y.shape[1], dtype=x.dtype, device=x.device)
        return Alignment(Linear.of(weight), Linear.of(weight.T.contiguous()))


@dataclass(frozen=True)
class Mean:
    """Send every row to the other side's mean, which is the zero vector in its centred frame. `seed` changes nothing.

    It has no direction: whoever places rows puts a zero vector at the mean itself.
    """

    name: ClassVar[str] = "mean"
    needs_pairs: ClassVar[bool] = False

    seed: int = 0

    def fit(
        self,
        x: Float[Tensor, "n dx"],
        y: Float[Tensor, "m dy"],
        *,
        pairs: Int[Tensor, "p 2"] | None = None,
        progress: Step = silent,
    ) -> Alignment:
        """Return the zero map; rows and `pairs` are not looked at."""
        progress("aligned", 1.0)
        return Alignment(
            Linear.of(x.new_zeros(x.shape[1], y.shape[1])),
            Linear.of(y.new_zeros(y.shape[1], x.shape[1])),
        )
