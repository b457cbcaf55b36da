"""texts — files of texts, read a batch at a time, and embedded into Spaces that keep their ids and payload.

In    texts.txt, texts.jsonl?column=body&id=isbn, texts.csv, texts.parquet     rows=0:1000 and bad_rows=drop as for stores
Out   Texts, and Spaces of their rows under an Encoder
Uses  space, stores.address, encoders; pyarrow for parquet

A .txt file is a text a line, without ids; with `?column=text` the line itself is kept as payload under that name. The other
formats are tables: one column is the text, one may be the id, and all but the id are payload, the text too. `?keep=ids` or
`?keep=vectors` leaves payload, or ids too, behind. A text that is missing or blank is a bad row.
"""

from __future__ import annotations

import csv
import gzip
import json
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from crossvec.encoders import Encoder, Step, silent
from crossvec.errors import StoreError, did_you_mean
from crossvec.space import Space
from crossvec.stores.address import Address

BATCH_TEXTS = 2048
TEXT_NAMES = ("text", "texts", "content", "body", "passage", "sentence", "document", "chunk")
ID_NAMES = ("id", "ids", "_id")
KEEPS = {"all": {"ids", "payload"}, "ids": {"ids"}, "vectors": set()}

Record = dict[str, Any]


@dataclass(frozen=True)
class Batch:
    """Some texts in order; `numbers` are their rows' numbers in the file, `bad` the positions of those that are none."""

    texts: list[str]
    ids: list[Any] | None
    payload: list[Record] | None
    numbers: range
    bad: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class Texts:
    """A file of texts. Making one touches nothing; every method may raise StoreError."""

    address: Address

    def __post_init__(self) -> None:
        if self.address.scheme != "file" or self._kind not in READERS:
            raise StoreError(f"crossvec cannot read texts from {self.address.url}", f"use one of {', '.join(READERS)}")
        known = {"column", "id", "bad_rows", "keep"} if self._is_table else {"column", "bad_rows"}
        self.address.only(known)
        for option, allowed in {"bad_rows": ["refuse", "drop"], "keep": list(KEEPS)}.items():
            if (value := self.address.options.get(option, allowed[0])) not in allowed:
                raise StoreError(f"{option}={value} is not possible for {self.path}", f"use one of {', '.join(allowed)}")

    @property
    def path(self) -> Path:
        """Where the file is."""
        return Path(self.address.place)

    @property
    def drops(self) -> bool:
        """Whether bad rows are left out rather than refused."""
        return self.address.options.get("bad_rows") == "drop"

    def rows(self) -> int:
        """Return the number of texts, those of the slice when the address has one; reads the file once."""
        with self._reading():
            start, stop = self.address.span(self._count())
        return stop - start

    def read(self, batch: int = BATCH_TEXTS) -> Iterator[Batch]:
        """Yield the texts in order, `batch` at a time; raises StoreError naming the row of a text that is missing or blank."""
        with self._reading():
            first, last = (0, None) if self.address.rows is None else self.address.span(self._count())
            records = islice(self._records(), first, last)
            column, id_column = None, None
            at = first
            while held := list(islice(records, batch)):
                if column is None:
                    column, id_column = self._columns(held[0])
                yield self._batch(held, column, id_column, at)
                at += len(held)

    @property
    def _kind(self) -> str:
        name = self.path.name.lower().removesuffix(".gz")
        return name[name.rfind(".") :] if "." in name else ""

    @property
    def _is_table(self) -> bool:
        return self._kind != ".txt"

    def _records(self) -> Iterator[Record]:
        return READERS[self._kind](self.path)

    def _count(self) -> int:
        if self._kind == ".parquet":
            import pyarrow.parquet as pq

            with pq.ParquetFile(self.path) as file:
                return int(file.metadata.num_rows)
        return sum(1 for _ in self._records())

    def _columns(self, first: Record) -> tuple[str, str | None]:
        """Return the names of the columns of texts and ids, as the file's first row shows them."""
        if not self._is_table:
            return "", None
        asked, names = self.address.options.get("column"), list(first)
        words = [name for name in names if isinstance(first[name], str)]
        found = [name for name in TEXT_NAMES if name in words][:1] or (words if len(words) == 1 else [])
        if asked is not None and asked not in names:
            raise StoreError(f"{self.path} has no column {asked!r}", did_you_mean(asked, names))
        if asked is None and not found:
            hint = f"choose one: {self.path}?column={words[0]}" if words else f"there are {', '.join(names)}"
            raise StoreError(f"{self.path} does not say which column holds the texts", hint)
        id_asked = self.address.options.get("id")
        if id_asked and id_asked not in names:
            raise StoreError(f"{self.path} has no column {id_asked!r}", did_you_mean(id_asked, names))
        default = next((name for name in ID_NAMES if name in names), None)
        return asked or found[0], id_asked or (default if id_asked is None else None)

    def _batch(self, records: list[Record], column: str, id_column: str | None, at: int) -> Batch:
        given = [record.get(column) for record in records]
        bad = tuple(i for i, text in enumerate(given) if text is None or (isinstance(text, str) and not text.strip()))
        if bad and not self.drops:
            hint = f"repair it, or leave such rows out: {self.path}?bad_rows=drop"
            raise StoreError(f"row {at + bad[0]:,} of {self.path} has no text", hint)
        texts: list[str] = []
        for i, text in enumerate(given):
            if not isinstance(text, str) and i not in bad:
                what = f"{type(text).__name__} under {column!r}"
                raise StoreError(f"row {at + i:,} of {self.path} has a {what}, not text", f"choose texts: {self.path}?column=…")
            texts.append(text if isinstance(text, str) else "")
        keep = KEEPS[self.address.options.get("keep", "all")]
        ids = [record.get(id_column) for record in records] if id_column and "ids" in keep else None
        payload: list[Record] | None = None
        if not self._is_table:
            name = self.address.options.get("column")
            payload = [{name: text} for text in texts] if name else None
        elif "payload" in keep:
            payload = [{key: value for key, value in record.items() if key != id_column} for record in records]
        return Batch(texts, ids, payload, range(at, at + len(records)), bad)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise StoreError(f"there is no file {self.path}", "check the path") from None
        except IsADirectoryError:
            raise StoreError(f"{self.path} is a folder", "name a file in it") from None
        except PermissionError:
            raise StoreError(f"{self.path} may not be read", f"allow it: chmod u+r {self.path}") from None
        except UnicodeDecodeError as problem:
            raise StoreError(
                f"{self.path} is not UTF-8 text: {problem.reason}",
                f"convert it: iconv -f LATIN1 -t UTF-8 {self.path} (or what it is in: file {self.path})",
            ) from None
        except (ValueError, OSError, EOFError, csv.Error, zlib.error, RecursionError) as problem:
            raise StoreError(f"{self.path} cannot be read as {self._kind}: {problem}", "write the file anew") from None


