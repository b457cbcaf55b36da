"""translator — what a fit leaves behind: a function between two spaces that can be saved, loaded and turned round.

In    rows (k, dx) float32, or a Space, or batches of one     rows as the source model gives them
Out   rows (k, dy) float32, or a Space with the same ids      rows where the target model's own rows lie
Uses  space, geometry, machine, aligners.maps, aligners.heldout, verdict, saved

A map knows only directions in centred frames. The Translator keeps what the frames forget (the border law): rows are centred
first and scaled to unit length afterwards, and on the other side they are placed at the length that the target's rows have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from crossvec import saved
from crossvec.aligners import Status
from crossvec.aligners.heldout import HeldOut
from crossvec.aligners.maps import Linear, Map, rebuild
from crossvec.errors import SpaceError, TranslatorError
from crossvec.geometry import only_read
from crossvec.machine import pick_device
from crossvec.space import Space, require_space
from crossvec.verdict import Verdict

__all__ = ["Frame", "Translator"]

SAME_NORM = 1e-2
"""Rows share a norm when 99 % of them lie within this part of the median: float16 and most int8 storage stays inside."""

THIN = 0.03
"""And within this part of the radius: rows in a ball far from the origin have nearly one norm too, and lie on no sphere."""


@dataclass(frozen=True, eq=False)
class Frame:
    """Where a space's rows lie: around `mean` (d,), `radius` away on average, on the sphere `|row| = norm` if there is one."""

    mean: Float[Tensor, " d"]
    radius: float
    norm: float | None

    @classmethod
    def of(cls, space: Space, name: str = "space") -> Frame:
        """Measure a space in two passes of batches, adding up in float64.

        Raises SpaceError when all rows are equal: such a space has no directions to align.
        """
        total = np.zeros(space.dim)
        norms = []
        for batch in space.batches():
            rows = batch.array()
            total += rows.sum(axis=0, dtype=np.float64)
            norms.append(np.linalg.norm(rows, axis=1))
        mean = total / len(space)
        # A second pass, because lengths from sums of squares cancel when the rows share a large shift.
        radius = sum(float(np.linalg.norm(batch.array() - mean, axis=1).sum()) for batch in space.batches()) / len(space)
        every = np.concatenate(norms)
        middle = float(np.median(every))
        if radius <= 1e-6 * middle or radius == 0:
            raise SpaceError(f"all rows of the {name} are equal", "give a space whose rows differ: there is nothing to align")
        slack = min(SAME_NORM * middle, THIN * radius)
        shared = middle > 0 and float((np.abs(every - middle) <= slack).mean()) >= 0.99
        return cls(torch.from_numpy(mean.astype(np.float32)), radius, middle if shared else None)

    @property
    def dim(self) -> int:
        """Return d."""
        return len(self.mean)

    def centre(self, rows: Float[Tensor, "k d"]) -> tuple[Float[Tensor, "k d"], Float[Tensor, " k"]]:
        """Return the unit directions of rows seen from the mean, and their distances; a row at the mean has direction 0.

        Rows are never scaled before they are centred, so a shift or a positive scaling of the whole space changes nothing.
        """
        offset = rows - self.mean
        lengths = offset.norm(dim=1)
        # Rounding leaves a row that equals the mean a tiny offset; its direction would be noise.
        floor = 1e-6 * self.radius
        directions = offset.mul_(torch.where(lengths > floor, 1 / lengths.clamp_min(floor), 0)[:, None])
        return directions, lengths

    def place(self, directions: Float[Tensor, "k d"], lengths: Float[Tensor, " k"] | None = None) -> Float[Tensor, "k d"]:
        """Return the rows that lie in these directions from the mean; directions need not be of unit length, 0 gives the mean.

        With a common norm r the row is where the ray from the mean c meets the sphere: `c + a u` with `|c + a u| = r`, so
        `a = -<c, u> + sqrt(<c, u>^2 + r^2 - |c|^2)`, the one positive root since c lies inside. Otherwise the row is
        c + u * `lengths`, with lengths (k,) in this frame's units, or its radius where none are given.
        """
        size = directions.norm(dim=1)
        scale = torch.where(size > 0, 1 / size, 0)
        if self.norm is None:
            reach = torch.full_like(size, self.radius) if lengths is None else lengths
        else:
            along = (directions @ self.mean) * scale
            reach = (along.square() + self.norm**2 - self.mean.square().sum()).clamp_min_(0).sqrt_() - along
        return torch.addcmul(self.mean, directions, (reach * scale)[:, None])

    def to(self, device: torch.device | str) -> Frame:
        """Return the frame with its mean on another device."""
        return replace(self, mean=self.mean.to(device))


