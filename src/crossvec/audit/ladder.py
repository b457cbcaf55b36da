"""ladder — the four rungs of an attacker's knowledge, and what the stolen rows look like from each of them.

In    Case, Split
Out   Stage       a rung's rows, in the space of a model the attacker has, beside the naive and the ideal ones
Uses  fitting, translator, metrics, inputs

    vectors   the vectors alone
    domain    and texts of the same kind, under a model the attacker has: a translator is learned without pairs
    pairs     and a few texts known to be in the store: the translator is learned from them too
    encoder   and the model that made the vectors: nothing need be translated
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32, Int

from crossvec import metrics
from crossvec.aligners import Effort, Status, Step
from crossvec.audit.canaries import rows_of
from crossvec.audit.inputs import Case, Split, centred, resized
from crossvec.audit.scores import LEVEL
from crossvec.encoders import Encoder
from crossvec.errors import UsageError
from crossvec.fitting import FEWEST_ROWS, fit
from crossvec.space import Space
from crossvec.translator import Translator

__all__ = ["HOLDS", "RUNGS", "Held", "Rung", "RungName", "Stage", "ahead", "allowed", "climb", "encoded", "ranks", "witnessed"]

RungName = Literal["vectors", "domain", "pairs", "encoder"]
RUNGS: tuple[RungName, ...] = ("vectors", "domain", "pairs", "encoder")
HOLDS: dict[str, str] = {
    "vectors": "the vectors alone",
    "domain": "the vectors, and other texts of the same kind",
    "pairs": "the vectors, other texts of the same kind, and a few texts known to be in the store",
    "encoder": "the vectors, and the model that made them",
}

CROWD = 20_000
"""Rows that are searched at most, of the store and of the reference."""

BEST = 0.1
"""Rows that land in this part of all rows around their match speak for a translator that has not learned from them."""

MOST = 0.5
"""With more than this share near their match, what an attack does not find there is taken for not there."""


@dataclass(frozen=True)
class Held:
    """What known pairs say of a translator that has not learned from them: how many of them land near their match."""

    near: int
    pairs: int

    @property
    def share(self) -> float:
        """Return the share that lands near."""
        return self.near / self.pairs

    @property
    def low(self) -> float:
        """Return the lower bound of the share."""
        return metrics.wilson(float(self.near), self.pairs, LEVEL)[0]

    @property
    def arrives(self) -> bool:
        """Tell whether surely more land near than would by chance."""
        return self.low > BEST

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"share": self.share, "low": self.low, "pairs": self.pairs}


@dataclass(frozen=True)
class Rung:
    """One rung as it was climbed: what the attacker holds, and the witnesses to where the rows arrived.

    `held` are pairs that the attacker held out, `own` the owner's texts of the scored rows, or else of canaries, which reach no
    attacker; None where there are none.
    """

    name: RungName
    translator: Translator | None = None
    held: Held | None = None
    own: Held | None = None
    seconds: float = 0.0

    @property
    def translates(self) -> bool:
        """Tell whether rows are translated on this rung, once it is climbed."""
        return self.name in ("domain", "pairs")

    @property
    def status(self) -> Status:
        """Return aligned where the rows arrived: by the owner's texts, else by pairs held out, else by the verdict.

        What leaks does not depend on whether the attacker can be sure of it: only without the owner's texts is that asked.
        Where some rows arrive and most do not it is uncertain: what is found counts, and what is not found is no all-clear. So
        is it where nobody can see whether rows lie where the model named puts their texts.
        """
        if self.own is not None:
            return "aligned" if self.own.low > MOST else "uncertain" if self.own.arrives else "failed"
        return "uncertain" if self.unwitnessed else self.attackers_status

    @property
    def unwitnessed(self) -> bool:
        """Tell whether the rows are taken for the named model's without a text that shows it: they may be rotated since."""
        return self.name == "encoder" and self.own is None

    @property
    def attackers_status(self) -> Status:
        """Return what the attacker can know of it; aligned where nothing need be translated."""
        if self.translator is None or (self.held is not None and self.held.arrives):
            return "aligned"
        return self.translator.status or "uncertain"

    @property
    def seeds(self) -> tuple[int, int]:
        """Return how many seeds were judged aligned, and how many were tried."""
        tried = self.translator.card.get("trace", ()) if self.translator else ()
        return sum(one["verdict"]["status"] == "aligned" for one in tried), len(tried)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        verdict = self.translator.verdict if self.translator else None
        converged, tried = self.seeds
        return {
            "rung": self.name,
            "holds": HOLDS[self.name],
            "status": None if self.name == "vectors" else self.status,
            "verdict": verdict.to_json() if verdict else None,
            "seeds": {"converged": converged, "tried": tried} if tried else None,
            "held_out_pairs": self.held.to_json() if self.held else None,
            "own_texts": self.own.to_json() if self.own else None,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, eq=False)
