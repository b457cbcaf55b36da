"""training — the loop: one update of the discriminators and one of the network a step, until a step or a judge says stop.

In    Network, Discriminators, Batches, Objective, Recipe
Out   Training.run()        an Outcome: the best weights that a label-free judge saw, and what it saw
Uses  aligners.vec2vec.{network, discriminators, objective, recipe, data, flat, memory, health, checkpoint, distributed}
Paper arXiv:2505.12540      section 3

A step is a function of the weights, the seed and its number: batches and dropout are drawn anew from (seed, step), so a run
that is killed and goes on from a checkpoint ends, on a CPU, with the same bits as one that was not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import combinations
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from crossvec.aligners.vec2vec import checkpoint
from crossvec.aligners.vec2vec.data import Batches, mixed
from crossvec.aligners.vec2vec.discriminators import Discriminators
from crossvec.aligners.vec2vec.distributed import Group
from crossvec.aligners.vec2vec.flat import Flat
from crossvec.aligners.vec2vec.health import SAMPLE, SETTLED, Look, sickness, vital_signs
from crossvec.aligners.vec2vec.live import Live
from crossvec.aligners.vec2vec.memory import kept
from crossvec.aligners.vec2vec.network import Network
from crossvec.aligners.vec2vec.objective import Objective, discriminator_loss, forward, generator_loss
from crossvec.aligners.vec2vec.recipe import Recipe, refuse_precision
from crossvec.aligners.vec2vec.teacher import Assigned, Direction, assigned
from crossvec.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])
Scores = Callable[[Network], float]

HALF: Mapping[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
ASSIGNED = 2048
"""Rows of each of two spaces that are assigned to each other in a step, where there are as many."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a training left: the network with the best weights seen, in evaluation; all looks; why it ended.

    `ended` is "all steps", "no better score", or the name of a sickness (see `health.sickness`); `step` the best one's.
    """

    network: Network
    score: float
    step: int
    looks: tuple[Look, ...]
    ended: str

    @property
    def healthy(self) -> bool:
        """Whether training ended in its own time."""
        return self.ended in ("all steps", "no better score")


class Training:
    """One training; `step` and `run` go on from wherever it stands.

    `scores` judges the network without pairs. `teacher` assigns pseudo-pairs, else the network's own average does. With `file`
    a checkpoint is kept there, every `every` steps and at each end; a training that finds one goes on from it. Where it begins
    is among what is kept only if that is `warm`, and not random. A network that has `grown` beside frozen parts goes on beside
    these very parts; others find what they froze in their checkpoint. Raises SettingError when a checkpoint is of another run,
    or for fp16 without a GPU.
    """

    def __init__(
        self,
        network: Network,
        discriminators: Discriminators,
        batches: Batches,
        objective: Objective,
        recipe: Recipe,
        scores: Scores,
        *,
        teacher: Network | None = None,
        file: Path | None = None,
        every: int = 0,
        warm: bool = True,
        grown: bool = False,
    ) -> None:
        device = next(network.parameters()).device
        refuse_precision(recipe.precision, device)
        self.network, self.discriminators, self.batches = network, discriminators, batches
        self.objective, self.recipe, self.scores = objective, recipe, scores
        self.file, self.every, self.group, self.device, self.warm = file, every, Group.now(), device, warm
        betas, clip = recipe.betas, recipe.clip
        self.generator = Flat(network, rate=recipe.rate, betas=betas, eps=recipe.eps, clip=clip, ema=recipe.ema)
        eps = recipe.discriminator_eps
        self.critics = Flat(discriminators, rate=recipe.discriminator_rate, betas=betas, eps=eps, clip=clip)
        for flat in (self.generator, self.critics):
            self.group.shared(flat.values.data)
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")
        self.teacher = None if teacher is None else teacher.to(device).requires_grad_(False).eval()
        self.adversarial = objective.adversarial > 0 or objective.latent > 0
        self.done = 0
        self.looks: list[Look] = []
        self.best: dict[str, Tensor] = {}
        self.ended = ""
        self._sums: dict[str, Tensor] = {}
        self._since = 0
        self._grown = checkpoint.mark(torch.cat([weight.flatten() for weight in self._frozen().values()])) if grown else ""
        made = torch.compile if recipe.compile else _as_it_is
        self._forward, self._generator_loss = made(forward), made(generator_loss)
        twice = objective.r1 > 0 or objective.r2 > 0  # differentiated twice, which torch's compiler cannot
        self._critics_loss = discriminator_loss if twice else made(discriminator_loss)
        self._rows = {name: rows.sample(SAMPLE, mixed(recipe.seed, 1)).to(device) for name, rows in batches.spaces.items()}
        self._marks = {name: rows.mark() for name, rows in batches.spaces.items()} if file else {}
        self._restore()

    def step(self) -> None:
        """Update the discriminators once, then the network once, on the passes they share."""
        rows = self.batches.at(self.done)
        torch.manual_seed(mixed(self.recipe.seed, self.group.rank, self.done))  # dropout's, so that nothing need be saved
        part = self.recipe.part(self.done)
        told: dict[str, Tensor] = {}
        # One context for both updates: it casts the network's weights once. The discriminators' are cast anew after their own.
        with self._precision():
            passes = self._forward(self.network, rows, self.objective)
            if self.adversarial:
                loss, told = self._critics_loss(self.network, self.discriminators, rows, self.objective, passes=passes)
                self._move(self.critics, loss, part)
            loss, parts = self._generator_loss(
                self.network,
                self.discriminators,
                rows,
                self.objective,
                passes=passes,
                pairs=self._pairs(),
                pseudo=self._assigned() if self.objective.pseudo else None,
            )
            self._move(self.generator, loss, part)
        self.scaler.update()
        self.done += 1
        self._since += 1
        for name, value in {"total": loss, **parts, **{f"critics {name}": value for name, value in told.items()}}.items():
            self._sums[name] = self._sums.get(name, 0) + value.detach()

    def run(self, live: Live) -> Outcome:
        """Train to the end, telling `live` how it goes; the random state outside is left as it was."""
        self.network.train()
        self.discriminators.train()
        looking = max(1, self.recipe.steps // self.recipe.looks)
        with kept(), torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            if not self.looks:
                self._look(live)
            while not self.ended:
                self.step()
                if self.group.leads:
                    live.at(self.done)
                if self.done % looking == 0 or self.done == self.recipe.steps:
                    self._look(live)
                if self.file and (self.ended or (self.every and self.done % self.every == 0)):
                    self.save()
        return self.outcome()

    def outcome(self) -> Outcome:
        """Return what came of it, the network with its best weights."""
        self.generator.set(self.best["values"])
        self._set_buffers(self.best)
        self.generator.released()
        self.network.eval()
        best = self._best()
        return Outcome(self.network, best.score, best.step, tuple(self.looks), self.ended)

    def save(self) -> None:
        """Write a checkpoint; in a group, the leader does."""
        self._even_buffers()
        for total in self._sums.values():  # each process goes on from the leader's
            self.group.mean_(total)
        if not self.group.leads or self.file is None:
            return
        tensors = {f"generator.{name}": tensor for name, tensor in self.generator.tensors().items()}
        tensors |= {f"critics.{name}": tensor for name, tensor in (self.critics.tensors() if self.adversarial else {}).items()}
        tensors |= {f"now.{name}": tensor for name, tensor in self._buffers().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        tensors |= {f"sum.{name}": tensor for name, tensor in self._sums.items()}
        tensors |= {f"teacher.{name}": tensor for name, tensor in (self.teacher.state_dict() if self.teacher else {}).items()}
        tensors |= {f"frozen.{name}": weight for name, weight in self._frozen().items()}
        facts = {
            "run": self._identity(),
            "step": self.done,
            "since": self._since,
            "ended": self.ended,
            "looks": [look.record() for look in self.looks],
            "scaler": self.scaler.state_dict(),
        }
        checkpoint.write(self.file, tensors, facts)

    def _restore(self) -> None:
        if self.file is None or not self.file.exists():
            return
        tensors, facts = checkpoint.read(self.file)
        checkpoint.refuse_other(self.file, facts.get("run", {}), self._identity())
        try:
            self.generator.restore(_under(tensors, "generator"))
            if self.adversarial:
                self.critics.restore(_under(tensors, "critics"))
            self._set_buffers(_under(tensors, "now"))
            for name, weight in self._frozen().items():
                weight.copy_(tensors[f"frozen.{name}"])
            self.best = {name: tensor.to(self.device) for name, tensor in _under(tensors, "best").items()}
            self._sums = {name: tensor.to(self.device) for name, tensor in _under(tensors, "sum").items()}
            if self.teacher is not None:
                self.teacher.load_state_dict(_under(tensors, "teacher"))
            self.done, self._since, self.ended = facts["step"], facts["since"], facts["ended"]
            self.looks = [Look.of(record) for record in facts["looks"]]
            if facts["scaler"]:
                self.scaler.load_state_dict(facts["scaler"])
        except (KeyError, TypeError, RuntimeError) as problem:
            raise UsageError(f"{self.file} is damaged: {problem}", "remove it to start anew") from None

    def settings(self) -> dict[str, Any]:
        """Return how it trains, what it minimises and the network's sizes, as plain JSON: presets and warm starts applied."""
        frozen = sum(weight.numel() for weight in self.network.parameters() if not weight.requires_grad)
        told = {**_plain(asdict(self.recipe)), **asdict(self.objective), **asdict(self.network.shape)}
        return told | ({"frozen numbers": frozen} if frozen else {})

    def _identity(self) -> dict[str, Any]:
        """Return what a checkpoint must share with the run that goes on from it."""
        spaces = {name: [len(rows), rows.dim] for name, rows in self.batches.spaces.items()}
        told = {**self.settings(), "spaces": spaces}
        pairs = "none" if self.batches.pairs is None else f"{len(self.batches.pairs)}, {checkpoint.mark(self.batches.pairs)}"
        told |= {"warm": self.warm, "processes": self.group.world, "pairs": pairs, "rows": self._marks}
        return told | ({"what is frozen": self._grown} if self._grown else {})

    def _precision(self) -> Any:
        half = HALF.get(self.recipe.precision)
        return nullcontext() if half is None else torch.autocast(self.device.type, half)

    def _move(self, flat: Flat, loss: Tensor, part: float) -> None:
        with torch.autocast(self.device.type, enabled=False):
            flat.cleared()
            torch.autograd.backward(self.scaler.scale(loss))
            flat.move(self.done, part, self.group, self.scaler)

    def _pairs(self) -> dict[Direction, tuple[Tensor, Tensor]] | None:
        known = self.batches.paired_at(self.done) if self.objective.supervised else None
        if known is None:
            return None
        a, b = list(self.batches.spaces)[:2]
        return {(a, b): known}

    def _assigned(self) -> dict[Direction, Assigned]:
        """Return how the teacher, or else the average, assigns rows of two spaces; all pairs of spaces have their turns."""
        pairs = list(combinations(self.batches.spaces, 2))
        source, target = pairs[self.done % len(pairs)]
        x, y = (self.batches.some(name, self.done, ASSIGNED) for name in (source, target))
        if self.teacher is not None:
            return {(source, target): assigned(self.teacher, source, target, x, y, self.objective.softness)}
        self.network.eval()
        # The step's context has cast the weights as they are, and would give these casts in place of the average's.
        half = HALF.get(self.recipe.precision)
        anew = torch.autocast(self.device.type, half, enabled=half is not None, cache_enabled=False)
        with anew, self.generator.showing(self.generator.average):
            found = assigned(self.network, source, target, x, y, self.objective.softness)
        self.network.train()
        return {(source, target): found}

    def _look(self, live: Live) -> None:
        """Judge the averaged weights, keep them when they are the best, and end training when there is reason to."""
        self._even_buffers()
        losses = {name: total / max(self._since, 1) for name, total in self._sums.items()}
        numbers = torch.stack([*losses.values()]).float() if losses else torch.zeros(0, device=self.device)
        self.group.mean_(numbers)
        self.network.eval()
        self.discriminators.eval()
        signs = torch.zeros(5, dtype=torch.float64, device=self.device)
        with self.generator.showing(self.generator.average):
            if self.group.leads:
                found = vital_signs(self.network, self.discriminators, self._rows, self.objective.gan, self.scores)
                signs = torch.tensor([*found, live.sure(self.network)], dtype=torch.float64, device=self.device)
            score, rank, spread, told, sure = self.group.shared(signs).tolist()
            parts = dict(zip(losses, numbers.tolist(), strict=True))
            self.looks.append(Look(self.done, score, parts.pop("total", 0.0), parts, rank, spread, told, sure))
            if self._best() is self.looks[-1]:
                self.best = {"values": self.generator.values.detach().clone(), **self._buffers()}
        self.network.train()
        self.discriminators.train()
        self._sums, self._since = {}, 0
        self.ended = sickness(self.looks, SETTLED if self.network.shape.norm == "batch" else 0)
        if not self.ended and self.recipe.patience and self._since_best() >= self.recipe.patience:
            self.ended = "no better score"
        if not self.ended and self.done >= self.recipe.steps:
            self.ended = "all steps"
        if self.group.leads:
            live.tell(self.looks[-1])

    def _best(self) -> Look:
        # Training from nothing first lowers the score of random numbers: they would be kept, and patience would end.
        return max(self.looks, key=lambda look: (isfinite(look.score), self.warm or look.step > 0, look.score))

    def _since_best(self) -> int:
        return len(self.looks) - 1 - self.looks.index(self._best())

    def _frozen(self) -> dict[str, Tensor]:
        return {name: weight for name, weight in self.network.named_parameters() if not weight.requires_grad}

    def _buffers(self) -> dict[str, Tensor]:
        return {f"buffer.{name}": buffer.clone() for name, buffer in self.network.named_buffers()}

    def _set_buffers(self, tensors: Mapping[str, Tensor]) -> None:
        for name, buffer in self.network.named_buffers():
            buffer.copy_(tensors[f"buffer.{name}"])

    def _even_buffers(self) -> None:
        """Give all processes one set of running statistics: each has those of the rows it saw."""
        for buffer in self.network.buffers():
            if buffer.is_floating_point():
                self.group.mean_(buffer)


def _as_it_is(function: F) -> F:
    return function


def _under(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")}


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
