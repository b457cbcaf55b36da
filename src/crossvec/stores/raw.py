"""raw — files that are a header and then rows laid end to end: read at the disk's speed, mapped, written without knowing n.

In    Layout            where the rows begin, how many and how wide they are
Out   RawFile           a FileStore; a format adds `_layout` and `_header`
Uses  stores.files
"""

from __future__ import annotations

import io
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal, NamedTuple

import numpy as np
from jaxtyping import Shaped

from crossvec.errors import StoreError
from crossvec.stores.files import FileStore, Head, Part, Written


class Layout(NamedTuple):
    """Rows of `width` numbers from byte `offset` on; column by column when `by_column` (Fortran order)."""

    offset: int
    rows: int
    width: int
    dtype: np.dtype
    by_column: bool = False


class RawFile(FileStore):
    """A header and rows end to end."""

    @abstractmethod
    def _layout(self) -> Layout:
        """Read where the rows are."""

    @abstractmethod
    def _header(self, rows: int, dim: int, dtype: np.dtype) -> bytes:
        """Return the header for this many rows; its length must not depend on `rows`."""

    def _unwrapped(self, raw: Shaped[np.ndarray, "k width"], start: int) -> Shaped[np.ndarray, "k d"]:
        """Return the vectors in raw rows, the first of which has number `start`."""
        return raw

    def _wrapped(self, x: Shaped[np.ndarray, "k d"]) -> Shaped[np.ndarray, "k width"]:
        """Return the raw rows that hold these vectors."""
        return x

    def _head(self) -> Head:
        layout = self._checked_layout()
        vectors = self._unwrapped(np.empty((0, layout.width), layout.dtype), 0)
        return Head(layout.rows, vectors.shape[1], vectors.dtype.name)

    def _whole(self, start: int, stop: int) -> Part:
        return Part(self._unwrapped(self._mapped()[start:stop], start))

    def _chunks(self, start: int, stop: int, batch: int) -> Iterator[Part]:
        layout = self._checked_layout()
        if layout.by_column:
            mapped = self._mapped()
            for first in range(start, stop, batch):
                yield Part(self._unwrapped(mapped[first : min(first + batch, stop)], first))
            return
        # Reading copies no more than mapping and checking would, and keeps the process small: mapped pages count as its memory.
        with open(self.path, "rb", buffering=0) as file:
            file.seek(layout.offset + start * layout.width * layout.dtype.itemsize)
            for first in range(start, stop, batch):
                raw = np.empty((min(batch, stop - first), layout.width), layout.dtype)
                fill(raw, file)
                yield Part(self._unwrapped(raw, first))

    def _save(self, path: Path, batches: Iterator[Written]) -> int:
        rows, dim, dtype = 0, 0, np.dtype("<f4")
        with open(path, "r+b") as file:
            for x, _ in batches:
                if not dim:
                    dim, dtype = x.shape[1], x.dtype
                    file.write(self._header(0, dim, dtype))
                file.write(np.ascontiguousarray(self._wrapped(x)).data)
                rows += len(x)
            file.seek(0)
            file.write(self._header(rows, dim, dtype))  # now that the number of rows is known
        return rows

    def _mapped(self) -> np.ndarray:
        layout = self._checked_layout()
        order: Literal["C", "F"] = "F" if layout.by_column else "C"
        shape = (layout.rows, layout.width)
        return np.asarray(np.memmap(self.path, layout.dtype, "r", layout.offset, shape, order))

    def _checked_layout(self) -> Layout:
        layout = self._layout()
        row_bytes = layout.width * layout.dtype.itemsize
        there = self.path.stat().st_size - layout.offset
        if there < layout.rows * row_bytes:
            raise StoreError(
                f"{self.path} is cut short: its header says {layout.rows:,} rows, it holds {max(there, 0) // row_bytes:,}",
                "write it anew, or copy it again",
            )
        return layout


def fill(raw: Shaped[np.ndarray, "..."], file: io.RawIOBase | io.BufferedIOBase | IO[bytes]) -> None:
    """Read a C-contiguous array's bytes from a file; raises EOFError when the file ends before."""
    view, done = raw.view(np.uint8).reshape(-1).data, 0
    while done < len(view):
        if not (got := file.readinto(view[done:])):  # type: ignore[union-attr]  # a zip member has it, its type does not say
            raise EOFError("it ends before its last row")
        done += got
