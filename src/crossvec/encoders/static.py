"""static — static embeddings of the model2vec library: a vector a token, averaged; very fast on a CPU.

In    static:FOLDER     a folder that model2vec saved
Out   Encoder
Uses  encoders.batched; model2vec (the extra `static`)
Paper Tulkens and van Dongen 2024, Model2Vec

Only folders are read: given a name, the library would ask the hub without being told to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from crossvec.encoders import Request, missing
from crossvec.encoders.batched import Batched, as_texts, fingerprint
from crossvec.errors import UsageError


class StaticEncoder(Batched):
    """A model2vec model. Texts without a known token have a row of zeros."""

    batch = 4096

    def __init__(self, model: Any, name: str, version: str = "") -> None:
        super().__init__(name, version)
        self._model = model

    @classmethod
    def asked(cls, request: Request) -> StaticEncoder:
        """Load the model that was asked for; raises UsageError when its folder is missing or damaged."""
        request.only("dim")
        folder = request.folder()
        try:
            from model2vec import StaticModel
        except ImportError:
            raise missing(f"the encoder {request.name}", "model2vec", "static") from None
        try:
            model = StaticModel.from_pretrained(folder, dimensionality=request.number("dim"), force_download=False)
        except Exception as problem:  # whatever its parsers raise for a file that is not what it should be
            raise UsageError(
                f"{folder} cannot be read as a model2vec model: {problem}", "name a folder that model2vec saved"
            ) from None
        return cls(model, request.name, fingerprint(folder))

    @property
    def dim(self) -> int:
        """The dimension d of the rows."""
        return int(self._model.dim)

    def table(self) -> Float32[np.ndarray, "v d"]:
        """Return the vector of each token, weighted: a text's row is the mean of its tokens' vectors, up to its length."""
        rows = np.asarray(self._model.embedding, np.float32)
        if self._model.token_mapping is not None:
            rows = rows[self._model.token_mapping]
        return rows if self._model.weights is None else rows * np.asarray(self._model.weights, np.float32)[:, None]

    def pieces(self) -> list[str]:
        """Return how each token is written, in the order of the table."""
        return list(self._model.tokens)

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens that each text's row is the mean of."""
        asked: list[list[int]] = self._model.tokenize(as_texts(texts)) if len(texts) else []
        return asked

    def _rows(self, texts: list[str], query: bool) -> Any:
        return np.asarray(self._model.encode(texts, show_progress_bar=False, use_multiprocessing=False), np.float32)
