"""inputs — what an audit is given: what was stolen, what the attacker knows, and what only the owner knows.

In    victim Space (n, dx), reference Space (m, dy), pairs, encoders, labels; the victim's own texts and labels
Out   Case        checked; and its split into rows in the store, rows to score on, rows kept out of it
Uses  space, encoders, canaries, labels

The attacks see `victim`, `reference`, `pairs` and the encoders. `texts` and `truth` are the owner's: they score the attacks and
never reach one. Rows `absent` are taken out of the store before any attack begins, so that membership has non-members that are
like the members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int

from crossvec.audit.canaries import Planted
from crossvec.audit.labels import Labels
from crossvec.encoders import Around, Encoder, Step, silent
from crossvec.errors import UsageError
from crossvec.fitting import FEWEST_ROWS
from crossvec.geometry import TINY
from crossvec.space import Space

__all__ = ["QUICK", "WHOLE", "Case", "Split", "centred", "remembering", "resized"]

FEWEST_SCORED = 20
"""Scores of fewer rows say nothing at the audit's level."""

MOST_ABSENT = 500


class Sizes(NamedTuple):
    """Rows that are scored, and rows of each side that a translator is learned from."""

    scored: int
    learned: int


WHOLE = Sizes(2000, 50_000)
QUICK = Sizes(1000, 15_000)
"""On two cores `quick` must take 3 minutes."""


