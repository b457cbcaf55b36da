"""cache — rows that were computed once, kept in a folder by model and text: an interrupted run goes on where it stopped.

In    an Encoder, a folder
Out   Encoder that asks the other only for texts it has not seen
Uses  encoders; sqlite3

A text is kept as its BLAKE2b hash, never as itself (who guesses a text can still check the guess; a row tells as much). Rows
are committed in small groups, so `kill -9` loses one group at most, and any number of processes may share a folder: SQLite's
write-ahead log sees to both. The folder must be on a local disk.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from crossvec.encoders import Around, Encoder, Estimate, Metered, Step, silent
from crossvec.encoders.batched import as_texts
from crossvec.errors import UnfinishedError, UsageError

FILE = "vectors.sqlite"
GROUP = 256  # texts between two commits
ASKED = 500  # hashes in one query; SQLite takes 999 everywhere
PACE = frozenset({"batch", "rpm", "tpm", "price"})  # options of a name that say how to ask, and change no row
PATIENCE = 60.0  # seconds to wait for another process's commit
SCHEMA = """
create table if not exists models (
  id integer primary key, name text not null, version text not null, query integer not null,
  unique (name, version, query)
);
create table if not exists vectors (
  model integer not null, text blob not null, vector blob not null, primary key (model, text)
) without rowid;
"""


class Cached(Around):
    """An Encoder with a memory. `hits` counts the rows that came from it."""

    def __init__(self, encoder: Encoder, folder: str | Path) -> None:
        """Open or make the cache; raises UsageError when the folder cannot be used."""
        self.encoder, self.folder, self.hits = encoder, Path(folder), 0
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # rows give away much of a text
        except OSError as problem:
            raise UsageError(f"{folder} cannot be a cache: {problem.strerror}", "name another folder") from None
        with self._open() as base:
            base.execute("pragma journal_mode = wal")
            base.executescript(SCHEMA)

    def __repr__(self) -> str:
        return f"<Cached {self.encoder!r} in {self.folder}>"

    def encode(self, texts: Sequence[str], *, query: bool = False, progress: Step = silent) -> Float32[np.ndarray, "n d"]:
        """Return one row a text, asking the model once for each text that is not here yet."""
        plain = as_texts(texts)
        hashes = [_hash(text) for text in plain]
        with self._open() as base:
            model = self._model(base, query)
            held = self._held(base, model, hashes)
        first = {digest: number for number, digest in reversed(list(enumerate(hashes))) if digest not in held}
        new = sorted(first.values())
        self.hits += len(plain) - len(new)
        for start in range(0, len(new), GROUP):
            group = new[start : start + GROUP]
            done = (len(plain) - len(new) + start) / max(len(plain), 1)
            share = len(group) / max(len(plain), 1)
            rows = self.encoder.encode(
                [plain[number] for number in group],
                query=query,
                progress=lambda doing, part, done=done, share=share: progress(doing, done + share * part),  # type: ignore[misc]
            )
            self._keep(model, [hashes[number] for number in group], rows)
            held |= {hashes[number]: row for number, row in zip(group, rows, strict=True)}
        progress(f"{len(plain):,} texts", 1.0)
        dims = {len(row) for row in held.values()} | ({self.dim} if self.dim else set())
        if len(dims) > 1:  # an endpoint that serves another model under an old name
            raise UsageError(f"{self.name} gives rows of another dimension than those in {self.folder}", "use another folder")
        return np.stack([held[digest] for digest in hashes]) if plain else np.empty((0, self.dim), np.float32)

    def unseen(self, texts: Sequence[str], query: bool = False) -> list[str]:
        """Return the texts, each once, that the cache does not hold."""
        plain = {_hash(text): text for text in as_texts(texts)}
        with self._open() as base:
            held = self._held(base, self._model(base, query), list(plain))
        return [text for digest, text in plain.items() if digest not in held]

    def estimate(self, texts: Sequence[str]) -> Estimate:
        """Say what the texts that are not here yet would take."""
        new = self.unseen(texts)
        return self.encoder.estimate(new) if isinstance(self.encoder, Metered) else Estimate(len(new))

    def _model(self, base: sqlite3.Connection, query: bool) -> int:
        key = _asked(self.name), self.version, int(query)
        base.execute("insert or ignore into models (name, version, query) values (?, ?, ?)", key)
        base.commit()
        found = base.execute("select id from models where name = ? and version = ? and query = ?", key).fetchone()
        return int(found[0])

    def _held(self, base: sqlite3.Connection, model: int, hashes: list[bytes]) -> dict[bytes, Float32[np.ndarray, " d"]]:
        held: dict[bytes, np.ndarray] = {}
        for start in range(0, len(hashes), ASKED):
            part = hashes[start : start + ASKED]
            marks = ",".join("?" * len(part))
            rows = base.execute(f"select text, vector from vectors where model = ? and text in ({marks})", (model, *part))
            held |= {digest: np.frombuffer(vector, "<f4").astype(np.float32) for digest, vector in rows}
        return held

    def _keep(self, model: int, hashes: list[bytes], rows: Float32[np.ndarray, "k d"]) -> None:
        with self._open() as base, base:  # the second is the transaction
            values = ((model, digest, row.astype("<f4").tobytes()) for digest, row in zip(hashes, rows, strict=True))
            base.executemany("insert or ignore into vectors values (?, ?, ?)", values)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        # Opened anew each time: a connection may not cross threads or processes, and opening takes a fraction of a millisecond.
        try:
            with closing(sqlite3.connect(self.folder / FILE, timeout=PATIENCE)) as base:
                base.execute("pragma synchronous = normal")
                yield base
        except sqlite3.OperationalError as problem:
            if problem.sqlite_errorname.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
                told = f"the cache {self.folder} cannot be written: {problem}"
                raise UnfinishedError(told, "free some space, and run the same line again") from None
            raise UsageError(f"the cache {self.folder} cannot be used: {problem}", "name another folder") from None
        except sqlite3.DatabaseError as problem:
            raise UsageError(f"the cache {self.folder} is damaged: {problem}", f"delete it: rm -r {self.folder}") from None


def _asked(name: str) -> str:
    """Return an encoder's name without what changes no row, so that a run with smaller batches goes on with the same cache."""
    model, _, query = name.partition("?")
    kept = [option for option in query.split("&") if option.partition("=")[0] not in PACE]
    return "?".join(filter(None, [model, "&".join(kept)]))


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32).digest()
