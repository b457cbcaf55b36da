"""migration — says what a migration would do, and what it did.

In    Plan, Outcome
Out   rich renderables; the records of the contract for scripts
Uses  rich
"""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType

from crossvec.migration import Outcome, Plan, learning
from crossvec.migration.gate import Gate, Retention
from crossvec.migration.transfer import duration
from crossvec.report.text import line, listed, note

COLOUR = {"PASS": "green", "WARN": "yellow", "FAIL": "red"}
MEANING = {
    "PASS": "the new store can take over",
    "FAIL": "a search in the new store would not find enough of what it should",
}
NOTHING = {"recall_at_10": None, "low": None, "high": None, "basis": None}


def planned_record(it: Plan, least: float, translator: str, journal: str) -> dict[str, Any]:
    """Return what a dry run prints: the keys of `migrated_record`, null where only a run can tell."""
    return {
        "dry_run": True,
        "rows_read": 0,
        "rows_written": 0,
        "skipped": [],
        "skipped_rows": 0,
        "retention": it.expected.to_json() if it.expected else NOTHING,
        "gate": it.gate(least),
        "min_retention": least,
        "verification": None,
        "scores": {name: one.to_json() for name, one in it.scores.items()},
        "resumed_after": it.resumes,
        "seconds": None,
        "dest": it.dest,
        "translator": translator,
        "journal": journal,
        "doubts": list(it.doubts),
        "notes": list(it.notes),
        "plan": it.to_json(),
    }


def migrated_record(it: Outcome, least: float, translator: str, journal: str) -> dict[str, Any]:
    """Return what a migration prints."""
    return {
        "dry_run": False,
        "rows_read": it.journal.rows_read,
        "rows_written": it.journal.rows_written,
        "skipped": it.journal.skipped,
        "skipped_rows": it.journal.skipped_rows,
        "retention": it.retention.to_json() if it.retention else NOTHING,
        "gate": it.gate,
        "min_retention": least,
        "verification": it.verification.to_json(),
        "scores": {name: one.to_json() for name, one in it.scores.items()},
        "resumed_after": it.resumed,
        "seconds": it.seconds,
        "dest": it.plan.dest,
        "translator": translator,
        "journal": journal,
        "doubts": list(it.plan.doubts),
        "notes": list(it.notes),
        "plan": it.plan.to_json(),
    }


def planned(it: Plan, least: float) -> RenderableType:
    """Say what a migration would do, and what to expect of it."""
    told = {
        "rows": f"{it.source.rows:,}" + ("" if it.source.exact else ", estimated by the store"),
        **it.changes,
        "disk": f"{it.bytes / 2**20:,.1f} MiB of vectors and payload, before indexes",
        "time": f"{duration(sum(it.seconds.values()))} to read and translate, and what the destination takes to write",
    }
    if it.resumes:
        told["goes on after"] = f"{it.resumes:,} rows"
    return Group(
        line((f"{it.source.url} -> {it.dest}", "bold")),
        listed(told),
        *_verdict(it),
        *(_score(score) for score in it.scores.values()),
        *_worth(it),
        *map(note, (*it.doubts, *it.notes)),
        _gate(it.gate(least), it.expected, least, it),
    )


def migrated(it: Outcome, least: float) -> RenderableType:
    """Say what was moved, what was found there, and whether it may take over."""
    journal, found = it.journal, it.verification
    told = {
        "rows read": f"{journal.rows_read:,}",
        "rows written": f"{journal.rows_written:,}" + (f", going on after {it.resumed:,}" if it.resumed else ""),
        "left out": f"{journal.skipped_rows:,}" + (f": rows {_rows(journal.skipped)}" if journal.skipped else ""),
        "there now": f"{found.rows:,}" + {True: ", the same ids", False: ", OTHER IDS", None: ""}[found.ids_equal],
        "compared": f"{found.compared:,} rows, {found.vectors_differ:,} vectors differ, {_payload(found.payload_differ)}",
        "missing": f"{found.lost:,} of the rows looked for" + (f"; {found.gone:,} deleted meanwhile" if found.gone else ""),
        "time": f"{duration(it.seconds['transfer'])}, and {duration(it.seconds['verify'])} to check",
    }
    return Group(
        line((f"{it.plan.source.url} -> {it.plan.dest}", "bold")),
        listed(told),
        *_verdict(it.plan),
        *(_score(score) for score in it.scores.values()),
        *map(note, (*it.plan.doubts, *it.notes)),
        _gate(it.gate, it.retention, least, it.plan) if found.good else _broken(it),
    )


