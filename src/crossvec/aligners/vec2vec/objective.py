"""objective — what one step of vec2vec minimises: all weights and switches, and the two losses made of them.

In    batches               rows (k, d) by space, of different texts, centred and of unit length
Out   a loss to differentiate, and its unweighted parts by name, for the record
Uses  torch, aligners.vec2vec.{network, discriminators, losses, teacher}
Paper arXiv:2505.12540      section 3.2; the presets name the paper's equations and the published code's

`forward` passes the batches through the network once; both losses of a step read those passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor

from crossvec.aligners.vec2vec import losses
from crossvec.aligners.vec2vec.discriminators import Discriminator, Discriminators
from crossvec.aligners.vec2vec.losses import GAN, VSP, Distance
from crossvec.aligners.vec2vec.network import Network
from crossvec.aligners.vec2vec.teacher import Assigned, Direction
from crossvec.errors import SettingError

TERMS = ("rec", "cycle", "vsp", "cycle_vsp", "adversarial", "latent", "supervised", "pseudo")


@dataclass(frozen=True)
class Objective:
    """Weights of the terms (0 leaves a term out, and its work) and switches; the defaults are the published code's.

    rec, cycle      reconstruction and cycle consistency, as `distance` says; with `detach_cycle` only the way back learns
    vsp, cycle_vsp  vector space preservation: form "published" of reconstructions, "paper" of translations; and of cycles
    adversarial     each space's rows against translations into it, with the loss `gan`
    latent          latents of the spaces against each other's, with 1 or 2 `latent_discriminators` (see Discriminators)
    supervised      known pairs; `contrast` is the share of InfoNCE in it
    pseudo          pseudo-pairs: soft assignments of rows by a teacher; `softness` is the student's temperature, in deviations
                    of the teacher's cosines: about .5 finds the right row most often; `nearness` is the share of the cosine
    r1, r2          gradient penalties of the discriminators at real and at fake rows, latents included

    Every term is a mean over spaces or over directions, except `adversarial` and `latent` 2, which add up the two directions
    of a pair and are means over pairs: for two spaces all are as published, and more spaces change no balance.
    """

    rec: float = 1.0
    cycle: float = 10.0
    vsp: float = 1.0
    cycle_vsp: float = 10.0
    adversarial: float = 1.0
    latent: float = 1.0
    supervised: float = 0.0
    pseudo: float = 0.0
    gan: GAN = "least-squares"
    distance: Distance = "cosine"
    vsp_form: VSP = "published"
    detach_cycle: bool = True
    latent_discriminators: Literal[1, 2] = 1
    contrast: float = 0.3
    r1: float = 0.0
    r2: float = 0.0
    softness: float = 0.5
    nearness: float = 6.0

    def __post_init__(self) -> None:
        for field in fields(self):
            weight = getattr(self, field.name)
            if isinstance(weight, float) and not 0 <= weight < float("inf"):
                raise SettingError(f"{field.name} cannot be {weight}", f"use a number from 0 up, for example -s {field.name}=1")

    def with_terms(self) -> Objective:
        """Return it if a term has a weight. Raises SettingError where none has."""
        if not any(getattr(self, term) for term in TERMS):
            raise _nothing()
        return self

    @property
    def translates(self) -> bool:
        """Whether a term reads translations of the batches, and not only reconstructions, latents or pairs."""
        return any((self.cycle, self.cycle_vsp, self.adversarial, self.vsp and self.vsp_form == "paper"))


PRESETS: Mapping[str, Objective] = {
    "published-code": Objective(),
    "paper": Objective(
        cycle_vsp=0.0, gan="standard", distance="squared", vsp_form="paper", detach_cycle=False, latent_discriminators=2
    ),
}
"""The paper gives no weights: its preset has those of the published code. Their networks differ too: layer and batch norm."""


@dataclass(frozen=True, eq=False)
class Passes:
    """What the network makes of one batch of each space: latents and reconstructions by space, translations by direction."""

    latents: Mapping[str, Tensor]
    reconstructions: Mapping[str, Tensor]
    translations: Mapping[Direction, Tensor]


def forward(network: Network, batches: Mapping[str, Tensor], objective: Objective) -> Passes:
    """Encode every batch once and decode it into its own space and, where a term reads translations, into the others."""
    latents = network.encode_each(batches)
    # Batch norm's running statistics are to be those of translations, whoever reads them.
    translates = objective.translates or network.shape.norm == "batch"
    reconstructions, translations = {}, {}
    for target in batches:
        sources = list(latents) if translates else [target]
        for source, rows in zip(sources, network.decode_each(target, [latents[source] for source in sources]), strict=True):
            if source == target:
                reconstructions[target] = rows
            else:
                translations[source, target] = rows
    return Passes(latents, reconstructions, translations)


def cycles(network: Network, translations: Mapping[Direction, Tensor], *, detach: bool) -> dict[Direction, Tensor]:
    """Return the rows that come back from each translation to its source; with `detach` only the way back learns."""
    directions = sorted(translations, key=lambda direction: direction[1])
    rows = {d: translations[d].detach() if detach else translations[d] for d in directions}
    latents = network.encode_each(_by_target(rows))
    each = torch.split(torch.cat(list(latents.values())), [len(rows[d]) for d in directions])
    by_direction = dict(zip(directions, each, strict=True))
    returned: dict[Direction, Tensor] = {}
    for home in latents:
        ways = [d for d in directions if d[0] == home]
        returned |= dict(zip(ways, network.decode_each(home, [by_direction[d] for d in ways]), strict=True))
    return returned


def generator_loss(
    network: Network,
    discriminators: Discriminators,
    batches: Mapping[str, Tensor],
    objective: Objective,
    *,
    passes: Passes | None = None,
    pairs: Mapping[Direction, tuple[Tensor, Tensor]] | None = None,
    pseudo: Mapping[Direction, Assigned] | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return what the network minimises, and each term of it unweighted and detached.

    `batches` holds rows (k, d) of two or more spaces. `pairs` holds, by direction, rows (p, dx) and the rows (p, dy) of the
    same texts, and `pseudo` rows of both and how they belong together; each is used both ways. The discriminators give
    gradients and get none. Raises SettingError when batches are missing.
    """
    passes = passes or forward(network, _checked(batches), objective)
    parts: dict[str, Tensor] = {}
    if objective.rec:
        parts["rec"] = _mean(
            [losses.reconstruction(x, passes.reconstructions[a], objective.distance) for a, x in batches.items()]
        )
    if objective.vsp:
        rebuilt = {(a, a): rows for a, rows in passes.reconstructions.items()}
        mapped = passes.translations if objective.vsp_form == "paper" else rebuilt
        parts["vsp"] = _preserved(batches, mapped, objective)
    if objective.cycle or objective.cycle_vsp:
        returned = cycles(network, passes.translations, detach=objective.detach_cycle)
        if objective.cycle:
            parts["cycle"] = _mean(
                [losses.cycle_consistency(batches[d[0]], rows, objective.distance) for d, rows in returned.items()]
            )
        if objective.cycle_vsp:
            parts["cycle_vsp"] = _preserved(batches, returned, objective)
    for name, contests in _contests(discriminators, batches, passes, objective).items():
        fooled = [_generator_side(critic, real, fake, objective.gan) for critic, real, fake in contests]
        both_ways = 2 if name == "adversarial" else objective.latent_discriminators
        parts[name] = both_ways * _mean(fooled)
    if objective.supervised and pairs:
        parts["supervised"] = _supervised(network, pairs, objective.contrast)
    if objective.pseudo and pseudo:
        parts["pseudo"] = _assigned(network, pseudo, objective.nearness)
    if not parts:  # pairs may have a weight and not be given
        raise _nothing()
    total = torch.stack([getattr(objective, name) * part for name, part in parts.items()]).sum()
    return total, {name: part.detach() for name, part in parts.items()}


