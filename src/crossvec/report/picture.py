"""picture — draws the two clouds before and after translation as one PNG.

In    translator, source rows (n, dx), target rows (m, dy), perhaps rows known to be pairs
Out   a PNG: left the source's numbers as they are, right the same rows translated, both over the target
Uses  translator; matplotlib (the extra `plot`)

Both panels are the plane of the target's two main axes, in the target's centred frame; rows are unit directions there.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from crossvec.errors import MissingExtraError
from crossvec.geometry import resized
from crossvec.space import Space
from crossvec.translator import Frame, Translator

ROWS = 2000
"""Rows drawn of each cloud: more hide each other."""

LINES = 60
SOURCE, TARGET, LINE = "#e8743b", "#3b6ea8", "#333333"


def draw(
    path: str | Path, translator: Translator, source: Space, target: Space, *, paired: bool = False, seed: int = 0
) -> Path:
    """Write the picture; with `paired` (row i of both is one text) thin lines join some pairs.

    Raises MissingExtraError without matplotlib.
    """
    figure = blank((11.0, 5.4))
    chosen = np.random.default_rng(seed)
    if paired:
        picked = np.sort(chosen.permutation(len(source))[:ROWS])
        source, target = source.take(picked), target.take(picked)
    else:
        source, target = source.sample(ROWS, seed), target.sample(ROWS, seed)
    theirs = _seen(translator.target, target.array())
    naive = resized(_seen(translator.source, source.array()), target.dim)
    ours = _seen(translator.target, translator.translate(source.array()))
    axes = torch.linalg.svd(theirs, full_matrices=False)[2][:2].T

    titles = "before: the source's numbers as they are", "after: translated"
    joined = chosen.permutation(len(source))[:LINES]
    reach = float((theirs @ axes).abs().max()) * 1.08
    for panel, title, cloud in zip(figure.subplots(1, 2, sharex=True, sharey=True), titles, (naive, ours), strict=True):
        back, front = _flat(theirs @ axes), _flat(cloud @ axes)
        panel.scatter(*back.T, s=5, c=TARGET, alpha=0.45, linewidths=0, label="target")
        panel.scatter(*front.T, s=5, c=SOURCE, alpha=0.45, linewidths=0, label="source")
        if paired:
            for row in joined:
                panel.plot(*np.stack([back[row], front[row]]).T, c=LINE, lw=0.5, alpha=0.6)
        panel.set(title=title, xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[], aspect="equal")
        for spine in panel.spines.values():
            spine.set_color("#cccccc")
    figure.axes[0].legend(loc="upper left", frameon=False, markerscale=3)
    lines = f"; lines join {min(LINES, len(source))} pairs" if paired else ""
    figure.supxlabel(f"plane of the target's two main axes, {len(target):,} and {len(source):,} rows{lines}", fontsize=9)
    return saved(figure, path)


def blank(size: tuple[float, float]) -> Any:
    """Return an empty figure of this width and height, in inches; raises MissingExtraError without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("drawing needs matplotlib", "pip install 'crossvec[plot]'") from None

    figure = Figure(figsize=size, dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def saved(figure: Any, path: str | Path) -> Path:
    """Write a figure as PNG, in one go, so that an interruption leaves no half a picture."""
    png = io.BytesIO()
    figure.savefig(png, format="png")
    Path(path).write_bytes(png.getvalue())
    return Path(path)


def _seen(frame: Frame, rows: Float[np.ndarray, "n d"]) -> Float[torch.Tensor, "n d"]:
    return frame.centre(torch.from_numpy(rows))[0]


def _flat(points: Float[torch.Tensor, "n q"]) -> Float[np.ndarray, "n 2"]:
    return resized(points, 2).numpy()  # a space of one dimension has one axis only
