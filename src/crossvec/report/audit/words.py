"""words — an audit in plain language: what leaks, to whom, how sure that is, and what to do about it.

In    Audit
Out   sentences, and one Outcome for each question on each rung; no text of the victim
Uses  audit, safe
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from crossvec.audit import Audit, Finding, Reading
from crossvec.audit.ladder import RungName
from crossvec.audit.scores import Score
from crossvec.safe import safe

__all__ = [
    "METHOD",
    "Outcome",
    "State",
    "Told",
    "accepted",
    "by_probe",
    "clean",
    "meaning",
    "failing",
    "outcomes",
    "settings",
    "shown",
    "sure",
    "told",
    "tolerated",
    "to_do",
    "whom",
]

MEANING = {
    "inconclusive": "This audit does not tell whether these vectors are safe: attacks were not carried out, or not for sure.",
    "nothing found": "None of the attacks tried here found more than a guess would. Other attacks may.",
}
ACCEPTED = "What the attacks tried here found is less than the policy fails on, or waived. Other attacks may find more."

WHOM: dict[str, str] = {
    "vectors": "anybody who has the vectors",
    "domain": "anybody who has the vectors and other texts of the same kind",
    "pairs": "anybody who has the vectors and knows a few of the texts",
    "encoder": "anybody who has the vectors and the model that made them",
}


@dataclass(frozen=True)
class Told:
    """A probe in plain words: what it asks, what it means when the answer leaks, and what an owner can do then."""

    asks: str
    leaks: str
    remedy: str


PROBES = {
    "fingerprint": Told(
        "Which model made the vectors?",
        "The vectors tell which model made them.",
        "Take the name of the model as known to an attacker; do not count on keeping it secret.",
    ),
    "alignment": Told(
        "Can the vectors be translated into a space that the attacker reads?",
        "The vectors can be translated into a space that the attacker reads.",
        "Protect this store as you protect the texts themselves: encryption at rest, backups included, and few who may export "
        "vectors. Count a leak of the vectors as a leak of the texts.",
    ),
    "attributes": Told(
        "What are the texts about?",
        "What the texts are about can be read off their vectors.",
        "See below which labels are the most exposed, and keep texts that have them in a store of their own that fewer may "
        "read.",
    ),
    "membership": Told(
        "Is a given document in the store?",
        "Whoever has a document can tell whether it is in the store.",
        "Return no raw similarity scores and no vectors to callers who may not know what the store holds, and limit how many "
        "searches they make.",
    ),
    "neighbours": Told(
        "Which known texts are the stolen ones like?",
        "An attacker's own texts can be matched to stolen rows that are like them.",
        "Treat subjects and wording as known to whoever has the vectors; before you share vectors, take out rows that must "
        "not be matched.",
    ),
    "inversion": Told(
        "Can words of the texts be recovered?",
        "Words of the texts can be recovered from their vectors.",
        "Treat the vectors as the texts: the same access rules, the same retention, and notification when they leak.",
    ),
    "canaries": Told(
        "Can planted secrets be recovered?",
        "Secrets that were planted in the store were recovered.",
        "Store no vectors of texts that hold secrets, such as passwords and keys; change those that were stored.",
    ),
}

STRONGER = (
    "Measure what a defence would change before relying on one: crossvec defend, or crossvec audit --defences, on this store."
)
SHARES = ("top-", "right among", "caught", "held-out", "known of")
"""Scores that count rows. Others, such as token F1, are no number of anything."""

MORE = (
    "Repeat with more rows, with --effort thorough, or with a reference whose texts are nearer to the store's; until then "
    "count on a leak."
)
WITNESS = (
    "Give the store's own texts with --texts, which show whether its rows are those of the model named; until then count on a "
    "leak."
)
AGAIN = "Audit again when the model, the data or who may read the store changes; a policy file makes it a gate in CI."

METHOD = (
    "An attacker is played who has what each rung lists and nothing else. The store's own texts and labels score the attacks "
    "and reach none of them.",
    "A score is a finding when the lower bound of its lift over the best blind guess lies above the policy's threshold. A "
    "blind guess does not look at the vectors.",
    "Where the store's own texts are known, they show whether its rows arrived where they can be read; the attacker, who has "
    "not got them, need not know it. Nothing is claimed where the rows did not arrive. A failed attack is no safety: it may "
    "succeed with more rows, more effort or texts nearer to the store's.",
    "One score decides for each question and rung; the others, and every control, are told beside it.",
)

State = Literal["leaks", "tolerated", "waived", "clear", "unknown", "told", "not run"]


@dataclass(frozen=True)
class Outcome:
    """What came of one question on one rung.

    `leaks`: a finding that fails the audit; `tolerated`: one below the policy's severity; `waived`: one that the owner has
    accepted; `clear`: measured, and no more than a guess; `unknown`: the rows did not arrive for sure, or the attack was broken
    off; `told`: it has no score; `not run`: `needs` says what it lacks.
    """

    rung: RungName
    probe: str
    state: State
    reading: Reading | None = None
    finding: Finding | None = None
    needs: str = ""


def meaning(it: Audit) -> str:
    """Return what the verdict means, in one sentence."""
    if it.verdict != "leaks":
        return ACCEPTED if it.findings and it.verdict == "nothing found" else MEANING[it.verdict]
    lowest = min((one.rung for one in failing(it)), key=[*WHOM].index)
    return f"{whom(lowest).capitalize()} learns something about the texts behind them."


def outcomes(it: Audit) -> list[Outcome]:
    """Return one outcome for each rung and probe that has something to say there, lowest rung first."""
    found = {(one.rung, one.probe): one for one in it.findings}
    lacking = {(rung, probe): needs for rung, probe, needs in it.not_run}
    made = []
    for rung in it.rungs:
        for probe in _probes(it):
            key = rung.name, probe
            if key in it.readings:
                reading, finding = it.readings[key], found.get(key)
                made.append(Outcome(rung.name, probe, _state(it, reading, finding, rung.status), reading, finding))
            elif key in lacking:
                made.append(Outcome(rung.name, probe, "not run", needs=lacking[key]))
    return made


def _probes(it: Audit) -> list[str]:
    return list(dict.fromkeys([*it.settings.get("probes", ()), *(name for _, name in it.readings)]))


def _state(it: Audit, reading: Reading, finding: Finding | None, status: str) -> State:
    if finding:
        return "waived" if finding.waiver else "leaks" if it.policy.fails(finding.severity) else "tolerated"
    if not reading.scores and not reading.unfinished:
        return "told"
    return "clear" if status == "aligned" and not reading.unfinished else "unknown"


def failing(it: Audit) -> list[Finding]:
    """Return the findings for which the audit fails, worst first."""
    return [one for one in it.findings if one.waiver is None and it.policy.fails(one.severity)]


def by_probe(found: list[Finding]) -> dict[str, list[Finding]]:
    """Return findings by what they are about, the worst first, and of each the attacker who knows least first."""
    order = [*WHOM]
    grouped = {one.probe: [other for other in found if other.probe == one.probe] for one in found}
    return {probe: sorted(ones, key=lambda one: order.index(one.rung)) for probe, ones in grouped.items()}


def tolerated(it: Audit) -> list[Finding]:
    """Return the findings below the severity from which on the policy fails."""
    return [one for one in it.findings if one.waiver is None and not it.policy.fails(one.severity)]


def accepted(it: Audit) -> list[Finding]:
    """Return the findings that a waiver covers."""
    return [one for one in it.findings if one.waiver]


def told(probe: str) -> Told:
    """Return a probe's words; of one that was installed, what can be said without knowing it."""
    general = "See this probe's own documentation for what its score means and what helps."
    return PROBES.get(
        probe, Told(f"What does the probe {probe} find?", f"The probe {probe} finds more than a guess would.", general)
    )


