"""evaluation — score a translator on pairs, beside the controls that a good number must beat.

In    translator, source Space (n, dx), target Space (n, dy)   row i is the same thing in both
Out   Scores                                                   both directions, intervals, CSLS, controls, ceiling
Uses  space, pairing, metrics, geometry, aligners (what progress is)

Retrieval is scored in the target's centred frame: rows minus the mean of the translator's target frame, scaled to unit length.
Raw cosine is reported beside it because others report it; in an anisotropic space it is high for any map, the mean included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from crossvec import metrics
from crossvec.aligners import Step, silent
from crossvec.errors import SettingError, SpaceError, TranslatorError
from crossvec.geometry import resized, unit
from crossvec.pairing import joined, two_ids
from crossvec.space import Space, require_space

__all__ = ["Direction", "Framed", "Ranking", "Scores", "Translates", "evaluate"]

SMALL_POOL = 100
"""Below this, chance is above 1 % and a top-1 of one half has an interval wider than 0.2."""

Interval = tuple[float, float]
Search = Callable[..., metrics.Retrieval]
"""What `metrics.retrieve` is: (queries (n, d), pool (n, d), csls_neighbours=, progress=) -> Retrieval."""


@runtime_checkable
class Framed(Protocol):
    """What a translator knows of a space."""

    @property
    def mean(self) -> Any:
        """The mean row (d,), a tensor or an array."""
        ...


@runtime_checkable
class Translates(Protocol):
    """What can be evaluated. A method `inverse()` that returns one more of these is scored too where there is one."""

    @property
    def source(self) -> Framed:
        """The frame that rows come from."""
        ...

    @property
    def target(self) -> Framed:
        """The frame that rows are carried to."""
        ...

    def translate(self, rows: Float[np.ndarray, "k dx"]) -> Float[np.ndarray, "k dy"]:
        """Carry rows across, float32 to float32."""
        ...


@dataclass(frozen=True)
class Ranking:
    """Retrieval under one scoring rule; conventions (ties, rank 1 best, FOSCTTM) are those of `metrics`.

    `top` holds the share of hits by k; `intervals` 95 % intervals by name: Wilson for shares of hits, bootstrap for means.
    """

    top: Mapping[int, float]
    mean_rank: float
    foscttm: float
    intervals: Mapping[str, Interval]

    @property
    def top1(self) -> float:
        """Return the share of rows whose true match ranks first."""
        return self.top[1]

    @property
    def top10(self) -> float:
        """Return the share of rows whose true match ranks among the first ten."""
        return self.top[10]

    def to_json(self) -> dict[str, Any]:
        """Return plain values under the names of the contract for scripts."""
        tops = {f"top{k}": share for k, share in self.top.items()}
        intervals = {name: list(bounds) for name, bounds in self.intervals.items()}
        return {**tops, "mean_rank": self.mean_rank, "foscttm": self.foscttm, "intervals": intervals}


@dataclass(frozen=True)
class Direction(Ranking):
    """One direction of retrieval by plain cosine, with the mean raw and centred cosine of true pairs, and CSLS beside it."""

    cosine: float
    cosine_centred: float
    csls: Ranking | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values under the names of the contract for scripts."""
        plain = super().to_json()
        intervals = plain.pop("intervals")
        csls = {"csls": self.csls.to_json()} if self.csls else {}
        return {**plain, "cosine": self.cosine, "cosine_centred": self.cosine_centred, "intervals": intervals, **csls}


@dataclass(frozen=True)
class Scores:
    """How well a translator does on a pool of pairs.

    `forward`: translated rows look for their target rows; `backward`: target rows look for their translated rows. `inverse`:
    target rows carried back by the translator's inverse look for their source rows, in the source's frame. `ceiling`: forward
    and backward of another translator on the same pool, as a rule one fitted with pairs. `left_out` pairs are not in the pool
    because a row of theirs was bad and had been left out.
    """

    pool: int
    forward: Direction
    backward: Direction
    controls: Mapping[str, Direction]
    inverse: Direction | None = None
    ceiling: tuple[Direction, Direction] | None = None
    warnings: tuple[str, ...] = ()
    left_out: int = 0

    @property
    def chance(self) -> float:
        """Return the top-1 of guessing."""
        return 1 / self.pool

    @property
    def share_of_ceiling(self) -> float | None:
        """Return forward top-1 over the ceiling's, or None without a ceiling that hits anything."""
        return self.forward.top1 / self.ceiling[0].top1 if self.ceiling and self.ceiling[0].top1 > 0 else None

    def to_json(self) -> dict[str, Any]:
        """Return the object that `crossvec evaluate --format json` prints; every value is finite."""
        told: dict[str, Any] = {
            "pool": self.pool,
            "left_out": self.left_out,
            "forward": self.forward.to_json(),
            "backward": self.backward.to_json(),
            "controls": {name: control.to_json() for name, control in self.controls.items()},
            "warnings": list(self.warnings),
        }
        if self.inverse:
            told["inverse"] = self.inverse.to_json()
        if self.ceiling:
            forward, backward = (direction.to_json() for direction in self.ceiling)
            told["ceiling"] = {"forward": forward, "backward": backward, "share_of_top1": self.share_of_ceiling}
        return told


