"""collection — what every database does alike: slices, cursors, ids, norms, checks, counts, clear errors, no secrets.

In    Address        scheme://host:port/name?column=…&metric=…&mode=upsert, or scheme:///path/name for a database on this disk
Out   Collection     a Store; a database adds `_connect`, `_look`, `_page`, `_count`, `_create`, `_put`, `_drop`
Uses  space, stores.connection, stores.documents

What is promised while others write: every row that is there from the first page to the last is read exactly once; rows that are
added or deleted meanwhile are read or not. Pages are asked for by the key after which they begin, never by their position.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, ClassVar, cast

import numpy as np
from jaxtyping import Float32

from crossvec.errors import SpaceError, StoreError, did_you_mean
from crossvec.space import BATCH_ROWS, Space, python_values
from crossvec.stores import Description
from crossvec.stores.address import with_option
from crossvec.stores.connection import Connected
from crossvec.stores.documents import ID, columns, documents, joined, norm_key, plain, reserved, unpack, weight
from crossvec.stores.rows import UNIT, Key, Layout, Page, filled, lengthened

METRICS = ("cosine", "dot", "euclidean")
BATCH_BYTES = 1 << 28  # payload of a batch that is read: a batch ends early rather than fill the memory


@dataclass(frozen=True)
class Collection(Connected):
    """A Store in a database. Options every database takes: `column` (or `vector`), `metric`, `mode`, `keep`, `bad_rows`."""

    options: ClassVar[frozenset[str]] = frozenset()
    page_rows: ClassVar[int] = BATCH_ROWS  # the most rows that one request reads
    put_rows: ClassVar[int] = BATCH_ROWS  # the most rows, and bytes, that one request writes
    put_bytes: ClassVar[int] = 1 << 24

    def __post_init__(self) -> None:
        self.address.only({"column", "vector", "metric", "mode", "keep", "bad_rows"} | self.options)
        allowed = {
            "bad_rows": ("refuse", "drop", "later"),
            "keep": ("vectors", "ids", "all"),
            "metric": METRICS,
            "mode": ("new", "upsert"),
        }
        for option, values in allowed.items():
            if self.address.options.get(option, values[0]) not in values:
                told = f"{option}={self.address.options[option]} is not possible for {self.address.url}"
                raise StoreError(told, f"use one of {', '.join(values)}")
        if not self.name:
            hint = f"write {self.address.scheme}://host/NAME, or {self.address.scheme}:///folder/NAME for one on this disk"
            raise StoreError(f"{self.address.url} names no collection", hint)

    @property
    def name(self) -> str:
        """The collection's name."""
        parts = self.address.split()[2]
        return parts[-1] if parts else ""

    @property
    def column(self) -> str:
        """The name of the vector that was asked for; empty when none was."""
        return self.address.options.get("column") or self.address.options.get("vector") or ""

    # --- what a database adds

    @abstractmethod
    def _look(self, client: Any) -> Layout | None:
        """Tell what the collection is like without reading its vectors, None when there is none.

        Raises StoreError when it holds no vectors, or several of which none was chosen (see `chosen`).
        """

    @abstractmethod
    def _page(self, client: Any, layout: Layout, after: Any, limit: int, vectors: bool) -> Page:
        """Return at most `limit` rows that follow `after` (None: from the start) in an order that does not change.

        No rows mean the end. `vectors` is False when they are not needed.
        """

    @abstractmethod
    def _count(self, client: Any) -> int:
        """Count the rows."""

    @abstractmethod
    def _create(self, client: Any, like: Description) -> None:
        """Make an empty collection of this dim, metric and id_type."""

    @abstractmethod
    def _put(
        self, client: Any, layout: Layout, keys: list[Key], vectors: Float32[np.ndarray, "k d"], rows: list[dict[str, Any]]
    ) -> None:
        """Write rows, replacing those of the same key, and wait until they can be read."""

    @abstractmethod
    def _drop(self, client: Any) -> None:
        """Delete the collection."""

    def _names(self, client: Any) -> list[str]:
        """Return the collections there are, for the hint to one that is missing."""
        return []

    def _key(self, value: int | str, layout: Layout) -> Key:
        """Return the key of an id; one that is not the id itself has the id kept beside it, in the payload."""
        return value

    def _id(self, key: Key) -> int | str:
        """Return the id that a key is, where none is kept in the payload."""
        return key if isinstance(key, (int, str)) else str(key)

    # --- reading

    def describe(self) -> Description:
        """Tell what the collection holds without reading its vectors."""
        with self.session() as client, self._telling():
            layout = self._found(client)
            start, stop = self.address.span(layout.rows)
        names = tuple(name for name in layout.payload if not reserved(name))
        return Description(
            self.address.url,
            self.name,
            self.format,
            stop - start,
            layout.dim,
            layout.dtype,
            ids=self._kept("ids"),
            payload=names if self._kept("payload") else (),
            metric=layout.metric,
            normalised=layout.normalised,
            named=layout.named,
            id_type=layout.id_type,
            exact=layout.exact,
        )

    def load(self) -> Space:
        """Return all rows at once."""
        return joined(list(self.read()))

    def read(self, batch: int = BATCH_ROWS) -> Iterator[Space]:
        """Yield all rows in stable order, at most `batch` at a time, at least one (perhaps empty) batch."""
        return (space for space, _ in self.pages(None, batch))

    def pages(self, cursor: str | None = None, batch: int = BATCH_ROWS) -> Iterator[tuple[Space, str]]:
        """Yield each batch with the cursor that resumes after it, a text that any later process may give.

        Raises StoreError, before the first batch, for a wrong place, slice or cursor.
        """
        if batch < 1:
            raise StoreError(f"a batch cannot have {batch} rows", "use 1 or more")
        done, after = _cursor(cursor)
        coming = self._pages(done, after, batch)
        next(coming)  # opens the database, and tells what is wrong
        return cast(Iterator[tuple[Space, str]], coming)

    def parts(self, slices: Sequence[tuple[int, int]]) -> Iterator[Space]:
        """Yield the rows of some slices of what is shown, given in order, in one reading and without the vectors between."""
        return (found[0] for found in self._pages(0, None, BATCH_ROWS, slices) if found)

    def _pages(
        self, done: int, after: Any, batch: int, slices: Sequence[tuple[int, int]] | None = None
    ) -> Iterator[tuple[Space, str] | None]:
        """Yield None when the place is found, then the batches; one session for all, since a layout may hold its client."""
        fresh = done == 0
        with self.session() as client:
            with self._telling():
                layout = self._found(client)
                first, end = self.address.span(layout.rows)
            # Without a slice the end is where no rows follow, however many there are by then.
            spans: list[tuple[int, int | None]] = [(first, end if self.address.rows else None)]
            if slices is not None:
                spans = [(first + start, first + stop) for start, stop in slices]
            yield None
            for start, stop in spans:
                while done < start:
                    with self._telling():
                        page = self._page(client, layout, after, min(self.page_rows, start - done), False)
                    if not page.keys:
                        break
                    done, after = done + len(page.keys), page.after
                while stop is None or done < stop:
                    held: list[Space] = []
                    rows = size = 0
                    wanted = batch if stop is None else min(batch, stop - done)
                    while rows < wanted and size < BATCH_BYTES:
                        with self._telling():
                            page = self._page(client, layout, after, min(self.page_rows, wanted - rows), True)
                        if not page.keys:
                            break
                        held.append(self._space(page, layout, done + rows))
                        rows, after, size = rows + len(page.keys), page.after, size + sum(map(weight, page.documents))
                    if not held:
                        break
                    done, fresh = done + rows, False
                    yield joined(held), json.dumps([done, after])
        if fresh:
            yield (
                self._space(Page([], np.empty((0, layout.dim), np.float32), [], None), layout, done),
                json.dumps([done, after]),
            )

    def _space(self, page: Page, layout: Layout, start: int) -> Space:
        bare = [i for i, vector in enumerate(page.vectors) if vector is None]
        bad_rows = self.address.options.get("bad_rows", "refuse")
        if bare and bad_rows == "refuse":
            named = f" {layout.vector!r}" if layout.vector else ""
            raise SpaceError(
                f"row {start + bare[0]:,} of {self.name} (id {page.keys[bare[0]]!r}) has no vector{named}",
                f"leave such rows out: {with_option(self.address.url, 'bad_rows=drop')}",
            )
        numbers = range(start, start + len(page.keys))
        vectors = page.vectors
        if not isinstance(vectors, np.ndarray):
            vectors = filled(list(vectors), layout.dim, numbers, self.name)
        rows = [unpack(dict(document)) for document in page.documents] or [{} for _ in page.keys]
        ids = [row.pop(ID, None) for row in rows]
        ids = [self._id(key) if kept is None else kept for key, kept in zip(page.keys, ids, strict=True)]
        vectors = lengthened(vectors, [row.pop(norm_key(layout.vector if layout.named else ""), None) for row in rows])
        for other in (norm_key(name) for name in layout.named if name != layout.vector):
            for row in rows:
                row.pop(other, None)
        payload = columns(rows) if self._kept("payload") else {}
        space = Space.of(
            vectors,
            ids if self._kept("ids") else None,
            payload or None,
            self.name,
            numbers=numbers,
            bad_rows=cast(Any, bad_rows),
        )
        if space.dim != layout.dim:
            raise SpaceError(f"{self.name} is ragged: row {start:,} has {space.dim:,} values, not {layout.dim:,}")
        return space

    # --- writing

    def write(self, batches: Iterable[Space]) -> int:
        """Write the batches and return the number of rows, counted afterwards.

        The collection is made when there is none; one that holds rows is only written to with `?mode=upsert`. All or nothing
        for a new collection: it is deleted again when a batch fails. Raises StoreError, also when rows are missing in the end.
        """
        if self.address.rows is not None:
            raise StoreError(f"{self.address.url} cannot be written: a destination takes no row slice", "leave rows= out")
        coming = iter(batches)
        first = next(coming, None)
        if first is None:
            raise SpaceError(f"there is nothing to write to {self.address.url}", "give at least one batch; it may be empty")
        with self.session() as client:
            with self._telling():
                before = self._look(client)
            if before is None:
                self.create(Description(self.address.url, self.name, self.format, 0, first.dim, "float32", **_ids(first)))
            elif before.rows and self.address.options.get("mode") != "upsert":
                hint = f"write to another name, or add to it: {with_option(self.address.url, 'mode=upsert')}"
                raise StoreError(f"{self.address.url} already holds {before.rows:,} rows", hint)
            try:
                rows = sum(self.upsert(space) for space in chain([first], coming))
                self._check_count(client, rows, before)
            except BaseException:
                if before is None:
                    self.delete()
                raise
        return rows

    def exists(self) -> bool:
        """Tell whether there is such a collection."""
        with self.session() as client, self._telling():
            return self._look(client) is not None

    def count(self) -> int:
        """Count the rows."""
        with self.session() as client, self._telling():
            return self._count(client)

    def create(self, like: Description) -> None:
        """Make an empty collection of the dim, metric (cosine when it has none) and id type of another.

        The option `metric` goes before. Raises StoreError when there is a collection of that name.
        """
        metric = self.address.options.get("metric") or like.metric or "cosine"
        if metric not in METRICS:
            hint = f"choose one: {with_option(self.address.url, 'metric=euclidean')}"
            raise StoreError(f"{self.format} cannot compare by {metric}", hint)
        with self.session() as client, self._telling():
            if self._look(client) is not None:
                raise StoreError(f"there is a collection {self.address.url} already", "give the new one another name")
            self._create(client, replace(like, metric=metric))
            self.known().clear()

    def upsert(self, space: Space) -> int:
        """Write the rows of a batch to an existing collection, replacing those of the same id, and return their number."""
        with self.session() as client:
            known = self.known()
            if (place := self.address.url) not in known:  # looking counts rows: not for every batch
                with self._telling():
                    known[place] = self._found(client)
            layout: Layout = known[place]
            if space.dim != layout.dim:
                hint = "rows of another model go to a collection of their own: give a new name"
                raise StoreError(f"{self.address.url} holds {layout.dim:,} dimensions, and these rows {space.dim:,}", hint)
            for keys, vectors, rows in self._outgoing(space, layout):
                with self._telling():
                    self._put(client, layout, keys, vectors, rows)
        return len(space)

    def delete(self) -> None:
        """Delete the collection, if there is one."""
        with self.session() as client, self._telling():
            if self._look(client) is not None:
                self._drop(client)
                self.known().clear()

    def _outgoing(self, space: Space, layout: Layout) -> Iterator[tuple[list[Key], np.ndarray, list[dict[str, Any]]]]:
        if taken := list(filter(reserved, space.columns)):
            raise StoreError(f"the payload has a column {taken[0]!r}, a name that crossvec keeps for itself", "rename it")
        x = space.array()
        rows = documents(space) if self._kept("payload") else [{} for _ in range(len(space))]
        rows = [{name: plain(value, name) for name, value in row.items()} for row in rows]
        ids = python_values(space.ids_or_numbers())
        keys = [self._key(value, layout) for value in ids]
        for row, value, key in zip(rows, ids, keys, strict=True):
            if key != value or type(key) is not type(value):
                row[ID] = value
        if layout.normalised is not False:
            norm = norm_key(layout.vector if layout.named else "")
            for row, length in zip(rows, np.linalg.norm(x.astype(np.float64), axis=1), strict=True):
                if abs(length - 1) > UNIT:
                    row[norm] = float(length)
        start = size = 0
        for stop, row in enumerate(rows):
            more = 4 * space.dim + weight(row)
            if stop > start and (stop - start == self.put_rows or size + more > self.put_bytes):
                yield keys[start:stop], x[start:stop], rows[start:stop]
                start, size = stop, 0
            size += more
        if len(rows) > start:
            yield keys[start:], x[start:], rows[start:]

    def _check_count(self, client: Any, rows: int, before: Layout | None) -> None:
        with self._telling():
            after = self._count(client)
        least = rows if before is None or not before.rows else max(rows, before.rows)
        if after < least:
            hint = "two ids that the database cannot tell apart became one, or rows were deleted meanwhile: compare the ids"
            raise StoreError(f"{rows:,} rows were written to {self.address.url}, which now holds {after:,}", hint)

    def _found(self, client: Any) -> Layout:
        layout = self._look(client)
        if layout is None:
            names = self._names(client)
            hint = did_you_mean(self.name, names) if names else "the database holds no collections"
            raise StoreError(f"there is no collection {self.address.url}", hint)
        return layout

    def _kept(self, what: str) -> bool:
        keep = self.address.options.get("keep", "all")
        return what in {"vectors": (), "ids": ("ids",), "all": ("ids", "payload")}[keep]


def chosen(named: Sequence[str], store: Collection) -> str:
    """Return which of a collection's named vectors to use: the one asked for, or the only one; StoreError otherwise."""
    if store.column:
        if store.column not in named:
            raise StoreError(f"{store.address.url} has no vector {store.column!r}", did_you_mean(store.column, named))
        return store.column
    if len(named) == 1:
        return named[0]
    told = f"{store.address.url} holds several vectors a row: {', '.join(named)}" if named else f"{store.name} holds no vectors"
    raise StoreError(
        told, f"choose one: {with_option(store.address.url, f'column={named[0]}')}" if named else "name another collection"
    )


def _ids(space: Space) -> dict[str, Any]:
    kinds = set(map(type, python_values(space.ids_or_numbers())))
    return {"ids": space.ids is not None, "id_type": "integer" if kinds == {int} else "text" if kinds == {str} else None}


def _cursor(cursor: str | None) -> tuple[int, Any]:
    try:
        done, after = json.loads(cursor) if cursor is not None else (0, None)
        if type(done) is int and done >= 0:
            return done, after
    except (ValueError, TypeError):
        pass
    raise StoreError(f"{cursor!r} is not a cursor that crossvec gave", "begin anew, without a cursor")
