"""destination — where pieces are written: a folder that gets a Parquet file for each, or a database on a server.

In    "out/", "out/?dtype=float16", "pgvector://host/db/table"
Out   an address for every piece; the database's collection, made once; what was written, counted
Uses  stores, scale
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, urlencode

from crossvec import stores
from crossvec.errors import StoreError, UsageError
from crossvec.scale import Piece
from crossvec.scale.ledger import FOLDER
from crossvec.space import Space, python_values
from crossvec.stores import Description
from crossvec.stores.address import Address, with_option
from crossvec.stores.collection import Collection
from crossvec.stores.places import scheme_of

__all__ = ["ENDING", "absolute", "addresses", "prepare", "refuse_taken", "swept", "verify", "with_options"]

ENDING = ".parquet"


def addresses(dest: str) -> Callable[[str], str]:
    """Return what makes of a piece's name the address that it is written to.

    Raises UsageError for a single file and for a database in this process: neither takes rows from several writers.
    """
    address = Address.parse(dest)
    if address.rows is not None:
        raise StoreError(f"{dest} cannot be written: a destination takes no row slice", "leave rows= out")
    place = Path(address.place)
    if address.scheme == "file":
        if place.is_file() or (not place.is_dir() and place.name.lower().endswith(tuple(stores.STORES))):
            hint = f"name a folder for them: {place.parent / place.name.partition('.')[0]}"
            raise UsageError(f"{place} is one file, and shards are written by several workers", hint)
        if scheme_of(place):
            raise UsageError(f"{place} is a collection in a folder, which one process writes", "name a new folder")
        return lambda name: with_options(place / (name if name.lower().endswith(ENDING) else name + ENDING), address.options)
    if not isinstance(store := stores.open(dest), Collection) or not store.address.split()[0]:
        raise UsageError(
            f"{dest} is on this machine's disk, where one process writes",
            "name a folder, which gets Parquet shards, or a database on a server; crossvec migrate writes such a place",
        )
    return lambda _name: dest


def refuse_taken(dest: str, begun: bool, any_done: bool) -> None:
    """Raise UsageError when something else is there already, or what an earlier run wrote is not there any more."""
    store = stores.open(_one(dest))
    if isinstance(store, Collection):
        if any_done and not store.exists():
            raise UsageError(f"rows were written to {dest}, and it is gone", "delete the run's ledger too, and run again")
        if not begun and store.address.options.get("mode") != "upsert" and store.exists() and (rows := store.count()):
            hint = f"name a new collection, or add to this one: {with_option(dest, 'mode=upsert')}"
            raise StoreError(f"{dest} already holds {rows:,} rows", hint)
        return
    folder = Path(Address.parse(dest).place)
    if not begun and folder.is_dir():
        held = sorted(entry.name for entry in folder.iterdir() if entry.name != FOLDER and not entry.name.startswith("."))
        if held:
            what = f"{', '.join(held[:4])}{' …' if len(held) > 4 else ''}"
            raise UsageError(f"{folder} holds {what}, which no run of this kind has written", "name a new folder")


def prepare(dest: str, like: Description, dim: int, first: Space) -> None:
    """Make the database's collection, of `dim` dimensions, if there is none; a folder needs nothing."""
    store = stores.open(_one(dest))
    if isinstance(store, Collection) and not store.exists():
        kinds = set(map(type, python_values(first.ids_or_numbers())))
        id_type = "integer" if kinds == {int} else "text" if kinds == {str} else None
        store.create(replace(like, dim=dim, rows=0, ids=first.ids is not None, id_type=id_type))


def verify(dest: str, rows: int) -> None:
    """Raise StoreError when a database holds fewer rows than were written to it."""
    store = stores.open(_one(dest))
    if isinstance(store, Collection) and (held := store.count()) < rows:
        hint = "two shards have rows of one id, or rows were deleted meanwhile: compare the ids"
        raise StoreError(f"{rows:,} rows were written to {dest}, which now holds {held:,}", hint)


def swept(pieces: Sequence[Piece]) -> None:
    """Remove what killed writers, on whatever machine, left beside the finished files: hidden, and of no use to anybody."""
    for path in {piece.output for piece in pieces if piece.output is not None}:
        for left in path.parent.glob(f".{path.name}.*.part"):
            left.unlink(missing_ok=True)


def absolute(url: str) -> str:
    """Return the address with a whole path, where it is one of files: a worker may be in another folder."""
    address = Address.parse(url)
    if address.scheme != "file":
        return url
    rows = {} if address.rows is None else {"rows": f"{address.rows[0]}:{'' if address.rows[1] is None else address.rows[1]}"}
    return with_options(Path(address.place).absolute(), {**address.options, **rows})


def with_options(path: Path, options: Mapping[str, str]) -> str:
    """Return the address of a file with options; a name that holds a `?` is written as a URL."""
    place = f"file://{quote(str(path.absolute()))}" if "?" in str(path) else str(path)
    query = urlencode(options, safe="/:,") if options else ""
    return f"{place}?{query}" if query else place


def _one(dest: str) -> str:
    """Return an address that can be opened: of a folder, one of its files."""
    return addresses(dest)("one")
