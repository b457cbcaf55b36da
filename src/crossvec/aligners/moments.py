"""moments — the default aligner: third moments find the rotation, neighbours refine it, a shrunken map finishes it.

In    x (n, dx), y (m, dy)  float32 centred unit rows, no pairs
Out   Alignment             linear maps both ways; evidence for the Verdict
Uses  search, refine, geometry
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from crossvec.aligners import Alignment, Effort, Linear, Step, silent
from crossvec.aligners.refine import FINISHES, FinishName, finish, refine, spread
from crossvec.aligners.search import search
from crossvec.errors import SettingError, SpaceError
from crossvec.geometry import principal_axes

# effort: random starts, starts carried to all axes, kicks, rounds of refinement
PRESETS: dict[str, tuple[int, int, int, int]] = {
    "quick": (2048, 4, 9, 2),
    "standard": (4096, 8, 24, 5),
    "thorough": (16384, 24, 96, 8),
}


@dataclass(frozen=True)
class Moments:
    """Unpaired alignment by third moments.

    Fields left at 0 take the value that `effort` sets. `axes` bounds the principal axes whose third moments are used (memory
    grows with its cube: 256 axes take 64 MB a side); `damping` is the power of an axis' deviation that is divided out of it;
    `neighbours` is how many rows across are averaged in refinement. `finish` makes the final map: `orthogonal` (Procrustes on
    the pseudo-pairs), `ranking` (the default: finds the right row most often), `balanced`, or `faithful` (highest cosine).

    Raises SettingError for settings that cannot be, SpaceError for a cloud whose rows are all the same.
    """

    effort: Effort = "standard"
    seed: int = 0
    starts: int = 0
    keep: int = 0
    kicks: int = 0
    rounds: int = 0
    axes: int = 256
    damping: float = 0.5
    neighbours: int = 10
    finish: FinishName = "ranking"

    name: ClassVar[str] = "moments"
    needs_pairs: ClassVar[bool] = False

    def fit(
        self,
        x: Float[Tensor, "n dx"],
        y: Float[Tensor, "m dy"],
        *,
        pairs: Int[Tensor, "p 2"] | None = None,
        progress: Step = silent,
    ) -> Alignment:
        """Learn maps between two centred clouds of unit rows; `pairs` are not used."""
        starts, keep, kicks, rounds = (
            given or preset
            for given, preset in zip((self.starts, self.keep, self.kicks, self.rounds), PRESETS[self.effort], strict=True)
        )
        if min(starts, keep, rounds, self.axes, self.neighbours) < 1 or not 0 <= self.damping <= 1:
            raise SettingError(
                "moments needs counts of 1 or more and a damping from 0 to 1", "leave a count out for its default"
            )
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
            generator=generator,
            progress=lambda doing, done: progress(doing, 0.4 * done),
        )
        c = refine(
            zx,
            zy,
            found.map,
            rounds=rounds,
            neighbours=min(self.neighbours, len(x), len(y)),
            progress=lambda doing, done: progress(doing, 0.4 + 0.6 * done),
        )
        forward = finish(c, spread(zx), spread(zy), FINISHES[self.finish])
        backward = finish(c.T, spread(zy), spread(zx), FINISHES[self.finish])
        progress("done", 1.0)
        return Alignment(
            Linear.of(axes_x @ forward @ axes_y.T),
            Linear.of(axes_y @ backward @ axes_x.T),
            evidence={"objective": found.objective},
            trace=({"objectives": list(found.objectives), "objective": found.objective, "kicks": found.kicks},),
        )
