"""test_encoders — names and what they open, models on the disk, endpoints and all that can go wrong with them, the cache."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import encoding
import numpy as np
import pytest
from encoding import Answer, Endpoint, failure, spoilt

from crossvec import encoders
from crossvec.encoders import Encoder, Estimate, Request
from crossvec.encoders.cache import Cached
from crossvec.errors import CrossvecError, MissingExtraError, SettingError, UnfinishedError, UsageError

SOURCES = Path(__file__).parents[1] / "src"


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "CROSSVEC_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[Endpoint]:
    pytest.importorskip("openai")
    with encoding.endpoint() as running:
        yield running


@pytest.fixture(scope="session")
def static(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("model2vec")
    return encoding.save_static(tmp_path_factory.mktemp("static") / "m")


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("sentence_transformers")
    return encoding.save_bert(tmp_path_factory.mktemp("bert") / "m")


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the client would have slept; time passes at once."""
    import openai._base_client as client

    from crossvec.encoders import openai as ours

    slept: list[float] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(client.time, "sleep", sleep)
    monkeypatch.setattr(ours.time, "monotonic", lambda: now[0])
    return slept


def refusal(name: str, **allowed: Any) -> str:
    with pytest.raises(CrossvecError) as refused:
        encoders.open(name, **allowed).encode(["a"])
    return f"{refused.value} | {refused.value.hint}"


# Names


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("minilmm", "did you mean minilm?"),
        ("intfloat/e5-small", "sentence-transformers:ORGANISATION/MODEL"),
        ("wordllama:x", "write wordllama"),
        ("minilm:x", "write minilm"),
        ("wordllama?dim=7", "dim=7 is not possible"),
        ("wordllama?dim=many", "use a whole number of 1 or more"),
        ("wordllama?dm=64", "did you mean dim?"),
        ("wordllama?dim=64&dim=128", "twice"),
        ("static:", "static:FOLDER"),
        ("static:nowhere", "there is no folder nowhere"),
        ("sentence-transformers:", "names no model"),
        ("sentence-transformers:./nowhere", "there is no folder ./nowhere"),
        ("openai:", "openai:MODEL@https://host/v1"),
        ("openai:m@ftp://host/v1", "openai:MODEL@https://host/v1"),
        ("openai:m@host", "openai:MODEL@https://host/v1"),
        ("openai:m@http://localhost/v1?batch=0", "1 or more"),
        ("openai:m@http://localhost/v1?price=cheap", "US dollars"),
        ("", "known: minilm"),
    ],
)
def test_a_wrong_name_is_refused_with_what_to_type(name: str, told: str) -> None:
    assert told in refusal(name)


def test_a_folder_says_itself_what_model_it_holds_or_is_asked_about(tmp_path: Path) -> None:
    assert "static:" in refusal(str(tmp_path))


def test_an_entry_point_opens_a_family_of_another_package(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    from crossvec.encoders.batched import Batched

    class Lengths(Batched):
        """A text's length, and one."""

        dim = 2

        def __init__(self, request: Request) -> None:
            super().__init__(request.name)
            self.asked = request

        def _rows(self, texts: list[str], query: bool) -> Any:
            return [[len(text), 1.0] for text in texts]

    sys.modules["lengths"] = type(sys)("lengths")
    monkeypatch.setattr(sys.modules["lengths"], "Lengths", Lengths, raising=False)
    entry = EntryPoint("lengths", "lengths:Lengths", "crossvec.encoders")
    monkeypatch.setattr(encoders, "entry_points", lambda group: [entry] if group == "crossvec.encoders" else [])
    assert "lengths" in encoders.names()
    opened = encoders.open("lengths:small?unit=cm", device="cpu")
    assert isinstance(opened, Lengths)
    assert (opened.asked.model, dict(opened.asked.options), opened.asked.device) == ("small", {"unit": "cm"}, "cpu")
    assert opened.encode(["abc", ""]).tolist() == [[3, 1], [0, 1]]


@pytest.mark.parametrize(
    ("module", "name", "package"),
    [
        ("model2vec", "static:{}", "model2vec"),
        ("openai", "openai:m@http://localhost/v1", "openai"),
        ("sentence_transformers", "sentence-transformers:{}", "sentence-transformers"),
    ],
)
def test_a_library_that_is_not_installed_is_named_with_its_install_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str, name: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=package) as refused:
        encoders.open(name.format(tmp_path))
    assert refused.value.hint.startswith("pip install 'crossvec[")


