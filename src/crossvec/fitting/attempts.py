"""attempts — one aligner under one seed: fit, judged, and met with known pairs where there are some.

In    an Aligner; x (n, dx), y (m, dy) float32, centred, rows of unit length; perhaps pairs (p, 2)
Out   Attempt               what came out, how long it took, and what the card keeps of it
Uses  aligners, aligners.heldout, verdict
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from crossvec.aligners import Aligner, Alignment, Map, Step
from crossvec.aligners.heldout import Carries, HeldOut, held_out
from crossvec.errors import UsageError
from crossvec.verdict import Verdict, judge


@dataclass(frozen=True, eq=False)
class Attempt:
    """One aligner under one seed, with what came out and how long it took.

    `held_out` is how known pairs are met that the map did not learn from; None where there are fewer than three, and of vec2vec
    with pairs, whose training is not done twice. `seen` is what vec2vec and the map before it are compared by.
    """

    aligner: Aligner
    alignment: Alignment
    verdict: Verdict
    seconds: float
    held_out: HeldOut | None
    seen: Sequence[Mapping[str, float]] = ()

    def merit(self, carries: Carries) -> tuple[float, float]:
        """Return what the attempts of one fit are compared by: known pairs where there are any, then the verdict."""
        return merit(self.held_out, carries), self.verdict.probability

    def record(self) -> dict[str, Any]:
        """Return what the card keeps of it."""
        return {
            "aligner": self.aligner.name,
            "settings": settings_of(self.aligner),
            "seconds": round(self.seconds, 3),
            "verdict": self.verdict.to_json(),
            "held_out": self.held_out.to_json() if self.held_out else None,
            **({"label_free": [dict(one) for one in self.seen]} if self.seen else {}),
            "evidence": dict(self.alignment.evidence),
            "steps": [dict(step) for step in self.alignment.trace],
        }


def compared_on(
    paired: Sequence[Aligner], x: Tensor, y: Tensor, known: Int[np.ndarray, "p 2"], seed: int, step: Step
) -> list[tuple[Aligner, HeldOut | None]]:
    """Return how each of several paired aligners meets pairs held out; the same pairs for all."""
    pairs, found = torch.from_numpy(known).to(x.device), []
    for number, one in enumerate(paired):
        step(f"comparing {one.name} on pairs held out", number / len(paired))
        found.append((one, held_out(partial(_learned, one, x, y), x, y, pairs, seed=seed)))
    return found


def _learned(one: Aligner, x: Tensor, y: Tensor, pairs: Tensor) -> Alignment:
    return one.fit(x, y, pairs=pairs)


def merit(held: HeldOut | None, carries: Carries) -> float:
    """Return by what one map is better than another on pairs held out: the higher the better, and -inf without any."""
    return -held.rank(carries) if held else -math.inf


def attempted(
    one: Aligner,
    x: Tensor,
    y: Tensor,
    known: Int[np.ndarray, "p 2"] | None,
    found: HeldOut | None,
    step: Step,
    *,
    seed: int,
) -> Attempt:
    """Fit and judge; `found` is what was found on pairs held out already."""
    started = time.perf_counter()
    pairs = None if known is None else torch.from_numpy(known).to(x.device)
    own = int(getattr(one, "seed", 0))
    told = {"verdict": _sure(x, y, own)} if getattr(one, "tells_verdict", False) else {}
    alignment = one.fit(x, y, pairs=pairs if _learns_from_pairs(one) else None, progress=step, **told)
    _refuse_broken(one.name, alignment, x, y)
    step("judging", 1.0)
    verdict = judge(x, y, alignment, seed=own)
    if pairs is not None and found is None and not getattr(one, "uses_pairs", False):
        step("meeting pairs held out", 1.0)
        learn = partial(_learned, one, x, y) if one.needs_pairs else lambda _: alignment
        found = held_out(learn, x, y, pairs, seed=seed)
    return Attempt(one, alignment, verdict, time.perf_counter() - started, found)


def _refuse_broken(name: str, alignment: Any, x: Tensor, y: Tensor) -> None:
    """Raise UsageError for what an aligner must not return, so that the plug-in is named, and no product deep inside of us."""
    told, hint = f"the aligner {name} breaks the contract of aligners", "see docs/plugins.md, or tell who wrote it"
    if not isinstance(alignment, Alignment):
        raise UsageError(f"{told}: its fit returned {type(alignment).__name__}, no Alignment", hint)
    for which, map_, rows, dim in (("map", alignment.map, x, y.shape[1]), ("inverse", alignment.inverse, y, x.shape[1])):
        try:
            given = map_(rows[:2].clone())
        except Exception as problem:
            raise UsageError(f"{told}: its {which} fails on rows: {' '.join(str(problem).split())[:200]}", hint) from problem
        if given.shape != (min(2, len(rows)), dim) or given.dtype != torch.float32 or given.requires_grad:
            grown = ", with a gradient" if given.requires_grad else ""
            raise UsageError(f"{told}: its {which} gives {given.dtype} of shape {tuple(given.shape)}{grown}", hint)


def trained_from(found: Attempt, x: Tensor, y: Tensor, seed: int, step: Step) -> tuple[Attempt, Attempt, bool]:
    """Return an attempt with what is seen of it without pairs, vec2vec's from its rotation on, and whether that helps.

    A sick training, or one with a verdict that is lower, does not help.
    """
    from crossvec.aligners.vec2vec import Vec2Vec
    from crossvec.aligners.vec2vec.after import helps, rotation, seen

    started = time.perf_counter()
    one = Vec2Vec(seed=seed)
    start = rotation(x, y, found.alignment)
    alignment = one.fit(
        x, y, start=start, verdict=_sure(x, y, seed), progress=lambda doing, part: step(f"vec2vec: {doing}", part)
    )
    verdict = judge(x, y, alignment, seed=seed)
    before, after = (seen(x, y, it, seed=seed) for it in (found.alignment, alignment))
    trained = Attempt(one, alignment, verdict, time.perf_counter() - started, None, after)
    healthy = alignment.evidence["healthy"] > 0 and verdict.status == "aligned"
    return replace(found, seen=before), trained, healthy and helps(before, after)


def _sure(x: Tensor, y: Tensor, seed: int) -> Callable[[Map], float]:
    """Return what gives the verdict's probability of a map that is still being learned."""
    return lambda map_: judge(x, y, Alignment(map_, map_), seed=seed).probability


def _learns_from_pairs(one: Aligner) -> bool:
    return one.needs_pairs or getattr(one, "uses_pairs", False)


def settings_of(one: Aligner) -> dict[str, Any]:
    """Return an aligner's settings as the card keeps them."""
    return asdict(cast(Any, one)) if is_dataclass(one) else {}
