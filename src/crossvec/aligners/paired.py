"""paired — what known pairs give: orthogonal, ridge, low-rank and residual maps, from ten pairs to all of them.

In    x (n, dx), y (m, dy)  float32, centred, rows of unit length
      pairs (p, 2) int      row pairs[i, 0] of x is row pairs[i, 1] of y
Out   Alignment             one map for each direction, each learned for itself unless it is orthogonal
Uses  geometry, aligners.maps

Which one: orthogonal ranks better from few pairs and needs no choice; ridge and low-rank have the higher cosine; the residual
net has nearly that cosine, and from a few hundred pairs on finds more partners than ridge. Every choice made on the way
(penalty, intercept, rank, when to stop) is made on pairs left out, never on the pairs fitted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor
from torch.nn.functional import cosine_similarity, cross_entropy

from crossvec.aligners import Alignment, Step, part, silent
from crossvec.aligners.limits import Range, check
from crossvec.aligners.maps import Linear, Map, Residual
from crossvec.errors import SettingError
from crossvec.geometry import unit

PENALTIES = tuple(10.0 ** (step / 2) for step in range(-8, 5))
"""Ridge penalties tried, in units of the Gram matrix's mean eigenvalue."""

FEWEST = 2

ENOUGH = 100
"""Pairs from which on a held-out fifth can judge a rank, or when to stop training."""

TEMPERATURE = 0.1

JUDGED = 4096
"""Pairs that judge a choice, at most: leave-one-out residuals, and held-out splits."""

Learn = Callable[[Tensor, Tensor, Generator, Step], tuple[Map, dict[str, float]]]


@dataclass(frozen=True)
class PairedProcrustes:
    """Orthogonal Procrustes on the pairs (Schönemann 1966): the rotation that carries x's rows closest to y's.

    Fewer pairs than dims leave directions that no pair speaks of. There a polar factor is arbitrary, so they are sent to zero
    and the map is a partial isometry: measured on three real encoders, ten pairs then give mean rank 260 to 350 of 2048
    instead of 550 to 700, and no number of pairs is worse for it. No intercept: it only lost (450 to 610).

    Evidence: `pairs`, `rank` (dims the pairs determine), `fitted_cosine`, over the pairs fitted. `seed` changes nothing.
    """

    name: ClassVar[str] = "procrustes"
    needs_pairs: ClassVar[bool] = True

    seed: int = 0

    def __post_init__(self) -> None:
        check(self)

    def fit(
        self,
        x: Float[Tensor, "n dx"],
        y: Float[Tensor, "m dy"],
        *,
        pairs: Int[Tensor, "p 2"] | None = None,
        progress: Step = silent,
    ) -> Alignment:
        """Learn one map; its transpose is the inverse. Raises SettingError without usable pairs."""
        x, y = _known(x, y, pairs, self.name)
        progress("fitting the pairs", 0.1)
        u, s, vt = torch.linalg.svd(_gram(x, y), full_matrices=False)
        rank = int((s > 1e-8 * s[0]).sum())  # the rest is rounding
        weight = (u[:, :rank] @ vt[:rank]).to(x)
        progress("aligned", 1.0)
        cosine = float(cosine_similarity(x @ weight, y).mean())
        evidence = {"pairs": float(len(x)), "rank": float(rank), "fitted_cosine": cosine}
        return Alignment(Linear.of(weight), Linear.of(weight.T.contiguous()), evidence)


@dataclass(frozen=True)
class Regression(ABC):
    """What regressions on the pairs do alike: one map is learned for each direction, for itself."""

    name: ClassVar[str]
    needs_pairs: ClassVar[bool] = True

    seed: int = 0

    def __post_init__(self) -> None:
        check(self)

    def fit(
        self,
        x: Float[Tensor, "n dx"],
        y: Float[Tensor, "m dy"],
        *,
        pairs: Int[Tensor, "p 2"] | None = None,
        progress: Step = silent,
    ) -> Alignment:
        """Learn a map for each direction. Raises SettingError without usable pairs."""
        return _both_ways(self._learn, *_known(x, y, pairs, self.name), self.seed, progress)

    @abstractmethod
    def _learn(self, x: Tensor, y: Tensor, generator: Generator, progress: Step) -> tuple[Map, dict[str, float]]:
        """Return the map of paired rows x to y, and how it was chosen."""