# Models on the disk


def test_a_long_text_costs_wordllama_no_more_memory_than_a_short_one_and_has_the_mean_of_its_tokens() -> None:
    """The library pads all texts of a batch to its longest: a book among notes took gigabytes."""
    pytest.importorskip("wordllama")
    from crossvec.encoders.wordllama import PADDED, WordLlamaEncoder, parts

    model = encoders.open("wordllama?dim=64")
    assert isinstance(model, WordLlamaEncoder)
    book = "the longest river in the world " * (PADDED // 25)
    unbroken = "x" * (PADDED + 7)
    texts = ["a note", book, "", *["another note"] * 70, unbroken, "the last"]
    ends = list(model._cuts(texts))
    for start, end in zip([0, *ends], ends, strict=False):
        assert end - start == 1 or (end - start) * max(map(len, texts[start:end])) <= PADDED
    for text in (book, unbroken):
        assert "".join(parts(text)) == text and max(map(len, parts(text))) <= PADDED
    tokens, rows = model.tokens(texts), model.encode(texts)
    assert [len(one) for one in tokens] == [len(model.tokens([text])[0]) for text in texts]
    means = [model.table()[one].mean(0, dtype=np.float64) if one else np.zeros(64) for one in tokens]
    assert np.allclose(rows, means, atol=1e-5)
    assert np.allclose(rows[1], model.encode([book[:3100]])[0], atol=1e-2), "the same words all over"


def test_wordllama_leaves_the_logging_of_others_alone() -> None:
    pytest.importorskip("wordllama")
    code = """
        import logging
        before = list(logging.getLogger().handlers), logging.getLogger().level
        from crossvec import encoders
        encoders.open("wordllama").encode(["a"])
        assert (list(logging.getLogger().handlers), logging.getLogger().level) == before
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_rows_can_be_cut_short_where_the_model_allows_it(static: Path) -> None:
    whole, cut = encoders.open(f"static:{static}"), encoders.open(f"static:{static}?dim=3")
    assert cut.dim == 3
    assert np.allclose(cut.encode(["cat sat"]), whole.encode(["cat sat"])[:, :3])


def test_a_text_in_which_the_model_knows_nothing_is_a_row_of_zeros(static: Path) -> None:
    assert not encoders.open(f"static:{static}").encode(["日本"]).any()


def test_another_content_of_the_same_folder_is_another_version(tmp_path: Path) -> None:
    pytest.importorskip("model2vec")
    encoding.save_static(tmp_path / "m", seed=0)
    before = encoders.open(f"static:{tmp_path / 'm'}").version
    assert encoders.open(f"static:{tmp_path / 'm'}").version == before
    encoding.save_static(tmp_path / "m", seed=1)
    assert encoders.open(f"static:{tmp_path / 'm'}").version != before


def test_a_damaged_model_is_refused_in_words(static: Path, tmp_path: Path) -> None:
    shutil.copytree(static, tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").write_bytes(b"{}")
    assert "cannot be read as a model2vec model" in refusal(f"static:{tmp_path / 'm'}")


@pytest.mark.slow
def test_a_query_gets_the_prompt_for_queries(bert: Path) -> None:
    opened = encoders.open(str(bert), device="cpu")
    assert opened.dim == 16
    assert np.allclose(opened.encode(["abc"], query=True), opened.encode(["q abc"]), atol=1e-6)
    assert not np.allclose(opened.encode(["abc"], query=True), opened.encode(["abc"]), atol=1e-3)


@pytest.mark.slow
def test_a_model_that_is_not_here_is_not_fetched_without_leave(monkeypatch: pytest.MonkeyPatch, bert: Path) -> None:
    import socket

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert "--download" in refusal("sentence-transformers:crossvec-test/no-such-model")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE" in refusal("sentence-transformers:crossvec-test/no-such-model", download=True)


@pytest.mark.slow
def test_a_transformer_that_does_not_say_how_to_pool_is_refused(bert: Path) -> None:
    assert "how its tokens become one row" in refusal(f"sentence-transformers:{bert}-raw")


@pytest.mark.slow
def test_a_model_with_code_of_its_own_or_damaged_weights_is_refused(bert: Path, tmp_path: Path) -> None:
    shutil.copytree(bert, tmp_path / "code")
    modules = json.loads((bert / "modules.json").read_text())
    modules[0]["type"] = "my_model.Evil"
    (tmp_path / "code" / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "code" / "my_model.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: ...\n")
    assert "code of its own" in refusal(str(tmp_path / "code"))
    assert not (tmp_path / "ran").exists()
    shutil.copytree(bert, tmp_path / "cut")
    (tmp_path / "cut" / "model.safetensors").write_bytes(b"xx")
    assert "cannot be loaded" in refusal(str(tmp_path / "cut"))


@pytest.mark.slow
def test_weights_in_pickle_are_never_read(bert: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    shutil.copytree(bert, tmp_path / "m")
    torch.save(load_file(tmp_path / "m" / "model.safetensors"), tmp_path / "m" / "pytorch_model.bin")
    (tmp_path / "m" / "model.safetensors").unlink()
    assert "safetensors" in refusal(str(tmp_path / "m"))


@pytest.mark.slow
def test_no_more_tokens_are_read_than_asked_for_and_none_beyond_the_model_s_own(bert: Path, tmp_path: Path) -> None:
    """Letters are tokens here, and one more stands at the beginning and at the end."""
    whole, cut = encoders.open(bert, device="cpu"), encoders.open(f"{bert}?tokens=5", device="cpu")
    assert np.allclose(cut.encode(["a b c d e f"]), whole.encode(["a b c"]), atol=1e-5)
    assert np.allclose(cut.encode(["d e f"]), whole.encode(["d e f"]), atol=1e-5)
    long = " ".join("abcdefghij" * 12)
    assert np.allclose(encoders.open(f"{bert}?tokens=9999", device="cpu").encode([long]), whole.encode([long]), atol=1e-5)
    assert "4 or more" in refusal(f"{bert}?tokens=3")
    clip = encoding.save_clip(tmp_path / "clip")
    assert np.allclose(encoders.open(f"{clip}?tokens=5").encode(["a b c d"]), encoders.open(clip).encode(["a b c"]), atol=1e-5)


@pytest.mark.slow
def test_a_text_that_looks_like_a_picture_is_read_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library itself opens such a text as a file, or fetches it."""
    pytest.importorskip("sentence_transformers")
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    opened = encoders.open(encoding.save_clip(tmp_path / "clip"), device="cpu")
    Image.new("RGB", (32, 32), "red").save("ab.png")
    before = opened.encode(["ab.png"])
    Image.new("RGB", (32, 32), "blue").save("ab.png")
    assert np.array_equal(opened.encode(["ab.png"]), before)
    with encoding.endpoint() as server:
        opened.encode([f"{server.url}/ab.png"])
        assert not server.requests


# Endpoints


def test_texts_are_sent_as_the_api_says_and_come_back_in_order(server: Endpoint) -> None:
    texts = [f"text {i}" for i in range(10)]
    rows = encoders.open(server.name("&batch=4"), send_texts=True).encode(texts)
    assert np.allclose(rows, [encoding.vector(text) for text in texts])
    assert [asked["path"] for asked in server.requests] == ["/v1/embeddings"] * 3
    assert [len(asked["body"]["input"]) for asked in server.requests] == [4, 4, 2]
    assert all(asked["body"]["model"] == "toy" and asked["body"]["dimensions"] == encoding.DIM for asked in server.requests)


def test_vectors_come_as_base64_or_as_decimals(server: Endpoint) -> None:
    opened = encoders.open(server.name(), send_texts=True)
    packed = opened.encode(["a", "b"])
    assert server.requests[0]["body"]["encoding_format"] == "base64"
    server.base64 = False
    assert np.array_equal(opened.encode(["a", "b"]), packed)


def test_rows_are_put_in_the_order_of_their_index(server: Endpoint) -> None:
    server.script = [spoilt(lambda right: right | {"data": right["data"][::-1]})]
    rows = encoders.open(server.name(), send_texts=True).encode(["a", "b", "c"])
    assert np.allclose(rows, [encoding.vector(text) for text in "abc"])


def test_without_leave_no_text_leaves_and_nothing_else_either(server: Endpoint) -> None:
    opened = encoders.open(server.name())
    assert opened.estimate(["a", "b"]).texts == 2
    assert isinstance(opened, Encoder) and repr(opened) and opened.name and opened.dim == encoding.DIM
    with pytest.raises(UsageError, match="would send texts to 127.0.0.1") as refused:
        opened.encode(["a"])
    assert "--send-texts" in refused.value.hint
    assert encoders.open(f"openai:toy@{server.url}").dim == 0
    assert server.requests == []


def test_an_endpoint_that_does_not_say_its_dimension_is_asked_with_one_word(server: Endpoint) -> None:
    opened = encoders.open(f"openai:toy@{server.url}", send_texts=True)
    assert opened.dim == encoding.DIM
    assert [asked["body"]["input"] for asked in server.requests] == [["dimension"]]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_a_busy_server_is_asked_again(server: Endpoint, naps: list[float], status: int) -> None:
    server.script = [failure(status), failure(status)]
    rows = encoders.open(server.name(), send_texts=True).encode(["a"])
    assert np.allclose(rows[0], encoding.vector("a"))
    assert len(server.requests) == 3
    assert len(naps) == 2 and 0 < naps[0] < naps[1]


def test_retry_after_is_honoured(server: Endpoint, naps: list[float]) -> None:
    server.script = [failure(429, retry_after="17"), failure(503, retry_after="3")]
    encoders.open(server.name(), send_texts=True).encode(["a"])
    assert naps == [17, 3]


def test_a_lost_connection_is_tried_again(server: Endpoint, naps: list[float]) -> None:
    server.script = [Answer(hangs_up=True)]
    assert np.allclose(encoders.open(server.name(), send_texts=True).encode(["a"])[0], encoding.vector("a"))


def test_a_server_that_stays_busy_is_given_up_and_the_hint_says_how_to_go_on(server: Endpoint, naps: list[float]) -> None:
    server.script = [failure(429, retry_after="9")] * 20
    with pytest.raises(UnfinishedError, match="429") as refused:
        encoders.open(server.name(), send_texts=True).encode(["a"])
    assert "9 s" in refused.value.hint and "--cache" in refused.value.hint
    assert len(server.requests) == len(naps) + 1 == 7


def test_a_place_where_nobody_listens_is_named(naps: list[float]) -> None:
    with encoding.endpoint() as gone:
        name = gone.name()
    with pytest.raises(UnfinishedError, match="127.0.0.1.* cannot be reached") as refused:
        encoders.open(name, send_texts=True).encode(["a"])
    assert refused.value.exit_code == 4


@pytest.mark.parametrize(
    ("status", "told"),
    [(400, "batch=16"), (413, "batch=16"), (401, "CROSSVEC_API_KEY"), (403, "CROSSVEC_API_KEY"), (404, "/v1")],
)
def test_a_refusal_says_what_to_change_and_is_not_tried_again(server: Endpoint, status: int, told: str) -> None:
    server.script = [failure(status)]
    assert told in refusal(server.name(), send_texts=True)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "spoils",
    [
        lambda right: right | {"data": right["data"][:-1]},
        lambda right: right | {"data": right["data"] * 2},
        lambda right: right | {"data": []},
        lambda right: {"object": "list"},
        lambda right: [],
        lambda right: None,
        lambda right: right | {"data": [one | {"index": 0} for one in right["data"]]},
        lambda right: right | {"data": [{key: one[key] for key in ("object", "embedding")} for one in right["data"]]},
        lambda right: right | {"data": [one | {"embedding": None} for one in right["data"]]},
        lambda right: right | {"data": [one | {"embedding": "not base64!"} for one in right["data"]]},
        lambda right: right | {"data": [one | {"embedding": "AAAA"} for one in right["data"]]},
        lambda right: right | {"data": [one | {"embedding": [0.1] * (i + 2)} for i, one in enumerate(right["data"])]},
        lambda right: right | {"data": [one | {"embedding": [0.1] * 5} for one in right["data"]]},
        lambda right: right | {"data": [one | {"embedding": [float("nan")] * 8} for one in right["data"]]},
        lambda right: right | {"data": [one | {"embedding": []} for one in right["data"]]},
        lambda right: right | {"data": [one | {"embedding": {"a": 1}} for one in right["data"]]},
        lambda right: right | {"data": "many"},
        lambda right: b"<html>a captive portal</html>",
        lambda right: b'{"object": "list", "da',
    ],
)
def test_an_answer_that_is_no_row_a_text_is_never_taken_for_one(server: Endpoint, spoils: Any, naps: list[float]) -> None:
    opened = encoders.open(server.name(), send_texts=True)
    server.script = [spoilt(spoils)]
    with pytest.raises(UnfinishedError) as refused:
        opened.encode(["a", "b"])
    assert refused.value.hint


