"""address — how a place is named: a path or URL, a row slice, and options.

In    "vectors.npy?rows=0:36000", "file:///home/me/a%20b.parquet?column=title_vector&id=isbn", "qdrant://host:6333/books"
Out   Address(scheme, place, rows, options)
Uses  errors

A plain path is taken as it is written: only its query is decoded. An existing file whose name holds a `?` wins over a query.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from crossvec.errors import StoreError, did_you_mean

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
SLICE = re.compile(r"(\d*):(\d*)")
SECRET = re.compile(
    r"(api|access|auth|secret|private)[-_]?key|.*(token|password|passwd|pwd|secret|credentials?)", re.IGNORECASE
)
SECRETS: dict[str, str] = {
    "chroma": "CHROMA_API_KEY",
    "elasticsearch": "ELASTICSEARCH_API_KEY",
    "milvus": "MILVUS_TOKEN",
    "opensearch": "OPENSEARCH_PASSWORD",
    "pgvector": "PGPASSWORD",
    "pinecone": "PINECONE_API_KEY",
    "qdrant": "QDRANT_API_KEY",
    "redis": "REDIS_PASSWORD",
    "weaviate": "WEAVIATE_API_KEY",
}
"""The environment variable that holds a database's secret, by scheme. An address that holds one itself is refused."""

NO_USERS = frozenset({"chroma", "milvus", "pinecone", "qdrant", "weaviate"})
"""Databases that know keys and no users: what stands before an @ in their address is a key."""


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
        if os.path.isfile(url):
            return cls(url, "file", url, None, {})
        match = SCHEME.fullmatch(url)
        scheme, rest = (match[1].lower(), match[2]) if match else ("file", url)
        place, _, query = rest.partition("?")
        if scheme != "file":
            _refuse_secrets(scheme, place, query)
        if scheme == "file" and match:
            host, slash, path = place.partition("/")
            if host not in ("", "localhost"):
                host = host.rpartition("@")[2]  # a password is not repeated
                raise StoreError(f"file://{host}/… names another machine, {host}", f"for a file here write file:///{host}/…")
            place = unquote(slash + path)
        if not place or "\0" in place:
            raise StoreError(f"{url!r} names no place", "give a file such as vectors.npy")
        pairs = parse_qsl(query, keep_blank_values=True)
        options = dict(pairs)
        if len(options) < len(pairs):
            raise StoreError(f"{place} gives an option twice", "give each option once, joined with &")
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

    def split(self) -> tuple[str, int | None, list[str]]:
        """Return host, port and the path's parts, decoded: "host:6333/books" is ("host", 6333, ["books"]).

        The host is empty for a place on this machine: one that begins with `/`, or with `.` when it is relative to the folder
        one is in; its parts are then what comes between slashes. Raises StoreError for a port that is no number.
        """
        host, slash, path = self.place.partition("/")
        if host.startswith("."):
            host, path = "", self.place
        parts = [unquote(part) for part in path.split("/") if part]
        match = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::(\d{1,5}))?", host)
        if not match:
            raise StoreError(f"{host} in {self.url} is no HOST or HOST:PORT", f"write {self.scheme}://localhost:1234/name")
        return match[1].strip("[]"), int(match[2]) if match[2] else None, parts

    def folder(self) -> tuple[Path, str]:
        """Return path and name of a place on this machine: "/data/books" is (Path("/data"), "books")."""
        path = Path(unquote(self.place))
        return path.parent, path.name

    def only(self, known: Iterable[str]) -> None:
        """Raise StoreError, with the nearest right name, when an option is not one of `known`."""
        for name in self.options:
            if name not in (known := sorted(known)):
                raise StoreError(f"{self.place} takes no option {name!r}", did_you_mean(name, ["rows", *known]))


def with_option(url: str, option: str) -> str:
    """Return an address with one more option: "a.npy?rows=0:9" with "keep=ids" is "a.npy?rows=0:9&keep=ids"."""
    return f"{url}{'&' if '?' in url else '?'}{option}"


def same_place(one: str, other: str) -> bool:
    """Tell whether two addresses name one file, or folder, that is there: whatever their slices, options and links."""
    places = [address.place for address in map(Address.parse, (one, other)) if address.scheme == "file"]
    return len(places) == 2 and all(map(os.path.exists, places)) and os.path.samefile(*places)


def _refuse_secrets(scheme: str, place: str, query: str) -> None:
    # The message repeats nothing of the address: it may go to a log.
    names = [name for name, _ in parse_qsl(query, keep_blank_values=True)]
    named = [name for name in names if SECRET.fullmatch(name)]
    host = place.partition("/")[0]
    user, at, _ = host.rpartition("@")
    password = ":" in unquote(user) or (bool(at) and scheme in NO_USERS)
    if not at and ":" in host:  # one with a slash or a question mark in it, of which the host seems to be the user
        no_port = bool(re.search(r":(?!\d{1,5}$)", host))
        odd = "/" not in place or any("@" in name for name in names)
        password |= ("@" in place and no_port) or ("@" in query and (no_port or odd))
    if named or password:
        what = f"the option {named[0]}" if named else "a key" if scheme in NO_USERS else "a password"
        variable = SECRETS.get(scheme)
        hint = f"set {variable}" if variable else "set it in the environment, as the database's own client expects it"
        raise StoreError(
            f"a {scheme}:// address must not hold {what}: others can read command lines and logs", f"{hint}, and leave it out"
        )


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
