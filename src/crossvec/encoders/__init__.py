"""encoders — contract, table and door: from a model's name to an Encoder that turns texts, or images, into rows.

In    "minilm", "static:FOLDER", "sentence-transformers:NAME", "openai:MODEL@https://host/v1?dim=256"
Out   Encoder            texts -> (n, d) float32, as the model gives them: not scaled, not centred
Uses  errors

Each sibling module holds one family and is the only one to import its library. Models are read from the disk; the network is
used only by a family whose model is an endpoint, after `send_texts=True`, and to fetch a model, after `download=True`. Every
encoder promises what tests/contract/test_encoder.py states.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable
from urllib.parse import parse_qsl

import numpy as np
from jaxtyping import Float32

from crossvec.errors import MissingExtraError, UsageError, did_you_mean

__all__ = [
    "ENCODERS",
    "Around",
    "Encoder",
    "Estimate",
    "ImageEncoder",
    "Metered",
    "Request",
    "Step",
    "missing",
    "names",
    "open",
    "silent",
]

Step = Callable[[str, float], None]
"""Progress: called with what is being done and the fraction of it that is finished, from 0 to 1."""


def silent(_doing: str, _fraction: float) -> None:
    """Report no progress."""


@runtime_checkable
class Encoder(Protocol):
    """A model that turns texts into rows.

    `name` is what `open` was given. `version` tells this model from another of the same name (a folder's content, a package's
    release); "" where nobody can say, as for an endpoint. `dim` is d; 0 where it is unknown, as for an endpoint that may not be
    asked. Reading these costs nothing: `isinstance` does it too.
    """

    @property
    def name(self) -> str:
        """What `open` was given."""
        ...

    @property
    def version(self) -> str:
        """What tells this model from another of the same name."""
        ...

    @property
    def dim(self) -> int:
        """The dimension d of the rows."""
        ...

    def encode(self, texts: Sequence[str], *, query: bool = False, progress: Step = silent) -> Float32[np.ndarray, "n d"]:
        """Return one finite row a text, in their order; a text in which the model knows nothing may have a row of zeros.

        With `query` the texts are what somebody searches with, for models that tell queries from documents. Raises UsageError
        for what are no texts, UnfinishedError when an endpoint cannot be reached or answers what it should not.
        """
        ...


class Around:
    """An Encoder in the making, around another whose name, version and dimension are its own."""

    encoder: Encoder

    @property
    def name(self) -> str:
        """The model's name."""
        return self.encoder.name

    @property
    def version(self) -> str:
        """The model's version."""
        return self.encoder.version

    @property
    def dim(self) -> int:
        """The dimension d; 0 where the model does not say."""
        return self.encoder.dim


@runtime_checkable
class ImageEncoder(Encoder, Protocol):
    """An Encoder that puts images into the same space."""

    def images(self, images: Sequence[Any], *, progress: Step = silent) -> Float32[np.ndarray, "n d"]:
        """Return one row an image: a path, a PIL image, or an array (height, width, 3) of uint8."""
        ...


@runtime_checkable
class Metered(Encoder, Protocol):
    """An Encoder whose calls cost money."""

    def estimate(self, texts: Sequence[str]) -> Estimate:
        """Say what encoding these texts would take, without sending anything."""
        ...


@dataclass(frozen=True)
class Estimate:
    """What encoding would take: texts, requests and tokens; `usd` is None where no price is known."""

    texts: int = 0
    requests: int = 0
    tokens: int = 0
    usd: float | None = 0.0

    def __add__(self, other: Estimate) -> Estimate:
        usd = None if self.usd is None or other.usd is None else self.usd + other.usd
        return Estimate(self.texts + other.texts, self.requests + other.requests, self.tokens + other.tokens, usd)


@dataclass(frozen=True)
class Request:
    """What was asked for: `model` and `options` as parsed from `name`, and what the caller allows."""

    name: str
    model: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    device: str = "auto"
    download: bool = False
    send_texts: bool = False

    def only(self, *known: str) -> None:
        """Raise UsageError, with the nearest right name, when an option is not one of `known`."""
        for option in self.options:
            if option not in known:
                # Without its value, and those of others: somebody may have put a key there.
                plain = self.name.partition("?")[0]
                hint = did_you_mean(option, known) if known else f"write {plain}"
                raise UsageError(f"the encoder {plain} takes no option {option!r}", hint)

    def number(self, option: str, least: int = 1) -> int | None:
        """Return an option as a whole number of at least `least`, None when it was not given; raises UsageError."""
        if (text := self.options.get(option)) is None:
            return None
        if not (text.isdecimal() and int(text) >= least):
            raise UsageError(f"{option}={text} in {self.name} is not possible", f"use a whole number of {least} or more")
        return int(text)

    def folder(self) -> Path:
        """Return the model's folder; raises UsageError when there is none."""
        path = Path(self.model)
        if not self.model or not path.is_dir():
            what = f"there is no folder {path}" if self.model else f"{self.name} names no model"
            raise UsageError(what, f"name a model's folder: {self.name.partition(':')[0]}:FOLDER")
        return path