@dataclass(frozen=True, eq=False)
class Translator:
    """A fitted function from the source space to the target space, and back.

    There is no unfitted one: `fitting.fit` makes it, `load` reads it. `card` says what it is, from what and how it was made;
    `verdict` is the label-free answer to "did the alignment succeed?", or None when nobody judged.
    """

    forward: Map
    backward: Map
    source: Frame
    target: Frame
    card: Mapping[str, Any] = field(default_factory=dict)
    verdict: Verdict | None = None

    def __repr__(self) -> str:
        return f"<Translator {self.source.dim} -> {self.target.dim} dimensions, {self.status or 'not judged'}>"

    @property
    def status(self) -> Status | None:
        """Return whether it arrived, as far as anybody knows: by known pairs held out of the fit, else by the verdict.

        None when nobody judged. Pairs decide, as the verdict is made for maps learned without them (docs/decisions/0006); where
        they are too few to tell, they do not take back its `aligned`.
        """
        said, held = self.verdict.status if self.verdict else None, self.held_out
        if held is None or (held.status == "uncertain" and said == "aligned"):
            return said
        return held.status

    @property
    def held_out(self) -> HeldOut | None:
        """Return what known pairs say that were held out of the fit, as the card tells; None where there were none."""
        return HeldOut.read(self.card.get("held_out"))

    @torch.no_grad()
    def translate(self, rows: Shaped[np.ndarray, "..."]) -> Float[np.ndarray, "k dy"]:
        """Carry source rows (k, dx), of any real dtype, into the target space: (k, dy) float32.

        Raises TranslatorError for rows that are no numbers or of another dimension, SpaceError where one holds NaN or infinity.
        """
        array = _numbers(rows)
        if array.ndim != 2 or array.shape[1] != self.source.dim:
            raise TranslatorError(
                f"the rows have shape {array.shape}; this translator reads (k, {self.source.dim})",
                f"give rows of the model it was fitted on ({self._named('source')}), as a matrix",
            )
        placed = self._carry(only_read(np.require(array, np.float32, ["C"])).to(self.source.mean.device))
        if not bool(placed.sum().isfinite()):
            bad = int((~placed.isfinite().all(dim=1)).nonzero()[0])
            raise SpaceError(f"row {bad} of the rows given holds NaN, infinity or values too large", "drop or repair such rows")
        return placed.cpu().numpy()

    def _carry(self, rows: Float[Tensor, "k dx"]) -> Float[Tensor, "k dy"]:
        if self._folded is None:
            directions, lengths = self.source.centre(rows)
            return self.target.place(self.forward(directions), lengths * (self.target.radius / self.source.radius))
        weight, shift, bias = self._folded
        rays = torch.addmm(shift, rows, weight)
        if bias is not None:
            mean = self.source.mean[None]
            rays.addr_(torch.cdist(rows, mean, compute_mode="donot_use_mm_for_euclid_dist")[:, 0], bias)
        return self.target.place(rays)

    @cached_property
    def _folded(self) -> tuple[Tensor, Tensor, Tensor | None] | None:
        """Return weight, shift and perhaps bias that carry rows as they are to rays, where only rays count: on a sphere.

        o W + |o| b points where (o / |o|) W + b does, o = row - mean. That spares passes over the rows.
        """
        if not isinstance(self.forward, Linear) or self.target.norm is None:
            return None
        weight, bias = self.forward.weight, self.forward.bias
        return weight, -(self.source.mean @ weight), bias if bool(bias.any()) else None

    def translate_space(self, space: Space) -> Space:
        """Carry a whole space across in batches; the result keeps its ids and payload.

        Raises what `translate` raises.
        """
        require_space(space, "what to translate")
        return replace(space, vectors=np.concatenate([batch.vectors for batch in self.stream(space.batches())]))

    def stream(self, batches: Iterable[Space]) -> Iterator[Space]:
        """Carry batches across one at a time, so memory does not grow with the number of rows."""
        for batch in batches:
            require_space(batch, "a batch to translate")
            try:
                yield replace(batch, vectors=self.translate(batch.vectors if batch.checked else batch.array()))
            except SpaceError:
                batch.array()  # names the bad rows by their numbers in the store
                raise

    def inverse(self) -> Translator:
        """Return the translator from the target space to the source space; turning round twice gives the same one."""
        card = {**self.card, "inverted": not self.card.get("inverted", False)}
        card |= {"source": self.card.get("target", {}), "target": self.card.get("source", {})}
        if "what" in card:
            card["what"] = described(self._named("target"), self.target.dim, self._named("source"), self.source.dim)
        return replace(self, forward=self.backward, backward=self.forward, source=self.target, target=self.source, card=card)

    def to(self, device: torch.device | str) -> Translator:
        """Return the translator with its tensors on another device; raises SettingError for one that is not here."""
        device = pick_device(str(device))
        return replace(
            self,
            forward=_moved(self.forward, device),
            backward=_moved(self.backward, device),
            source=self.source.to(device),
            target=self.target.to(device),
        )

    def save(self, folder: str | Path) -> Path:
        """Write `translator.safetensors`, `card.json` and a README into a folder, all or nothing, and return its path.

        An existing translator is replaced; any other existing folder is left alone. Raises UsageError when the place cannot be
        written and UnfinishedError when the disk is full.
        """
        sides = {"forward": self.forward, "backward": self.backward}
        frames = {"source": self.source, "target": self.target}
        card = {
            **self.card,
            "maps": {side: learned.kind for side, learned in sides.items()},
            "frames": {side: {"dim": it.dim, "radius": it.radius, "norm": it.norm} for side, it in frames.items()},
            "verdict": self.verdict.to_json() if self.verdict else None,
        }
        tensors = {f"{side}.mean": frame.mean for side, frame in frames.items()}
        for side, learned in sides.items():
            tensors |= {f"{side}.{name}": tensor for name, tensor in learned.tensors().items()}
        return saved.write(folder, card, tensors)

    @classmethod
    def load(cls, folder: str | Path) -> Translator:
        """Read a saved translator, checking its schema, its shapes and that every number is finite.

        Raises TranslatorError that says which file is missing, damaged or from a newer version.
        """
        card, tensors = saved.read(folder)
        judged = card.pop("verdict", None)
        try:
            source, target = (_frame(tensors[f"{side}.mean"], card["frames"][side]) for side in ("source", "target"))
            forward, backward = (rebuild(card["maps"][side], _under(tensors, side)) for side in ("forward", "backward"))
            verdict = judged and Verdict(judged["status"], judged["probability"], judged["evidence"])
        except (KeyError, TypeError, ValueError) as problem:
            raise TranslatorError(f"{folder} is not a whole translator: {problem!r} is missing or wrong", "fit again") from None
        _check_shape(folder, forward, source.dim, target.dim)
        _check_shape(folder, backward, target.dim, source.dim)
        return cls(forward, backward, source, target, card, verdict)

    def _named(self, side: str) -> str:
        return str(self.card.get(side, {}).get("name") or f"the {side}")


