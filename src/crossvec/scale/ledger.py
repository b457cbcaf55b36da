"""ledger — what is done of a run: a folder of small files, one for the run and one for each piece, each written in one step.

In    a folder, and what tells this run's output from another's
Out   FOLDER/run.json, FOLDER/PIECE.json
Uses  stores.atomic

A piece counts as done when its note is there, its input is the one that was noted, and its output still has the size and the
end that it was given: a file that was deleted, cut short or replaced is made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from crossvec.errors import StoreError, UsageError
from crossvec.scale import Done, Piece
from crossvec.stores.atomic import atomically

__all__ = ["FOLDER", "Ledger"]

FOLDER = "_crossvec"
"""The ledger's name inside a folder of shards: readers of such folders leave out names that begin with an underscore."""

VERSION = 1
END = 1 << 16  # bytes of an output's end that are hashed: a Parquet file's footer, and of a small file everything


@dataclass(frozen=True)
class Ledger:
    """The notes of one run. Making one touches nothing."""

    folder: Path

    def check(self, identity: Mapping[str, Any]) -> bool:
        """Tell whether this run has begun already.

        Raises UsageError when the folder belongs to a run that has written something else.
        """
        try:
            held = json.loads(self._run.read_text(encoding="utf-8"))
            if held["version"] != VERSION:
                raise UsageError(f"{self._run} was written by another version of crossvec", "finish that run with that version")
            other = {
                key: held["run"].get(key) for key in {*held["run"], *identity} if held["run"].get(key) != identity.get(key)
            }
        except (FileNotFoundError, NotADirectoryError):
            return False
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise UsageError(f"{self._run} is not the record of a run", "name a new place for the output") from None
        if other and not any(path.is_file() for path in self._notes.rglob("*.json")):
            return False  # nothing came of it
        if other:
            told = ", ".join(f"{key} {value!r}, not {identity.get(key)!r}" for key, value in sorted(other.items()))
            raise UsageError(
                f"{self.folder} belongs to another run, of {told}",
                "finish that one by its own line, or name a new place for this one",
            )
        return True

    def begin(self, identity: Mapping[str, Any]) -> None:
        """Note what this run is. Raises StoreError when the folder cannot be made."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise StoreError(f"{self.folder} cannot be made: {problem.strerror}", "name another place") from None
        _write(self._run, {"version": VERSION, "run": dict(identity)})

    def done(self, piece: Piece) -> Done | None:
        """Return what came of a piece, None when it is to be done (again)."""
        try:
            held = json.loads(self._note(piece).read_text(encoding="utf-8"))
            lists = {name: tuple(held["done"][name]) for name in ("first_dropped", "seconds")}  # JSON has no tuples
            done = Done(**{**held["done"], **lists})
            stamp, sealed = held["stamp"], held["seal"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return done if (stamp, sealed) == (piece.stamp, seal(piece.output)) else None

    def note(self, piece: Piece, done: Done) -> None:
        """Note that a piece is done."""
        note = self._note(piece)
        note.parent.mkdir(parents=True, exist_ok=True)
        _write(note, {"stamp": piece.stamp, "seal": seal(piece.output), "done": asdict(done)})

    @property
    def _run(self) -> Path:
        return self.folder / "run.json"

    def _note(self, piece: Piece) -> Path:
        return self._notes / f"{piece.name}.json"

    @property
    def _notes(self) -> Path:
        return self.folder / "done"


def seal(path: Path | None) -> str | None:
    """Return a file's size and a hash of its end, None where there is no file."""
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - END))
            return f"{size}-{hashlib.blake2b(file.read(), digest_size=8).hexdigest()}"
    except OSError:
        return "missing"


def _write(path: Path, record: Mapping[str, Any]) -> None:
    with atomically(path) as half:
        half.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
