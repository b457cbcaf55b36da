"""charts — the pictures of an audit: leakage beside its controls, clouds, confusion of labels, seeds, and what defences buy.

In    Audit
Out   Charts as inline SVG, each with what it shows in words
Uses  audit, report.audit.svg

Every mark differs in shape as well as in colour, so that a reader who sees no colours, and a printer, tell them apart. Charts
are narrow, as a phone is; a wide page sets them side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossvec.audit import Audit, Trial
from crossvec.audit.clouds import Clouds
from crossvec.audit.scores import Score
from crossvec.report.audit.svg import ATTACK, BAD, BLIND, GOOD, GRID, IDEAL, INK, MUTED, NAIVE, SURFACE, figure, inline
from crossvec.report.audit.words import clean
from crossvec.verdict import LOST, SURE

__all__ = ["Chart", "charts", "leak_of"]

WIDE = 5.0  # inches of 72 units: as wide as a phone
LONGEST = 18  # characters of a label
TRIED = {"broken": (BAD, "o"), "unbroken": (GOOD, "s"), "inconclusive": (MUTED, "D")}
NEAR = 0.025  # of the axes: defences nearer than this to each other share a mark
STATUS = {"aligned": (GOOD, "o"), "uncertain": (MUTED, "s"), "failed": (BAD, "X")}


@dataclass(frozen=True)
class Chart:
    """One picture: its heading, what to read in it, the SVG, and the rung that it belongs to, if to one."""

    name: str
    title: str
    reading: str
    svg: str
    rung: str = ""


def charts(it: Audit) -> list[Chart]:
    """Return every picture that an audit has numbers for; raises MissingExtraError without matplotlib."""
    drawn = [_leakage(it)]
    drawn += [_clouds(rung, one) for rung, one in it.clouds.items()]
    drawn += [
        _confusion(rung, one.details["confusion"]) for (rung, _), one in it.readings.items() if "confusion" in one.details
    ]
    drawn += [_seeds(it), _frontier(it.trials)]
    return [one for one in drawn if one]


def _leakage(it: Audit) -> Chart | None:
    scores = [(rung, probe, score) for (rung, probe), reading in it.readings.items() for score in _heads(reading.scores)]
    if not scores:
        return None
    with figure(WIDE, 1.3 + 0.62 * len(scores)) as page:
        panel = page.subplots()
        for place, (_, _, score) in enumerate(reversed(scores)):
            panel.plot([score.low, score.high], [place, place], color=ATTACK, lw=4, alpha=0.45, solid_capstyle="butt")
            for _, value, mark in _marks(score):
                panel.plot([value], [place], **mark)
        for label, mark in LEGEND.items():
            panel.plot([], [], label=label, **mark)
        names = [f"{clean(probe)}, {rung}\n{clean(score.name)[:28]}" for rung, probe, score in reversed(scores)]
        panel.set(xlim=(min(0.0, *(s.low for _, _, s in scores)) - 0.03, 1.03), ylim=(-0.6, len(scores) - 0.4))
        panel.set_yticks(range(len(names)), names, fontsize=11)
        panel.grid(axis="x", lw=0.6)
        panel.set_axisbelow(True)
        page.legend(loc="outside lower center", ncols=2, handletextpad=0.4, columnspacing=1.2)
        says = "; ".join(f"{probe} on the rung {rung} {s.value:.2f}, blind {s.chance:.2f}" for rung, probe, s in scores)
        return Chart(
            "leakage",
            "What was reached, beside what a guess reaches",
            "The further a round mark stands to the right of the upright bar, the more leaks. The band is its interval.",
            inline(page, "leakage", f"Leakage with controls: {says}"),
        )


def _heads(scores: Sequence[Score]) -> list[Score]:
    """Return the headline, and the same measure of other engines: "token F1 (static)" and "token F1 (retrieval)"."""
    return [one for one in scores if one.name.partition(" (")[0] == scores[0].name.partition(" (")[0]]


LEGEND: dict[str, dict[str, Any]] = {
    "the attack, with interval": {"marker": "o", "color": ATTACK, "ms": 8, "ls": "", "mec": SURFACE, "mew": 1},
    "a blind guess": {"marker": "|", "color": BLIND, "ms": 18, "ls": "", "mew": 3},
    "without translation": {"marker": "v", "color": NAIVE, "ms": 8, "ls": "", "mfc": "none", "mew": 1.6},
    "a perfect translation": {"marker": "D", "color": IDEAL, "ms": 7, "ls": "", "mfc": "none", "mew": 1.6},
    "another row's answer": {"marker": "x", "color": MUTED, "ms": 7, "ls": "", "mew": 1.6},
}


def _marks(score: Score) -> list[tuple[str, float, dict[str, Any]]]:
    """Return what stands on a score's line, the attack last and thus on top."""
    attack, blind, naive, ideal, shuffled = LEGEND.values()
    marks = [("blind", score.chance, blind)]
    for name, mark in (("naive", naive), ("ideal", ideal), ("shuffled", shuffled)):
        if name in score.controls and not (name == "shuffled" and score.over == "shuffled"):
            marks.append((name, score.controls[name], mark))
    return [*marks, ("attack", score.value, attack)]


