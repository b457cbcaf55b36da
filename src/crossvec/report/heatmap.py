"""heatmap — draws the cosines between spaces, before and in the latent they share, each beside its control, as one PNG.

In    what Universal.cosines returns: before, latent, and the same of shuffled rows
Out   a PNG of four tables of numbers (the paper's figure 4, and what chance makes of it)
Uses  report.picture; matplotlib (the extra `plot`)
Paper arXiv:2505.12540      figure 4
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from crossvec.errors import UsageError
from crossvec.report.picture import blank, saved

TITLES = {
    "before": "before: as the models give them",
    "latent": "in the latent that they share",
    "before shuffled": "before, other texts",
    "latent shuffled": "in the latent, other texts",
}


def draw_cosines(path: str | Path, cosines: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Path:
    """Write the picture: a table for each of TITLES, a row and a column for each space, white for 0 and blue for 1.

    Raises MissingExtraError without matplotlib, and UsageError where a table is missing or tells of other spaces.
    """
    spaces = list(cosines.get("before", {}))
    for name in TITLES:
        table = cosines.get(name, {})
        if not spaces or list(table) != spaces or any(set(line) != set(spaces) for line in table.values()):
            raise UsageError(f"the cosines {name!r} are missing or incomplete", "draw what Universal.cosines returns")
    side = max(2.6, 0.75 * len(spaces) + 1.2)
    figure = blank((2 * side, 2 * side))
    for panel, (name, title) in zip(figure.subplots(2, 2).flat, TITLES.items(), strict=True):
        numbers = [[cosines[name][a][b] for b in spaces] for a in spaces]
        panel.imshow(numbers, cmap="Blues", vmin=0, vmax=1)
        panel.set_title(title, fontsize=9)
        panel.set_xticks(range(len(spaces)), spaces, fontsize=8)
        panel.set_yticks(range(len(spaces)), spaces, fontsize=8)
        for i, line in enumerate(numbers):
            for j, number in enumerate(line):
                panel.text(j, i, f"{number:.2f}", ha="center", va="center", fontsize=9, color="w" if number > 0.6 else "k")
    return saved(figure, path)
