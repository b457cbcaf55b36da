"""flat — all trainable numbers of a network as one tensor, so that a step moves them at once.

In    a module              its trainable parameters, float32
Out   Flat                  values (p,) and their gradient (p,), whose views the module's are; Adam's state and an average
Uses  torch, aligners.vec2vec.distributed
Paper arXiv:1412.6980       algorithm 1: Adam

Adam, the clipping, the average and the message between processes are then one operation each instead of one a layer, and a
checkpoint is a handful of tensors.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from crossvec.aligners.vec2vec.distributed import Group
from crossvec.errors import SettingError

ALIGNED = 64
"""Every parameter starts at a multiple of so many numbers: kernels are slower on odd addresses."""


class Flat:
    """The trainable parameters of `module`, laid into one tensor; the module keeps working, on views of it.

    `average` is the exponential moving average of the values with weight `ema` on the past, shorter at the start (where the
    past is the random start); 0 keeps none, and `average` is the values. Raises SettingError when nothing is trainable.
    """

    def __init__(
        self, module: nn.Module, *, rate: float, betas: tuple[float, float], eps: float, clip: float, ema: float = 0.0
    ) -> None:
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        if not parameters:
            raise SettingError("nothing of this network is left to train", "leave a part of it unfrozen")
        room = [-(-parameter.numel() // ALIGNED) * ALIGNED for parameter in parameters]
        self.values = nn.Parameter(parameters[0].detach().new_zeros(sum(room)))
        self.gradient = torch.zeros_like(self.values)
        self.values.grad = self.gradient
        self._parameters = parameters
        start = 0
        for parameter, size in zip(parameters, room, strict=True):
            here = slice(start, start + parameter.numel())
            self.values.data[here] = parameter.detach().flatten()
            parameter.data = self.values.data[here].view_as(parameter)
            parameter.grad = self.gradient[here].view_as(parameter)  # backward passes add to it in place
            start += size
        self.rate, self.clip, self.ema = rate, clip, ema
        self.average = self.values.detach().clone() if ema else self.values.detach()
        self.adam = Adam(self.values, betas, eps)

    def cleared(self) -> None:
        """Forget the gradient, before a backward pass."""
        self.gradient.zero_()

    def released(self) -> None:
        """Give the module its own tensors back: a copy of a view would copy all of it."""
        for parameter in self._parameters:
            parameter.data, parameter.grad = parameter.detach().clone(), None

    def move(self, step: int, part: float, group: Group, scaler: torch.amp.GradScaler) -> None:
        """Take Adam's step along the gradient of the whole group, clipped, at `part` of the rate."""
        group.mean_(self.gradient)
        optimiser = cast(Any, self.adam)  # what a scaler asks of one, it is
        scaler.unscale_(optimiser)
        if self.clip:
            length = torch.linalg.vector_norm(self.gradient)
            self.gradient.mul_((self.clip / length.clamp_min(self.clip)).nan_to_num(nan=1.0))  # NaN shall show, not hide in 0
        self.adam.rate = self.rate * part
        scaler.step(optimiser)
        if self.ema:
            self.average.lerp_(self.values.detach(), 1 - min(self.ema, (1 + step) / (10 + step)))

    @contextmanager
    def showing(self, values: Tensor) -> Iterator[None]:
        """Let the module compute with other values, for a while."""
        before = self.values.detach().clone()
        try:
            self.set(values)
            yield
        finally:
            self.set(before)

    def set(self, values: Tensor) -> None:
        """Give the module these values."""
        self.values.data.copy_(values)

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that training goes on from."""
        kept = {"values": self.values.detach(), **{f"adam.{name}": tensor for name, tensor in self.adam.state.items()}}
        return kept | ({"average": self.average} if self.ema else {})

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what `tensors` returned."""
        self.set(tensors["values"].to(self.values.device))
        if self.ema:
            self.average.copy_(tensors["average"])
        for name, tensor in self.adam.state.items():
            if f"adam.{name}" in tensors:  # earlier checkpoints lack those of a module that never moved
                tensor.copy_(tensors[f"adam.{name}"])


class Adam:
    """Adam on one tensor that has a gradient, for a scaler to step as it steps torch's optimiser, of which it has the bits.

    torch's own class imports torch's compiler first, which takes seconds. `state` holds `step`, `exp_avg` and `exp_avg_sq`.
    """

    _step_supports_amp_scaling = True  # the scaler then leaves it to the step to skip gradients that are no numbers
    grad_scale: Tensor | None = None
    found_inf: Tensor | None = None

    def __init__(self, values: nn.Parameter, betas: tuple[float, float], eps: float) -> None:
        self.param_groups = [{"params": [values]}]
        self.values, self.betas, self.eps, self.rate = values, betas, eps, 0.0
        self.state = {
            "step": torch.zeros((), device=values.device),
            "exp_avg": torch.zeros_like(values, requires_grad=False),
            "exp_avg_sq": torch.zeros_like(values, requires_grad=False),
        }

    @torch.no_grad()
    def step(self) -> None:
        """Move the values along their gradient, at the rate."""
        steps, slopes, squares = ([tensor] for tensor in self.state.values())
        gradient = cast(Tensor, self.values.grad)
        adam([self.values], [gradient], slopes, squares, [], steps, fused=True, grad_scale=self.grad_scale,
             found_inf=self.found_inf, amsgrad=False, beta1=self.betas[0], beta2=self.betas[1], lr=self.rate,
             weight_decay=0.0, eps=self.eps, maximize=False)  # fmt: skip
