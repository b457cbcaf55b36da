"""html — an audit as one file for a browser: what it means first, the evidence after, the method and its limits last.

In    Audit, and whether texts may be shown
Out   HTML that loads nothing, runs nothing and holds no text of the victim unless it is asked to
Uses  audit, report.audit.charts (matplotlib), tables, words, safe; jinja2
"""

from __future__ import annotations

from datetime import date
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from crossvec import __version__
from crossvec.audit import Audit
from crossvec.audit.ladder import HOLDS
from crossvec.audit.standards import entries
from crossvec.report.audit import tables, words
from crossvec.report.audit.charts import charts
from crossvec.safe import safe

__all__ = ["html"]

SECTIONS = {
    "summary": "In short",
    "evidence": "Evidence",
    "given": "What the attacker was given",
    "unknown": "Not measured, and notes",
    "method": "Method and limits",
}

STATES = {
    "leaks": "leaks",
    "tolerated": "found, tolerated",
    "waived": "found, accepted",
    "clear": "no more than a guess",
    "unknown": "not known",
    "told": "told, not scored",
    "not run": "not measured",
}


def html(it: Audit, *, show_text: bool = False, day: date | None = None) -> str:
    """Return the whole report; `day` is the day it tells, today unless given.

    Raises MissingExtraError without matplotlib.
    """
    outcomes = words.outcomes(it)
    store = words.clean(it.store["name"] or "this store")
    page = Environment(
        loader=PackageLoader("crossvec.report.audit"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else safe(value),
    ).get_template("page.html.j2")
    return page.render(
        it=it,
        title=f"What {store} gives away",
        version=__version__,
        day=(day or date.today()).isoformat(),
        style=Markup(resources.files("crossvec.report.audit").joinpath("templates/page.css").read_text(encoding="utf-8")),
        show_text=show_text,
        sections=[one for one in SECTIONS.items() if one[0] != "unknown" or it.not_run or it.notes],
        meaning=words.meaning(it),
        failing=words.by_probe(words.failing(it)),
        tolerated=words.by_probe(words.tolerated(it)),
        accepted=words.by_probe(words.accepted(it)),
        to_do=words.to_do(it),
        asked=list(dict.fromkeys(one.probe for one in outcomes)),
        grid={(one.rung, one.probe): one for one in outcomes},
        states=STATES,
        charts=[(chart, Markup(chart.svg)) for chart in charts(it)],  # what labels hold was escaped when it became XML
        evidence=[tables.scores(it), *tables.tables(it, show_text=show_text)],
        rungs=tables.rungs(it),
        method=words.METHOD,
        settings=words.settings(it),
        standards=list(dict.fromkeys(entry for one in it.findings for entry in entries(one.probe))),
        told=words.told,
        whom=words.whom,
        sure=words.sure,
        entries=entries,
        holds=HOLDS,
    )