def discriminator_loss(
    network: Network,
    discriminators: Discriminators,
    batches: Mapping[str, Tensor],
    objective: Objective,
    *,
    passes: Passes | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return what the discriminators minimise, added up, and its parts, each a mean over discriminators of one kind.

    Parts are `adversarial` and `latent` with `told_apart` and `latent_told_apart`, the share of real and fake rows ranked
    rightly (.5 is fooled, 1 never wrong), and `r1`, `r2` unweighted. The network gets no gradient. Raises SettingError when
    batches are missing, or when the objective has neither adversarial term.
    """
    if passes is None:
        with torch.no_grad():
            passes = forward(network, _checked(batches), objective)
    terms: list[Tensor] = []
    parts: dict[str, Tensor] = {}
    penalties: dict[str, list[Tensor]] = {"r1": [], "r2": []}
    for name, contests in _contests(discriminators, batches, passes, objective).items():
        found, right = [], []
        for critic, real, fake in contests:
            sizes = [len(real), len(fake)]
            rows = torch.cat([real, fake]).detach().requires_grad_(bool(objective.r1 or objective.r2))
            logits = critic(rows)
            on_real, on_fake = torch.split(logits, sizes)
            found.append(losses.discriminator_adversarial(on_real, on_fake, objective.gan))
            right.append(losses.told_apart(on_real.detach(), on_fake.detach(), objective.gan))
            for penalty, answers in (("r1", on_real), ("r2", on_fake)):
                if getattr(objective, penalty):
                    penalties[penalty].append(losses.gradient_penalty(rows, answers))
        terms += found
        parts[name] = _mean(found).detach()
        parts["told_apart" if name == "adversarial" else "latent_told_apart"] = _mean(right)
    if not terms:
        raise SettingError("adversarial and latent are both 0", "leave one above 0, or train no discriminators")
    for penalty, values in penalties.items():
        if values:
            terms += [getattr(objective, penalty) * value for value in values]
            parts[penalty] = _mean(values).detach()
    return torch.stack(terms).sum(), parts


Contest = tuple[Discriminator, Tensor, Tensor]
"""A discriminator, rows that are real to it, and rows that are fake."""


def _contests(
    discriminators: Discriminators, batches: Mapping[str, Tensor], passes: Passes, objective: Objective
) -> dict[str, list[Contest]]:
    """Return, for each adversarial term that has a weight, what its discriminators are to tell apart."""
    contests: dict[str, list[Contest]] = {}
    if objective.adversarial:
        fakes = _by_target(passes.translations)
        contests["adversarial"] = [(discriminators.rows(space), batches[space], fake) for space, fake in fakes.items()]
    if objective.latent:
        critics = {space: critic for space, critic in discriminators.latents().items() if space in passes.latents}
        if not critics:
            raise SettingError(
                f"the latent discriminator needs rows of {next(iter(discriminators.dims))!r}", "give a batch of that space too"
            )
        contests["latent"] = [
            (critic, passes.latents[space].detach(), torch.cat([z for other, z in passes.latents.items() if other != space]))
            for space, critic in critics.items()
        ]
    return contests


def _generator_side(critic: Discriminator, real: Tensor, fake: Tensor, gan: GAN) -> Tensor:
    compared = critic(real, learn=False) if gan == "relativistic" else None
    return losses.generator_adversarial(compared, critic(fake, learn=False), gan)


def _preserved(batches: Mapping[str, Tensor], mapped: Mapping[Direction, Tensor], objective: Objective) -> Tensor:
    return _mean([losses.vector_space_preservation(batches[d[0]], rows, objective.vsp_form) for d, rows in mapped.items()])


def _supervised(network: Network, pairs: Mapping[Direction, tuple[Tensor, Tensor]], contrast: float) -> Tensor:
    terms = []
    for (source, target), (x, y) in pairs.items():
        latents = network.encode_each({source: x, target: y})
        terms.append(losses.supervised(network.decode(target, latents[source]), y, contrast))
        terms.append(losses.supervised(network.decode(source, latents[target]), x, contrast))
    return _mean(terms)


def _assigned(network: Network, pseudo: Mapping[Direction, Assigned], nearness: float) -> Tensor:
    terms = []
    for (source, target), found in pseudo.items():
        latents = network.encode_each({source: found.x, target: found.y})
        for end, other, rows, meant, warmth in (
            (target, source, found.y, found.there, found.warmth_there),
            (source, target, found.x, found.back, found.warmth_back),
        ):
            terms.append(losses.pseudo_pairs(network.decode(end, latents[other]), rows, meant, warmth, nearness))
    return _mean(terms)


def _by_target(rows: Mapping[Direction, Tensor]) -> dict[str, Tensor]:
    """Join the rows of all directions that end in a space, in the order of `rows`."""
    targets = dict.fromkeys(target for _, target in rows)
    return {target: torch.cat([x for d, x in rows.items() if d[1] == target]) for target in targets}


def _checked(batches: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    if len(batches) < 2:
        raise SettingError("there is nothing to translate to", "give batches of two or more spaces")
    return batches


def _nothing() -> SettingError:
    return SettingError("every weight of the objective is 0", "leave one above 0, for example -s rec=1")


def _mean(terms: list[Tensor]) -> Tensor:
    return torch.stack(terms).mean()
