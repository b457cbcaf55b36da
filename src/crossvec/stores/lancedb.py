"""lancedb — tables of LanceDB in a folder.

In    lancedb:///folder/table?column=vector&id=id
Out   Space                          the table as it was when reading began: LanceDB keeps versions, and a cursor names its own
Uses  stores.collection; lancedb, pyarrow

The id is the column `id`, or the one that `id=` names; a table without one is read by row numbers, and cannot be written by id.
Columns of float vectors are vectors, all other columns payload. A table that crossvec makes has a column for every payload key
whose values are text, numbers or booleans of one type; what else a payload holds is kept as JSON text in one column.
The metric is the index's, or what crossvec wrote beside the schema. A cursor is good as long as its version is kept (a week,
unless you clean up sooner). Left behind: indexes.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
from jaxtyping import Float32

from crossvec.errors import StoreError, did_you_mean
from crossvec.stores import Description
from crossvec.stores.collection import Collection, chosen
from crossvec.stores.documents import REST, names, pack
from crossvec.stores.rows import Key, Layout, Page
from crossvec.stores.tables import number_type

METRICS = {"cosine": "cosine", "dot": "dot", "l2": "euclidean"}
METRIC = b"crossvec.metric"
SAMPLED = 16
ID_NAMES = ("id", "_id", "ids")


class LanceTable(Collection):
    """A LanceDB table."""

    format = "lancedb"
    module = "lancedb"
    extra = "lancedb"
    options = frozenset({"id"})

    def _connect(self) -> Any:
        host, _, _ = self.address.split()
        if host:
            hint = "name a folder: lancedb:///folder/table"
            raise StoreError(f"{self.address.url} names a server, and only folders are read", hint)
        return self.client_library().connect(str(self.address.folder()[0]))

    def _close(self, client: Any) -> None:
        pass  # nothing stays open between calls

    def _shared(self) -> Hashable:
        return id(self)

    def _names(self, client: Any) -> list[str]:
        return list(client.list_tables().tables)

    def _open(self, client: Any) -> Any:
        return client.open_table(self.name)

    def _look(self, client: Any) -> Layout | None:
        if self.name not in self._names(client):
            return None
        import pyarrow as pa

        table = self._open(client)
        schema = table.schema
        named = [it.name for it in schema if pa.types.is_fixed_size_list(it.type) and pa.types.is_floating(it.type.value_type)]
        vector = chosen(named, self)
        key = self.address.options.get("id") or next((name for name in ID_NAMES if name in schema.names), None)
        if key is not None and key not in schema.names:
            raise StoreError(f"{self.address.url} has no column {key!r}", did_you_mean(key, schema.names))
        kind = schema.field(vector).type
        sample = table.search().select([REST]).limit(SAMPLED).to_arrow() if REST in schema.names else None
        packed = names(row for row in sample.to_pylist() if row[REST]) if sample else ()
        id_kind = None if key is None else schema.field(key).type
        return Layout(
            table.count_rows(),
            kind.list_size,
            self._metric(table, vector),
            False,
            number_type(kind.value_type).name,
            None if id_kind is None else "integer" if pa.types.is_integer(id_kind) else "text",
            tuple(dict.fromkeys([*(name for name in schema.names if name not in (key, REST, *named)), *packed])),
            tuple(named) if len(named) > 1 else (),
            vector,
            about={"table": table, "key": key, "made": REST in schema.names, "vectors": named, "version": table.version},
        )

    def _metric(self, table: Any, vector: str) -> str | None:
        for index in table.list_indices():
            if list(index.columns) == [vector] and (told := table.index_stats(index.name)) and told.distance_type:
                return METRICS.get(str(told.distance_type).lower(), str(told.distance_type).lower())
        written = (table.schema.metadata or {}).get(METRIC)
        return written.decode() if written else None

    def _page(self, client: Any, layout: Layout, after: Any, limit: int, vectors: bool) -> Page:
        about = layout.about
        version, offset = after or (about["version"], 0)
        if about.get("at") != version:
            try:
                about["table"].checkout(version)
            except (ValueError, RuntimeError, OSError) as error:
                hint = "begin anew, without a cursor"
                raise StoreError(f"{self.address.url} keeps its version {version} no more: {error}", hint) from None
            about["at"] = version
        key = about["key"]
        skipped = set(about["vectors"]) - ({layout.vector} if vectors else set())
        columns = [name for name in about["table"].schema.names if name not in skipped]
        columns = columns if vectors else [key or columns[0]]
        rows = about["table"].search().select(columns).limit(limit).offset(offset).to_arrow()
        k = rows.num_rows
        keys = list(range(offset, offset + k)) if key is None else rows.column(key).to_pylist()
        if None in keys:
            raise StoreError(
                f"row {offset + keys.index(None):,} of {self.address.url} has no id", "give it one, or name another: ?id="
            )
        if not vectors or not k:
            return Page(keys, [None] * k, [{}] * k, [version, offset + k])
        payload = rows.drop_columns([layout.vector, *([key] if key is not None else [])]).to_pylist()
        if about["made"]:
            payload = [{name: value for name, value in row.items() if value is not None} for row in payload]
        return Page(keys, _matrix(rows.column(layout.vector), layout.dim), payload or [{}] * k, [version, offset + k])

    def _count(self, client: Any) -> int:
        return int(self._open(client).count_rows())

    def _create(self, client: Any, like: Description) -> None:
        import pyarrow as pa

        schema = pa.schema(
            [
                pa.field(
                    self.address.options.get("id") or "id", pa.int64() if like.id_type == "integer" else pa.string(), False
                ),
                pa.field(self.column or "vector", pa.list_(pa.float32(), like.dim)),
                pa.field(REST, pa.string()),
            ],
            metadata={METRIC: str(like.metric).encode()},
        )
        self.address.folder()[0].mkdir(parents=True, exist_ok=True)
        client.create_table(self.name, schema=schema)

    def _put(
        self, client: Any, layout: Layout, keys: list[Key], vectors: Float32[np.ndarray, "k d"], rows: list[dict[str, Any]]
    ) -> None:
        import pyarrow as pa

        about = layout.about
        key = about["key"]
        if key is None:
            raise StoreError(f"{self.address.url} has no column of ids", "name one: ?id=COLUMN; or write to a new table")
        table = self._open(client)
        if about["made"] and (new := _new_fields(rows, table.schema)):
            table.add_columns(new)
        kinds = {it.name: it.type for it in table.schema if it.name not in (key, *about["vectors"], REST)}
        packed = [pack(row, lambda name, value: name in kinds and _fits(value, kinds[name])) for row in rows]
        if not about["made"] and (strange := next((row for row in packed if REST in row), None)):
            hint = "write to a new table, or leave the payload behind: ?keep=ids"
            raise StoreError(f"the columns of {self.address.url} cannot hold this payload: {strange[REST][:80]}", hint)
        kinds |= {REST: pa.string()} if about["made"] else {}
        given: dict[str, Any] = {name: pa.array([row.get(name) for row in packed], kind) for name, kind in kinds.items()}
        given[key] = pa.array(keys, table.schema.field(key).type)
        kind = table.schema.field(layout.vector).type
        flat = pa.array(vectors.reshape(-1).astype(layout.dtype), kind.value_type)
        given[layout.vector] = pa.FixedSizeListArray.from_arrays(flat, layout.dim).cast(kind)
        batch = pa.table({name: given[name] for name in table.schema.names if name in given})
        if table.count_rows():
            table.merge_insert(key).when_matched_update_all().when_not_matched_insert_all().execute(batch)
        else:
            table.add(batch)

    def _drop(self, client: Any) -> None:
        client.drop_table(self.name)

    def _key(self, value: int | str, layout: Layout) -> Key:
        if layout.id_type != "integer":
            return str(value)
        if not isinstance(value, int) or not -(2**63) <= value < 2**63:
            hint = "write to a new table: its ids are text when any id is"
            raise StoreError(f"the ids of {self.address.url} are whole numbers of 8 bytes, and {value!r} is none", hint)
        return value

    def _explain(self, error: Exception) -> tuple[str, str] | None:
        if isinstance(error, (RuntimeError, OSError)) and "lance" in str(error).lower():
            return f"LanceDB cannot use {self.address.url}: {error}", "the answer above says why"
        return None


def _matrix(column: Any, dim: int) -> Any:
    """Return a column of fixed lists as (k, d), as a list with None where rows are missing."""
    if column.null_count:
        return [None if row is None else np.asarray(row, np.float32) for row in column.to_pylist()]
    return column.combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(column), dim)


def _new_fields(rows: list[dict[str, Any]], schema: Any) -> list[Any]:
    """Return fields for the payload keys that have none yet and whose values are of one plain type."""
    import pyarrow as pa

    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    seen: dict[str, set[type]] = {}
    for row in rows:
        for name, value in row.items():
            seen.setdefault(name, set()).add(type(value))
    plain = {name: (types - {type(None)}) for name, types in seen.items() if name not in schema.names}
    return [
        pa.field(name, kinds[next(iter(types))])
        for name, types in plain.items()
        if len(types) == 1 and types <= set(kinds) and name.replace("_", "").isalnum() and name.isascii()
    ]


def _fits(value: Any, kind: Any) -> bool:
    """Tell whether a column of this type gives back this very value."""
    import pyarrow as pa

    try:
        back = pa.scalar(value, kind).as_py()
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return False
    return value is not None and type(back) is type(value) and back == value
