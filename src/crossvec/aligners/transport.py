"""transport — optimal transport baselines: a coupling of two samples, read as pairs.

In    x (n, dx), y (m, dy)  float32, centred, rows of unit length
Out   Alignment             a semi-orthogonal map and its transpose
Uses  geometry, aligners.maps; POT (the extra `ot`)
Paper arXiv:2505.12540      vec2vec, appendix B: the baselines it compares with, and finds to fail without pairs

Every aligner here couples a random sample of each side, takes the coupling's barycentres as each source row's target, and fits
orthogonal Procrustes on them: the coupling itself says nothing about rows outside the sample. Memory is a few rows x rows
matrices of float64, whatever n and m are. They are here as the rivals of the literature, not because they work.

All have in their evidence `matched_cosine`, the mean cosine of mapped sample rows to their barycentres, and `marginal_error`,
the mean part by which rows get more or less than their share (0 when converged).
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from numpy import ndarray
from torch import Tensor
from torch.nn.functional import cosine_similarity

from crossvec.aligners import Alignment, Step, silent
from crossvec.aligners.limits import Range, check
from crossvec.aligners.maps import Linear
from crossvec.errors import MissingExtraError
from crossvec.geometry import polar

FEWEST = 2


@dataclass(frozen=True)
class Coupling(ABC):
    """What the aligners here do alike: couple two samples, and fit the rotation that carries rows to their barycentres."""

    name: ClassVar[str]
    needs_pairs: ClassVar[bool] = False

    seed: int = 0
    rows: int = 2_000
    iterations: int = 1_000

    def fit(
        self,
        x: Float[Tensor, "n dx"],
        y: Float[Tensor, "m dy"],
        *,
        pairs: Int[Tensor, "p 2"] | None = None,
        progress: Step = silent,
    ) -> Alignment:
        """Learn a map without pairs; `pairs` are not used. Raises MissingExtraError without POT."""
        ot = _pot()
        a, b = _sample(x, y, self.rows, self.seed)
        progress("transporting", 0.05)
        coupling, distance = self._couple(ot, a, b)
        progress("fitting the coupling", 0.95)
        centres = torch.from_numpy(coupling).to(b) @ b
        weight = polar(a.T @ centres)
        shares = sum(np.abs(coupling.sum(axis) * n - 1).mean() for axis, n in ((1, len(a)), (0, len(b))))
        evidence = {
            "distance": distance,
            "matched_cosine": float(cosine_similarity(a @ weight, centres).mean()),
            "marginal_error": float(shares),
        }
        progress("aligned", 1.0)
        return Alignment(Linear.of(weight), Linear.of(weight.T.contiguous()), evidence)

    @abstractmethod
    def _couple(self, ot: ModuleType, a: Tensor, b: Tensor) -> tuple[ndarray, float]:
        """Return the coupling of two samples (rows of a, rows of b), and its cost."""


@dataclass(frozen=True)
class Gromov(Coupling):
    """Gromov-Wasserstein: couple rows whose cosine distances to all other rows look alike (Alvarez-Melis and Jaakkola 2018).

    Minimises `sum |D_x[i, j] - D_y[k, l]|^2 T[i, k] T[j, l]` with each distance matrix divided by its mean, from the uniform
    coupling. `entropy` 0 is the plain problem (conditional gradient), above 0 the entropic one (projected gradient; vec2vec's
    paper uses 0.005). `rows` a side: time grows with its cube.

    Evidence: `distance`, the objective reached.
    """

    name: ClassVar[str] = "gromov"

    rows: int = 1_000
    entropy: float = 0.0

    def __post_init__(self) -> None:
        check(self, {"rows": FEWEST}, entropy=Range(0.0, such=0.005))

    def _couple(self, ot: ModuleType, a: Tensor, b: Tensor) -> tuple[ndarray, float]:
        dx, dy = _distances(a, a), _distances(b, b)
        dx, dy = dx / dx.mean(), dy / dy.mean()
        p, q = _uniform(a), _uniform(b)
        if self.entropy:
            coupling, log = ot.gromov.entropic_gromov_wasserstein(
                dx,
                dy,
                p,
                q,
                "square_loss",
                epsilon=self.entropy,
                symmetric=True,
                max_iter=self.iterations,
                log=True,
                warn=False,
            )
        else:
            coupling, log = ot.gromov.gromov_wasserstein(
                dx, dy, p, q, "square_loss", symmetric=True, max_iter=self.iterations, log=True
            )
        return coupling, float(log["gw_dist"])


@dataclass(frozen=True)
class Sinkhorn(Coupling):
    """Entropic optimal transport on cosine distance in shared coordinates (Cuturi 2013); the shorter rows are zero-padded.

    On unit rows the squared Euclidean distance is twice the cosine distance, so there is one cost, not two. `entropy` 0.05 is
    the value of vec2vec's baseline. It presumes that the two models share coordinates, which unrelated models do not.

    Evidence: `distance`, the transport cost.
    """

    name: ClassVar[str] = "sinkhorn"

    entropy: float = 0.05

    def __post_init__(self) -> None:
        check(self, {"rows": FEWEST}, entropy=Range(0.0, above=True, such=0.05))

    def _couple(self, ot: ModuleType, a: Tensor, b: Tensor) -> tuple[ndarray, float]:
        cost = _distances(a, b)
        # A small entropy underflows exp(-cost / entropy); the log domain does not, and is slower.
        method = "sinkhorn" if cost.max() / self.entropy < 500 else "sinkhorn_log"
        coupling = ot.sinkhorn(
            _uniform(a), _uniform(b), cost, self.entropy, method=method, numItermax=self.iterations, warn=False
        )
        return coupling, float((coupling * cost).sum())


@dataclass(frozen=True)
class EarthMover(Coupling):
    """Exact optimal transport on cosine distance in shared coordinates (network simplex); the shorter rows are zero-padded.

    Like `sinkhorn` with no entropy. Evidence: `distance`, the transport cost.
    """

    name: ClassVar[str] = "emd"

    iterations: int = 1_000_000

    def __post_init__(self) -> None:
        check(self, {"rows": FEWEST})

    def _couple(self, ot: ModuleType, a: Tensor, b: Tensor) -> tuple[ndarray, float]:
        coupling, log = ot.emd(_uniform(a), _uniform(b), _distances(a, b), numItermax=self.iterations, log=True)
        return coupling, float(log["cost"])


def _pot() -> ModuleType:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # POT announces which of its optional back ends are missing
            import ot
            import ot.gromov
    except ImportError:
        raise MissingExtraError("optimal transport needs the package POT", "pip install 'crossvec[ot]'") from None
    return ot  # type: ignore[no-any-return]


def _sample(x: Tensor, y: Tensor, rows: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a, b = (side[torch.randperm(len(side), generator=generator)[:rows].to(side.device)] for side in (x, y))
    return a, b


def _uniform(rows: Tensor) -> Float64[ndarray, " b"]:
    return np.full(len(rows), 1 / len(rows))


def _distances(a: Tensor, b: Tensor) -> Float64[ndarray, "a b"]:
    """Cosine distances of unit rows over their shared coordinates, which is zero-padding the shorter."""
    shared = min(a.shape[1], b.shape[1])
    return (1 - a[:, :shared].cpu().double() @ b[:, :shared].cpu().double().T).numpy()
