"""tables — what an audit tells beside its scores, as tables that every page shows alike.

In    Audit
Out   Tables: a title, what it says, heads and rows of text; texts of the victim only when they are asked for
Uses  audit, report.audit.words
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crossvec.audit import Audit, Recovered, Trial
from crossvec.audit.ladder import HOLDS
from crossvec.audit.scores import LEVEL
from crossvec.report.audit.words import clean, shown

__all__ = ["Table", "defences", "rungs", "scores", "tables"]

MOST = 15  # lines of labels
MOST_TEXTS = 60  # lines of recovered texts

ARRIVED = {"aligned": "yes", "uncertain": "perhaps", "failed": "no"}

SPARED = ("interval", "of perfect", "rows")

TRIED = (
    "Broken: an attacker who knows the defence but no key learns more than a guess would. Inconclusive: a translator failed or "
    "was not sure; with more rows it may not. Recall is of each row's ten nearest before, looked for after. Scores stand "
    "before what a guess reaches."
)


@dataclass(frozen=True)
class Table:
    """One table, whose first `words` columns hold words and the others numbers; `open` where a page should not fold it."""

    title: str
    says: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1
    open: bool = False


def scores(it: Audit, narrow: bool = False) -> Table:
    """Return every score beside its controls; `narrow` for a terminal, which has no room for all that is told of each."""
    heads = (
        "question",
        "score",
        "value",
        "interval",
        "blind",
        "lift",
        "its interval",
        "untranslated",
        "perfect",
        "of perfect",
        "rows",
    )
    rows = []
    for (rung, probe), reading in it.readings.items():
        for one in reading.scores:
            naive, ideal = (shown(one.controls.get(name)) for name in ("naive", "ideal"))
            rows.append(
                (
                    f"{clean(probe)}, {rung}",
                    clean(one.name),
                    shown(one.value),
                    f"{shown(one.low)} to {shown(one.high)}",
                    f"{shown(one.chance)} ({one.over})",
                    f"{one.lift:+.3f}",
                    f"{one.lift_low:+.3f} to {one.lift_high:+.3f}",
                    naive,
                    ideal,
                    "" if one.of_ideal is None else f"{one.of_ideal:.0%}",
                    f"{one.n:,}",
                )
            )
    says = (
        f"Intervals are at level {LEVEL:g}. Blind is the best guess that does not look at the vectors, and the lift is over "
        "it; untranslated compares the vectors as they are; perfect is what a perfect translation would give."
    )
    kept = [place for place, head in enumerate(heads) if not (narrow and head in SPARED)]
    shortened = [[row[place] for place in kept] for row in (heads, *rows)]
    return Table("Every score beside its controls", says, shortened[0], shortened[1:], words=2, open=True)


def tables(it: Audit, *, show_text: bool = False) -> list[Table]:
    """Return what is told of each reading, and of the defences tried, in the order of a report."""
    made = []
    for (rung, probe), reading in it.readings.items():
        where = f"{rung}, planted secrets" if probe == "canaries" else rung
        if tell := TOLD.get(probe):
            made += [table for table in tell(where, reading.details) if table.rows]
        if reading.recovered:
            made.append((_texts if show_text else _counts)(where, reading.recovered))
    return [*made, *([defences(it.trials)] if it.trials else [])]


def defences(trials: Sequence[Trial]) -> Table:
    """Return what each defence costs a search and what it still gives away."""
    seen = list(dict.fromkeys(key for trial in trials for key in trial.scores))
    heads = [
        "number",
        "defence",
        "keyed",
        "recall@10 kept",
        "verdict",
        "broken by",
        *(f"{probe}, {rung}" for rung, probe in seen),
    ]
    rows = []
    for number, it in enumerate(trials, 1):
        cells = [str(number), it.defence.name, "yes" if it.defence.keyed else ""]
        cells += [f"{it.recall:.3f}", it.verdict, it.broken_by or ""]
        for rung, probe in seen:
            score, status = it.scores.get((rung, probe)), it.status.get(rung)
            doubt = "" if status == "aligned" else f", {status}"
            cells.append(f"{score.value:.2f} / {score.chance:.2f}{doubt}" if score else "")
        rows.append(cells)
    return Table(
        "Defences: what each costs a search, and what it still gives away", TRIED, heads, rows, words=len(heads), open=True
    )


def rungs(it: Audit) -> Table:
    """Return what each attacker was given, and why its translator can be believed or not."""
    rows = []
    for rung in it.rungs:
        verdict = rung.translator.verdict if rung.translator else None
        converged, tried = rung.seeds
        because = [f"your texts: {rung.own.share:.0%} of {rung.own.pairs:,} rows land near their own"] if rung.own else []
        if rung.held:
            because.append(f"the attacker's held-out pairs: {rung.held.share:.0%} of {rung.held.pairs} land near")
        if verdict:
            because.append(f"the attacker's own check: {verdict.status}, probability {verdict.probability:.2f}")
        attempts = f"{converged} of {tried}" if tried else ""
        status = "" if rung.name == "vectors" else ARRIVED[rung.status]
        rows.append((rung.name, HOLDS[rung.name], status, "; ".join(because), attempts))
    says = (
        "Each rung is an attacker. Where your own texts are known they decide whether the rows arrived where they can be read; "
        "else what the attacker can tell. Where they did not, nothing is claimed."
    )
    heads = ("rung", "the attacker holds", "the rows arrived", "because", "attempts that were sure")
    return Table("What the attacker was given", says, heads, rows, words=len(heads))


def _labels(rung: str, told: Mapping[str, Any]) -> list[Table]:
    measured = sorted((one for one in told.get("labels", ()) if "auc" in one), key=lambda one: -one["low"])
    rows = [
        (
            clean(one["label"]),
            f"{one['rows']:,}",
            shown(one["auc"]),
            f"{shown(one['low'])} to {shown(one['high'])}",
            shown(one.get("naive")),
            shown(one.get("ideal")),
        )
        for one in measured[:MOST]
    ]
    says = f"The {len(rows)} most exposed of {len(measured)} labels that enough rows have. AUC: 0.5 is guessing, 1 is certain."
    for kind, what in (("rare", "that few rows have"), ("unseen", "that no text of the attacker's names")):
        if (own := told.get(kind)) and own["accuracy"] is not None:
            says += f" Labels {what}: {own['labels']}, read rightly in {own['accuracy']:.0%} of {own['rows']:,} rows."
    return [Table(f"Labels, rung {rung}", says, ("label", "rows", "AUC", "interval", "untranslated", "perfect"), rows)]


def _topics(rung: str, told: Mapping[str, Any]) -> list[Table]:
    rows = [
        (clean(", ".join(one["words"])), _part(one.get("store")), _part(one.get("store_truly")), _part(one.get("reference")))
        for one in told.get("topics", ())
        if one.get("words")
    ]
    says = "In words of the attacker's own texts: what part of the store they place there, and what part truly lies there."
    return [Table(f"Topics, rung {rung}", says, ("topic", "of the store", "truly", "of the reference"), rows)]


def _models(_rung: str, told: Mapping[str, Any]) -> list[Table]:
    rows = [(clean(one["model"]), shown(one["correlation"])) for one in told.get("resembles", ())]
    same = clean(", ".join(told.get("same_dimension", ()))) or "none known"
    says = (
        f"Models of {told['dim']} dimensions: {same}. The values look like {clean(told['stored_as'])}, of "
        f"{'unit' if told['unit_norm'] else 'no unit'} length, with {told['near_duplicates']:,} near duplicates."
    )
    return [Table("Models that the vectors resemble", says, ("model", "correlation"), rows or [("none measured", "")])]


def _engines(rung: str, told: Mapping[str, Any]) -> list[Table]:
    rows = [
        (
            clean(one["engine"]),
            *(shown(one.get(arm)) for arm in ("attack", "naive", "ideal")),
            "yes" if one["finished"] else "no" if one["attack_finished"] else "no, nor the attack",
        )
        for one in told.get("cosine_reached", ())
    ]
    tried = told.get("documents", told.get("rows", 0))
    says = (
        f"{tried:,} rows were tried. The cosine between a row and what was written for it is all that an "
        "attacker sees of success. An engine that did not finish had too little time."
    )
    return [
        Table(
            f"How near recovered texts come, rung {rung}",
            says,
            ("engine", "cosine", "untranslated", "perfect", "finished"),
            rows,
        )
    ]


def _counts(rung: str, recovered: Sequence[Recovered]) -> Table:
    """Return how much was recovered without showing any of it."""
    rows = []
    for engine in dict.fromkeys(one.engine for one in recovered):
        own = [one for one in recovered if one.engine == engine]
        written = sum(bool(one.text.strip()) for one in own)
        lengths = [
            _mean([text for text in texts if text is not None]) for texts in zip(*((o.truth, o.text) for o in own), strict=True)
        ]
        rows.append((clean(engine), f"{len(own):,}", f"{written:,}", *lengths))
    says = "The texts themselves are left out. crossvec audit --show-text shows them, to those who may read the store."
    heads = ("engine", "rows tried", "rows with a text", "words of a text", "words recovered of it")
    return Table(f"Recovered texts, rung {rung}", says, heads, rows)


def _texts(rung: str, recovered: Sequence[Recovered]) -> Table:
    """Return recovered texts beside the true ones: only for who asked to see texts of the store."""
    rows = [(str(one.row), clean(one.engine), clean(one.truth or ""), clean(one.text)) for one in recovered[:MOST_TEXTS]]
    says = (
        f"The first {len(rows):,} of {len(recovered):,}; all are in report.json. The rows were drawn by the seed, not picked."
    )
    return Table(f"Recovered texts, rung {rung}", says, ("row", "engine", "the text", "what was recovered"), rows, words=4)


def _mean(texts: Sequence[str]) -> str:
    return f"{sum(len(text.split()) for text in texts) / len(texts):.1f}" if texts else ""


TOLD = {"attributes": _labels, "neighbours": _topics, "fingerprint": _models, "inversion": _engines, "canaries": _engines}
"""Probes that tell more than scores."""


def _part(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"
