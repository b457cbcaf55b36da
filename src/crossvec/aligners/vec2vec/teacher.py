"""teacher — which rows of two spaces belong together, softly, as a network that is roughly right sees it.

In    a network, rows x (k, dx) and y (m, dy) of two of its spaces
Out   Assigned              the rows, and what plans both ways make of them
      taught_by()           a network of linear maps that assigns better than the one that training starts at
Uses  aligners.{assignment, plans}, aligners.vec2vec.{network, warm, data}

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
from crossvec.aligners.assignment import TEMPERATURES, learn
from crossvec.aligners.plans import deviations, voted
from crossvec.aligners.vec2vec.data import Rows, mixed
from crossvec.aligners.vec2vec.network import Network
from crossvec.aligners.vec2vec.warm import start_at, weight

Direction = tuple[str, str]
"""Source and target."""

ROWS = 50_000
"""Rows of each space, at most, that the teacher learns from."""

STEPS = 40
"""Steps of each round of its learning."""

SHARP = 0.15
"""The teacher's temperature, in deviations of its scores. Sharper ones find more right rows, softer ones have more cosine."""


@dataclass(frozen=True, eq=False)
class Assigned:
    """Rows of two spaces; the mean row of the other that each is assigned, and the student's temperature, both ways."""

    x: Float[Tensor, "k dx"]
    y: Float[Tensor, "m dy"]
    there: Float[Tensor, "k dy"]
    back: Float[Tensor, "m dx"]
    warmth_there: Float[Tensor, ""]
    warmth_back: Float[Tensor, ""]


def taught_by(linear: Mapping[Direction, Alignment], spaces: Mapping[str, Rows], network: Network, seed: int) -> Network:
    """Return a shallow network of maps that learned to rank from the given ones, between rows of the spaces.

    Without maps its numbers are random, for a checkpoint's to take their place.
    """
    shape = replace(network.shape, adapter_depth=1, backbone_depth=1, norm="layer", dropout=0.0)
    teacher = Network(network.dims, shape, Generator().manual_seed(0))
    for ends, alignment in linear.items():
        x, y = (spaces[end].sample(ROWS, mixed(seed, 4)).cpu() for end in ends)
        generator = Generator().manual_seed(mixed(seed, 5))
        starts = weight(alignment.map), weight(alignment.inverse)
        maps = learn(x, y, *starts, TEMPERATURES["ranking"], steps=STEPS, generator=generator, progress=silent)
        start_at(teacher, *ends, *(found.weight for found in maps))
    return teacher


@torch.no_grad()
def assigned(network: Network, source: str, target: str, x: Tensor, y: Tensor, softness: float) -> Assigned:
    """Return how a network in evaluation assigns rows; `softness` is the student's temperature in deviations of the cosines."""
    latents = network.encode_each({source: x, target: y})
    there, back = network.decode(target, latents[source]), network.decode(source, latents[target])
    wide = deviations(there, back, x, y)
    kind = x.device.type
    fast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
    with torch.autocast(kind, enabled=False):
        meant = voted(there, back, x, y, wide, SHARP, fast)
    return Assigned(x, y, *meant, softness * wide.there, softness * wide.back)
