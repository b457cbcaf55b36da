"""recipe — how to train: numbers of steps and rows, rates and what steadies them, and what a device cannot do.

In    what a preset and its user say
Out   Recipe; the part of the rates that a step moves at; SettingError
Paper arXiv:2505.12540      rates, betas and warm-up of the published configuration
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from crossvec.errors import SettingError

Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Recipe:
    """How to train: counts, rates (per step of Adam), and what keeps it steady.

    `warmup` steps raise the rates from 0, and over the last part `cooldown` of all steps they fall to 0. `ema` is the weight of
    the past in the averaged weights that are judged and kept, 0 for none; `clip` bounds the length of a gradient, 0 for no
    bound. The network is looked at `looks` times, and training ends `patience` looks after its best score (0: never). `betas`
    and `eps` are the published ones.
    Raises SettingError for values that cannot be.
    """

    steps: int
    batch: int
    rate: float
    discriminator_rate: float
    warmup: int
    clip: float
    ema: float
    precision: Precision
    compile: bool
    seed: int
    looks: int
    patience: int
    cooldown: float = 0.0
    betas: tuple[float, float] = (0.5, 0.999)
    eps: float = 1e-8
    discriminator_eps: float = 6.25e-10

    def __post_init__(self) -> None:
        for key in ("steps", "batch", "looks"):
            if getattr(self, key) < 1:
                raise SettingError(f"{key} cannot be {getattr(self, key)}", f"use at least 1, for example -s {key}=256")
        for key in ("rate", "discriminator_rate"):
            if not 0 < getattr(self, key) < 1:
                raise SettingError(f"{key} cannot be {getattr(self, key)}", f"use a small number, for example -s {key}=2e-4")
        for key in ("warmup", "patience", "clip"):
            if getattr(self, key) < 0:
                raise SettingError(f"{key} cannot be {getattr(self, key)}", "use 0 or more")
        if not 0 <= self.cooldown <= 1:
            raise SettingError(f"cooldown cannot be {self.cooldown}", "use a part of all steps, from 0 to 1")
        if not 0 <= self.ema < 1:
            raise SettingError(f"ema cannot be {self.ema}", "use a number from 0 up to, but not, 1: 0.999 for example")

    def part(self, step: int) -> float:
        """Return the part of the rates that a step moves at."""
        rising = (step + 1) / max(self.warmup, 1)
        falling = (self.steps - step) / max(self.cooldown * self.steps, 1)
        return max(0.0, min(1.0, rising, falling if self.cooldown else 1.0))


def refuse_precision(precision: Precision, device: torch.device) -> None:
    """Raise SettingError for a precision that a device cannot train in."""
    if precision == "fp16" and device.type != "cuda":
        raise SettingError("fp16 training needs a GPU: on a CPU it is slow and overflows", "use -s precision=bf16")


def refuse_compiling(device: torch.device) -> None:
    """Raise SettingError where torch's compiler does not work: for a CPU it writes C++, and needs g++ and Python's headers."""
    try:
        torch.compile(torch.Tensor.neg)(torch.ones(1, device=device))
    except RuntimeError as problem:
        told = f"torch cannot compile for this machine's {device.type}: {str(problem).partition(chr(10))[0]}"
        raise SettingError(told, "install g++ and Python's headers (python3-dev), or leave out compile") from None
