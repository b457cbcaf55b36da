"""conf — how Sphinx builds these pages: `make docs`, offline, every warning an error.

In    docs/*.md, the pages in ELSEWHERE that live outside docs/, the docstrings of the package
Out   build/docs/index.html; no font, script or picture comes from another machine
Uses  MyST (Markdown), furo (theme), autodoc (API), sphinx-click (command line)
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT / "src"))

from crossvec import __version__  # noqa: E402

project = "crossvec"
author = "The crossvec authors"
project_copyright = "2026, the crossvec authors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_click"]
html_theme = "furo"
html_title = f"crossvec {release}"
html_show_sourcelink = html_copy_source = False
highlight_language = "text"
smartquotes = False  # they make one dash of the two of an option
default_role = "literal"  # docstrings write code between single backticks
myst_heading_anchors = 4
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(?!crossvec\.).*"),  # what other libraries, and Python, document
    (r"py:.*", r"crossvec\.aligners\.vec2vec\..*"),  # the training loop's own parts
]
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
python_maximum_signature_line_length = 100

ELSEWHERE = {
    "benchmarks": "benchmarks/README.md",
    "log": "benchmarks/LOG.md",
    "notebooks": "notebooks/README.md",
    "plugin-examples": "examples/plugins/README.md",
    "experiments": "experiments/README.md",
    "sample": "src/crossvec/sample/README.md",
    "changelog": "CHANGELOG.md",
    "contributing": "CONTRIBUTING.md",
    "security": "SECURITY.md",
    "responsible-use": "RESPONSIBLE_USE.md",
}
"""Pages of this site whose text is a file elsewhere in the repository; docs/NAME.md only says where."""

SHOWN = re.compile(r"<!-- shows (\S+) from (\S+) -->")
"""A table that is drawn on another page, and shown on this one too."""

LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?\)")


def text_from_elsewhere(_app: Any, docname: str, source: list[str]) -> None:
    """Put the text of a page in ELSEWHERE where its stub is, and lead links to such files to the site's own pages."""
    home = ROOT / ELSEWHERE[docname] if docname in ELSEWHERE else HERE / f"{docname}.md"
    page = HERE / docname
    pages = {ROOT / path: HERE / f"{name}.md" for name, path in ELSEWHERE.items()} | {ROOT / "README.md": HERE / "index.md"}

    def led(link: re.Match[str]) -> str:
        target = Path(os.path.normpath(home.parent / link[1]))
        return f"]({os.path.relpath(pages.get(target, target), page.parent)}{link[2] or ''})"

    def shown(asked: re.Match[str]) -> str:
        drawn = (home.parent / asked[2]).read_text(encoding="utf-8")
        return drawn.partition(f"<!-- table {asked[1]} -->\n")[2].partition("<!-- end -->")[0]

    text = home.read_text(encoding="utf-8") if docname in ELSEWHERE else source[0]
    source[0] = LINK.sub(led, SHOWN.sub(shown, text))


def columns_kept(_app: Any, _what: str, _name: str, _it: Any, _options: Any, lines: list[str]) -> None:
    """Keep what a docstring has in columns, such as In, Out, Uses, and what it has indented, as it is written."""
    parts = "\n".join(lines).split("\n\n")
    for i, part in enumerate(parts):
        if len(re.findall(r"^\S.*?\S {2,}\S", part, re.M)) > 1 or re.search(r"^[├└│]", part, re.M):
            parts[i] = "::\n\n" + "\n".join(f"    {line}" for line in part.split("\n"))
        elif re.match(r" {4}\S", part):
            parts[i] = f"::\n\n{part}"
    lines[:] = "\n\n".join(parts).split("\n")


def help_as_written(_app: Any, _context: Any, lines: list[str]) -> None:
    """Keep the signs in a verb's help that would be markup."""
    lines[:] = [re.sub(r"(?<!\\)[*|@]", r"\\\g<0>", line) for line in lines]


def setup(app: Any) -> None:
    """Tell Sphinx of these."""
    for part in ("description", "options", "arguments", "epilog"):
        app.connect(f"sphinx-click-process-{part}", help_as_written)
    app.connect("source-read", text_from_elsewhere)
    app.connect("autodoc-process-docstring", columns_kept)
