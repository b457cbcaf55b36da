"""wordllama — the static encoder that is packaged with the library wordllama: works offline, needs no torch.

In    wordllama, wordllama?dim=64     256, 128 or 64 dimensions
Out   Encoder
Uses  encoders.batched; wordllama (the extra `encoders`)
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from crossvec.encoders import Request, missing
from crossvec.encoders.batched import Batched, as_texts
from crossvec.errors import UsageError

FULL = 256

PADDED = 1 << 17
"""Characters of a batch, each text counted as if it were as long as the longest: the library pads its tokens to that, at more
than a KiB each. A longer text is read in parts, whose tokens are averaged together."""


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

    def table(self) -> Float32[np.ndarray, "v d"]:
        """Return the vector of each token: a text's row is the mean of its tokens' vectors."""
        return np.asarray(self._model.embedding, np.float32)

    def pieces(self) -> list[str]:
        """Return how each token is written, in the order of the table."""
        written = {number: piece for piece, number in self._model.tokenizer.get_vocab().items()}
        return [written.get(number, "") for number in range(len(self._model.embedding))]

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens that each text's row is the mean of."""
        plain, start, found = as_texts(texts), 0, []
        for end in self._cuts(plain):
            batch, start = plain[start:end], end
            if batch and len(batch[0]) > PADDED:
                found.append([number for part in parts(batch[0]) for number in self._read([part])[0]])
            else:
                found += self._read(batch)
        return found

    def _read(self, texts: list[str]) -> list[list[int]]:
        asked = self._model.tokenize(texts) if texts else []
        return [[i for i, counts in zip(one.ids, one.attention_mask, strict=True) if counts] for one in asked]

    def _cuts(self, things: list[Any]) -> Iterator[int]:
        start, longest = 0, 0
        for number, text in enumerate(things):
            longest = max(longest, len(text))
            if number > start and ((number + 1 - start) * longest > PADDED or number - start == self.batch):
                yield number
                start, longest = number, len(text)
        yield len(things)

    def _rows(self, texts: list[str], query: bool) -> Any:
        return self._model.embed(texts) if len(texts[0]) <= PADDED else self._long(texts[0])[None]

    def _long(self, text: str) -> Float32[np.ndarray, " d"]:
        total, count = np.zeros(self.dim), 0
        for part in parts(text):
            (ids,) = self._read([part])
            total += self._model.embedding[ids].sum(0, dtype=np.float64)
            count += len(ids)
        return np.asarray(total / max(count, 1), np.float32)


def parts(text: str) -> Iterator[str]:
    """Yield a text in parts of at most PADDED characters, parted before a space where there is one."""
    start = 0
    while len(text) - start > PADDED:
        space = text.rfind(" ", start + 1, start + PADDED)
        end = space if space > start else start + PADDED
        yield text[start:end]
        start = end
    yield text[start:]


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
