"""shards — how a source and a destination are cut into pieces: a shard is a piece, and a store of its own is cut by rows.

In    "shards/", "shards/*.parquet?id=isbn", or what names one store; a folder to write to, or a database
Out   list[Piece]; what the folder or the database must not be
Uses  stores, scale

In a folder the shards are its .parquet files, by name; a pattern may name files of any format, `**` any depth of folders. Names
that begin with `_` or `.` are left out, as other readers of such folders do. Options after a `?` go for every shard.
"""

from __future__ import annotations

import glob
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from crossvec import stores, texts
from crossvec.errors import UsageError
from crossvec.scale import Piece
from crossvec.scale.destination import ENDING, addresses, with_options
from crossvec.stores.address import Address
from crossvec.stores.collection import Collection
from crossvec.stores.places import scheme_of

__all__ = ["ROWS", "TEXTS", "addresses_of", "cut", "cut_texts", "listed", "many"]

ROWS = 1_000_000
"""Rows of a piece of a store that is cut: minutes of work, so that little is lost with a worker; 1.5 GiB at 384 dimensions."""

TEXTS = 100_000
"""Texts of a piece of a file that is cut. Every piece reads the file from its start, so a large one is better cut before."""

BEGINNING = 1 << 20  # bytes from which the number of texts in a file is judged


def many(source: str) -> bool:
    """Tell whether a source is a pattern, or a folder that is no collection by itself.

    Raises UsageError for what looks like a folder and is not there.
    """
    address = Address.parse(source)
    place = Path(address.place)
    if address.scheme != "file" or place.is_file():
        return False
    patterned = any(mark in address.place for mark in "*[")
    if not patterned and not place.suffix and not place.exists():
        raise UsageError(f"there is no folder {place}, nor a file of that name", f"look what is there: ls {place.parent}")
    return patterned or (place.is_dir() and not scheme_of(place))


def listed(source: str, endings: Sequence[str] = (ENDING,)) -> list[tuple[str, Path]] | None:
    """Return the shards of a folder or a pattern, in order, each with its name below it; None when the source is one place.

    Raises UsageError for a folder or a pattern without shards.
    """
    if not many(source):
        return None
    address = Address.parse(source)
    place = Path(address.place)
    patterned = any(mark in address.place for mark in "*[")
    if address.rows is not None:
        raise UsageError(f"{source} names many shards, and a slice of rows goes for one", "leave rows= out, or name one shard")
    if patterned:
        base = Path(*_before_marks(place.parts))
        found = [Path(path) for path in glob.glob(address.place, recursive=True)]
    else:
        base = place
        found = [path for path in place.iterdir() if path.name.lower().endswith(tuple(endings))]
    names = {path.relative_to(base): path for path in found if path.is_file()}
    shown = sorted((name.as_posix(), path) for name, path in names.items() if not name.name.startswith(("_", ".")))
    if not shown:
        what = "no file matches" if patterned else f"there are no {' or '.join(endings)} files in"
        raise UsageError(f"{what} {address.place}", f"name a folder of shards, or a pattern: '{base}/*{endings[0]}'")
    return shown


def addresses_of(source: str) -> list[str] | None:
    """Return the addresses of a source's shards, each with the source's options; None when the source is one place."""
    shards, options = listed(source), Address.parse(source).options
    return None if shards is None else [with_options(path, options) for _, path in shards]


def cut(source: str, dest: str, rows: int | None = None) -> list[Piece]:
    """Return the pieces of what `translate` reads, each with its destination: a file in a folder, or a database.

    A store that is not many shards is cut every `rows` rows (ROWS). Raises what describing the shards raises, and UsageError
    for shards that do not fit together.
    """
    target = addresses(dest)
    shards = listed(source)
    if shards is None:
        return _cut_rows(source, target, rows or ROWS, stores.open(source).describe().rows)
    if rows is not None:
        raise UsageError(f"{source} is in shards already, each of which is a piece", "leave --shard-rows out")
    options = Address.parse(source).options
    pieces, first = [], None
    for name, path in shards:
        url = with_options(path, options)
        told = stores.open(url).describe()
        if first is None or (told.dim == first.dim and not first.rows):  # no rows are neither with ids nor without
            first = told
        if told.dim != first.dim or (told.rows and told.ids != first.ids):
            ids = {True: "with ids", False: "without ids"}
            raise UsageError(
                f"{path} holds {told.dim:,} dimensions {ids[told.ids]}, and {first.name} {first.dim:,} {ids[first.ids]}",
                "name shards of one kind: a pattern, such as 'shards/part-*.parquet', leaves others out",
            )
        pieces.append(Piece(name, url, target(name), told.rows, stamp=stamp(path)))
    if first is not None and not first.ids and isinstance(stores.open(dest_url := target("")), Collection):
        raise UsageError(
            f"the shards of {source} have no ids, and the numbers of their rows would meet in {dest_url}",
            "write shards that have a column of ids: ?id=COLUMN",
        )
    return checked(pieces)


