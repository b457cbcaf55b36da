"""sampling — a part of what any store shows: a slice, or rows from all over it without the vectors between them.

In    Store
Out   a Store of some of its rows; batches, or one Space, of rows from everywhere in it; an exact uniform draw from several
Uses  stores, space
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import chain
from typing import Any, cast

import numpy as np

from crossvec.errors import StoreError
from crossvec.space import Space
from crossvec.stores import Store
from crossvec.stores.collection import Collection
from crossvec.stores.documents import joined

__all__ = ["drawn", "first_row", "opened", "part", "spread", "tolerant", "uniform"]

BLOCKS = 64
"""Places in a large store from which rows are taken: rows that lie together are often alike."""

ONE_WAY = (".jsonl",)
"""Formats of files in which a row is reached only past all that are before it: blocks of these are cut from one reading."""


@contextmanager
def opened(*stores: Store) -> Iterator[None]:
    """Keep databases open while the block runs: opening one may mean reading all of it."""
    with ExitStack() as held:
        for store in stores:
            if isinstance(store, Collection):
                held.enter_context(store.session())
        yield


def tolerant(store: Store) -> Store:
    """Return the store such that bad rows are left out and listed, unless its address says what to do with them."""
    address = getattr(store, "address", None)
    if address is None or "bad_rows" in address.options:
        return store
    changed = replace(address, options={**address.options, "bad_rows": "drop"})
    return cast(Store, replace(cast(Any, store), address=changed))


def part(store: Store, start: int, stop: int) -> Store:
    """Return rows start to stop of what the store shows, as a store."""
    address = getattr(store, "address", None)
    if address is None:
        raise StoreError("a store without an address cannot be read in parts", "copy it to a file first")
    first = first_row(store)
    return cast(Store, replace(cast(Any, store), address=replace(address, rows=(first + start, first + stop))))


def first_row(store: Store) -> int:
    """Return the number of the first row that the store shows."""
    address = getattr(store, "address", None)
    return address.rows[0] if address is not None and address.rows else 0


def spread(store: Store, rows: int, want: int) -> Iterator[Space]:
    """Yield about `want` of the store's `rows` rows, in order, from BLOCKS places; all of them when it has no more."""
    if rows <= want:
        yield from store.read()
        return
    size = max(want // BLOCKS, 1)
    blocks = [(start, start + size) for start in np.linspace(0, rows - size, min(BLOCKS, want)).astype(int).tolist()]
    if parts := getattr(store, "parts", None):
        yield from parts(blocks)
        return
    if getattr(store, "format", "") in ONE_WAY:
        yield from _cut(store, blocks)
        return
    for block in blocks:
        yield from part(store, *block).read()


def _cut(store: Store, blocks: Sequence[tuple[int, int]]) -> Iterator[Space]:
    """Yield the rows of some blocks, given in order, from one reading of all rows."""
    first = first_row(store)
    for batch in store.read():
        numbers = np.asarray(batch.numbers, np.int64) - first
        for start, stop in blocks:
            inside = np.arange(*np.searchsorted(numbers, [start, stop]))
            bad = tuple(row for row in batch.dropped if start <= row - first < stop)
            if len(inside) or bad:
                yield replace(batch.take(inside), dropped=bad)


def drawn(store: Store, rows: int, want: int, seed: int = 0) -> Space:
    """Return at most `want` of the store's `rows` rows with their ids and without payload; bad rows met are in `dropped`.

    Of a database no other vectors are read, and bad rows are left out. A file is loaded, memory-mapped where its format allows.
    """
    if not isinstance(store, Collection):
        space = store.load()
        return replace(space.sample(want, seed), dropped=space.dropped)
    spaces = [replace(space, payload=None) for space in spread(tolerant(store), rows, want)]
    return replace(joined(spaces), dropped=tuple(chain.from_iterable(space.dropped for space in spaces)))


def uniform(places: Sequence[Store], want: int, seed: int = 0) -> Space:
    """Return `want` rows drawn without replacement from several stores in a row, in their order, with ids and without payload.

    Exact, as from a reservoir: every set of `want` rows is equally likely, whichever store they lie in. All rows pass by, a
    batch at a time, and only those drawn are held. `numbers` count over all stores; bad rows that `?bad_rows=drop` left out are
    in `dropped`, and of those that were drawn nothing stands in. Raises what reading raises.
    """
    counts = [place.describe().rows for place in places]
    total = sum(counts)
    drawn = np.sort(np.random.default_rng(seed).choice(total, min(want, total), replace=False))
    held: list[Space] = []
    dropped: list[int] = []
    begun = 0
    for place, count in zip(places, counts, strict=True):
        shift = begun - first_row(place)
        for batch in place.read():
            numbers = np.asarray(batch.numbers, np.int64) + shift
            # Both are in order, so a search finds the few that were drawn.
            inside = drawn[slice(*np.searchsorted(drawn, [numbers[0], numbers[-1] + 1]))] if len(batch) else drawn[:0]
            dropped += [row + shift for row in batch.dropped]
            if len(inside) or not held:
                chosen = np.flatnonzero(np.isin(numbers, inside))
                picked = replace(batch, payload=None).take(chosen)
                held.append(replace(picked, numbers=numbers[chosen], vectors=picked.vectors.copy()))
        begun += count
    return replace(joined([space for space in held if len(space)] or held[:1]), dropped=tuple(dropped))
