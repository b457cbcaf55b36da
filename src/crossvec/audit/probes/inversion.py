"""inversion — look for the texts behind stolen rows, with nothing learned from the rows themselves.

In    Stage         its encoder, the reference's texts; the victim's own texts score what is found
Out   Reading       leakage measures of each engine beside naive and ideal; the recovered texts, apart from the details
Uses  audit.inversion, audit.leakage
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int

from crossvec.audit import inversion
from crossvec.audit.inversion import Budget, Inverter, Known, Targets
from crossvec.audit.ladder import Stage
from crossvec.audit.leakage import measures, words
from crossvec.audit.probes import Reading, Recovered, Severity
from crossvec.audit.scores import FEWEST, Score
from crossvec.errors import UsageError


@dataclass(frozen=True)
class Inversion:
    """Text inversion of `documents` rows, drawn by seed, by each of the `engines` that can run.

    `budget_seconds` are shared by engines and arms; where they are not enough the result is what was found by then, and depends
    on the machine. `model` is a causal language model for the engine `language`, a folder or a name of the Hugging Face hub,
    fetched only with `download`. Unless `engines` says otherwise that engine runs only where there is a model: the one learned
    here from the reference's texts is weak.
    """

    name: ClassVar[str] = "inversion"
    rungs: ClassVar[tuple[str, ...]] = ("domain", "pairs", "encoder")
    severity: ClassVar[Severity] = "critical"

    engines: tuple[str, ...] | None = None
    documents: int = 100
    budget_seconds: float = 60.0
    model: str | None = None
    download: bool = False
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.documents < FEWEST:
            raise UsageError(f"{self.documents} documents say nothing about leakage", f"use {FEWEST} or more, better 100")
        if not self.budget_seconds >= 0:
            raise UsageError(f"a budget of {self.budget_seconds} seconds is not possible", "use 0 or more")
        self._engines()

    def lacks(self, stage: Stage) -> str:
        if stage.encoder is None:
            return "the model of the space, to try texts with"
        known = known_on(stage)
        needs = [engine.lacks(known) for engine in self._engines()]
        return "" if "" in needs else ", or ".join(dict.fromkeys(needs))

    def measure(self, stage: Stage) -> Reading:
        drawn = np.sort(np.random.default_rng(stage.seed).permutation(len(stage.split.scored))[: self.documents])
        arms = {name: rows[drawn] for name, rows in stage.arms().items()}
        rows = stage.split.scored[drawn]
        truths = stage.case.texts_of(rows) if stage.case.texts is not None else None
        scored = truths is not None and sum(bool(words(text)) for text in truths) >= FEWEST
        scores: list[Score] = []
        recovered: list[Recovered] = []
        told: list[dict[str, Any]] = []
        known = known_on(stage)
        for written in self.written(known, arms, stage.seed):
            told.append(written.to_json())
            recovered += _recovered(rows, written.engine, written.texts["attack"], truths)
            if truths is not None and scored:
                scores += _scores(written.engine, truths, written.texts, known, stage.seed)
        details: dict[str, Any] = {"documents": len(rows), "cosine_reached": told, "reference_texts": len(known.texts)}
        unscored = truths is not None and not scored
        why = f"fewer than {FEWEST} of the texts hold a word: nothing tells what was recovered" if unscored else ""
        return Reading(tuple(scores), details, tuple(recovered), why or self.cut_short(told))

    def written(self, known: Known, arms: dict[str, Targets], seed: int) -> Iterator[Written]:
        """Yield what each engine that can run writes for the targets of each arm, the attack first, within the budget."""
        engines = [engine for engine in self._engines() if not engine.lacks(known)]
        budget, todo = Budget(self.budget_seconds), len(engines) * len(arms)
        for engine in engines:
            none = next(iter(arms.values()))[:0]
            engine.invert(none, known, budget=budget, seed=seed)  # gets ready, so that no arm pays for all
            made = Written(engine.name, getattr(engine, "writer", None), {}, {}, {})
            for arm, targets in reversed(arms.items()):  # the attack last: it has the time that the controls have left
                share = budget.part(1 / todo)
                made.texts[arm] = engine.invert(targets, known, budget=share, seed=seed)
                made.finished[arm] = not share.spent
                made.reached[arm] = _reached(made.texts[arm], targets, known)
                todo -= 1
            yield made

    def cut_short(self, told: list[dict[str, Any]]) -> str:
        """Return why engines were broken off before they were done with the attack, "" where none was."""
        names = [line["engine"] for line in told if not line["attack_finished"]]
        if not names:
            return ""
        given = f"{self.budget_seconds:g} seconds were not enough for {', '.join(names)}"
        return f"{given}, and more can be recovered: give more with --budget-seconds"

    def _engines(self) -> list[Inverter]:
        """Return the engines asked for; raises UsageError for a name that is none."""
        asked = self.engines or ("static", "retrieval", *(("language",) if self.model else ()))
        own = {"model": self.model, "download": self.download, "device": self.device}
        return [inversion.create(name, **(own if name == "language" else {})) for name in asked]


@dataclass(frozen=True)
class Written:
    """What an engine wrote, by arm: texts, whether the time was enough, and the mean cosine that the texts reach."""

    engine: str
    writer: str | None
    texts: dict[str, list[str]]
    finished: dict[str, bool]
    reached: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return what can be told without a text."""
        done = {"finished": all(self.finished.values()), "attack_finished": self.finished["attack"]}
        return {"engine": self.engine, "proposes": self.writer, **done, **self.reached}


def known_on(stage: Stage) -> Known:
    """Return what the attacker has on this rung."""
    if stage.encoder is None:
        raise ValueError("the probe lacks an encoder")  # `lacks` says so first
    texts = stage.case.reference_texts
    if stage.home is None:
        return Known.of(stage.encoder, stage.translated(stage.crowd))
    return Known.of(stage.encoder, stage.home, None if texts is None else [texts[row] for row in stage.home_rows], stage.seed)


def _reached(texts: list[str], targets: Targets, known: Known) -> float:
    """Return the mean cosine of what was found to what was looked for: all that an attacker sees of its success."""
    return float(np.einsum("sd,sd->s", known.directions(texts), targets).mean())


def _recovered(rows: Int[np.ndarray, " s"], engine: str, found: list[str], truths: list[str] | None) -> list[Recovered]:
    owned = truths if truths is not None else [None] * len(rows)
    return [Recovered(int(row), engine, text, truth) for row, text, truth in zip(rows, found, owned, strict=True)]


def _scores(engine: str, truths: list[str], found: dict[str, list[str]], known: Known, seed: int) -> list[Score]:
    """Return the measures of the attack, each with the value that the other arms have among its controls."""
    by_arm = {arm: measures(truths, texts, encoder=known.encoder, seed=seed) for arm, texts in found.items()}
    rest = {arm: {score.name: score for score in scores} for arm, scores in by_arm.items() if arm != "attack"}
    scored = []
    for score in by_arm["attack"]:
        seen = {arm: own[score.name] for arm, own in rest.items() if score.name in own}
        controls = {**score.controls, **{arm: one.value for arm, one in seen.items()}}
        # Each arm writes in a manner of its own, which other rows' texts share: its lift is over those.
        lifts = {arm: one.lift for arm, one in seen.items()}
        scored.append(replace(score, name=f"{score.name} ({engine})", controls=controls, lifts=lifts))
    return scored
