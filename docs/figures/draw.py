"""draw — the pictures of docs/how-it-works.md, from simulated clouds, the packaged sample and committed results.

In    nothing; the packaged sample; benchmarks/results
Out   *.svg beside this file, and stages.json: the numbers in one of them
Uses  crossvec, matplotlib (the extra `plot`)

Run it with  python docs/figures/draw.py [NAME …]  : all of them take some minutes, one of them (stages) most of that.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import torch

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parents[1] / "benchmarks" / "results"
SOURCE, TARGET, BAD = "#2c6e8f", "#c8641e", "#8a8a8a"
STYLE = {"svg.hashsalt": "crossvec", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
ANGLES = np.linspace(-180, 180, 361)
TRUTH = 70  # degrees


def turned(degrees: float) -> np.ndarray:
    """The rotation by so many degrees."""
    a = np.deg2rad(degrees)
    return np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])


def third(rows: np.ndarray) -> np.ndarray:
    """The third moments of centred rows."""
    return np.einsum("ni,nj,nk->ijk", rows, rows, rows) / len(rows)


def agreement(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The objective that the search maximises, at each of ANGLES: cosine of the third moments of x, turned, and of y."""
    tx, ty = third(x), third(y)
    found = []
    for r in map(turned, ANGLES):
        t = np.einsum("abc,ai,bj,ck->ijk", tx, r, r, r)
        found.append((t * ty).sum() / np.linalg.norm(tx) / np.linalg.norm(ty))
    return np.array(found)


def lopsided(n: int, rng: np.random.Generator) -> np.ndarray:
    """Three clusters of unequal size and spread, centred, with the same variance along every axis."""
    centres = np.array([[1.6, 0.3], [-0.9, 1.2], [-0.5, -1.3]])
    which = rng.choice(3, n, p=[0.25, 0.3, 0.45])
    rows = centres[which] + rng.standard_normal((n, 2)) * np.array([0.25, 0.55, 0.4])[which][:, None]
    rows -= rows.mean(0)
    _, s, vt = np.linalg.svd(rows, full_matrices=False)
    return rows @ vt.T @ np.diag(np.sqrt(n) / s) @ vt


def gaussian(n: int, rng: np.random.Generator) -> np.ndarray:
    """Rows without any third moments."""
    return rng.standard_normal((n, 2))


def two_clouds(draw: Callable[[int, np.random.Generator], np.ndarray]) -> Figure:
    """Two samples of one shape, the second turned; beside them the agreement at every angle."""
    rng = np.random.default_rng(0)
    x, y = draw(4000, rng), draw(4000, rng) @ turned(TRUTH)
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(9, 2.9), width_ratios=[1, 1, 1.5], layout="constrained")
    for axes, rows, colour, title in ((left, x, SOURCE, "source"), (middle, y, TARGET, "target: other rows")):
        axes.scatter(*rows[:350].T, s=5, color=colour, alpha=0.6, linewidths=0)
        axes.set(xlim=(-3.2, 3.2), ylim=(-3.2, 3.2), aspect="equal", xticks=[], yticks=[], title=title)
    right.plot(ANGLES, agreement(x, y), color="black", linewidth=1.2)
    right.axvline(TRUTH, color=TARGET, linestyle="--", linewidth=1)
    right.text(TRUTH + 4, -0.95, "the true angle", color=TARGET)
    right.set(
        xlabel="source turned by, degrees", ylim=(-1.05, 1.05), xticks=range(-180, 181, 90), title="agreement of third moments"
    )
    return figure


def search() -> Figure:
    """On twelve axes of the packaged sample: random rotations, where climbing takes them, and the map learned from pairs."""
    from crossvec import sample
    from crossvec.aligners.objective import Moments
    from crossvec.geometry import polar, polar_batch, principal_axes

    given = sample.load()
    x, y, known_x, known_y = (
        unit_rows(space.array()) for space in (given.source, given.target, given.eval_source, given.eval_target)
    )
    (axes_x, _), (axes_y, _) = principal_axes(x), principal_axes(y)
    both = Moments.of(x @ axes_x, y @ axes_y, 12, 12)
    starts = polar_batch(torch.randn(1024, 12, 12, generator=torch.Generator().manual_seed(0)), 16)
    paired = polar(((known_x @ axes_x)[:, :12] / both.scale_x).T @ ((known_y @ axes_y)[:, :12] / both.scale_y))
    shown = {
        "random rotations": both.objectives(starts),
        "after 40 steps up from each": both.objectives(both.ascend(both.ascend(starts, 15, second=0.5), 25)),
    }
    figure, axes = plt.subplots(figsize=(7, 2.8), layout="constrained")
    for (name, reached), colour in zip(shown.items(), (BAD, SOURCE), strict=True):
        axes.hist(reached.numpy(), bins=np.linspace(-1, 1, 81), color=colour, alpha=0.8, label=name)
    axes.axvline(
        float(both.objectives(paired)), color=TARGET, linestyle="--", linewidth=1.2, label="the rotation learned from pairs"
    )
    axes.set(xlabel="agreement of third moments on 12 axes", ylabel="of 1,024 starts", xlim=(-0.6, 1))
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=8)
    return figure


