"""audit — an audit's reports: for people (HTML, Markdown), for scripts (JSON), and for CI (SARIF, JUnit).

In    Audit
Out   texts by file name, or a folder of them; no text of the victim in any of them unless it is asked for
Uses  audit, stores.atomic; jinja2, and matplotlib (the extra `plot`) for the HTML's pictures
"""

from __future__ import annotations

import json
from datetime import date
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from crossvec import report
from crossvec.audit import Audit
from crossvec.audit.policy import FILE
from crossvec.errors import MissingExtraError, UnfinishedError, UsageError
from crossvec.stores.atomic import atomically

__all__ = ["FILES", "prepared", "schema", "texts", "write"]

FILES = ("report.html", "report.json", "report.md", "report.sarif", "report.xml")


def texts(it: Audit, *, show_text: bool = False, policy: str = FILE, day: date | None = None) -> dict[str, str]:
    """Return the five reports by file name; `policy` is where SARIF shows findings, `day` what the page is dated.

    Raises MissingExtraError without matplotlib.
    """
    from crossvec.report.audit.html import html
    from crossvec.report.audit.junit import junit
    from crossvec.report.audit.markdown import markdown
    from crossvec.report.audit.sarif import sarif

    made = (
        html(it, show_text=show_text, day=day),
        report.as_json(it.to_json(show_text)) + "\n",
        markdown(it, show_text=show_text),
        report.as_json(sarif(it, policy=policy)) + "\n",
        junit(it),
    )
    return dict(zip(FILES, made, strict=True))


def write(it: Audit, folder: str | Path, **told: Any) -> list[Path]:
    """Write the five reports into a folder, each completely or not at all, and return their paths.

    Takes what `texts` takes; raises what it raises, UsageError where the folder cannot be made, what `stores.atomic` raises,
    and UnfinishedError when it was interrupted.
    """
    made = texts(it, **told)
    place = prepared(folder)
    try:
        for name, text in made.items():
            with atomically(place / name) as part:
                part.write_text(text, encoding="utf-8")
    except KeyboardInterrupt:
        raise UnfinishedError(
            f"interrupted while writing {place}: each file there is whole, not all are of this audit"
        ) from None
    return [place / name for name in made]


def prepared(folder: str | Path) -> Path:
    """Return a folder that reports can be written to, made if it is not there: to be asked before an audit, which takes long.

    Raises UsageError where it cannot be made, and MissingExtraError without matplotlib.
    """
    if find_spec("matplotlib") is None:
        raise MissingExtraError("the pictures of report.html need matplotlib", "pip install 'crossvec[plot]'")
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise UsageError(
            f"reports cannot be written to {folder}: {problem.strerror or problem}", "name another folder"
        ) from None
    return place


def schema() -> dict[str, Any]:
    """Return the JSON Schema of report.json."""
    text = resources.files("crossvec.report.audit").joinpath("schema-1.json").read_text(encoding="utf-8")
    told: dict[str, Any] = json.loads(text)
    return told
