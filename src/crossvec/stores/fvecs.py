"""fvecs — the TEXMEX benchmark format: every row is its dimension (int32) and then that many float32, little-endian.

In    file.fvecs
Out   Space, memory-mapped     the format carries neither ids nor payload, and a file without rows has no dimension
Uses  stores.raw
Paper http://corpus-texmex.irisa.fr
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int32

from crossvec.errors import StoreError
from crossvec.space import refuse_ragged
from crossvec.stores.raw import Layout, RawFile


class FvecsFile(RawFile):
    """Rows that each begin with their dimension."""

    format = ".fvecs"
    dtypes = ("float32",)

    def _layout(self) -> Layout:
        size = self.path.stat().st_size
        with open(self.path, "rb") as file:
            dim = int.from_bytes(file.read(4), "little", signed=True)
        if not size:
            raise StoreError(f"{self.path} holds no rows, so no dimension either", "write at least one row to it")
        row_bytes = 4 * (dim + 1)
        if dim < 1 or size < row_bytes:
            raise StoreError(
                f"{self.path} is no .fvecs file: it begins with the dimension {dim:,}", "give a file of float rows"
            )
        if size % row_bytes:
            rows, rest = divmod(size, row_bytes)
            told = f"its rows are {row_bytes:,} bytes long, it holds {rows:,} of them and {rest:,} bytes more"
            raise StoreError(f"{self.path} is cut short or ragged: {told}", "write it anew, or copy it again")
        return Layout(0, size // row_bytes, dim + 1, np.dtype("<i4"))

    def _header(self, rows: int, dim: int, dtype: np.dtype) -> bytes:
        return b""

    def _unwrapped(self, raw: Int32[np.ndarray, "k width"], start: int) -> Float32[np.ndarray, "k d"]:
        dim = raw.shape[1] - 1
        refuse_ragged(raw[:, 0], dim, range(start, start + len(raw)), self.name)
        return raw[:, 1:].view("<f4")

    def _wrapped(self, x: Float32[np.ndarray, "k d"]) -> Int32[np.ndarray, "k width"]:
        raw = np.empty((len(x), x.shape[1] + 1), "<i4")
        raw[:, 0] = x.shape[1]
        raw[:, 1:] = np.ascontiguousarray(x).view("<i4")
        return raw