class Stage:
    """What a probe works with on one rung.

    `home` (m, d) are other texts' rows in the space where the attack is carried on, whose model is `encoder`; `attack` (s, d)
    the scored rows of the store as they lie there. `home_rows` says which rows of the reference they are. Home and encoder are
    None on the rung `vectors`, where there is no such space.
    """

    rung: Rung
    case: Case
    split: Split
    home: Float32[np.ndarray, "m d"] | None
    home_rows: Int[np.ndarray, " m"]
    encoder: Encoder | None
    seed: int

    @cached_property
    def attack(self) -> Float32[np.ndarray, "s d"]:
        """Return the scored rows as the attacker has them."""
        return self.translated(self.split.scored)

    @cached_property
    def crowd(self) -> Int[np.ndarray, " c"]:
        """Return the rows of the store that are searched: the scored ones, and others up to CROWD."""
        others = np.setdiff1d(self.split.present, self.split.scored)
        more = max(0, min(len(others), CROWD - len(self.split.scored)))
        drawn = np.random.default_rng(self.seed).choice(others, more, replace=False)
        return np.sort(np.concatenate([self.split.scored, drawn]))

    def translated(self, rows: Int[np.ndarray, " k"]) -> Float32[np.ndarray, "k d"]:
        """Return these rows of the store as the attacker has them."""
        stolen = self.case.victim.take(rows).array()
        return stolen if self.rung.translator is None else self.rung.translator.translate(stolen)

    def naive(self, rows: Int[np.ndarray, " k"]) -> Float32[np.ndarray, "k d"] | None:
        """Return these rows untranslated, cut or filled to the space's width; None where nothing is translated anyway."""
        if self.rung.translator is None or self.home is None:
            return None
        return resized(self.case.victim.take(rows).array(), self.home.shape[1])

    @property
    def ideal(self) -> Float32[np.ndarray, "s d"] | None:
        """Return where the scored rows' own texts lie: what a perfect translation gives. None where texts are not known."""
        return None if self.rung.translator is None else self.true

    @cached_property
    def true(self) -> Float32[np.ndarray, "s d"] | None:
        """Return the rows of the scored texts under `encoder`; None where there is none, or the texts are not known."""
        if self.encoder is None or self.case.texts is None:
            return None
        return encoded(self.encoder, self.case.texts_of(self.split.scored))

    @cached_property
    def ranks(self) -> metrics.Ranks | None:
        """Return where each scored row's own text stands among all of theirs; None where the texts are not known."""
        return None if self.true is None else ranks(self.attack, self.true)

    def arms(self) -> dict[str, Float32[np.ndarray, "s d"]]:
        """Return the scored rows by arm, attack first, each as unit directions from its own mean."""
        given = {"attack": self.attack, "naive": self.naive(self.split.scored), "ideal": self.ideal}
        return {name: centred(rows) for name, rows in given.items() if rows is not None}


def allowed(case: Case) -> list[RungName]:
    """Return the rungs that a case has the inputs for, lowest first."""
    has = {
        "vectors": True,
        "domain": case.reference is not None and len(_readable("domain", case)) >= FEWEST_ROWS,
        "pairs": case.pairs is not None,
        "encoder": case.own_encoder is not None,
    }
    return [name for name in RUNGS if has[name]]


def ahead(name: RungName, case: Case, split: Split, seed: int) -> Stage:
    """Return a rung before it is climbed: all that its attacker has but what is to be learned; its rows are untranslated.

    Raises UsageError where the rung needs a reference and there is none.
    """
    if name == "vectors":
        return Stage(Rung(name), case, split, None, np.empty(0, np.int64), None, seed)
    home, model = None, case.own_encoder if name == "encoder" else case.encoder
    home_rows = np.sort(np.random.default_rng(seed).permutation(_readable(name, case))[:CROWD])
    if name != "encoder":
        if case.reference is None:
            raise UsageError(f"the rung {name} needs a reference", "give it with --reference")
        home = case.reference.take(home_rows).array()
    elif model is not None and case.reference_texts is not None:
        home = encoded(model, [case.reference_texts[row] for row in home_rows])
    return Stage(Rung(name), case, split, home, home_rows, model, seed)


