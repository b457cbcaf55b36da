"""audit — what does a stolen vector store give away? Rungs of knowledge, probes on each, findings against a policy.

In    Case        what was stolen, what the attacker knows, what only the owner knows
Out   Audit       every score beside its controls, findings, and the exit code
Uses  ladder, probes, defences, frontier, policy

A rung is climbed once, and every probe looks from there. A score becomes a finding when the lower bound of its lift over the
best blind control lies above the policy's threshold. Nothing is claimed on a rung whose rows did not arrive: by the owner's
texts, or where those are not known by what the attacker can tell.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

from crossvec.aligners import Effort, Step, silent
from crossvec.audit.clouds import Clouds, clouds
from crossvec.audit.defences import Defence
from crossvec.audit.frontier import Trial, defend
from crossvec.audit.inputs import QUICK, WHOLE, Case, remembering
from crossvec.audit.labels import Labels
from crossvec.audit.ladder import Rung, Stage, ahead, allowed, climb
from crossvec.audit.policy import SEVERITIES, Policy, Waiver
from crossvec.audit.probes import PROBES, Probe, Reading, Recovered, Severity, create, names
from crossvec.audit.scores import LEVEL, Score
from crossvec.audit.standards import entries
from crossvec.errors import UsageError

__all__ = [
    "PROBES",
    "Audit",
    "Case",
    "Defence",
    "Finding",
    "Labels",
    "Policy",
    "Probe",
    "Reading",
    "Recovered",
    "Score",
    "Stage",
    "Trial",
    "Waiver",
    "audit",
    "defend",
    "names",
]

READER = "an attacker who can read: --reference-texts FILE --encoder NAME, or --reference STORE, or --victim-encoder NAME"

ENOUGH = 0.05
"""A lift of less is not told as something that untranslated rows do as well."""

SCHEMA = "crossvec-audit/1"
"""Keys may be added under one number; none is renamed or given another meaning."""


@dataclass(frozen=True)
class Finding:
    """A score that is no luck and more than the policy tolerates."""

    probe: str
    rung: str
    score: Score
    severity: Severity
    waiver: Waiver | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values under the names of the contract for scripts."""
        waived = None if self.waiver is None else {"reason": self.waiver.reason, "until": self.waiver.until.isoformat()}
        told = {"probe": self.probe, "rung": self.rung, "severity": self.severity, "waived": waived}
        return {**told, **self.score.to_json(), "standards": list(entries(self.probe))}