def _clouds(rung: str, it: Clouds) -> Chart:
    with figure(WIDE, 3.5) as page:
        panels = page.subplots(1, 2, sharex=True, sharey=True)
        reach = float(max(abs(cloud).max() for cloud in (it.reference, it.before, it.after))) * 1.05
        for panel, title, cloud in zip(panels, ("before", "after translation"), (it.before, it.after), strict=True):
            panel.plot(*it.reference.T, ls="", marker="o", ms=3.4, color=IDEAL, alpha=0.55, mew=0, label="attacker's own texts")
            panel.plot(*cloud.T, ls="", marker="+", ms=4.2, mew=0.9, color=ATTACK, alpha=0.75, label="stolen rows")
            panel.set_title(title, fontsize=12, color=INK)
            panel.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[], aspect="equal")
            panel.spines[["top", "right"]].set_visible(True)
        handles = panels[0].get_legend_handles_labels()
        page.legend(*handles, loc="outside lower center", ncols=2, markerscale=2.2, handletextpad=0.2)
        says = f"{len(it.after)} stolen rows and {len(it.reference)} of the attacker's own texts, before and after translation"
        return Chart(
            f"clouds-{rung}",
            f"Stolen rows among the attacker's own texts, rung {rung}",
            "Where the two clouds lie on each other afterwards, the attacker reads stolen rows as if they were their own. A "
            "plane shows two of many directions: a match here is a hint, the scores are the proof.",
            inline(page, f"clouds-{rung}", says),
            rung,
        )


def _confusion(rung: str, told: dict[str, Any]) -> Chart:
    counts, names = np.array(told["rows"]), [_short(name) for name in told["labels"]]
    shares = counts / counts.sum(1, keepdims=True).clip(1)
    with figure(WIDE, 1.5 + 0.42 * len(names)) as page:
        panel = page.subplots()
        for down, line in enumerate(shares):
            for across, share in enumerate(line):
                hue = ATTACK if across == down else MUTED
                panel.fill(
                    [across, across + 1, across + 1, across],
                    [down, down, down + 1, down + 1],
                    color=hue,
                    alpha=0.6 * share,
                    lw=0,
                )
                if share >= 0.005:
                    panel.text(across + 0.5, down + 0.5, f"{100 * share:.0f}", ha="center", va="center", fontsize=10)
        panel.set(xlim=(0, len(names) + 1), ylim=(len(names), 0), xlabel="taken for, of 100 rows of each label")
        panel.set_yticks(
            [i + 0.5 for i in range(len(names))], [f"{name} ({i + 1})" for i, name in enumerate(names)], fontsize=11
        )
        panel.set_xticks(
            [i + 0.5 for i in range(len(names) + 1)], [*(str(i + 1) for i in range(len(names))), "other"], fontsize=11
        )
        panel.tick_params(length=0)
        best = float(shares.diagonal().mean()) if len(names) else 0.0
        return Chart(
            f"confusion-{rung}",
            f"Which labels are taken for which, rung {rung}",
            "Each line is a label that texts have, each column one that the attacker reads from their vectors. On the diagonal "
            "the attacker is right.",
            inline(page, f"confusion-{rung}", f"Of 100 rows of a label, {100 * best:.0f} are read rightly on average"),
            rung,
        )


