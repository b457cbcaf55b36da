"""assignment — learn the final map from soft assignments between the clouds.

In    x (n, dx), y (m, dy)   centred unit rows, and a map (dx, dy) that is roughly right
Out   Linear                 a map with a bias whose plain cosines rank as balanced assignments would
Uses  geometry

Plain cosine has hubs: target rows near everything, which CSLS (arXiv 1710.04087) and optimal transport correct for when they
score. A translated vector is searched by plain cosine, so the correction has to go into the map. The teacher is the entropic
transport plan (Sinkhorn, arXiv 1306.0895) between random batches of the two clouds under the given map: every target row gets
its share. The student is a linear map whose softmax over the same target rows is fitted to that plan by cross entropy (InfoNCE
with soft targets, arXiv 1807.03748). No pairs are used. Sharper students rank better, softer ones come nearer in cosine.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from crossvec.aligners import Linear, Step
from crossvec.geometry import TINY, fast_type, unit

BATCH = 2048
"""Rows of a side in a batch. 1,024 lose .006 of top-1 on minilm->wordllama; 8,192 target rows lose .008 and cost four times."""

SHARE = 16
"""A batch is at most this part of a cloud, and at least FEWEST rows: few rows do not become more by being drawn more often."""
FEWEST = 256

REACH = 0.2
"""Steps x first learning rate: 200 steps of .001; 60 steps of .005 end within .003 of their top-1."""

BALANCING = 3  # Sinkhorn rounds; 10 change nothing that seeds do not


class Temperatures(NamedTuple):
    """How soft the teacher's plan and the student's softmax are, in deviations of the cosines between the two clouds."""

    teacher: float
    student: float


TEMPERATURES = {"ranking": Temperatures(0.1, 0.48), "balanced": Temperatures(0.1, 0.75), "faithful": Temperatures(0.32, 1.3)}


def learn(
    x: Float[Tensor, "n dx"],
    y: Float[Tensor, "m dy"],
    w: Float[Tensor, "dx dy"],
    how: Temperatures,
    *,
    steps: int,
    generator: torch.Generator,
    progress: Step,
) -> Linear:
    """Return the linear map that imitates balanced assignments under the map w."""
    start = w * (w.shape[1] ** 0.5 / w.norm().clamp_min(TINY))  # so that a step of Adam means the same for every map
    weight, bias = start.clone().requires_grad_(), start.new_zeros(start.shape[1]).requires_grad_()
    optimiser = torch.optim.Adam([weight, bias], lr=REACH / steps)
    falling = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 1.0 / steps, steps)
    scale = _products(unit(_drawn(x, generator) @ start), _drawn(y, generator)).std().clamp_min(1e-3)
    with torch.enable_grad():
        for step in range(steps):
            progress("learning from assignments", step / steps)
            rows, keys = _drawn(x, generator), _drawn(y, generator)
            with torch.no_grad():
                plan = balanced(_products(unit(rows @ start), keys) / (how.teacher * scale))
            found = _products(unit(rows @ weight + bias), keys) / (how.student * scale)
            loss = -(plan * found.log_softmax(1)).sum(1).mean()
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            falling.step()
    progress("learning from assignments", 1.0)
    return Linear(weight.detach(), bias.detach())


def balanced(scores: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    """Return the plan that Sinkhorn's rounds reach from exp(scores): rows sum to 1, columns nearly to n / m."""
    for _ in range(BALANCING):
        scores = scores - scores.logsumexp(0, keepdim=True)
        scores = scores - scores.logsumexp(1, keepdim=True)
    return scores.exp()


def _drawn(rows: Float[Tensor, "n d"], generator: torch.Generator) -> Float[Tensor, "k d"]:
    size = min(BATCH, max(FEWEST, len(rows) // SHARE), len(rows))
    return rows[torch.randint(len(rows), (size,), generator=generator).to(rows.device)]


def _products(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    fast = fast_type(a.device.type)
    return (a.to(fast) @ b.to(fast).T).float()
