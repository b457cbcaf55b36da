"""make_sample — write src/crossvec/sample/wiki.npz from a folder of paired vectors, and say what the rounding cost.

In    FOLDER/wordllama.npy (n, 256), potion.npy (n, 128), splits.json    row i is one passage in both files
Out   wiki.npz                                                          int8 clouds, one step an encoder, no texts
Run   python scripts/make_sample.py FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

SOURCE, TARGET = "wordllama", "potion"
OUT = Path(__file__).parents[1] / "src/crossvec/sample/wiki.npz"
LARGEST = 12_000_000
LEVELS = 6
"""Steps in a standard deviation. One step for a whole encoder spends the fewest bits for a given error (small columns need
fewer levels), and so coarse a grid leaves few distinct values, which deflate packs to about 5 bits each: every row fits."""


def quantise(rows: np.ndarray) -> tuple[np.ndarray, np.float32]:
    step = np.float32(rows.std() / LEVELS)
    return np.clip(np.rint(rows / step), -127, 127).astype(np.int8), step


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def paired_ceiling(x: np.ndarray, y: np.ndarray, fit: slice, held_out: slice) -> tuple[float, float]:
    """Top-1 and centred cosine of orthogonal Procrustes fitted on the pairs of `fit`."""
    (u, ex), (v, ey) = ((unit(a[fit] - a[fit].mean(0)), unit(a[held_out] - a[fit].mean(0))) for a in (x, y))
    left, _, right = np.linalg.svd(u.T @ v, full_matrices=False)
    cosines = unit(ex @ (left @ right)) @ ey.T
    return float((cosines.argmax(1) == np.arange(len(ex))).mean()), float(np.diag(cosines).mean())


def main(folder: Path) -> None:
    splits = {name: slice(*bounds) for name, bounds in json.loads((folder / "splits.json").read_text()).items()}
    rows = {name: np.load(folder / f"{name}.npy", allow_pickle=False).astype(np.float32) for name in (SOURCE, TARGET)}
    grid, step = {}, {}
    for name, cloud in rows.items():
        grid[name], step[name] = quantise(cloud)
    clouds = {
        "source": grid[SOURCE][splits["source"]],
        "target": grid[TARGET][splits["target"]],
        "eval_source": grid[SOURCE][splits["eval"]],
        "eval_target": grid[TARGET][splits["eval"]],
    }
    # Column by column, because a column's values are alike: 10 % smaller than row by row.
    np.savez_compressed(
        OUT,
        **{name: np.asfortranarray(cloud) for name, cloud in clouds.items()},
        **{f"{name}_step": np.asarray(s) for name, s in step.items()},
    )
    size = OUT.stat().st_size
    print(f"{OUT.name}: {size / 1e6:.2f} MB", {name: cloud.shape for name, cloud in clouds.items()})
    if size > LARGEST:
        sys.exit(f"more than {LARGEST / 1e6:.0f} MB: lower LEVELS")

    back = {name: unit(grid[name] * step[name]) for name in grid}
    for name in rows:
        print(f"{name}: cosine to the original {(back[name] * unit(rows[name])).sum(1).mean():.5f}")
    for label, both in (("original", rows), ("sample", back)):
        top1, cosine = paired_ceiling(both[SOURCE], both[TARGET], splits["source"], splits["eval"])
        print(f"{label}: paired Procrustes top-1 {top1:.4f}, centred cosine {cosine:.4f}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python scripts/make_sample.py FOLDER")
    main(Path(sys.argv[1]))
