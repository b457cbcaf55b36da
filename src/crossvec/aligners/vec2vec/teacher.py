"""teacher — which rows of two spaces belong together, softly, as a network that is roughly right sees it.

In    a network, rows x (k, dx) and y (m, dy) of two of its spaces
Out   Assigned              the rows, and what plans both ways make of them
      taught_by()           a network of linear maps that assigns better than the one that training starts at
Uses  aligners.assignment, aligners.vec2vec.{network, warm, data}

Both directions vote on each pair of rows: their errors differ where the maps are no transposes of each other, and a pair that
both call near is more often one text. The network itself is no better a teacher: taught by its own average it drifts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from crossvec.aligners import Alignment, silent
from crossvec.aligners.assignment import BALANCING, TEMPERATURES, learn
from crossvec.aligners.vec2vec.data import Rows, mixed
from crossvec.aligners.vec2vec.network import Network, widened
from crossvec.aligners.vec2vec.warm import start_at, weight
from crossvec.geometry import TINY

Direction = tuple[str, str]
"""Source and target."""

ROWS = 50_000
"""Rows of each space, at most, that the teacher learns from."""

STEPS = 100
"""Steps of its learning."""

SHARP = 0.1
"""The teacher's temperature, in deviations of its scores."""

LEAST = 1e-3


@dataclass(frozen=True, eq=False)
class Assigned:
    """Rows of two spaces; the mean row of the other that each is assigned, and the student's temperature, both ways."""

    x: Float[Tensor, "k dx"]
    y: Float[Tensor, "m dy"]
    there: Float[Tensor, "k dy"]
    back: Float[Tensor, "m dx"]
    warmth_there: float
    warmth_back: float


def taught_by(linear: Mapping[Direction, Alignment], spaces: Mapping[str, Rows], network: Network, seed: int) -> Network:
    """Return a shallow network of maps that learned to rank from the given ones, between rows of the spaces.

    Without maps its numbers are random, for a checkpoint's to take their place.
    """
    shape = replace(network.shape, adapter_depth=1, backbone_depth=1, norm="layer", dropout=0.0)
    teacher = Network(network.dims, shape, Generator().manual_seed(0))
    for ends, alignment in linear.items():
        x, y = (spaces[end].sample(ROWS, mixed(seed, 4)).cpu() for end in ends)
        generator = Generator().manual_seed(mixed(seed, 5))
        maps = (
            learn(a, b, weight(start), TEMPERATURES["ranking"], steps=STEPS, generator=generator, progress=silent)
            for a, b, start in ((x, y, alignment.map), (y, x, alignment.inverse))
        )
        start_at(teacher, *ends, *(found.weight for found in maps))
    return teacher


@torch.no_grad()
def assigned(network: Network, source: str, target: str, x: Tensor, y: Tensor, softness: float) -> Assigned:
    """Return how a network in evaluation assigns rows; `softness` is the student's temperature in deviations of the cosines."""
    latents = network.encode_each({source: x, target: y})
    there = widened(network.decode(target, latents[source]) @ y.T)
    back = widened(x @ network.decode(source, latents[target]).T)
    wide = [float(scores.std().clamp_min(LEAST)) for scores in (there, back)]
    both = there.mul_(1 / wide[0]).add_(back, alpha=1 / wide[1])  # in place: these are the largest tensors of a step
    plan, reverse = plans(both.div_(SHARP * both.std().clamp_min(LEAST)))
    return Assigned(x, y, widened(plan @ y), widened(reverse @ x), softness * wide[0], softness * wide[1])


def plans(scores: Float[Tensor, "k m"]) -> tuple[Float[Tensor, "k m"], Float[Tensor, "m k"]]:
    """Return `assignment.balanced` of the scores, and what one more half round makes of it for the way back.

    Logarithms are needed for the first round only: after it no number is too large, and those too small are no matter.
    """
    plan = scores.sub(scores.logsumexp(0, keepdim=True)).softmax(1)
    for _ in range(BALANCING - 1):
        plan /= plan.sum(0, keepdim=True).clamp_min(TINY)
        plan /= plan.sum(1, keepdim=True).clamp_min(TINY)
    return plan, (plan / plan.sum(0, keepdim=True).clamp_min(TINY)).T
