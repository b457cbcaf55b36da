"""data — rows to train on, drawn in batches: from memory, or from files larger than memory.

In    a Tensor (n, d), a NumPy array (n, d), perhaps memory-mapped, or paths of .npy files that follow one another
Out   Rows                  take(index) -> (k, d) float32, centred and of unit length where a mean is given
      Batches               at(step) -> one batch of every space, drawn for itself
Uses  geometry

What a step sees is a function of the seed and the step's number, so nothing about data has to be saved to go on after a kill.
Each epoch is a fresh permutation, each space has its own, and the processes of one run take turns at the same permutation:
two processes with k rows see in one step what one process with 2k rows sees.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from crossvec.errors import SettingError, SpaceError
from crossvec.geometry import unit

MEASURED, MARKED = 65_536, 8192
"""Rows read at once when a mean is measured, and when they are marked, in float64."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one space, in parts that follow one another.

    `mean` (d,) is taken off them and they are scaled to unit length; without a mean they are taken as they are.
    """

    parts: tuple[Tensor | np.ndarray, ...]
    mean: Float[Tensor, " d"] | None = None
    starts: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "starts", tuple(accumulate((len(part) for part in self.parts), initial=0)))

    @classmethod
    def of(cls, source: Rows | Tensor | np.ndarray | Path | str | Sequence[Path | str]) -> Rows:
        """Return rows over an array, a tensor or .npy files, which are memory-mapped and never read whole.

        Raises SpaceError for files that hold no matrix of one and the same width, for what holds no numbers, and for others.
        """
        if isinstance(source, Rows):
            return source
        if isinstance(source, (Tensor, np.ndarray)):
            parts: tuple[Tensor | np.ndarray, ...] = (source,)
        else:
            parts = tuple(map(_mapped, _paths(source)))
        if any(isinstance(part, np.ndarray) and part.dtype.kind not in "fiu" for part in parts):
            raise SpaceError("the rows are no real numbers", "give float32 or float16 vectors")
        shapes = [tuple(part.shape) for part in parts]
        if not parts or any(len(shape) != 2 for shape in shapes) or len({shape[1] for shape in shapes}) != 1:
            raise SpaceError(f"rows of shapes {shapes} are no space", "give matrices of shape (rows, dimensions), all as wide")
        return cls(parts)

    def __len__(self) -> int:
        """Return the number of rows, n."""
        return self.starts[-1]

    @property
    def dim(self) -> int:
        """The dimension d."""
        return int(self.parts[0].shape[1])

    @property
    def device(self) -> torch.device:
        """Where the rows lie."""
        first = self.parts[0]
        return first.device if isinstance(first, Tensor) else torch.device("cpu")

    def take(self, index: Int[Tensor, " k"]) -> Float[Tensor, "k d"]:
        """Return the rows at these positions, in this order, as float32."""
        if len(self.parts) == 1 and isinstance(self.parts[0], Tensor):
            found = self.parts[0][index.to(self.parts[0].device)].float()
        else:
            found = self._gathered(index.cpu().numpy())
        return found if self.mean is None else unit(found - self.mean.to(found.device))

    def slice(self, start: int, stop: int) -> Float[Tensor, "k d"]:
        """Return rows start to stop."""
        return self.take(torch.arange(start, min(stop, len(self))))

    def sample(self, most: int, seed: int) -> Float[Tensor, "k d"]:
        """Return at most `most` rows drawn without replacement."""
        return self.take(torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))[:most].sort().values)

    def centred(self, name: str = "a space") -> Rows:
        """Return these rows with their mean taken off and scaled to unit length, after one pass over them, in float64.

        Raises SpaceError for a row that is not finite, of the space `name`.
        """
        total = torch.zeros(self.dim, dtype=torch.float64)
        for start, rows in self._as_given(MEASURED):
            total += rows.sum(0, dtype=torch.float64).cpu()
            if not bool(total.isfinite().all()):
                wrong = start + int((~rows.isfinite().all(1)).nonzero()[0])
                raise SpaceError(f"row {wrong:,} of {name} holds NaN or infinity", "leave such rows out")
        return replace(self, mean=(total / len(self)).float())

    def mark(self) -> float:
        """Return a sum that tells these rows, as given and in this order, from others, after one pass over them.

        Rounded, as processors add in other orders.
        """
        across, total = torch.linspace(1, 2, self.dim, dtype=torch.float64), 0.0
        for start, rows in self._as_given(MARKED):
            down = torch.arange(start + 1, start + len(rows) + 1, dtype=torch.float64) / len(self) + 1
            total += float(down @ rows.cpu().double() @ across)
        return round(total, 2)

    def _as_given(self, at_once: int) -> Iterator[tuple[int, Tensor]]:
        for start in range(0, len(self), at_once):
            yield start, replace(self, mean=None).slice(start, start + at_once)

    def _gathered(self, index: np.ndarray) -> Tensor:
        order = np.argsort(index, kind="stable")  # files are read forwards
        ordered = index[order]
        found = np.empty((len(index), self.dim), np.float32)
        first = 0
        while first < len(ordered):
            number = bisect_right(self.starts, int(ordered[first])) - 1
            last = int(np.searchsorted(ordered, self.starts[number + 1]))
            found[order[first:last]] = self.parts[number][ordered[first:last] - self.starts[number]]
            first = last
        return torch.from_numpy(found)


@dataclass(eq=False)
class Order:
    """Which of n rows each step takes: `batch` of them for each of `world` processes, each row once an epoch.

    The rest of an epoch that fills no batch is left out, as in the published code. `stream` tells apart what is drawn under one
    seed.
    """

    n: int
    batch: int
    seed: int
    stream: int
    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    _epoch: int = -1
    _permutation: Tensor | None = None

    def at(self, step: int) -> Int[Tensor, " k"]:
        """Return the positions of a step's rows."""
        each = self.batch * self.world
        epoch, turn = divmod(step, self.n // each)
        if epoch != self._epoch or self._permutation is None:
            generator = torch.Generator().manual_seed(mixed(self.seed, self.stream, epoch))
            self._permutation = torch.randperm(self.n, generator=generator).to(self.device)
            self._epoch = epoch
        start = turn * each + self.rank * self.batch
        return self._permutation[start : start + self.batch]


class Batches:
    """One batch of every space a step; with known pairs, a batch of them too."""

    def __init__(
        self,
        spaces: Mapping[str, Rows],
        batch: int,
        seed: int,
        *,
        rank: int = 0,
        world: int = 1,
        pairs: Int[Tensor, "p 2"] | None = None,
        device: torch.device | None = None,
    ) -> None:
        """Prepare batches of `batch` rows a process, fewer where a space has too few.

        `pairs` are row numbers in the first two spaces. Raises SettingError when a space has fewer rows than processes.
        """
        fewest = min(map(len, spaces.values()))
        if fewest < world or batch < 1:
            raise SettingError(f"{fewest} rows cannot be shared by {world} processes", "start fewer, or give more rows")
        self.spaces = dict(spaces)
        self.batch = min(batch, fewest // world)
        self.rank, self.world = rank, world
        self.device = device or next(iter(spaces.values())).device
        self.orders = {
            name: Order(len(rows), self.batch, seed, number, rank, world, rows.device)
            for number, (name, rows) in enumerate(spaces.items())
        }
        self.seed, self._orders_of_some = seed, dict[str, Order]()
        self.pairs = pairs
        if pairs is not None:
            each = max(1, min(batch, len(pairs) // world))
            self.paired = Order(len(pairs), each, seed, len(spaces), rank if len(pairs) >= world else 0, min(world, len(pairs)))
        # Rows that come from disk, or go to another device, are fetched while the step before them runs.
        apart = self.device.type != "cpu" and any(rows.device != self.device for rows in self.spaces.values())
        self._thread = ThreadPoolExecutor(1) if apart else None
        self._next: tuple[int, Future[dict[str, Tensor]]] | None = None

    def at(self, step: int) -> dict[str, Float[Tensor, "k d"]]:
        """Return the rows that a step trains on, by space."""
        if self._thread is None:
            return self._read(step)
        ready = self._next[1].result() if self._next and self._next[0] == step else self._read(step)
        self._next = step + 1, self._thread.submit(self._read, step + 1)
        return ready

    def paired_at(self, step: int) -> tuple[Float[Tensor, "k dx"], Float[Tensor, "k dy"]] | None:
        """Return a batch of known pairs, row by row; None where no pairs are known."""
        if self.pairs is None:
            return None
        chosen = self.pairs[self.paired.at(step).to(self.pairs.device)]
        first, second = list(self.spaces.values())[:2]
        return first.take(chosen[:, 0]).to(self.device), second.take(chosen[:, 1]).to(self.device)

    def some(self, space: str, step: int, most: int) -> Float[Tensor, "k d"]:
        """Return up to `most` rows of a space, other ones each step and in each process."""
        rows = self.spaces[space]
        number = len(self.spaces) + 1 + list(self.spaces).index(space)
        order = self._orders_of_some.setdefault(
            space, Order(len(rows), min(most, len(rows) // self.world), self.seed, number, self.rank, self.world, rows.device)
        )
        return rows.take(order.at(step)).to(self.device)

    def _read(self, step: int) -> dict[str, Tensor]:
        found = {}
        for name, rows in self.spaces.items():
            taken = rows.take(self.orders[name].at(step))
            if self.device.type == "cuda" and taken.device.type == "cpu":
                taken = taken.pin_memory()
            found[name] = taken.to(self.device, non_blocking=True)
        return found


def mixed(*numbers: int) -> int:
    """Return one seed made of several numbers, such that neighbours have nothing in common."""
    return int(cast(int, np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> np.uint64(1))


def _paths(source: Any) -> list[Path]:
    try:
        return [Path(path) for path in ([source] if isinstance(source, (str, Path)) else source)]
    except TypeError:
        told = f"a {type(source).__name__} is no array, tensor or list of .npy files"
        raise SpaceError(told, "of a Space give its .array(), of rows in a list numpy.array(rows)") from None


def _mapped(path: Path) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise SpaceError(f"there is no file {path}", "check the path; what is read here are .npy files, whole") from None
    except (OSError, ValueError) as problem:
        raise SpaceError(f"{path} cannot be read as .npy: {problem}", "write it with numpy.save, without objects") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        raise SpaceError(f"{path} holds no matrix of floating point numbers", "save float32 or float16 vectors")
    return array