def cut_texts(source: str, dest: str, rows: int | None = None) -> list[Piece]:
    """Return the pieces of what `embed` reads: files of texts, whose rows are estimated, or one file by its rows."""
    target = addresses(dest)
    endings = [kind for known in texts.READERS for kind in (known, f"{known}.gz") if kind != ".parquet.gz"]
    shards = listed(source, endings)
    if shards is None:
        there = texts.open(source).rows()
        return _cut_rows(source, target, rows or TEXTS, there)
    if rows is not None:
        raise UsageError(f"{source} is in files already, each of which is a piece", "leave --shard-rows out")
    options = Address.parse(source).options
    urls = [(name, path, with_options(path, options)) for name, path in shards]
    if isinstance(stores.open(dest_url := target("")), Collection):
        bare = [path for _, path, url in urls if not _has_ids(url)]
        if bare:
            raise UsageError(
                f"{bare[0]} has no ids, and numbers of rows would meet in {dest_url}", "name its column: ?id=COLUMN"
            )
    return checked([Piece(name, url, target(name), _about(path, url), stamp=stamp(path)) for name, path, url in urls])


def _has_ids(url: str) -> bool:
    first = next(texts.open(url).read(1), None)
    return first is None or first.ids is not None


def _about(path: Path, url: str) -> int:
    """Return how many texts a file holds, judged by its beginning; exact for Parquet."""
    if path.name.lower().endswith(ENDING):
        return texts.open(url).rows()
    with path.open("rb") as file:
        start = file.read(BEGINNING)
    try:
        plain = zlib.decompressobj(wbits=31).decompress(start) if path.name.lower().endswith(".gz") else start
    except zlib.error as problem:
        hint = "repair it, or leave it out by a pattern such as 'texts/part-*.jsonl.gz'"
        raise UsageError(f"{path} is not what gzip wrote: {problem}", hint) from None
    lines = plain.count(b"\n") + (not plain.endswith(b"\n"))
    return max(1, round(lines * path.stat().st_size / max(len(start), 1)))


def _cut_rows(source: str, target: Callable[[str], str], rows: int, there: int) -> list[Piece]:
    if not there:
        raise UsageError(f"{source} holds no rows", "name one that holds some")
    place = Path(Address.parse(source).place)
    mark = stamp(place) if place.is_file() else ""
    spans = [(start, min(start + rows, there)) for start in range(0, there, rows)]
    names = [f"rows-{start:012d}-{stop:012d}{ENDING}" for start, stop in spans]
    return checked(
        [
            Piece(name, source, target(name), stop - start, (start, stop), mark)
            for name, (start, stop) in zip(names, spans, strict=True)
        ]
    )


def stamp(path: Path) -> str:
    """Return what changes when a file is written anew."""
    told = path.stat()
    return f"{told.st_size}-{told.st_mtime_ns}"


def checked(pieces: list[Piece]) -> list[Piece]:
    """Return the pieces; raises UsageError when two have one output, or one would replace its own input."""
    seen: dict[str, Piece] = {}
    for piece in pieces:
        path = piece.output
        if path is None:
            continue
        if (key := str(path)) in seen:
            raise UsageError(f"{piece.source} and {seen[key].source} would both become {path}", "rename one of them")
        if path.exists() and path.resolve() == Path(Address.parse(piece.source).place).resolve():
            raise UsageError(f"{path} is an input, which its output would replace", "name another folder")
        seen[key] = piece
    return pieces


def _before_marks(parts: Sequence[str]) -> list[str]:
    """Return the folders of a pattern that come before its first mark."""
    plain: list[str] = []
    for part in parts[:-1]:
        if any(mark in part for mark in "*["):
            break
        plain.append(part)
    return plain or ["."]
