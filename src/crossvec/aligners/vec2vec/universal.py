"""universal — one latent for any number of spaces: translate between any two, compare in it, and add a space later.

In    rows (n_i, d_i) of N >= 2 models, of different texts, as the models give them; in memory or in .npy files
Out   Universal             translator(a, b), encode_latent(name, rows), add_space(name, rows), cosines(rows), save, load
Uses  the siblings
Paper arXiv:2505.12540      section 3.1: all adapters share the backbone T; figure 4: pairwise cosines before and in the latent

Unlike an aligner it keeps each space's mean, because an encoder's rows come to it one by one long after the fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn.functional import pad

from crossvec.aligners import Alignment, Step, silent
from crossvec.aligners.moments import Moments
from crossvec.aligners.vec2vec import Vec2Vec, checkpoint
from crossvec.aligners.vec2vec.data import Rows, mixed
from crossvec.aligners.vec2vec.network import Network, Shape
from crossvec.aligners.vec2vec.neural import Neural
from crossvec.aligners.vec2vec.run import Linears, refuse_early, train
from crossvec.aligners.vec2vec.warm import start_beside, weight
from crossvec.errors import SettingError, SpaceError, TranslatorError, UsageError
from crossvec.geometry import unit
from crossvec.machine import pick_device

__all__ = ["Cosines", "Universal"]

Cosines = dict[str, dict[str, float]]
"""A mean cosine for each two spaces, by name and name."""

Source = Rows | Tensor | np.ndarray | Path | str | Sequence[Path | str]

START_ROWS = 50_000
"""Rows of each space that a warm start is looked for in."""

START = 0.3
"""The part of a fit that a warm start is told as."""


@dataclass(frozen=True, eq=False)
class Universal:
    """A network in evaluation; `means` (d,) are taken off the spaces' rows; `trace` tells how it was made.

    It is `healthy` when a training of it, and of each space that was added, ended in its own time.
    """

    network: Network
    means: Mapping[str, Float[Tensor, " d"]]
    trace: tuple[Mapping[str, Any], ...] = ()
    healthy: bool = True

    @classmethod
    def fit(
        cls, spaces: Mapping[str, Source], settings: Vec2Vec | None = None, *, device: str = "cpu", progress: Step = silent
    ) -> Universal:
        """Train one network between all spaces; a warm start carries every space to the first one by `moments`.

        Raises SettingError for fewer than two spaces, and what `vec2vec.run.train` raises.
        """
        settings = settings or Vec2Vec()
        if len(spaces) < 2:
            raise SettingError("a universal space needs two spaces or more", "give rows by name: {'a': rows_a, 'b': rows_b}")
        given = {name: _usable(name, source) for name, source in spaces.items()}
        where = pick_device(device)
        refuse_early(settings, given, 0, where)
        rows = {name: one.centred(name) for name, one in given.items()}
        first, *others = rows

        def linear() -> Linears:
            maps = {}
            for number, other in enumerate(others if settings.warm else ()):
                progress(f"looking for a linear start from {first} to {other}", START * number / len(others))
                maps[first, other] = _linear(rows[first], rows[other], settings)
            return maps

        found = train(settings, rows, linear=linear, device=where, progress=_after(START, progress))
        return cls(found.best.network, _means(rows), found.trace, found.healthy > 0)

    @property
    def spaces(self) -> list[str]:
        """The names of the spaces, in the order they came."""
        return list(self.network.dims)

    def translator(self, source: str, target: str) -> Neural:
        """Return the map between two spaces' centred frames. Raises SettingError for a space that is not here."""
        return Neural.of(self.network, source, target)

    @torch.no_grad()
    def encode_latent(self, name: str, rows: Tensor | np.ndarray) -> Float[Tensor, "k z"]:
        """Return rows (k, d) of a model, as it gives them, in the latent that all spaces share; not of unit length.

        Raises SettingError for a space that is not here, or rows of another shape, SpaceError for rows that are not finite.
        """
        rows = _tensor(rows)
        if rows.dim() != 2:
            raise SettingError(f"rows of shape {tuple(rows.shape)} are no matrix", "give (k, d): one row as rows[None]")
        self.check(name, rows.shape[1])
        if not bool(rows.isfinite().all()):
            raise SpaceError(f"the rows of {name} hold NaN or infinity", "leave such rows out")
        where = next(self.network.parameters()).device
        return self.network.encode(name, unit(rows.to(where) - self.means[name].to(where)))

    def add_space(
        self,
        name: str,
        rows: Source,
        beside: Mapping[str, Source],
        settings: Vec2Vec | None = None,
        *,
        device: str = "cpu",
        progress: Step = silent,
    ) -> Universal:
        """Return a Universal with one more space; T and the adapters of all others are frozen: what they give stays the same.

        The new adapters learn against rows of one or more spaces that are here, `beside`; a warm start leads from the first of
        them. Raises SettingError for a space that is not here, or is already, for a warm start beside shortcuts that only pad,
        for settings of a network of other sizes, and what `vec2vec.run.train` raises.
        """
        settings = settings or Vec2Vec()
        known = {old: Rows.of(source) for old, source in beside.items()}
        for old, source in known.items():
            self.check(old, source.dim)
        if not known or name in self.network.dims:
            raise SettingError(f"{name!r} cannot be added", "give a new name, and rows of at least one space that is here")
        self._refuse_early(settings)
        where = pick_device(device)
        refuse_early(settings, {}, 0, where)
        spaces = {old: replace(source.centred(old), mean=self.means[old]) for old, source in known.items()}
        spaces[name] = _usable(name, rows).centred(name)
        hub = next(iter(spaces))

        @cache
        def linear() -> Alignment:
            progress(f"looking for a linear start from {hub} to {name}", 0.0)
            return _linear(spaces[hub], spaces[name], settings)

        def grown(generator: Generator, starts: bool) -> Network:
            network = deepcopy(self.network)
            network.add_space(name, spaces[name].dim, generator)
            if settings.warm and starts:
                start = linear()
                start_beside(network, hub, name, weight(start.map), weight(start.inverse))
            network.requires_grad_(True)
            network.freeze_backbone()
            for old in self.spaces:
                network.freeze_space(old)
            return network

        found = train(settings, spaces, network=grown, device=where, progress=_after(START, progress))
        means = {**self.means, name: cast(Tensor, spaces[name].mean)}
        return Universal(found.best.network, means, found.trace, self.healthy and found.healthy > 0)

    @torch.no_grad()
    def cosines(self, rows: Mapping[str, Tensor | np.ndarray], *, seed: int = 0) -> dict[str, Cosines]:
        """Return the mean cosine of the same texts between all pairs of spaces: `before` and in the `latent` (figure 4).

        Row i of `rows` (k, d) is one text in every space. Before, rows are compared as the models give them, the shorter padded
        with zeros. `before shuffled` and `latent shuffled` are the control: the same means over rows that are not one text, but
        where a space meets itself; what they have of a cosine says nothing of agreement. Raises SettingError for spaces of
        different numbers of rows, or fewer than two rows.
        """
        if len({len(x) for x in rows.values()}) != 1 or min(map(len, rows.values())) < 2:
            raise SettingError("cosines need the same two or more texts in every space", "give as many rows of each")
        given = {name: unit(_tensor(x)) for name, x in rows.items()}
        latent = {name: unit(self.encode_latent(name, x)) for name, x in rows.items()}
        turns = Generator().manual_seed(seed)
        orders = {name: torch.randperm(len(x), generator=turns) for name, x in rows.items()}
        found = {"before": _cosines(given), "latent": _cosines(latent)}
        for name, cloud in (("before", given), ("latent", latent)):
            found[f"{name} shuffled"] = _cosines({space: x[orders[space].to(x.device)] for space, x in cloud.items()})
        return found

    def save(self, path: str | Path) -> Path:
        """Write it as one safetensors file, sizes as JSON in its header. Raises UsageError where it cannot be written."""
        tensors = {f"network.{key}": tensor for key, tensor in self.network.state_dict().items()}
        tensors |= {f"mean.{number}": self.means[name] for number, name in enumerate(self.spaces)}
        facts = {
            "shape": asdict(self.network.shape),
            "dims": self.network.dims,
            "trace": list(self.trace),
            "healthy": self.healthy,
        }
        checkpoint.write(Path(path), tensors, facts)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Universal:
        """Read what `save` wrote. Raises TranslatorError when it is damaged or something else."""
        try:
            tensors, facts = checkpoint.read(Path(path))
            network = Network(facts["dims"], Shape(**facts["shape"]), Generator())
            weights = {key.removeprefix("network."): tensor for key, tensor in tensors.items() if key.startswith("network.")}
            network.load_state_dict(weights)
            means = {name: tensors[f"mean.{number}"] for number, name in enumerate(facts["dims"])}
            trace, healthy = tuple(facts["trace"]), bool(facts["healthy"])
        except (UsageError, KeyError, TypeError, RuntimeError) as problem:
            if not Path(path).exists():
                raise TranslatorError(f"there is no file {path}", "check the path") from None
            raise TranslatorError(f"{path} is no universal space: {problem}", "copy it again, or fit again") from None
        return cls(network.requires_grad_(False).eval(), means, trace, healthy)

    def _refuse_early(self, settings: Vec2Vec) -> None:
        shape = asdict(self.network.shape)
        for key, value in shape.items():
            if getattr(settings, key, None) not in (None, value):
                raise SettingError(f"{key} is {value!r} in this network, for all of its spaces", f"leave {key} out")
        if settings.warm and shape["shortcut"] != "linear":
            hint = "train it from nothing: Vec2Vec(preset='scratch')"
            raise SettingError("a space cannot start warm in a network whose shortcuts only pad", hint)

    def check(self, name: str, dim: int) -> None:
        """Raise SettingError for a space that is not here, or that has another dimension."""
        if name not in self.network.dims:
            raise SettingError(f"there is no space {name!r} here", f"there are {', '.join(self.spaces)}")
        if dim != self.network.dims[name]:
            raise SettingError(f"the rows of {name} have {dim} dimensions", f"{name} has {self.network.dims[name]}")