def described(source: str, start: int, target: str, end: int) -> str:
    """Return in words what a translator does, for its card."""
    return f"translates {source} ({start}) into {target} ({end})"


def _frame(mean: Tensor, told: Mapping[str, Any]) -> Frame:
    norm = told["norm"]
    return Frame(mean.float(), float(told["radius"]), None if norm is None else float(norm))


def _check_shape(folder: str | Path, learned: Map, start: int, end: int) -> None:
    # One row sent through proves that every tensor fits the next, whatever the kind of map.
    try:
        shape = tuple(learned(torch.zeros(1, start, dtype=torch.float32, device="cpu")).shape)
    except (RuntimeError, IndexError) as problem:
        raise TranslatorError(f"the tensors of {folder} do not fit together: {problem}", "fit again") from None
    if shape != (1, end):
        raise TranslatorError(f"{folder} maps {start} dimensions to {shape[-1]} instead of {end}", "fit again")


def _under(tensors: Mapping[str, Tensor], side: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{side}."): tensor for name, tensor in tensors.items() if name.startswith(f"{side}.")}


def _moved(learned: Map, device: torch.device | str) -> Map:
    return rebuild(learned.kind, {name: tensor.to(device) for name, tensor in learned.tensors().items()})


def _numbers(rows: Any) -> Shaped[np.ndarray, "..."]:
    if isinstance(rows, Space):
        raise TranslatorError(
            "translate takes bare rows, not a Space", "call translate_space(space), or translate(space.array())"
        )
    if isinstance(rows, np.ma.MaskedArray):
        raise TranslatorError(
            "the rows are masked, and the mask would be lost", "give rows.filled(0), or leave masked rows out"
        )
    try:
        array = np.asarray(rows)
    except (TypeError, ValueError, RuntimeError) as problem:  # ragged rows; a tensor that NumPy cannot hold
        raise TranslatorError(f"the rows are no matrix of numbers: {problem}", "give an array, or Space.of(rows)") from None
    if array.dtype.kind not in "fiub":
        raise TranslatorError(f"the rows hold {array.dtype}", "give numbers: rows.astype('float32')")
    return array
