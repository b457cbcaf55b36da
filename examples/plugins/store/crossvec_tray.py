"""crossvec_tray — trays of rows in one file of Python's own SQLite.

In    tray:///folder/file.db/books
Out   Collection            rows in the order of their ids; any id, nested payload
Uses  crossvec.stores.collection; sqlite3
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from crossvec.stores import Description
from crossvec.stores.collection import Collection
from crossvec.stores.rows import Key, Layout, Page

TABLES = """
CREATE TABLE IF NOT EXISTS trays (tray TEXT PRIMARY KEY, dim INTEGER, metric TEXT);
CREATE TABLE IF NOT EXISTS items (tray TEXT, id, vector BLOB, document TEXT, PRIMARY KEY (tray, id)) WITHOUT ROWID;
"""
ID_TYPES = {("integer",): "integer", ("text",): "text"}


class Tray(Collection):
    """A tray of a file; its vectors are kept as they are, so no row is scaled."""

    format = "tray"
    module = "sqlite3"
    extra = "sqlite"

    @property
    def path(self) -> Path:
        """The file in which the tray is."""
        return self.address.folder()[0]

    def _shared(self) -> Hashable:
        return self.path

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)

    def _explain(self, error: Exception) -> tuple[str, str] | None:
        if isinstance(error, sqlite3.Error):
            return f"{self.path} cannot be used: {error}", "write tray:///folder/file.db/TRAY, in a folder that exists"
        return None

    def _look(self, client: sqlite3.Connection) -> Layout | None:
        if not client.execute("SELECT 1 FROM sqlite_master WHERE name = 'trays'").fetchone():
            return None
        told = client.execute("SELECT dim, metric FROM trays WHERE tray = ?", [self.name]).fetchone()
        if told is None:
            return None
        kinds = tuple(self._listed(client, "SELECT DISTINCT typeof(id) FROM items WHERE tray = ?"))
        fields = self._listed(client, "SELECT DISTINCT key FROM items, json_each(document) WHERE tray = ?")
        return Layout(self._count(client), *told, normalised=False, id_type=ID_TYPES.get(kinds), payload=tuple(sorted(fields)))

    def _page(self, client: sqlite3.Connection, layout: Layout, after: Any, limit: int, vectors: bool) -> Page:
        begin = "" if after is None else "AND id > ?"
        found = client.execute(
            f"SELECT id, vector, document FROM items WHERE tray = ? {begin} ORDER BY id LIMIT {limit:d}",
            [self.name] if after is None else [self.name, after],
        ).fetchall()
        rows = np.frombuffer(b"".join(row[1] for row in found), "<f4").reshape(-1, layout.dim)
        return Page([row[0] for row in found], rows, [json.loads(row[2]) for row in found], found[-1][0] if found else None)

    def _count(self, client: sqlite3.Connection) -> int:
        return int(client.execute("SELECT count(*) FROM items WHERE tray = ?", [self.name]).fetchone()[0])

    def _create(self, client: sqlite3.Connection, like: Description) -> None:
        client.executescript(TABLES)
        client.execute("INSERT INTO trays VALUES (?, ?, ?)", [self.name, like.dim, like.metric])

    def _put(
        self,
        client: sqlite3.Connection,
        layout: Layout,
        keys: list[Key],
        vectors: Float32[np.ndarray, "k d"],
        rows: list[dict[str, Any]],
    ) -> None:
        items = [
            (self.name, key, vector.astype("<f4").tobytes(), json.dumps(row))
            for key, vector, row in zip(keys, vectors, rows, strict=True)
        ]
        client.execute("BEGIN")
        client.executemany("INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?)", items)
        client.execute("COMMIT")

    def _drop(self, client: sqlite3.Connection) -> None:
        client.execute("DELETE FROM items WHERE tray = ?", [self.name])
        client.execute("DELETE FROM trays WHERE tray = ?", [self.name])

    def _names(self, client: sqlite3.Connection) -> list[str]:
        if not client.execute("SELECT 1 FROM sqlite_master WHERE name = 'trays'").fetchone():
            return []
        return [row[0] for row in client.execute("SELECT tray FROM trays ORDER BY tray")]

    def _listed(self, client: sqlite3.Connection, query: str) -> list[str]:
        return [row[0] for row in client.execute(query, [self.name])]
