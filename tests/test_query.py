"""test_query — a new model's queries search an old index: as a function, and as each framework's own kind of thing."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import encoding
import numpy as np
import pytest

from crossvec import encoders
from crossvec.encoders import Encoder
from crossvec.errors import MissingExtraError, TranslatorError, UsageError
from crossvec.fitting import fit
from crossvec.query import QueryEncoder
from crossvec.space import Space
from crossvec.translator import Translator

SOURCES = Path(__file__).parents[1] / "src"
DOCUMENTS = [f"{a} {b} {i} sat" for i in range(50) for a, b in (("cat", "sea"), ("dog", "mat"), ("cat", "x"), ("mat", "z"))]


@pytest.fixture(scope="session")
def new(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """The new model: static, 8 dimensions."""
    pytest.importorskip("model2vec")
    return encoders.open(f"static:{encoding.save_static(tmp_path_factory.mktemp('new') / 'm')}")


@pytest.fixture(scope="session")
def index(new: Encoder) -> np.ndarray:
    """The documents under the old model: the new one turned in 6 dimensions, bent a little, unit length."""
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((8, 8)))[0][:, :6]
    rows = new.encode(DOCUMENTS) @ turn.astype(np.float32)
    rows += 0.05 * np.tanh(rows) + 0.1
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="session")
def translator(new: Encoder, index: np.ndarray) -> Translator:
    pairs = np.stack([np.arange(len(DOCUMENTS))] * 2, axis=1)
    return fit(Space.of(new.encode(DOCUMENTS), name="new"), Space.of(index, name="old"), "ridge", pairs=pairs)


@pytest.fixture
def asked(new: Encoder, translator: Translator) -> QueryEncoder:
    return QueryEncoder(new, translator)


def test_a_query_of_the_new_model_finds_its_document_in_the_old_index(asked: QueryEncoder, index: np.ndarray) -> None:
    ranks = []
    for row, text in enumerate(DOCUMENTS[:40]):
        found = asked(text)
        assert found.shape == (6,) and found.dtype == np.float32
        scores = index @ found
        ranks.append(int((scores > scores[row]).sum()))
    assert np.median(ranks) == 0


def test_it_is_an_encoder_of_the_old_space(asked: QueryEncoder, translator: Translator, new: Encoder) -> None:
    assert isinstance(asked, Encoder)
    assert (asked.dim, asked.version) == (6, new.version)
    assert asked.name == f"{new.name} -> old"
    rows = asked.encode(DOCUMENTS[:5])
    assert np.allclose(rows, translator.translate(new.encode(DOCUMENTS[:5])), atol=1e-6)
    assert asked.encode([]).shape == (0, 6)


def test_queries_are_asked_as_queries(translator: Translator, new: Encoder) -> None:
    class Roles:
        """The new model, noting in which role it was asked."""

        name, version, dim = new.name, new.version, new.dim

        def __init__(self) -> None:
            self.roles: list[bool] = []

        def encode(self, texts, *, query=False, progress=encoders.silent):  # noqa: ANN202
            self.roles.append(query)
            return new.encode(texts)

    noted = Roles()
    both = QueryEncoder(noted, translator)
    both("cat")
    both.encode(["cat"])
    assert noted.roles == [True, False]


def test_a_query_that_says_nothing_finds_nothing_rather_than_anything(asked: QueryEncoder) -> None:
    with pytest.raises(UsageError, match="knows nothing"):
        asked("日本")


def test_a_translator_of_another_model_is_refused(new: Encoder, translator: Translator) -> None:
    with pytest.raises(TranslatorError) as refused:
        QueryEncoder(new, translator.inverse())
    assert "inverse" in refused.value.hint


def test_langchain_takes_it(asked: QueryEncoder) -> None:
    base = importlib.import_module("langchain_core.embeddings").Embeddings
    store = importlib.import_module("langchain_core.vectorstores").InMemoryVectorStore
    made = asked.as_langchain()
    assert isinstance(made, base)
    assert made.embed_query("cat sat") == asked("cat sat").tolist()
    assert made.embed_documents(["cat", "dog"]) == asked.encode(["cat", "dog"]).tolist()
    assert store.from_texts(DOCUMENTS, made).similarity_search("dog mat 3 sat", k=1)[0].page_content == "dog mat 3 sat"


def test_llamaindex_takes_it(asked: QueryEncoder) -> None:
    base = importlib.import_module("llama_index.core.base.embeddings.base").BaseEmbedding
    made = asked.as_llamaindex()
    assert isinstance(made, base)
    assert made.model_name == asked.name
    assert made.get_query_embedding("cat sat") == asked("cat sat").tolist()
    assert made.get_text_embedding("cat") == asked.encode(["cat"])[0].tolist()
    assert made.get_text_embedding_batch(["cat", "dog"]) == asked.encode(["cat", "dog"]).tolist()
    import asyncio

    assert asyncio.run(made.aget_query_embedding("cat")) == asked("cat").tolist()


@pytest.mark.slow
def test_haystack_takes_it(asked: QueryEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAYSTACK_TELEMETRY_ENABLED", "False")
    haystack = importlib.import_module("haystack")
    pipeline = haystack.Pipeline()
    pipeline.add_component("embedder", asked.as_haystack())
    assert pipeline.run({"embedder": {"text": "cat sat"}}) == {"embedder": {"embedding": asked("cat sat").tolist()}}


@pytest.mark.parametrize(
    ("method", "module", "package"),
    [
        ("as_langchain", "langchain_core.embeddings", "langchain-core"),
        ("as_llamaindex", "llama_index.core.base.embeddings.base", "llama-index-core"),
        ("as_haystack", "haystack", "haystack-ai"),
    ],
)
def test_a_framework_that_is_not_installed_is_named(
    asked: QueryEncoder, monkeypatch: pytest.MonkeyPatch, method: str, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=package) as refused:
        getattr(asked, method)()
    assert refused.value.hint.startswith("pip install 'crossvec[")


def test_no_framework_is_loaded_before_it_is_asked_for() -> None:
    present = [name for name in ("langchain_core", "llama_index", "haystack") if importlib.util.find_spec(name)]
    code = f"import sys, crossvec.query; sys.exit(bool(set({present!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(SOURCES)}, check=False)
    assert done.returncode == 0