def whom(rung: str) -> str:
    """Return who stands on a rung, as words that end a sentence."""
    return WHOM.get(rung, f"whoever stands on the rung {rung}")


def to_do(it: Audit) -> list[str]:
    """Return what the owner should do, most urgent first."""
    found = failing(it)
    steps = list(dict.fromkeys(told(one.probe).remedy for one in found))
    if found and not it.trials:
        steps.append(STRONGER)
    if any(rung.unwitnessed for rung in it.rungs):
        steps.append(WITNESS)
    if any(rung.status != "aligned" and not rung.unwitnessed for rung in it.rungs):
        steps.append(MORE)
    steps += sorted(
        {f"{probe}, rung {rung}: {one.unfinished}." for (rung, probe), one in it.readings.items() if one.unfinished}
    )
    if lacking := sorted({f"{probe} needs {needs}" for _, probe, needs in it.not_run}):
        steps.append(f"Give what was missing, to have the rest measured: {'; '.join(lacking)}.")
    return [*steps, AGAIN]


def sure(score: Score) -> str:
    """Say in words what a score is, beside what a guess reaches."""
    if score.over == "enough":
        return f"sure with probability {score.value:.2f}, where {score.chance:.2f} is enough"
    if score.name == "correlation":
        return f"a resemblance of {score.value:.2f}, where chance reaches {score.chance:.2f}"
    if score.name.startswith("AUC"):
        return f"right in {_of_100(score.value)} comparisons, where a guess is right in {_of_100(score.chance)}"
    if score.name.startswith("secrets read"):
        others = f"{_of_100(score.chance)} that were never planted" if score.chance else "none that was never planted"
        return f"{round(score.value * score.n)} of {score.n} planted secrets read, and {others}"
    if score.name.startswith(SHARES):
        return f"right for {_of_100(score.value)} rows, where a guess is right for {_of_100(score.chance)}"
    if score.name.startswith("token F1"):
        return (
            f"agreement of {score.value:.2f} in words, where 1 is every word and what was recovered of other rows agrees to "
            f"{score.chance:.2f}"
        )
    return f"{clean(score.name)} of {score.value:.2f}, where a guess reaches {score.chance:.2f}"


def _of_100(share: float) -> str:
    return "fewer than 1 of 100" if 0 < share < 0.005 else f"{100 * share:.0f} of 100"


def shown(value: float | None) -> str:
    """Return a number as tables show it, "" for none."""
    return "" if value is None else f"{value:.3f}"


def clean(text: object) -> str:
    """Return one line of text that XML, SVG and tables can hold: names of stores and labels come from files."""
    return safe(text).strip()


def settings(it: Audit) -> list[tuple[str, str]]:
    """Return how many rows were used for what, and the settings, as names and values."""
    used = [(f"rows {name}", f"{count:,}") for name, count in it.settings.get("rows", {}).items()]
    chosen = [(name, str(it.settings[name])) for name in ("effort", "seed", "level") if name in it.settings]
    return [*used, *chosen, ("fails from", it.policy.fail_on), ("seconds", f"{it.seconds:.0f}")]
