"""documents — payload as databases hold it: one JSON document a row, where a key may be missing and a value may be anything.

In    documents of a page, or a Space's columns
Out   columns that remember which rows lack the key; documents without these keys; what a flat table cannot hold, as JSON text
Uses  space

A Space holds payload in columns, and there a missing key reads as None. `Sparse` columns tell one from the other, so that what
goes from database to database keeps every document as it was.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from jaxtyping import Int

from crossvec.errors import StoreError
from crossvec.space import Space, python_values

ID, NORM, REST = "_crossvec_id", "_crossvec_norm", "_crossvec_json"
RESERVED = frozenset({ID, NORM, REST})
"""Keys that crossvec adds to documents, and takes out on reading: the original id where the database takes no such id, the
original length of a row where the database scales rows to unit length, as JSON text what the database's types cannot hold."""


def norm_key(vector: str) -> str:
    """Return the key for the length of a row's vector of this name: each has its own; "" where vectors have no names."""
    return f"{NORM}_{vector}" if vector else NORM


def reserved(key: str) -> bool:
    """Tell whether a key is one that crossvec keeps for itself."""
    return key in RESERVED or key.startswith(f"{NORM}_")


SCALARS = frozenset({int, float, bool, type(None)})


class Sparse(list[Any]):
    """A payload column that some rows lack: these read as None, and `there` tells them from rows that hold None."""

    def __init__(self, values: Iterable[Any], there: Sequence[bool]) -> None:
        super().__init__(values)
        self.there = list(there)

    def __getitem__(self, which: Any) -> Any:
        """Return a value, or for a slice the column of these rows."""
        picked = super().__getitem__(which)
        return Sparse(picked, self.there[which]) if isinstance(which, slice) else picked

    def take(self, index: Int[np.ndarray, " k"]) -> Sparse:
        """Return the column of the rows at these positions."""
        return Sparse([self[i] for i in index], [self.there[i] for i in index])


def columns(documents: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return documents as columns; a column that some documents lack is Sparse."""
    columns = {}
    for name in dict.fromkeys(chain.from_iterable(documents)):
        values = [document.get(name) for document in documents]
        there = [name in document for document in documents] if None in values else [True]
        columns[name] = values if all(there) else Sparse(values, there)
    return columns


def documents(space: Space) -> list[dict[str, Any]]:
    """Return a Space's payload as documents, without the keys that rows lack."""
    found: list[dict[str, Any]] = [{} for _ in range(len(space))]
    for name, column in space.columns.items():
        there = column.there if isinstance(column, Sparse) else None
        for row, value in enumerate(python_values(column)):
            if there is None or there[row]:
                found[row][name] = value
    return found


def joined(spaces: Sequence[Space]) -> Space:
    """Return batches as one Space, in order; at least one is needed."""
    first = spaces[0]
    if len(spaces) == 1:
        return first
    ids = None if first.ids is None else list(chain.from_iterable(python_values(space.ids) for space in spaces))
    payload = columns(list(chain.from_iterable(documents(space) for space in spaces)))
    numbers = np.concatenate([np.asarray(space.numbers, np.int64) for space in spaces])
    dropped = tuple(chain.from_iterable(space.dropped for space in spaces))
    whole = Space(np.concatenate([space.vectors for space in spaces]), ids, payload or None, first.name, numbers, dropped)
    return whole._trusted() if all(space.checked for space in spaces) else whole


def plain(value: Any, name: str = "") -> Any:
    """Return a payload value as JSON can hold it: dates as ISO text, UUIDs and decimals as text, NumPy values as Python's.

    Raises StoreError for what has no such form, such as bytes that are no text.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(inner, name or str(key)) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(inner, name) for inner in value]
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist(), name)
    if type(value).__name__ in ("UUID", "Decimal"):
        return str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(bytes(value)).decode()
    raise StoreError(f"the payload {name!r} holds a {type(value).__name__}, which JSON cannot hold", "convert it to text")


def pack(document: Mapping[str, Any], fits: Callable[[str, Any], bool]) -> dict[str, Any]:
    """Return a document with what does not fit the database's own types moved into one text of JSON, under the key REST."""
    flat = {key: value for key, value in document.items() if fits(key, value)}
    rest = {key: value for key, value in document.items() if key not in flat}
    return flat | {REST: json.dumps(rest, ensure_ascii=False)} if rest else flat


def unpack(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document as it was before `pack`."""
    rest = document.pop(REST, None)
    return document | json.loads(rest) if rest else document


def names(sample: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the keys of some documents as a database holds them, in the order in which they come up."""
    found = chain.from_iterable(unpack(dict(document)) for document in sample)
    return tuple(name for name in dict.fromkeys(found) if not reserved(name))


def weight(value: Any) -> int:
    """Return about how many bytes a payload value takes."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):  # every row comes by here twice: flat documents are summed without a call for each value
        size = 0
        for key, inner in value.items():
            kind = type(inner)
            size += len(key) + (len(inner) if kind is str else 8 if kind in SCALARS else weight(inner))
        return size
    if isinstance(value, Mapping):
        return weight(dict(value))
    if isinstance(value, (list, tuple)):
        return sum(map(weight, value))
    return 8
