"""geometry — linear algebra on clouds of rows: tensors in, tensors out.

In    x (n, d) float32      rows, mostly centred and of unit length
Out   tensors on the same device
Uses  torch only

Products that only rank neighbours run in bfloat16 where the machine has it; everything that ends up in a map stays float32.
"""

from __future__ import annotations

import threading
import warnings
from functools import cache
from typing import cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

TINY = 1e-9
FILTERS = threading.Lock()
BLOCK, KEYS = 512, 16_384
"""Rows and columns of a similarity block, at most: 32 MB in float32. One is made a call and written anew for each block: a
fresh page costs the system more than the products that fill it."""
TRIPLES = 2**23
"""Numbers of a block's products of axes, about: some tens of MB, that are written anew for each block too."""

# Newton-Schulz for the polar factor: a quintic that lifts small singular values fast, then the cubic that settles them at 1.
LIFT = (3.4445, -4.7750, 2.0315)
LIFTS = 5


def unit(x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
    """Scale every row to length 1; a zero row stays zero."""
    return cast(Tensor, x / x.norm(dim=-1, keepdim=True).clamp_min(TINY))


def polar(m: Float[Tensor, "dx dy"], power: float = 0.0) -> Float[Tensor, "dx dy"]:
    """Return U (S / max S)^power V^T of m = U S V^T.

    With power 0 it is the nearest semi-orthogonal matrix; with power between 0 and 1 directions that m knows little about count
    less, and with power 1 it is m itself, scaled.
    """
    u, s, vt = torch.linalg.svd(m, full_matrices=False)
    return cast(Tensor, (u * (s / s[:1].clamp_min(TINY)) ** power) @ vt)


def procrustes(x: Float[Tensor, "n dx"], y: Float[Tensor, "n dy"]) -> Float[Tensor, "dx dy"]:
    """Return the semi-orthogonal W that minimises `|x W - y|` (Schönemann 1966): the polar factor of x^T y."""
    return polar(x.T @ y)


def polar_batch(g: Float[Tensor, "b k k"], steps: int = 12) -> Float[Tensor, "b k k"]:
    """Return the orthogonal polar factors of many square matrices by Newton-Schulz: no decomposition, products only."""
    x = g / g.flatten(1).norm(dim=1).clamp_min(TINY)[:, None, None]
    one, three, five = LIFT
    for _ in range(LIFTS):
        a = x.transpose(1, 2) @ x
        x = one * x + x @ (three * a + five * (a @ a))
    for _ in range(steps - LIFTS):
        x = 1.5 * x - 0.5 * x @ (x.transpose(1, 2) @ x)
    return cast(Tensor, x)


def resized(rows: Float[Tensor, "n d"], dim: int) -> Float[Tensor, "n e"]:
    """Return rows cut, or filled with zeros, to `dim` columns."""
    return torch.nn.functional.pad(rows, (0, dim - rows.shape[1]))  # a negative width cuts


def principal_axes(x: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "d d"], Float[Tensor, " d"]]:
    """Return the principal axes as columns and the variances along them, largest first."""
    variances, axes = torch.linalg.eigh(x.T @ x / len(x))
    return axes.flip(1).contiguous(), variances.flip(0).clamp_min(0.0)


