"""run — train a network as settings say, by as many seeds as they ask for.

In    Settings, rows of any number of spaces, linear maps to start at where there are some
Out   train: Found, the best training that ended well, and the record of all; prepared: the Training of one seed
Uses  the siblings: settings, training < seeds
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from crossvec.aligners import Alignment, Step, silent
from crossvec.aligners.vec2vec.checkpoint import make_folder, refuse_place
from crossvec.aligners.vec2vec.data import Batches, Rows, mixed
from crossvec.aligners.vec2vec.discriminators import Discriminators
from crossvec.aligners.vec2vec.distributed import Group
from crossvec.aligners.vec2vec.health import built_in
from crossvec.aligners.vec2vec.live import require_tensorboard
from crossvec.aligners.vec2vec.network import Network
from crossvec.aligners.vec2vec.presets import PRESETS
from crossvec.aligners.vec2vec.recipe import refuse_compiling, refuse_precision
from crossvec.aligners.vec2vec.seeds import Found, best_of
from crossvec.aligners.vec2vec.settings import Settings
from crossvec.aligners.vec2vec.teacher import taught_by
from crossvec.aligners.vec2vec.training import Scores, Training
from crossvec.aligners.vec2vec.warm import start_at, weight
from crossvec.errors import SettingError, UnfinishedError
from crossvec.geometry import fast_type

Linears = Mapping[tuple[str, str], Alignment]
"""Alignments of linear maps by source and target."""


def refuse_early(settings: Settings, spaces: Mapping[str, Rows], pairs: int, device: torch.device) -> None:
    """Raise, before a start is looked for, what training would raise after it."""
    shape = settings.shape(tuple(rows.dim for rows in spaces.values()))
    fewest = min([settings.recipe().batch, *(len(rows) // Group.now().world for rows in spaces.values())])
    if shape.norm == "batch" and fewest < 2:
        raise SettingError("batch norm needs two rows of a space in a step", "use -s norm=layer, or more rows and batch=2")
    settings.objective(pairs=pairs)
    refuse_precision(settings.precision, device)
    if settings.compile:
        refuse_compiling(device)
    if Group.now().leads:
        if settings.events:
            require_tensorboard()
            make_folder(Path(settings.events))
        if settings.file:
            refuse_place(settings.file)


def train(
    settings: Settings,
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
    refuse_early(settings, {} if network else spaces, 0 if pairs is None else len(pairs), where)
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
    settings: Settings,
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
    every = settings.every or max(1, recipe.steps // recipe.looks)
    parts = made.to(where), critics.to(where), batches, objective, recipe, scores
    return Training(*parts, teacher=teacher, file=settings.file, every=every, warm=settings.warm, grown=network is not None)
