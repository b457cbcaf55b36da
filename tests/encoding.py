"""encoding — real encoders for the tests, small enough to be made on the spot, and an endpoint that speaks OpenAI's API.

Nothing here stands in for crossvec's own code: models are saved as their libraries save them, and the endpoint is an HTTP
server that answers as https://developers.openai.com/api/reference/resources/embeddings says, or goes wrong as it is told to.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

KEY = "sk-test-4f1c"
DIM = 8


def vector(text: str, dim: int = DIM) -> np.ndarray:
    """The endpoint's row for a text: the same every time, another for another text."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(dim).astype(np.float32)


@dataclass
class Answer:
    """What the endpoint sends back: a body, or one that `spoils` the right answer."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    spoils: Callable[[dict[str, Any]], Any] = lambda right: right
    hangs_up: bool = False


@dataclass
class Endpoint:
    """A running server. `script` holds the answers to the next requests; afterwards it answers rightly."""

    url: str = ""
    key: str | None = None
    dim: int = DIM
    base64: bool = True
    script: list[Answer] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)

    @property
    def texts(self) -> list[str]:
        """Every text it was ever sent."""
        return [text for asked in self.requests for text in asked["body"]["input"]]

    def name(self, query: str = "") -> str:
        """The encoder's name; the dimension is told, so that the probe is not among the requests."""
        return f"openai:toy@{self.url}?dim={self.dim}{query}"

    def answer(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> Answer:
        told = self.script.pop(0) if self.script else Answer()
        if told.status != 200 or told.hangs_up:
            return told
        if self.key is not None and headers.get("authorization") != f"Bearer {self.key}":
            return _error(401, f"Incorrect API key provided: {headers.get('authorization', '')[7:]}")
        if path != "/v1/embeddings" or body["model"] != "toy":
            return _error(404, f"The model {body.get('model')} does not exist")
        texts = body["input"]
        if not texts or not all(texts) or len(texts) > 2048:
            return _error(400, "'$.input' is invalid")
        data = []
        for index, text in enumerate(texts):
            row = vector(text, body.get("dimensions", self.dim))
            packed = base64.b64encode(row.astype("<f4").tobytes()).decode()
            wants_base64 = self.base64 and body.get("encoding_format") == "base64"
            data.append({"object": "embedding", "index": index, "embedding": packed if wants_base64 else row.tolist()})
        tokens = sum(map(len, texts))
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        told.body = told.spoils({"object": "list", "data": data, "model": "toy", "usage": usage})
        return told


def _error(status: int, message: str) -> Answer:
    return Answer(status, {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}})


def failure(status: int, **headers: str) -> Answer:
    """An answer with an error status; `retry_after` becomes Retry-After."""
    told = _error(status, "try again")
    told.headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return told


def spoilt(spoils: Callable[[dict[str, Any]], Any]) -> Answer:
    return Answer(spoils=spoils)


@contextmanager
def endpoint(**settings: Any) -> Iterator[Endpoint]:
    """Run an endpoint on this machine while the block runs."""
    state = Endpoint(**settings)

    def answer(path: str, headers: dict[str, str], body: dict[str, Any]) -> Answer:
        state.requests.append({"path": path, "headers": headers, "body": body})
        return state.answer(path, headers, body)

    with answering(answer) as state.url:
        yield state


@contextmanager
def answering(answer: Callable[[str, dict[str, str], dict[str, Any]], Answer]) -> Iterator[str]:
    """Run a server on this machine while the block runs, and tell its URL; `answer` takes path, headers and body."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            told = answer(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            if told.hangs_up:
                self.close_connection = True
                return
            raw = told.body if isinstance(told.body, bytes) else json.dumps(told.body).encode()
            self.send_response(told.status)
            for name, value in {"Content-Type": "application/json", "Content-Length": str(len(raw)), **told.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def save_static(folder: Path, seed: int = 0) -> Path:
    """Save a model2vec model that knows the letters and a few words, 8 dimensions."""
    from model2vec import StaticModel
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["[PAD]", "[UNK]", "cat", "dog", "sat", "mat", "sea", *map(chr, range(97, 123)), *map(str, range(200))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    vectors = np.random.default_rng(seed).standard_normal((len(words), DIM)).astype(np.float32)
    StaticModel(vectors, tokenizer).save_pretrained(folder)
    return folder


def save_bert(folder: Path) -> Path:
    """Save a sentence-transformers model: one layer, 16 dimensions, letters for tokens, a prompt for queries."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    raw = folder.with_name(folder.name + "-raw")
    raw.mkdir(parents=True)
    letters = [chr(i) for i in range(97, 123)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (raw / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(raw / "vocab.txt"), model_max_length=64).save_pretrained(raw)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=64, **sizes)).save_pretrained(raw)
    parts = [Transformer(str(raw)), Pooling(16)]
    SentenceTransformer(modules=parts, prompts={"query": "q ", "document": ""}, device="cpu").save(str(folder))
    return folder


def save_clip(folder: Path) -> Path:
    """Save a CLIP model, 12 dimensions, as sentence-transformers saves one."""
    from sentence_transformers import SentenceTransformer
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizerFast

    raw = folder.with_name(folder.name + "-raw")
    raw.mkdir(parents=True)
    letters = [chr(i) for i in range(97, 123)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (raw / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (raw / "merges.txt").write_text("#version: 0.2\n")
    end = len(words) - 1
    tokenizer = CLIPTokenizerFast(str(raw / "vocab.json"), str(raw / "merges.txt"), model_max_length=16)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    tokens = {"vocab_size": len(words), "max_position_embeddings": 16, "bos_token_id": end - 1, "eos_token_id": end}
    config = CLIPConfig(
        text_config={**sizes, **tokens, "pad_token_id": end},
        vision_config={**sizes, "image_size": 32, "patch_size": 16},
        projection_dim=12,
    )
    CLIPModel(config).save_pretrained(raw)
    pictures = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(pictures, tokenizer).save_pretrained(raw)
    SentenceTransformer(str(raw), device="cpu", local_files_only=True).save(str(folder))
    return folder
