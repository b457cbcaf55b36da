"""health — is this training well? Looked at from time to time, on rows alone, and named when it is not.

In    rows of both spaces, their translations, the discriminators' logits
Out   Look                  a label-free score, how wide the translated clouds are, how well the discriminators tell
      sickness              "", or the name of what went wrong
Uses  geometry, aligners.maps, aligners.vec2vec.{network, data, discriminators, losses}

The score asks two things of a translated cloud that a wrong map cannot give. Rows shall meet: the mean over rows of the cosine
to a target row that has them as its own nearest one, 0 where there is none, so collapsed rows, which share a neighbour, count
nothing. And the third moments shall agree on the target's first axes: a cloud that is turned, or mirrored along an axis, has
other ones. No pairs are looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import permutations
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from crossvec.aligners.maps import Map
from crossvec.aligners.vec2vec.data import Rows, mixed
from crossvec.aligners.vec2vec.discriminators import Discriminators
from crossvec.aligners.vec2vec.losses import GAN, told_apart
from crossvec.aligners.vec2vec.network import Network
from crossvec.geometry import TINY, nearest, principal_axes, third_moment, unit

Judge = Callable[[Map], float]
"""Scores a map without pairs; higher is better."""

SAMPLE = 4096
"""Rows of each space that a look is taken at."""

AXES = 32
NARROW = 0.1
"""A translated cloud with less than this part of its target's effective rank, or spread, has collapsed."""

SETTLED = 32
"""Steps until batch norm's running statistics, which looks go by, are those of the rows: `published-code` between wiki rows
begins with a spread of .7 of the target's, seems to have .03 to .06 after four steps, and has .5 from the 24th on; by the
statistics of batches it has .5 throughout."""

WON = 0.99
"""A discriminator that ranks a real and a fake row rightly this often has nothing left to teach."""

STUCK = 5
"""Looks that the discriminators must have won in a row, with no better score, before training is given up."""

EXPLODED = 100.0
"""A loss this many times its first value will not come back."""


@dataclass(frozen=True)
class Look:
    """How training stood at a step.

    `score` label-free; `loss` the generator's mean since the look before, and `parts` its terms; `rank` and `spread` of the
    narrowest translated cloud, in parts of its target's; `told_apart` how often the best discriminator is right: .5 to 1;
    `verdict` the Verdict's probability that the network aligns, no number where it is not asked: it is told, and chooses
    nothing, since it hardly moves once a map is right.
    """

    step: int
    score: float
    loss: float
    parts: Mapping[str, float]
    rank: float
    spread: float
    told_apart: float
    verdict: float = math.nan

    def record(self) -> dict[str, Any]:
        """Return it as plain JSON; what is not finite becomes None."""
        told = asdict(self)
        parts = {name: _finite(part) for name, part in told.pop("parts").items()}
        return {"step": told.pop("step"), "parts": parts, **{key: _finite(value) for key, value in told.items()}}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Look:
        """Make a look again from its record."""
        parts = {name: _number(part) for name, part in record["parts"].items()}
        numbers = {key: _number(value) for key, value in record.items() if key not in ("step", "parts")}
        return cls(step=int(record["step"]), parts=parts, **numbers)


def sickness(looks: Sequence[Look], settled: int = 0) -> str:
    """Return what is wrong with a training, given all looks at it, the last one last; empty when nothing is.

    Before the step `settled` rank and spread say nothing: see SETTLED.

    divergence                      a loss or a score that is no number, or a loss a hundred times its first
    mode collapse                   the translated rows of a space lie on few directions, or in one place
    discriminators dominate         they have told everything apart for five looks, and the score did not rise
    """
    last = looks[-1]
    if not all(map(math.isfinite, (last.loss, last.score, last.rank, last.spread))):
        return "divergence"
    trained = [look for look in looks if look.step > 0]
    if trained and abs(last.loss) > EXPLODED * max(abs(trained[0].loss), TINY):
        return "divergence"
    if len(looks) > 1 and last.step >= settled and min(last.rank, last.spread) < NARROW:
        return "mode collapse"
    if len(trained) > STUCK and all(look.told_apart > WON for look in trained[-STUCK:]):
        before = max(look.score for look in trained[:-STUCK])
        if max(look.score for look in trained[-STUCK:]) <= before:
            return "discriminators dominate"
    return ""