def _usable(name: str, source: Source) -> Rows:
    """Return the rows of a space; raises SettingError for a name that a file would change, SpaceError for rows too few."""
    if type(name) is not str:
        raise SettingError(f"{name!r} is no name of a space", f"give words, such as {str(name)!r}")
    rows = Rows.of(source)
    if len(rows) < 2:
        count = f"{len(rows)} row{'' if len(rows) == 1 else 's'}"
        raise SpaceError(f"{name} has {count}: that is no cloud", "give more rows; thousands are worth having")
    return rows


def _tensor(rows: Tensor | np.ndarray) -> Tensor:
    if isinstance(rows, Tensor):
        return rows.float()
    try:
        # Copied, as torch warns of arrays that it could not write to, such as mapped files.
        return torch.from_numpy(np.array(rows, dtype=np.float32))
    except (TypeError, ValueError):
        raise SpaceError("the rows are no real numbers", "give float32 or float16 vectors") from None


def _linear(source: Rows, target: Rows, settings: Vec2Vec) -> Alignment:
    x, y = (rows.sample(START_ROWS, mixed(settings.seed, 3)) for rows in (source, target))
    return Moments(effort=settings.effort, seed=settings.seed, finish="orthogonal").fit(x, y)


def _means(rows: Mapping[str, Rows]) -> dict[str, Tensor]:
    return {name: cast(Tensor, of.mean) for name, of in rows.items()}


def _cosines(rows: Mapping[str, Tensor]) -> Cosines:
    widest = max(x.shape[1] for x in rows.values())
    padded = {name: pad(x, (0, widest - x.shape[1])) for name, x in rows.items()}
    return {a: {b: float((x * y).sum(1).mean()) for b, y in padded.items()} for a, x in padded.items()}


def _after(begun: float, progress: Step) -> Step:
    return lambda doing, fraction: progress(doing, begun + (1 - begun) * fraction)
