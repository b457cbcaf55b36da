"""search — find the rotation between two clouds from their third moments, with no start and no pairs.

In    zx (n, dx), zy (m, dy)    both clouds on their own principal axes, largest first
Out   Found                     a semi-orthogonal map (dx, dy) between those axes, and the objective reached, in [-1, 1]
Uses  objective, geometry

If y is distributed like x R, the third-moment tensor of x rotated by R is that of y, so the objective `f(R) = <T_x(R,R,R), T_y>
/ (|T_x| |T_y|)` is 1 at the truth in theory and .7 to .8 on real pairs of encoders, against 0 for a random R. It is maximised
from thousands of random starts on a few axes, then the best are carried to more and more axes. On all axes the step is R <-
polar(gradient, power) with a power that falls to 0 (spectral annealing): axes that the gradient knows little about count
little at first. With full-strength steps the weak axes freeze wherever they start. What is left are optima that have a few
axes wrong; random kicks (forget some axes, anneal again, keep what raises f) leave those. f needs no pairs, so it may choose.

With `clusters` f holds the third moments within clusters too, which change less where the two sides are about different
things. There are more optima then, and where rows are few: a `pool` of sixteen starts is kicked on fewer axes first, each for
a short time, the best for longer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from crossvec.aligners import Step, part, silent
from crossvec.aligners.objective import Clouds, Moments
from crossvec.geometry import TINY, fast_type, polar, polar_batch

FIRST_AXES = 12  # most starts find their basin at 12 axes; 8 has wrong optima above the truth, 20 has too many basins
BATCH = 128
WARM_STEPS, COLD_STEPS = 15, 25
LADDER = ((24, 40), (40, 16))  # axes, candidates kept
LADDER_STEPS = 30
SEARCH_AXES = 128
POWERS = (0.7,) * 6 + (0.5,) * 5 + (0.25,) * 3 + (0.0,) * 2
POLISH = (0.25,) * 3 + (0.0,) * 3
POOL_AXES = 64
POOL = ((16, 1.0), (6, 8 / 3), (3, 4.0))  # chains of kicks, and how many kicks each takes for one of `kicks`
FORGOTTEN = 0.4  # share of directions that a kick forgets
TURN = 0.08  # size of a random rotation kick


@dataclass(frozen=True, eq=False)
class Found:
    """What a search ends with.

    `map` (dx, dy) semi-orthogonal; `objective` f on all axes used; `objectives` f of each start before the kicks, best first;
    `kicks` how many kicks helped.
    """

    map: Float[Tensor, "dx dy"]
    objective: float
    objectives: tuple[float, ...]
    kicks: int


def search(
    zx: Float[Tensor, "n dx"],
    zy: Float[Tensor, "m dy"],
    *,
    starts: int,
    keep: int,
    kicks: int,
    axes: int,
    damping: float,
    clusters: int = 0,
    pool: bool = False,
    generator: torch.Generator,
    progress: Step,
) -> Found:
    """Return the best rotation found from `starts` random starts, `keep` of them carried to all axes, and `kicks` kicks.

    At most `axes` axes a side are used, SEARCH_AXES of them while searching. `damping` is the power of an axis' deviation that
    its rows are divided by: 0 leaves the axes as they are, 1 whitens. `clusters`: each cloud is cut into so many, and the third
    moments within them count too; 0 for none. `pool`: many starts are kicked on fewer axes first.
    """
    clouds = Clouds.of(zx, zy, clusters, max(axes, SEARCH_AXES), generator)
    size = min(FIRST_AXES, zx.shape[1], zy.shape[1])
    found = _from_random_starts(clouds.moments(size, size), size, starts, generator, progress)
    for wanted, kept in LADDER:
        wider = min(wanted, zx.shape[1], zy.shape[1])
        if wider > size:
            found, size = _widen(clouds.moments(wider, wider), found[:kept], wider, generator), wider
    chosen, begun = list(found[:keep]), 0.3
    if pool:
        chosen, begun = _pooled(clouds.moments(POOL_AXES, POOL_AXES, damping), found, kicks, generator, progress), 0.48

    moments = clouds.moments(SEARCH_AXES, SEARCH_AXES, damping)
    reached = []
    for number, start in enumerate(chosen):
        progress("annealing the best starts", begun + (0.5 - begun) * number / len(chosen))
        reached.append(moments.anneal(moments.embed(start), POWERS))
    reached.sort(key=lambda one: -one[0])
    objectives = tuple(objective for objective, _ in reached)
    (objective, gradient), helped = _kicked(moments, reached[0], kicks, generator, part(progress, 0.5, 0.8))
    if max(zx.shape[1], zy.shape[1]) > SEARCH_AXES and axes > SEARCH_AXES:
        progress("third moments on all axes", 0.8)
        moments = clouds.moments(axes, axes, damping)
        objective, gradient = moments.anneal(moments.embed(polar(gradient, 0.5)), POLISH)
    whole = zx.new_zeros(zx.shape[1], zy.shape[1])
    whole[: gradient.shape[0], : gradient.shape[1]] = moments.natural(polar(gradient))
    progress("third moments", 1.0)
    return Found(polar(whole), objective, objectives, helped)


def _kicked(
    moments: Moments, best: tuple[float, Tensor], kicks: int, generator: torch.Generator, progress: Step
) -> tuple[tuple[float, Float[Tensor, "kx ky"]], int]:
    """Return the objective and gradient reached by so many kicks, and how many of them helped."""
    helped = 0
    for number in range(kicks):
        progress("kicking", number / kicks)
        kicked = moments.anneal(KICKS[number % len(KICKS)](best[1], generator), POWERS)
        if kicked[0] > best[0] + 1e-4:
            best, helped = kicked, helped + 1
    return best, helped


def _pooled(
    moments: Moments, found: Float[Tensor, "b k k"], kicks: int, generator: torch.Generator, progress: Step
) -> list[Float[Tensor, "kx ky"]]:
    """Return the best rotations of the pool, best first: many chains of few kicks, then fewer chains of more."""
    moments = replace(moments, hasty=moments.rounded(fast_type(moments.tx.device.type)))
    pool = [moments.anneal(moments.embed(one), POWERS) for one in found[: POOL[0][0]]]
    spent, whole = 0.0, sum(chains * each for chains, each in POOL)
    for chains, each in POOL:
        pool = sorted(pool, key=lambda one: -one[0])[:chains]
        for place, best in enumerate(pool):
            progress("kicking a pool of starts", 0.3 + 0.18 * spent / whole)
            pool[place], _ = _kicked(moments, best, round(kicks * each), generator, silent)
            spent += each
    return [polar(gradient, 0.5) for _, gradient in sorted(pool, key=lambda one: -one[0])]


def _forget_directions(g: Float[Tensor, "kx ky"], generator: torch.Generator) -> Float[Tensor, "kx ky"]:
    u, s, vt = _halved(g)
    kept = (torch.rand(len(s), generator=generator) >= FORGOTTEN).to(g.device)
    return (u * (s * kept)) @ vt


def _forget_axes(g: Float[Tensor, "kx ky"], generator: torch.Generator) -> Float[Tensor, "kx ky"]:
    return polar(g, 0.5) * (torch.rand(g.shape[1], generator=generator) >= FORGOTTEN).to(g.device)


def _turn(g: Float[Tensor, "kx ky"], generator: torch.Generator) -> Float[Tensor, "kx ky"]:
    u, s, vt = _halved(g)
    noise = TURN * torch.randn(len(s), len(s), generator=generator).to(g.device)
    return cast(Tensor, (u * s) @ torch.linalg.matrix_exp(noise - noise.T) @ vt)


def _halved(g: Float[Tensor, "kx ky"]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the singular vectors of g, and the values of `polar(g, 0.5)`."""
    u, s, vt = torch.linalg.svd(g, full_matrices=False)
    return u, (s / s[:1].clamp_min(TINY)).sqrt(), vt


