"""network — the translator of vec2vec: input adapters, one shared backbone, output adapters, for any number of spaces.

In    x (k, d)              rows of one of the spaces, centred and of unit length
Out   z (k, z)              the shared latent, not normalised
      y (k, d)              rows of another space, of unit length
Uses  torch, geometry
Paper arXiv:2505.12540      section 3.1: F_ab = B_b T A_a translates, R_a = B_a T A_a reconstructs

Sizes that the paper does not give (widths, depths, dropout) are those of its published configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn.functional import pad

from crossvec.errors import SettingError
from crossvec.geometry import unit, widened

Norm = Literal["layer", "batch"]
Shortcut = Literal["pad", "linear"]


@dataclass(frozen=True)
class Shape:
    """Sizes of a network: `width` is the latent's width z and that of every hidden layer; depths count residual blocks.

    `norm` is the paper's layer norm or the published configuration's batch norm. With `shortcut` "pad" an adapter's own change
    of width pads with zeros or cuts; with "linear" it is a matrix that is trained, which a warm start needs. `noise` is the
    length of what is added at random, while training, to rows of unit length before an adapter reads them.
    Raises SettingError for sizes that cannot be.
    """

    width: int = 1024
    adapter_depth: int = 3
    backbone_depth: int = 4
    norm: Norm = "layer"
    dropout: float = 0.1
    shortcut: Shortcut = "pad"
    noise: float = 0.0

    def __post_init__(self) -> None:
        for key in ("width", "adapter_depth", "backbone_depth"):
            if getattr(self, key) < 1:
                raise SettingError(f"{key} cannot be {getattr(self, key)}", f"use at least 1, for example -s {key}=4")
        if not 0 <= self.dropout < 1:
            raise SettingError(f"dropout cannot be {self.dropout}", "use a number from 0 up to, but not, 1: 0.1 for example")
        if not 0 <= self.noise < float("inf"):
            raise SettingError(f"noise cannot be {self.noise}", "use a number from 0 up: 0.3 for example")


class ResidualMLP(nn.Module):
    """`depth` blocks with a shortcut around each (section 3.1 of the paper, and its published configuration).

    The first block is Linear, SiLU; middle ones Linear, SiLU, norm, dropout; the last Linear, dropout, SiLU, Linear. A block's
    input is added to its output, padded with zeros on the right or cut to fit. `carry` names the block, if any, around which a
    trainable matrix takes the place of padding and cutting; it starts as what it replaces.

    Weights are drawn with Kaiming's normal for ReLU, biases are 0, batch norm starts at N(1, .02) and N(0, .02), layer norm at
    1 and 0. Without a `generator` nothing is drawn, for weights that are assigned later.
    """

    def __init__(
        self, into: int, out: int, depth: int, shape: Shape, generator: Generator | None, carry: Literal["first", "last"] | None
    ) -> None:
        super().__init__()
        width = shape.width
        self.blocks = nn.ModuleList()
        for block in range(depth):
            start, end = into if block == 0 else width, out if block == depth - 1 else width
            if block == 0:
                layers = [kaiming(start, end, generator), nn.SiLU()]
            elif block < depth - 1:
                layers = [kaiming(start, end, generator), nn.SiLU(), _norm(shape, generator), nn.Dropout(shape.dropout)]
            else:
                layers = [
                    kaiming(start, width, generator),
                    nn.Dropout(shape.dropout),
                    nn.SiLU(),
                    kaiming(width, end, generator),
                ]
            self.blocks.append(nn.Sequential(*layers))
        self.carried = {"first": 0, "last": depth - 1, None: -1}[carry]
        ends = {"first": (into, out if depth == 1 else width), "last": (into if depth == 1 else width, out)}
        self.carry = nn.Parameter(torch.eye(*ends[carry])) if carry else None

    def forward(self, x: Float[Tensor, "k into"]) -> Float[Tensor, "k out"]:
        """Send rows through all blocks."""
        for index, block in enumerate(self.blocks):
            change = block(x)
            if self.carry is not None and index == self.carried:
                x = torch.addmm(change, x, self.carry)
            elif change.shape[1] == x.shape[1]:
                x = change + x
            elif change.shape[1] > x.shape[1]:
                x = change + pad(x, (0, change.shape[1] - x.shape[1]))
            else:
                x = change + x[:, : change.shape[1]]
        return x


class Network(nn.Module):
    """Adapters for each space of `dims` (its dimension by its name) around one backbone T.

    Every pair of spaces, in both directions, is translated through the one latent. Adapters are kept by position, so that a
    space may have any name. Without a `generator` it has no numbers yet: build it under `torch.device("meta")` and assign a
    state. Raises SettingError for an unknown space, and for one added twice.
    """

    def __init__(self, dims: Mapping[str, int], shape: Shape, generator: Generator | None) -> None:
        super().__init__()
        self.shape = shape
        self.dims: dict[str, int] = {}
        self.inputs, self.outputs = nn.ModuleList(), nn.ModuleList()
        self.backbone = ResidualMLP(shape.width, shape.width, shape.backbone_depth, shape, generator, None)
        for name, dim in dims.items():
            self.add_space(name, dim, generator)

    def add_space(self, name: str, dim: int, generator: Generator | None) -> None:
        """Give one more space its adapters; what there is stays as it is, and on its device."""
        if name in self.dims:
            raise SettingError(f"the network has a space {name!r} already", "give the new space another name")
        if dim < 1:
            raise SettingError(f"the space {name!r} cannot have {dim} dimensions", "give rows with at least one column")
        shape, linear = self.shape, self.shape.shortcut == "linear"
        where = next(self.backbone.parameters())
        into = ResidualMLP(dim, shape.width, shape.adapter_depth, shape, generator, "first" if linear else None)
        out = ResidualMLP(shape.width, dim, shape.adapter_depth, shape, generator, "last" if linear else None)
        self.inputs.append(into.to(where.device).train(self.training))
        self.outputs.append(out.to(where.device).train(self.training))
        self.dims[name] = dim

    def adapters(self, space: str) -> tuple[ResidualMLP, ResidualMLP]:
        """Return a space's input and output adapter."""
        if space not in self.dims:
            raise SettingError(f"the network has no space {space!r}", f"it has {', '.join(self.dims)}")
        index = list(self.dims).index(space)
        into, out = self.inputs[index], self.outputs[index]
        assert isinstance(into, ResidualMLP) and isinstance(out, ResidualMLP)
        return into, out

    def freeze_backbone(self) -> None:
        """Stop T from learning, its running statistics included: what is added later adapts to it."""
        self.backbone.requires_grad_(False)
        self.backbone.eval()

    def freeze_space(self, space: str) -> None:
        """Stop a space's adapters from learning, their running statistics included."""
        for adapter in self.adapters(space):
            adapter.requires_grad_(False)
            adapter.eval()

    def train(self, mode: bool = True) -> Network:
        """Set training or evaluation; a part that is frozen stays in evaluation, so that it gives what it always gave."""
        super().train(mode)
        for part in (self.backbone, *self.inputs, *self.outputs):
            if not any(weight.requires_grad for weight in part.parameters()):
                part.eval()
        return self

    def encode(self, space: str, x: Float[Tensor, "k d"]) -> Float[Tensor, "k z"]:
        """Return the latent T(A(x)) of a space's rows."""
        return self.encode_each({space: x})[space]

    def decode(self, space: str, latent: Float[Tensor, "k z"]) -> Float[Tensor, "k d"]:
        """Return the rows of a space, of unit length, that a latent stands for."""
        return self.decode_each(space, [latent])[0]

    def translate(self, source: str, target: str, x: Float[Tensor, "k dx"]) -> Float[Tensor, "k dy"]:
        """Return F(x), rows of the target, of unit length."""
        return self.decode(target, self.encode(source, x))

    def reconstruct(self, space: str, x: Float[Tensor, "k d"]) -> Float[Tensor, "k d"]:
        """Return R(x), rows of the same space, of unit length."""
        return self.translate(space, space, x)

    def encode_each(self, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the latents of rows (k, d) of several spaces, in one pass through T where it treats rows one by one."""
        numbers = next(self.backbone.parameters()).dtype  # rows are float32, whatever the weights are
        adapted = {space: self.adapters(space)[0](self._noisy(x).to(numbers)) for space, x in rows.items()}
        return dict(zip(adapted, self._together(self.backbone, list(adapted.values())), strict=True))

    def decode_each(self, space: str, latents: Sequence[Tensor]) -> list[Tensor]:
        """Return the rows that several latents (k, z) stand for in a space, in one pass where rows are treated one by one."""
        # Half-precision lengths are off by 2^-9, which losses of unit rows would see.
        return [unit(widened(rows)) for rows in self._together(self.adapters(space)[1], latents)]

    def _noisy(self, x: Tensor) -> Tensor:
        if not self.shape.noise or not self.training:
            return x
        return unit(x + self.shape.noise * x.shape[1] ** -0.5 * torch.randn_like(x))

    def _together(self, part: ResidualMLP, batches: Sequence[Tensor]) -> list[Tensor]:
        # Batch norm takes statistics over a pass: the published code passes each batch by itself.
        if self.shape.norm == "batch" or len(batches) == 1:
            return [part(rows) for rows in batches]
        return list(part(torch.cat(list(batches))).split([len(rows) for rows in batches]))


def kaiming(into: int, out: int, generator: Generator | None) -> nn.Linear:
    """Return a linear layer with weights of variance 2 / `into` and biases of 0; without a generator it has no numbers yet."""
    with torch.device("meta"):  # torch's own start would draw from the global generator
        layer = nn.Linear(into, out)
    if generator is not None:
        layer = layer.to_empty(device=generator.device)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
        nn.init.zeros_(layer.bias)
    return layer


def _norm(shape: Shape, generator: Generator | None) -> nn.Module:
    if shape.norm == "layer":
        return nn.LayerNorm(shape.width)
    layer = nn.BatchNorm1d(shape.width)
    if generator is not None:
        nn.init.normal_(layer.weight, 1.0, 0.02, generator=generator)
        nn.init.normal_(layer.bias, 0.0, 0.02, generator=generator)
    return layer