def _seeds(it: Audit) -> Chart | None:
    tried = [
        (rung.name, one)
        for rung in it.rungs
        for one in (rung.translator.card.get("trace", ()) if rung.translator else ())
        if one.get("verdict")
    ]
    if not tried:
        return None
    with figure(WIDE, 1.5 + 0.34 * len(tried)) as page:
        panel = page.subplots()
        panel.axvspan(SURE, 1.03, color=GOOD, alpha=0.12, lw=0)
        panel.axvspan(-0.03, LOST, color=BAD, alpha=0.12, lw=0)
        for place, (_, one) in enumerate(reversed(tried)):
            colour, shape = STATUS[one["verdict"]["status"]]
            panel.plot([one["verdict"]["probability"]], [place], ls="", marker=shape, ms=9, color=colour, mec=SURFACE, mew=0.8)
        names = [f"{rung}, {one['aligner']} seed {one['settings'].get('seed', '–')}" for rung, one in reversed(tried)]
        panel.set_yticks(range(len(tried)), names, fontsize=11)
        panel.set(xlim=(-0.03, 1.03), ylim=(-0.6, len(tried) - 0.4), xlabel="probability that it is right")
        panel.set_xticks([0, LOST, 0.5, SURE, 1], ["0", f"{LOST:g}", "0.5", f"{SURE:g}", "1"])
        for status, (colour, shape) in STATUS.items():
            panel.plot([], [], ls="", marker=shape, ms=8, color=colour, label=status)
        page.legend(loc="outside lower center", ncols=3, handletextpad=0.2)
        says = ", ".join(f"{rung} {one['verdict']['status']} at {one['verdict']['probability']:.2f}" for rung, one in tried)
        return Chart(
            "seeds",
            "How sure each attempt to translate was",
            "Each mark is one attempt, judged as the attacker would judge it: without knowing a single pair. Several that "
            "agree are better evidence than one.",
            inline(page, "seeds", f"Attempts to learn a translator: {says}"),
        )


def leak_of(trials: Sequence[Trial]) -> str:
    """Return the probe by which defences are compared: attributes where every trial has them, else what they share."""
    shared = set.intersection(*({probe for _, probe in trial.scores} for trial in trials)) if trials else set()
    return next((name for name in ("attributes", "alignment") if name in shared), next(iter(sorted(shared)), ""))


def _frontier(trials: Sequence[Trial]) -> Chart | None:
    probe = leak_of(trials)
    if not probe:
        return None
    with figure(WIDE, 4.6) as page:
        panel = page.subplots()
        panel.axhline(0, color=BLIND, lw=1.2, ls=(0, (4, 3)))
        for verdict, (recall, lift), numbers in _marked(trials, probe):
            colour, shape = TRIED[verdict]
            panel.plot([recall], [lift], ls="", marker=shape, ms=10, color=colour, mec=SURFACE, mew=1)
            panel.annotate(numbers, (recall, lift), (0, 9), textcoords="offset points", ha="center", fontsize=11)
        for verdict, (colour, shape) in TRIED.items():
            panel.plot([], [], ls="", marker=shape, ms=8, color=colour, label=verdict)
        panel.set(xlabel="recall@10 kept by a search", ylabel="leakage above a guess", xlim=(-0.05, 1.07))
        panel.margins(y=0.12)
        panel.grid(lw=0.6, color=GRID)
        panel.set_axisbelow(True)
        page.legend(loc="outside lower center", ncols=3, handletextpad=0.2)
        says = "; ".join(
            f"{i} {trial.defence.name}, {trial.verdict}, keeps {trial.recall:.2f}" for i, trial in enumerate(trials, 1)
        )
        return Chart(
            "frontier",
            "What each defence costs and what it stops",
            "A good defence stands at the lower right: the search still works and little leaks. The numbers are those of the "
            f"table below; leakage is that of {probe}, on the rung where it is largest. Every attacker knows the defence.",
            inline(page, "frontier", f"Defences: {says}"),
        )


def _marked(trials: Sequence[Trial], probe: str) -> list[tuple[str, tuple[float, float], str]]:
    """Return the verdict, the place and the numbers of each mark; defences at one place with one verdict share it."""
    marks: list[tuple[str, tuple[float, float], list[str]]] = []
    for number, trial in enumerate(trials, 1):
        at = trial.recall, max(score.lift for (_, name), score in trial.scores.items() if name == probe)
        for verdict, (recall, lift), numbers in marks:
            if verdict == trial.verdict and max(abs(at[0] - recall), abs(at[1] - lift)) < NEAR:
                numbers.append(str(number))
                break
        else:
            marks.append((trial.verdict, at, [str(number)]))
    return [(verdict, at, ", ".join(numbers)) for verdict, at, numbers in marks]


def _short(name: str) -> str:
    name = clean(name)
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
