"""hdf5 — a dataset in an HDF5 file, read and written in batches, with ids in a dataset beside it.

In    file.h5?key=vectors&id=ids     needs h5py: pip install "crossvec[hdf5]"
Out   Space                          ids are carried, payload is not
Uses  stores.files, h5py
"""

from __future__ import annotations

import io
import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from crossvec.errors import MissingExtraError, StoreError
from crossvec.space import python_values
from crossvec.stores.files import FileStore, Head, Part, Written, choose, choose_ids

try:
    import h5py
except ModuleNotFoundError as missing:
    raise MissingExtraError(".h5 files need h5py, which is not installed", 'pip install "crossvec[hdf5]"') from missing

CHUNK_BYTES = 1 << 18  # HDF5's cache of 1 MiB holds some; a file is never smaller than one
HEAP = b"GCOL\x01\0\0\0"  # how a collection of texts begins
LENGTH = 8  # bytes of a length in it, in files as nearly everybody writes them


class Hdf5File(FileStore):
    """A dataset of shape (n, d) in an HDF5 file."""

    format = ".h5"
    options = frozenset({"key", "id"})
    carries = frozenset({"ids"})
    damage = (ValueError, RuntimeError, KeyError, TypeError)

    def _head(self) -> Head:
        with self._open() as file:
            vectors, ids = self._datasets(file)
            return Head(len(vectors), vectors.shape[1], vectors.dtype.name, ids is not None)

    def _chunks(self, start: int, stop: int, batch: int) -> Iterator[Part]:
        with self._open() as file:
            vectors, ids = self._datasets(file)
            if ids is not None and ids.dtype.kind == "O" and file.id.get_create_plist().get_sizes()[1] == LENGTH:
                about = self.path.stat()
                _refuse_endless(self.path, about.st_size, about.st_mtime_ns)
            for first in range(start, stop, batch):
                rows = slice(first, min(first + batch, stop))
                yield Part(vectors[rows], None if ids is None or "ids" not in self.kept else self._ids(ids, rows))

    def _save(self, path: Path, batches: Iterator[Written]) -> int:
        key, id_key = self.address.options.get("key", "vectors"), self.address.options.get("id") or "ids"
        rows, vectors, ids = 0, None, None
        with _Disk(path, "r+") as disk, disk.watched(), h5py.File(disk, "w") as file:
            for x, space in batches:
                disk.refuse_full()
                if vectors is None:
                    vectors = _growing(file, key, x.dtype, x.shape[1:])
                if ids is None and space.ids is not None and len(x):
                    ids = _growing(file, id_key, _id_type(python_values(space.ids), self.path), ())
                first, rows = rows, rows + len(x)
                vectors.resize(rows, axis=0)
                vectors[first:] = x
                if ids is not None and space.ids is not None and len(x):
                    values = python_values(space.ids)
                    if _id_type(values, self.path) != ids.dtype:
                        raise _unchanged(self.path)
                    ids.resize(rows, axis=0)
                    ids[first:] = values
        return rows

    def _open(self) -> Any:
        with open(self.path, "rb"):  # for Python's own errors about missing files and folders
            return h5py.File(self.path, "r")

    def _datasets(self, file: Any) -> tuple[Any, Any]:
        found: dict[str, Any] = {}
        file.visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)
        tables = [name for name, item in found.items() if item.ndim == 2 and item.dtype.kind == "f"]
        asked = self.address.options.get("key")
        key = choose("dataset", list(found) if asked else tables, self, "key")
        if found[key].ndim != 2:
            raise StoreError(f"{key} in {self.path} has shape {found[key].shape}; a space is (rows, dimensions)")
        id_key = choose_ids("dataset", found, self)
        return found[key], None if id_key is None else self._checked_ids(id_key, found[id_key], len(found[key]))

    def _checked_ids(self, key: str, ids: Any, rows: int) -> Any:
        if ids.shape != (rows,) or not (ids.dtype.kind in "iu" or h5py.check_string_dtype(ids.dtype)):
            raise StoreError(
                f"{key} in {self.path} has shape {ids.shape} and type {ids.dtype}, so it cannot be the ids of {rows:,} rows",
                f"name the ids: {self.path}?id=NAME, or use row numbers: {self.path}?id=",
            )
        return ids

    def _ids(self, ids: Any, rows: slice) -> Any:
        return ids[rows] if ids.dtype.kind in "iu" else ids.asstr()[rows].tolist()


class _Disk(io.FileIO):
    """A file that remembers that the disk is full instead of telling HDF5, which would crash on closing."""

    full: OSError | None = None

    def write(self, data: Any) -> int:
        view, done = memoryview(data).cast("B"), 0
        try:
            while self.full is None and done < len(view):
                done += super().write(view[done:])
        except OSError as error:
            self.full = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        return (size or 0) if self.full else super().truncate(size)

    def refuse_full(self) -> None:
        if self.full:
            raise self.full

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Raise what was remembered when HDF5 has closed the file."""
        yield
        self.refuse_full()


@lru_cache(maxsize=64)
def _refuse_endless(path: Path, size: int, changed: int) -> None:
    """Raise StoreError where a heap has an object of no length: HDF5 1.14 would look for the next one for ever.

    Looked at once for each state of a file. HDF5 File Format Specification 3.0, III.E: a collection is its signature, its size,
    and objects one after another, each with a head of 16 bytes; object 0 is what is free, and its size counts the head.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held:
        at = held.find(HEAP)
        while at >= 0:
            if not _ends(held, at):
                raise StoreError(f"{path} is damaged: it has a heap of texts without an end", f"try without ids: {path}?id=")
            at = held.find(HEAP, at + 1)


def _ends(held: mmap.mmap, start: int) -> bool:
    """Whether each object of the collection at `start` leads to the next; HDF5 itself refuses one longer than its file."""
    head = held[start + 8 : start + 16]
    end = start + int.from_bytes(head, "little")
    if len(head) < 8 or end > len(held):
        return True
    at = start + 16
    while at + 16 <= end:
        number, _, _, long = struct.unpack_from("<HHIQ", held, at)
        step = 16 + (long + 7) // 8 * 8 if number else long
        if not 16 <= step <= end - at:
            return False
        at += step
    return True


def _growing(file: Any, key: str, dtype: Any, tail: tuple[int, ...]) -> Any:
    row_bytes = np.dtype(dtype).itemsize * int(np.prod(tail))
    chunk = max(1, CHUNK_BYTES // row_bytes)
    return file.create_dataset(key, (0, *tail), dtype, maxshape=(None, *tail), chunks=(chunk, *tail))


def _id_type(ids: list[Any], path: Path) -> Any:
    """Return the dataset type that carries these ids unchanged; raise StoreError when none does."""
    if all(isinstance(i, str) for i in ids):
        text = "".join(ids)
        if "\0" in text or text.encode(errors="ignore").decode() != text:  # HDF5 ends text at a NUL and is UTF-8
            raise _unchanged(path)
        return h5py.string_dtype()
    array = np.array(ids)
    if array.dtype.kind in "iu" and array.tolist() == ids:
        return np.dtype(np.uint64 if array.dtype.kind == "u" else np.int64)
    raise _unchanged(path)


def _unchanged(path: Path) -> StoreError:
    return StoreError(f"{path} cannot carry these ids unchanged", f"write .parquet, or leave them behind: {path}?keep=vectors")
