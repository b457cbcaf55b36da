"""teacher — which rows of two spaces belong together, softly, as a network that is roughly right sees it.

In    a network, rows x (k, dx) and y (m, dy) of two of its spaces
Out   Assigned              the rows, and plans both ways
Uses  aligners.assignment (Sinkhorn's rounds), aligners.vec2vec.network

Both directions vote on each pair of rows: their errors differ where the maps are no transposes of each other, and a pair that
both call near is more often one text.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from crossvec.aligners.assignment import balanced
from crossvec.aligners.vec2vec.network import Network, widened

SHARP = 0.1
"""The teacher's temperature, in deviations of its scores."""

LEAST = 1e-3


@dataclass(frozen=True, eq=False)
class Assigned:
    """Rows of two spaces; `there` (rows sum to 1) from x to y and `back`; the student's temperatures, both ways."""

    x: Float[Tensor, "k dx"]
    y: Float[Tensor, "m dy"]
    there: Float[Tensor, "k m"]
    back: Float[Tensor, "m k"]
    warmth_there: float
    warmth_back: float


@torch.no_grad()
def assigned(network: Network, source: str, target: str, x: Tensor, y: Tensor, softness: float) -> Assigned:
    """Return how a network in evaluation assigns rows; `softness` is the student's temperature in deviations of the cosines."""
    latents = network.encode_each({source: x, target: y})
    there = widened(network.decode(target, latents[source]) @ y.T)
    back = widened(x @ network.decode(source, latents[target]).T)
    wide = [float(scores.std().clamp_min(LEAST)) for scores in (there, back)]
    both = there / wide[0] + back / wide[1]
    both = both / (SHARP * both.std().clamp_min(LEAST))
    return Assigned(x, y, balanced(both), balanced(both.T), softness * wide[0], softness * wide[1])
