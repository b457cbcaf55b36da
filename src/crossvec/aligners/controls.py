"""controls — what no learning gets: the floor every other aligner is compared with.

In    x (n, dx), y (m, dy)  float32, centred, rows of unit length
Out   Alignment             a Linear map that has learned nothing
Uses  aligners.maps
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from crossvec.aligners import Alignment, Step, silent
from crossvec.aligners.limits import check
from crossvec.aligners.maps import Linear


@dataclass(frozen=True)
class Control(ABC):
    """What controls do alike: the same kind of weight each way, from the shapes alone. `seed` changes nothing."""

    name: ClassVar[str]
    needs_pairs: ClassVar[bool] = False

    seed: int = 0

    def __post_init__(self) -> None:
        check(self)

    def fit(
        self,
        x: Float[Tensor, "n dx"],
        y: Float[Tensor, "m dy"],
        *,
        pairs: Int[Tensor, "p 2"] | None = None,
        progress: Step = silent,
    ) -> Alignment:
        """Return maps that have learned nothing; rows and `pairs` are not looked at."""
        progress("aligned", 1.0)
        weight = self._weight(x.shape[1], y.shape[1]).to(x)
        return Alignment(Linear.of(weight), Linear.of(weight.T.contiguous()))

    @abstractmethod
    def _weight(self, dx: int, dy: int) -> Float[Tensor, "dx dy"]:
        """Return the forward map's weight."""


@dataclass(frozen=True)
class Identity(Control):
    """Keep the coordinates: zero-pad or cut to the target's dims ("naive" in arXiv:2505.12540)."""

    name: ClassVar[str] = "identity"

    def _weight(self, dx: int, dy: int) -> Float[Tensor, "dx dy"]:
        return torch.eye(dx, dy)


@dataclass(frozen=True)
class Mean(Control):
    """Send every row to the other side's mean, which is the zero vector in its centred frame.

    It has no direction: whoever places rows puts a zero vector at the mean itself.
    """

    name: ClassVar[str] = "mean"

    def _weight(self, dx: int, dy: int) -> Float[Tensor, "dx dy"]:
        return torch.zeros(dx, dy)
