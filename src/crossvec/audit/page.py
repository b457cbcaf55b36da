"""page — an audit as Markdown: what it means first, the evidence after, the method and its limits last.

In    Audit
Out   Markdown text; no text of the victim is in it
Uses  audit
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from crossvec.audit import Audit, Finding
from crossvec.audit.frontier import Trial
from crossvec.audit.ladder import HOLDS, Rung
from crossvec.audit.scores import LEVEL, Score
from crossvec.audit.standards import entries

__all__ = ["defences", "markdown"]

SUMMARY = {
    "leaks": "Somebody who stole only these vectors learns something about the texts behind them.",
    "inconclusive": "This audit does not tell whether these vectors are safe: an attack could not be carried out for sure.",
    "nothing found": "None of the attacks tried here found more than a guess would. Other attacks may.",
}

SAYS = {
    "fingerprint": "which model made the vectors",
    "alignment": "the vectors can be carried into a space that the attacker reads",
    "attributes": "what the texts are about",
    "membership": "whether a given document is in the store",
    "neighbours": "which known texts the stolen ones resemble",
}

BLIND = ("chance", "shuffled", "commonest", "enough")

TRIED = (
    "*Broken*: an attacker who knows the defence but no key learns more than a guess would. *Inconclusive*: a translator "
    "failed or was not sure; with more rows it may not. Recall is of each row's ten nearest before, looked for after."
)

METHOD = (
    "A score is a finding when the lower bound of its lift over the best blind guess lies above the policy's threshold. "
    f"Intervals are at level {LEVEL:g}. *Naive* compares the vectors untranslated, *ideal* is what a perfect translation would "
    "give, *shuffled* gives each row another row's answer. Nothing is claimed where the translator failed.",
    "The owner's texts and labels score the attacks and reach none of them. Attacks that failed here may succeed with more "
    "rows, more effort or texts nearer to the store's: the absence of a finding is no proof of safety.",
)


def markdown(it: Audit) -> str:
    """Return the whole report."""
    store = f"{it.store['name'] or 'the store'}: {it.store['rows']:,} rows of {it.store['dim']:,} dimensions"
    parts = [
        f"# What {it.store['name'] or 'this store'} gives away",
        f"**{it.verdict}** (exit code {it.exit_code}). {SUMMARY[it.verdict]}",
    ]
    parts += [f"Audited: {store}, in {it.seconds:.0f} s.", *_findings(it.findings)]
    parts += ["## Evidence", _readings(it), *_details(it)]
    parts += ["## What the attacker was given", _rungs(it.rungs)]
    if it.trials:
        parts += ["## Defences", defences(it.trials)]
    if it.not_run:
        parts += [
            "## Not measured",
            "\n".join(f"- {probe}, on the rung {rung}: needs {needs}" for rung, probe, needs in it.not_run),
        ]
    if it.notes:
        parts += ["## Notes", "\n".join(f"- {note}" for note in it.notes)]
    parts += ["## Method and limits", *METHOD, _settings(it)]
    return "\n\n".join(parts) + "\n"


def defences(trials: Sequence[Trial]) -> str:
    """Return what each defence costs a search and what it still gives away, as a table, and what its words mean."""
    seen = list(dict.fromkeys(key for trial in trials for key in trial.scores))
    head = ["defence", "keyed", "recall@10 kept", "verdict", "broken by"]
    rows = []
    for it in trials:
        cells = [it.defence.name, "yes" if it.defence.keyed else "", f"{it.recall:.3f}", it.verdict, it.broken_by or ""]
        for rung, probe in seen:
            score = it.scores.get((rung, probe))
            sure = "" if it.status.get(rung) == "aligned" else f", {it.status.get(rung)}"
            cells.append(f"{_shown(score.value)} against {_shown(score.chance)}{sure}" if score else "")
        rows.append(cells)
    table = _table([*head, *(f"{probe}, {rung}" for rung, probe in seen)], rows)
    return f"{table}\n\n{TRIED}"


def _findings(found: Sequence[Finding]) -> list[str]:
    lines = []
    for one in found:
        waived = f" Waived until {one.waiver.until}: {one.waiver.reason}." if one.waiver else ""
        score = one.score
        lines.append(
            f"- **{one.severity}** · {one.probe}, with {HOLDS.get(one.rung, one.rung)}: {SAYS.get(one.probe, one.probe)}. "
            f"{score.name} {_shown(score.value)} [{_shown(score.low)}, {_shown(score.high)}] against {_shown(score.chance)} "
            f"by {score.over}.{waived} {'; '.join(entries(one.probe))}".rstrip()
        )
    return ["## Findings", "\n".join(lines)] if lines else []


def _readings(it: Audit) -> str:
    rows = []
    for (rung, probe), reading in it.readings.items():
        for score in reading.scores:
            blind = ", ".join(f"{name} {_shown(score.controls[name])}" for name in BLIND if name in score.controls)
            naive, ideal = (_shown(score.controls.get(name)) for name in ("naive", "ideal"))
            value = f"{_shown(score.value)} [{_shown(score.low)}, {_shown(score.high)}]"
            rows.append((rung, probe, score.name, value, naive, ideal, blind, _lift(score), f"{score.n:,}"))
    return _table(("rung", "probe", "score", "value", "naive", "ideal", "blind", "lift", "n"), rows)


def _details(it: Audit) -> list[str]:
    parts = []
    for (rung, probe), reading in it.readings.items():
        told = reading.details
        if probe == "attributes" and "labels" in told:
            some = sorted((one for one in told["labels"] if "auc" in one), key=lambda one: -one["low"])[:10]
            lines = [
                (
                    one["label"],
                    f"{one['rows']:,}",
                    f"{_shown(one['auc'])} [{_shown(one['low'])}, {_shown(one['high'])}]",
                    _shown(one.get("naive")),
                    _shown(one.get("ideal")),
                )
                for one in some
            ]
            parts += [
                f"### Labels on the rung {rung}, most exposed first",
                _table(("label", "rows", "AUC", "naive", "ideal"), lines),
            ]
        if probe == "neighbours" and any(one["words"] for one in told["topics"]):
            topics = [
                (", ".join(one["words"]), _part(one["store"]), _part(one.get("store_truly")), _part(one["reference"]))
                for one in told["topics"]
            ]
            parts += [
                f"### Topics on the rung {rung}, in words of the reference",
                _table(("topic", "of the store", "truly", "of the reference"), topics),
            ]
        if probe == "fingerprint":
            alike = (
                ", ".join(f"{one['model']} {_shown(one['correlation'])}" for one in told["resembles"]) or "no model measured"
            )
            same = ", ".join(told["same_dimension"]) or "none known"
            parts += [
                "### Fingerprint",
                f"Resembles: {alike}. Models of {told['dim']} dimensions: {same}. Values look like {told['stored_as']}; "
                f"{'unit' if told['unit_norm'] else 'no unit'} length; {told['near_duplicates']:,} near duplicates.",
            ]
    return parts


def _rungs(rungs: Sequence[Rung]) -> str:
    lines = []
    for rung in rungs:
        verdict = rung.translator.verdict if rung.translator else None
        converged, tried = rung.seeds
        judged = f"{verdict.status}, probability {verdict.probability:.2f}" if verdict else ""
        if rung.held:
            judged += f"; {rung.held.share:.0%} of {rung.held.pairs} held-out pairs land near"
        lines.append(
            (
                rung.name,
                HOLDS[rung.name],
                rung.status if rung.translator else "",
                judged,
                f"{converged} of {tried}" if tried else "",
                f"{rung.seconds:.0f}",
            )
        )
    return _table(("rung", "the attacker holds", "translator", "because", "seeds", "seconds"), lines)


def _settings(it: Audit) -> str:
    rows = ", ".join(f"{count:,} {name}" for name, count in it.settings["rows"].items())
    return (
        f"Rows: {rows}. Effort {it.settings['effort']}, seed {it.settings['seed']}. Findings fail from {it.policy.fail_on} on."
    )


def _lift(score: Score) -> str:
    share = f", {score.of_ideal:.0%} of ideal" if score.of_ideal is not None else ""
    return f"{score.lift:+.3f} [{score.lift_low:+.3f}, {score.lift_high:+.3f}]{share}"


def _part(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines
    )
