"""conftest — the one toy world that the tests share: clouds with a known answer.

A text is a point of a latent space: one of many clusters of unequal weight, with skewed noise around it (real embeddings have
both, and third moments need them). An encoder is a random semi-orthogonal map of that point into its own dimensions, with an
own offset, a mild bend and a little own noise, scaled to unit length. So two encoders agree up to a near-rotation, which is
what an unpaired aligner must find, and a paired one finds almost exactly.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
# A shell makes what it starts in the background ignore Ctrl-C, and children inherit that: tests that send one would never end.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import jaxtyping
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    import servers

# No test is held to the clock: a busy machine must not fail it. CI draws the same examples every time.
settings.register_profile(
    "house", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("house")

Run = Callable[..., tuple[int, str, str]]
"""Words of a command line in; its exit code, stdout and stderr out."""


@dataclass(frozen=True, eq=False)
class World:
    """x (n, dx), y (m, dy): rows to fit on; eval_x (k, dx), eval_y (k, dy): row i is one text in both. All float32, unit."""

    x: np.ndarray
    y: np.ndarray
    eval_x: np.ndarray
    eval_y: np.ndarray


def orthonormal(rows: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    """A random matrix (rows, columns) whose shorter side is orthonormal."""
    q, _ = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    return q if rows >= columns else q.T


def make_world(
    n: int = 3000,
    m: int = 3000,
    pool: int = 500,
    dx: int = 24,
    dy: int = 20,
    *,
    latent: int = 16,
    clusters: int = 60,
    noise: float = 0.15,
    paired: bool = False,
    seed: int = 0,
) -> World:
    """Draw a world; with `paired`, row i of x and row i of y are one text (and m must be n)."""
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.full(clusters, 0.5))
    centres = rng.standard_normal((clusters, latent)) * np.linspace(1.5, 0.7, latent)

    def texts(count: int) -> np.ndarray:
        around = rng.exponential(1.0, (count, latent)) - 1.0
        return centres[rng.choice(clusters, count, p=weights)] + 0.5 * around

    def encoder(width: int) -> tuple[np.ndarray, np.ndarray]:
        return orthonormal(latent, width, rng), 0.6 * rng.standard_normal(width)

    def encode(z: np.ndarray, into: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        flat = z @ into[0] + into[1]
        rows = flat + 0.1 * np.tanh(flat) + noise * rng.standard_normal(flat.shape)
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    first, second = encoder(dx), encoder(dy)
    seen, held_out = texts(n), texts(pool)
    other = seen if paired else texts(m)
    return World(encode(seen, first), encode(other, second), encode(held_out, first), encode(held_out, second))


@pytest.fixture(scope="session")
def world() -> World:
    """Two clouds of different texts: what an unpaired fit is given."""
    return make_world()


@pytest.fixture(scope="session")
def twins() -> World:
    """Two clouds of the same texts, row by row: what a paired fit is given."""
    return make_world(n=1000, m=1000, paired=True, seed=1)


@pytest.fixture(scope="session")
def pgvector() -> Iterator[servers.Database]:
    """A PostgreSQL with pgvector for all who need one, each in tables of names of their own."""
    import servers

    with servers.running("pgvector") as running:
        yield running


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Call crossvec as users do, without annotation checks: for tests of what it says itself to a call that breaks them."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture
def crossvec(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process: its exit code, stdout and stderr."""
    from crossvec.cli import cli, exits

    def run(*words: object) -> tuple[int, str, str]:
        code = exits.run(cli, [str(word) for word in words])
        told = capsys.readouterr()
        assert "Traceback" not in told.err
        return code, told.out, told.err

    return run