def evaluate(
    translator: Translates,
    source: Space,
    target: Space,
    *,
    k: int = 10,
    csls_neighbours: int = 10,
    bootstrap: int = 1000,
    seed: int = 0,
    ceiling: Translates | None = None,
    retrieve: Search = metrics.retrieve,
    progress: Step | None = None,
) -> Scores:
    """Score a translator on pairs: row i of `source` (n, dx) and row i of `target` (n, dy) are the same thing.

    `k` adds top-k to top-1 and top-10. `csls_neighbours` = 0 leaves CSLS out and `bootstrap` (resamples) = 0 the intervals of
    means. `ceiling` is another translator to score beside this one. `retrieve` searches as `metrics.retrieve` does, perhaps on
    other machines. Memory: about six times the larger space in float32.
    Where bad rows were left out of a space (`Space.dropped`), their partners are left out too.

    The controls are searched by plain cosine: `identity` copies centred source rows, cut or filled with zeros to dy;
    `mean` answers the target's mean to everything; `shuffled` looks for translated rows among targets in random order.

    Raises SpaceError for spaces that are not pairs, TranslatorError for a translator that does not fit them or answers NaN,
    SettingError for settings below their least value.
    """
    for name, value, least in (("k", k, 1), ("csls_neighbours", csls_neighbours, 0), ("bootstrap", bootstrap, 0)):
        if not isinstance(value, (int, np.integer)) or value < least:
            raise SettingError(f"{name} cannot be {value}", f"use a whole number from {least} on")
    for side, space in (("source", source), ("target", target)):
        require_space(space, f"the {side}")
    source, target, left_out = joined(source, target)
    if len(source) < 2:
        raise SpaceError(f"a pool of {len(source)} pairs cannot be searched", "give at least 2 pairs, better 1,000 or more")
    centre_x, centre_y = _centres(translator, source, target)
    if ceiling:
        _centres(ceiling, source, target, "the ceiling")
    warnings = [f"{left_out:,} pairs were left out: a row of theirs is bad"] if left_out else []
    if other := two_ids(source, target):
        told = f"{len(other):,} of {len(source):,} pairs have two ids, such as {other[0][0]!r} and {other[0][1]!r}"
        warnings.append(f"{told}: are they the same thing?")
    inverse = _inverse(translator, warnings)
    tell = _Stages(progress or silent, 4 + bool(inverse) + bool(ceiling))
    rules = _Rules(sorted({1, 10, k}), csls_neighbours, bootstrap, seed, retrieve)
    plain_rules = replace(rules, csls_neighbours=0)

    y = torch.from_numpy(target.array())
    true = _Cloud(y, metrics.centred(y, centre_y))
    given = _translated(translator, source, centre_y)
    forward, backward = rules.compare(given, true, tell.next("translation"))
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    shuffled, _ = plain_rules.compare(given, _Cloud(y[order], true.units[order]), tell.next("shuffled control"))
    del given
    mean, _ = plain_rules.compare(*_at_mean(true, centre_y), tell.next("mean control"))
    identity, _ = plain_rules.compare(_copied(source, centre_x, target.dim), true, tell.next("identity control"))
    best = None
    if ceiling:
        best = rules.compare(_translated(ceiling, source, centre_y), true, tell.next("ceiling"))
    back = None
    if inverse:
        x = torch.from_numpy(source.array())
        original = _Cloud(x, metrics.centred(x, centre_x))
        back, _ = rules.compare(_translated(inverse, target, centre_x), original, tell.next("inverse"))

    warnings += _remarks(y, forward, identity)
    controls = {"identity": identity, "mean": mean, "shuffled": shuffled}
    return Scores(len(y), forward, backward, controls, back, best, tuple(warnings), left_out)


@dataclass(frozen=True, eq=False)
class _Cloud:
    """Rows as they are, and their unit directions in a centred frame."""

    rows: Float[Tensor, "n _"]
    units: Float[Tensor, "n _"]


