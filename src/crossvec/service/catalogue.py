"""catalogue — what is served: translators under their names, each perhaps with the model whose texts it carries across.

In    FOLDER or NAME=FOLDER; MODEL or NAME=MODEL
Out   Catalogue: from a name to a Served; what the user should know of them
Uses  translator, query, encoders
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from crossvec import encoders
from crossvec.encoders import Encoder
from crossvec.errors import TranslatorError, UsageError, did_you_mean
from crossvec.query import QueryEncoder
from crossvec.service.refusal import Refusal
from crossvec.translator import Translator

__all__ = ["Catalogue", "Served", "opened"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, eq=False)
class Served:
    """A translator under its name, and what embeds texts into its target space, if anything does."""

    name: str
    translator: Translator
    query: QueryEncoder | None = None

    @property
    def status(self) -> str:
        """Whether the translator arrived, or that nobody judged it."""
        return self.translator.status or "not judged"

    def to_json(self) -> dict[str, Any]:
        """Return it as OpenAI's API describes a model, and what is to be known of a translator besides."""
        return {
            "id": self.name,
            "object": "model",
            "created": _seconds(self.translator.card.get("date")),
            "owned_by": "crossvec",
            "source_dim": self.translator.source.dim,
            "target_dim": self.translator.target.dim,
            "status": self.status,
            "embeds_texts": self.query is not None,
        }


class Catalogue:
    """All that is served, in the order given."""

    def __init__(self, served: Sequence[Served]) -> None:
        self._served = {one.name: one for one in served}

    def __iter__(self) -> Iterator[Served]:
        return iter(self._served.values())

    def named(self, name: str) -> Served:
        """Return a translator by its name; raises a Refusal, with the nearest right name, when there is none."""
        if name not in self._served:
            raise Refusal(404, "unknown_model", "there is no translator of that name", did_you_mean(name[:100], self._served))
        return self._served[name]

    def embedding(self, name: str) -> tuple[Served, QueryEncoder]:
        """Return a translator that embeds texts too; raises a Refusal when it has no model."""
        served = self.named(name)
        if served.query is None:
            raise Refusal(
                422, "no_encoder", f"{served.name} translates vectors only", f"serve it with a model: -m {served.name}=MODEL"
            )
        return served, served.query

    def doubts(self) -> list[str]:
        """Return what the user should know of translators that are not `aligned`."""
        return [
            f"note: {one.name} is {one.status}: score it on known pairs before anything depends on it"
            for one in self
            if one.status != "aligned"
        ]


def opened(
    folders: Sequence[str],
    models: Sequence[str] = (),
    *,
    inverse: bool = False,
    force: bool = False,
    device: str = "auto",
    send_texts: bool = False,
    download: bool = False,
) -> Catalogue:
    """Load translators and the models that they embed with.

    Raises UsageError for names that are wrong or given twice, and for a translator whose status is `failed` unless `force`;
    TranslatorError for a folder that holds none, or a model whose rows its translator does not read; and what
    `encoders.open` raises.
    """
    from crossvec.machine import pick_device

    found: dict[str, Translator] = {}
    for word in folders:
        name, folder = _name_of(word)
        if name in found:
            raise UsageError(f"two translators are named {name}", f"name one of them otherwise: {name}-2={folder}")
        translator = Translator.load(folder).to(pick_device(device))
        found[name] = translator.inverse() if inverse else translator
    _check_status(found, force)
    asked = _models_of(models, list(found))
    ready: dict[str, Encoder] = {}
    for model in asked.values():
        if model not in ready:
            ready[model] = encoders.open(model, send_texts=send_texts, download=download, device=device)
    return Catalogue(
        [Served(name, one, _query(name, one, ready[asked[name]]) if name in asked else None) for name, one in found.items()]
    )


def _name_of(word: str) -> tuple[str, str]:
    """Return the name and the folder that a word of the command line stands for."""
    name, equals, folder = word.partition("=")
    if not equals or Path(word).is_dir():
        name, folder = Path(word).resolve().name, word
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be a translator's name in an address", f"name it: my-translator={folder} (letters, digits, . _ -)"
        )
    return name, folder


def _check_status(found: dict[str, Translator], force: bool) -> None:
    failed = [name for name, one in found.items() if one.status == "failed"]
    if failed and not force:
        raise UsageError(
            f"{failed[0]} is judged failed: what it answers is likely to be nowhere near the right place",
            "fit again, or serve it all the same with --force if known pairs say otherwise (crossvec evaluate)",
        )


def _models_of(models: Sequence[str], names: list[str]) -> dict[str, str]:
    """Return the model of each translator that has one."""
    asked: dict[str, str] = {}
    for word in models:
        name, equals, model = word.partition("=")
        # An encoder's own name may hold a =, as in minilm?tokens=64: only before a translator's name does it mean "for".
        for one, its in [(name, model)] if equals and name in names else [(name, word) for name in names]:
            if one in asked:
                raise UsageError(f"{one} is given two models, {asked[one]} and {its}", f"give each its own: -m {one}=MODEL")
            asked[one] = its
    return asked


def _query(name: str, translator: Translator, encoder: Encoder) -> QueryEncoder:
    try:
        return QueryEncoder(encoder, translator)
    except TranslatorError as problem:
        turned = encoder.dim == translator.target.dim
        hint = (
            "turn it round with --inverse"
            if turned
            else f"give {name} the model that its source was made with: -m {name}=MODEL"
        )
        raise TranslatorError(f"{name}: {problem}", hint) from None


def _seconds(date: Any) -> int:
    """Return a card's date as the Unix time that OpenAI's API tells; 0 where there is none."""
    try:
        return int(datetime.fromisoformat(str(date)).timestamp())
    except ValueError:
        return 0
