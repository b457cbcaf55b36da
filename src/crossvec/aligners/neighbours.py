"""neighbours — the nearest rows across, exactly or through an index, in memory that the number of pairs of rows does not enter.

In    Carried queries (q, d), Carried keys (m, d)    unit rows, some of them still to be mapped
Out   (q, k) inner products and the keys' numbers
Uses  geometry; FAISS for the index

Comparing all rows with all costs n m d: hours from a million rows a side on. FAISS' inverted file of product-quantised codes
(arXiv 1702.08734, 2401.08281) looks only into the lists whose centres are near, and compares the best again by themselves in
float16. FAISS' own exact search is no help on a CPU with bfloat16: one product after another takes a sixth of the time of its
flat index (benchmarks/LOG.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any, Literal, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from crossvec.aligners import Step, silent
from crossvec.errors import MissingExtraError
from crossvec.geometry import nearest, unit

__all__ = ["LARGE", "Carried", "Index", "neighbours", "pick"]

Index = Literal["auto", "exact", "ivf"]

LARGE = 100_000
"""Keys from which on `auto` takes the index: below it, building one costs what the exact search does."""

BLOCK = 65_536
"""Rows that are mapped, added or asked about at a time."""

LISTS = 2.0  # times the root of the number of keys
TRAINING = 64  # rows that each list's centre is the mean of, at most
ROUNDS = 4  # of k-means
PROBES = 64  # lists looked into
AGAIN = 8.0  # times the neighbours wanted are compared again by themselves
FOUR = 4  # columns to a code of four bits


@dataclass(frozen=True, eq=False)
class Carried:
    """Unit rows (n, d0), or with a map (d0, d) the unit rows that it carries them to, made block by block."""

    rows: Float[Tensor, "n d0"]
    map: Float[Tensor, "d0 d"] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def blocks(self) -> Iterator[Float[Tensor, "b d"]]:
        """Yield the rows in order, a bounded number at a time."""
        return map(self._carry, torch.split(self.rows, BLOCK))

    def spaced(self, most: int) -> Float[Tensor, "b d"]:
        """Return at most so many rows, evenly spaced."""
        return self._carry(self.rows[:: -(-len(self) // most)])

    def whole(self) -> Float[Tensor, "n d"]:
        """Return all rows at once."""
        return self._carry(self.rows)

    def _carry(self, rows: Float[Tensor, "b d0"]) -> Float[Tensor, "b d"]:
        return rows if self.map is None else unit(rows @ self.map)


def pick(index: Index, keys: int, device: str) -> Literal["exact", "ivf"]:
    """Return what `auto` means for so many keys: the index from LARGE on, on a CPU where FAISS is installed.

    Raises MissingExtraError when the index is asked for and FAISS is not installed.
    """
    there = find_spec("faiss") is not None
    if index == "ivf" and not there:
        raise MissingExtraError("an index of neighbours needs FAISS", 'pip install "crossvec[faiss]", or -s index=exact')
    if index == "auto":
        return "ivf" if there and keys >= LARGE and device == "cpu" else "exact"
    return index


def neighbours(
    queries: Carried, keys: Carried, k: int, *, index: Index = "auto", progress: Step = silent
) -> tuple[Float[Tensor, "q k"], Int[Tensor, "q k"]]:
    """Return the k largest inner products of each query with the keys, and which keys they are; k is at most the keys.

    With an index both are approximate: a query is compared with the keys of a few lists only. Where those hold fewer than k
    keys, the best stands in for those that are missing. Raises MissingExtraError as `pick` does.
    """
    how = pick(index, len(keys), queries.rows.device.type)
    doing = f"finding neighbours {'through an index' if how == 'ivf' else 'exactly'}"
    progress(doing, 0.0)
    find = partial(nearest, keys=keys.whole()) if how == "exact" else _Inverted(keys).nearest
    values, indices, done = [], [], 0
    for block in queries.blocks():
        value, place = find(block, k=k)
        values.append(value)
        indices.append(place)
        done += len(block)
        progress(doing, done / len(queries))
    return torch.cat(values), torch.cat(indices)


class _Inverted:
    def __init__(self, keys: Carried) -> None:
        import faiss

        lists = max(1, round(LISTS * len(keys) ** 0.5))
        sample = _padded(keys.spaced(TRAINING * lists))
        width = sample.shape[1]
        built = cast(
            Any,
            faiss.index_factory(width, f"IVF{lists},PQ{width // FOUR}x4fs,Refine(SQfp16)", faiss.METRIC_INNER_PRODUCT),
        )
        inverted = faiss.extract_index_ivf(built)
        inverted.nprobe, inverted.cp.niter = PROBES, ROUNDS
        inverted.cp.max_points_per_centroid, inverted.cp.min_points_per_centroid = TRAINING, 1
        built.k_factor = AGAIN
        built.train(sample.numpy())
        for block in keys.blocks():
            built.add(_padded(block).numpy())
        self.built = built

    def nearest(self, block: Float[Tensor, "b d"], k: int) -> tuple[Float[Tensor, "b k"], Int[Tensor, "b k"]]:
        values, places = (torch.from_numpy(found) for found in self.built.search(_padded(block).numpy(), k))
        missing = places < 0
        values, places = torch.where(missing, values[:, :1], values), torch.where(missing, places[:, :1], places)
        return values, places


def _padded(rows: Float[Tensor, "n d"]) -> Float[Tensor, "n w"]:
    """Return rows with zeros behind them, so that the columns make whole codes: no inner product changes."""
    rows = rows.detach().float().cpu()
    short = -rows.shape[1] % FOUR
    return torch.nn.functional.pad(rows, (0, short)).contiguous()
