"""openai — any endpoint that speaks OpenAI's embeddings API: OpenAI itself, vLLM, TEI, Ollama, LiteLLM, Azure's v1, ….

In    openai:MODEL, openai:MODEL@https://host/v1?dim=256&batch=64&rpm=500&tpm=1000000&price=0.02
Out   Encoder, Metered
Uses  encoders.batched; openai (the extra `openai`)
From  https://developers.openai.com/api/reference/resources/embeddings

The official client, not a bare HTTP one: it knows which answers to try again (408, 409, 429, 5xx, lost connections), waits as
`Retry-After` says, and asks for vectors as base64, a quarter of the bytes of decimals. What it does not do stands here: no text
leaves without `send_texts`; the key comes from the environment, goes to nobody but its owner and never over plain http; no
redirect is followed; batches stay inside the API's limits; requests keep to `rpm` and `tpm`; every answer is checked.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from jaxtyping import Float32

from crossvec.encoders import Estimate, Request, Step, missing, silent
from crossvec.encoders.batched import Batched, as_texts
from crossvec.errors import UnfinishedError, UsageError

OFFICIAL = "https://api.openai.com/v1"
LOOPBACK = {"localhost", "127.0.0.1", "::1"}
MOST_TEXTS, MOST_TOKENS = 2048, 300_000
"""What the API takes in one request, inputs and tokens over all inputs."""
BATCH = 256
RETRIES = 6
TIMEOUT = 120.0  # seconds
NO_KEY = "none"
"""What is sent where there is no key: servers on one's own machine take anything, and the client wants something."""
PROBE = "dimension"
"""The one word that is sent to learn a model's dimension; it also tells early that address, key and model are right."""

PRICES = {"text-embedding-3-small": 0.02, "text-embedding-3-large": 0.13, "text-embedding-ada-002": 0.10}
"""US dollars per million tokens at OpenAI, as listed in November 2026; `?price=` overrides."""

BYTES_PER_TOKEN = 4, 2
"""UTF-8 bytes of a token in ASCII text and outside it. English has 4 to 5, Chinese 2 to 3; an estimate, on the safe side."""


