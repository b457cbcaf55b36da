"""assignment — learn the final maps, both ways, from soft assignments between the clouds.

In    x (n, dx), y (m, dy)   centred unit rows, and maps (dx, dy) and (dy, dx) that are roughly right
Out   two Linear             maps with a bias whose plain cosines rank as balanced assignments would
Uses  geometry, aligners.plans

Plain cosine has hubs: target rows near everything, which CSLS (arXiv 1710.04087) and optimal transport correct for when they
score. A translated vector is searched by plain cosine, so the correction has to go into the map. The teacher is the entropic
transport plan (Sinkhorn, arXiv 1306.0895) between random batches of the two clouds under the given maps: every target row gets
its share. The student is a linear map whose softmax over the same target rows is fitted to that plan by cross entropy (InfoNCE
with soft targets, arXiv 1807.03748). No pairs are used. Sharper students rank better, softer ones come nearer in cosine.

There are three rounds or more, each taught by the maps of the one before. In the first, each direction is taught by itself,
sharply; then both vote, softly: what they became assigns best together, and softness keeps a round from confirming its errors.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim.adam import adam

from crossvec.aligners import Linear, Step
from crossvec.aligners.plans import Deviations, deviations, imitation, means, products, voted
from crossvec.geometry import TINY, fast_type, unit

BATCH = 2048
"""Rows of a side in a batch."""

WIDE = 2
"""Later rounds' batches are wider: 4,096 rows gain .005 of top-1 on minilm->wordllama, 8,192 nothing more."""

SHARE = 16
"""A batch is at most this part of a cloud, and at least FEWEST rows: few rows do not become more by being drawn more often."""
FEWEST = 256

REACH = 0.2
"""Steps x first learning rate: 40 steps of .005. 20 steps of .01 lose .006 of top-1."""

Maps = tuple[Linear, Linear]
"""There and back."""


class Temperatures(NamedTuple):
    """How soft the teacher's plan and the student's softmax are, in deviations of their scores."""

    teacher: float
    student: float


APART, TOGETHER = Temperatures(0.1, 0.48), Temperatures(0.3, 0.48)
"""Of the rounds before the last, where rows are enough."""

ENOUGH = 20_000
"""Rows of the smaller cloud. With fewer, each says less: softer students and more rounds of them, up to the bounds below, raise
top-1 from .44 to .50 on wordllama->potion at 3,000 rows; with 36,000 they lose .01."""
MOST_SOFT, MOST_ROUNDS = 1.56, 6

TEMPERATURES = {"ranking": Temperatures(0.3, 0.44), "balanced": Temperatures(0.3, 0.75), "faithful": Temperatures(0.3, 1.3)}
"""Of the last round, by finish."""


def learn(
    x: Float[Tensor, "n dx"],
    y: Float[Tensor, "m dy"],
    there: Float[Tensor, "dx dy"],
    back: Float[Tensor, "dy dx"],
    how: Temperatures,
    *,
    steps: int,
    generator: torch.Generator,
    progress: Step,
) -> Maps:
    """Return the linear maps that imitate balanced assignments under the given ones; `steps` is what each round takes."""
    maps = Linear.of(there), Linear.of(back)
    scarce = max(1.0, ENOUGH / min(len(x), len(y)))
    softer = min(MOST_SOFT, scarce**0.25)
    middle = [(Temperatures(TOGETHER.teacher, TOGETHER.student * softer), WIDE, True)] * min(MOST_ROUNDS, round(scarce))
    rounds = [(Temperatures(APART.teacher, APART.student * softer), 1, False), *middle, (how, WIDE, True)]
    for done, (temperatures, wide, vote) in enumerate(rounds):
        sizes = [min(wide * BATCH, max(FEWEST, wide * len(rows) // SHARE), len(rows)) for rows in (x, y)]
        taught = _Round(maps, temperatures, vote)
        for step in range(steps):
            progress("learning from assignments", (done + step / steps) / len(rounds))
            a, b = (
                rows[torch.randint(len(rows), (size,), generator=generator).to(rows.device)]
                for rows, size in zip((x, y), sizes, strict=True)
            )
            taught.step(a, b, REACH / steps * (1 - step / steps))
        maps = taught.maps()
    progress("learning from assignments", 1.0)
    return maps


class _Round:
    """Students of both directions, taught by the maps that they start from."""

    def __init__(self, teachers: Maps, how: Temperatures, vote: bool) -> None:
        self.teachers, self.how, self.vote = teachers, how, vote
        self.wide: Deviations | None = None  # of the first batch
        self.weights, self.biases = [], []
        self.kind = teachers[0].weight.device.type
        self.fast = fast_type(self.kind)
        for map_ in teachers:
            size = map_.weight.shape[1] ** 0.5 / map_.weight.norm().clamp_min(TINY)  # so that a step of Adam means the same
            self.weights.append((map_.weight * size).requires_grad_())
            self.biases.append((map_.bias * size).requires_grad_())
        self.every = self.weights + self.biases
        self.slopes, self.squares = ([torch.zeros_like(one) for one in self.every] for _ in range(2))
        self.taken = [torch.zeros(()) for _ in self.every]

    def step(self, a: Float[Tensor, "k dx"], b: Float[Tensor, "l dy"], rate: float) -> None:
        """Take one step on a batch of each cloud."""
        there, back = (unit(teacher(rows)) for teacher, rows in zip(self.teachers, (a, b), strict=True))
        self.wide = self.wide or deviations(there, back, a, b)
        wide, warmth = self.wide, self.how.teacher
        if self.vote:
            meant = voted(there, back, a, b, wide, warmth, self.fast)
        else:
            meant = (
                means(products(there / (wide.there * warmth), b, self.fast), a, b, self.fast)[0],
                means(products(back / (wide.back * warmth), a, self.fast), b, a, self.fast)[0],
            )
        for each, (rows, keys) in enumerate(((a, b), (b, a))):
            with torch.enable_grad():
                found = unit(torch.addmm(self.biases[each], rows, self.weights[each]))
                with torch.autocast(self.kind, self.fast, enabled=self.fast != torch.float32):
                    loss = imitation(found, keys, meant[each], self.how.student * wide[each])
                torch.autograd.backward(loss)
        self._descend(rate)

    def _descend(self, rate: float) -> None:
        """Take Adam's step. The class of that name imports torch's compiler first, which takes longer than all the steps."""
        with torch.no_grad():
            adam(self.every, [cast(Tensor, one.grad) for one in self.every], self.slopes, self.squares, [], self.taken,
                 amsgrad=False, beta1=0.9, beta2=0.999, lr=rate, weight_decay=0.0, eps=1e-8, maximize=False)  # fmt: skip
        for one in self.every:
            one.grad = None

    def maps(self) -> Maps:
        there, back = (Linear(w.detach(), b.detach()) for w, b in zip(self.weights, self.biases, strict=True))
        return there, back
