"""rows — what database modules give and take: a Layout, Pages of rows; lengths and gaps put right; ids as UUIDs.

In    vectors as a database gives them, ids
Out   (k, d) rows as they were before the database scaled them; UUIDs for databases that take no other id
Uses  space
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast
from uuid import NAMESPACE_URL, UUID, uuid5

import numpy as np
from jaxtyping import Float32, Shaped

from crossvec.space import refuse_ragged

UNIT = 1e-5
"""How far a length may be from 1 and still count as 1: a few roundings of float32."""

Key = Any
"""An id as the database holds it."""


@dataclass(frozen=True)
class Layout:
    """What a collection is like, as `_look` finds it.

    `vector` names the vector that is read and written, where vectors have names; `about` is the database module's own, and
    lives as long as one reading or writing.
    """

    rows: int
    dim: int
    metric: str | None = None
    normalised: bool | None = None
    dtype: str = "float32"
    id_type: str | None = None
    payload: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    vector: str = ""
    exact: bool = True
    about: dict[str, Any] = field(default_factory=dict)


class Page(NamedTuple):
    """Rows as the database gives them: keys, vectors (None for a row that lacks one), documents, where the next page begins.

    `after` must be JSON.
    """

    keys: Sequence[Key]
    vectors: Shaped[np.ndarray, "k d"] | Sequence[Any]
    documents: Sequence[dict[str, Any]]
    after: Any


def packed(vectors: Iterable[Sequence[float] | None], n: int, dim: int) -> Shaped[np.ndarray, "n d"] | list[Any]:
    """Return n vectors that a client gives as lists of floats as a matrix; as a list where one is missing or of another length.

    Struct takes a list in half the time that NumPy does, and of lists taken one by one only one is in memory, where a page of
    them is eight times as large as the matrix.
    """
    rows, pack = np.empty((n, dim), np.float32), struct.Struct(f"{dim}f").pack_into
    coming, step = iter(vectors), 4 * dim
    for i, vector in enumerate(coming):
        try:
            pack(rows.data, i * step, *vector or ())
        except (struct.error, OverflowError):  # told by its number where rows are checked
            return [*rows[:i], vector, *coming]
    return rows


def filled(vectors: Sequence[Any], dim: int, numbers: Sequence[int], name: str) -> Float32[np.ndarray, "k d"]:
    """Return rows as a matrix; a row that is missing (None) is NaN, so that it is refused or dropped by its number.

    Raises SpaceError naming the rows of another length.
    """
    missing = np.full(dim, np.nan, np.float32)
    rows = [missing if vector is None else np.asarray(vector, np.float32) for vector in vectors]
    refuse_ragged(np.array([len(row) for row in rows], np.int64), dim, numbers, name)
    return np.stack(rows) if rows else np.empty((0, dim), np.float32)


def lengthened(vectors: Shaped[np.ndarray, "k d"], norms: Sequence[float | None]) -> Shaped[np.ndarray, "k d"]:
    """Return rows with their original lengths, where these were kept; a database may or may not have scaled them."""
    rows = [i for i, norm in enumerate(norms) if norm is not None]
    if not rows:
        return vectors
    kept = np.array([cast(float, norms[i]) for i in rows])
    lengths = np.linalg.norm(vectors[rows].astype(np.float64), axis=1)
    away = np.abs(lengths - kept) > UNIT * kept
    vectors = np.array(vectors, np.float32)
    with np.errstate(all="ignore"):
        vectors[np.array(rows)[away]] *= (kept / lengths)[away, None].astype(np.float32)
    return vectors


def uuid_of(value: int | str) -> str:
    """Return the UUID by which a database that takes only UUIDs knows an id; a UUID in its usual form stays as it is."""
    if isinstance(value, str) and is_uuid(value):
        return value
    return str(uuid5(NAMESPACE_URL, f"crossvec:{type(value).__name__}:{value}"))


def is_uuid(value: str) -> bool:
    """Tell whether a text is a UUID in its usual form: lower case, with hyphens."""
    try:
        return str(UUID(value)) == value
    except ValueError:
        return False
