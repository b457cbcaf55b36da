"""wordllama — the static encoder that is packaged with the library wordllama: works offline, needs no torch.

In    wordllama, wordllama?dim=64     256, 128 or 64 dimensions
Out   Encoder
Uses  encoders.batched; wordllama (the extra `encoders`)
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from crossvec.encoders import Request, missing
from crossvec.encoders.batched import Batched
from crossvec.errors import UsageError

FULL = 256


class WordLlamaEncoder(Batched):
    """WordLlama's token vectors, trained from large language models, averaged. An empty text has a row of zeros."""

    batch = 1024

    def __init__(self, model: Any, name: str, version: str = "") -> None:
        super().__init__(name, version)
        self._model = model

    @classmethod
    def asked(cls, request: Request) -> WordLlamaEncoder:
        """Load the packaged model; raises UsageError for a dimension that it was not trained for."""
        request.only("dim")
        if request.model:
            raise UsageError(f"wordllama holds one model and takes no name, as in {request.name}", "write wordllama")
        dim = request.number("dim") or FULL
        found = find_spec("wordllama")
        if found is None or not found.submodule_search_locations:
            raise missing("the encoder wordllama", "wordllama", "encoders")
        folder = Path(found.submodule_search_locations[0])
        with _own_logging():
            from wordllama import WordLlama  # type: ignore[import-untyped, import-not-found, unused-ignore]
        try:
            # Its own folder, because it looks for the tokenizer where it was never packaged, and then in the cache.
            model = WordLlama.load(cache_dir=folder, trunc_dim=None if dim == FULL else dim, disable_download=True)
        except ValueError as problem:
            raise UsageError(f"dim={dim} is not possible for wordllama: {problem}", f"leave it out for {FULL}") from None
        except FileNotFoundError as problem:
            raise UsageError(f"wordllama is not whole: {problem}", "pip install --force-reinstall wordllama") from None
        return cls(model, request.name, version("wordllama"))

    @property
    def dim(self) -> int:
        """The dimension d of the rows."""
        return int(self._model.embedding.shape[1])

    def _rows(self, texts: list[str], query: bool) -> Any:
        return self._model.embed(texts)


@contextmanager
def _own_logging() -> Iterator[None]:
    """Undo what importing wordllama does to the root logger: every library's INFO lines would reach stderr."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
