"""svg — a figure as SVG that stands inside a page: its colours are the page's, its text is text, its names are its own.

In    a matplotlib figure drawn in INK and its siblings
Out   one <svg> element, without size, metadata or links
Uses  matplotlib (the extra `plot`)

matplotlib knows no CSS, so each colour of the page is drawn as a number that nothing else uses and replaced afterwards.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

from crossvec.report.picture import blank

__all__ = ["ATTACK", "BAD", "BLIND", "GOOD", "GRID", "IDEAL", "INK", "MUTED", "NAIVE", "SURFACE", "figure", "inline"]

NAMES = ("ink", "muted", "grid", "attack", "naive", "ideal", "blind", "good", "bad", "surface")
COLOURS = {f"#{0x0A0B01 + number:06x}": f"var(--{name})" for number, name in enumerate(NAMES)}
INK, MUTED, GRID, ATTACK, NAIVE, IDEAL, BLIND, GOOD, BAD, SURFACE = COLOURS

SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "crossvec",
    "text.parse_math": False,  # a label may hold a dollar sign
    "font.family": "DejaVu Sans",  # wider than what browsers use, so that nothing overlaps there
    "font.size": 12,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "grid.color": GRID,
    "legend.frameon": False,
    "legend.fontsize": 11,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}

LONG = re.compile(r"\d+\.\d{3,}")
"""Numbers with more decimals than can be seen: a cloud of points is most of a page's size."""

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"


@contextmanager
def figure(width: float, height: float) -> Iterator[Any]:
    """Give an empty figure in the page's colours, in inches of 72 units; raises MissingExtraError without matplotlib."""
    made = blank((width, height))
    from matplotlib import rc_context

    with rc_context(SETTINGS), warnings.catch_warnings():
        # A label in a script that the font lacks is measured wrongly and shown rightly: browsers have other fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        made.set_facecolor("none")
        yield made


def inline(drawn: Any, name: str, says: str) -> str:
    """Return a figure as one SVG element: `says` is what it shows in words, `name` sets its parts apart from other figures'."""
    from matplotlib import rc_context

    written = io.StringIO()
    with rc_context(SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        drawn.savefig(written, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    root = ElementTree.fromstring(written.getvalue())  # noqa: S314  our own
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):
                parent.remove(child)
    for part in root.iter():
        for key, value in part.attrib.items():
            part.set(key, _own(key, value, name))
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    root.attrib |= {"role": "img", "aria-label": says, "class": "chart"}
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    return ElementTree.tostring(root, encoding="unicode")


def _own(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == f"{{{XLINK}}}href":
        return value.replace("#", f"#{name}-")
    if key in ("x", "y", "d"):
        return LONG.sub(lambda number: f"{float(number[0]):.2f}", value)
    if "url(#" in value:
        return value.replace("url(#", f"url(#{name}-")
    for colour, variable in COLOURS.items():
        value = value.replace(colour, variable)
    return value
