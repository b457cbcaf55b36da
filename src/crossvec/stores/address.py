"""address — how a place is named: a path or URL, a row slice, and options.

In    "vectors.npy?rows=0:36000", "file:///home/me/a%20b.parquet?column=title_vector&id=isbn", "qdrant://host:6333/books"
Out   Address(scheme, place, rows, options)
Uses  errors

A plain path is taken as it is written: only its query is decoded. An existing file whose name holds a `?` wins over a query.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from crossvec.errors import StoreError

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
SLICE = re.compile(r"(\d*):(\d*)")


@dataclass(frozen=True)
class Address:
    """A parsed place.

    `place` is a file's path, or what follows `scheme://`. `rows` is a half-open slice (start, stop); stop is None for "to the
    end", and `rows` itself is None when no slice was given. `options` are the other query values, still as text.
    """

    url: str
    scheme: str
    place: str
    rows: tuple[int, int | None] | None
    options: Mapping[str, str]

    @classmethod
    def parse(cls, url: str | Path) -> Address:
        """Take a place's name apart; raises StoreError for an empty place, an unreadable slice or an option given twice."""
        url = str(url)
        if Path(url).is_file():
            return cls(url, "file", url, None, {})
        match = SCHEME.fullmatch(url)
        scheme, rest = (match[1].lower(), match[2]) if match else ("file", url)
        place, _, query = rest.partition("?")
        if scheme == "file" and match:
            host, slash, path = place.partition("/")
            if host not in ("", "localhost"):
                raise StoreError(f"{url} names another machine, {host}", f"for a file here write file:///{host}/…")
            place = unquote(slash + path)
        if not place or "\0" in place:
            raise StoreError(f"{url!r} names no place", "give a file such as vectors.npy")
        pairs = parse_qsl(query, keep_blank_values=True)
        options = dict(pairs)
        if len(options) < len(pairs):
            raise StoreError(f"{url} gives an option twice", "give each option once, joined with &")
        rows = options.pop("rows", None)
        return cls(url, scheme, place, None if rows is None else _slice(rows, url), options)

    def span(self, total: int) -> tuple[int, int]:
        """Return the slice as (start, stop) of a place with `total` rows; raises StoreError when it reaches beyond them."""
        if self.rows is None:
            return 0, total
        start, stop = self.rows[0], total if self.rows[1] is None else self.rows[1]
        if stop > total or start >= stop:
            asked = f"{start}:{'' if self.rows[1] is None else self.rows[1]}"
            raise StoreError(
                f"{self.place} has {total:,} rows, so there are no rows {asked}", f"for all of them: ?rows=0:{total}"
            )
        return start, stop

    def only(self, known: Iterable[str]) -> None:
        """Raise StoreError, with the nearest right name, when an option is not one of `known`."""
        for name in self.options:
            if name not in (known := sorted(known)):
                raise StoreError(f"{self.place} takes no option {name!r}", nearest(name, ["rows", *known]))


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint that names the word most like this one, and all others there are."""
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return (f"did you mean {near[0]}? " if near else "") + f"known: {', '.join(known)}"


def _slice(text: str, url: str) -> tuple[int, int | None]:
    match = SLICE.fullmatch(text)
    if not match:
        raise StoreError(
            f"rows={text} in {url} is not a slice", "write ?rows=START:STOP, such as ?rows=0:36000; STOP is left out"
        )
    start, stop = int(match[1] or 0), int(match[2]) if match[2] else None
    if stop is not None and stop <= start:
        raise StoreError(
            f"rows={text} in {url} selects no rows", f"STOP comes after START, such as ?rows={start}:{start + 1000}"
        )
    return start, stop
