"""attributes — what are the stolen texts about? Labels looked for by their sentences, with no example of any of them.

In    Stage         its encoder embeds the labels' sentences; the owner's labels score the guesses
Out   Reading       top-k accuracy and the most exposed label's AUC, beside naive, ideal, shuffled and blind guesses
Uses  audit.labels, audit.scores
Paper Jha et al. 2025, arXiv:2505.12540, section 4.3: cosine of translated rows with the embedded names of attributes

Two things are done to the paper's cosine. Rows are centred on their own mean and labels on theirs, because a sentence about a
topic and a text on it differ by more than the topic. And each label's score is standardised by what it gives to the reference,
texts that have nothing to do with the store: a label that everything resembles wins no row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from crossvec.audit.inputs import centred
from crossvec.audit.labels import Labels
from crossvec.audit.ladder import Stage, encoded
from crossvec.audit.probes import Reading, Severity
from crossvec.audit.scores import FEWEST, Score, area, area_under, share
from crossvec.encoders import Encoder

NULLS = 20
"""Sets of random directions that stand in for the labels, to see what the procedure gives to labels that mean nothing."""

RARE = 0.02
"""A label that fewer of the scored rows have is rare."""

NAMED = 8
"""Labels that the confusion tells apart, the commonest; the rest are one."""


@dataclass(frozen=True)
class Attributes:
    """Zero-shot attribute inference with any labels."""

    name: ClassVar[str] = "attributes"
    rungs: ClassVar[tuple[str, ...]] = ("domain", "pairs", "encoder")
    severity: ClassVar[Severity] = "medium"

    def lacks(self, stage: Stage) -> str:
        if stage.case.labels is None:
            return "labels to look for"
        if stage.encoder is None:
            return "the reference's model, to embed the labels with"
        if stage.case.truth is None:
            return "the labels that the victim's rows have, to score the guesses"
        return ""

    def measure(self, stage: Stage) -> Reading:
        labels, truth, encoder = stage.case.labels, stage.case.truth, stage.encoder
        if labels is None or truth is None or encoder is None:
            raise ValueError("the probe lacks labels")  # `lacks` says so first
        has = np.array([[name in truth[row] for name in labels.names] for row in stage.split.scored])
        known = np.any(has, axis=1)
        if (count := int(known.sum())) < FEWEST:
            rows = {0: "no scored row has", 1: "1 scored row has"}.get(count, f"{count} scored rows have")
            return Reading((), {"rows": count}, unfinished=f"{rows} one of the labels, too few to tell: label more rows")
        has = has[known]
        vectors = embedded(labels, encoder)
        home = None if stage.home is None else centred(stage.home)
        arms = stage.arms()
        scores = {name: calibrated(rows, vectors, home)[known] for name, rows in arms.items()}
        guesses = {name: best(scored, labels.k) for name, scored in scores.items()}
        hits = {name: correct(guess, has) for name, guess in guesses.items()}
        seen: dict[str, float | None] = {name: float(hits[name].mean()) for name in hits if name != "attack"}
        seen["null labels"] = _null(arms["attack"], vectors.shape, home, labels.k, has, known, stage.seed)
        blind = {"shuffled": _shuffled(guesses["attack"], has), "commonest": _commonest(has, labels.k)}
        top = share(f"top-{labels.k} accuracy", hits["attack"], blind, seen, seed=stage.seed)
        exposed, table = _each(scores, has, labels.names)
        counted = {"labels": table, "rows": len(has), "k": labels.k, "guessing": labels.k / len(labels.names)}
        counted["confusion"] = _confusion(scores["attack"].argmax(1), has, labels.names)
        return Reading((top, *exposed), {**counted, **_kinds(hits["attack"], has, labels, stage)})


def embedded(labels: Labels, encoder: Encoder) -> Float32[np.ndarray, "l d"]:
    """Return each label as the mean direction of its sentences, seen from the mean of all labels."""
    sentences = [one for name in labels.names for one in labels.sentences[name]]
    rows = centred(encoded(encoder, sentences), 0.0)
    ends = np.cumsum([len(labels.sentences[name]) for name in labels.names])
    return centred(np.stack([part.mean(0) for part in np.split(rows, ends[:-1])]))


def calibrated(
    rows: Float32[np.ndarray, "s d"], labels: Float32[np.ndarray, "l d"], home: Float32[np.ndarray, "m d"] | None
) -> Float[np.ndarray, "s l"]:
    """Return how well each label fits each row, in deviations from what it gives to the reference's rows.

    Without a reference the rows themselves are the yardstick.
    """
    scores, others = rows @ labels.T, (rows if home is None else home) @ labels.T
    standardised: np.ndarray = (scores - others.mean(0)) / np.maximum(others.std(0), 1e-6)
    return standardised


def best(scores: Float[np.ndarray, "s l"], k: int) -> Int[np.ndarray, "s k"]:
    """Return the k labels that fit each row best."""
    return np.argpartition(-scores, k - 1, axis=1)[:, :k]


def correct(guesses: Int[np.ndarray, "s k"], has: Bool[np.ndarray, "s l"]) -> Float[np.ndarray, " s"]:
    """Return 1 for each row of whose labels any is among the guesses, as the paper counts, else 0."""
    right: np.ndarray = np.any(np.take_along_axis(has, guesses, axis=1), axis=1).astype(np.float64)
    return right


def _shuffled(guesses: Int[np.ndarray, "s k"], has: Bool[np.ndarray, "s l"]) -> Float[np.ndarray, " s"]:
    """Return each row's chance to be right with another row's guesses, over all other rows."""
    patterns, which = np.unique(has, axis=0, return_inverse=True)
    right = np.stack([pattern[guesses].any(1) for pattern in patterns])  # (patterns, s): is guess i right for such a row
    totals = right.sum(1)
    own = right[which, np.arange(len(has))]
    expected: np.ndarray = (totals[which] - own) / max(1, len(has) - 1)
    return expected


def _commonest(has: Bool[np.ndarray, "s l"], k: int) -> Float[np.ndarray, " s"]:
    """Return whether each row has one of the k commonest labels: what who knows only how common they are would name."""
    right: np.ndarray = np.any(has[:, np.argsort(-has.sum(0), kind="stable")[:k]], axis=1).astype(np.float64)
    return right


def _null(
    rows: Float32[np.ndarray, "s d"],
    shape: tuple[int, ...],
    home: Float32[np.ndarray, "m d"] | None,
    k: int,
    has: Bool[np.ndarray, "t l"],
    known: Bool[np.ndarray, " s"],
    seed: int,
) -> float:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(NULLS):
        labels = centred(rng.standard_normal(shape).astype(np.float32))
        found.append(correct(best(calibrated(rows, labels, home)[known], k), has).mean())
    return float(np.mean(found))


def _each(
    scores: dict[str, Float[np.ndarray, "s l"]], has: Bool[np.ndarray, "s l"], names: Sequence[str]
) -> tuple[tuple[Score, ...], list[dict[str, Any]]]:
    """Return the area of the most exposed label, over all labels looked at, and a table of all of them."""
    counts = has.sum(0)
    enough = [i for i in range(len(names)) if FEWEST <= counts[i] <= len(has) - FEWEST]
    table, found = [], []
    for i, name in enumerate(names):
        line: dict[str, Any] = {"label": name, "rows": int(counts[i])}
        if i in enough:
            seen = {arm: area_under(s[has[:, i], i], s[~has[:, i], i]) for arm, s in scores.items() if arm != "attack"}
            own = scores["attack"][:, i]
            found.append(area(f"AUC of {name!r}", own[has[:, i]], own[~has[:, i]], seen, tests=len(enough)))
            line |= {"auc": found[-1].value, "low": found[-1].low, "high": found[-1].high, **seen}
        table.append(line)
    return tuple(sorted(found, key=lambda one: -one.lift_low)[:1]), table


def _confusion(taken: Int[np.ndarray, " t"], has: Bool[np.ndarray, "t l"], names: Sequence[str]) -> dict[str, Any]:
    """Return how many rows of each of the commonest labels (down) are taken for which (across), the last for any other."""
    common = [int(i) for i in np.argsort(-has.sum(0), kind="stable")[:NAMED] if has[:, i].any()]
    across = np.stack([taken == i for i in common] + [~np.isin(taken, common)], axis=1)
    return {"labels": [names[i] for i in common], "rows": [across[has[:, i]].sum(0).tolist() for i in common]}


def _kinds(hits: Float[np.ndarray, " s"], has: Bool[np.ndarray, "s l"], labels: Labels, stage: Stage) -> dict[str, Any]:
    """Return the accuracy on rows of rare labels, and on rows of labels whose name no text of the reference has."""
    rare = has.sum(0) < RARE * len(has)
    kinds = {"rare": rare}
    if stage.case.reference_texts is not None:
        told = [stage.case.reference_texts[row].lower() for row in stage.home_rows]
        kinds["unseen"] = np.array([not any(name.lower() in text for text in told) for name in labels.names])
    out = {}
    for kind, which in kinds.items():
        rows = has[:, which].any(1)
        out[kind] = {
            "labels": int(which.sum()),
            "rows": int(rows.sum()),
            "accuracy": float(hits[rows].mean()) if rows.any() else None,
        }
    return out
