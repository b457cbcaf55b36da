"""warm — start a network at a linear map that is known already, so that training has only the bend left to find.

In    w (dx, dy)            the map from source to target, in their centred frames; `backward` (dy, dx) if not its transpose
Out   the network, changed in place: it translates as unit(x W), and every residual branch is 0 and free to grow
Uses  aligners.vec2vec.network

A branch is silenced at its last layer only (as Goyal 2017 starts residual nets): gradients reach that layer at once, and the
layers below as soon as it has moved. The linear shortcuts of the adapters alone then carry rows through the latent.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from crossvec.aligners.maps import Linear, Map
from crossvec.aligners.vec2vec.network import Network, ResidualMLP
from crossvec.errors import SettingError


@torch.no_grad()
def start_at(
    network: Network,
    source: str,
    target: str,
    w: Float[Tensor, "dx dy"],
    backward: Float[Tensor, "dy dx"] | None = None,
) -> None:
    """Make translate(source, target, x) = unit(x W) and translate(target, source, y) = unit(y V), V being W^T or `backward`.

    The latent's first dx numbers are x itself, or y V; reconstruct(source, x) is x. What V W does not give back of y goes
    through as many of the other numbers as it needs, so that reconstruct(target, y) is y too: always for a semi-orthogonal W,
    and for any W when the width is at least dx + dy. More spaces start one by one at maps from the same `source`.

    Raises SettingError unless the network has linear shortcuts and is at least as wide as both spaces.
    """
    back = _checked(network, source, target, w, backward)
    dx, dy = w.shape
    (into_x, out_x), (into_y, out_y) = network.adapters(source), network.adapters(target)
    rest = torch.eye(dy, dtype=torch.float64) - back.cpu().double() @ w.cpu().double()
    u, s, vt = torch.linalg.svd(rest)
    room = min(dy, network.shape.width - dx)
    scale = s[:room].sqrt()
    for part in (into_x, out_x, into_y, out_y, network.backbone):
        _silence(part)
    for part, first, others in (
        (into_x, torch.eye(dx), None),
        (out_x, torch.eye(dx), None),
        (into_y, back.T, (u[:, :room] * scale).T),
        (out_y, w, scale[:, None] * vt[:room]),
    ):
        carry = _carry(part)
        table = (carry if part in (out_x, out_y) else carry.T).zero_()
        table[:dx] = first
        if others is not None:
            table[dx : dx + room] = others


@torch.no_grad()
def start_beside(
    network: Network,
    hub: str,
    space: str,
    w: Float[Tensor, "dh d"],
    backward: Float[Tensor, "d dh"] | None = None,
) -> None:
    """Make a new space read and write the latent through `hub`: encode(space, x) = encode(hub, x V), whatever T has learned.

    W leads from hub to space, V is W^T or `backward`; decode(space, z) is the unit row along hub's row before scaling, times W.
    Raises SettingError as `start_at` does, and for adapters of one block, whose output nothing linear follows.
    """
    back = _checked(network, hub, space, w, backward)
    if network.shape.adapter_depth < 2:
        raise SettingError("an adapter of one block cannot start beside another", "use adapter_depth=2 or more")
    (into_hub, out_hub), (into, out) = network.adapters(hub), network.adapters(space)
    learned = into_hub.state_dict()
    learned["blocks.0.0.weight"] = learned["blocks.0.0.weight"] @ back.T.to(learned["carry"])
    learned["carry"] = back.to(learned["carry"]) @ learned["carry"]
    into.load_state_dict(learned)
    learned = out_hub.state_dict()
    last = f"blocks.{network.shape.adapter_depth - 1}.3"
    ahead = w.to(learned["carry"])
    learned[f"{last}.weight"] = ahead.T @ learned[f"{last}.weight"]
    learned[f"{last}.bias"] = learned[f"{last}.bias"] @ ahead
    learned["carry"] = learned["carry"] @ ahead
    out.load_state_dict(learned)


def weight(learned: Map) -> Tensor:
    """Return the matrix of a linear map."""
    assert isinstance(learned, Linear)
    return learned.weight.cpu()


def _checked(network: Network, source: str, target: str, w: Tensor, backward: Tensor | None) -> Tensor:
    """Return the backward matrix of a map that the network has room for."""
    network.adapters(source), network.adapters(target)
    ends = (network.dims[source], network.dims[target])
    back = w.T if backward is None else backward
    if source == target or tuple(w.shape) != ends or tuple(back.shape) != ends[::-1]:
        told = f"{tuple(w.shape)} and back {tuple(back.shape)}"
        raise SettingError(f"a map of shape {told} does not lead from {source!r} to {target!r}", f"give one of shape {ends}")
    if network.shape.shortcut != "linear":
        raise SettingError("a warm start needs linear shortcuts", "use shortcut=linear")
    if network.shape.width < max(ends):
        raise SettingError(
            f"a latent of width {network.shape.width} has no room for {max(ends)} dimensions", f"use width={max(ends)} or more"
        )
    return back


def _carry(part: ResidualMLP) -> Tensor:
    assert part.carry is not None
    return part.carry


def _silence(part: ResidualMLP) -> None:
    for block in part.blocks:
        last = [layer for layer in block.modules() if isinstance(layer, nn.Linear | nn.LayerNorm | nn.BatchNorm1d)][-1]
        last.weight.zero_()
        last.bias.zero_()
