"""verification — tell whether what was written is what should have been, in one pass over the destination.

In    Store, Journal, the Probe's rows of the source
Out   Verification: counts, ids, sampled rows translated again and compared, payload compared; the rows as they are now
Uses  migration.reading, migration.journal, stores, translator
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32

from crossvec.encoders import Step
from crossvec.migration.journal import Journal, id_hash
from crossvec.migration.reading import Sample, digest, pages
from crossvec.space import python_values
from crossvec.stores import Store
from crossvec.stores.collection import Collection
from crossvec.stores.documents import documents
from crossvec.stores.sampling import tolerant
from crossvec.translator import Translator

__all__ = ["Verification", "verify"]

CLOSE = 1e-4
"""How far a row may lie from its translation, as a part of its length: float32 through a database that scales rows."""

COARSE = 1e-2
"""The same where the destination keeps numbers of half precision."""


@dataclass(frozen=True)
class Verification:
    """What was found in the destination.

    `expected` rows were written and `rows` are there; `ids_equal`: exactly the ids that were written are there, each once
    (None: the store keeps none, or held rows before). Of the sampled rows `compared` were found; `lost` are missing and
    still in the source, `gone` missing in both; `vectors_differ` and `payload_differ` count those that
    are not what they should be.
    """

    expected: int
    rows: int
    ids_equal: bool | None
    compared: int
    lost: int
    gone: int
    vectors_differ: int
    payload_differ: int | None

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        wrong = self.lost or self.vectors_differ or self.payload_differ or self.rows < self.expected
        return not wrong and self.ids_equal is not False

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"good": self.good, **asdict(self)}


def verify(
    source: Store, dest: Store, translator: Translator, journal: Journal, probe: Sample, first: int, progress: Step
) -> tuple[Verification, Float32[np.ndarray, "n dy"], Bool[np.ndarray, " n"]]:
    """Read the destination once; return what was found, the probe's rows as they are there, and which of them were found.

    `first` is the number of the first row that was read, by which rows without ids are found again.
    """
    told = dest.describe()
    wanted = {value: place for place, value in enumerate(probe.ids)}
    by_place = not told.ids and not isinstance(dest, Collection)
    if by_place:  # rows keep their order and close up over those left out
        left_out = np.sort(np.array([skip["row"] for skip in journal.skipped], np.int64))
        whole = journal.skipped_rows == len(left_out)
        moved = [number - first - int(np.searchsorted(left_out, number)) for number in probe.numbers]
        wanted = {place: i for i, place in enumerate(moved)} if whole else {}
    rows = np.zeros((len(probe), translator.target.dim), np.float32)
    there = np.zeros(len(probe), bool)
    keeps_payload = bool(told.payload) or isinstance(dest, Collection)
    if getattr(getattr(dest, "address", None), "options", {}).get("keep", "all") != "all":
        keeps_payload = False  # left behind as asked
    counted = ids = payload_differ = 0
    for space, _ in pages(tolerant(dest)):
        values = python_values(space.ids_or_numbers())
        ids += sum(map(id_hash, values))
        counted += len(space)
        picked = [(row, wanted[value]) for row, value in enumerate(values) if value in wanted]
        if picked:
            some = space.take(np.array([row for row, _ in picked]))
            at = np.array([place for _, place in picked])
            rows[at], there[at] = some.array(), True
            digests = [digest(document) for document in documents(some)]
            payload_differ += sum(probe.digests[place] != told for place, told in zip(at, digests, strict=True))
        progress(f"checking {counted:,} of {journal.rows_written:,} rows", min(1.0, counted / max(journal.rows_written, 1)))
    again = translator.translate(probe.vectors[there]) if there.any() else rows[there]
    lengths = np.linalg.norm(again, axis=1)
    close = COARSE if told.dtype != "float32" else CLOSE
    differ = int((np.linalg.norm(rows[there] - again, axis=1) > close * lengths).sum())
    missing = set() if by_place else {value for value, place in wanted.items() if not there[place]}
    lost = _still_there(source, missing)
    compare_ids = not by_place and not journal.before
    verification = Verification(
        journal.rows_written,
        counted,
        ids % 2**64 == journal.ids and counted == journal.rows_written if compare_ids else None,
        int(there.sum()),
        lost,
        len(missing) - lost,
        differ,
        payload_differ if keeps_payload else None,
    )
    return verification, rows, there


def _still_there(source: Store, missing: set[int | str]) -> int:
    """Count the ids that the source still holds: a row that was deleted there meanwhile is not lost."""
    if not missing:
        return 0
    return sum(value in missing for space, _ in pages(source) for value in python_values(space.ids_or_numbers()))
