"""safetensors — a tensor in a .safetensors file; the library checks the file, the vectors are mapped.

In    file.safetensors?key=vectors     float16, bfloat16, float32, float64 or int8, (n, d)
Out   Space, memory-mapped (bfloat16: converted)     the format carries neither ids nor payload
Uses  stores.raw, safetensors
"""

from __future__ import annotations

import json

import numpy as np
from jaxtyping import Shaped
from safetensors import SafetensorError, safe_open

from crossvec.errors import StoreError
from crossvec.stores.files import choose
from crossvec.stores.raw import Layout, RawFile

TYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I8": "|i1", "BF16": "<u2"}
LENGTH_BYTES = 8  # the file begins with the header's length
HEADER_BYTES = 256  # room for any shape; the format allows spaces at the header's end


class SafetensorsFile(RawFile):
    """One tensor of shape (n, d) among those of the file."""

    format = ".safetensors"
    options = frozenset({"key"})
    damage = (ValueError, SafetensorError)

    def _layout(self) -> Layout:
        with open(self.path, "rb") as raw, safe_open(self.path, framework="np") as checked:
            shapes = {key: checked.get_slice(key).get_shape() for key in checked.keys()}  # noqa: SIM118
            header_bytes = int.from_bytes(raw.read(LENGTH_BYTES), "little")
            header = json.loads(raw.read(header_bytes))
        asked = self.address.options.get("key")
        key = choose("tensor", [k for k, shape in shapes.items() if asked or len(shape) == 2], self, "key")
        kind = header[key]["dtype"]
        if len(shapes[key]) != 2 or kind not in TYPES:
            raise StoreError(
                f"{key} in {self.path} is {kind} of shape {tuple(shapes[key])}; a space is float numbers, (rows, dimensions)",
                f"tensors there: {', '.join(shapes)}",
            )
        return Layout(
            LENGTH_BYTES + header_bytes + header[key]["data_offsets"][0], shapes[key][0], shapes[key][1], np.dtype(TYPES[kind])
        )

    def _unwrapped(self, raw: Shaped[np.ndarray, "k d"], start: int) -> Shaped[np.ndarray, "k d"]:
        if raw.dtype != "<u2":
            return raw
        return (raw.astype("<u4") << 16).view("<f4")  # bfloat16 is the upper half of float32

    def _header(self, rows: int, dim: int, dtype: np.dtype) -> bytes:
        size = rows * dim * dtype.itemsize
        kind = next(kind for kind, code in TYPES.items() if np.dtype(code) == dtype)
        header = json.dumps({"vectors": {"dtype": kind, "shape": [rows, dim], "data_offsets": [0, size]}}).encode()
        return HEADER_BYTES.to_bytes(LENGTH_BYTES, "little") + header.ljust(HEADER_BYTES)