ENCODERS: dict[str, str] = {
    "minilm": "crossvec.encoders.sentence_transformers:minilm",
    "wordllama": "crossvec.encoders.wordllama:WordLlamaEncoder.asked",
    "sentence-transformers": "crossvec.encoders.sentence_transformers:asked",
    "static": "crossvec.encoders.static:StaticEncoder.asked",
    "openai": "crossvec.encoders.openai:OpenAIEncoder.asked",
}
"""Built-in families: what stands before the first `:` of a name. Installed packages add theirs under the entry points
`crossvec.encoders`: the name is a family, the value a class or function that takes a Request and returns an Encoder."""

SIGNED_IN = re.compile(r"(https?:/*|://)[^/?@]+@|:/+[^@]*:(?!\d{1,5}[/?])[^@]*@(?!https?:)", re.IGNORECASE)
"""An address with a user, or with a user and a password, even where a slash is missing. A model's own path may stand before the
@ of an endpoint: openai:/models/llama:8b@http://localhost/v1."""


def open(name: str | os.PathLike[str], *, send_texts: bool = False, download: bool = False, device: str = "auto") -> Encoder:
    """Return the encoder that a name, or a model's folder, stands for.

    A local model is loaded now. An endpoint is asked with one word, and only with `send_texts`, which allows that texts leave
    this machine; without it, it can only estimate. `download` allows that a model is fetched from the Hugging Face hub. Options
    follow a `?`: `dim=` cuts rows short where the model was trained for that. Raises UsageError, with what to type, when there
    is no such model here.
    """
    name = os.fspath(name)
    _refuse_secrets(name)
    whole, query = (name, "") if Path(name).is_dir() else name.partition("?")[::2]
    family, _, model = whole.partition(":")
    if family not in names():
        family, model = _of_folder(whole), whole
    pairs = parse_qsl(query, keep_blank_values=True)
    if len(dict(pairs)) < len(pairs):
        raise UsageError(f"{whole} gives an option twice", "give each option once, joined with &")
    return cast(Encoder, _door(family)(Request(name, model, dict(pairs), device, download, send_texts)))


def _refuse_secrets(name: str) -> None:
    """Raise UsageError, which repeats nothing of it, for a name that holds an address with a user or password.

    Whatever the family: errors repeat names. A folder that is there is a folder, whatever is in its name.
    """
    places = (name, name.partition(":")[2], name.partition("?")[0], name.partition("?")[0].partition(":")[2])
    if SIGNED_IN.search(name) and not any(map(os.path.exists, places)):
        raise UsageError("an endpoint's address holds a user or password", "put the key into CROSSVEC_API_KEY instead")


def names() -> list[str]:
    """Return the names of all families, built in and installed."""
    return [*ENCODERS, *sorted(e.name for e in entry_points(group="crossvec.encoders") if e.name not in ENCODERS)]


def missing(what: str, packages: str, extra: str) -> MissingExtraError:
    """Return the error for a family whose library is not installed."""
    return MissingExtraError(f"{what} needs {packages}, which is not installed", f"pip install 'crossvec[{extra}]'")


def _door(family: str) -> Any:
    if family in ENCODERS:
        module, path = ENCODERS[family].split(":")
        door: Any = import_module(module)
        for attribute in path.split("."):
            door = getattr(door, attribute)
        return door
    return next(entry for entry in entry_points(group="crossvec.encoders") if entry.name == family).load()


def _of_folder(name: str) -> str:
    """Return the family of the model in a folder; raises UsageError where the folder does not tell, or is none."""
    folder = Path(name)
    if (folder / "modules.json").is_file():
        return "sentence-transformers"
    if name and folder.is_dir():
        hint = f"name its family: static:{name} or sentence-transformers:{name}"
        raise UsageError(f"{name} does not say what kind of model it holds", hint)
    raise UsageError(
        f"there is no encoder and no folder {name!r}",
        f"{did_you_mean(name, names())}; one of the Hugging Face hub is sentence-transformers:ORGANISATION/MODEL",
    )
