"""journal — how far a migration is: one small JSON file, replaced in one step after every batch.

In    a path
Out   Journal      what is moved where by which translator, the cursor to go on from, what was read, written and left out
Uses  stores.atomic
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from crossvec.errors import UsageError
from crossvec.stores.atomic import atomically
from crossvec.translator import Translator

VERSION = 1
LISTED = 1000
"""Rows left out that are listed; more are only counted, so that neither memory nor the journal grows with them."""

State = Literal["writing", "written", "done", "switching", "switched"]


@dataclass
class Journal:
    """The state of one migration.

    `ids` is the sum of the hashes of all ids written, modulo 2**64: it tells whether two stores hold the same ids, whatever
    their order. `skipped` lists the first LISTED rows left out, `skipped_rows` counts all. `aside` is where the old rows are
    once the source's name leads to the new ones, and `alias` whether that name is an alias.
    """

    source: str
    dest: str
    translator: str
    state: State = "writing"
    cursor: str | None = None
    rows_read: int = 0
    rows_written: int = 0
    skipped_rows: int = 0
    skipped: list[dict[str, Any]] = field(default_factory=list)
    ids: int = 0
    source_rows: int = 0
    source_size: int | None = None
    before: int = 0
    aside: str = ""
    alias: bool = False
    version: int = VERSION

    def save(self, path: Path) -> None:
        """Write it, all or nothing."""
        with atomically(path) as half:
            half.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Journal | None:
        """Read it; None when there is none. Raises UsageError for a file that is no journal."""
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            if told["version"] != VERSION:
                raise UsageError(f"{path} was written by another version of crossvec", "finish the migration with that version")
            made = cls(**told)
            if any(type(value) not in _kinds(name) for name, value in asdict(made).items()):
                raise ValueError("a value of another type")
            return made
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, RecursionError):
            raise UsageError(f"{path} is not the journal of a migration", "name another file with --journal") from None

    def check(self, path: Path, other: Journal) -> None:
        """Raise UsageError unless this is the journal of the same migration, of an unchanged file where it reads one."""
        anew = f"end that one first, or begin anew: delete {path} and what it wrote to {self.dest}"
        if not self.moves(other.source, other.dest):
            raise UsageError(f"{path} is the journal of another migration, {self.source} to {self.dest}", anew)
        if self.translator != other.translator:
            raise UsageError(f"{self.dest} was begun with another translator: two in one store would mix spaces", anew)
        if self.cursor is not None and self.source_size != other.source_size:
            raise UsageError(f"{self.source} has changed since {self.rows_read:,} of its rows were carried across", anew)

    def moves(self, source: str, dest: str) -> bool:
        """Tell whether this is the journal of a migration between these places; bad rows are left out, said or not."""
        return (place_of(self.source), self.dest) == (place_of(source), dest)

    def skip(self, rows: Sequence[int], ids: Sequence[int | str | None], reason: str) -> None:
        """Note rows left out, by number and by id, which is None where the store has none."""
        self.skipped_rows += len(rows)
        named = list(zip(rows, ids, strict=True))[: LISTED - len(self.skipped)]
        self.skipped += [{"row": int(row), "id": value, "reason": reason} for row, value in named]


def place_of(source: str) -> str:
    """Return a source's address without `bad_rows=drop`, which says only what is done anyway."""
    return re.sub(r"\?$", "", re.sub(r"(?<=[?&])bad_rows=drop(&|$)", "", source).rstrip("&"))


def _kinds(name: str) -> tuple[type, ...]:
    """Return the types that a value of the journal may have."""
    return {"cursor": (str, type(None)), "source_size": (int, type(None)), "skipped": (list,)}.get(
        name, (str,) if name in ("source", "dest", "translator", "state", "aside") else (bool,) if name == "alias" else (int,)
    )


def fingerprint(translator: Translator) -> str:
    """Return what tells a translator from another: a hash of its tensors and frames."""
    told = hashlib.sha256()
    frames = translator.source, translator.target
    tensors = {f"{side}.mean": frame.mean for side, frame in zip(("source", "target"), frames, strict=True)}
    tensors |= {f"forward.{name}": tensor for name, tensor in translator.forward.tensors().items()}
    for name in sorted(tensors):
        told.update(name.encode())
        told.update(tensors[name].cpu().float().contiguous().numpy().tobytes())
    told.update(repr([(frame.radius, frame.norm) for frame in frames]).encode())
    return told.hexdigest()[:16]


def id_hash(value: int | str) -> int:
    """Return 64 bits of an id's hash, telling 1 from "1"."""
    return int.from_bytes(hashlib.blake2b(repr(value).encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
