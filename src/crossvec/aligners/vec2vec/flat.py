"""flat — all trainable numbers of a network as one tensor, so that a step moves them at once.

In    a module              its trainable parameters, float32
Out   Flat                  values (p,) and their gradient (p,), whose views the module's are; Adam's state and an average
Uses  torch, aligners.vec2vec.distributed

Adam, the clipping, the average and the message between processes are then one operation each instead of one a layer, and a
checkpoint is a handful of tensors.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

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
        self.adam = torch.optim.Adam([self.values], lr=rate, betas=betas, eps=eps, fused=True)

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
        scaler.unscale_(self.adam)
        if self.clip:
            length = torch.linalg.vector_norm(self.gradient)
            self.gradient.mul_((self.clip / length.clamp_min(self.clip)).nan_to_num(nan=1.0))  # NaN shall show, not hide in 0
        self.adam.param_groups[0]["lr"] = self.rate * part
        scaler.step(self.adam)
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
        state = self.adam.state.get(self.values, {})
        kept = {"values": self.values.detach(), **{f"adam.{name}": tensor for name, tensor in state.items()}}
        return kept | ({"average": self.average} if self.ema else {})

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what `tensors` returned."""
        self.set(tensors["values"].to(self.values.device))
        if self.ema:
            self.average.copy_(tensors["average"])
        moments = {name.removeprefix("adam."): tensor for name, tensor in tensors.items() if name.startswith("adam.")}
        if moments:
            self.adam.state[self.values] = {name: tensor.to(self.values.device) for name, tensor in moments.items()}