def climb(
    name: RungName, case: Case, split: Split, *, effort: Effort, seed: int, max_rows: int, device: str, progress: Step
) -> Stage:
    """Learn what an attacker on this rung can, from the rows that are in the store, and return how they look from there."""
    started = time.perf_counter()
    stage = ahead(name, case, split, seed)
    if not stage.rung.translates or case.reference is None:
        return witnessed(replace(stage, rung=_timed(stage.rung, started)))
    stolen, reference, known = case.victim.take(split.present), case.reference.take(_readable(name, case)), None
    if name == "pairs" and case.pairs is not None:
        known = np.stack([np.searchsorted(split.present, case.pairs[:, 0]), case.pairs[:, 1]], axis=1)
    given: dict[str, Any] = {"effort": effort, "seed": seed, "max_rows": max_rows, "device": device, "progress": progress}
    translator = fit(stolen, reference, pairs=known, **given)
    held = None if known is None else _held_out(stolen, reference, known, given)
    return witnessed(replace(stage, rung=_timed(Rung(name, translator, held), started)))


def _readable(name: RungName, case: Case) -> Int[np.ndarray, " r"]:
    """Return the rows of the reference that this rung's attacker has: on the rung `domain` none that is in the store too."""
    every = np.arange(0 if case.reference is None else len(case.reference))
    return np.setdiff1d(every, case.pairs[:, 1]) if name == "domain" and case.pairs is not None else every


def encoded(encoder: Encoder, texts: Sequence[str]) -> Float32[np.ndarray, "k d"]:
    """Return the rows of texts; a text in which the model knows nothing has a row of zeros."""
    return np.asarray(encoder.encode(list(texts)), np.float32)


def _held_out(stolen: Space, reference: Space, known: Int[np.ndarray, "p 2"], given: dict[str, Any]) -> Held | None:
    """Return how many pairs land near their match, each under a map learned from the other half; None with too few."""
    if len(known) < 8:
        return None
    near = 0
    drawn = reference.sample(CROWD, given["seed"]).array()
    mean = drawn.mean(0)
    crowd = torch.from_numpy(centred(drawn, mean))
    for learned, scored in ((known[::2], known[1::2]), (known[1::2], known[::2])):
        half = fit(stolen, reference, "procrustes", pairs=learned, **{**given, "effort": "quick"})
        landed = torch.from_numpy(centred(half.translate(stolen.take(scored[:, 0]).array()), mean))
        match = torch.from_numpy(centred(reference.take(scored[:, 1]).array(), mean))
        own = (landed * match).sum(1, keepdim=True)
        nearer = (landed @ crowd.T > own + metrics.TIE).double().mean(1)
        near += int((nearer < BEST).sum())
    return Held(near, len(known))


def ranks(rows: Float32[np.ndarray, "s d"], true: Float32[np.ndarray, "s d"]) -> metrics.Ranks:
    """Return where each row's true one stands among all true ones, both seen from their own mean."""
    clouds = (torch.from_numpy(centred(one)) for one in (rows, true))
    return metrics.retrieve(*clouds, csls_neighbours=0).plain.forward


def witnessed(stage: Stage) -> Stage:
    """Return the stage whose rung knows what the owner's texts say of it, where there are any."""
    seen = _of_canaries(stage) if stage.ranks is None and stage.rung.unwitnessed else stage.ranks
    if seen is None:
        return stage
    near = int(seen.hits(max(1, int(BEST * seen.pool))).sum())
    return replace(stage, rung=replace(stage.rung, own=Held(near, seen.pool)))


def _of_canaries(stage: Stage) -> metrics.Ranks | None:
    """Return where the rows of planted canaries stand among the rows of their texts; None where the store holds none."""
    planted, encoder = stage.case.planted, stage.encoder
    if planted is None or encoder is None:
        return None
    which, rows = rows_of(planted, stage.case.victim)
    if not len(which):
        return None
    return ranks(stage.translated(rows), encoded(encoder, [planted.canaries[number].text for number in which]))


def _timed(rung: Rung, started: float) -> Rung:
    return replace(rung, seconds=time.perf_counter() - started)
