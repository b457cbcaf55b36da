"""markdown — an audit as Markdown: what it means first, the evidence after, the method and its limits last.

In    Audit
Out   Markdown text; no text of the victim is in it unless it is asked to be
Uses  audit, report.audit.tables, report.audit.words
"""

from __future__ import annotations

from collections.abc import Sequence

from crossvec.audit import Audit, Finding, Trial
from crossvec.audit.standards import entries
from crossvec.report.audit import tables, words
from crossvec.report.audit.tables import Table

__all__ = ["defences", "markdown"]


def markdown(it: Audit, *, show_text: bool = False, narrow: bool = False) -> str:
    """Return the whole report; `narrow` for a terminal."""
    store = words.clean(it.store["name"] or "this store")
    parts = [
        f"# What {_safe(store)} gives away",
        f"**{it.verdict}** (exit code {it.exit_code}). {words.meaning(it)}",
        f"Audited: {it.store['rows']:,} rows of {it.store['dim']:,} dimensions, in {it.seconds:.0f} s.",
        *_findings(it.findings),
        "## What to do",
        "\n".join(f"{number}. {_safe(step)}" for number, step in enumerate(words.to_do(it), 1)),
        "## Evidence",
    ]
    if show_text:
        parts.insert(1, "**This report shows texts of the store. Handle it as you handle the texts.**")
    parts += [_table(one) for one in (tables.scores(it, narrow), *tables.tables(it, show_text=show_text)) if one.rows]
    parts += ["## What the attacker was given", _table(tables.rungs(it), titled=False)]
    if it.not_run:
        lines = (_safe(f"- {probe}, on the rung {rung}: needs {needs}") for rung, probe, needs in it.not_run)
        parts += ["## Not measured", "\n".join(lines)]
    if it.notes:
        parts += ["## Notes", "\n".join(f"- {_safe(note)}" for note in it.notes)]
    parts += ["## Method and limits", *words.METHOD]
    parts += ["; ".join(f"{name} {value}" for name, value in words.settings(it)) + "."]
    return "\n\n".join(parts) + "\n"


def defences(trials: Sequence[Trial]) -> str:
    """Return what each defence costs a search and what it still gives away, as a table, and what its words mean."""
    return _table(tables.defences(trials))


def _findings(found: Sequence[Finding]) -> list[str]:
    lines = []
    for one in found:
        score = one.score
        waived = f" Accepted until {one.waiver.until}: {_safe(one.waiver.reason)}." if one.waiver else ""
        lines.append(
            f"- **{one.severity}** · {words.told(one.probe).leaks} Who could: {words.whom(one.rung)}. How sure: "
            f"{words.sure(score)} ({one.probe}, {one.rung}: {_safe(score.name)} {words.shown(score.value)} "
            f"[{words.shown(score.low)}, {words.shown(score.high)}]).{waived} {'; '.join(entries(one.probe))}".rstrip()
        )
    return ["## Findings", "\n".join(lines)] if lines else []


def _table(it: Table, *, titled: bool = True) -> str:
    lines = [it.heads, ["---" if place < it.words else "---:" for place in range(len(it.heads))], *it.rows]
    drawn = "\n".join("| " + " | ".join(_safe(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
    return "\n\n".join([*([f"### {it.title}"] if titled else []), drawn, it.says])


def _safe(text: str) -> str:
    """Return text that Markdown shows as it is where it could be taken for HTML."""
    return words.clean(text).replace("<", "&lt;")
