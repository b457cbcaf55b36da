"""sqlite — tables of an SQLite file: vec0 tables of sqlite-vec, and plain tables with a column of vector bytes.

In    sqlite:///folder/file.db/table?column=embedding&id=id&dtype=float32
Out   Space                                    in the order of the rows' numbers (rowid), or of the key where these do not last
Uses  stores.collection, stores.sqlitefile; apsw (many builds of Python let their sqlite3 load no extensions), sqlite-vec

In a plain table a column of BLOBs is a vector when its bytes are numbers, float32 or as `dtype` says, such as embeddings hold.
The id is the column that `id` names, or the primary key, or the row's number. All other columns are payload; rows written
to a table of yours go into the columns that it has. crossvec makes vec0 tables of id, embedding and crossvec_json, which holds
the payload and is read back as the documents that were written; sqlite-vec compares by cosine and euclidean, not by dot. Not
read: bit vectors.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from crossvec.errors import StoreError, did_you_mean
from crossvec.stores import Description
from crossvec.stores.address import with_option
from crossvec.stores.collection import chosen
from crossvec.stores.documents import REST, names
from crossvec.stores.rows import Key, Layout, Page
from crossvec.stores.sqlitefile import VEC0, File, quoted, renamed
from crossvec.stores.switching import Switching

METRICS = {"cosine": "cosine", "l2": "euclidean", "l1": "manhattan"}
DTYPES = {"float32": "<f4", "float64": "<f8", "float16": "<f2", "int8": "i1"}
VECTOR = re.compile(r"(\w+)\s+(float|f32|int8|i8)\s*\[\s*(\d+)\s*\](.*)", re.IGNORECASE | re.DOTALL)
METRIC = re.compile(r"distance_metric\s*=\s*(\w+)", re.IGNORECASE)
DOCUMENT = "crossvec_json"  # sqlite-vec takes no name that begins with an underscore
SAMPLED = 16
LARGEST = 1e9  # embeddings hold no such numbers, and other bytes that are read as floats soon do


class SqliteTable(Switching):
    """A table with a column of vectors."""

    format = "sqlite"
    module = "apsw"
    extra = "sqlite"
    options = frozenset({"id", "dtype"})
    renaming = "both in one transaction"

    @property
    def path(self) -> Path:
        """The database's file."""
        return self.address.folder()[0]

    @property
    def table(self) -> str:
        """The table's name as SQL."""
        return quoted(self.name)

    @property
    def _numbers(self) -> str:
        """The table in which sqlite-vec keeps the rows' numbers and ids of a table of its own, as SQL."""
        return quoted(f"{self.name}_rowids")

    @property
    def dtype(self) -> str:
        """The type of the numbers in a column of bytes."""
        asked = self.address.options.get("dtype", "float32")
        if asked not in DTYPES:
            raise StoreError(f"dtype={asked} is not possible for {self.address.url}", f"use one of {', '.join(DTYPES)}")
        return asked

    def _connect(self) -> Any:
        if self.address.split()[0]:
            raise StoreError(f"{self.address.url} names a server, and SQLite has none", "write sqlite:///folder/file.db/table")
        return File(self.path, self.client_library())

    def _shared(self) -> Hashable:
        return str(self.path.absolute())

    def _names(self, client: Any) -> list[str]:
        if not client.path.is_file():
            raise StoreError(f"there is no file {client.path}", _files(client.path))
        told = client.sql("SELECT name, sql FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'")
        virtual = [name for name, sql in told if VEC0.search(sql or "")]
        return sorted(name for name, _ in told if not any(name.startswith(f"{it}_") for it in virtual if it != name))

    def _look(self, client: Any) -> Layout | None:
        if not client.path.exists():
            return None
        told = client.sql(
            "SELECT name, sql FROM sqlite_master WHERE type IN ('table', 'view') AND lower(name) = lower(?)", [self.name]
        )
        if not told:
            return None
        match = VEC0.search(told[0][1] or "")
        return self._look_vec0(client, match[1]) if match else self._look_plain(client)

    def _look_vec0(self, client: Any, arguments: str) -> Layout:
        self._load(client)
        found = [VECTOR.fullmatch(argument.strip()) for argument in arguments.split(",")]
        vectors = {match[1]: match for match in found if match}
        vector = chosen(list(vectors), self)
        columns = [(row[1], bool(row[5])) for row in client.sql(f"PRAGMA table_xinfo({self.table})") if not row[6]]
        key = next((name for name, primary in columns if primary), "rowid")
        text = any(re.match(rf"\s*{key}\s+text\b", argument, re.IGNORECASE) for argument in arguments.split(","))
        bits = {it.split()[0] for it in arguments.split(",") if re.match(r"\s*\w+\s+bit\s*\[", it, re.IGNORECASE)}
        others = [name for name, _ in columns if name not in {key, *vectors, *bits}]
        made = others == [DOCUMENT]
        whole = vectors[vector][2][0] in "fF"
        # sqlite-vec changes no int8 vector and no partition in place (0.1.9): such rows are written anew, under other numbers.
        lasting = not text or (whole and not re.search(r"\bpartition\s+key\b", arguments, re.IGNORECASE))
        sample = client.sql(f"SELECT {DOCUMENT} FROM {self.table} LIMIT {SAMPLED}") if made else []
        metric = METRIC.search(vectors[vector][4])
        return Layout(
            self._count(client),
            int(vectors[vector][3]),
            METRICS.get(metric[1].lower(), metric[1].lower()) if metric else METRICS["l2"],
            False,
            "float32" if whole else "int8",
            "text" if text else "integer",
            names({REST: row} for (row,) in sample if row) if made else tuple(others),
            tuple(vectors) if len(vectors) > 1 else (),
            vector,
            about={
                "key": key,
                "others": others,
                "made": made,
                "vec0": True,
                "vectors": vectors,
                "unique": True,
                "order": "rowid" if lasting else "id",  # columns of its table of row numbers
            },
        )

    def _load(self, client: Any) -> None:
        if not client.vec0:
            path = self.client_library("sqlite_vec").loadable_path()
            client.open().enable_load_extension(True)
            client.open().load_extension(path)
            client.open().enable_load_extension(False)
            client.vec0 = True

    def _look_plain(self, client: Any) -> Layout:
        told = client.sql(f"PRAGMA table_xinfo({self.table})")
        columns = [row[1] for row in told]
        primary = [row[1] for row in told if row[5]]
        order = self._order(client, primary)
        key, unique = self._key_column(client, columns, primary, order)
        vectors = [name for name in columns if name != key and self._is_vector(client, name)]
        if self.column and self.column in columns and self.column not in vectors:
            raise StoreError(
                f"the column {self.column!r} of {self.address.url} holds no {self.dtype} vectors", self._hint(vectors)
            )
        if not vectors and not client.sql(f"SELECT 1 FROM {self.table} LIMIT 1"):
            raise StoreError(f"{self.address.url} holds no rows, so no dimension either", "write to a new table")
        vector = chosen(vectors, self)
        length = client.sql(f"SELECT length({quoted(vector)}) FROM {self.table} WHERE {quoted(vector)} IS NOT NULL LIMIT 1")
        others = [name for name in columns if name not in (key, *vectors)]
        kinds = client.sql(
            f"SELECT DISTINCT typeof({quoted(key)}) FROM (SELECT {quoted(key)} FROM {self.table} LIMIT {SAMPLED})"
        )
        return Layout(
            self._count(client),
            length[0][0] // np.dtype(self.dtype).itemsize,
            None,
            False,
            self.dtype,
            "integer" if kinds == [("integer",)] else "text" if kinds == [("text",)] else None,
            tuple(others),
            tuple(vectors) if len(vectors) > 1 else (),
            vector,
            about={"key": key, "others": others, "made": False, "vec0": False, "unique": unique, "order": order},
        )

    def _hint(self, vectors: list[str]) -> str:
        return f"vectors are in {', '.join(vectors)}" if vectors else "name another column, or the type: ?dtype=float64"

    def _order(self, client: Any, primary: list[str]) -> str:
        """Return the column in whose order rows are read."""
        try:
            client.sql(f"SELECT rowid FROM {self.table} LIMIT 1")
        except client.apsw.SQLError:
            order = self.address.options.get("id") or (primary[0] if len(primary) == 1 else "")
            if not order:
                hint = f"name a unique column: {with_option(self.address.url, 'id=COLUMN')}"
                raise StoreError(f"{self.address.url} has no row numbers and no key of one column", hint) from None
            return order
        return "rowid"

    def _key_column(self, client: Any, columns: list[str], primary: list[str], order: str) -> tuple[str, bool]:
        """Return the column of ids, and whether rows can be written by it."""
        asked = self.address.options.get("id")
        if asked and asked not in [*columns, "rowid"]:
            raise StoreError(f"{self.address.url} has no column {asked!r}", did_you_mean(asked, columns))
        key = asked or (primary[0] if len(primary) == 1 else "rowid")
        unique = [row[1] for row in client.sql(f"PRAGMA index_list({self.table})") if row[2] and not row[4]]
        fields = [[row[2] for row in client.sql(f"PRAGMA index_info({quoted(name)})")] for name in unique]
        if primary == [key] or [key] in fields:
            return key, True
        if key != "rowid":
            name = quoted(key)
            told = client.sql(f"SELECT count(*) - count({name}), count({name}) - count(DISTINCT {name}) FROM {self.table}")
            if any(told[0]):
                what = f"{told[0][0]:,} rows without an id" if told[0][0] else f"{told[0][1]:,} rows whose id others have too"
                hint = f"name a unique column, or use the rows' numbers: {with_option(self.address.url, 'id=rowid')}"
                raise StoreError(f"the column {key!r} of {self.address.url} has {what}", hint)
        return key, False

    def _is_vector(self, client: Any, column: str) -> bool:
        name, size = quoted(column), np.dtype(self.dtype).itemsize
        rows = client.sql(f"SELECT {name} FROM {self.table} WHERE {name} IS NOT NULL LIMIT {SAMPLED}")
        for (value,) in rows:
            if not isinstance(value, bytes) or not value or len(value) % size:
                return False
            with np.errstate(invalid="ignore"):
                if not (np.abs(np.frombuffer(value, DTYPES[self.dtype]).astype(np.float64)) < LARGEST).all():
                    return False
        return bool(rows)

    def _page(self, client: Any, layout: Layout, after: Any, limit: int, vectors: bool) -> Page:
        about = layout.about
        others = about["others"] if vectors else []
        wanted = [*([quoted(layout.vector)] if vectors else []), *map(quoted, others)]
        if about["vec0"]:
            rows = self._vec0_rows(client, layout, after, limit, wanted)
        else:
            order = quoted(about["order"])
            where = f"WHERE {order} > ?" if after is not None else ""
            picked = ", ".join([order, quoted(about["key"]), *wanted])
            query = f"SELECT {picked} FROM {self.table} {where} ORDER BY {order} LIMIT {limit}"
            rows = client.sql(query, [after] if after is not None else [])
        keys, last = [row[1] for row in rows], rows[-1][0] if rows else after
        for at, key in enumerate(keys):
            if type(key) not in (int, str):
                told = f"a row of {self.address.url} has the id {key!r}, which is no whole number and no text"
                raise StoreError(told, f"name another column: {with_option(self.address.url, 'id=rowid')}" if at >= 0 else "")
        if not vectors or not rows:
            return Page(keys, [None] * len(keys), [{}] * len(keys), last)
        documents = [{REST: row[3]} if about["made"] else dict(zip(others, row[3:], strict=True)) for row in rows]
        return Page(keys, self._matrix([row[2] for row in rows], keys, layout), documents, last)

    def _vec0_rows(self, client: Any, layout: Layout, after: Any, limit: int, wanted: list[str]) -> list[tuple[Any, ...]]:
        # vec0 has no order of its own: its table of row numbers has, and gives each row by its key.
        self._load(client)
        key, order, shadow = layout.about["key"], layout.about["order"], self._numbers
        column = "id" if layout.id_type == "text" else "rowid"
        where = f"WHERE r.{order} > ?" if after is not None else ""
        if not wanted:
            query = f"SELECT r.{order}, r.{column} FROM {shadow} r {where} ORDER BY r.{order} LIMIT {limit}"
        else:
            picked = ", ".join([f"r.{order}, v.{quoted(key)}", *(f"v.{name}" for name in wanted)])
            query = (
                f"SELECT {picked} FROM {shadow} r CROSS JOIN {self.table} v ON v.{quoted(key)} = r.{column} {where}"
                f" ORDER BY r.{order} LIMIT {limit}"
            )
        return client.sql(query, [after] if after is not None else [])  # type: ignore[no-any-return]

    def _matrix(self, values: list[Any], keys: list[Key], layout: Layout) -> Any:
        dtype = np.dtype(DTYPES[layout.dtype])
        length = dtype.itemsize * layout.dim
        if all(isinstance(it, bytes) and len(it) == length for it in values):
            return np.frombuffer(b"".join(values), dtype).reshape(len(values), layout.dim)
        for key, value in zip(keys, values, strict=True):
            if value is not None and (not isinstance(value, bytes) or len(value) % dtype.itemsize):
                told = f"the row {key!r} of {self.address.url} holds no {layout.dtype} vector in {layout.vector!r}"
                raise StoreError(told, "mend or delete that row, or name another column: ?column=")
        return [None if value is None else np.frombuffer(value, dtype) for value in values]

    def _count(self, client: Any) -> int:
        shadow = client.sql("SELECT sql FROM sqlite_master WHERE lower(name) = lower(?)", [self.name])
        name = self._numbers if VEC0.search(shadow[0][0] or "") else self.table
        return int(client.sql(f"SELECT count(*) FROM {name}")[0][0])

    def _create(self, client: Any, like: Description) -> None:
        metrics = {metric: name for name, metric in METRICS.items()}
        if like.metric not in metrics:
            hint = f"choose one: {with_option(self.address.url, 'metric=cosine')}"
            raise StoreError(f"sqlite-vec cannot compare by {like.metric}", hint)
        vector, key = self.column or "embedding", self.address.options.get("id") or "id"
        for name in (vector, key):
            if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII) or len({vector, key, DOCUMENT}) < 3:
                raise StoreError(f"sqlite-vec takes no column of the name {name!r}", "use letters, such as column=embedding")
        client.path.parent.mkdir(parents=True, exist_ok=True)
        client.open(make=True)
        self._load(client)
        kind = "integer" if like.id_type == "integer" else "text"
        client.sql(
            f"CREATE VIRTUAL TABLE {self.table} USING vec0({key} {kind} primary key,"
            f" {vector} float[{like.dim}] distance_metric={metrics[like.metric]}, +{DOCUMENT} text)"
        )

    def _put(
        self, client: Any, layout: Layout, keys: list[Key], vectors: Float32[np.ndarray, "k d"], rows: list[dict[str, Any]]
    ) -> None:
        about, key = layout.about, quoted(layout.about["key"])
        if about["vec0"] and len(about["vectors"]) > 1:
            hint = "write to a new table, and join the two by id"
            raise StoreError(f"{self.address.url} has several vectors a row, and sqlite-vec wants all of them at once", hint)
        if not about["unique"]:
            hint = "name one: ?id=COLUMN, after CREATE UNIQUE INDEX; or write to a new table"
            raise StoreError(f"{self.address.url} has no unique column of ids, by which rows could be replaced", hint)
        named = [about["key"], layout.vector, *about["others"]]
        if not about["made"] and (strange := next((name for row in rows for name in row if name not in about["others"]), None)):
            hint = f"add it: ALTER TABLE {self.table} ADD COLUMN {quoted(strange)}; or write to a new table"
            raise StoreError(f"{self.address.url} has no column for the payload {strange!r}", hint)
        sent = (row.tobytes() for row in vectors.astype(DTYPES[layout.dtype]))
        values = [
            (
                i,
                x,
                *([json.dumps(row, ensure_ascii=False)] if about["made"] else [_plain(row.get(it)) for it in about["others"]]),
            )
            for i, x, row in zip(keys, sent, rows, strict=True)
        ]
        columns, places = ", ".join(map(quoted, named)), ", ".join("?" * len(named))
        if about["vec0"]:
            self._load(client)
        with client.lock, client.open() as connection:
            if about["vec0"]:  # which knows no upsert
                values = self._replaced(connection, layout, named, values)
                places = places if layout.dtype == "float32" else places.replace("?, ?", "?, vec_int8(?)", 1)
                connection.executemany(f"INSERT INTO {self.table} ({columns}) VALUES ({places})", values)
            else:
                replaced = ", ".join(f"{name} = excluded.{name}" for name in map(quoted, named[1:]))
                connection.executemany(
                    f"INSERT INTO {self.table} ({columns}) VALUES ({places}) ON CONFLICT ({key}) DO UPDATE SET {replaced}",
                    values,
                )

    def _replaced(self, connection: Any, layout: Layout, named: list[str], values: list[Any]) -> list[Any]:
        """Make room in a table of sqlite-vec for rows that are there already, and return those that are to be inserted.

        A row whose key is a text gets a new number when it is deleted and inserted. Who reads in the order of the numbers would
        meet it again, and never end where the reader writes. So it is changed where it stands.
        """
        key = quoted(named[0])
        if layout.id_type != "text" or layout.about["order"] == "id":
            connection.executemany(f"DELETE FROM {self.table} WHERE {key} = ?", [row[:1] for row in values])
            return values
        changes = ", ".join(f"{quoted(name)} = ?{place}" for place, name in enumerate(named[1:], 2))
        connection.executemany(f"UPDATE {self.table} SET {changes} WHERE {key} = ?1", values)
        there = f"SELECT 1 FROM {self._numbers} WHERE id = ?"  # asked after the first change, which keeps other writers out
        return [row for row in values if not connection.execute(there, row[:1]).fetchall()]

    def _drop(self, client: Any) -> None:
        client.sql(f"DROP TABLE {self.table}")

    def _there(self, client: Any, name: str) -> bool:
        return bool(client.sql("SELECT 1 FROM sqlite_master WHERE lower(name) = lower(?)", [name]))

    def _rename(self, client: Any, changes: Sequence[tuple[str, str]]) -> None:
        self._load(client)
        renamed(client, changes)

    def _fields(self, layout: Layout) -> frozenset[str]:
        key = {layout.about["key"]} - {"rowid"}
        return frozenset({layout.vector, *layout.named, *layout.about["others"], *key})

    def _new_fields(self) -> frozenset[str]:
        return frozenset({self.column or "embedding", self.address.options.get("id") or "id", DOCUMENT})

    def _like(self, new: str, layout: Layout) -> str:
        return super()._like(new, layout) if layout.about["vec0"] else self.by_hand  # an empty plain table tells no dimension

    def _kept_back(self, client: Any, dest: Any) -> tuple[str, ...]:
        query = "SELECT count(*) FROM sqlite_master WHERE type IN ('view', 'trigger') AND instr(lower(sql), lower(?)) > 0"
        ((found,),) = client.sql(query, [self.name])
        return (f"views and triggers that speak of {self.name} go on with the old rows: {found}",) if found else ()

    def _key(self, value: int | str, layout: Layout) -> Key:
        if layout.id_type == "text":
            return str(value)
        if layout.id_type == "integer" and (not isinstance(value, int) or not -(2**63) <= value < 2**63):
            hint = "write to a new table: its ids are text when any id is"
            raise StoreError(f"the ids of {self.address.url} are whole numbers of 8 bytes, and {value!r} is none", hint)
        return value

    def _explain(self, error: Exception) -> tuple[str, str] | None:
        apsw = self.client_library()
        if not isinstance(error, apsw.Error):
            return None
        if isinstance(error, (apsw.BusyError, apsw.LockedError)):
            return f"{self.path} is locked: {error}", "end the other program that writes to it"
        if isinstance(error, (apsw.NotADBError, apsw.CantOpenError, apsw.CorruptError)):
            return f"{self.path} cannot be opened: {error}", "name a file that SQLite made: sqlite:///folder/file.db/table"
        return f"SQLite refuses {self.address.url}: {error}", "the answer above says why"


def _plain(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value


def _files(path: Path) -> str:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent} either"
    return did_you_mean(path.name, sorted(it.name for it in path.parent.iterdir() if it.is_file()))
