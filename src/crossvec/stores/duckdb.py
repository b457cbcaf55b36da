"""duckdb — tables of a DuckDB file with a column of vectors.

In    duckdb:///folder/file.db/table?column=embedding&id=id     schema.table works
Out   Space                                                     columns of FLOAT[d], DOUBLE[d] and lists; in order of the key
Uses  stores.collection; duckdb, pyarrow

The key is the primary key, or the column that `id` names, or a column called id, which must be unique and a whole number, text
or UUID; a table without one is read by row numbers, and cannot be written by id. The other columns are payload, except other
columns of vectors, which are left alone. Rows written to a table of yours go into the columns that it has. A table of crossvec
has id, embedding and payload (JSON, read back as the documents that were written), and the metric as the embedding's
comment; it has no index of vectors (the extension vss makes one). The file is opened for writing only when it is written to;
another program that writes to it keeps everybody else out. No extension is ever downloaded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from jaxtyping import Float32

from crossvec.errors import StoreError, did_you_mean
from crossvec.stores import Description
from crossvec.stores.address import with_option
from crossvec.stores.collection import chosen
from crossvec.stores.rows import Key, Layout, Page
from crossvec.stores.switching import Switching

METRICS = {"l2sq": "euclidean", "cosine": "cosine", "ip": "dot"}
COMMENT = "crossvec: "
VECTORS = re.compile(r"(FLOAT|DOUBLE)\[(\d*)\]")
INTEGERS = frozenset(f"{sign}{size}INT" for sign in ("", "U") for size in ("TINY", "SMALL", "BIG", "HUGE", "")) | {"INTEGER"}
INTEGERS |= {"UINTEGER"}
KEYS = INTEGERS | {"VARCHAR", "UUID"}
ID_NAMES = ("id", "_id", "ids")
AHEAD_BYTES = 1 << 26  # vectors fetched by one query: each query scans the keys of the whole table
AHEAD_PAGES = 64
CONFIG = {"autoinstall_known_extensions": False}
COLUMNS = """
    SELECT column_name, data_type, comment FROM duckdb_columns()
    WHERE schema_name = ? AND table_name = ? AND NOT internal ORDER BY column_index"""


@dataclass
class File:
    """A DuckDB file: opened when first used, and opened anew for writing when first written to."""

    path: Path
    library: Any
    connection: Any = None
    writing: bool = False
    lock: Any = field(default_factory=RLock)

    def sql(self, query: str, *values: Any, write: bool = False) -> Any:
        """Run a query and return its rows as an Arrow table, None when it has none."""
        with self.lock:
            if self.connection is None or (write and not self.writing):
                self.close()
                self.connection = self.library.connect(str(self.path), read_only=not write, config=CONFIG)
                self.writing = write
            told = self.connection.sql(query, params=list(values))
            return None if told is None else told.to_arrow_table()

    def insert(self, query: str, table: Any) -> None:
        """Run a query that reads the Arrow table under the name `coming`."""
        with self.lock:
            self.sql("SELECT 1", write=True)
            self.connection.register("coming", table)
            try:
                self.connection.sql(query)
            finally:
                self.connection.unregister("coming")

    def close(self) -> None:
        """Close the file, which writes what DuckDB still holds."""
        if self.connection is not None:
            self.connection.close()
        self.connection = None


class DuckdbTable(Switching):
    """A table with a column of vectors."""

    format = "duckdb"
    module = "duckdb"
    extra = "duckdb"
    options = frozenset({"id"})
    put_bytes = 1 << 26
    renaming = "both in one transaction"

    @property
    def path(self) -> Path:
        """The database's file."""
        return self.address.folder()[0]

    @property
    def schema(self) -> str:
        """The table's schema."""
        return self.name.rpartition(".")[0] or "main"

    @property
    def table(self) -> str:
        """The table's name as SQL."""
        return f"{_quoted(self.schema)}.{_quoted(self.name.rpartition('.')[2])}"

    def _connect(self) -> Any:
        if self.address.split()[0]:
            raise StoreError(f"{self.address.url} names a server, and DuckDB has none", "write duckdb:///folder/file.db/table")
        if self.path.is_dir():
            told = f"{self.address.url} names no table: {self.path} is a folder, and no file of DuckDB"
            whole = (self.path / self.name).is_file()
            raise StoreError(told, f"write duckdb://{self.address.place if whole else '/folder/file.db'}/TABLE")
        return File(self.path, self.client_library())

    def _shared(self) -> Hashable:
        return str(self.path.absolute())

    def _names(self, client: Any) -> list[str]:
        if not client.path.is_file():
            raise StoreError(f"there is no file {client.path}", _files(client.path))
        told = client.sql("SELECT DISTINCT schema_name, table_name, data_type FROM duckdb_columns() WHERE NOT internal")
        rows = [row for row in told.to_pylist() if VECTORS.fullmatch(row["data_type"])]
        names = ((row["schema_name"], row["table_name"]) for row in rows)
        return sorted({table if schema == "main" else f"{schema}.{table}" for schema, table in names})

    def _look(self, client: Any) -> Layout | None:
        if not client.path.exists():
            return None
        place = self._spelled(client)
        columns = client.sql(COLUMNS, *place).to_pylist()
        if not columns:
            return None
        kinds = {row["column_name"]: row["data_type"] for row in columns}
        comments = {row["column_name"]: (row["comment"] or "").removeprefix(COMMENT) for row in columns}
        named = [name for name, kind in kinds.items() if VECTORS.fullmatch(kind)]
        vector = chosen(named, self)
        key, unique = self._key_column(client, kinds, place)
        made = [name for name, told in comments.items() if told == "documents" and kinds[name] == "JSON"]
        others = [name for name in kinds if name != key and name not in named]
        match = VECTORS.fullmatch(kinds[vector])
        assert match
        return Layout(
            self._count(client),
            int(match[2]) if match[2] else self._peek(client, vector),
            self._metric(client, vector, place) or (comments[vector] if comments[vector] in METRICS.values() else None),
            False,
            "float32" if match[1] == "FLOAT" else "float64",
            "integer" if kinds.get(key, "BIGINT") in INTEGERS else "text",
            self._documented(client, made[0]) if made else tuple(others),
            tuple(named) if len(named) > 1 else (),
            vector,
            about={"key": key, "unique": unique, "kinds": kinds, "others": others, "made": bool(made and others == made)},
        )

    def _spelled(self, client: Any) -> tuple[str, str]:
        """Return schema and table as the file spells them: to DuckDB, Docs is docs, and É is not é."""
        asked = self.schema, self.name.rpartition(".")[2]
        found = client.sql("SELECT DISTINCT schema_name AS a, table_name AS b FROM duckdb_columns() WHERE NOT internal")
        known = {(row["a"].encode().lower(), row["b"].encode().lower()): (row["a"], row["b"]) for row in found.to_pylist()}
        return known.get((asked[0].encode().lower(), asked[1].encode().lower()), asked)

    def _key_column(self, client: Any, kinds: dict[str, str], place: tuple[str, str]) -> tuple[str, bool]:
        """Return the column of ids, `rowid` when there is none, and whether rows can be written by it."""
        told = client.sql(
            "SELECT constraint_column_names AS names FROM duckdb_constraints() WHERE schema_name = ? AND table_name = ?"
            " AND constraint_type IN ('PRIMARY KEY', 'UNIQUE') ORDER BY constraint_type",
            *place,
        )
        unique = [names[0] for names in told.column("names").to_pylist() if len(names) == 1 and kinds[names[0]] in KEYS]
        asked = self.address.options.get("id")
        if asked and asked not in kinds:
            raise StoreError(f"{self.address.url} has no column {asked!r}", did_you_mean(asked, kinds))
        key = asked or next((name for name in [*unique, *ID_NAMES] if name in kinds), "")
        if not key:
            return "rowid", False
        if kinds[key] not in KEYS:
            hint = "name a unique column of whole numbers, text or UUIDs: ?id=COLUMN"
            raise StoreError(f"the column {key!r} of {self.address.url} is of type {kinds[key]}, which is no id", hint)
        if key in unique:
            return key, True
        name = _quoted(key)
        told = client.sql(
            f"SELECT count(*) - count({name}) AS bare, count({name}) - count(DISTINCT {name}) AS twice FROM {self.table}"
        )
        bare, twice = told.to_pylist()[0].values()
        if bare or twice:
            what = f"{bare:,} rows without an id" if bare else f"{twice:,} rows whose id others have too"
            hint = f"name a unique column: {with_option(self.address.url, 'id=COLUMN')}"
            raise StoreError(f"the column {key!r} of {self.address.url} has {what}", hint)
        return key, False

    def _peek(self, client: Any, vector: str) -> int:
        name = _quoted(vector)
        told = client.sql(f"SELECT len({name}) AS dim FROM {self.table} WHERE {name} IS NOT NULL LIMIT 1").to_pylist()
        if not told:
            hint = f"give it one: ALTER TABLE {self.table} ALTER {name} TYPE FLOAT[384]"
            raise StoreError(f"{self.address.url} holds no rows, and its column {vector} has no dimension", hint)
        return int(told[0]["dim"])

    def _metric(self, client: Any, vector: str, place: tuple[str, str]) -> str | None:
        told = client.sql("SELECT sql FROM duckdb_indexes() WHERE schema_name = ? AND table_name = ?", *place)
        for text in told.column("sql").to_pylist():
            if re.search(rf"USING\s+HNSW\s*\(\s*\"?{re.escape(vector)}\"?\s*\)", text or "", re.IGNORECASE):
                metric = re.search(r"metric\s*=\s*'(\w+)'", text, re.IGNORECASE)
                return METRICS.get(metric[1].lower()) if metric else METRICS["l2sq"]
        return None

    def _documented(self, client: Any, payload: str) -> tuple[str, ...]:
        sample = f"SELECT unnest(json_keys({_quoted(payload)})) AS name FROM (SELECT * FROM {self.table} LIMIT 16)"
        return tuple(client.sql(f"SELECT DISTINCT name FROM ({sample}) ORDER BY name").column("name").to_pylist())

    def _page(self, client: Any, layout: Layout, after: Any, limit: int, vectors: bool) -> Page:
        about = layout.about
        others = about["others"] if vectors else []
        start, table = about.get("ahead", (None, None))
        if table is None or start != (after, vectors) or not len(table):
            most = min(AHEAD_BYTES // (4 * layout.dim), AHEAD_PAGES * limit)  # who wants few rows may go on elsewhere
            table = self._fetched(client, layout, after, max(limit, most), vectors)
        rows, rest = table.slice(0, limit), table.slice(limit)
        keys = [key if isinstance(key, str) else int(key) for key in rows.column(0).to_pylist()]
        last = keys[-1] if keys else after
        about["ahead"] = (last, vectors), rest
        if not keys or not vectors:
            return Page(keys, [None] * len(keys), [{}] * len(keys), last)
        columns = [self._read(rows.column(at), about["kinds"][name]) for at, name in enumerate(others, 2)]
        if about["made"]:
            documents = [document or {} for document in columns[0]]
        else:
            documents = [dict(zip(others, row, strict=True)) for row in zip(*columns, strict=True)] or [{} for _ in keys]
        return Page(keys, matrix(rows.column(1), layout.dim), documents, last)

    def _fetched(self, client: Any, layout: Layout, after: Any, limit: int, vectors: bool) -> Any:
        about = layout.about
        key, kind = about["key"], about["kinds"].get(about["key"], "BIGINT")
        name = key if kind == "BIGINT" and key == "rowid" else _quoted(key)
        wanted = [f"{name}::VARCHAR" if kind == "UUID" else name]
        if vectors:
            wanted.append(_quoted(layout.vector))
            wanted += [_quoted(it) + ("::VARCHAR" if about["kinds"][it] == "UUID" else "") for it in about["others"]]
        where = f"WHERE {name} > ?::{kind}" if after is not None else ""
        # Every column has a number for its name here, since a table may have a column of any name.
        picked = ", ".join(f"{column} AS c{at}" for at, column in enumerate(wanted))
        query = f"SELECT {picked} FROM {self.table} {where} ORDER BY {name} LIMIT {limit}"
        return client.sql(query, *([str(after)] if after is not None else []))

    @staticmethod
    def _read(column: Any, kind: str) -> list[Any]:
        values = column.to_pylist()
        return [None if value is None else json.loads(value) for value in values] if kind == "JSON" else values

    def _count(self, client: Any) -> int:
        return int(client.sql(f"SELECT count(*) AS n FROM {self.table}").column("n")[0].as_py())

    def _create(self, client: Any, like: Description) -> None:
        vector, key = self.column or "embedding", self.address.options.get("id") or "id"
        if len({vector, key, "payload"}) < 3:
            raise StoreError(f"{self.address.url} gives two columns one name", "name id=, column= and payload differently")
        client.path.parent.mkdir(parents=True, exist_ok=True)
        kind = "BIGINT" if like.id_type == "integer" else "VARCHAR"
        client.sql(
            f"CREATE TABLE {self.table} ({_quoted(key)} {kind} PRIMARY KEY, {_quoted(vector)} FLOAT[{like.dim}] NOT NULL,"
            " payload JSON NOT NULL)",
            write=True,
        )
        client.sql(f"COMMENT ON COLUMN {self.table}.{_quoted(vector)} IS '{COMMENT}{like.metric}'", write=True)
        client.sql(f"COMMENT ON COLUMN {self.table}.payload IS '{COMMENT}documents'", write=True)

    def _put(
        self, client: Any, layout: Layout, keys: list[Key], vectors: Float32[np.ndarray, "k d"], rows: list[dict[str, Any]]
    ) -> None:
        import pyarrow as pa

        about = layout.about
        if not about["unique"]:
            hint = f"make it unique: CREATE UNIQUE INDEX … or PRIMARY KEY; or write to a new table, not {self.name}"
            raise StoreError(f"{self.address.url} has no unique column of ids, by which rows could be replaced", hint)
        if about["made"]:
            given = {about["others"][0]: pa.array([json.dumps(row, ensure_ascii=False) for row in rows], pa.string())}
        else:
            given = self._columns(rows, about)
        given[about["key"]] = pa.array(keys)
        flat = pa.array(vectors.reshape(-1))
        given[layout.vector] = pa.FixedSizeListArray.from_arrays(flat, layout.dim)
        names = ", ".join(map(_quoted, given))
        replaced = ", ".join(f"{name} = EXCLUDED.{name}" for name in map(_quoted, given) if name != _quoted(about["key"]))
        client.insert(
            f"INSERT INTO {self.table} ({names}) SELECT {names} FROM coming"
            f" ON CONFLICT ({_quoted(about['key'])}) DO UPDATE SET {replaced}",
            pa.table(given),
        )

    def _columns(self, rows: list[dict[str, Any]], about: dict[str, Any]) -> dict[str, Any]:
        import pyarrow as pa

        for name in dict.fromkeys(name for row in rows for name in row):
            if name not in about["others"]:
                hint = f"add it: ALTER TABLE {self.table} ADD COLUMN {_quoted(name)} JSON; or write to a new table"
                raise StoreError(f"{self.address.url} has no column for the payload {name!r}", hint)
        given = {}
        for name in about["others"]:
            values = [row.get(name) for row in rows]
            if about["kinds"][name] == "JSON":
                there = [name in row for row in rows]
                values = [json.dumps(it) if is_there else None for it, is_there in zip(values, there, strict=True)]
            try:
                given[name] = pa.array(values)
            except (pa.ArrowException, OverflowError) as error:
                hint = "write to a new table, or leave the payload behind: ?keep=ids"
                raise StoreError(f"the payload {name!r} fits no column of {self.address.url}: {error}", hint) from None
        return given

    def _drop(self, client: Any) -> None:
        client.sql(f"DROP TABLE {self.table}", write=True)

    def _there(self, client: Any, name: str) -> bool:
        schema, _, table = name.rpartition(".")
        query = "SELECT count(*) AS n FROM information_schema.tables WHERE table_schema = ? AND lower(table_name) = lower(?)"
        return bool(client.sql(query, schema or "main", table).column("n")[0].as_py())

    def _rename(self, client: Any, changes: Sequence[tuple[str, str]]) -> None:
        with client.lock:
            client.sql("BEGIN TRANSACTION", write=True)
            try:
                for old, new in changes:
                    schema, _, table = old.rpartition(".")
                    named = f"{_quoted(schema or 'main')}.{_quoted(table)}"
                    client.sql(f"ALTER TABLE {named} RENAME TO {_quoted(new.rpartition('.')[2])}", write=True)
                client.sql("COMMIT", write=True)
            except BaseException:
                client.sql("ROLLBACK", write=True)
                raise

    def _fields(self, layout: Layout) -> frozenset[str]:
        return frozenset(layout.about["kinds"])

    def _new_fields(self) -> frozenset[str]:
        return frozenset({self.column or "embedding", self.address.options.get("id") or "id", "payload"})

    def _kept_back(self, client: Any, dest: Any) -> tuple[str, ...]:
        if dest.schema != self.schema:
            raise StoreError(f"{self.name} and {dest.name} lie in two schemas", f"write DEST as {self.schema}.NAME")
        told = client.sql("SELECT index_name, schema_name, table_name FROM duckdb_indexes()").to_pylist()
        for store in (self, dest):
            place = store._spelled(client)
            if held := [row["index_name"] for row in told if (row["schema_name"], row["table_name"]) == place]:
                hint = f"DROP INDEX {held[0]} first, and make it again after the switch; or {self.by_hand}"
                raise StoreError(f"DuckDB renames no table that has an index, and {store.name} has {held[0]}", hint)
        return ()

    def _key(self, value: int | str, layout: Layout) -> Key:
        if layout.id_type != "integer":
            return str(value)
        if not isinstance(value, int) or not -(2**63) <= value < 2**63:
            hint = "write to a new table: its ids are text when any id is"
            raise StoreError(f"the ids of {self.address.url} are whole numbers of 8 bytes, and {value!r} is none", hint)
        return value

    def _explain(self, error: Exception) -> tuple[str, str] | None:
        duckdb = self.client_library()
        if not isinstance(error, duckdb.Error):
            return None
        told = " ".join(str(error).split())
        if "Could not set lock" in told or "different configuration" in told:
            return f"{self.path} is open elsewhere: {told}", "end the other program that has it open"
        if isinstance(error, duckdb.IOException):
            return f"{self.path} cannot be opened: {told}", "name a file that DuckDB made: duckdb:///folder/file.db/table"
        return f"DuckDB refuses {self.address.url}: {told}", "the answer above says why"


def matrix(column: Any, dim: int) -> Any:
    """Return a column of lists as (k, d), as a list of rows when some are missing or of another length."""
    import pyarrow.compute as pc

    flat = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    if not flat.null_count and pc.all(pc.equal(pc.list_value_length(flat), dim)).as_py() is not False:
        values = flat.flatten().to_numpy(zero_copy_only=False)
        return values.reshape(len(flat), dim)
    return [None if row.as_py() is None else np.array(row.as_py(), np.float32) for row in flat]


def _files(path: Path) -> str:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent} either"
    return did_you_mean(path.name, sorted(it.name for it in path.parent.iterdir() if it.is_file()))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