@dataclass(frozen=True)
class PairedRidge(Regression):
    """Ridge regression on the pairs, penalty and intercept chosen by exact leave-one-out error on a grid (Allen 1974, PRESS).

    The pairs' own means differ from the spaces' when they come from one corner of them; an intercept then helps, and with few
    pairs from everywhere it only carries their noise. So both are tried. The reverse map is a ridge of its own.

    Evidence, of the forward map: `pairs`; `penalty`, in units of the Gram matrix's mean eigenvalue; `intercept`, 0 or 1;
    `left_out_error`, the leave-one-out squared error over the squared length of y's rows (1 is as good as nothing);
    `fitted_cosine`. `seed` draws the pairs that judge when there are more than 4,096.
    """

    name: ClassVar[str] = "ridge"

    def _learn(self, x: Tensor, y: Tensor, generator: Generator, progress: Step) -> tuple[Map, dict[str, float]]:
        return ridge(x, y, generator)


@dataclass(frozen=True)
class PairedLowRank(Regression):
    """Reduced-rank regression (Izenman 1975): ridge, then its fitted values confined to their strongest principal axes.

    The rank is chosen among powers of two up to full on a fifth of the pairs (4,096 at most): the lowest squared error, where a
    lower rank than full must win by more than one standard error. The map is then learned from all pairs. Below 100 pairs
    there is nothing to choose by, and the rank stays full.

    Evidence: as for `ridge`, and `rank`. `seed` draws the split.
    """

    name: ClassVar[str] = "low-rank"

    def _learn(self, x: Tensor, y: Tensor, generator: Generator, progress: Step) -> tuple[Map, dict[str, float]]:
        rank = _rank(x, y, generator) if len(x) >= ENOUGH else min(x.shape[1], y.shape[1])
        progress("fitting all pairs", 0.5)
        whole, evidence = ridge(x, y, generator)
        return _confined(whole, _fitted_axes(whole, x)[:, :rank]), {**evidence, "rank": float(rank)}


@dataclass(frozen=True)
class PairedMLP(Regression):
    """A hidden layer of `hidden` units beside the ridge map, zero at the start, trained with Adam.

    The loss is minus the mean cosine plus `contrast` times the cross-entropy of finding each row's partner in its batch at
    temperature 0.1 (InfoNCE, van den Oord 2018). Cosine alone gains nothing over ridge where ridge is already good; a
    contrast of 0.3 costs it .01 and takes 15,000 pairs of minilm and potion from top-1 .91 to .95, above the orthogonal map's.

    Trained beside a ridge of four fifths of the pairs and judged by the loss on the rest (4,096 at most): after `patience`
    epochs without gain the best epoch is kept, epoch 0 being the ridge alone. The linear part is then fitted again on all
    pairs. Below 100 pairs there is nothing to judge by, and the map is the ridge.

    Evidence: as for `ridge`, and `epochs`, the epoch kept. `seed` draws the split, the start and the batches.
    """

    name: ClassVar[str] = "mlp"

    hidden: int = 512
    contrast: float = 0.3
    epochs: int = 30
    patience: int = 3
    batch: int = 256
    rate: float = 3e-5

    def __post_init__(self) -> None:
        check(self, contrast=Range(0.0, such=0.3), rate=Range(0.0, above=True, such=3e-5))

    def _learn(self, x: Tensor, y: Tensor, generator: Generator, progress: Step) -> tuple[Map, dict[str, float]]:
        # Unit rows against standard normal weights: hidden units start at unit scale, whatever dx is.
        into = torch.randn(x.shape[1], self.hidden, generator=generator).to(x.device)
        layers = [into, x.new_zeros(self.hidden), x.new_zeros(self.hidden, y.shape[1])]
        epochs = 0
        if len(x) >= ENOUGH:
            layers, epochs = self._train(layers, x, y, generator, progress)
        linear, evidence = ridge(x, y, generator)
        return Residual(linear.weight, linear.bias, *layers), {**evidence, "epochs": float(epochs)}

    def _train(
        self, layers: list[Tensor], x: Tensor, y: Tensor, generator: Generator, progress: Step
    ) -> tuple[list[Tensor], int]:
        """Return the hidden layer after its best epoch, and the number of that epoch."""
        fitted, judging = _split(x, generator)
        linear, _ = ridge(x[fitted], y[fitted], generator)
        layers = [layer.requires_grad_() for layer in layers]
        optimiser = torch.optim.Adam(layers, lr=self.rate)

        def loss(rows: Tensor) -> Tensor:
            mapped, truth = unit(Residual(linear.weight, linear.bias, *layers)(x[rows])), unit(y[rows])
            found = cross_entropy(mapped @ truth.T / TEMPERATURE, torch.arange(len(rows), device=x.device))
            return self.contrast * found - (mapped * truth).sum(1).mean()

        def judge() -> float:
            with torch.no_grad():
                return sum((float(loss(rows)) * len(rows) for rows in torch.split(judging, self.batch)), 0.0)

        best, kept, kept_epoch = judge(), [layer.detach().clone() for layer in layers], 0
        for epoch in range(1, self.epochs + 1):
            progress(f"training the residual, epoch {epoch}", (epoch - 1) / self.epochs)
            order = fitted[torch.randperm(len(fitted), generator=generator).to(x.device)]
            with torch.enable_grad():
                for rows in torch.split(order, self.batch):
                    optimiser.zero_grad()
                    torch.autograd.backward(loss(rows))
                    optimiser.step()
            now = judge()
            if now < best:
                best, kept, kept_epoch = now, [layer.detach().clone() for layer in layers], epoch
            elif epoch - kept_epoch >= self.patience:
                break
        return kept, kept_epoch


