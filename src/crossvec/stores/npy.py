"""npy — NumPy's own files: .npy (one array) and .npz (a zip of them, with ids beside the vectors).

In    file.npy, file.npz?key=vectors&id=ids
Out   Space; .npy is mapped, .npz is read as a stream     neither format carries payload; .npy carries no ids
Uses  stores.raw, stores.files

Pickled (object) arrays are refused: opening one would run code that the file brings.
"""

from __future__ import annotations

import io
import shutil
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from crossvec.errors import StoreError
from crossvec.space import Space, python_values
from crossvec.stores.files import FileStore, Head, Part, Written, choose, choose_ids
from crossvec.stores.raw import Layout, RawFile, fill

VERSIONS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class NpyFile(RawFile):
    """One array of shape (n, d)."""

    format = ".npy"

    def _layout(self) -> Layout:
        with open(self.path, "rb") as file:
            shape, by_column, dtype = _header(file)
            _check(shape, dtype, str(self.path))
            return Layout(file.tell(), shape[0], shape[1], dtype, by_column)

    def _header(self, rows: int, dim: int, dtype: np.dtype) -> bytes:
        return _npy_header(rows, dim, dtype)


class NpzFile(FileStore):
    """Arrays in a zip: the vectors (`?key=`) and perhaps their ids (`?id=`)."""

    format = ".npz"
    options = frozenset({"key", "id"})
    carries = frozenset({"ids"})
    # RuntimeError: encrypted; SystemError: NumPy's for text that is none
    damage = (ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, SystemError)

    def _head(self) -> Head:
        with zipfile.ZipFile(self.path) as archive:
            headers = _headers(archive)
            key = self._key(headers)
            shape, _, dtype = headers[key]
            _check(shape, dtype, f"{key} in {self.path}")
            _refuse_short(archive, key, shape[0] * shape[1] * dtype.itemsize)
            return Head(shape[0], shape[1], dtype.name, choose_ids("array", headers, self) is not None)

    def _chunks(self, start: int, stop: int, batch: int) -> Iterator[Part]:
        with zipfile.ZipFile(self.path) as archive:
            headers = _headers(archive)
            key, id_key = self._key(headers), choose_ids("array", headers, self)
            rows = headers[key][0][0]
            ids = self._ids(archive, id_key, headers[id_key], rows) if id_key and "ids" in self.kept else None
            with archive.open(f"{key}.npy") as file:
                (rows, dim), by_column, dtype = _header(file)
                if by_column:  # columns come first, so nothing less than all of it is a row
                    whole = np.empty((dim, rows), dtype)
                    fill(whole, file)
                else:
                    file.seek(start * dim * dtype.itemsize, io.SEEK_CUR)
                for first in range(start, stop, batch):
                    last = min(first + batch, stop)
                    if by_column:
                        part = np.ascontiguousarray(whole.T[first:last])
                    else:
                        part = np.empty((last - first, dim), dtype)
                        fill(part, file)
                    yield Part(part, None if ids is None else ids[first:last])

    def _save(self, path: Path, batches: Iterator[Written]) -> int:
        ids: list[Any] = []
        rows, dim, dtype = 0, 0, np.dtype("<f4")
        # A zip member is closed before its successor opens and cannot be patched, so rows wait beside it until n is known.
        with tempfile.TemporaryFile(dir=path.parent) as waiting:
            for x, space in batches:
                dim, dtype = x.shape[1], x.dtype
                waiting.write(x.tobytes())
                rows += len(x)
                ids += [] if space.ids is None else python_values(space.ids)
            waiting.seek(0)
            with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
                with archive.open("vectors.npy", "w", force_zip64=True) as member:
                    member.write(_npy_header(rows, dim, dtype))
                    shutil.copyfileobj(waiting, member, 1 << 20)
                if ids:
                    with archive.open("ids.npy", "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, _id_array(ids, self.path), allow_pickle=False)
        return rows

    def _key(self, headers: dict[str, Any]) -> str:
        asked = self.address.options.get("key")
        tables = [key for key, (shape, _, dtype) in headers.items() if len(shape) == 2 and dtype.kind == "f"]
        return choose("array", list(headers) if asked else tables or list(headers), self, "key")

    def _ids(self, archive: zipfile.ZipFile, key: str, header: tuple[Any, bool, np.dtype], rows: int) -> Any:
        shape, _, dtype = header
        if dtype.hasobject:
            raise ValueError("Object arrays cannot be loaded: they are pickles, which run code")
        if shape != (rows,) or dtype.kind not in "iuU":
            raise StoreError(
                f"{key} in {self.path} has shape {shape} and type {dtype}, so it cannot be the ids of {rows:,} rows",
                f"name the ids: {self.path}?id=NAME, or use none: {self.path}?id=",
            )
        _refuse_short(archive, key, rows * dtype.itemsize)
        with archive.open(f"{key}.npy") as file:
            _header(file)
            ids = np.empty(rows, dtype)
            fill(ids, file)
        return ids if ids.dtype.kind in "iu" else ids.tolist()


def refuse_unreadable(path: str | Path) -> None:
    """Raise ValueError for a .npy file whose header describes no array; `np.load` may raise anything for it."""
    with open(path, "rb") as file:
        _header(file)


def _headers(archive: zipfile.ZipFile) -> dict[str, tuple[tuple[int, ...], bool, np.dtype]]:
    found = {}
    for name in archive.namelist():
        if name.endswith(".npy"):
            with archive.open(name) as file:
                found[name.removesuffix(".npy")] = _header(file)
    return found


def _refuse_short(archive: zipfile.ZipFile, key: str, size: int) -> None:
    if archive.getinfo(f"{key}.npy").file_size < size:
        raise ValueError(f"{key} is shorter than its header says")


def _header(file: io.BufferedIOBase | IO[bytes]) -> tuple[Any, bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    if version not in VERSIONS:
        raise ValueError(f"its header has version {version}, which plain arrays do not need")
    try:
        return VERSIONS[version](file)
    except (tokenize.TokenError, SyntaxError, TypeError, RecursionError, MemoryError) as error:  # a header is a Python literal
        raise ValueError(f"its header describes no array: {error}") from None


def _check(shape: tuple[int, ...], dtype: np.dtype, name: str) -> None:
    """Refuse an array that cannot be a space before any of it is read."""
    if dtype.hasobject:
        raise StoreError(f"{name} holds pickled objects, which are never opened", "save it as float32: array.astype('float32')")
    if len(shape) != 2 or not all(type(size) is int and size >= 0 for size in shape):
        raise StoreError(f"{name} has shape {shape}; a space is (rows, dimensions)", "save one row a vector")
    Space(np.empty((0, shape[1]), dtype), name=name)


def _npy_header(rows: int, dim: int, dtype: np.dtype) -> bytes:
    """Return a .npy header; NumPy pads it so that its length does not change as rows are added."""
    header = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (rows, dim)}
    np.lib.format.write_array_header_1_0(header, described)
    return header.getvalue()


def _id_array(ids: list[Any], path: Path) -> np.ndarray:
    array = np.array(ids)
    if array.dtype.kind not in "iuU" or array.tolist() != ids:  # mixed types, numbers beyond 64 bits, text that ends in NUL
        raise StoreError(
            f"{path} cannot carry these ids unchanged", f"write .parquet, or leave them behind: {path}?keep=vectors"
        )
    return array