def unit_rows(rows: np.ndarray) -> torch.Tensor:
    """Rows as aligners see them: centred, of unit length."""
    centred = torch.from_numpy(rows - rows.mean(0))
    return torch.nn.functional.normalize(centred, dim=1)


def stages() -> Figure:
    """What each stage adds, on the packaged sample; pairs are used for this picture only."""
    from crossvec import sample
    from crossvec.aligners.assignment import TEMPERATURES, learn
    from crossvec.aligners.refine import ORTHOGONAL, RANKING, finish, refine, spread
    from crossvec.aligners.search import search as found_by
    from crossvec.geometry import nearest, principal_axes

    given = sample.load()
    rows = 12_000
    x, y = unit_rows(given.source.array()[:rows]), unit_rows(given.target.array()[:rows])
    known = [
        torch.from_numpy(one.array() - of.array()[:rows].mean(0))
        for one, of in ((given.eval_source, given.source), (given.eval_target, given.target))
    ]
    axes_x, axes_y = principal_axes(x)[0], principal_axes(y)[0]
    zx, zy, (ex, ey) = x @ axes_x, y @ axes_y, (torch.nn.functional.normalize(one, dim=1) for one in known)
    generator, told = torch.Generator().manual_seed(0), []

    def silent(doing: str, part: float) -> None:
        return None

    def note(name: str, weight: torch.Tensor) -> None:
        across = torch.nn.functional.normalize(ex @ axes_x @ weight, dim=1)
        hits = nearest(across, ey @ axes_y, 1)[1][:, 0] == torch.arange(len(ey))
        told.append({"stage": name, "top1": round(float(hits.float().mean()), 4)})

    few = zx.new_zeros(zx.shape[1], zy.shape[1])
    few[range(12), range(12)] = 1.0
    note("axes in their order", few)
    found = found_by(zx, zy, starts=2048, keep=4, kicks=9, axes=256, damping=0.5, generator=generator, progress=silent)
    note("search", found.map)
    c = refine(zx, zy, found.map, rounds=2, neighbours=10, progress=silent)
    along, across = spread(zx), spread(zy)
    note("refinement", finish(c, along, across, ORTHOGONAL))
    there, back = finish(c, along, across, RANKING), finish(c.T, across, along, RANKING)
    final, _ = learn(zx, zy, there, back, TEMPERATURES["ranking"], steps=20, generator=generator, progress=silent)
    note("learned finish", final.weight)
    setting = {"rows a side": rows, "pool": len(ey), "seed": 0, "source": "wordllama", "target": "potion"}
    (HERE / "stages.json").write_text(json.dumps({**setting, "stages": told}, indent=1) + "\n", encoding="utf-8")
    figure, axes = plt.subplots(figsize=(7, 2.2), layout="constrained")
    bars = axes.barh([one["stage"] for one in told], [one["top1"] for one in told], color=[BAD, SOURCE, SOURCE, SOURCE])
    axes.bar_label(bars, fmt="%.3f", padding=3)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel=f"top-1 among {len(ey):,} held-out pairs, {rows:,} rows a side")
    return figure


def verdict() -> Figure:
    """One dot a run of benchmarks/calibrate.py: what the verdict says of a map beside what pairs say of it."""
    from crossvec.verdict import probability

    lines = (RESULTS / "verdict" / "runs.jsonl").read_text(encoding="utf-8").splitlines()
    runs = [one for one in map(json.loads, lines) if one["evidence"].get("usable")]
    rng = np.random.default_rng(0)
    related = [one for one in runs if one["kind"].split("-")[0] in ("real", "topics")]
    kinds = {
        "unrelated clouds": [one for one in runs if one not in related],
        "top-1 at most half of the paired ceiling": [one for one in related if one["share"] <= 0.5],
        "top-1 above half of it": [one for one in related if one["share"] > 0.5],
    }
    figure, axes = plt.subplots(figsize=(7, 2.2), layout="constrained")
    for level, (group, colour) in enumerate(zip(kinds.values(), (BAD, TARGET, SOURCE), strict=True)):
        # 0.51, the lowest chance on these encoders, for runs from before it was measured.
        seen = [probability({"chance": 0.51, **one["evidence"]}) for one in group]
        axes.scatter(seen, level + rng.uniform(-0.25, 0.25, len(seen)), s=9, color=colour, alpha=0.7, linewidths=0)
    axes.set(
        yticks=range(3),
        yticklabels=[f"{name} ({len(group)})" for name, group in kinds.items()],
        xlabel="probability that the verdict gives",
    )
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    "third-moments": lambda: two_clouds(lopsided),
    "gaussian": lambda: two_clouds(gaussian),
    "search": search,
    "stages": stages,
    "verdict": verdict,
}


def main(names: list[str]) -> None:
    """Draw the figures of these names, or all."""
    plt.rcParams.update(STYLE)
    for name in names or FIGURES:
        FIGURES[name]().savefig(HERE / f"{name}.svg", metadata={"Date": None}, facecolor="white")
        plt.close("all")


if __name__ == "__main__":
    main(sys.argv[1:])
