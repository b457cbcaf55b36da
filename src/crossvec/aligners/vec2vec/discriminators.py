"""discriminators — the critics of vec2vec: one for the rows of each space, and one or several for the latent.

In    rows (k, d) of a space, or latents (k, z)
Out   (k,)                  one logit a row; no sigmoid
Uses  torch, geometry, aligners.vec2vec.network
Paper arXiv:2505.12540      section 3.1: like the adapters, without residual connections; sizes of the published configuration
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn.functional import layer_norm, linear, silu

from crossvec.aligners.vec2vec.network import kaiming
from crossvec.errors import SettingError
from crossvec.geometry import widened


class Discriminator(nn.Module):
    """Linear; `depth` - 2 times SiLU, Linear, layer norm; SiLU, Linear to one logit. No dropout, as published."""

    def __init__(self, dim: int, width: int, depth: int, generator: Generator | None) -> None:
        super().__init__()
        if depth < 2 or width < 1:
            raise SettingError(
                f"a discriminator cannot be {depth} layers of {width}", "use at least 2 layers of at least 1 unit"
            )
        ends = [dim, *[width] * (depth - 1), 1]
        self.layers = nn.ModuleList(kaiming(into, out, generator) for into, out in zip(ends, ends[1:], strict=False))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth - 2))

    def forward(self, rows: Float[Tensor, "k d"], *, learn: bool = True) -> Float[Tensor, " k"]:
        """Return the logits; without `learn` gradients pass through to the rows only, which spares products."""
        weight, bias = _numbers(self.layers[0], learn)
        hidden = linear(rows.to(weight.dtype), weight, bias)
        for layer, norm in zip(self.layers[1:-1], self.norms, strict=True):
            hidden = linear(silu(hidden), *_numbers(layer, learn))
            hidden = layer_norm(hidden, hidden.shape[1:], *_numbers(norm, learn))
        return widened(linear(silu(hidden), *_numbers(self.layers[-1], learn))[:, 0])


class Discriminators(nn.Module):
    """A discriminator for each space of `dims`, and `latent_discriminators` for latents of width `latent_width`: 1 or 2.

    1: the first space's latents are real and all others' fake, as published. 2: each space has one, to which its own latents
    are real and all others' fake; with two spaces these are the paper's two. Nothing else depends on the number of spaces.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        latent_width: int,
        generator: Generator | None,
        *,
        latent_discriminators: Literal[1, 2] = 1,
        width: int = 1024,
        depth: int = 5,
    ) -> None:
        super().__init__()
        self.latent_width, self.latent_discriminators, self.width, self.depth = (
            latent_width,
            latent_discriminators,
            width,
            depth,
        )
        self.dims: dict[str, int] = {}
        self.of_rows, self.of_latents = nn.ModuleList(), nn.ModuleList()
        for name, dim in dims.items():
            self.add_space(name, dim, generator)

    def add_space(self, name: str, dim: int, generator: Generator | None) -> None:
        """Give one more space its discriminators; what there is stays as it is."""
        if name in self.dims:
            raise SettingError(f"the space {name!r} has a discriminator already", "give the new space another name")
        where = next(self.parameters(), None)
        self.of_rows.append(Discriminator(dim, self.width, self.depth, generator).to(where))
        if self.latent_discriminators == 2 or not self.dims:
            self.of_latents.append(Discriminator(self.latent_width, self.width, self.depth, generator).to(where))
        self.dims[name] = dim

    def rows(self, space: str) -> Discriminator:
        """Return the discriminator that knows a space's own rows from translations into it."""
        if space not in self.dims:
            raise SettingError(f"there is no discriminator for {space!r}", f"there are some for {', '.join(self.dims)}")
        return _taken(self.of_rows, list(self.dims).index(space))

    def latents(self) -> dict[str, Discriminator]:
        """Return the latent discriminators by the space whose latents are real to them."""
        return {space: _taken(self.of_latents, index) for index, space in enumerate(list(self.dims)[: len(self.of_latents)])}


def _taken(critics: nn.ModuleList, index: int) -> Discriminator:
    critic = critics[index]
    assert isinstance(critic, Discriminator)
    return critic


def _numbers(layer: nn.Module, learn: bool) -> tuple[Tensor, Tensor]:
    assert isinstance(layer, nn.Linear | nn.LayerNorm)
    return (layer.weight, layer.bias) if learn else (layer.weight.detach(), layer.bias.detach())
