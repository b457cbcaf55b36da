"""pgvector — tables of PostgreSQL with a column of vectors.

In    pgvector://host:5432/db/table?column=embedding&id=id   user@host and schema.table work
      pgvector:///db/table?service=mine                      libpq's own settings; the password is PGPASSWORD's or ~/.pgpass's
Out   Space                                                  vector and halfvec columns; pages in the order of the key
Uses  stores.collection, stores.pgrows; psycopg

The key is the primary key, or the column that `id` names, which must be unique and a number, text or UUID. The other columns
are payload; other columns of vectors are left alone, on writing too. Rows written to a table of yours go into the columns that
it has. A table that crossvec makes has id, embedding and payload (jsonb, read back as the documents that were written), and the
metric as the embedding's comment; it has no index of vectors, since filling one is slow: create it after writing. Text holds no
NUL, as everywhere in PostgreSQL. Not read: sparsevec and bit vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

import numpy as np
from jaxtyping import Float32

from crossvec.errors import StoreError, did_you_mean
from crossvec.stores import Description
from crossvec.stores.address import with_option
from crossvec.stores.collection import chosen
from crossvec.stores.pgrows import INTEGERS, READABLE, TEXTS, VECTORS, copied, matrix
from crossvec.stores.rows import Key, Layout, Page
from crossvec.stores.switching import Switching

METRICS = {"cosine": "cosine", "l2": "euclidean", "ip": "dot", "l1": "manhattan"}
COMMENT = "crossvec: "
LOCKED = 10  # seconds that a switch waits for those who use the tables
COLUMNS = """
    SELECT a.attname, t.typname, a.atttypmod, col_description(a.attrelid, a.attnum),
           EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisprimary
                   AND i.indnkeyatts = 1 AND a.attnum = i.indkey[0]),
           a.attgenerated <> '' OR a.attidentity = 'a',
           (SELECT o.opcname FROM pg_index i JOIN pg_opclass o ON o.oid = i.indclass[0]
            WHERE i.indrelid = a.attrelid AND a.attnum = i.indkey[0] AND o.opcname ~ '^(vector|halfvec)_' LIMIT 1)
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"""
TABLES = """
    SELECT DISTINCT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid JOIN pg_type t ON t.oid = a.atttypid
    WHERE t.typname IN ('vector', 'halfvec') AND c.relkind IN ('r', 'p', 'm', 'v') ORDER BY 1"""
TABLE = """
    SELECT c.relkind IN ('r', 'p'), (SELECT nspname FROM pg_namespace WHERE oid = c.relnamespace)::text,
           (SELECT count(DISTINCT r.ev_class) FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
            WHERE d.classid = 'pg_rewrite'::regclass AND d.refobjid = c.oid AND r.ev_class <> c.oid),
           (SELECT count(*) FROM pg_constraint f WHERE f.contype = 'f' AND f.confrelid = c.oid),
           (SELECT count(*) FROM pg_constraint f WHERE f.contype = 'f' AND f.conrelid = c.oid),
           (SELECT count(*) FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal),
           (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid),
           ARRAY(SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee)::text END
                 FROM aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
                 WHERE a.grantee NOT IN (SELECT oid FROM pg_roles WHERE rolsuper) ORDER BY 1)
    FROM pg_class c WHERE c.oid = to_regclass(%s)"""
INDEXES = """
    SELECT m.amname, coalesce(a.attname, ''), coalesce(o.opcname, '')
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
         JOIN pg_opclass o ON o.oid = i.indclass[0]
         LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = to_regclass(%s) AND m.amname NOT IN ('btree', 'hash', 'gin', 'gist', 'spgist', 'brin')"""
NUMBERED = """
    SELECT a.attname, d.objid FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
         JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
    WHERE d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') AND d.refobjid = to_regclass(%s)"""
HIDES = "SELECT coalesce((SELECT relrowsecurity FROM pg_class WHERE oid = to_regclass(%s)), false)"