def test_an_empty_text_is_refused_before_anything_is_sent(server: Endpoint) -> None:
    with pytest.raises(UsageError, match="text 2 is empty"):
        encoders.open(server.name(), send_texts=True).encode(["a", "b", ""])
    assert server.requests == []


def test_requests_stay_inside_the_limits_of_the_api(server: Endpoint) -> None:
    """2,048 texts, and 300,000 tokens, which no estimate may put too low: one token has a byte or more."""
    opened = encoders.open(server.name("&batch=5000"), send_texts=True)
    opened.encode(["a"] * 2049)
    assert [len(asked["body"]["input"]) for asked in server.requests] == [2048, 1]
    server.requests.clear()
    opened.encode(["word " * 6000] * 60)
    assert [len(asked["body"]["input"]) for asked in server.requests] == [39, 21]


def test_requests_keep_to_the_rate_that_is_allowed(server: Endpoint, naps: list[float]) -> None:
    encoders.open(server.name("&batch=1&rpm=30"), send_texts=True).encode(["a", "b", "c", "d"])
    assert naps == pytest.approx([2, 2, 2])
    naps.clear()
    encoders.open(server.name("&batch=1&tpm=6000"), send_texts=True).encode(["word " * 320, "b", "c"])
    assert naps[0] == pytest.approx(4, rel=0.1) and sum(naps) < 4.2


