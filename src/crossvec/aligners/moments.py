"""moments — the default aligner: third moments find the rotation, neighbours refine it, soft assignments finish it.

In    x (n, dx), y (m, dy)  float32 centred unit rows, no pairs
Out   Alignment             linear maps both ways; evidence for the Verdict
Uses  search, refine, assignment, neighbours, geometry
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from crossvec.aligners import Alignment, Effort, Linear, Step, part, silent
from crossvec.aligners.assignment import TEMPERATURES, learn
from crossvec.aligners.limits import Range, check
from crossvec.aligners.neighbours import Index, pick
from crossvec.aligners.refine import ORTHOGONAL, RANKING, finish, refine, spread
from crossvec.aligners.search import search
from crossvec.errors import SpaceError
from crossvec.geometry import principal_axes

FinishName = Literal["orthogonal", "ranking", "balanced", "faithful"]

EFFORT_SETS = ("starts", "keep", "kicks", "rounds", "steps")
"""Random starts, starts carried to all axes, kicks, rounds of refinement, steps of each round of learning the final maps."""

PRESETS: dict[str, tuple[int, int, int, int, int]] = {
    "quick": (2048, 4, 9, 1, 20),
    "standard": (4096, 8, 24, 2, 40),
    "thorough": (16384, 24, 96, 5, 80),
}

FEW, FEWEST, MANY_AXES = 20_000, 1000, 64
"""Rows of the smaller cloud, and its columns, between which a pool of starts is searched: with 3,000 rows of real encoders one
start in two was in a wrong optimum; below FEWEST the right one is no better than others, and in few columns all starts meet."""


@dataclass(frozen=True)
class Moments:
    """Unpaired alignment by third moments.

    Fields left at 0 take the value that `effort` sets. `axes` bounds the principal axes whose third moments are used (memory
    grows with its cube: 256 axes take 64 MB a side); `clusters`, if not 0, cuts each cloud into so many, whose third moments
    are used too, for sides that are about different things; `damping` is the power of an axis' deviation that is divided out
    of it; `neighbours` is how many rows across are averaged in refinement, `index` how they are found: `exact`, `ivf` (an
    index of FAISS), or `auto`, which is `ivf` from 100,000 rows on where FAISS is installed. `finish` makes the final map:
    `orthogonal` (Procrustes on the pseudo-pairs), or one learned from soft assignments in `steps` steps: `ranking` (the
    default: finds the right row most often), `faithful` (highest cosine), `balanced` (between them).

    Raises SettingError for settings that cannot be, MissingExtraError for an index without FAISS, SpaceError for a cloud whose
    rows are all the same.
    """

    effort: Effort = "standard"
    seed: int = 0
    starts: int = 0
    keep: int = 0
    kicks: int = 0
    rounds: int = 0
    steps: int = 0
    axes: int = 256
    clusters: int = 0
    damping: float = 0.5
    neighbours: int = 10
    index: Index = "auto"
    finish: FinishName = "ranking"

    name: ClassVar[str] = "moments"
    needs_pairs: ClassVar[bool] = False

    def __post_init__(self) -> None:
        preset = dict.fromkeys(("starts", "keep", "kicks", "rounds", "steps", "clusters"), 0)
        check(self, preset, damping=Range(0.0, 1.0))
        pick(self.index, 0, "cpu")

    def in_full(self) -> dict[str, int]:
        """Return what a fit takes for the fields that `effort` sets where they are 0."""
        preset = dict(zip(EFFORT_SETS, PRESETS[self.effort], strict=True))
        return {name: getattr(self, name) or value for name, value in preset.items()}

    def fit(
        self,
        x: Float[Tensor, "n dx"],
        y: Float[Tensor, "m dy"],
        *,
        pairs: Int[Tensor, "p 2"] | None = None,
        progress: Step = silent,
    ) -> Alignment:
        """Learn maps between two centred clouds of unit rows; `pairs` are not used."""
        starts, keep, kicks, rounds, steps = self.in_full().values()
        for name, rows in (("source", x), ("target", y)):
            if not bool(rows.any()):  # equal rows centre to zeros
                raise SpaceError(
                    f"all rows of the {name} are equal", "give a space whose rows differ: there is nothing to align"
                )
        generator = torch.Generator().manual_seed(self.seed)
        axes_x, axes_y = principal_axes(x)[0], principal_axes(y)[0]
        zx, zy = x @ axes_x, y @ axes_y
        found = search(
            zx,
            zy,
            starts=starts,
            keep=keep,
            kicks=kicks,
            axes=self.axes,
            damping=self.damping,
            clusters=self.clusters,
            pool=bool(self.clusters) or (self.effort != "quick" and _scarce(x, y)),
            generator=generator,
            progress=part(progress, 0.0, 0.375),
        )
        c = refine(
            zx,
            zy,
            found.map,
            rounds=rounds,
            k=min(self.neighbours, len(x), len(y)),
            index=self.index,
            progress=part(progress, 0.375, 0.625),
        )
        forward, backward = self._finished(c, zx, zy, steps, generator, part(progress, 0.625, 1.0))
        progress("done", 1.0)
        return Alignment(
            Linear(axes_x @ forward.weight @ axes_y.T, forward.bias @ axes_y.T),
            Linear(axes_y @ backward.weight @ axes_x.T, backward.bias @ axes_x.T),
            evidence={"objective": found.objective},
            trace=({"objectives": list(found.objectives), "objective": found.objective, "kicks": found.kicks},),
        )

    def _finished(
        self, c: Tensor, zx: Tensor, zy: Tensor, steps: int, generator: torch.Generator, progress: Step
    ) -> tuple[Linear, Linear]:
        """Return the final maps, there and back, given the cross-covariance of their pseudo-pairs."""
        along, across = spread(zx), spread(zy)
        weights = ORTHOGONAL if self.finish == "orthogonal" else RANKING
        there, back = finish(c, along, across, weights), finish(c.T, across, along, weights)
        if self.finish == "orthogonal":
            return Linear.of(there), Linear.of(back)
        return learn(zx, zy, there, back, TEMPERATURES[self.finish], steps=steps, generator=generator, progress=progress)


def _scarce(x: Float[Tensor, "n dx"], y: Float[Tensor, "m dy"]) -> bool:
    return FEWEST <= min(len(x), len(y)) < FEW and min(x.shape[1], y.shape[1]) >= MANY_AXES
