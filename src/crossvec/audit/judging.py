"""judging — text inversion whose results somebody reads: a rule, or a language model behind an address.

In    Stage, and a Judge
Out   Reading     inversion's, with two scores more for each engine, and who judged
Uses  audit.judge, audit.probes.inversion
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from crossvec.audit.judge import Judge, LocalJudge, judged
from crossvec.audit.ladder import Stage
from crossvec.audit.probes import Reading
from crossvec.audit.probes.inversion import Inversion

__all__ = ["JudgedInversion"]


@dataclass(frozen=True)
class JudgedInversion(Inversion):
    """Inversion, read by `judge`. What it says gates nothing before the measures do: its scores stand after theirs."""

    judge: Judge = field(default_factory=LocalJudge)

    def measure(self, stage: Stage) -> Reading:
        found = Inversion.measure(self, stage)
        if not found.scores:  # no true texts to judge by
            return found
        scores = list(found.scores)
        for engine in dict.fromkeys(one.engine for one in found.recovered):
            read = [(one.truth, one.text) for one in found.recovered if one.engine == engine and one.truth]
            truths, guesses = ([pair[side] for pair in read] for side in (0, 1))
            said = judged(self.judge, truths, guesses, stage.seed)
            scores += [replace(one, name=f"{one.name} ({engine})") for one in said]
        return replace(found, scores=tuple(scores), details={**found.details, "judge": self.judge.name})
