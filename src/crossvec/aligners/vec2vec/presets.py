"""presets — the named ways to train vec2vec: what a setting is that nobody sets.

In    nothing
Out   PRESETS               by name a network, an objective, a recipe, and whether training starts from a map
Uses  aligners.vec2vec.{network, objective, recipe}

`small` and `full` bend a linear map; `scratch`, `paper` and `published-code` start from random weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from crossvec.aligners.vec2vec.network import Shape
from crossvec.aligners.vec2vec.objective import PRESETS as OBJECTIVES
from crossvec.aligners.vec2vec.objective import Objective
from crossvec.aligners.vec2vec.recipe import Recipe

PresetName = Literal["small", "full", "scratch", "paper", "published-code"]


@dataclass(frozen=True)
class Preset:
    """A network, discriminators of `critic_depth` layers as wide as it, an objective, how to train, and whether from a map."""

    shape: Shape
    critic_depth: int
    objective: Objective
    recipe: Recipe
    warm: bool


def _recipe(
    steps: int, rate: float, discriminator_rate: float, warmup: int, ema: float, clip: float, looks: int, cooldown: float = 0.0
) -> Recipe:
    return Recipe(steps, 256, rate, discriminator_rate, warmup, clip, ema, "fp32", False, 0, looks, 0, cooldown)


PUBLISHED = _recipe(312_500, 2e-5, 1e-5, 2000, 0.0, 1000.0, 80)
"""80 epochs of a million rows. The published precision is fp16, which needs a GPU: ask for it."""

ASSIGNED = Objective(rec=1.0, cycle=0.0, vsp=0.0, cycle_vsp=0.0, adversarial=0.0, latent=0.0, pseudo=1.0)
"""What keeps and improves a map that is roughly right. The published terms alone pull a network away from it: see the log."""

PRESETS: Mapping[PresetName, Preset] = {
    "small": Preset(
        Shape(256, 3, 4, "layer", 0.0, "linear"), 5, ASSIGNED, _recipe(300, 1e-3, 1e-4, 10, 0.98, 10.0, 3, 1.0), True
    ),
    "full": Preset(
        Shape(1024, 3, 4, "layer", 0.0, "linear"), 5, ASSIGNED, _recipe(1000, 5e-4, 5e-5, 100, 0.99, 10.0, 10, 1.0), True
    ),
    "scratch": Preset(
        Shape(256, 3, 4, "layer", 0.0, "linear"), 5, Objective(), _recipe(4000, 2e-4, 1e-4, 200, 0.999, 10.0, 20), False
    ),
    "paper": Preset(Shape(1024, 3, 4, "layer", 0.1, "pad"), 5, OBJECTIVES["paper"], PUBLISHED, False),
    "published-code": Preset(Shape(1024, 3, 4, "batch", 0.1, "pad"), 5, OBJECTIVES["published-code"], PUBLISHED, False),
}
