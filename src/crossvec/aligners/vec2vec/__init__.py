"""vec2vec — the unpaired translator of arXiv:2505.12540: adapters around one backbone, trained against discriminators.

In    x (n, dx), y (m, dy)  float32, centred, rows of unit length
Out   Alignment             both directions of one network, chosen among steps and seeds without pairs
Uses  aligners.moments (for a warm start), and the siblings: {network, recipe} < objective < {presets, training < seeds}

The Translator centres rows before they come here and places them afterwards. The published code does not centre: its network
has to learn each space's mean, and its cosines count that mean as agreement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from crossvec.aligners import Alignment, Effort, Step, silent
from crossvec.aligners.limits import Range, check
from crossvec.aligners.moments import Moments
from crossvec.aligners.vec2vec.checkpoint import make_folder, refuse_place
from crossvec.aligners.vec2vec.data import Batches, Rows, mixed
from crossvec.aligners.vec2vec.discriminators import Discriminators
from crossvec.aligners.vec2vec.distributed import Group
from crossvec.aligners.vec2vec.health import Judge, built_in
from crossvec.aligners.vec2vec.live import require_tensorboard
from crossvec.aligners.vec2vec.network import Network, Shape
from crossvec.aligners.vec2vec.neural import Neural
from crossvec.aligners.vec2vec.objective import Objective
from crossvec.aligners.vec2vec.presets import PRESETS, Preset, PresetName
from crossvec.aligners.vec2vec.recipe import Precision, Recipe, refuse_compiling, refuse_precision
from crossvec.aligners.vec2vec.seeds import Found, best_of
from crossvec.aligners.vec2vec.teacher import taught_by
from crossvec.aligners.vec2vec.training import Scores, Training
from crossvec.aligners.vec2vec.warm import start_at, weight
from crossvec.errors import SettingError, UnfinishedError
from crossvec.geometry import fast_type

__all__ = ["PRESETS", "Neural", "Preset", "Vec2Vec"]

Linears = Mapping[tuple[str, str], Alignment]
"""Alignments of linear maps by source and target."""

T = TypeVar("T", Shape, Objective, Recipe)


LEAVABLE = (
    *("rec", "cycle", "vsp", "cycle_vsp", "adversarial", "latent", "supervised", "pseudo", "r1", "r2"),
    *("nearness", "warmup", "cooldown", "ema", "clip", "dropout", "noise"),
)

SUPERVISED, MANY_PAIRS = 10.0, 1000
"""Weight of known pairs where they are given and no weight is: that of the cycles from MANY_PAIRS on, and with fewer in
proportion, so that a pair says as much alone as among others. At full weight 100 pairs are learned by heart: top-1 .81 instead
of .87 with none (benchmarks/LOG.md)."""


@dataclass(frozen=True)
class Vec2Vec:
    """Unpaired alignment by adversarial training of a network with a shared latent (Jha 2025), from a linear start or none.

    A field that is None takes the value of `preset`: `small`, width 256, for a CPU; `full`, width 1024, for a GPU; `scratch`,
    width 256, from random weights; `paper` and `published-code`, as published. Those two differ: see `Objective`.

    start           "warm" at the rotation that `moments` finds with `effort` (the width is raised to hold both spaces where it
                    is not given); "cold" from random weights; None: as `preset`
    rec ... pseudo  weights of the objective's terms; `supervised` is used where pairs are given; `softness` and `nearness`: see
                    `Objective`
    without         fields that shall be 0, such as "latent, cycle_vsp", in place of `latent=0` and `cycle_vsp=0`
    gan ... latent_discriminators, norm, dropout   what paper and published code differ in, and other forms
    noise           the length of the noise that rows, of length 1, get before an adapter reads them in training
    frozen          "backbone" or "adapters": the part that stays as it starts, while the other learns
    seeds           healthy trainings to choose from; a sick one (see `health.sickness`) is replaced by the next seed
    looks, patience how often the averaged weights are judged without pairs, and how many looks without gain end training
    checkpoint      a folder: every `every` steps (0: at each look) what training goes on from is written there, and found
                    there after a kill
    events          a folder for TensorBoard's event files
    precision       "fp32"; "bf16", which a processor without instructions for it emulates, and is slower; "fp16" on a GPU
    others          how to train: `batch`, `rate`, `discriminator_rate`, `warmup`, `cooldown`, `ema`, `clip`, `compile`

    Evidence: `label_free_score` of the map kept, `start_score` before training, `healthy` trainings, `best_step`. The trace has
    a record a seed, with every look. Under torchrun the processes share the rows and train one network together.
    """

    name: ClassVar[str] = "vec2vec"
    needs_pairs: ClassVar[bool] = False
    uses_pairs: ClassVar[bool] = True
    tells_verdict: ClassVar[bool] = True

    preset: PresetName = "small"
    start: Literal["cold", "warm"] | None = None
    effort: Effort = "standard"
    seed: int = 0
    seeds: int = 1
    steps: int | None = None
    batch: int | None = None
    rate: float | None = None
    discriminator_rate: float | None = None
    warmup: int | None = None
    cooldown: float | None = None
    ema: float | None = None
    clip: float | None = None
    precision: Precision = "fp32"
    compile: bool = False
    looks: int | None = None
    patience: int | None = None
    width: int | None = None
    adapter_depth: int | None = None
    backbone_depth: int | None = None
    norm: Literal["layer", "batch"] | None = None
    dropout: float | None = None
    noise: float | None = None
    rec: float | None = None
    cycle: float | None = None
    vsp: float | None = None
    cycle_vsp: float | None = None
    adversarial: float | None = None
    latent: float | None = None
    supervised: float | None = None
    pseudo: float | None = None
    softness: float | None = None
    nearness: float | None = None
    gan: Literal["least-squares", "standard", "relativistic"] | None = None
    distance: Literal["cosine", "squared"] | None = None
    vsp_form: Literal["published", "paper"] | None = None
    detach_cycle: Literal["yes", "no"] | None = None
    latent_discriminators: Literal["one", "two"] | None = None
    r1: float | None = None
    r2: float | None = None
    without: str = ""
    frozen: Literal["backbone", "adapters"] | None = None
    checkpoint: str = ""
    every: int = 0
    events: str = ""

    def __post_init__(self) -> None:
        weights = {field.name: Range(0.0, such=1.0) for field in fields(self) if field.type == "float | None"}
        rates = {"rate": Range(0.0, 0.9, above=True, such=2e-4), "discriminator_rate": Range(0.0, 0.9, above=True, such=1e-4)}
        parts = {"ema": Range(0.0, 1.0, below=True, such=0.999), "dropout": Range(0.0, 0.9, such=0.1)}
        parts |= {"cooldown": Range(0.0, 1.0), "softness": Range(0.0, above=True)}
        check(self, dict.fromkeys(("seed", "warmup", "patience", "every"), 0), **{**weights, **rates, **parts})
        for name in self.left_out:
            if name not in LEAVABLE or getattr(self, name) is not None:
                raise SettingError(f"without cannot name {name!r}", f"name what is not set: {', '.join(LEAVABLE)}")
        if self.every and not self.checkpoint:
            raise SettingError("every needs a folder for checkpoints", "add -s checkpoint=FOLDER")
        if self.start == "cold" and PRESETS[self.preset].warm:
            raise SettingError(f"the preset {self.preset} starts warm: its terms need a map", "use -s preset=scratch")
        if self.start == "warm" and PRESETS[self.preset].shape.shortcut != "linear":
            raise SettingError(f"the preset {self.preset} cannot start warm: its shortcuts only pad", "use -s preset=full")

    @property
    def left_out(self) -> list[str]:
        """The fields that `without` sets to 0."""
        return [name.strip() for name in self.without.split(",") if name.strip()]

    @property
    def warm(self) -> bool:
        """Whether training starts at the map that `moments` finds."""
        return self.start == "warm" or (not self.start and PRESETS[self.preset].warm)

    def shape(self, dims: tuple[int, ...] = ()) -> Shape:
        """Return the network's sizes for spaces of these dimensions. Raises SettingError for a warm start without room."""
        shape = _overlaid(PRESETS[self.preset].shape, self)
        room = max(dims, default=0)
        if not self.warm or shape.width >= room:
            return shape
        if self.width:
            raise SettingError(f"a latent of width {self.width} has no room for {room} dimensions", f"use width={room} or more")
        return replace(shape, width=room)

    def objective(self, *, pairs: int = 0) -> Objective:
        """Return the objective with so many known pairs. Raises SettingError where no term is left."""
        objective = _overlaid(PRESETS[self.preset].objective, self, but=("detach_cycle", "latent_discriminators"))
        if self.detach_cycle:
            objective = replace(objective, detach_cycle=self.detach_cycle == "yes")
        if self.latent_discriminators:
            objective = replace(objective, latent_discriminators=1 if self.latent_discriminators == "one" else 2)
        if not pairs:
            objective = replace(objective, supervised=0.0)
        elif self.supervised is None and "supervised" not in self.left_out:
            objective = replace(objective, supervised=SUPERVISED * min(1.0, pairs / MANY_PAIRS))
        return objective.with_terms()

    def recipe(self) -> Recipe:
        """Return how to train, under this aligner's own seed."""
        chosen = _overlaid(PRESETS[self.preset].recipe, self, but=("precision", "compile", "seed"))
        return replace(chosen, precision=self.precision, compile=self.compile, seed=self.seed)

    def in_full(self) -> dict[str, Any]:
        """Return by field what training takes for those left to the preset; `supervised` is told as for many known pairs."""
        objective = self.objective(pairs=MANY_PAIRS)
        taken = {**vars(self.shape()), **vars(objective), **vars(self.recipe())}
        taken |= {
            "start": "warm" if self.warm else "cold",
            "detach_cycle": "yes" if objective.detach_cycle else "no",
            "latent_discriminators": "one" if objective.latent_discriminators == 1 else "two",
        }
        return {field.name: taken[field.name] for field in fields(self) if field.name in taken}

    def fit(
        self,
        x: Float[Tensor, "n dx"],
        y: Float[Tensor, "m dy"],
        *,
        pairs: Int[Tensor, "p 2"] | None = None,
        progress: Step = silent,
        judge: Judge | None = None,
        verdict: Judge | None = None,
        start: Alignment | None = None,
    ) -> Alignment:
        """Train a network between two centred clouds of unit rows; `judge` scores maps x -> y in place of the built-in score.

        `verdict` gives the Verdict's probability of such a map: it is told with each look at the training, and chooses nothing.
        A warm training starts at `start`, an alignment of linear maps, where it is given, else at what `moments` finds.
        Raises SettingError for settings that do not go together, UsageError for a checkpoint that cannot be read or written.
        """
        spaces = {"source": Rows.of(x), "target": Rows.of(y)}
        begun = 0.3 if self.warm and start is None else 0.0

        def linear() -> Linears:
            if not self.warm:
                return {}
            map_ = start
            if map_ is None:
                progress("looking for a linear start", 0.0)
                moments = Moments(effort=self.effort, seed=self.seed, finish="orthogonal")
                map_ = moments.fit(x, y, progress=lambda doing, fraction: progress(f"start: {doing}", begun * fraction))
            return {("source", "target"): map_}

        def of_network(told: Judge | None) -> Scores | None:
            return None if told is None else (lambda network: told(Neural.of(network, "source", "target")))

        found = train(
            self,
            spaces,
            linear=linear,
            pairs=pairs,
            scores=of_network(judge),
            verdict=of_network(verdict),
            progress=lambda doing, fraction: progress(doing, begun + (0.99 - begun) * fraction),
        )
        best = found.best
        evidence = {
            "label_free_score": best.score if best.score == best.score else 0.0,
            "start_score": best.looks[0].score,
            "healthy": float(found.healthy),
            "best_step": float(best.step),
        }
        progress("done", 1.0)
        there, back = (Neural.of(best.network, *ends) for ends in (("source", "target"), ("target", "source")))
        return Alignment(there, back, evidence, found.trace)

    def refuse_early(self, spaces: Mapping[str, Rows], pairs: int, device: torch.device) -> None:
        """Raise, before a start is looked for, what training would raise after it."""
        shape = self.shape(tuple(rows.dim for rows in spaces.values()))
        fewest = min([self.recipe().batch, *(len(rows) // Group.now().world for rows in spaces.values())])
        if shape.norm == "batch" and fewest < 2:
            raise SettingError("batch norm needs two rows of a space in a step", "use -s norm=layer, or more rows and batch=2")
        self.objective(pairs=pairs)
        refuse_precision(self.precision, device)
        if self.compile:
            refuse_compiling(device)
        if Group.now().leads:
            if self.events:
                require_tensorboard()
                make_folder(Path(self.events))
            if self.checkpoint:
                refuse_place(_file(self, self.seed))

    def started(self) -> bool:
        """Whether a checkpoint of this seed is there, so that it needs no start."""
        return bool(self.checkpoint) and _file(self, self.seed).exists()


def train(
    settings: Vec2Vec,
    spaces: Mapping[str, Rows],
    *,
    linear: Callable[[], Linears] | None = None,
    network: Callable[[Generator, bool], Network] | None = None,
    pairs: Int[Tensor, "p 2"] | None = None,
    scores: Scores | None = None,
    verdict: Scores | None = None,
    device: torch.device | None = None,
    progress: Step = silent,
) -> Found:
    """Train a network between any number of spaces, from linear maps of the first one where `linear` finds some.

    It is asked once, and only when a seed has no checkpoint to go on from. `network` makes the network where it is not a new
    one, and is told whether it starts there: parts that it froze stay. `pairs` are rows of the first two spaces. Raises
    what `Training` raises, MissingExtraError for events without tensorboard, UnfinishedError for Ctrl-C after a checkpoint.
    """
    where = device or next(iter(spaces.values())).device
    settings.refuse_early({} if network else spaces, 0 if pairs is None else len(pairs), where)
    if settings.precision == "bf16" and fast_type(where.type) != torch.bfloat16:
        progress("this processor emulates bf16: fp32 is faster", 0.0)
    judged = scores or built_in(spaces, settings.seed, where)
    found = cache(linear or dict)

    def make(seed: int) -> Training:
        one = replace(settings, seed=seed)
        maps = {} if one.started() else found()
        return prepared(one, spaces, judged, linear=maps, network=network, pairs=pairs, device=where)

    events = Path(settings.events) if settings.events else None
    try:
        return best_of(make, settings.seed, settings.seeds, events, progress, verdict)
    except KeyboardInterrupt:
        if settings.checkpoint and any(Path(settings.checkpoint).glob("seed-*.safetensors")):
            told = f"interrupted; what was trained so far is kept in {settings.checkpoint}"
            raise UnfinishedError(told, "the same line goes on from there") from None
        raise


def prepared(
    settings: Vec2Vec,
    spaces: Mapping[str, Rows],
    scores: Scores,
    *,
    linear: Linears | None = None,
    network: Callable[[Generator, bool], Network] | None = None,
    pairs: Int[Tensor, "p 2"] | None = None,
    device: torch.device | None = None,
) -> Training:
    """Return the training of one seed, before its first step or where its checkpoint left it; arguments as for `train`."""
    where = device or next(iter(spaces.values())).device
    dims = {name: rows.dim for name, rows in spaces.items()}
    generator = Generator().manual_seed(mixed(settings.seed, 0))
    made = (
        network(generator, not settings.started())
        if network
        else Network(dims, settings.shape(tuple(dims.values())), generator)
    )
    objective = settings.objective(pairs=0 if pairs is None else len(pairs))
    teacher = (
        taught_by(linear or {}, spaces, made, settings.seed) if objective.pseudo and settings.warm and not network else None
    )
    for (source, target), alignment in (linear or {}).items():
        start_at(made, source, target, weight(alignment.map), weight(alignment.inverse))
    if settings.frozen == "backbone":
        made.freeze_backbone()
    for name in spaces if settings.frozen == "adapters" else ():
        made.freeze_space(name)
    width, depth = made.shape.width, PRESETS[settings.preset].critic_depth
    latents = objective.latent_discriminators
    critics = Discriminators(dims, width, generator, latent_discriminators=latents, width=width, depth=depth)
    group, recipe = Group.now(), settings.recipe()
    batches = Batches(spaces, recipe.batch, settings.seed, rank=group.rank, world=group.world, pairs=pairs, device=where)
    file = _file(settings, settings.seed) if settings.checkpoint else None
    every = settings.every or max(1, recipe.steps // recipe.looks)
    parts = made.to(where), critics.to(where), batches, objective, recipe, scores
    return Training(*parts, teacher=teacher, file=file, every=every, warm=settings.warm, grown=network is not None)


def _file(settings: Vec2Vec, seed: int) -> Path:
    return Path(settings.checkpoint) / f"seed-{seed}.safetensors"


def _overlaid(preset: T, settings: Vec2Vec, but: tuple[str, ...] = ()) -> T:
    """Return the preset with the fields that were set in place of its own, and 0 for those left out."""
    own = {field.name: getattr(settings, field.name) for field in fields(settings)}
    shared = [field.name for field in fields(preset) if field.name in own and field.name not in but]
    chosen = {name: own[name] for name in shared if own[name] is not None}
    chosen |= {name: 0 for name in shared if name in settings.left_out}
    return replace(preset, **{name: type(getattr(preset, name))(value) for name, value in chosen.items()})
