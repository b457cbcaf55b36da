"""probes — contract, table and door: each sibling is one way to read a stolen space.

In    Stage         a rung's rows, beside the naive and the ideal ones
Out   Reading       scores beside their controls, and what else there is to tell
Uses  audit.ladder, audit.scores

A probe is a frozen dataclass whose fields are its settings. It never shows a text of the victim: `details` holds numbers, names
of labels, row numbers, and words of the reference. What was recovered of texts is apart, in `recovered`, and leaves an audit
only when its owner asks for it. Installed packages add theirs under the entry points `crossvec.probes`; the
name is the probe's, the value a class that can be made without arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, ClassVar, Literal, Protocol, cast, runtime_checkable

from crossvec.audit.ladder import Stage
from crossvec.audit.scores import Score
from crossvec.errors import UsageError, did_you_mean

__all__ = ["PROBES", "Probe", "Reading", "Recovered", "Severity", "create", "names", "redacted"]

Severity = Literal["low", "medium", "high", "critical"]


@dataclass(frozen=True)
class Recovered:
    """What an engine made of a row of the store: `text`, beside the row's own text where the owner gave it."""

    row: int
    engine: str
    text: str = field(repr=False)
    truth: str | None = field(repr=False)

    def to_json(self, show_text: bool = False) -> dict[str, Any]:
        """Return plain values; texts are told by their number of words unless `show_text`."""
        text, truth = (one if show_text or one is None else redacted(one) for one in (self.text, self.truth))
        return {"row": self.row, "engine": self.engine, "text": text, "truth": truth}


def redacted(text: str) -> str:
    """Return what stands for a text that is not shown."""
    count = len(text.split())
    return f"[redacted: {count} word{'' if count == 1 else 's'}]"


@dataclass(frozen=True)
class Reading:
    """What a probe found on a rung: its scores, the headline first, details as plain values, and texts it recovered.

    `unfinished` says why an attack was broken off; "" where it was not. Scores that are no finding then tell nothing.
    """

    scores: tuple[Score, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    recovered: tuple[Recovered, ...] = ()
    unfinished: str = ""


@runtime_checkable
class Probe(Protocol):
    """A frozen dataclass of settings with two methods.

    `rungs` are the rungs it has something to say on, `severity` is that of its findings. On a rung whose translator has failed
    its scores are told and nothing is claimed.
    """

    name: ClassVar[str]
    rungs: ClassVar[tuple[str, ...]]
    severity: ClassVar[Severity]

    def lacks(self, stage: Stage) -> str:
        """Return what is missing to run on this rung, as words that follow "needs"; "" when nothing is.

        Asked before the rung is climbed, so that nothing is learned in vain: no translator is there yet.
        """
        ...

    def measure(self, stage: Stage) -> Reading:
        """Attack, and score the attack. Called only where nothing is missing."""
        ...


PROBES: dict[str, str] = {
    "fingerprint": "crossvec.audit.probes.fingerprint:Fingerprinted",
    "alignment": "crossvec.audit.probes.alignment:Alignment",
    "attributes": "crossvec.audit.probes.attributes:Attributes",
    "membership": "crossvec.audit.probes.membership:Membership",
    "neighbours": "crossvec.audit.probes.neighbours:Neighbours",
    "inversion": "crossvec.audit.probes.inversion:Inversion",
    "canaries": "crossvec.audit.probes.canaries:Canaries",
}
"""Built-in probes by name, in the order they are told."""


def names() -> list[str]:
    """Return the names of all probes, built in and installed."""
    return [*PROBES, *sorted(e.name for e in entry_points(group="crossvec.probes") if e.name not in PROBES)]


def create(name: str) -> Probe:
    """Return a probe with its default settings; raises UsageError with the nearest name when there is none."""
    if name in PROBES:
        module, attribute = PROBES[name].split(":")
        return cast(Probe, getattr(import_module(module), attribute)())
    for entry in entry_points(group="crossvec.probes"):
        if entry.name == name:
            return cast(Probe, entry.load()())
    raise UsageError(f"there is no probe {name!r}", did_you_mean(name, names()))