@dataclass(frozen=True)
class _Rules:
    """How a cloud is compared with the true one: the same for the translator and for every control."""

    tops: Sequence[int]
    csls_neighbours: int
    resamples: int
    seed: int
    retrieve: Search

    def compare(self, given: _Cloud, true: _Cloud, tell: Callable[[float], None]) -> tuple[Direction, Direction]:
        """Return the forward and the backward direction of two clouds whose rows are pairs."""
        cosines = metrics.cosines(given.rows, true.rows), metrics.cosines(given.units, true.units)
        found = self.retrieve(given.units, true.units, csls_neighbours=self.csls_neighbours, progress=tell)
        sides = []
        for side in ("forward", "backward"):
            csls = Ranking(**self._ranking(getattr(found.csls, side))) if found.csls else None
            raw, centred = (float(values.double().mean()) for values in cosines)
            plain = self._ranking(getattr(found.plain, side), cosine=cosines[0], cosine_centred=cosines[1])
            sides.append(Direction(**plain, cosine=raw, cosine_centred=centred, csls=csls))
        return sides[0], sides[1]

    def _ranking(self, ranks: metrics.Ranks, **means: Tensor) -> dict[str, Any]:
        n = ranks.pool
        top = {k: ranks.top(k) for k in self.tops}
        intervals = {f"top{k}": metrics.wilson(share * n, n) for k, share in top.items()}
        if self.resamples:
            columns = {"mean_rank": ranks.mid, "foscttm": (ranks.mid - 1) / (n - 1), **means}
            values = torch.stack([column.double() for column in columns.values()], dim=1).numpy()
            bounds = metrics.bootstrap(values, self.resamples, seed=self.seed)
            intervals |= {name: (float(low), float(high)) for name, (low, high) in zip(columns, bounds, strict=True)}
        return {"top": top, "mean_rank": ranks.mean_rank, "foscttm": ranks.foscttm, "intervals": intervals}


class _Stages:
    """Progress over stages of about equal length."""

    def __init__(self, report: Step, stages: int) -> None:
        self.report, self.stages, self.done = report, stages, -1

    def next(self, doing: str) -> Callable[[float], None]:
        self.done += 1
        done = self.done
        return lambda fraction: self.report(doing, (done + fraction) / self.stages)


def _translated(translator: Translates, space: Space, mean: Float[Tensor, " d"]) -> _Cloud:
    rows = torch.empty(len(space), len(mean), dtype=torch.float32, device="cpu")
    done = 0
    for batch in space.batches():
        rows[done : done + len(batch)] = torch.as_tensor(translator.translate(batch.array()))
        done += len(batch)
    bad = (~rows.isfinite().all(1)).nonzero()
    if len(bad):
        raise TranslatorError(
            f"the translation of row {int(bad[0])} has NaN or infinite values", "fit again, or load another one"
        )
    return _Cloud(rows, metrics.centred(rows, mean))


def _at_mean(true: _Cloud, mean: Float[Tensor, " d"]) -> tuple[_Cloud, _Cloud]:
    """Return the target's mean for every row; it has no direction, and its cosine is 0 in one dimension as in all."""
    column = true.units[:, :1]
    return _Cloud(mean.expand_as(true.rows), torch.zeros_like(column)), _Cloud(true.rows, column)


def _copied(source: Space, mean: Float[Tensor, " dx"], dim: int) -> _Cloud:
    """Return the source rows as they are, cut or filled with zeros to `dim`; the directions are of centred rows."""
    x = torch.from_numpy(source.array())
    return _Cloud(resized(x, dim), unit(resized(metrics.centred(x, mean), dim)))


def _inverse(translator: Translates, warnings: list[str]) -> Translates | None:
    turn = getattr(translator, "inverse", None)
    try:
        inverse: Translates | None = turn() if turn else None
    except TranslatorError as problem:
        warnings.append(f"the inverse was not scored: {problem}")
        return None
    return inverse


def _centres(
    translator: Translates, source: Space, target: Space, who: str = "the translator"
) -> tuple[Float[Tensor, " dx"], Float[Tensor, " dy"]]:
    means = [torch.as_tensor(frame.mean, dtype=torch.float32).cpu() for frame in (translator.source, translator.target)]
    dx, dy = map(len, means)
    if (dx, dy) != (source.dim, target.dim):
        swapped = (
            "swap source and target" if (dy, dx) == (source.dim, target.dim) else "give rows of the models it was fitted on"
        )
        raise TranslatorError(
            f"{who} carries {dx} dimensions to {dy}; source and target have {source.dim} and {target.dim}", swapped
        )
    return means[0], means[1]


def _remarks(y: Float[Tensor, "n d"], forward: Direction, identity: Direction) -> list[str]:
    """Return what a reader must know before believing the numbers."""
    n = len(y)
    remarks = []
    if n < SMALL_POOL:
        remarks.append(
            f"a pool of {n} pairs is small: guessing scores top-1 {1 / n:.3f} and intervals are wide; use 1,000 or more"
        )
    copies = n - len({hash(row.tobytes()) for row in y.numpy()})
    if copies:
        remarks.append(f"{copies} of {n} target rows repeat another one: their ties cap top-1 below 1")
    if forward.intervals["top1"][0] <= 1 / n:
        remarks.append(f"top-1 is not above chance; a raw cosine of {forward.cosine:.2f} says nothing about retrieval")
    elif identity.top1 >= forward.top1:
        remarks.append(f"copying the rows untranslated scores top-1 {identity.top1:.3f}: the spaces already share coordinates")
    return remarks
