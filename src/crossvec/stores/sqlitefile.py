"""sqlitefile — an SQLite file: opened when first used, and its tables given other names, those of sqlite-vec whole.

In    a path; names of tables, old and new
Out   File                     rows of a query; every name changed or none
Uses  errors
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import Any

from crossvec.errors import StoreError

VEC0 = re.compile(r"\bUSING\s+vec0\s*\((.*)\)", re.IGNORECASE | re.DOTALL)
SHADOWS = re.compile(r"info|chunks|rowids|auxiliary|(vector_chunks|metadatachunks|metadatatext)\d\d")
"""What follows TABLE_ in the names of the tables in which sqlite-vec keeps a table."""


@dataclass
class File:
    """An SQLite file, opened when first used, made when first written to."""

    path: Path
    apsw: Any
    connection: Any = None
    vec0: bool = False
    lock: Any = field(default_factory=RLock)

    def open(self, make: bool = False) -> Any:
        """Return the connection; SQLite itself falls back to reading only where a file may not be written."""
        with self.lock:
            if self.connection is None:
                flags = self.apsw.SQLITE_OPEN_READWRITE | (self.apsw.SQLITE_OPEN_CREATE if make else 0)
                self.connection = self.apsw.Connection(str(self.path), flags=flags)
                self.connection.set_busy_timeout(10_000)
            return self.connection

    def sql(self, query: str, values: Any = ()) -> list[tuple[Any, ...]]:
        """Run a query and return its rows."""
        with self.lock:
            return list(self.open().execute(query, values))

    def close(self) -> None:
        """Close the file."""
        if self.connection is not None:
            self.connection.close()
        self.connection, self.vec0 = None, False


def renamed(client: File, changes: Sequence[tuple[str, str]]) -> None:
    """Give tables other names, in this order, in one transaction.

    SQLite renames a table of sqlite-vec, and not those in which it keeps its rows and which it finds by its name (0.1.9). So
    these are renamed with it, and every table is read under its new name before anything is final. Raises StoreError, and
    changes nothing, when a table could not be read.
    """
    with client.lock, client.open():
        before = {old: _seen(client, old) for old, _ in changes}
        for old, new in changes:
            told = client.sql("SELECT sql FROM sqlite_master WHERE lower(name) = lower(?)", [old])
            shadows = _shadows(client, old) if VEC0.search(told[0][0] or "") else []
            client.sql(f"ALTER TABLE {quoted(old)} RENAME TO {quoted(new)}")
            for shadow in shadows:
                client.sql(f"ALTER TABLE {quoted(shadow)} RENAME TO {quoted(new + shadow[len(old) :])}")
        for old, new in changes:
            try:
                whole = _seen(client, new) == before[old]
            except client.apsw.Error:
                whole = False
            if not whole:
                message = f"{client.path} does not give the rows of {old} under the name {new}; nothing was changed"
                raise StoreError(message, "point your application at the new table instead, and leave --switch out")


def _seen(client: File, table: str) -> tuple[int, list[tuple[Any, ...]]]:
    """Return how many rows a table gives, and one of them."""
    name = quoted(table)
    return int(client.sql(f"SELECT count(*) FROM {name}")[0][0]), client.sql(f"SELECT * FROM {name} LIMIT 1")


def _shadows(client: File, table: str) -> list[str]:
    names = (name for (name,) in client.sql("SELECT name FROM sqlite_master WHERE type = 'table'"))
    start = f"{table}_".lower()
    return [name for name in names if name.lower().startswith(start) and SHADOWS.fullmatch(name[len(start) :])]


def quoted(name: str) -> str:
    """Return a name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'
