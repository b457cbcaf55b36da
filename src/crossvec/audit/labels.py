"""labels — what to look for: a file of labels, and the sentences that each of them is looked for by.

In    labels.txt (a name a line), labels.toml or labels.json: names, sentences, templates, the column of the truth
Out   Labels
Uses  errors

    column = "topic"                          # where the store's payload holds each row's labels, to score the attack
    templates = ["This text is about {}."]    # a sentence is made of each name by each template
    k = 1                                     # an attack may name so many labels a row
    [[label]]
    name = "health"
    sentences = ["A doctor, a hospital or an illness is mentioned."]    # in place of, or beside, the templates' sentences
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossvec.errors import UsageError

__all__ = ["Labels", "names_in", "read"]

TEMPLATES = ("This text is about {}.", "A passage about {}.", "{}")
"""Used where a file gives none: a name alone is a poor sentence, and one sentence's wording should not decide."""

KEYS = ("column", "templates", "k", "label")


@dataclass(frozen=True)
class Labels:
    """Names, and for each of them the sentences it is looked for by; an attack may name `k` labels a row."""

    sentences: Mapping[str, Sequence[str]]
    k: int = 1
    column: str | None = None
    source: str = "the labels"

    def __post_init__(self) -> None:
        if len(self.sentences) < 2:
            few = "no label" if not self.sentences else "1 label"
            raise UsageError(f"{self.source} names {few}", "name two or more, to tell one from another")
        if not 1 <= self.k < len(self.sentences):
            raise UsageError(f"k cannot be {self.k} with {len(self.sentences)} labels", "use 1, or a few")
        if empty := [name for name, made in self.sentences.items() if not made or not all(map(str.strip, made))]:
            raise UsageError(
                f"the label {empty[0]!r} of {self.source} has no sentence, or a blank one", "give it one, or templates"
            )

    @classmethod
    def of(cls, names: Sequence[str], templates: Sequence[str] = TEMPLATES, **more: Any) -> Labels:
        """Return labels whose sentences are made of their names by the templates; `{}` stands for the name."""
        return cls({name: tuple(one.replace("{}", name) for one in templates) for name in names}, **more)

    @property
    def names(self) -> list[str]:
        """Return the names in the file's order."""
        return list(self.sentences)


def read(path: str) -> Labels:
    """Read a file of labels; raises UsageError that says what is wrong in it."""
    readers: dict[str, Callable[[str], Any]] = {".txt": _lines, ".toml": tomllib.loads, ".json": json.loads}
    ending = Path(path).suffix.lower()
    if ending not in readers:
        raise UsageError(f"cannot tell what {path} holds", f"use one of {', '.join(readers)}")
    try:
        told = readers[ending](Path(path).read_text(encoding="utf-8-sig"))
    except OSError as problem:
        raise UsageError(f"cannot read the labels in {path}: {problem.strerror or problem}", "check the path") from None
    except (ValueError, RecursionError) as problem:
        raise UsageError(f"{path} is not {ending[1:]}: {problem}", "docs/audit.md shows a file of labels") from None
    return _made(told if isinstance(told, Mapping) else {"label": told}, path)


def names_in(value: Any) -> frozenset[str]:
    """Return the names that one row's truth holds: a list of them, or text in which `|` parts them; None holds none."""
    if value is None:
        return frozenset()
    parts = value.split("|") if isinstance(value, str) else value if isinstance(value, (list, tuple, set)) else [value]
    return frozenset(str(part).strip() for part in parts if part is not None and str(part).strip())


def _lines(text: str) -> dict[str, Any]:
    return {"label": [line.strip() for line in text.splitlines() if line.strip()]}


def _made(told: Mapping[str, Any], path: str) -> Labels:
    for key in told:
        if key not in KEYS:
            raise UsageError(f"{path} has a key {key!r}", f"known: {', '.join(KEYS)}")
    templates, k, column = told.get("templates"), told.get("k", 1), told.get("column")
    if templates is not None and not (_texts(templates) and all("{}" in one for one in templates)):
        raise UsageError(f"the templates of {path} are no sentences with a {{}} for the name", 'such as "This is about {}."')
    if not isinstance(k, int) or isinstance(k, bool) or not isinstance(column, str | None):
        raise UsageError(f"{path} has a k or a column of another type", 'write  k = 1  and  column = "topic"')
    given = told.get("label", [])
    entries = given if isinstance(given, list) else [given]
    sentences: dict[str, tuple[str, ...]] = {}
    for entry in entries:
        one = {"name": entry} if isinstance(entry, str) else entry
        if not isinstance(one, Mapping) or not isinstance(one.get("name"), str) or set(one) - {"name", "sentences"}:
            raise UsageError(f"{path} has a label {entry!r}", 'give a name, and perhaps sentences = ["…"]')
        name, own = one["name"].strip(), one.get("sentences", [])
        if not _texts(own) or name in sentences:
            what = "is there twice" if name in sentences else "has sentences that are no list of text"
            raise UsageError(f"the label {name!r} of {path} {what}", "give each label once")
        # A label with sentences of its own is described by them; templates join in where the file asks for them.
        used = templates if templates is not None else () if own else TEMPLATES
        sentences[name] = (*own, *(one.replace("{}", name) for one in used))
    return Labels(sentences, k, column, path)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
