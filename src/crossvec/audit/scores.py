"""scores — a number that an attack reached, what reaches it without looking, and whether the difference is more than luck.

In    one value a row (n,), or the scores of positives (p,) and negatives (q,)
Out   Score       value, interval, controls, and the lift over the best blind control with its interval
Uses  metrics
Paper AUC as the Mann-Whitney statistic and its deviation under no difference: Hanley and McNeil 1982, section "meaning"

A blind control is a guess that does not look at the vectors: chance, the commonest answer, the answers of other rows. The lift
is taken over the best of them, row by row, and findings are gated on its lower bound. The other controls are told beside it and
gate nothing: `naive`, the vectors compared as they are, is itself an attack, and `ideal` is what a perfect translation gives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np
from jaxtyping import Float

from crossvec import metrics

__all__ = ["FEWEST", "LEVEL", "Score", "area", "certainty", "share"]

LEVEL = 0.99
"""Level of every interval of an audit. One audit gates up to a dozen numbers, each of which errs on one side in 1 of 200."""

RESAMPLES = 2000  # ten of them lie beyond each bound

FEWEST = 10
"""Fewer positives or negatives than this make no area: its normal interval would be too short."""


@dataclass(frozen=True)
class Score:
    """What an attack reached, beside its controls.

    `low` and `high` bound `value`; `lift`, `lift_low` and `lift_high` the difference to the control named by `over`, the best
    blind one, whose value is `chance`. `controls` holds every control by name; `lifts` what those lift that have a blind guess
    of their own. `gates`: a lower bound of the lift above the policy's threshold is a finding. `sure`: the blind control is
    where doubt ends, so that no threshold is laid on top of it.
    """

    name: str
    value: float
    low: float
    high: float
    chance: float
    over: str
    lift: float
    lift_low: float
    lift_high: float
    n: int
    controls: Mapping[str, float] = field(default_factory=dict)
    lifts: Mapping[str, float] = field(default_factory=dict)
    gates: bool = True
    sure: bool = False

    @classmethod
    def against(cls, over: str, chance: float, name: str, value: float, low: float, high: float, n: int, **more: Any) -> Score:
        """Return the score of an attack whose blind control is one number: the lift is as sure as the value."""
        return cls(name, value, low, high, chance, over, value - chance, low - chance, high - chance, n, **more)

    def above(self, threshold: float) -> bool:
        """Tell whether the score is surely more than the best blind control, by more than a policy tolerates."""
        return self.gates and self.lift_low > (0.0 if self.sure else threshold)

    def lift_of(self, control: str) -> float | None:
        """Return the lift of a control over its own blind guess, or over this score's where it has none; None if not known."""
        value = self.controls.get(control)
        return None if value is None else self.lifts.get(control, value - self.chance)

    @property
    def of_ideal(self) -> float | None:
        """Return the share of the ideal's lift that was reached, or None where the ideal is not known or has no lift."""
        ideal = self.lift_of("ideal")
        return None if ideal is None or ideal <= 0 else self.lift / ideal

    def to_json(self) -> dict[str, Any]:
        """Return plain values under the names of the contract for scripts."""
        return {
            "name": self.name,
            "score": self.value,
            "low": self.low,
            "high": self.high,
            "chance": self.chance,
            "controls": dict(self.controls),
            "lift": {"value": self.lift, "low": self.lift_low, "high": self.lift_high, "over": self.over},
            "control_lifts": {name: lift for name in ("naive", "ideal") if (lift := self.lift_of(name)) is not None},
            "of_ideal": self.of_ideal,
            "n": self.n,
            "level": LEVEL,
        }


def share(
    name: str,
    hits: Float[np.ndarray, " n"],
    blind: Mapping[str, Float[np.ndarray, " n"]],
    seen: Mapping[str, float | None] | None = None,
    *,
    seed: int = 0,
    gates: bool = True,
) -> Score:
    """Score an attack by what it got right: `hits` from 0 to 1 for each row.

    `blind` holds, for each blind control, its expected hits on the same rows; `seen` further controls as plain values, None
    where unknown. The interval is Wilson's, which is conservative for fractions; the lift's is a bootstrap over rows.
    """
    n = len(hits)
    over, guessed = max(blind.items(), key=lambda one: float(one[1].mean()))
    lift = hits - guessed
    bounds = metrics.bootstrap(lift[:, None], RESAMPLES, LEVEL, seed)[0]
    low, high = metrics.wilson(float(hits.sum()), n, LEVEL)
    controls = {key: float(values.mean()) for key, values in blind.items()} | _known(seen)
    return Score(
        name,
        float(hits.mean()),
        low,
        high,
        float(guessed.mean()),
        over,
        float(lift.mean()),
        float(bounds[0]),
        float(bounds[1]),
        n,
        controls,
        gates=gates,
    )


def area(
    name: str,
    positives: Float[np.ndarray, " p"],
    negatives: Float[np.ndarray, " q"],
    seen: Mapping[str, float | None] | None = None,
    *,
    tests: int = 1,
    gates: bool = True,
) -> Score:
    """Score an attack by the chance that a positive stands above a negative, ties counted half; 0.5 is guessing.

    The interval uses the deviation that the area has when there is no difference, the widest there is for areas far from one
    half; `tests` areas looked at together share its error (Bonferroni). Needs FEWEST values on each side.
    """
    p, q = len(positives), len(negatives)
    value = area_under(positives, negatives)
    deviation = math.sqrt((p + q + 1) / (12 * p * q))
    half = NormalDist().inv_cdf(1 - (1 - LEVEL) / 2 / tests) * deviation
    controls = {"shuffled": 0.5, **_known(seen)}
    low, high = max(0.0, value - half), min(1.0, value + half)
    return Score.against("shuffled", 0.5, name, value, low, high, p + q, controls=controls, gates=gates)


def certainty(name: str, probability: float, enough: float) -> Score:
    """Score a calibrated probability that has no interval of its own; its blind control is the least that counts as sure."""
    return Score.against(
        "enough", enough, name, probability, probability, probability, 1, controls={"enough": enough}, sure=True
    )


def area_under(positives: Float[np.ndarray, " p"], negatives: Float[np.ndarray, " q"]) -> float:
    """Return the share of pairs in which the positive is larger, ties counted half."""
    ordered = np.sort(negatives)
    below = np.searchsorted(ordered, positives, "left") + np.searchsorted(ordered, positives, "right")
    return float(below.mean() / 2 / len(negatives))


def caught(
    positives: Float[np.ndarray, " p"], negatives: Float[np.ndarray, " q"], most_false: float
) -> Float[np.ndarray, " p"]:
    """Return 1 for each positive above a threshold that at most a share `most_false` of the negatives exceeds, else 0."""
    allowed = int(most_false * len(negatives))
    threshold = np.sort(negatives)[::-1][allowed]
    above: np.ndarray = (positives > threshold).astype(np.float64)
    return above


def _known(seen: Mapping[str, float | None] | None) -> dict[str, float]:
    return {key: value for key, value in (seen or {}).items() if value is not None}