class OpenAIEncoder(Batched):
    """A model behind an endpoint; made without leave to send texts it can only estimate, and its `dim` may be 0, unknown."""

    def __init__(self, client: Any, model: str, request: Request) -> None:
        super().__init__(request.name)
        self._client, self._model, self._allowed = client, model, request.send_texts
        self._cut_to = request.number("dim")
        self._seen_dim = self._cut_to or 0
        self.batch = min(request.number("batch") or BATCH, MOST_TEXTS)
        self._pace = Pace(request.number("rpm"), request.number("tpm"))
        self._price = _price(request, PRICES.get(model) if str(client.base_url).startswith(OFFICIAL) else None)

    @classmethod
    def asked(cls, request: Request) -> OpenAIEncoder:
        """Make the client and, where texts may be sent, ask the endpoint with one word unless `?dim=` was given.

        Raises UsageError for an address that would give away a secret, and what `encode` raises.
        """
        request.only("dim", "batch", "rpm", "tpm", "price")
        model, _, url = request.model.partition("@")
        if not model:
            raise UsageError(f"{request.name} names no model", "write openai:MODEL or openai:MODEL@https://host/v1")
        client = connected(url or OFFICIAL, request.name)
        made = cls(client, model, request)
        if request.send_texts and not made.dim:
            made._rows([PROBE], False)
        return made

    @property
    def dim(self) -> int:
        """The dimension d of the rows; 0 where nobody has said."""
        return self._seen_dim

    def encode(self, texts: Sequence[str], *, query: bool = False, progress: Step = silent) -> Float32[np.ndarray, "n d"]:
        """Return one row a text. Raises UsageError for empty texts, which the API refuses, before anything is sent."""
        for number, text in enumerate(as_texts(texts)):
            if not text:
                raise UsageError(f"text {number} is empty, which {self.name} does not take", "leave it out")
        return super().encode(texts, query=query, progress=progress)

    def estimate(self, texts: Sequence[str]) -> Estimate:
        """Say how many requests and, roughly, tokens and dollars these texts would take; sends nothing."""
        plain = as_texts(texts)
        tokens = sum(map(_tokens, plain))
        usd = None if self._price is None else tokens * self._price / 1e6
        return Estimate(len(plain), sum(1 for _ in self._cuts(plain)) if plain else 0, tokens, usd)

    def _cuts(self, things: list[Any]) -> Iterator[int]:
        start, tokens = 0, 0
        for number, text in enumerate(things):
            tokens += (size := _tokens(text))
            if number > start and (number - start == self.batch or tokens > MOST_TOKENS):
                yield number
                start, tokens = number, size
        yield len(things)

    def _rows(self, texts: list[str], query: bool) -> Float32[np.ndarray, "k d"]:
        if not self._allowed:
            raise UsageError(
                f"{self.name} would send texts to {self._host}", "allow it with --send-texts (send_texts=True in Python)"
            )
        asked: dict[str, Any] = {"model": self._model, "input": texts}
        asked |= {"dimensions": self._cut_to} if self._cut_to else {}
        self._pace.wait(sum(map(_tokens, texts)))
        answer = answered(self._client, lambda: self._client.embeddings.create(**asked), "vectors", self.name)
        return self._vectors(answer, len(texts))

    def _vectors(self, answer: Any, n: int) -> Float32[np.ndarray, "k d"]:
        """Return the vectors of an answer in the order of their texts; raises UnfinishedError when it is not one a text."""
        given = getattr(answer, "data", None)
        if not isinstance(given, list) or len(given) != n:
            raise self._wrong(f"{len(given) if isinstance(given, list) else 'no list of'} vectors for {n} texts")
        places = [getattr(one, "index", None) for one in given]
        if sorted(places, key=str) != sorted(range(n), key=str):
            raise self._wrong(f"vectors numbered {str(places[:5])[1:-1]}, … instead of 0 to {n - 1}")
        try:
            rows = np.array([np.asarray(one.embedding, np.float32) for one in sorted(given, key=lambda one: int(one.index))])
        except (ValueError, TypeError):
            raise self._wrong("vectors that are no numbers, or not of one length") from None
        if rows.ndim != 2 or (self._seen_dim or rows.shape[1]) != rows.shape[1] or not rows.shape[1]:
            raise self._wrong(f"vectors of shape {rows.shape[1:]}, not ({self._seen_dim},)")
        self._seen_dim = rows.shape[1]
        return rows

    @property
    def _host(self) -> str:
        return urlsplit(str(self._client.base_url)).netloc

    def _wrong(self, what: str) -> UnfinishedError:
        return UnfinishedError(
            f"{self._host} answered with {what}", f"check that it speaks OpenAI's embeddings API and serves {self._model}"
        )


def connected(url: str, name: str) -> Any:
    """Return the official client for an endpoint, with the key from the environment; nothing is sent yet.

    `name` is what errors call the model. Raises UsageError for an address that would give away a secret.
    """
    key = _key(url, name)
    try:
        import openai
    except ImportError:
        raise missing(f"the model {name}", "openai", "openai") from None
    # A redirect would carry the texts to a place that nobody named; so would a proxy of the environment, on this machine.
    http = openai.DefaultHttpxClient(follow_redirects=False, trust_env=urlsplit(url).hostname not in LOOPBACK)
    return openai.OpenAI(
        base_url=url,
        api_key=key or NO_KEY,
        max_retries=RETRIES,
        timeout=TIMEOUT,
        http_client=http,
        organization="",
        project="",
    )


def answered(client: Any, ask: Callable[[], Any], what: str, name: str) -> Any:
    """Return what an endpoint answers; raises UsageError or UnfinishedError where no retry has helped, or it is not `what`."""
    host = urlsplit(str(client.base_url)).netloc
    if client.api_key == NO_KEY and host == urlsplit(OFFICIAL).netloc:
        raise UsageError(f"there is no key for {host}", "put it into the environment: export OPENAI_API_KEY=…")
    import openai

    try:
        return ask()
    except openai.APIStatusError as problem:
        raise _refused(name, host, problem.response, problem.body) from None
    except openai.APIConnectionError as problem:
        why = type(problem.__cause__ or problem).__name__
        raise UnfinishedError(
            f"{host} cannot be reached ({why})", "check the address and the network, then run the same line again"
        ) from None
    except (openai.OpenAIError, ValueError, TypeError, AttributeError) as problem:
        raise UnfinishedError(
            f"{host} answered with something else than {what} ({type(problem).__name__})",
            "check that the address is of an API that speaks as OpenAI's does; most end in /v1",
        ) from None


