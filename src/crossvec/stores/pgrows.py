"""pgrows — rows as PostgreSQL sends and takes them in binary: vectors read and written without a Python object for each value.

In    values of vector_send and halfvec_send; keys, (k, d) float32, documents
Out   (k, d) rows; the bytes of COPY … FROM STDIN (FORMAT BINARY)
Uses  stores.rows

Formats: PostgreSQL's manual, COPY, "Binary Format"; pgvector's vector_send: two 16-bit numbers, dimension and zero, then the
values; all big-endian. A jsonb value is its version, 1, and then text.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from crossvec.stores.rows import Layout

VECTORS = {"vector": "float32", "halfvec": "float16"}
INTEGERS = frozenset({"int2", "int4", "int8"})
TEXTS = frozenset({"text", "varchar", "bpchar", "uuid"})
READABLE = INTEGERS | TEXTS | frozenset({"bool", "float4", "float8", "numeric", "json", "jsonb", "bytea"})
READABLE |= frozenset({"date", "time", "timetz", "timestamp", "timestamptz"})
"""Types, and arrays of them, that psycopg reads in binary as Python's own; any other is read as text."""

HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
END = struct.pack(">h", -1)
FIELDS = 3
JSONB = 1


def matrix(sent: Sequence[bytes | None], layout: Layout) -> np.ndarray | list[Any]:
    """Return vectors as sent, as (k, d) float32 or float16; as a list with None when some row has none or another length."""
    dtype = np.dtype(">f4" if layout.dtype == "float32" else ">f2")
    length = 4 + dtype.itemsize * layout.dim
    if all(it is not None and len(it) == length for it in sent):
        raw = np.frombuffer(b"".join(it for it in sent if it is not None), np.uint8).reshape(len(sent), length)
        return np.ascontiguousarray(raw[:, 4:]).view(dtype).astype(layout.dtype)
    return [None if it is None else np.frombuffer(it, dtype, offset=4).astype(layout.dtype) for it in sent]


def copied(keys: Sequence[Any], vectors: Float32[np.ndarray, "k d"], rows: Sequence[dict[str, Any]], whole: bool) -> bytes:
    """Return rows (id, vector, jsonb) as COPY reads them; `whole` says whether ids are numbers of 8 bytes or text."""
    k, dim = vectors.shape
    field = np.zeros(k, [("length", ">i4"), ("dim", ">i2"), ("zero", ">i2"), ("values", ">f4", (dim,))])
    field["length"], field["dim"], field["values"] = 4 + 4 * dim, dim, vectors
    sent, step = field.tobytes(), field.itemsize
    number, text, jsonb = struct.Struct(">hiq").pack, struct.Struct(">hi").pack, struct.Struct(">iB").pack
    parts = [HEADER]
    for i, (key, row) in enumerate(zip(keys, rows, strict=True)):
        if whole:
            parts.append(number(FIELDS, 8, key))
        else:
            word = key.encode()
            parts += (text(FIELDS, len(word)), word)
        document = json.dumps(row, ensure_ascii=False).encode() if row else b"{}"
        parts += (sent[i * step : (i + 1) * step], jsonb(len(document) + 1, JSONB), document)
    return b"".join([*parts, END])
