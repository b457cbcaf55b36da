"""maps — what an aligner learns: a function from centred unit source rows to centred target rows.

In    u (k, dx) float32     rows of a source space, centred and scaled to unit length
Out   v (k, dy) float32     rows in the target's centred frame; only their direction is used
Uses  torch

A map is immutable and made of tensors only, so it can be saved as safetensors and rebuilt from its `kind`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from crossvec.errors import TranslatorError


@runtime_checkable
class Map(Protocol):
    """A learned function between two centred frames."""

    kind: ClassVar[str]

    def __call__(self, u: Float[Tensor, "k dx"]) -> Float[Tensor, "k dy"]:
        """Carry centred unit rows across; the result need not be of unit length."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Return everything needed to rebuild the map, by name."""
        ...

    @classmethod
    def rebuild(cls, tensors: Mapping[str, Tensor]) -> Map:
        """Make the map again from what `tensors` returned."""
        ...


@dataclass(frozen=True, eq=False)
class Linear:
    """v = u W + b, with W (dx, dy) and b (dy,); an orthogonal alignment is a Linear with semi-orthogonal W."""

    weight: Float[Tensor, "dx dy"]
    bias: Float[Tensor, " dy"]
    kind: ClassVar[str] = "linear"

    @classmethod
    def of(cls, weight: Float[Tensor, "dx dy"]) -> Linear:
        """Return the map u W without a bias."""
        return cls(weight, weight.new_zeros(weight.shape[1]))

    def __call__(self, u: Float[Tensor, "k dx"]) -> Float[Tensor, "k dy"]:
        return torch.addmm(self.bias, u, self.weight)

    def tensors(self) -> dict[str, Tensor]:
        return {"weight": self.weight, "bias": self.bias}

    @classmethod
    def rebuild(cls, tensors: Mapping[str, Tensor]) -> Linear:
        return cls(tensors["weight"], tensors["bias"])


@dataclass(frozen=True, eq=False)
class Residual:
    """v = u W + b + silu(u A + a) C: a linear map and one hidden layer beside it (zero-initialised C leaves the linear map)."""

    weight: Float[Tensor, "dx dy"]
    bias: Float[Tensor, " dy"]
    into: Float[Tensor, "dx h"]
    into_bias: Float[Tensor, " h"]
    out: Float[Tensor, "h dy"]
    kind: ClassVar[str] = "residual"

    def __call__(self, u: Float[Tensor, "k dx"]) -> Float[Tensor, "k dy"]:
        hidden = torch.nn.functional.silu(torch.addmm(self.into_bias, u, self.into))
        return torch.addmm(self.bias, u, self.weight) + hidden @ self.out

    def tensors(self) -> dict[str, Tensor]:
        return {
            "weight": self.weight,
            "bias": self.bias,
            "into": self.into,
            "into_bias": self.into_bias,
            "out": self.out,
        }

    @classmethod
    def rebuild(cls, tensors: Mapping[str, Tensor]) -> Residual:
        return cls(*(tensors[name] for name in ("weight", "bias", "into", "into_bias", "out")))


KINDS: dict[str, str] = {
    "linear": "crossvec.aligners.maps:Linear",
    "residual": "crossvec.aligners.maps:Residual",
    "vec2vec": "crossvec.aligners.vec2vec.neural:Neural",
}
"""Maps by kind, imported when one is rebuilt."""


def rebuild(kind: str, tensors: Mapping[str, Tensor]) -> Map:
    """Make a map from its kind and tensors.

    Raises TranslatorError when the kind is unknown or a tensor is missing.
    """
    if kind not in KINDS:
        raise TranslatorError(f"unknown kind of map {kind!r}", f"this version reads {', '.join(KINDS)}: upgrade crossvec")
    module, name = KINDS[kind].split(":")
    made: type[Map] = getattr(import_module(module), name)
    try:
        return made.rebuild(tensors)
    except KeyError as missing:
        raise TranslatorError(f"the translator lacks the tensor {missing}", "save it again, or fit anew") from None