@dataclass
class Pace:
    """Keeps requests a minute and tokens a minute under what the provider allows, by waiting before each request."""

    requests: int | None
    tokens: int | None
    free_at: float = 0.0

    def wait(self, tokens: int) -> None:
        """Wait until a request of this many tokens may go."""
        now = time.monotonic()
        if self.free_at > now:
            time.sleep(self.free_at - now)
        cost = max(60 / self.requests if self.requests else 0.0, 60 * tokens / self.tokens if self.tokens else 0.0)
        self.free_at = max(now, self.free_at) + cost


def _tokens(text: str) -> int:
    total = len(text.encode("utf-8", "surrogatepass"))
    ascii_bytes = sum(1 for c in text if c < "\x80") if total != len(text) else total
    plain, other = BYTES_PER_TOKEN
    return ascii_bytes // plain + (total - ascii_bytes) // other + 1


def _key(url: str, name: str) -> str:
    """Return the key for an endpoint, "" for none; OpenAI's own goes to OpenAI alone."""
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise UsageError(f"{name.partition('@')[0]}@… names no endpoint", "write openai:MODEL@https://host/v1")
    if parts.username or parts.password:
        # Not repeated in the message: it is on the screen already, and should not be in a log too.
        raise UsageError("an endpoint's address holds a user or password", "put the key into CROSSVEC_API_KEY instead")
    official = parts.hostname == urlsplit(OFFICIAL).hostname and parts.scheme == "https"
    variable = "CROSSVEC_API_KEY"
    if not os.environ.get(variable) and official:
        variable = "OPENAI_API_KEY"
    key = os.environ.get(variable, "").strip()
    if key and parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise UsageError(
            f"the key in {variable} would travel unencrypted to {parts.hostname}", f"use https, or unset {variable}"
        )
    return key


def _price(request: Request, known: float | None) -> float | None:
    if (text := request.options.get("price")) is None:
        return known
    try:
        price = float(text)
    except ValueError:
        price = -1.0
    if not 0 <= price < 1e6:
        raise UsageError(f"price={text} is no price", "give US dollars per million tokens, such as price=0.02")
    return price


def _refused(name: str, host: str, response: Any, body: Any) -> UsageError | UnfinishedError:
    """Return the error for a status that no retry has helped against."""
    status, said = response.status_code, _said(body)
    told = f"{host} answered {status}{f': {said}' if said else ''}"
    if status in (401, 403):
        return UsageError(told, "put a valid key into the environment: CROSSVEC_API_KEY, or OPENAI_API_KEY for OpenAI")
    if status == 404:
        return UsageError(told, f"check the model and the address in {name}; most addresses end in /v1")
    if 300 <= status < 400:
        return UsageError(f"{host} answered {status}, a redirect, which is not followed", "name the place that it leads to")
    if status in (400, 413, 422):
        option = f"{name}{'&' if '?' in name else '?'}batch=16"
        return UsageError(told, f"shorten the texts; an encoder can send fewer at once: {option}")
    wait = response.headers.get("retry-after")
    hint = f"it asks to wait {wait} s" if status == 429 and wait else "try later"
    return UnfinishedError(told, f"{hint}; an embedding with --cache FOLDER goes on where it stopped")


def _said(body: Any) -> str:
    """Return a server's own words, shortened; a server that repeats the key or the texts is not quoted further than that."""
    if isinstance(body, dict):
        inner = body.get("error", body)
        body = inner.get("message", "") if isinstance(inner, dict) else inner
    text = " ".join(str(body or "").split())[:200]
    for name in ("CROSSVEC_API_KEY", "OPENAI_API_KEY"):
        if key := os.environ.get(name, "").strip():
            text = text.replace(key, "…")
    return text
