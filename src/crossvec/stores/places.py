"""places — which store a path without a scheme is, as far as the files that lie there tell.

In    a folder, or a file whose suffix is none of ours
Out   a scheme, where the place itself names what is to be read; otherwise a hint with the address to write
Uses  nothing
"""

from __future__ import annotations

import os.path
from pathlib import Path

FOLDERS = {"VDF_META.json": "vdf", "dataset_dict.json": "datasets", "state.json": "datasets"}
"""Folders that are one collection, by a file that only they hold."""

DATABASES = {
    "chroma.sqlite3": ("a Chroma database", "chroma://{path}/COLLECTION"),
    "edge_config.json": ("a shard of Qdrant Edge", "qdrant-edge://{path}"),
    "collection/*/storage.sqlite": ("a folder of Qdrant's local mode", "qdrant://{path}/COLLECTION"),
    "*.lance": ("a LanceDB database", "lancedb://{path}/TABLE"),
    "translator.safetensors": ("a saved translator and holds no rows", "crossvec translate {path} SOURCE DEST"),
}
"""Folders that need a name beside, or a scheme, by a file that lies in them."""

FILES = {
    ".faiss": "faiss://{path}",
    ".index": "faiss://{path}",
    ".duckdb": "duckdb://{path}/TABLE",
    ".sqlite": "sqlite://{path}/TABLE",
    ".sqlite3": "sqlite://{path}/TABLE",
    ".db": "sqlite://{path}/TABLE, duckdb://{path}/TABLE or milvus://{path}/COLLECTION",
}
"""Files of databases, by suffix."""


def scheme_of(path: Path) -> str | None:
    """Return the scheme of a folder that is one collection by itself, None for any other place."""
    return next((scheme for mark, scheme in FOLDERS.items() if os.path.isdir(path) and (path / mark).is_file()), None)


def hint_for(path: Path) -> tuple[str, str] | None:
    """Return what a place of a database is, and the address to write instead; None for any other place."""
    for mark, (what, address) in DATABASES.items():
        if os.path.isdir(path) and next(path.glob(mark), None):
            return what, f"write {address.format(path=path.absolute())}"
    if usual := FILES.get(path.suffix.lower()):
        return "a database's file", f"write {usual.format(path=path.absolute())}"
    return None