class PgvectorTable(Switching):
    """A table with a column of vectors."""

    format = "pgvector"
    module = "psycopg"
    extra = "pgvector"
    options = frozenset({"id", "service"})
    put_bytes = 1 << 26
    renaming = "both in one transaction"
    longest = 63

    @property
    def name(self) -> str:
        """The table's name, perhaps with its schema."""
        parts = self.address.split()[2]
        return parts[1] if len(parts) == 2 else ""

    @property
    def table(self) -> str:
        """The table's name as SQL."""
        return _named(self.name)

    def _connect(self) -> Any:
        host, port, (database, _) = self.address.split()
        user, _, host = host.rpartition("@")
        given = {"host": unquote(host), "port": port, "dbname": database, "user": user}
        given["service"] = self.address.options.get("service")
        settings = {name: value for name, value in given.items() if value}
        return self.client_library().connect(**settings, autocommit=True, connect_timeout=10, application_name="crossvec")

    def _names(self, client: Any) -> list[str]:
        return [name for (name,) in client.execute(TABLES)]

    def _look(self, client: Any) -> Layout | None:
        columns = client.execute(COLUMNS, (self.table,)).fetchall()
        if not columns:
            return None
        kinds = {name: kind for name, kind, *_ in columns}
        named = [name for name, kind in kinds.items() if kind in VECTORS]
        vector = chosen(named, self)
        _, kind, dim, comment, _, _, index = next(column for column in columns if column[0] == vector)
        key = self._key_column(columns)
        made = [name for name, kind, _, told, *_ in columns if kind == "jsonb" and told == f"{COMMENT}documents"]
        others = [name for name in kinds if name not in (key, *named)]
        where = f"{_quoted(vector)} IS NOT NULL"
        if dim < 1:
            first = client.execute(f"SELECT vector_dims({_quoted(vector)}) FROM {self.table} WHERE {where} LIMIT 1").fetchone()
            if first is None:
                hint = f"give it one: ALTER TABLE {self.table} ALTER {_quoted(vector)} TYPE {kind}(384)"
                raise StoreError(f"{self.address.url} holds no rows, and its column {vector} has no dimension", hint)
            dim = first[0]
        payload = others
        if made:
            sample = f"SELECT {_quoted(made[0])} AS d FROM {self.table} LIMIT 16"
            told = client.execute(f"SELECT DISTINCT jsonb_object_keys(d) FROM ({sample}) s ORDER BY 1")
            payload = [name for (name,) in told]
        metric = index.split("_")[1] if index else (comment or "").removeprefix(COMMENT)
        return Layout(
            self._count(client),
            dim,
            METRICS.get(metric, metric if metric in METRICS.values() else None),
            False,
            VECTORS[kind],
            "integer" if kinds[key] in INTEGERS else "text",
            tuple(payload),
            tuple(named) if len(named) > 1 else (),
            vector,
            about={
                "key": key,
                "kinds": kinds,
                "others": made or others,
                "made": made,
                "generated": {name for name, *_, generated, _ in columns if generated},
            },
        )

    def _page(self, client: Any, layout: Layout, after: Any, limit: int, vectors: bool) -> Page:
        key, kinds = layout.about["key"], layout.about["kinds"]
        wanted = [_quoted(key)]
        others = layout.about["others"] if vectors else []
        if vectors:
            wanted.append(f"{kinds[layout.vector]}_send({_quoted(layout.vector)})")
            wanted += [_quoted(name) + ("" if kinds[name].lstrip("_") in READABLE else "::text") for name in others]
        where = f"WHERE {_quoted(key)} > %s::text::{kinds[key]}" if after is not None else ""
        query = f"SELECT {', '.join(wanted)} FROM {self.table} {where} ORDER BY {_quoted(key)} LIMIT {limit}"
        rows = client.execute(query, (str(after),) if after is not None else None, binary=True).fetchall()
        if not rows:
            return Page([], [], [], after)
        keys = [row[0] for row in rows]
        last = keys[-1] if isinstance(keys[-1], int) else str(keys[-1])
        if not vectors:
            return Page(keys, [None] * len(keys), [{}] * len(keys), last)
        if layout.about["made"]:
            documents = [row[2] or {} for row in rows]
        else:
            documents = [dict(zip(others, row[2:], strict=True)) for row in rows]
        return Page(keys, matrix([row[1] for row in rows], layout), documents, last)

    def _count(self, client: Any) -> int:
        return int(client.execute(f"SELECT count(*) FROM {self.table}").fetchone()[0])

    def _create(self, client: Any, like: Description) -> None:
        vector = self.column or "embedding"
        key = self.address.options.get("id") or "id"
        if len({vector, key, "payload"}) < 3:
            raise StoreError(f"{self.address.url} gives two columns one name", "name id=, column= and payload differently")
        with client.transaction():
            if client.execute("SELECT to_regtype('vector')").fetchone()[0] is None:
                client.execute("CREATE EXTENSION IF NOT EXISTS vector")
            kind = "bigint" if like.id_type == "integer" else "text"
            client.execute(
                f"CREATE TABLE {self.table} ({_quoted(key)} {kind} PRIMARY KEY,"
                f" {_quoted(vector)} vector({like.dim}) NOT NULL, payload jsonb NOT NULL DEFAULT '{{}}')"
            )
            client.execute(f"COMMENT ON COLUMN {self.table}.{_quoted(vector)} IS '{COMMENT}{like.metric}'")
            client.execute(f"COMMENT ON COLUMN {self.table}.payload IS '{COMMENT}documents'")

    def _put(
        self, client: Any, layout: Layout, keys: list[Key], vectors: Float32[np.ndarray, "k d"], rows: list[dict[str, Any]]
    ) -> None:
        about, whole = layout.about, layout.id_type == "integer"
        blocks = copied(keys, vectors, rows, whole)
        key, vector = _quoted(about["key"]), _quoted(layout.vector)
        own = about["made"] and about["kinds"][about["key"]] in ("int8", "text") and layout.dtype == "float32"
        if own:
            try:
                with client.cursor().copy(_copy(f"{self.table} ({key}, {vector}, {_quoted(about['made'][0])})")) as copy:
                    copy.write(blocks)
                return
            except self.client_library().errors.UniqueViolation:
                pass  # some ids are there already: these rows are replaced
        named = about["made"] or [name for name in about["others"] if name not in about["generated"]]
        if not about["made"]:
            self._refuse_unknown(rows, named)
        values = [self._value(name, about) for name in named]
        columns = ", ".join([key, vector, *map(_quoted, named)])
        set_ = ", ".join(f"{column} = EXCLUDED.{column}" for column in [vector, *map(_quoted, named)])
        picked = ", ".join([f"c.id::{about['kinds'][about['key']]}", "c.embedding", *values])
        with client.transaction():
            client.execute(
                f"CREATE TEMP TABLE crossvec_coming (id {'int8' if whole else 'text'}, embedding vector, payload jsonb)"
                " ON COMMIT DROP"
            )
            with client.cursor().copy(_copy("crossvec_coming")) as copy:
                copy.write(blocks)
            client.execute(
                f"INSERT INTO {self.table} ({columns}) OVERRIDING SYSTEM VALUE"
                f" SELECT {picked} FROM crossvec_coming c"
                f" CROSS JOIN LATERAL jsonb_populate_record(NULL::{self.table}, c.payload) r"
                f" ON CONFLICT ({key}) DO UPDATE SET {set_}"
            )

    def _drop(self, client: Any) -> None:
        client.execute(f"DROP TABLE {self.table}")

    def _there(self, client: Any, name: str) -> bool:
        return bool(client.execute("SELECT to_regclass(%s) IS NOT NULL", (_named(name),)).fetchone()[0])

    def _rename(self, client: Any, changes: Sequence[tuple[str, str]]) -> None:
        with client.transaction():
            client.execute(f"SET LOCAL lock_timeout = '{LOCKED}s'")  # who waits for a lock keeps all others waiting
            for old, new in changes:
                client.execute(f"ALTER TABLE {_named(old)} RENAME TO {_quoted(new.rpartition('.')[2])}")

    def _fields(self, layout: Layout) -> frozenset[str]:
        return frozenset(layout.about["kinds"])

    def _new_fields(self) -> frozenset[str]:
        return frozenset({self.column or "embedding", self.address.options.get("id") or "id", "payload"})

    def _like(self, new: str, layout: Layout) -> str:
        vector, kind = _quoted(layout.vector), layout.about["kinds"][layout.vector]
        made = f"CREATE TABLE {_named(new)} (LIKE {self.table} INCLUDING ALL)"
        return f"make it first: {made}; ALTER TABLE {_named(new)} ALTER {vector} TYPE {kind}(DIMENSIONS OF THE NEW MODEL)"

    def _kept_back(self, client: Any, dest: Any) -> tuple[str, ...]:
        plain, schema, views, keys, own_keys, triggers, policies, roles = client.execute(TABLE, (self.table,)).fetchone()
        if not plain:
            raise StoreError(f"{self.name} is a view and no table", f"define it anew over the new table; or {self.by_hand}")
        there = client.execute(TABLE, (dest.table,)).fetchone()
        new = there[1] if there else dest.name.rpartition(".")[0] or client.execute("SELECT current_schema()").fetchone()[0]
        if new != schema:
            raise StoreError(
                f"{self.name} lies in the schema {schema}, and {dest.name} in {new}", f"write DEST as {schema}.NAME"
            )
        notes = []
        stay = {"views": views, "foreign keys to it": keys, "triggers": triggers, "row-level policies": policies}
        stay["foreign keys of its own"] = max(own_keys - (there[4] if there else 0), 0)
        if held := [f"{what} ({number})" for what, number in stay.items() if number]:
            notes.append(f"these stay with the old rows, since they go by the table and not by its name: {', '.join(held)}")
        allowed = there[7] if there else client.execute("SELECT current_user::text").fetchone()
        if lost := [role for role in roles if role not in allowed]:
            notes.append(
                f"{dest.name} gives no rights to {', '.join(lost)}, as {self.name} does: GRANT them before it switches"
            )
        if missing := self._unready(client, dest.name):
            notes.append(f"the switch will wait: {missing}")
        return tuple(notes)

    def _unready(self, client: Any, new: str) -> str:
        mine, its = (client.execute(HIDES, (name,)).fetchone()[0] for name in (self.table, _named(new)))
        if mine and not its:
            told = f"{self.name} has row-level security and {new} has none, so all of its rows would be seen"
            return f"{told}: CREATE POLICY as there; ALTER TABLE {_named(new)} ENABLE ROW LEVEL SECURITY"
        held, there = (client.execute(INDEXES, (name,)).fetchall() for name in (self.table, _named(new)))
        if not held or there:
            return self._behind_its_ids(client, new)
        method, column, kind = held[0]
        made = (
            f"CREATE INDEX ON {_named(new)} USING {method} ({_quoted(column)} {kind})" if column else f"one like {self.name}'s"
        )
        return f"{self.name} has an index of vectors and {new} has none, so every search would read all rows: {made}"

    def _behind_its_ids(self, client: Any, new: str) -> str:
        """Tell which numbering of ids would give one that a row has; rows are written with their ids, which counts nothing."""
        for column, sequence in client.execute(NUMBERED, (_named(new),)).fetchall():
            last = f"coalesce(pg_sequence_last_value({sequence}::oid::regclass), 0)"
            if client.execute(f"SELECT max({_quoted(column)}) > {last} FROM {_named(new)}").fetchone()[0]:
                place = f"{_literal(_named(new))}, {_literal(column)}"
                made = f"SELECT setval(pg_get_serial_sequence({place}), max({_quoted(column)})) FROM {_named(new)}"
                return f"{new} would number new rows by ids that it has in {column}: {made}"
        return ""

    def _key(self, value: int | str, layout: Layout) -> Key:
        if layout.id_type != "integer":
            return str(value)
        if not isinstance(value, int) or not -(2**63) <= value < 2**63:
            hint = "write to a new table: its ids are text when any id is"
            raise StoreError(f"the ids of {self.address.url} are whole numbers of 8 bytes, and {value!r} is none", hint)
        return value

    def _explain(self, error: Exception) -> tuple[str, str] | None:
        psycopg = self.client_library()
        if not isinstance(error, psycopg.Error):
            return None
        told = " ".join(str(error).split())
        if isinstance(error, psycopg.errors.InsufficientPrivilege):
            return f"PostgreSQL does not allow it: {told}", "name a user who may: pgvector://user@host/…"
        if isinstance(error, psycopg.errors.LockNotAvailable):
            hint = "run the same line again when no long transaction uses it"
            return f"{self.address.url} is in use, and could not be locked within {LOCKED} s; nothing was changed", hint
        if isinstance(error, psycopg.errors.UndefinedFile):
            return f"PostgreSQL has no pgvector: {told}", "install the extension pgvector on the server"
        if isinstance(error, psycopg.OperationalError):
            hint = "is PostgreSQL running there? its password is taken from PGPASSWORD or ~/.pgpass"
            return f"{self.address.url} cannot be reached: {told}", hint
        return f"PostgreSQL refuses {self.address.url}: {told}", "the answer above says why"

    def _key_column(self, columns: list[Any]) -> str:
        names = [name for name, *_ in columns]
        primary = [name for name, _, _, _, is_primary, _, _ in columns if is_primary]
        key = self.address.options.get("id") or (primary[0] if primary else "")
        if not key:
            hint = f"name a unique column: {with_option(self.address.url, 'id=COLUMN')}"
            raise StoreError(f"{self.address.url} has no primary key of one column, by which its rows have an order", hint)
        if key not in names:
            raise StoreError(f"{self.address.url} has no column {key!r}", did_you_mean(key, names))
        kind = next(kind for name, kind, *_ in columns if name == key)
        if kind not in INTEGERS | TEXTS:
            hint = "name a unique column of numbers, text or UUIDs: ?id=COLUMN"
            raise StoreError(f"the column {key!r} of {self.address.url} is of type {kind}, which is no id", hint)
        return key

    def _refuse_unknown(self, rows: list[dict[str, Any]], named: list[str]) -> None:
        for row in rows:
            if strange := [name for name in row if name not in named]:
                hint = f"add it: ALTER TABLE {self.table} ADD {_quoted(strange[0])} jsonb; or write to a new table"
                raise StoreError(f"{self.address.url} has no column for the payload {strange[0]!r}", hint)

    @staticmethod
    def _value(name: str, about: dict[str, Any]) -> str:
        if about["made"]:
            return "c.payload"
        if about["kinds"][name] == "bytea":
            return f"decode(c.payload ->> {_literal(name)}, 'base64')"
        if about["kinds"][name] in ("json", "jsonb"):  # a JSON null is one, and a missing key none
            return f"(c.payload -> {_literal(name)})::{about['kinds'][name]}"
        return f"r.{_quoted(name)}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _named(name: str) -> str:
    """Return a table's name, perhaps with its schema, as SQL writes it."""
    return ".".join(map(_quoted, name.split(".")))


def _literal(text: str) -> str:
    # psycopg reads % as the start of a parameter only when parameters are given, and these queries have none.
    return "'" + text.replace("'", "''") + "'"


def _copy(into: str) -> str:
    return f"COPY {into} FROM STDIN (FORMAT BINARY)"