@dataclass(frozen=True, eq=False)
class Case:
    """What an audit looks at; only `victim` must be there.

    `victim` (n, dx): the stolen vectors. `reference` (m, dy): vectors of other texts under a model the attacker has, with
    `reference_texts` where the texts are known. `pairs` (p, 2): rows of the victim and of the reference that are one text.
    `encoder`: the reference's model. `own_encoder`: the victim's model, for the attacker who has that too. `labels`: what to
    look for.
    The owner's alone: `texts`, the victim's, row by row, `truth`, the names of the labels that each row has, and `planted`,
    the canaries that are in the store.
    """

    victim: Space
    reference: Space | None = None
    reference_texts: Sequence[str] | None = None
    pairs: Int[np.ndarray, "p 2"] | None = None
    encoder: Encoder | None = None
    own_encoder: Encoder | None = None
    labels: Labels | None = None
    texts: Sequence[str] | None = None
    truth: Sequence[frozenset[str]] | None = None
    planted: Planted | None = None

    def __post_init__(self) -> None:
        rows: tuple[tuple[str, Sequence[Any] | None, Space | None], ...] = (
            ("texts", self.texts, self.victim),
            ("labels", self.truth, self.victim),
            ("reference texts", self.reference_texts, self.reference),
        )
        for what, given, space in rows:
            if given is not None and space is not None and len(given) != len(space):
                raise UsageError(
                    f"{len(given):,} {what} cannot belong to {len(space):,} rows",
                    "give one for every row, in the order of the rows",
                )
        if self.reference_texts is not None and self.reference is None:
            raise UsageError("texts of the reference without its vectors", "give the vectors, or an encoder that makes them")
        if self.pairs is not None and self.reference is None:
            raise UsageError("known pairs name rows of a reference, and none is given", "give it with --reference")
        if self.reference is not None and self.pairs is None and len(self.reference) < FEWEST_ROWS:
            count = f"{len(self.reference)} row{'' if len(self.reference) == 1 else 's'}"
            raise UsageError(
                f"the reference has {count}; a translator that is learned without pairs needs {FEWEST_ROWS}",
                "give more texts of the same kind, thousands if you can, or known pairs with --pairs FILE",
            )
        _same_width("encoder", self.encoder, "the reference", self.reference)
        _same_width("victim's encoder", self.own_encoder, "the victim", self.victim)
        if self.truth is not None and self.labels is not None:
            known = set(self.labels.names)
            if not any(known & row for row in self.truth):
                # What the rows have is counted and not shown: in a column named by mistake it may be their texts.
                names, others = self.labels.names, len(set().union(*self.truth))
                some = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
                raise UsageError(
                    f"no row has a label that {self.labels.source} names ({some}); the rows have {others:,} others",
                    "use the same names in both, and see that the column is the one with the labels",
                )

    @cached_property
    def _told(self) -> Bool[np.ndarray, " n"]:
        """Say of each of the victim's rows whether something tells what was read of it: all, where no texts are known."""
        if self.texts is None:
            return np.ones(len(self.victim), bool)
        return np.array([bool(text.strip()) for text in self.texts], bool)

    @property
    def blank(self) -> int:
        """Return how many rows of the victim have no text where the others have one."""
        return int((~self._told).sum())

    @property
    def shared(self) -> int:
        """Return how many texts of the reference are in the store too and not among the known pairs; of rows without texts."""
        if self.reference is None:
            return 0
        told = np.setdiff1d(np.arange(len(self.reference)), [] if self.pairs is None else self.pairs[:, 1])
        if self.texts is not None and self.reference_texts is not None:
            own = set(self.texts)
            return sum(self.reference_texts[row] in own for row in told)
        if self.victim.dim != self.reference.dim:
            return 0
        rows = {row.tobytes() for row in self.victim.array()}
        return sum(row.tobytes() in rows for row in self.reference.take(told).array())

    def split(self, most: int, seed: int) -> Split:
        """Draw which rows stay in the store, which of them are scored, and which are kept out of it.

        Rows of known pairs stay in and are not scored: an attack that has learned them would be scored on what it was told.
        So do rows whose text is blank: nothing would tell what was read of them.
        """
        rng = np.random.default_rng(seed)
        known = np.unique(self.pairs[:, 0]) if self.pairs is not None else np.empty(0, np.int64)
        free = rng.permutation(np.setdiff1d(np.flatnonzero(self._told), known))
        out = min(MOST_ABSENT, len(free) // 10) if self.texts is not None else 0
        absent, rest = np.sort(free[:out]), free[out:]
        if len(rest) < FEWEST_SCORED:
            raise UsageError(
                f"{len(rest)} row{'' if len(rest) == 1 else 's'} of {self.victim.name or 'the victim'} can be scored; "
                "that is too few to say anything",
                f"give {FEWEST_SCORED} or more beside the known pairs and rows without a text, better 1,000",
            )
        scored = np.sort(rest[:most])
        present = np.setdiff1d(np.arange(len(self.victim)), absent)
        return Split(present, scored, absent)

    def texts_of(self, rows: Int[np.ndarray, " k"]) -> list[str]:
        """Return the owner's texts of these rows; there must be texts."""
        if self.texts is None:
            raise UsageError("the victim's texts are not known", "give them with --texts")
        return [self.texts[row] for row in rows]


@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers of the victim: `present` in the store, `scored` (some of them), and `absent`, kept out of it."""

    present: Int[np.ndarray, " n"]
    scored: Int[np.ndarray, " s"]
    absent: Int[np.ndarray, " a"]


def centred(rows: Float32[np.ndarray, "k d"], mean: Any = None) -> Float32[np.ndarray, "k d"]:
    """Return unit directions of rows seen from `mean` (their own unless given); a row at the mean stays zero."""
    moved = rows - (rows.mean(0) if mean is None else mean)
    lengths = np.linalg.norm(moved, axis=1, keepdims=True)
    directions: np.ndarray = (moved / np.maximum(lengths, TINY)).astype(np.float32)
    return directions


def resized(rows: Float32[np.ndarray, "k d"], dim: int) -> Float32[np.ndarray, "k e"]:
    """Return rows cut, or filled with zeros, to `dim` values: what an attacker gets who compares without translating."""
    filled = np.zeros((len(rows), dim), np.float32)
    filled[:, : min(dim, rows.shape[1])] = rows[:, :dim]
    return filled


@dataclass(frozen=True, eq=False)
class Remembered(Around):
    """An Encoder that embeds a list of texts once: every rung, and every defence tried, asks for the same texts again."""

    encoder: Encoder
    rows: dict[tuple[str, ...], Float32[np.ndarray, "_ d"]] = field(default_factory=dict)

    def encode(self, texts: Sequence[str], *, query: bool = False, progress: Step = silent) -> Float32[np.ndarray, "n d"]:
        if query:
            return self.encoder.encode(texts, query=True, progress=progress)
        asked = tuple(texts)
        if asked not in self.rows:
            self.rows[asked] = self.encoder.encode(texts, progress=progress)
        return self.rows[asked]


def remembering(case: Case) -> Case:
    """Return the case with encoders that embed no list of texts twice; one model in both places is remembered as one."""
    known = {id(one): Remembered(one) for one in (case.encoder, case.own_encoder) if one is not None}
    return replace(case, encoder=known.get(id(case.encoder)), own_encoder=known.get(id(case.own_encoder)))


def _same_width(who: str, encoder: Encoder | None, what: str, space: Space | None) -> None:
    if encoder is not None and space is not None and encoder.dim not in (0, space.dim):
        raise UsageError(
            f"the {who} {encoder.name} gives {encoder.dim} dimensions and {what} has {space.dim}",
            "name the model that made these vectors",
        )
