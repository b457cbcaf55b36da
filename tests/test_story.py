"""test_story — the main job from the command line, with files on a disk: look, fit without pairs, translate, evaluate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import World

SOURCES = Path(__file__).parents[1] / "src"


def crossvec(folder: Path, words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(SOURCES), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "crossvec", *words.split()]
    env = {**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=580, check=False)


@pytest.mark.slow
def test_from_two_files_without_pairs_to_a_translated_store(tmp_path: Path, world: World) -> None:
    """The user has an old store with ids and titles, and rows of a new model for other texts."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    n, dx = world.x.shape
    flat = pa.FixedSizeListArray.from_arrays(pa.array(world.x.ravel()), dx)
    table = {"id": [f"doc-{i}" for i in range(n)], "vector": flat, "title": [f"Title {i}" for i in range(n)]}
    pq.write_table(pa.table(table), tmp_path / "old.parquet")
    for name, rows in {"new": world.y, "known-old": world.eval_x, "known-new": world.eval_y}.items():
        np.save(tmp_path / f"{name}.npy", rows.astype(np.float16))

    looked = json.loads(crossvec(tmp_path, "inspect old.parquet --format json").stdout)
    assert looked["rows"] == n
    assert crossvec(tmp_path, "compare old.parquet new.npy").returncode == 0

    fitted = crossvec(tmp_path, "fit old.parquet new.npy -o old-to-new --format json")
    assert fitted.returncode == 0, fitted.stderr
    assert json.loads(fitted.stdout)["verdict"]["status"] == "aligned"

    done = crossvec(tmp_path, "translate old-to-new old.parquet moved.parquet --format json")
    assert json.loads(done.stdout)["rows"] == n
    moved = pq.read_table(tmp_path / "moved.parquet")
    assert moved.column("id").to_pylist() == table["id"]
    assert moved.column("title").to_pylist() == table["title"]
    assert len(moved.column("vector")[0]) == world.y.shape[1]

    scores = json.loads(crossvec(tmp_path, "evaluate old-to-new known-old.npy known-new.npy --format json").stdout)
    assert scores["forward"]["top1"] > 0.6
    assert scores["forward"]["top1"] > 10 * scores["controls"]["identity"]["top1"]
    assert scores["forward"]["cosine_centred"] > scores["controls"]["shuffled"]["cosine_centred"] + 0.3

    back = json.loads(
        crossvec(tmp_path, "translate old-to-new moved.parquet back.npy?keep=vectors --inverse --format json").stdout
    )
    assert back["rows"] == n
    home = np.load(tmp_path / "back.npy")
    assert float((home * world.x).sum(1).mean()) > 0.8


@pytest.mark.slow
def test_the_demo_does_the_whole_job_and_says_what_to_type_next(tmp_path: Path) -> None:
    done = crossvec(tmp_path, "demo")
    assert done.returncode == 0, done.stderr
    assert "aligned" in done.stdout
    folder = tmp_path / "crossvec-demo"
    assert (folder / "before-after.png").read_bytes().startswith(b"\x89PNG")
    commands = [line.removeprefix("next: crossvec ") for line in done.stdout.splitlines() if line.startswith("next: ")]
    assert len(commands) == 3
    for command in commands[:2]:
        again = crossvec(tmp_path, command)
        assert again.returncode == 0, again.stderr


def test_a_picture_is_drawn_before_and_after(tmp_path: Path, twins: World) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    from crossvec.fitting import fit
    from crossvec.report import picture
    from crossvec.space import Space

    spaces = Space.of(twins.x), Space.of(twins.y)
    learned = fit(*spaces, "procrustes", pairs=np.stack([np.arange(1000)] * 2, axis=1))
    images = []
    for number, paired in enumerate((True, True, False)):
        images.append(imread(picture.draw(tmp_path / f"{number}.png", learned, *spaces, paired=paired)))
    assert (images[0] == images[1]).all(), "the same call draws the same picture"
    assert (images[0] != images[2]).any()
    left, right = (half[..., :3] for half in np.array_split(images[2], 2, axis=1))
    assert np.abs(left - right[:, : left.shape[1]]).mean() > 0.001
    assert sorted(os.listdir(tmp_path)) == ["0.png", "1.png", "2.png"]


@pytest.mark.parametrize("d", [1, 2, 7])
def test_narrow_targets_are_drawn_too(tmp_path: Path, d: int) -> None:
    pytest.importorskip("matplotlib")
    from crossvec.fitting import fit
    from crossvec.report import picture
    from crossvec.space import Space

    rng = np.random.default_rng(0)
    spaces = (
        Space.of(rng.standard_normal((80, 3)).astype(np.float32)),
        Space.of(rng.standard_normal((80, d)).astype(np.float32)),
    )
    assert picture.draw(tmp_path / "p.png", fit(*spaces, "identity"), *spaces).stat().st_size > 10_000