@torch.no_grad()
def vital_signs(
    network: Network, discriminators: Discriminators, rows: Mapping[str, Tensor], gan: GAN, judge: Callable[[Network], float]
) -> tuple[float, float, float, float]:
    """Return score, rank, spread and told_apart (see Look) of a network in evaluation, on a sample of each space's rows."""
    ranks, spreads, told = [], [], []
    for source, target in permutations(rows, 2):
        translated = network.translate(source, target, rows[source])
        if not bool(translated.isfinite().all()):
            return math.nan, math.nan, math.nan, math.nan
        rank, spread = width(translated)
        own_rank, own_spread = width(rows[target])
        ranks.append(rank / max(own_rank, TINY))
        spreads.append(spread / max(own_spread, TINY))
        critic = discriminators.rows(target)
        told.append(float(told_apart(*_as_many(critic(rows[target]), critic(translated)), gan)))
    return judge(network), min(ranks), min(spreads), max(told)


def width(rows: Float[Tensor, "k d"]) -> tuple[float, float]:
    """Return the effective rank of a cloud, (tr C)^2 / tr C^2 of its covariance C, and its spread tr C."""
    variances = principal_axes(rows - rows.mean(0))[1]
    total = float(variances.sum())
    return total**2 / max(float(variances.square().sum()), TINY**2), total


def built_in(spaces: Mapping[str, Rows], seed: int, device: torch.device) -> Callable[[Network], float]:
    """Return the score of a network by `label_free`, the mean over all directions, on one sample of each space."""
    samples = {name: rows.sample(SAMPLE, mixed(seed, 2)).to(device) for name, rows in spaces.items()}

    def score(network: Network) -> float:
        found = [label_free(network.translate(a, b, samples[a]), samples[b]) for a, b in permutations(samples, 2)]
        return sum(found) / len(found)

    return score


def label_free(translated: Float[Tensor, "k d"], target: Float[Tensor, "m d"]) -> float:
    """Return how well a translated cloud lies on its target, without pairs: meeting rows, times (1 + third moments) / 2.

    From 0 to 1. A product, because they differ in scale: samples of different texts meet at .1 where moments agree at .8, and
    in a mean the moments alone would decide. Two samples of one cloud do not reach 1: the verdict tells what is enough, this
    only compares.
    """
    return meeting(translated, target) * (1 + moments_agree(translated, target)) / 2


def meeting(translated: Float[Tensor, "k d"], target: Float[Tensor, "m d"]) -> float:
    """Return the mean over rows of the cosine to their nearest target row where each is nearest to the other, else 0."""
    share, near = met(translated, target)
    return share * near


def met(translated: Float[Tensor, "k d"], target: Float[Tensor, "m d"]) -> tuple[float, float]:
    """Return the share of rows, of the fewer ones, that meet: each the other's nearest; and the mean cosine of those."""
    p, y = unit(translated - translated.mean(0)), unit(target - target.mean(0))
    _, there = nearest(p, y, 1)
    _, back = nearest(y, p, 1)
    mutual = back[there[:, 0], 0] == torch.arange(len(p), device=p.device)
    count = int(mutual.sum())
    near = float(((p * y[there[:, 0]]).sum(1) * mutual).sum()) / max(count, 1)
    return count / min(len(p), len(y)), near


def moments_agree(translated: Float[Tensor, "k d"], target: Float[Tensor, "m d"]) -> float:
    """Return the cosine between the third moments of both clouds on the target's first axes, at the root of their deviation."""
    p, y = translated - translated.mean(0), target - target.mean(0)
    axes, variances = principal_axes(y)
    scaled = axes[:, :AXES] / variances[:AXES].clamp_min(TINY) ** 0.25
    a, b = third_moment(p @ scaled), third_moment(y @ scaled)
    return float((a * b).sum() / (a.norm() * b.norm()).clamp_min(TINY**2))


def _as_many(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    few = min(len(real), len(fake))
    return real[:few], fake[:few]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