def third_moment(z: Float[Tensor, "n k"]) -> Float[Tensor, "k k k"]:
    """Return E[z (x) z (x) z]."""
    n, k = z.shape
    fast = fast_type(z.device.type)
    # The tensor is symmetric: products of axes a <= b are half the work, and rows of z^T lie together in memory.
    left, right = torch.triu_indices(k, k, device=z.device)
    half = z.new_zeros(len(left), k)
    rows = max(256, min(4096, TRIPLES // (k * k)))
    room = z.new_empty(2, len(left), rows, dtype=fast)
    for block in torch.split(z.to(fast), rows):
        across = block.T.contiguous()
        one, other = room.view(-1)[: 2 * len(left) * len(block)].view(2, len(left), len(block))
        torch.index_select(across, 0, left, out=one)
        torch.index_select(across, 0, right, out=other)
        half += (one.mul_(other) @ block).float()
    whole = z.new_empty(k, k, k)
    whole[left, right] = half / n
    whole[right, left] = half / n
    return whole


def distinct(x: Float[Tensor, "n d"]) -> Float[Tensor, "u d"]:
    """Return unit rows without those that repeat another one, in their old order.

    Copies fall on the same point of any line, so sorting along one brings them together.
    """
    order, new = _along_a_line(x)
    return x[order[new].sort().values]


def copies(x: Float[Tensor, "n d"]) -> Int[Tensor, " n"]:
    """Return a number for each unit row, the same for those that repeat one another."""
    order, new = _along_a_line(x)
    return torch.empty_like(order).index_copy_(0, order, new.cumsum(0) - 1)


def _along_a_line(x: Float[Tensor, "n d"]) -> tuple[Int[Tensor, " n"], Bool[Tensor, " n"]]:
    """Return an order of unit rows that brings copies together, and which of them in that order repeat none before."""
    line = torch.randn(x.shape[1], generator=torch.Generator().manual_seed(0)).to(x)
    order = (x @ line).argsort()
    again = (x[order[1:]] * x[order[:-1]]).sum(1) > 1 - 1e-6
    return order, torch.cat([torch.ones_like(order[:1], dtype=torch.bool), ~again])


@cache
def fast_type(device: str) -> torch.dtype:
    """Return the type for products that only rank: bfloat16 where the hardware has it, else float32."""
    if device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # private, and the only place that tells
    if device == "cpu" and supported is not None and supported():
        return torch.bfloat16
    return torch.float32


def widened(x: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Return numbers in float32, if they were narrower."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def only_read(array: Shaped[np.ndarray, "*n"]) -> Shaped[Tensor, "*n"]:
    """Return an array as a tensor without a copy, also where it is read-only, such as a mapped file: nobody may write to it."""
    if array.flags.writeable:
        return torch.from_numpy(array)
    # Filters of warnings are the process's: two threads that set them back at once would leave one behind.
    with FILTERS, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def nearest(
    queries: Float[Tensor, "q d"], keys: Float[Tensor, "m d"], k: int
) -> tuple[Float[Tensor, "q k"], Int[Tensor, "q k"]]:
    """Return the k largest inner products of each query with the keys, and which keys they are; k is at most m."""
    fast = fast_type(queries.device.type)
    across = [part.to(fast).T.contiguous() for part in torch.split(keys, KEYS)]
    room = queries.new_empty(BLOCK * min(KEYS, len(keys)), dtype=fast)
    values, indices = [], []
    for block in torch.split(queries, BLOCK):
        found = []
        for part in across:
            products = room[: len(block) * part.shape[1]].view(len(block), -1)
            found.append(torch.mm(block.to(fast), part, out=products).topk(min(k, part.shape[1]), dim=1))
        value = torch.cat([best for best, _ in found], dim=1)
        index = torch.cat([place + KEYS * number for number, (_, place) in enumerate(found)], dim=1)
        if len(found) > 1:
            value, kept = value.topk(min(k, len(keys)), dim=1)
            index = index.gather(1, kept)
        values.append(value.float())
        indices.append(index)
    return torch.cat(values), torch.cat(indices)


def kmeans(
    x: Float[Tensor, "n d"], clusters: int, generator: torch.Generator, rounds: int = 10
) -> tuple[Int[Tensor, " n"], Float[Tensor, "c d"]]:
    """Return each row's cluster and the unit centres of spherical k-means (Dhillon and Modha 2001), from a random start."""
    centres = x[torch.randperm(len(x), generator=generator)[:clusters].to(x.device)]
    for _ in range(rounds):
        index = nearest(x, centres, 1)[1][:, 0]
        sums = torch.zeros_like(centres).index_add_(0, index, x)
        empty = sums.norm(dim=1, keepdim=True) < TINY
        centres = torch.where(empty, centres, unit(sums))
    return index, centres
