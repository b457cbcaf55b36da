"""canaries — look for secrets that the owner planted in what is recovered from the rows that hold them.

In    Stage; the planted canaries of its case, whose rows are in the store
Out   Reading       the share of canaries recovered, beside others that were made alike and never planted
Uses  audit.canaries, audit.probes.inversion
Paper a secret that nobody can guess proves what was read: Carlini et al. 2019, The Secret Sharer, arXiv:1802.08232
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from crossvec import metrics
from crossvec.audit.canaries import Sighting, in_texts, rows_of
from crossvec.audit.inputs import centred
from crossvec.audit.ladder import Stage
from crossvec.audit.probes import Reading, Recovered, Severity
from crossvec.audit.probes.inversion import Inversion, known_on
from crossvec.audit.scores import LEVEL, Score


@dataclass(frozen=True)
class Canaries:
    """The rows of planted secrets, inverted as `inversion` inverts any, and searched for the secrets and their names."""

    name: ClassVar[str] = "canaries"
    rungs: ClassVar[tuple[str, ...]] = ("domain", "pairs", "encoder")
    severity: ClassVar[Severity] = "critical"

    inversion: Inversion = field(default_factory=Inversion)

    def lacks(self, stage: Stage) -> str:
        if stage.case.planted is None:
            return "secrets that were planted: crossvec canary plant, and then --canaries FILE"
        if not len(rows_of(stage.case.planted, stage.case.victim)[0]):
            return "a store that holds the planted rows: it has none of their ids"
        return self.inversion.lacks(stage)

    def measure(self, stage: Stage) -> Reading:
        planted = stage.case.planted
        if planted is None:
            raise ValueError("the probe lacks canaries")  # `lacks` says so first
        which, rows = rows_of(planted, stage.case.victim)
        known, mean = known_on(stage), stage.attack.mean(0)  # so few rows have a mean of their own
        arms = {"attack": centred(stage.translated(rows), mean)}
        told: list[dict[str, Any]] = []
        texts: list[str] = []
        recovered: list[Recovered] = []
        for written in self.inversion.written(known, arms, stage.seed):
            told.append(written.to_json())
            texts += written.texts["attack"]
            recovered += [
                Recovered(int(row), written.engine, text, planted.canaries[number].text)
                for number, row, text in zip(which, rows, written.texts["attack"], strict=True)
            ]
        seen = in_texts(planted, texts, "the recovered texts")
        by = {how: sum(one.by == how for one in seen.seen) for how in ("secret", "name")}
        details = {"rows": len(rows), "by": by, "cosine_reached": told, "control": seen.to_json()["control"]}
        return Reading((_score(seen),), details, tuple(recovered), self.inversion.cut_short(told))


def _score(seen: Sighting) -> Score:
    """Return the share of canaries that was read; what was never planted is the blind guess, as `canary verify` judges it."""
    share = len(seen.seen) / seen.planted
    low, high = metrics.wilson(float(len(seen.seen)), seen.planted, LEVEL)
    # One secret that was read is proof where none is read that was not planted; else more must be than those allow for.
    chance = seen.false_high if seen.strangers_seen else 0.0
    return Score.against(
        "never planted", chance, "secrets read", share, low, high, seen.planted, controls={"never planted": chance}
    )
