"""reading — how a migration reads any store: from where it stopped, a part of it, or a sample; bad rows noted, not fatal.

In    Store
Out   batches, each with a cursor that resumes after it; a Sample of rows from all over the store
Uses  stores, space
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from jaxtyping import Float32

from crossvec.errors import SpaceError, StoreError, did_you_mean
from crossvec.space import BATCH_ROWS, Space, python_values
from crossvec.stores import Store
from crossvec.stores.collection import Collection
from crossvec.stores.documents import documents, plain, weight
from crossvec.stores.files import FileStore
from crossvec.stores.sampling import first_row, opened, part, spread

WHOLE = 4
"""A store of up to this many times the sample is read whole, and the sample drawn from all of its rows."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Rows from all over a store, in the store's order.

    `vectors` (n, d); `ids` are the rows' ids, or their numbers where they have none; `digests` stand for their payload; `texts`
    are the values of one payload field where one was asked for. `payload_bytes` is the mean a row, `rate` the rows a second
    that are read in a row, `bad` the numbers of rows met that have no usable vector.
    """

    vectors: Float32[np.ndarray, "n d"]
    ids: list[int | str]
    numbers: list[int]
    digests: list[str]
    texts: list[str | None]
    payload_bytes: float
    rate: float
    bad: tuple[int, ...]

    def __len__(self) -> int:
        """Return n."""
        return len(self.ids)

    def take(self, index: np.ndarray) -> Sample:
        """Return the rows at these positions."""
        return replace(
            self,
            vectors=self.vectors[index],
            ids=[self.ids[i] for i in index],
            numbers=[self.numbers[i] for i in index],
            digests=[self.digests[i] for i in index],
            texts=[self.texts[i] for i in index],
        )


def pages(store: Store, cursor: str | None = None, batch: int = BATCH_ROWS) -> Iterator[tuple[Space, str]]:
    """Yield each batch with the cursor that resumes after it; nothing when no rows follow.

    In a file a cursor is a number of rows, so it means the same row only as long as the file is the same.
    """
    if isinstance(store, Collection):
        yield from ((space, after) for space, after in store.pages(cursor, batch) if len(space) or space.dropped)
        return
    done, rows = int(cursor or 0), store.describe().rows
    if done >= rows:
        return
    for space in (part(store, done, rows) if done else store).read(batch):
        done += len(space) + len(space.dropped)
        yield space, str(done)


def usable(store: Store, cursor: str | None = None, batch: int = BATCH_ROWS) -> Iterator[tuple[Space, list[Any], str]]:
    """Yield each batch without its bad rows, these rows' ids (None in a store without), and the cursor that resumes after it.

    The bad rows' numbers are in `dropped`. A store whose address says `bad_rows=refuse` raises SpaceError at the first instead.
    """
    if isinstance(store, (Collection, FileStore)) and store.address.options.get("bad_rows") != "refuse":
        later = replace(store.address, options={**store.address.options, "bad_rows": "later"})
        store = replace(store, address=later)
    for space, after in pages(store, cursor, batch):
        try:
            space.array()
        except SpaceError:
            good = Space.of(space.vectors, space.ids, space.payload, space.name, numbers=space.numbers, bad_rows="drop")
            ids = dict(zip(space.numbers, python_values(space.ids), strict=True)) if space.ids is not None else {}
            yield good, [ids.get(row) for row in good.dropped], after
        else:
            yield space, [None] * len(space.dropped), after


def sample(store: Store, want: int, seed: int = 0, field: str | None = None) -> Sample:
    """Draw up to `want` rows: from all of a small store, from many places of a large one.

    `field` names the payload field that holds the rows' texts. Raises SpaceError when the store holds no usable row, StoreError
    when none of those looked at has the field.
    """
    told = store.describe()
    if not told.rows:
        raise SpaceError(f"{told.url} holds no rows: there is nothing to migrate", "name a collection that holds some")
    whole = told.rows <= WHOLE * want
    drawn = first_row(store) + np.random.default_rng(seed).permutation(told.rows)[:want] if whole else None
    size, took = 0, []
    held: list[Space] = []
    digests: list[str] = []
    texts: list[str | None] = []
    bad: list[int] = []
    fields: set[str] = set()
    for space, seconds in _timed(_read(store, told.rows, want, whole)):
        took.append((len(space) + len(space.dropped), seconds))
        bad += space.dropped
        if drawn is not None:
            space = space.take(np.flatnonzero(np.isin(np.asarray(space.numbers, np.int64), drawn)))
        rows = documents(space)
        fields.update(space.columns)
        size += sum(map(weight, rows))
        digests += map(digest, rows)
        texts += [text if isinstance(text := row.get(field or ""), str) and text.strip() else None for row in rows]
        held.append(replace(space, payload=None))  # payload can be large, and only its digest is needed again
    if not digests:
        raise SpaceError(
            f"no row of {told.url} that was looked at has a usable vector", f"look at it: crossvec inspect {told.url}"
        )
    if field is not None and field not in fields:  # a description names only what the first rows hold
        hint = did_you_mean(field, sorted(fields)) if fields else "name a file of texts instead: --texts FILE"
        raise StoreError(f"no row of {told.url} that was looked at has a field {field!r} in its payload", hint)
    return Sample(
        np.concatenate([space.array() for space in held]),
        [i for space in held for i in python_values(space.ids_or_numbers())],
        [int(i) for space in held for i in space.numbers],
        digests,
        texts,
        size / len(digests),
        _rate(took if whole else _first(store)),
        tuple(bad),
    )


def _timed(batches: Iterator[Space]) -> Iterator[tuple[Space, float]]:
    """Yield batches with the seconds that each took to come, whatever is done with them meanwhile."""
    started = time.perf_counter()
    for space in batches:
        yield space, time.perf_counter() - started
        started = time.perf_counter()


def _first(store: Store) -> list[tuple[int, float]]:
    """Return rows and seconds of the first two batches: blocks tell no pace, each of which is looked for anew."""
    with opened(store):
        return [(len(space) + len(space.dropped), seconds) for space, seconds in islice(_timed(store.read()), 2)]


def _rate(took: list[tuple[int, float]]) -> float:
    """Return the rows a second of the last of the largest batches: the first pays for opening, a short one tells little."""
    rows, seconds = max(reversed(took), key=lambda it: it[0])
    return rows / max(seconds, 1e-9)


def _read(store: Store, rows: int, want: int, whole: bool) -> Iterator[Space]:
    with opened(store):
        yield from store.read() if whole else spread(store, rows, want)


def digest(document: Mapping[str, Any]) -> str:
    """Return a text that is the same for equal payload, whichever store it comes from.

    Stores differ in the last digit of a float, in whether 1.0 is a float, and in whether a missing key is there as nothing.
    """
    told = {key: _canonical(plain(value, key)) for key, value in document.items() if value is not None}
    text = json.dumps(told, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def _canonical(value: Any) -> Any:
    if isinstance(value, float):
        return int(value) if value.is_integer() else f"{value:.9g}"
    if isinstance(value, dict):
        return {key: _canonical(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_canonical(inner) for inner in value]
    return value