def _broken(it: Outcome) -> RenderableType:
    told = f"; what is in {it.plan.dest} is not what was written: rows were changed meanwhile, or lost"
    return line(("gate: ", "bold"), ("FAIL", "bold red"), told)


def _verdict(it: Plan) -> list[RenderableType]:
    verdict, card = it.translator.verdict, it.translator.card
    learned = (
        f"{card.get('aligner', 'unknown aligner')}, {it.pairs:,} pairs" if it.pairs else f"{card.get('aligner', '?')}, unpaired"
    )
    judged = f"verdict {verdict.status}, probability {verdict.probability:.2f}" if verdict else "not judged"
    if held := it.translator.held_out:
        judged = f"{held.status} by {held.pairs:,} pairs held out"
    return [line(("translator: ", "bold"), f"{learned}; {judged}")]


def _score(it: Retention) -> RenderableType:
    low, high = it.recall_interval
    asked = {"re-embedding": "against true re-embedding", "old neighbours": "of the old neighbours"}[it.basis]
    controls = f"chance {it.chance:.3f}"
    if it.identity is not None:
        controls += f", old numbers {it.identity:.3f}"
    if it.old is not None:
        controls += f", the old model's own search {it.old:.3f}"
    return line(
        (f"retention {asked}: ", "bold"),
        f"recall@10 {it.recall:.3f} ({low:.3f} to {high:.3f}), nDCG@10 {it.ndcg:.3f};"
        f" {it.queries:,} queries, pool {it.pool:,}; {controls}",
    )


def _worth(it: Plan) -> list[RenderableType]:
    if it.worth:
        told = ", ".join(f"{count:,} pairs {score.recall:.3f}" for count, score in it.worth)
        if len(it.worth) > 1:
            (some, before), (most, after) = it.worth[-2:]
            told += f"; from {some:,} to {most:,}: {after.recall - before.recall:+.3f}"
        return [line(("what pairs are worth here: ", "bold"), f"recall@10 on rows held out: {told}")]
    if "re-embedding" in it.scores:
        return []
    advice = "texts of some rows would tell how good it is, and teach more than rows alone: --encoder NAME --texts FILE"
    lines: list[RenderableType] = [line(("what would help: ", "bold"), advice)]
    if known := learning.measured():
        each = ", ".join(f"{_pairs_of(one)} {one['recall_at_10']:.3f}" for one in known["results"])
        place = f"{known['source']} -> {known['target']}"
        lines.append(line(f"  measured on {place}, against true re-embedding: recall@10 {each}"))
        lines.append(line(f"  there, {_helped(known['results'], it.pairs)}"))
    return lines


def _pairs_of(result: dict[str, Any]) -> str:
    return f"{result['pairs']:,} pairs" if result["pairs"] else "no pairs"


def _helped(results: list[dict[str, Any]], pairs: int) -> str:
    """Say which of the measured numbers of pairs did better than as many as there are here, beyond both intervals."""
    now = max((one for one in results if one["pairs"] <= pairs), key=lambda one: one["pairs"])
    better = [one for one in results if one["pairs"] > now["pairs"] and one["low"] > now["high"]]
    if not better:
        return f"more did not help: with {_pairs_of(now)} it found as much as with any more"
    gains = ", ".join(f"{_pairs_of(one)} by {one['recall_at_10'] - now['recall_at_10']:.3f}" for one in better)
    return f"better than {_pairs_of(now)}: {gains}"


def _gate(gate: Gate, it: Retention | None, least: float, plan: Plan) -> RenderableType:
    return line(
        ("gate: ", "bold"), (gate, f"bold {COLOUR[gate]}"), f" at --min-retention {least:g}; {_why(gate, it, least, plan)}"
    )


def _why(gate: Gate, it: Retention | None, least: float, plan: Plan) -> str:
    if it is None:
        return "there are too few rows to measure retention with"
    if gate != "WARN":
        return MEANING[gate]
    if it.recall_interval[0] < least:
        return "the interval reaches to both sides of it: measure with more, --sample"
    if plan.doubts:
        return "the doubts above leave it open whether the new model's queries find these rows: give --encoder and texts"
    if plan.translator.status == "failed":
        return "the translator is judged failed: queries may find nothing where neighbours are kept; give --encoder and texts"
    told = "few pairs leave" if plan.translator.held_out else "the verdict leaves"
    return f"{told} it open whether the new model's queries find these rows: give --encoder and texts"


def _rows(skipped: list[dict[str, Any]]) -> str:
    some = ", ".join(f"{skip['row']:,}" for skip in skipped[:5])
    return some + (" …" if len(skipped) > 5 else "")


def _payload(differ: int | None) -> str:
    return "payload left behind" if differ is None else f"{differ:,} payloads differ"
