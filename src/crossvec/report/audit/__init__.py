"""audit — an audit's reports: for people (HTML, Markdown), for scripts (JSON), and for CI (SARIF, JUnit).

In    Audit
Out   texts by file name, or a folder of them; no text of the victim in any of them unless it is asked for
Uses  audit, stores.atomic; jinja2, and matplotlib (the extra `plot`) for the HTML's pictures
"""

from __future__ import annotations

import json
from contextlib import suppress
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
TELLING = frozenset({"report.html", "report.json", "report.md"})
"""Those that hold texts of the store where they are asked for."""


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

    Takes what `texts` takes; with `show_text` nobody else may read those that hold texts (mode 0600). Raises what it raises,
    UsageError where the folder cannot be made, what `stores.atomic` raises, and UnfinishedError when it was interrupted.
    """
    made = texts(it, **told)
    place = prepared(folder)
    try:
        for name, text in made.items():
            _write(place / name, text, private=bool(told.get("show_text")) and name in TELLING)
    except KeyboardInterrupt:
        raise UnfinishedError(
            f"interrupted while writing {place}: each file there is whole, not all are of this audit"
        ) from None
    return [place / name for name in made]


def _write(path: Path, text: str, *, private: bool) -> None:
    if private:
        with suppress(OSError):  # none is there yet; else it would pass its rights on to the new one
            path.chmod(0o600)
    with atomically(path) as part:
        if private:  # made anew, because somebody may have opened the one that others could read
            part.unlink()
            part.touch(0o600, exist_ok=False)
        part.write_text(text, encoding="utf-8")
    if private:
        path.chmod(0o600)  # somebody else's report was there, whose rights could not be changed


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
