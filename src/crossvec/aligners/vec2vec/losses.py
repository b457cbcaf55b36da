"""losses — the terms of vec2vec's objective, each one function of rows or logits that returns one number.

In    rows (k, d) of unit length, latents (k, z), logits (k,)
Out   a tensor of no dimensions, a mean over rows (or over pairs of rows)
Uses  torch, geometry, aligners.plans
Paper arXiv:2505.12540      section 3.2; where the published code differs a switch names the two forms
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus

from crossvec.aligners.plans import imitation
from crossvec.geometry import unit, widened

Distance = Literal["cosine", "squared"]
VSP = Literal["published", "paper"]
GAN = Literal["least-squares", "standard", "relativistic"]

TEMPERATURE = 0.1


def distance(a: Float[Tensor, "k d"], b: Float[Tensor, "k d"], form: Distance) -> Float[Tensor, ""]:
    """Return the mean 1 - <a_i, b_i> of unit rows (published code), or the mean |a_i - b_i|^2 (paper): twice as much."""
    if form == "cosine":
        return 1 - (a * b).sum(1).mean()
    return (a - b).square().sum(1).mean()


def reconstruction(x: Float[Tensor, "k d"], rebuilt: Float[Tensor, "k d"], form: Distance = "cosine") -> Float[Tensor, ""]:
    """L_rec: how far R(x) is from x (section 3.2, E |R(x) - x|^2)."""
    return distance(x, rebuilt, form)


def cycle_consistency(x: Float[Tensor, "k d"], returned: Float[Tensor, "k d"], form: Distance = "cosine") -> Float[Tensor, ""]:
    """L_CC: how far F_ba(F_ab(x)) is from x (section 3.2, E |F2(F1(x)) - x|^2)."""
    return distance(x, returned, form)


def vector_space_preservation(
    x: Float[Tensor, "k d"], mapped: Float[Tensor, "k e"], form: VSP = "published"
) -> Float[Tensor, ""]:
    """L_VSP: how far the cosines among rows are from those among their images; 0 for an isometry.

    "paper" is the mean over i, j of (<x_i, x_j> - <f_i, f_j>)^2 (section 3.2; as printed it sets the cosines of some texts
    against those of others, which no map makes equal, so here both are of the same rows). "published" is the mean absolute
    difference, plus that of <x_i, x_j> and the reflected <f_i, x_j>: it asks for images in the space of x, and there for the
    identity. The diagonal counts in both.
    """
    among = widened(x @ x.T)
    if form == "paper":
        return (among - widened(mapped @ mapped.T)).square().mean()
    return (among - widened(mapped @ mapped.T)).abs().mean() + (among - widened(mapped @ x.T)).abs().mean()


def discriminator_adversarial(real: Float[Tensor, " k"], fake: Float[Tensor, " m"], kind: GAN) -> Float[Tensor, ""]:
    """What a discriminator minimises, given its logits.

    standard        E softplus(-D(real)) + E softplus(D(fake))        Goodfellow 2014: real 1, fake 0
    least-squares   (E D(real)^2 + E (D(fake) - 1)^2) / 2             Mao 2017, with the published code's labels: real 0, fake 1
    relativistic    E softplus(D(real) - D(fake))                     Jolicoeur-Martineau 2018, pair by pair; fake is high

    Only the relativistic one pairs rows, so with it real rows are used over again until the fake ones end.
    """
    if kind == "standard":
        return softplus(-real).mean() + softplus(fake).mean()
    if kind == "least-squares":
        return (real.square().mean() + (fake - 1).square().mean()) / 2
    return softplus(_paired(real, fake) - fake).mean()


def generator_adversarial(real: Float[Tensor, " k"] | None, fake: Float[Tensor, " m"], kind: GAN) -> Float[Tensor, ""]:
    """What the generator minimises against that discriminator; `real` is needed, and used, by the relativistic kind alone.

    standard        E softplus(-D(fake))              the non-saturating form
    least-squares   E D(fake)^2 / 2
    relativistic    E softplus(D(fake) - D(real))
    """
    if kind == "standard":
        return softplus(-fake).mean()
    if kind == "least-squares":
        return fake.square().mean() / 2
    if real is None:
        raise ValueError("the relativistic loss compares with real rows")
    return softplus(fake - _paired(real, fake)).mean()


def told_apart(real: Float[Tensor, " k"], fake: Float[Tensor, " m"], kind: GAN) -> Float[Tensor, ""]:
    """Return how often a discriminator ranks a real row and a fake one rightly: .5 is fooled, 1 never wrong."""
    above = (_paired(real, fake) - fake).sign().mean()
    return (1 + above) / 2 if kind == "standard" else (1 - above) / 2


def gradient_penalty(rows: Float[Tensor, "k d"], logits: Float[Tensor, " m"]) -> Float[Tensor, ""]:
    """Return E |grad D(row)|^2 / 2, of real rows R1 and of fake ones R2 (Mescheder 2018; the published code sums over rows).

    `rows` must require gradients; `logits` are those of some of the rows, computed row by row.
    """
    (slopes,) = torch.autograd.grad(logits.sum(), rows, create_graph=True)
    return slopes.square().sum() / (2 * len(logits))


def supervised(
    mapped: Float[Tensor, "p d"], truth: Float[Tensor, "p d"], contrast: float = 0.3, temperature: float = TEMPERATURE
) -> Float[Tensor, ""]:
    """Return what known pairs ask: 1 - mean cosine, plus `contrast` times InfoNCE among the pairs given (van den Oord 2018)."""
    found = cross_entropy(widened(mapped @ truth.T) / temperature, torch.arange(len(truth), device=truth.device))
    return distance(mapped, truth, "cosine") + contrast * found


def pseudo_pairs(
    mapped: Float[Tensor, "k d"],
    rows: Float[Tensor, "m d"],
    meant: Float[Tensor, "k d"],
    temperature: float | Float[Tensor, ""],
    nearness: float,
) -> Float[Tensor, ""]:
    """Return what an assignment of target rows asks of translations; `meant` is their mean under a plan whose rows sum to 1.

    First the cross entropy of the translations' softmax over `rows` to the plan (`aligners.plans`), then `nearness` times the
    mean 1 - cosine to `meant`. `aligners.assignment` tells why plans, and not the nearest rows.
    """
    return imitation(mapped, rows, meant, temperature) + nearness * distance(mapped, unit(meant), "cosine")


def _paired(real: Tensor, fake: Tensor) -> Tensor:
    """Return as many real logits as there are fake ones, from the start again where they run out."""
    return real if len(real) == len(fake) else real.repeat(-(-len(fake) // len(real)))[: len(fake)]
