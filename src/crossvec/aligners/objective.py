"""objective — how well a rotation carries the third moments of one cloud to those of another, and where to turn to do better.

In    zx (n, dx), zy (m, dy)    both clouds on their own principal axes, largest first
Out   Moments                   f, its gradient and its ascent on some axes; Joined, the same with moments within clusters
Uses  geometry

f depends on what the two clouds are about: a store with other topics than the reference has other third moments, and wrong
rotations then come as high as the right one. What varies within a topic (time, number, person, style) depends on it less.
`Joined` adds the third moments of rows less the mean of their own k-means cluster. Alone those find nothing: the search needs
both (benchmarks/LOG.md, domain shift).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from crossvec.geometry import TINY, kmeans, polar, polar_batch, third_moment

INERTIA = 0.3
WITHIN = 2.0  # weight of the moments within clusters against those of the whole


@dataclass(frozen=True, eq=False)
class Moments:
    """The third moments of two clouds on their first axes, the scales divided out of those axes and the spread that is left.

    `hasty`: the same in a faster type; annealing takes its steps by it, and judges where they lead by the whole.
    """

    tx: Float[Tensor, "kx kx kx"]
    ty: Float[Tensor, "ky ky ky"]
    scale_x: Float[Tensor, " kx"]
    scale_y: Float[Tensor, " ky"]
    spread_x: Float[Tensor, " kx"]
    spread_y: Float[Tensor, " ky"]
    hasty: Moments | None = None

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
        (kx, ky), way = r.shape, r.to(self.tx.dtype)
        if kx >= ky:
            inner = way.T @ (self.tx.reshape(-1, kx) @ way).view(kx, kx, ky)
            return (inner.reshape(kx, -1) @ self.ty.reshape(ky, -1).T).to(r.dtype)
        inner = way @ (self.ty.reshape(-1, ky) @ way.T).view(ky, ky, kx)
        return (self.tx.reshape(kx, -1) @ inner.reshape(ky, -1).T).to(r.dtype)

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
        annealed, steps = r, self.hasty or self
        for power in powers:
            annealed = polar(steps.gradient(annealed), power)
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

    def rounded(self, kind: torch.dtype) -> Moments:
        """Return the moments in another type."""
        return replace(self, tx=self.tx.to(kind), ty=self.ty.to(kind))

    def natural(self, r: Float[Tensor, "kx ky"]) -> Float[Tensor, "kx ky"]:
        """Return the map between axes of their own length that a rotation between scaled axes stands for."""
        return r / self.scale_x[:, None] / self.scale_y


@dataclass(frozen=True, eq=False)
class Joined(Moments):
    """Third moments of the whole clouds and of `within`, their rows less the mean of their cluster, on the same axes."""

    within: Moments = field(kw_only=True)

    def rounded(self, kind: torch.dtype) -> Moments:
        """Return the moments in another type."""
        return replace(self, tx=self.tx.to(kind), ty=self.ty.to(kind), within=self.within.rounded(kind))

    def gradient(self, r: Float[Tensor, "kx ky"]) -> Float[Tensor, "kx ky"]:
        """Return the derivative of f, up to a factor; rectangular R."""
        return _shared(self, super().gradient(r)) + WITHIN * _shared(self.within, self.within.gradient(r))

    def gradients(self, r: Float[Tensor, "b k k"]) -> Float[Tensor, "b k k"]:
        """Return `gradient` for many square rotations at once."""
        return _shared(self, super().gradients(r)) + WITHIN * _shared(self.within, self.within.gradients(r))

    def objectives(self, r: Float[Tensor, "*b kx ky"]) -> Float[Tensor, "*b"]:
        """Return the weighted mean of both f."""
        g = self.gradient(r) if r.dim() == 2 else self.gradients(r)
        return (r * g).sum((-2, -1)) / (1 + WITHIN)


@dataclass(frozen=True, eq=False)
class Clouds:
    """Two clouds on their axes, and where clusters are used the same rows less the means of theirs."""

    zx: Float[Tensor, "n dx"]
    zy: Float[Tensor, "m dy"]
    within: tuple[Float[Tensor, "n kx"], Float[Tensor, "m ky"]] | None = None

    @classmethod
    def of(
        cls, zx: Float[Tensor, "n dx"], zy: Float[Tensor, "m dy"], clusters: int, axes: int, generator: torch.Generator
    ) -> Clouds:
        """Cut each cloud into so many clusters, or none with 0; of rows less their cluster's mean the first `axes` are kept."""
        if not clusters:
            return cls(zx, zy)
        x, y = (_within(z, clusters, axes, generator) for z in (zx, zy))
        return cls(zx, zy, (x, y))

    def moments(self, kx: int, ky: int, damping: float = 0.0) -> Moments:
        """Measure both on their first kx and ky axes, or on all where there are fewer."""
        kx, ky = min(kx, self.zx.shape[1]), min(ky, self.zy.shape[1])
        whole = Moments.of(self.zx, self.zy, kx, ky, damping)
        if self.within is None:
            return whole
        x, y = self.within
        tx, ty = third_moment(x[:, :kx] / whole.scale_x), third_moment(y[:, :ky] / whole.scale_y)
        scales = whole.scale_x, whole.scale_y, whole.spread_x, whole.spread_y
        return Joined(whole.tx, whole.ty, *scales, within=Moments(tx, ty, *scales))


def _within(z: Float[Tensor, "n d"], clusters: int, axes: int, generator: torch.Generator) -> Float[Tensor, "n k"]:
    index, _ = kmeans(z, min(clusters, len(z)), generator)
    first = z[:, :axes]
    sums = first.new_zeros(clusters, first.shape[1]).index_add_(0, index, first)
    return first - (sums / index.bincount(minlength=clusters).clamp_min(1)[:, None])[index]


def _shared(moments: Moments, g: Tensor) -> Tensor:
    return cast(Tensor, g / (moments.tx.norm() * moments.ty.norm()).clamp_min(TINY))


def _normed(g: Float[Tensor, "b k k"]) -> Float[Tensor, "b k k"]:
    return cast(Tensor, g / g.flatten(1).norm(dim=1).clamp_min(TINY)[:, None, None])
