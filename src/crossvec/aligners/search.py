"""search — find the rotation between two clouds from their third moments, with no start and no pairs.

In    zx (n, dx), zy (m, dy)    both clouds on their own principal axes, largest first
Out   Found                     a semi-orthogonal map (dx, dy) between those axes, and the objective reached, in [-1, 1]
Uses  geometry

If y is distributed like x R, the third-moment tensor of x rotated by R is that of y, so the objective f(R) = <T_x(R,R,R), T_y>
/ (|T_x| |T_y|) is 1 at the truth in theory and .7 to .8 on real pairs of encoders, against 0 for a random R. It is maximised
from thousands of random starts on a few axes, then the best are carried to more and more axes. On all axes the step is R <-
polar(gradient, power) with a power that falls to 0 (spectral annealing): axes that the gradient knows little about count
little at first. With full-strength steps the weak axes freeze wherever they start. What is left are optima that have a few
axes wrong; random kicks (forget some axes, anneal again, keep what raises f) leave those. f needs no pairs, so it may choose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from crossvec.aligners import Step
from crossvec.geometry import TINY, polar, polar_batch, third_moment

FIRST_AXES = 12  # most starts find their basin at 12 axes; 8 has wrong optima above the truth, 20 has too many basins
BATCH = 128
INERTIA = 0.3
WARM_STEPS, COLD_STEPS = 15, 25
LADDER = ((24, 40), (40, 16))  # axes, candidates kept
LADDER_STEPS = 30
SEARCH_AXES = 128
POWERS = (0.7,) * 6 + (0.5,) * 5 + (0.25,) * 3 + (0.0,) * 2
POLISH = (0.25,) * 3 + (0.0,) * 3
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
    generator: torch.Generator,
    progress: Step,
) -> Found:
    """Return the best rotation found from `starts` random starts, `keep` of them carried to all axes, and `kicks` kicks.

    At most `axes` axes a side are used, SEARCH_AXES of them while searching. `damping` is the power of an axis' deviation that
    its rows are divided by: 0 leaves the axes as they are, 1 whitens.
    """
    size = min(FIRST_AXES, zx.shape[1], zy.shape[1])
    found = _from_random_starts(Moments.of(zx, zy, size, size), size, starts, generator, progress)
    for wanted, kept in LADDER:
        wider = min(wanted, zx.shape[1], zy.shape[1])
        if wider > size:
            found, size = _widen(Moments.of(zx, zy, wider, wider), found[:kept], wider, generator), wider

    moments = Moments.of(zx, zy, min(SEARCH_AXES, zx.shape[1]), min(SEARCH_AXES, zy.shape[1]), damping)
    reached = []
    for number, start in enumerate(found[:keep]):
        progress("annealing the best starts", 0.3 + 0.2 * number / keep)
        reached.append(moments.anneal(moments.embed(start), POWERS))
    reached.sort(key=lambda one: -one[0])
    objectives = tuple(objective for objective, _ in reached)
    (objective, gradient), helped = reached[0], 0
    for number in range(kicks):
        progress("kicking", 0.5 + 0.3 * number / max(kicks, 1))
        kicked = moments.anneal(KICKS[number % len(KICKS)](gradient, generator), POWERS)
        if kicked[0] > objective + 1e-4:
            (objective, gradient), helped = kicked, helped + 1

    if max(zx.shape[1], zy.shape[1]) > SEARCH_AXES and axes > SEARCH_AXES:
        progress("third moments on all axes", 0.8)
        moments = Moments.of(zx, zy, min(axes, zx.shape[1]), min(axes, zy.shape[1]), damping)
        objective, gradient = moments.anneal(moments.embed(polar(gradient, 0.5)), POLISH)
    whole = zx.new_zeros(zx.shape[1], zy.shape[1])
    whole[: gradient.shape[0], : gradient.shape[1]] = moments.natural(polar(gradient))
    progress("third moments", 1.0)
    return Found(polar(whole), objective, objectives, helped)


@dataclass(frozen=True, eq=False)
class Moments:
    """The third moments of two clouds on their first axes, the scales divided out of those axes and the spread that is left."""

    tx: Float[Tensor, "kx kx kx"]
    ty: Float[Tensor, "ky ky ky"]
    scale_x: Float[Tensor, " kx"]
    scale_y: Float[Tensor, " ky"]
    spread_x: Float[Tensor, " kx"]
    spread_y: Float[Tensor, " ky"]

    @classmethod
    def of(cls, zx: Float[Tensor, "n dx"], zy: Float[Tensor, "m dy"], kx: int, ky: int, damping: float = 0.0) -> Moments:
        """Measure both clouds on their first kx and ky axes."""
        sides = []
        for z in (zx[:, :kx], zy[:, :ky]):
            variance = z.square().mean(0).clamp_min(1e-12)
            scale = variance ** (damping / 2) * (variance ** (1 - damping)).mean().sqrt()
            sides.append((third_moment(z / scale), scale, variance / scale.square()))
        (tx, scale_x, spread_x), (ty, scale_y, spread_y) = sides
        return cls(tx, ty, scale_x, scale_y, spread_x, spread_y)

    def gradient(self, r: Float[Tensor, "kx ky"]) -> Float[Tensor, "kx ky"]:
        """Return <T_x(., R, R), T_y>, a third of the derivative of f; rectangular R, about kx^3 ky products."""
        kx, ky = r.shape
        if kx >= ky:
            inner = torch.einsum("abj,bi->aij", (self.tx.reshape(-1, kx) @ r).view(kx, kx, ky), r)
            return inner.reshape(kx, -1) @ self.ty.reshape(ky, -1).T
        inner = torch.einsum("abj,bi->aij", (self.ty.reshape(-1, ky) @ r.T).view(ky, ky, kx), r.T)
        return self.tx.reshape(kx, -1) @ inner.reshape(ky, -1).T

    def gradients(self, r: Float[Tensor, "b k k"]) -> Float[Tensor, "b k k"]:
        """Return `gradient` for many square rotations at once."""
        b, k, _ = r.shape
        t = (self.tx.reshape(k * k, k) @ r).view(b, k, k, k).permute(0, 1, 3, 2).reshape(b, k * k, k)
        return (t @ r).reshape(b, k, k * k) @ self.ty.reshape(k, k * k).T

    def objectives(self, r: Float[Tensor, "*b kx ky"]) -> Float[Tensor, "*b"]:
        """Return f for a rotation, or for many square ones."""
        g = self.gradient(r) if r.dim() == 2 else self.gradients(r)
        return cast(Tensor, (r * g).sum((-2, -1)) / (self.tx.norm() * self.ty.norm()).clamp_min(TINY))

    def ascend(self, r: Float[Tensor, "b k k"], steps: int, second: float = 0.0) -> Float[Tensor, "b k k"]:
        """Climb f from many rotations; `second` adds the pull of the second moments, C_x R C_y: it settles the first axes."""
        inertia = INERTIA / r.shape[1] ** 0.5
        for _ in range(steps):
            g = _normed(self.gradients(r))
            if second:
                g = g + second * _normed(self.spread_x[:, None] * r * self.spread_y)
            r = polar_batch(g + inertia * r)
        return r

    def anneal(self, r: Float[Tensor, "kx ky"], powers: tuple[float, ...]) -> tuple[float, Float[Tensor, "kx ky"]]:
        """Return the better of `settle` before and after annealing.

        On few axes plain steps may leave an optimum again (seen at 8: f fell from .93 to .38), so the start is kept in mind.
        """
        annealed = r
        for power in powers:
            annealed = polar(self.gradient(annealed), power)
        return max(self.settle(annealed), self.settle(r), key=lambda reached: reached[0])

    def settle(self, r: Float[Tensor, "kx ky"]) -> tuple[float, Float[Tensor, "kx ky"]]:
        """Return f one full step from r, and the gradient at r; its polar factor is the rotation reached."""
        g = self.gradient(r)
        return float(self.objectives(polar(g))), g

    def embed(self, r: Float[Tensor, "a b"]) -> Float[Tensor, "kx ky"]:
        """Return r on all axes, with zeros where it knows nothing."""
        whole = r.new_zeros(len(self.scale_x), len(self.scale_y))
        whole[: r.shape[0], : r.shape[1]] = r
        return whole

    def natural(self, r: Float[Tensor, "kx ky"]) -> Float[Tensor, "kx ky"]:
        """Return the map between axes of their own length that a rotation between scaled axes stands for."""
        return r / self.scale_x[:, None] / self.scale_y


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


def _normed(g: Float[Tensor, "b k k"]) -> Float[Tensor, "b k k"]:
    return cast(Tensor, g / g.flatten(1).norm(dim=1).clamp_min(TINY)[:, None, None])