def open(url: str | Path) -> Texts:
    """Return the file of texts that a path or URL names; raises StoreError when its ending is not known."""
    return Texts(Address.parse(url))


def embed(
    batches: Iterable[Batch], encoder: Encoder, *, rows: int, drop: bool = False, progress: Step = silent
) -> Iterator[Space]:
    """Yield each batch as a Space of the encoder's rows, with its ids and payload; `dropped` lists the rows left out.

    `rows` is the number of all texts, for the progress. With `drop` the bad texts, and those in which the model knows nothing,
    are left out; otherwise the latter raise SpaceError. Raises what the encoder raises.
    """
    done = 0
    for batch in batches:
        good = sorted(set(range(len(batch))) - set(batch.bad))

        def told(_doing: str, part: float, done: int = done, size: int = len(batch)) -> None:
            progress(f"{done + round(part * size):,} of {rows:,} texts", (done + part * size) / max(rows, 1))

        given = encoder.encode([batch.texts[i] for i in good], progress=told)
        vectors = np.full((len(batch), given.shape[1]), np.nan, np.float32)
        vectors[good] = given
        yield Space.of(
            vectors, batch.ids, batch.payload, encoder.name, numbers=batch.numbers, bad_rows="drop" if drop else "refuse"
        )
        done += len(batch)


def _opened(path: Path, newline: str = "\n") -> TextIOWrapper:
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", newline=newline)
    return path.open(encoding="utf-8-sig", newline=newline)


def _txt(path: Path) -> Iterator[Record]:
    with _opened(path) as file:
        yield from ({"": line.rstrip("\r\n")} for line in file)


def _jsonl(path: Path) -> Iterator[Record]:
    with _opened(path) as file:
        for row, line in enumerate(line for line in file if line.strip()):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as problem:
                raise StoreError(f"row {row:,} of {path} is not JSON: {problem}", "every line is one object") from None
            if not isinstance(record, dict):
                raise StoreError(f"row {row:,} of {path} is not a JSON object", 'write lines such as {"id": "a", "text": "…"}')
            yield record


def _separated(comma: str) -> Callable[[Path], Iterator[Record]]:
    def read(path: Path) -> Iterator[Record]:
        csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # the default refuses texts beyond 128 KiB
        with _opened(path, newline="") as file:  # a quoted field may hold line ends
            rows = csv.reader(file, delimiter=comma, strict=True)
            names = next(rows, [])
            if len(set(names)) < len(names):
                raise StoreError(f"{path} has two columns of one name: {', '.join(names)}", "rename one")
            for number, row in enumerate(row for row in rows if row):
                if len(row) != len(names):
                    raise StoreError(
                        f"row {number:,} of {path} has {len(row)} fields, not {len(names)}", "the first line names the columns"
                    )
                yield dict(zip(names, row, strict=True))

    return read


def _parquet(path: Path) -> Iterator[Record]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for piece in file.iter_batches(BATCH_TEXTS):
            yield from piece.to_pylist()


READERS: dict[str, Callable[[Path], Iterator[Record]]] = {
    ".txt": _txt,
    ".jsonl": _jsonl,
    ".csv": _separated(","),
    ".tsv": _separated("\t"),
    ".parquet": _parquet,
}
"""How to read each ending's rows; all but .parquet may be gzipped."""