def ridge(x: Float[Tensor, "p dx"], y: Float[Tensor, "p dy"], generator: Generator) -> tuple[Linear, dict[str, float]]:
    """Return the ridge map of paired rows, and how it was chosen (see `PairedRidge`).

    Through the Gram matrix in float64, on the CPU: O(p d^2 + d^3) time and no float64 copy of the rows; for p < dx through
    the rows' own singular vectors. Leaving row i out divides its residual by 1 - h_i, h its leverage, so nothing is refitted.
    """
    judging = torch.randperm(len(x), generator=generator)[:JUDGED].to(x.device)
    grams = _gram(x, x) if len(x) >= x.shape[1] else None, _gram(x, y)
    tried = [_ridge(x, y, *grams, judging, intercept) for intercept in (False, True)]
    return min(tried, key=lambda made: made[1]["left_out_error"])


def _ridge(
    x: Tensor, y: Tensor, gram: Tensor | None, cross: Tensor, judging: Tensor, intercept: bool
) -> tuple[Linear, dict[str, float]]:
    """Fit with the penalty of least leave-one-out error on the rows `judging`; no gram means that p < dx."""
    p, wide = x.shape
    mx, my = (side.mean(dim=0).cpu().double() * intercept for side in (x, y))
    if gram is None:
        _, s, vt = torch.linalg.svd(x.cpu().double() - mx, full_matrices=False)
        values, axes = s.square(), vt.T
    else:
        values, axes = torch.linalg.eigh(gram - p * torch.outer(mx, mx))
    scale = float(values.sum()) / wide
    real = values > 1e-9 * values.max()  # the rest is rounding
    values, axes = values[real], axes[:, real]
    cross = axes.T @ (cross - p * torch.outer(mx, my))

    z, truth = (x[judging].cpu().double() - mx) @ axes, y[judging].cpu().double()
    errors = []
    for penalty in PENALTIES:
        damped = values + penalty * scale
        leverage = (z.square() / damped).sum(1) + intercept / p
        left_out = (truth - my - z @ (cross / damped[:, None])) / (1 - leverage).clamp_min(1e-6)[:, None]
        errors.append(float(left_out.square().sum() / truth.square().sum()))
    least = min(errors)
    penalty = PENALTIES[errors.index(least)]
    weight = axes @ (cross / (values + penalty * scale)[:, None])
    evidence = {"penalty": penalty, "intercept": float(intercept), "left_out_error": least}
    return Linear(weight.to(x), (my - mx @ weight).to(x)), evidence