@dataclass(frozen=True)
class Audit:
    """What an audit found. `readings` are by rung and probe; `not_run` says what each probe that did not run needs.

    `clouds` holds by rung what pictures are drawn from, and is in no JSON.
    """

    store: dict[str, Any]
    rungs: tuple[Rung, ...]
    readings: dict[tuple[str, str], Reading]
    findings: tuple[Finding, ...]
    not_run: tuple[tuple[str, str, str], ...] = ()
    notes: tuple[str, ...] = ()
    trials: tuple[Trial, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
    seconds: float = 0.0
    clouds: dict[str, Clouds] = field(default_factory=dict)

    @property
    def verdict(self) -> Literal["leaks", "inconclusive", "nothing found"]:
        """Return leaks when a finding counts; inconclusive when some question is open; else nothing found.

        A question is open where a rung was not climbed for sure, where an attack that found nothing was broken off, and where
        probes were to read the vectors and none of them came to a score.
        """
        if any(one.waiver is None and self.policy.fails(one.severity) for one in self.findings):
            return "leaks"
        found = {(one.rung, one.probe) for one in self.findings}
        lost = any(rung.status != "aligned" for rung in self.rungs)
        broken_off = any(reading.unfinished and key not in found for key, reading in self.readings.items())
        return "inconclusive" if lost or broken_off or self.unread else "nothing found"

    @property
    def unread(self) -> bool:
        """Tell whether probes were to read the vectors and none of them could, or none had anything to be scored by."""
        read = [reading for (rung, _), reading in self.readings.items() if rung != "vectors"]
        return bool(read or self.not_run) and not any(reading.scores for reading in read)

    @property
    def exit_code(self) -> int:
        """Return 1 for leaks, 3 when inconclusive, else 0."""
        return {"leaks": 1, "inconclusive": 3, "nothing found": 0}[self.verdict]

    def to_json(self, show_text: bool = False) -> dict[str, Any]:
        """Return plain values under the names of the contract for scripts; recovered texts are redacted unless `show_text`."""
        return {
            "schema": SCHEMA,
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "store": self.store,
            "findings": [one.to_json() for one in self.findings],
            "rungs": [rung.to_json() for rung in self.rungs],
            "readings": [
                {
                    "rung": rung,
                    "probe": probe,
                    "scores": [one.to_json() for one in reading.scores],
                    "details": dict(reading.details),
                    "unfinished": reading.unfinished,
                    "recovered": [one.to_json(show_text) for one in reading.recovered],
                }
                for (rung, probe), reading in self.readings.items()
            ],
            "not_run": [{"rung": rung, "probe": probe, "needs": needs} for rung, probe, needs in self.not_run],
            "notes": list(self.notes),
            "defences": [trial.to_json() for trial in self.trials],
            "policy": self.policy.to_json(),
            "settings": self.settings,
            "seconds": round(self.seconds, 3),
        }


def audit(
    case: Case,
    *,
    probes: Sequence[str | Probe] | None = None,
    policy: Policy | None = None,
    defences: Sequence[Defence] = (),
    quick: bool = False,
    effort: Effort = "standard",
    seed: int = 0,
    device: str = "auto",
    today: date | None = None,
    progress: Step = silent,
) -> Audit:
    """Climb every rung that the case has inputs for, and let the probes look from each.

    `probes`: names, which must then be able to run somewhere, or probes with settings of their own; all unless given. A rung
    on which none of them looks is not climbed, and none is before it is known that each name can run.
    `quick` learns from fewer rows with less effort. `defences`: tried too, each with an
    attack of its own; they change no exit code. `today` is the day that waivers are held to. The same seed gives the same
    audit.
    Raises UsageError for a case that cannot be audited, and what a fit raises.
    """
    started = time.perf_counter()
    chosen = [create(one) if isinstance(one, str) else one for one in (probes or names())]
    policy, day = policy or Policy(), today or date.today()
    scored, max_rows = QUICK if quick else WHOLE
    effort = "quick" if quick else effort
    learning: dict[str, Any] = {"effort": effort, "seed": seed, "max_rows": max_rows, "device": device}
    case = remembering(case)
    split = case.split(scored, seed)
    names_ = [name for name in allowed(case) if any(name in probe.rungs for probe in chosen)]
    needs: dict[tuple[str, str], str] = {}
    for name in names_:
        before = ahead(name, case, split, seed)
        needs |= {(name, one.name): one.lacks(before) for one in chosen if name in one.rungs}
    nowhere = {(one.rungs[0], one.name): READER for one in chosen if not set(one.rungs) & set(names_)}
    not_run = [(name, probe, what) for (name, probe), what in {**needs, **nowhere}.items() if what]
    asked = [one.name for one, given in zip(chosen, probes or (), strict=False) if isinstance(given, str)]
    if case.planted is not None and "canaries" not in asked:
        asked += [one.name for one in chosen if one.name == "canaries"]  # canaries that are given are to be looked for
    _refuse_what_cannot_run(asked, needs, not_run)
    rungs: list[Rung] = []
    readings: dict[tuple[str, str], Reading] = {}
    drawn: dict[str, Clouds] = {}
    for number, name in enumerate(names_):

        def step(doing: str, part: float, number: int = number, name: str = name) -> None:
            progress(f"{name}: {doing}", (number + 0.9 * part) / len(names_))

        stage = climb(name, case, split, progress=step, **learning)
        rungs.append(stage.rung)
        for probe in chosen:
            if needs.get((name, probe.name)) == "":
                step(probe.name, 1.0)
                readings[name, probe.name] = probe.measure(stage)
        if (plane := clouds(stage)) is not None:
            drawn[name] = plane
    trials = defend(case, defences, policy=policy, scored=scored, progress=progress, **learning) if defences else []
    progress("done", 1.0)
    by_name = {probe.name: probe for probe in chosen}
    findings = _findings(by_name, rungs, readings, policy, day)
    settings = {
        "probes": list(by_name),
        "quick": quick,
        "effort": effort,
        "seed": seed,
        "level": LEVEL,
        "rows": {name: len(rows) for name, rows in vars(split).items()},
    }
    store = {"name": case.victim.name, "rows": len(case.victim), "dim": case.victim.dim}
    notes = (*_shared(case), *_blank(case), *_notes(rungs, readings, policy, day))
    spent = time.perf_counter() - started
    return Audit(store, tuple(rungs), readings, findings, tuple(not_run), notes, tuple(trials), settings, policy, spent, drawn)


def _refuse_what_cannot_run(
    asked: Sequence[str], needs: Mapping[tuple[str, str], str], not_run: Sequence[tuple[str, str, str]]
) -> None:
    """Raise UsageError for a probe asked for by name that lacks something on every rung."""
    runs = {name for (_, name), what in needs.items() if not what}
    for name in asked:
        if name not in runs:
            what = next(what for _, probe, what in not_run if probe == name)
            raise UsageError(f"the probe {name} cannot run: it needs {what}", "docs/audit.md tells what each probe needs")


def _findings(
    probes: dict[str, Probe], rungs: Sequence[Rung], readings: dict[tuple[str, str], Reading], policy: Policy, day: date
) -> tuple[Finding, ...]:
    """Return one finding at most for each reading: its first score that is above the threshold."""
    status: dict[str, str] = {rung.name: rung.status for rung in rungs}
    found = []
    for (rung, name), reading in readings.items():
        if status[rung] == "failed":
            continue
        least = policy.threshold(name)
        if score := next((one for one in reading.scores if one.above(least)), None):
            found.append(Finding(name, rung, score, probes[name].severity, policy.waiver(name, rung, day)))
    return tuple(sorted(found, key=lambda one: -SEVERITIES.index(one.severity)))


def _shared(case: Case) -> Sequence[str]:
    """Say that an attacker was given more than the rung `domain` allows."""
    if not (count := case.shared):
        return ()
    least = "1 text of the reference is" if count == 1 else f"{count:,} texts of the reference are"
    return (f"{least} in the store too, which only the attacker of the rung pairs should know: take them out, or use --pairs",)


def _blank(case: Case) -> Sequence[str]:
    """Say that rows without a text are not scored."""
    if not (count := case.blank):
        return ()
    least = "1 row of the store has no text: it is" if count == 1 else f"{count:,} rows of the store have no text: they are"
    return (f"{least} searched, and not scored",)


def _notes(rungs: Sequence[Rung], readings: dict[tuple[str, str], Reading], policy: Policy, day: date) -> tuple[str, ...]:
    notes = []
    for rung in rungs:
        own = {name: reading for (at, name), reading in readings.items() if at == rung.name}
        if rung.status == "failed":
            notes.append(_failed(rung))
            if above := [name for name, it in own.items() if any(score.lift_low > 0 for score in it.scores)]:
                notes.append(f"{', '.join(above)} scored above blind guesses all the same on the rung {rung.name}")
        elif rung.own is not None and rung.attackers_status != "aligned":
            what = "its rows" if rung.status == "aligned" else "some of its rows"
            notes.append(
                f"the store's own texts show that {what} arrive on the rung {rung.name}; the attacker, who has not got them, "
                f"reads what they say without being sure of it (verdict {rung.attackers_status})"
            )
        elif rung.unwitnessed:
            notes.append(
                "nothing shows that the rows lie where the model of the rung encoder puts their texts: what was found there "
                "counts, and what was not found is no all-clear; give the store's own texts with --texts"
            )
        for name, reading in own.items():
            if reading.unfinished:
                notes.append(f"{name} on the rung {rung.name}: {reading.unfinished}")
            elif rung.status != "failed" and _untranslated_do_as_well(reading):
                notes.append(f"{name} on the rung {rung.name}: untranslated rows do as well; the models share coordinates")
    for waiver in policy.expired(day):
        notes.append(f"the waiver of {waiver.probe} ended on {waiver.until}: {waiver.reason}")
    return tuple(notes)


def _failed(rung: Rung) -> str:
    if rung.translator is None:
        return (
            f"the rows of the store do not lie where the model of the rung {rung.name} puts their texts: it is another model, "
            "the rows were changed since, or the texts are in another order; what could be read is not known"
        )
    seen = "the store's own texts show that its rows did not arrive" if rung.own else "so the attacker's own check says"
    return f"the translator of the rung {rung.name} failed ({seen}): what it would have shown is not known"


def _untranslated_do_as_well(reading: Reading) -> bool:
    """Tell whether every score that can be a finding is reached without translating; lifts are compared, not values."""
    lifts = [(score.lift, score.lift_of("naive")) for score in reading.scores if score.gates]
    return bool(lifts) and all(naive is not None and naive >= max(lift, ENOUGH) for lift, naive in lifts)
