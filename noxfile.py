"""noxfile — the supported range: every Python and torch that the metadata claims, and the lowest versions it allows.

    pip install nox uv
    nox                                    # every session whose interpreter is here; the others are skipped, and said to be
    nox -s lowest                          # the lowest versions that pyproject.toml declares
    nox -s tests-3.13 -- tests/test_space.py

A session installs crossvec as users do and runs the core tests: spaces, stores, translators, metrics. Interpreters are those of
the machine (pyenv, deadsnakes, uv). UV_TORCH_BACKEND=cpu spares Linux the gigabytes of CUDA that come with torch.

Run on 2026-11-22 on Linux, all sessions but torch 2.13.0 by itself, which the others have: Python 3.11.7, 3.12.1, 3.13.0 and
3.14.10 (Debian unstable's, by debootstrap) with torch 2.13.0; torch 2.6.0; and the lowest versions, numpy 1.26.0, pyarrow
17.0.0 and scipy 1.11.1. The core tests pass in each, 341 of them; with Arrow 17 one of these skips, which Arrow cannot write.
"""

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = False
nox.options.envdir = "build/nox"

PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
TORCHES = ["2.6.0", "2.13.0"]
CORE = ["space", "translator", "metrics", "geometry", "stores"]
TOOLS = ["beartype", "hypothesis", "pytest", "pytest-timeout", "h5py"]


def core(session: nox.Session) -> None:
    """Run the core tests, or those named after `--`, against what is installed."""
    tests = session.posargs or [f"tests/test_{name}.py" for name in CORE]
    session.run("python", "-m", "pytest", "-q", *tests, env={"OMP_NUM_THREADS": "1"})


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The newest that installs."""
    session.install(".", *TOOLS, "-c", "constraints.txt")
    core(session)


@nox.session(python="3.11")
@nox.parametrize("torch", TORCHES)
def torch(session: nox.Session, torch: str) -> None:
    """The lowest and the newest torch."""
    session.install(".", *TOOLS, f"torch=={torch}")
    core(session)


@nox.session(python="3.11", venv_backend="uv")  # pip knows no lowest versions
def lowest(session: nox.Session) -> None:
    """The lowest versions of the core dependencies that pyproject.toml allows; torch as constraints.txt has it."""
    session.install("--resolution", "lowest-direct", ".", "--override", "constraints.txt")
    session.install(*TOOLS)
    core(session)