KICKS = (_forget_directions, _forget_axes, _turn)


def _from_random_starts(
    moments: Moments, k: int, starts: int, generator: torch.Generator, progress: Step
) -> Float[Tensor, "b k k"]:
    """Return the rotations reached from random starts on k axes, best first."""
    reached = []
    for first in range(0, starts, BATCH):
        progress("random starts", 0.3 * first / starts)
        r = polar_batch(torch.randn(BATCH, k, k, generator=generator).to(moments.tx.device), 16)
        reached.append(moments.ascend(moments.ascend(r, WARM_STEPS, second=0.5), COLD_STEPS))
    return _best_first(moments, torch.cat(reached))


def _widen(moments: Moments, r: Float[Tensor, "b k k"], k: int, generator: torch.Generator) -> Float[Tensor, "b kk kk"]:
    """Return rotations of k axes grown from rotations of fewer, best first."""
    b, old, _ = r.shape
    wide = 1e-3 * torch.randn(b, k, k, generator=generator).to(r.device)
    wide[:, :old, :old] += r
    wide[:, range(old, k), range(old, k)] += 1.0
    wide = moments.ascend(polar_batch(wide, 20), LADDER_STEPS, second=0.1)
    return _best_first(moments, moments.ascend(wide, LADDER_STEPS))


def _best_first(moments: Moments, r: Float[Tensor, "b k k"]) -> Float[Tensor, "b k k"]:
    return r[moments.objectives(r).argsort(descending=True)]