def _rank(x: Tensor, y: Tensor, generator: Generator) -> int:
    """Choose the rank on held-out pairs."""
    fitted, judging = _split(x, generator)
    linear, _ = ridge(x[fitted], y[fitted], generator)
    axes = _fitted_axes(linear, x[fitted])

    def errors(rank: int) -> Tensor:
        return (_confined(linear, axes[:, :rank])(x[judging]) - y[judging]).square().sum(1)

    full = axes.shape[1]
    best = min((2**i for i in range(full.bit_length())), key=lambda rank: float(errors(rank).sum()))
    gain = errors(full) - errors(best)
    return best if gain.mean() > gain.std() / len(gain) ** 0.5 else full


def _confined(linear: Linear, axes: Tensor) -> Linear:
    """Project the map's values on these axes (dy, r)."""
    return Linear(linear.weight @ axes @ axes.T, linear.bias @ axes @ axes.T)


def _fitted_axes(linear: Linear, x: Tensor) -> Tensor:
    """Return the axes (dy, r) of the map's values on x, strongest first."""
    values = linear(x)
    axes: Tensor = torch.linalg.eigh(_gram(values, values)).eigenvectors.flip(1)[:, : min(linear.weight.shape)].to(x)
    return axes


def _known(x: Tensor, y: Tensor, pairs: Tensor | None, name: str) -> tuple[Tensor, Tensor]:
    """Return the paired rows of x and of y; raises SettingError when there are no pairs, or they do not fit the rows."""
    if pairs is None:
        raise SettingError(
            f"the aligner {name} learns from pairs, and none were given", "give pairs, or use the aligner moments"
        )
    if pairs.dim() != 2 or pairs.shape[1] != 2 or pairs.is_floating_point() or pairs.is_complex():
        shape = " x ".join(map(str, pairs.shape))
        raise SettingError(f"pairs are ({shape}) {pairs.dtype}", "give whole numbers of shape (p, 2): source row, target row")
    if len(pairs) < FEWEST:
        raise SettingError(f"{len(pairs)} pairs are too few", f"give at least {FEWEST}, better 100")
    for column, (rows, side) in enumerate(((len(x), "source"), (len(y), "target"))):
        low, high = int(pairs[:, column].min()), int(pairs[:, column].max())
        if low < 0 or high >= rows:
            wrong = low if low < 0 else high
            raise SettingError(f"a pair names {side} row {wrong}", f"rows of the {side} go from 0 to {rows - 1}")
    pairs = pairs.to(x.device).long()
    return x[pairs[:, 0]], y[pairs[:, 1]]


def _both_ways(learn: Learn, x: Tensor, y: Tensor, seed: int, progress: Step) -> Alignment:
    """Learn a map from paired rows x to y and, for itself, one from y to x."""
    progress("fitting the pairs", 0.0)
    forward, evidence = learn(x, y, torch.Generator().manual_seed(seed), part(progress, 0.0, 0.5))
    progress("fitting the pairs backward", 0.5)
    backward, _ = learn(y, x, torch.Generator().manual_seed(seed), part(progress, 0.5, 1.0))
    progress("aligned", 1.0)
    cosine = float(cosine_similarity(forward(x), y).mean())
    return Alignment(forward, backward, {"pairs": float(len(x)), **evidence, "fitted_cosine": cosine})


def _split(x: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Return row numbers to fit, and a fifth (JUDGED at most) to judge by."""
    order = torch.randperm(len(x), generator=generator).to(x.device)
    held = min(JUDGED, max(1, len(x) // 5))
    return order[held:], order[:held]


def _gram(x: Tensor, y: Tensor) -> Tensor:
    """Return x^T y in float64 on the CPU (not every device has float64), without a float64 copy of the rows."""
    return sum(
        (a.cpu().double().T @ b.cpu().double() for a, b in zip(torch.split(x, 8192), torch.split(y, 8192), strict=True)),
        torch.tensor(0.0),
    )
