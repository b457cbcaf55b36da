"""memory — how many rows a worker takes at a time, so that it stays within a limit.

In    what a row weighs, a limit in bytes
Out   rows of a batch, and the bytes that a worker is expected to need at most
Uses  space, scale

A worker holds its libraries, what the reader has unpacked, and one batch on its way: as it was read, translated, and as the
writer packs it. Nothing grows with the rows of a shard.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from crossvec.errors import UsageError
from crossvec.scale import Piece
from crossvec.scale.work import span_of
from crossvec.space import BATCH_ROWS, Columns, Space, python_values

__all__ = ["LIMIT", "Weight", "batch_rows", "parsed", "weigh"]

LIMIT = 1 << 30
"""Bytes a worker may need unless told otherwise."""

BASE = 512 << 20
"""Bytes of a worker that has done nothing yet: Python, torch, Arrow and Ray, and room (4,000,000 rows took 484 MiB of them)."""

LOOKED_AT = 256  # rows weighed

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class Weight:
    """The bytes of a row: its vector as stored, as read, as translated, and its id and payload."""

    stored: int
    source: int
    target: int
    payload: float

    def needed(self, batch: int) -> int:
        """Return the bytes that a worker needs at most with batches of so many rows.

        Readers unpack BATCH_ROWS rows at a time and hold what is left of the batch before. Of a batch there are three copies as
        it came (read, checked, held while it is translated) and five as it goes (rays, rows, array, Arrow, Parquet's pages).
        """
        unpacked = 2 * BATCH_ROWS * (self.stored + self.payload)
        return int(BASE + unpacked + batch * (3 * self.source + 5 * self.target + 3 * self.payload))


def weigh(piece: Piece, target_dim: int) -> Weight:
    """Weigh the first rows of a piece."""
    store = span_of(piece)
    told = store.describe()
    first = next(iter(store.read(min(LOOKED_AT, max(told.rows, 1)))))
    item = {"float64": 8, "float16": 2, "int8": 1}.get(told.dtype, 4)
    return Weight(item * told.dim, 4 * told.dim, 4 * target_dim, _payload(first))


def batch_rows(weight: Weight, limit: int, asked: int | None = None) -> int:
    """Return how many rows to take at a time: what was asked for, or as many as the limit allows, at most BATCH_ROWS.

    Raises UsageError when not one row fits, or not as many as were asked for.
    """
    if weight.needed(asked or 1) > limit:
        what = f"batches of {asked:,} rows" if asked else "rows as large as these"
        need = -(-weight.needed(asked or 1) // 2**20)
        raise UsageError(f"a worker needs {need:,} MiB for {what}, and may have {limit / 2**20:,.0f}", f"--memory {need}M")
    if asked:
        return asked
    room = limit - weight.needed(0)
    return int(max(1, min(BATCH_ROWS, room // max(weight.needed(1) - weight.needed(0), 1))))


def parsed(text: str) -> int:
    """Return the bytes that a text such as 2G, 1500M or 1.5GiB means; raises UsageError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not match or not float(match[1]):
        raise UsageError(f"{text!r} is no amount of memory", "write 2G, or 1500M")
    return int(float(match[1]) * UNITS[match[2].upper()])


def _payload(space: Space) -> float:
    columns: Columns = {**space.columns, **({} if space.ids is None else {"": space.ids})}
    sizes = [
        column.nbytes if hasattr(column, "nbytes") else sum(8 + len(str(value)) for value in python_values(column))
        for column in columns.values()
    ]
    return float(sum(sizes)) / max(len(space), 1)
