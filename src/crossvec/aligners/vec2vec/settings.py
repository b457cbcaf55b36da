"""settings — what a user of vec2vec may set, and what a preset makes of what is left out.

In    fields, None where the preset shall say
Out   Settings              shape(dims), objective(pairs), recipe(), what a fit takes for each field; SettingError
Uses  aligners.limits, and the siblings {network, recipe} < objective < presets
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from crossvec.aligners import Effort
from crossvec.aligners.limits import Range, check
from crossvec.aligners.vec2vec.network import Shape
from crossvec.aligners.vec2vec.objective import Objective
from crossvec.aligners.vec2vec.presets import PRESETS, PresetName
from crossvec.aligners.vec2vec.recipe import Precision, Recipe
from crossvec.errors import SettingError

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
class Settings:
    """The fields of the aligner Vec2Vec, which tells what each one means. Raises SettingError for values that cannot be."""

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

    @property
    def file(self) -> Path | None:
        """The checkpoint of this seed, where there is a folder for checkpoints."""
        return Path(self.checkpoint) / f"seed-{self.seed}.safetensors" if self.checkpoint else None

    def started(self) -> bool:
        """Whether a checkpoint of this seed is there, so that it needs no start."""
        return self.file is not None and self.file.exists()


def _overlaid(preset: T, settings: Settings, but: tuple[str, ...] = ()) -> T:
    """Return the preset with the fields that were set in place of its own, and 0 for those left out."""
    own = {field.name: getattr(settings, field.name) for field in fields(settings)}
    shared = [field.name for field in fields(preset) if field.name in own and field.name not in but]
    chosen = {name: own[name] for name in shared if own[name] is not None}
    chosen |= {name: 0 for name in shared if name in settings.left_out}
    return replace(preset, **{name: type(getattr(preset, name))(value) for name, value in chosen.items()})
