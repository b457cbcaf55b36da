"""embeddings — OpenAI's embeddings API: what is asked, what is answered, and how many tokens it was.

In    {"input": text or texts, "model": a translator's name, "encoding_format", "dimensions", "input_type"}
Out   {"object": "list", "data": [{"embedding": [floats] or base64, …}], "model", "usage"}
Uses  encoders, bodies; pydantic, orjson
From  https://developers.openai.com/api/reference/resources/embeddings
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import orjson
from jaxtyping import Float32
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from crossvec.encoders import Encoder, Metered
from crossvec.service.bodies import not_valid
from crossvec.service.limits import Limits
from crossvec.service.refusal import Refusal

__all__ = ["Asked", "Tokenizes", "answer", "read", "usage"]

BYTES_PER_TOKEN = 4


@runtime_checkable
class Tokenizes(Protocol):
    """An Encoder that can say which tokens it reads a text as."""

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each text."""
        ...


class Asked(BaseModel):
    """A request; null is as if left out, as some clients send it.

    `input_type` is not OpenAI's: models that tell queries from documents want to know, and queries are usual.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    input: str | list[str]
    model: str = Field(max_length=200)
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    input_type: Literal["query", "document"] | None = None
    user: str | None = None

    @property
    def texts(self) -> list[str]:
        """The texts; one text is a list of one."""
        return [self.input] if isinstance(self.input, str) else self.input


def read(body: bytes, limits: Limits) -> Asked:
    """Return what a body asks for; raises a Refusal when it is not JSON of that kind, or asks for nothing or too much."""
    try:
        asked = Asked.model_validate_json(body)
    except ValidationError as problem:
        if any(error["loc"][:1] == ("input",) for error in problem.errors(include_input=False)):
            told = "input is neither a text nor a list of texts"
            hint = "send texts, not tokens; LangChain does with check_embedding_ctx_length=False"
            raise Refusal(422, "not_texts", told, hint) from None
        raise not_valid(problem, 'send {"input": ["a text", …], "model": "NAME"}') from None
    limits.check_rows(len(asked.texts), "texts")
    for number, text in enumerate(asked.texts):
        if not text.strip():
            raise Refusal(422, "empty", f"text {number} is empty", "leave it out")
    return asked


def usage(encoder: Encoder, texts: Sequence[str]) -> dict[str, Any]:
    """Return how many tokens these texts are: counted where the model can, else estimated, and then it says so."""
    if isinstance(encoder, Tokenizes):
        count, told = sum(map(len, encoder.tokens(texts))), {}
    elif isinstance(encoder, Metered):
        count, told = encoder.estimate(texts).tokens, {"estimated": True}
    else:
        count, told = sum(len(text.encode()) // BYTES_PER_TOKEN + 1 for text in texts), {"estimated": True}
    return {"prompt_tokens": count, "total_tokens": count, **told}


def answer(asked: Asked, rows: Float32[np.ndarray, "k dy"], used: dict[str, Any]) -> bytes:
    """Return the answer's body; base64 is of little-endian float32."""
    packed: Any = np.ascontiguousarray(rows, "<f4")
    if asked.encoding_format == "base64":
        packed = [base64.b64encode(row).decode() for row in packed]
    data = [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(packed)]
    told = {"object": "list", "data": data, "model": asked.model, "usage": used}
    return orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY)