def test_an_estimate_is_near_and_priced() -> None:
    pytest.importorskip("openai")
    text = "The quick brown fox jumps over the lazy dog near the river bank."  # 14 tokens of cl100k_base
    told = encoders.open("openai:text-embedding-3-large").estimate([text] * 1000)
    assert (told.texts, told.requests) == (1000, 4)
    assert 14_000 <= told.tokens <= 21_000
    assert told.usd == pytest.approx(told.tokens * 0.13 / 1e6)
    assert encoders.open("openai:m@http://localhost:1/v1").estimate(["a"]).usd is None
    assert encoders.open("openai:m@http://localhost:1/v1?price=2").estimate(["abcd"] * 3).usd == pytest.approx(12e-6)
    assert Estimate(1, 1, 2, 3.0) + Estimate(1, 1, 2, None) == Estimate(2, 2, 4, None)


# Keys


def test_the_key_comes_from_the_environment_and_is_told_nowhere(
    server: Endpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    server.key = encoding.KEY
    monkeypatch.setenv("CROSSVEC_API_KEY", encoding.KEY)
    with caplog.at_level(logging.DEBUG):
        opened = encoders.open(server.name(), send_texts=True)
        opened.encode(["a"])
        server.key = "another"
        told = refusal(server.name(), send_texts=True)  # the endpoint's message repeats the key
    out, err = capfd.readouterr()
    assert server.requests[0]["headers"]["authorization"] == f"Bearer {encoding.KEY}"
    for text in (told, repr(opened), opened.name, str(vars(opened)), caplog.text, out, err):
        assert encoding.KEY not in text


def test_openais_key_goes_to_openai_alone(server: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", encoding.KEY)
    encoders.open(server.name(), send_texts=True).encode(["a"])
    assert encoding.KEY not in json.dumps(server.requests)
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    opened = encoders.open("openai:text-embedding-3-small")
    assert str(opened._client.base_url) == "https://api.openai.com/v1/"
    assert opened._client.api_key == encoding.KEY


def test_without_a_key_openai_is_not_asked() -> None:
    pytest.importorskip("openai")
    assert "OPENAI_API_KEY" in refusal("openai:text-embedding-3-small?dim=256", send_texts=True)


def test_a_key_never_travels_unencrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSVEC_API_KEY", encoding.KEY)
    told = refusal("openai:m@http://models.example/v1")
    assert "unencrypted" in told and encoding.KEY not in told


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    told = refusal("openai:m@https://me:hunter2@models.example/v1")
    assert "CROSSVEC_API_KEY" in told and "hunter2" not in told
    assert "hunter2" not in refusal("openai:m@https://models.example/v1?api_key=hunter2")
    assert "hunter2" not in refusal("openai:m@https://models.example/v1?api_key=hunter2&api_key=hunter2")


def test_a_redirect_is_not_followed(server: Endpoint) -> None:
    with encoding.endpoint() as elsewhere:
        server.script = [failure(307, Location=f"{elsewhere.url}/embeddings")]
        assert "redirect" in refusal(server.name(), send_texts=True)
        assert elsewhere.requests == []


# The cache


@pytest.fixture
def cached(server: Endpoint, tmp_path: Path) -> Cached:
    return Cached(encoders.open(server.name(), send_texts=True), tmp_path / "cache")


def test_a_text_is_asked_for_once(server: Endpoint, cached: Cached) -> None:
    rows = cached.encode(["a", "b", "a"])
    assert server.texts == ["a", "b"]
    again = cached.encode(["c", "b", "a"])
    assert server.texts == ["a", "b", "c"]
    assert np.allclose(again, [encoding.vector(text) for text in "cba"])
    assert np.array_equal(rows[0], again[2])
    assert cached.hits == 3


def test_another_model_version_or_role_is_another_row(
    server: Endpoint, cached: Cached, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached.encode(["a"])
    cached.encode(["a"], query=True)
    assert server.texts == ["a", "a"]
    monkeypatch.setattr(cached.encoder, "_version", "2")
    cached.encode(["a"])
    assert server.texts == ["a"] * 3


def test_asking_in_smaller_batches_goes_on_with_the_rows_that_are_paid_for(server: Endpoint, cached: Cached) -> None:
    rows = cached.encode(["a", "b"])
    otherwise = encoders.open(server.name("&batch=7&rpm=9000&tpm=9000000&price=3"), send_texts=True)
    assert np.array_equal(Cached(otherwise, cached.folder).encode(["a", "b"]), rows)
    assert server.texts == ["a", "b"]


def test_texts_themselves_are_not_stored(cached: Cached) -> None:
    cached.encode(["a secret nobody may read"])
    assert not [path for path in cached.folder.iterdir() if b"nobody may read" in path.read_bytes()]
    assert cached.folder.stat().st_mode & 0o077 == 0


def test_an_interrupted_run_goes_on_where_it_stopped(server: Endpoint, cached: Cached, naps: list[float]) -> None:
    texts = [f"text {i}" for i in range(1000)]
    server.script = [Answer(), Answer(), failure(400)]
    with pytest.raises(UsageError):
        cached.encode(texts)
    assert len(cached.unseen(texts)) == 1000 - 512
    assert cached.estimate(texts).texts == 1000 - 512
    server.requests.clear()
    rows = cached.encode(texts)
    assert server.texts == texts[512:]
    assert np.allclose(rows, [encoding.vector(text) for text in texts])


def test_the_cache_answers_when_the_endpoint_does_not(cached: Cached) -> None:
    rows = cached.encode(["a", "b"])
    with encoding.endpoint() as other:
        silent = encoders.open(cached.name)
        assert np.array_equal(Cached(silent, cached.folder).encode(["b", "a"]), rows[::-1])
        assert other.requests == []


def test_rows_of_another_dimension_under_the_same_name_are_refused(server: Endpoint, tmp_path: Path) -> None:
    name = f"openai:toy@{server.url}"
    Cached(encoders.open(name, send_texts=True), tmp_path / "c").encode(["a"])
    server.dim = 5
    with pytest.raises(UsageError, match="another dimension"):
        Cached(encoders.open(name, send_texts=True), tmp_path / "c").encode(["a", "b"])


def test_a_folder_that_cannot_be_a_cache_is_refused_in_words(static: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "vectors.sqlite").write_bytes(b"no database" * 1000)
    for folder, told in (("file", "cannot be a cache"), ("damaged", "rm -r")):
        with pytest.raises(UsageError) as refused:
            Cached(encoders.open(f"static:{static}"), tmp_path / folder)
        assert told in f"{refused.value} {refused.value.hint}"


def test_processes_share_a_cache(static: Path, tmp_path: Path) -> None:
    code = """
        import sys
        from crossvec import encoders
        from crossvec.encoders.cache import Cached
        first = int(sys.argv[3])
        Cached(encoders.open(sys.argv[1]), sys.argv[2]).encode([f"{i % 200} {i}" for i in range(first, first + 3000)])
    """
    words = [sys.executable, "-c", textwrap.dedent(code), f"static:{static}", str(tmp_path / "c")]
    env = {**os.environ, "PYTHONPATH": str(SOURCES)}
    workers = [subprocess.Popen([*words, first], env=env) for first in ("0", "1500")]
    assert [worker.wait(120) for worker in workers] == [0, 0]
    cached = Cached(encoders.open(f"static:{static}"), tmp_path / "c")
    texts = [f"{i % 200} {i}" for i in range(4500)]
    assert cached.unseen(texts) == []
    assert np.array_equal(cached.encode(texts), cached.encoder.encode(texts))


def test_a_cache_survives_kill_9(static: Path, tmp_path: Path) -> None:
    """Killed in the middle of writing, it holds whole groups only, and goes on."""
    code = f"""
        from crossvec import encoders
        from crossvec.encoders.cache import Cached
        cached = Cached(encoders.open("static:{static}"), {str(tmp_path / "c")!r})
        for start in range(0, 10**9, 256):
            cached.encode([f"{{i % 200}} {{i}}" for i in range(start, start + 256)])
            print(start, flush=True)
    """
    for _ in range(2):
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)],
            env={**os.environ, "PYTHONPATH": str(SOURCES)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout
        for _line in range(5):
            last = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        child.wait(30)
        child.stdout.close()
        with sqlite3.connect(tmp_path / "c" / "vectors.sqlite") as base:
            assert base.execute("pragma integrity_check").fetchone() == ("ok",)
            assert base.execute("select count(*) from vectors").fetchone()[0] % 256 == 0
        cached = Cached(encoders.open(f"static:{static}"), tmp_path / "c")
        texts = [f"{i % 200} {i}" for i in range(last + 256)]
        assert cached.unseen(texts) == []
        assert np.array_equal(cached.encode(texts), cached.encoder.encode(texts))


@pytest.mark.parametrize(
    "name",
    [
        "http://me:hunter2@127.0.0.1:1/v1",
        " https://me:hunter2@models.example/v1",
        "http:/me:hunter2@models.example/v1",
        "https://hunter2@models.example/v1",
        "openai:m@https:/me:hunter2@models.example/v1",
        "openai:m@https://me:hunter2@models.example/v1?bogus=1",
        "openai:m@https://me:hunter2@models.example/v1?dim=1&dim=2",
        "openai:m@https://me:hun?hunter2@models.example/v1",
        "static:http://me:hunter2@models.example/m",
        "qdrant:/me:hunter2@models.example/m",
    ],
)
def test_a_password_in_a_mistyped_name_is_not_repeated(name: str) -> None:
    told = refusal(name)
    assert "CROSSVEC_API_KEY" in told and "hunter2" not in told


@pytest.mark.parametrize(("device", "told"), [("banana", "there is no device 'banana'"), ("cuda:99", "no cuda:99 device")])
def test_a_device_that_is_not_here_is_not_blamed_on_the_model(bert: Path, device: str, told: str) -> None:
    with pytest.raises(SettingError, match=told):
        encoders.open(f"sentence-transformers:{bert}", device=device)


def test_an_option_that_is_no_number_is_not_blamed_on_the_model(bert: Path) -> None:
    assert "safetensors" not in refusal(f"sentence-transformers:{bert}?dim=x")


def test_a_models_path_with_the_signs_of_an_address_is_a_path(static: Path, tmp_path: Path) -> None:
    pytest.importorskip("openai")
    for model in ("llama3:8b", "/models/llama:8b"):
        assert encoders.open(f"openai:{model}@http://localhost:11434/v1").dim == 0
    shutil.copytree(static, tmp_path / "a:b@c")
    assert encoders.open(f"static:{tmp_path}/a:b@c").dim == encoders.open(f"static:{static}").dim
    assert "no folder /nosuch/me@home" in refusal("static:/nosuch/me@home")
