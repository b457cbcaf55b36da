"""neural — one direction of a trained network as a map: x -> B_y(T(A_x(x))), scaled to unit length.

In    u (k, dx) float32     rows of a source space, centred and of unit length
Out   v (k, dy) float32     rows of a target space, of unit length
Uses  aligners.vec2vec.network
Paper arXiv:2505.12540      section 3.1: F_xy
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from crossvec.aligners.vec2vec.network import Network, Norm, ResidualMLP, Shape, Shortcut
from crossvec.errors import TranslatorError
from crossvec.geometry import unit

ROWS = 8192
"""Rows that pass at once: 8,192 x 1,024 hidden numbers are 32 MiB."""

NORMS: tuple[Norm, ...] = get_args(Norm)
SHORTCUTS: tuple[Shortcut, ...] = get_args(Shortcut)


@dataclass(frozen=True, eq=False)
class Neural:
    """The parts of a network that carry one space to another, in evaluation, apart from the network that may go on learning."""

    shape: Shape
    into: ResidualMLP
    backbone: ResidualMLP
    out: ResidualMLP
    kind: ClassVar[str] = "vec2vec"

    @classmethod
    def of(cls, network: Network, source: str, target: str) -> Neural:
        """Copy the direction from `source` to `target`. Raises SettingError for a space that the network does not have."""
        parts = network.adapters(source)[0], network.backbone, network.adapters(target)[1]
        return cls(network.shape, *(deepcopy(part).requires_grad_(False).eval() for part in parts))

    @torch.no_grad()
    def __call__(self, u: Float[Tensor, "k dx"]) -> Float[Tensor, "k dy"]:
        return torch.cat([unit(self.out(self.backbone(self.into(rows)))) for rows in torch.split(u, ROWS)])

    def tensors(self) -> dict[str, Tensor]:
        """Return `shape` (5,) int64, the sizes and kinds of `Shape` without its dropout, and the weights of all parts."""
        shape = self.shape
        numbers = [shape.width, shape.adapter_depth, shape.backbone_depth]
        numbers += [NORMS.index(shape.norm), SHORTCUTS.index(shape.shortcut)]
        named = {"shape": torch.tensor(numbers)}
        for name, part in (("into", self.into), ("backbone", self.backbone), ("out", self.out)):
            named |= {f"{name}.{key}": tensor for key, tensor in part.state_dict().items()}
        return named

    @classmethod
    def rebuild(cls, tensors: Mapping[str, Tensor]) -> Neural:
        """Make the map again. Raises KeyError for a missing tensor and TranslatorError when the tensors do not fit together."""
        width, adapter_depth, backbone_depth, norm, shortcut = _numbers(tensors["shape"], len(tensors))
        shape = Shape(width, adapter_depth, backbone_depth, NORMS[norm], 0.0, SHORTCUTS[shortcut])
        dx = tensors["into.blocks.0.0.weight"].shape[-1]
        dy = tensors[f"out.blocks.{adapter_depth - 1}.{0 if adapter_depth == 1 else 3}.weight"].shape[0]
        linear = shape.shortcut == "linear"
        with torch.device("meta"):  # weights are assigned, so none are made
            parts = {
                "into": ResidualMLP(dx, width, adapter_depth, shape, None, "first" if linear else None),
                "backbone": ResidualMLP(width, width, backbone_depth, shape, None, None),
                "out": ResidualMLP(width, dy, adapter_depth, shape, None, "last" if linear else None),
            }
        for name, part in parts.items():
            weights = {key: tensors[f"{name}.{key}"] for key in part.state_dict()}
            try:
                part.load_state_dict(weights, assign=True)
            except RuntimeError as problem:
                raise TranslatorError(f"the network's tensors do not fit together: {problem}", "fit again") from None
            part.requires_grad_(False).eval()
        return cls(shape, **parts)


def _numbers(shape: Tensor, tensors: int) -> list[int]:
    """Return the five numbers of a shape after checking that they can be those of a network of so many tensors."""
    numbers = [int(number) for number in shape.flatten().tolist()]
    limits = [2**20, tensors, tensors, len(NORMS) - 1, len(SHORTCUTS) - 1]
    least = [1, 1, 1, 0, 0]
    if len(numbers) != len(limits) or not all(a <= n <= b for a, n, b in zip(least, numbers, limits, strict=True)):
        raise TranslatorError(f"{numbers} are not the sizes of a network", "copy the translator again, or fit again")
    return numbers
