"""bodies — rows as they travel: from the body of a request, and to that of its answer.

In    .npy: float16, float32 or float64 (k, d), any byte order     JSON: {"vectors": [[…], …]}
Out   (k, d) float32; .npy or {"model", "vectors"}, in the form that was sent
Uses  refusal, limits; numpy, pydantic, orjson

.npy is the binary form, because it says its shape, its type and its byte order itself: rows of another model with half the
dimensions would otherwise be read as half as many rows. Nothing in a body is run: pickled arrays are refused by their header.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

import numpy as np
import orjson
from jaxtyping import Float, Float32
from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError

from crossvec.service.limits import Limits
from crossvec.service.refusal import Refusal

__all__ = ["FORMS", "JSON", "NPY", "Form", "Vectors", "form_of", "not_valid"]

JSON, NPY = "application/json", "application/x-npy"
MAGIC = b"\x93NUMPY"
LONGEST_HEADER = 4096  # bytes; a matrix needs 128
FORTRAN, C = "F", "C"

Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class Vectors(BaseModel):
    """What a request in JSON holds: rows of one length, without NaN."""

    model_config = ConfigDict(extra="forbid")
    vectors: Annotated[list[Annotated[list[Finite], FailFast()]], FailFast()]


@dataclass(frozen=True)
class Form:
    """One way that rows travel: how they are read from a body, and how an answer is written."""

    media: str
    read: Callable[[bytes, int, Limits], Float32[np.ndarray, "k d"]]
    write: Callable[[Float32[np.ndarray, "k d"], str], bytes]


def form_of(content_type: str) -> Form:
    """Return the form that a request's Content-Type names; raises a Refusal for another."""
    media = content_type.partition(";")[0].strip().lower()
    if media not in FORMS:
        what = f"a body of {media[:80]} is not read" if media else "the request does not say what its body is"
        raise Refusal(415, "unknown_media_type", what, f"send Content-Type: {NPY} or {JSON}")
    return FORMS[media]


def read_npy(body: bytes, dim: int, limits: Limits) -> Float32[np.ndarray, "k d"]:
    """Return the rows of a .npy body; raises a Refusal for anything but a whole matrix of floats with `dim` columns."""
    start, shape, order, kind = _header(body)
    _check_shape(shape, dim, limits)
    wanted = math.prod(shape) * kind.itemsize
    if len(body) - start != wanted:
        told = f"the header promises {wanted:,} bytes of rows and {len(body) - start:,} follow"
        raise Refusal(400, "truncated" if len(body) - start < wanted else "trailing_bytes", told, "send the whole file, once")
    return _float32(np.frombuffer(body, kind, offset=start).reshape(shape, order=order))


def write_npy(rows: Float32[np.ndarray, "k d"], _name: str) -> bytes:
    """Return rows as a .npy file of little-endian float32."""
    return b"".join([_npy_head(*rows.shape), np.ascontiguousarray(rows, "<f4").data])


def read_json(body: bytes, dim: int, limits: Limits) -> Float32[np.ndarray, "k d"]:
    """Return the rows of a JSON body; raises a Refusal for anything but finite rows of `dim` numbers."""
    try:
        rows = Vectors.model_validate_json(body).vectors
    except ValidationError as problem:
        raise not_valid(problem, 'send {"vectors": [[0.1, …], …]}') from None
    limits.check_rows(len(rows))
    for number, row in enumerate(rows):
        if len(row) != dim:
            _wrong_dim(f"row {number} has {len(row):,} numbers", dim)
    return _float32(np.array(rows, np.float64))


def write_json(rows: Float32[np.ndarray, "k d"], name: str) -> bytes:
    """Return rows as JSON, with as many digits as float32 has."""
    return orjson.dumps({"model": name, "vectors": np.ascontiguousarray(rows)}, option=orjson.OPT_SERIALIZE_NUMPY)


FORMS = {
    NPY: Form(NPY, read_npy, write_npy),
    "application/octet-stream": Form(NPY, read_npy, write_npy),
    JSON: Form(JSON, read_json, write_json),
}


def not_valid(problem: ValidationError, hint: str) -> Refusal:
    """Return the refusal for a body of JSON that is none, or not what it should be; it says where, and quotes nothing."""
    first = problem.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return Refusal(400, "not_json", first["msg"], hint)
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part[:40]}" for part in first["loc"]).lstrip(".")
    return Refusal(422, "not_valid", f"{where}: {first['msg']}" if where else first["msg"], hint)


def _header(body: bytes) -> tuple[int, tuple[int, ...], Any, np.dtype]:
    """Return where the rows begin, their shape, their order and their type."""
    if not body:
        raise Refusal(422, "empty", "the body is empty", "send the rows as .npy")
    if not body.startswith(MAGIC) or len(body) < 12:
        raise Refusal(400, "not_npy", "the body is no .npy file", f"write one with numpy.save, or send {JSON}")
    width = 2 if body[6] == 1 else 4
    start = 8 + width + int.from_bytes(body[8 : 8 + width], "little")
    if start > LONGEST_HEADER or start > len(body):
        raise Refusal(400, "not_npy", "the .npy header is damaged", "write the file with numpy.save")
    shape, order, kind = _parsed(body[:start])
    if kind.kind != "f" or kind.itemsize not in (2, 4, 8):
        told = f"rows of type {kind.name if kind.names is None else 'structured'} are not read"
        raise Refusal(422, "wrong_type", told, "send float32: rows.astype('float32')")
    return start, shape, order, kind


@lru_cache(maxsize=256)
def _parsed(header: bytes) -> tuple[tuple[int, ...], Any, np.dtype]:
    """Return shape, order and type; remembered, because parsing costs as much as a small product and headers come again."""
    file = io.BytesIO(header)
    try:
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, by_column, kind = readers[np.lib.format.read_magic(file)](file, LONGEST_HEADER)
    except Exception:  # numpy reads the header as Python source, which can be wrong in any way that source can
        raise Refusal(400, "not_npy", "the .npy header is damaged", "write the file with numpy.save") from None
    return shape, FORTRAN if by_column else C, kind


@lru_cache(maxsize=256)
def _npy_head(rows: int, dim: int) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (rows, dim)})
    return file.getvalue()


def _check_shape(shape: tuple[int, ...], dim: int, limits: Limits) -> None:
    if len(shape) != 2 or min(shape) < 0:
        raise Refusal(422, "wrong_shape", f"the array has shape {shape}", f"send a matrix (rows, {dim}); one row is row[None]")
    limits.check_rows(shape[0])
    if shape[1] != dim:
        _wrong_dim(f"the rows have {shape[1]:,} dimensions", dim)


def _wrong_dim(told: str, dim: int) -> None:
    raise Refusal(
        422, "wrong_dimension", f"{told}; this translator reads {dim:,}", "send rows of its source model; GET /v1/models lists"
    )


def _float32(rows: Float[np.ndarray, "k d"]) -> Float32[np.ndarray, "k d"]:
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as such where it is translated
        return np.require(rows, np.float32, ["C", "A"])
