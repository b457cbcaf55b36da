"""query — search an old index with a new model: its queries, carried into the space that the index is in.

In    an Encoder of the new model, a Translator from its space to the index's
Out   QueryEncoder: text -> (dy,) float32; also an Encoder, and an embedding of LangChain, LlamaIndex and Haystack
Uses  encoders, translator; langchain-core, llama-index-core or haystack-ai once asked for
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from crossvec.encoders import Encoder, Step, missing, silent
from crossvec.errors import TranslatorError, UsageError
from crossvec.translator import Translator

__all__ = ["QueryEncoder"]


@dataclass(frozen=True, eq=False)
class QueryEncoder:
    """A new model that speaks an old index's space.

    Raises TranslatorError when the translator does not read the encoder's rows.
    """

    encoder: Encoder
    translator: Translator

    def __post_init__(self) -> None:
        source, target = self.translator.source.dim, self.translator.target.dim
        if self.encoder.dim != source:
            turned = self.encoder.dim == target
            raise TranslatorError(
                f"{self.encoder.name} gives {self.encoder.dim} dimensions; this translator reads {source}",
                "turn it round: translator.inverse()" if turned else "use the model that its source was made with",
            )

    @property
    def name(self) -> str:
        """The model's name, and the space its rows end in."""
        target = self.translator.card.get("target", {}).get("name") or "the target"
        return f"{self.encoder.name} -> {target}"

    @property
    def version(self) -> str:
        """The model's version."""
        return self.encoder.version

    @property
    def dim(self) -> int:
        """The dimension dy of the index."""
        return self.translator.target.dim

    def __call__(self, text: str) -> Float32[np.ndarray, " dy"]:
        """Return the row to search the index with. Raises UsageError for a text in which the model knows nothing."""
        row: np.ndarray = self.encode([text], query=True)[0]
        return row

    def encode(self, texts: Sequence[str], *, query: bool = False, progress: Step = silent) -> Float32[np.ndarray, "n dy"]:
        """Return one row of the index's space a text; raises what the encoder raises."""
        rows = self.encoder.encode(texts, query=query, progress=progress)
        unknown = np.flatnonzero(~rows.any(axis=1))
        if len(unknown):
            # Translated, a row of zeros would be a point like any other, and find something.
            raise UsageError(f"{self.encoder.name} knows nothing in text {unknown[0]}", "ask with other words")
        return self.translator.translate(rows)

    def as_langchain(self) -> Any:
        """Return a LangChain `Embeddings`."""
        try:
            from langchain_core.embeddings import Embeddings
        except ImportError:
            raise missing("LangChain's Embeddings", "langchain-core", "langchain") from None
        asked = self

        class Translated(Embeddings):  # type: ignore[misc, unused-ignore]
            """A new model's rows in an old index's space."""

            def embed_query(self, text: str) -> list[float]:
                return _floats(asked(text))

            def embed_documents(self, texts: list[str]) -> list[list[float]]:
                return [_floats(row) for row in asked.encode(texts)]

        return Translated()

    def as_llamaindex(self) -> Any:
        """Return a LlamaIndex `BaseEmbedding`."""
        try:
            from llama_index.core.base.embeddings.base import BaseEmbedding
        except ImportError:
            raise missing("LlamaIndex's BaseEmbedding", "llama-index-core", "llamaindex") from None
        asked = self

        class Translated(BaseEmbedding):  # type: ignore[misc, unused-ignore]
            """A new model's rows in an old index's space."""

            def _get_query_embedding(self, query: str) -> list[float]:
                return _floats(asked(query))

            async def _aget_query_embedding(self, query: str) -> list[float]:
                return _floats(asked(query))

            def _get_text_embedding(self, text: str) -> list[float]:
                return _floats(asked.encode([text])[0])

            def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
                return [_floats(row) for row in asked.encode(texts)]

        return Translated(model_name=self.name)

    def as_haystack(self) -> Any:
        """Return a Haystack component, a text embedder: `run(text=...)` gives `{"embedding": [...]}`."""
        try:
            from haystack import component
        except ImportError:
            raise missing("Haystack's component", "haystack-ai", "haystack") from None
        asked = self

        @component
        class Translated:
            """A new model's queries in an old index's space."""

            @component.output_types(embedding=list[float])  # type: ignore[untyped-decorator, unused-ignore]  # haystack may be absent
            def run(self, text: str) -> dict[str, Any]:
                return {"embedding": _floats(asked(text))}

        return Translated()


def _floats(row: Float32[np.ndarray, " dy"]) -> list[float]:
    """Return a row as the list of floats that the frameworks want."""
    values: list[float] = row.tolist()
    return values
