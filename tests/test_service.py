"""test_service — what the service promises to who asks it over HTTP: right rows, and a clear no to everything else."""

from __future__ import annotations

import io
import json
import logging
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import encoding
import numpy as np
import pytest
from conftest import World
from hypothesis import example, given, settings
from hypothesis import strategies as st

pytest.importorskip("fastapi")
pytest.importorskip("model2vec")

from serving import JSON, NPY, Client, Reply, npy, rest, serving

from crossvec import encoders
from crossvec.fitting import fit
from crossvec.query import QueryEncoder
from crossvec.service import catalogue as catalogues
from crossvec.service.catalogue import Catalogue
from crossvec.space import Space
from crossvec.translator import Translator

TEXTS = [f"{a} {b} {i} sat" for i in range(30) for a, b in (("cat", "sea"), ("dog", "mat"), ("cat", "x"), ("mat", "z"))]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory, twins: World) -> Path:
    """A folder with a model `m`, a translator `new-to-old` of its rows, and a translator `plain` of others."""
    folder = tmp_path_factory.mktemp("served")
    model = encoders.open(f"static:{encoding.save_static(folder / 'm')}")
    rows = model.encode(TEXTS)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((8, 8)))[0][:, :6].astype(np.float32)
    old = rows @ turn + 0.1
    pairs = np.stack([np.arange(len(TEXTS))] * 2, axis=1)
    fit(Space.of(rows), Space.of(old / np.linalg.norm(old, axis=1, keepdims=True)), "ridge", pairs=pairs).save(
        folder / "new-to-old"
    )
    known = np.stack([np.arange(1000)] * 2, axis=1)
    fit(Space.of(twins.x), Space.of(twins.y), "procrustes", pairs=known).save(folder / "plain")
    return folder


@pytest.fixture(scope="session")
def catalogue(folders: Path) -> Catalogue:
    return catalogues.opened(
        [str(folders / "new-to-old"), f"other={folders / 'plain'}"], [f"new-to-old=static:{folders / 'm'}"], force=True
    )


@pytest.fixture(scope="session")
def client(catalogue: Catalogue) -> Client:
    with serving(catalogue, body=200_000, rows=500) as client:
        yield client


@pytest.fixture(scope="session")
def plain(folders: Path) -> Translator:
    return Translator.load(folders / "plain")


# Rows


def test_rows_come_back_as_the_translator_carries_them(client: Client, plain: Translator, twins: World) -> None:
    rows = twins.eval_x[:100]
    right = plain.translate(rows)
    binary = client.npy("/v1/translate/other", rows)
    assert (binary.status, binary.headers["content-type"]) == (200, NPY)
    assert binary.rows().dtype == np.float32
    assert np.allclose(binary.rows(), right, atol=1e-6)
    told = client.post("/v1/translate/other", {"vectors": rows.tolist()})
    assert (told.status, told.headers["content-type"]) == (200, JSON)
    assert told.json()["model"] == "other"
    assert np.allclose(told.json()["vectors"], right, atol=1e-6)


@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f8", ">f8", "<f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_matrix_says_the_same_in_any_float_type_byte_order_and_layout(
    client: Client, plain: Translator, twins: World, kind: str, order: str
) -> None:
    rows = np.array(twins.eval_x[:20], kind, order=order)
    reply = client.npy("/v1/translate/other", rows)
    assert reply.status == 200
    assert np.allclose(reply.rows(), plain.translate(rows.astype(np.float32)), atol=1e-5)


def test_one_connection_carries_many_requests_side_by_side(client: Client, plain: Translator, twins: World) -> None:
    from concurrent.futures import ThreadPoolExecutor

    parts = np.split(twins.eval_x, 20)
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda part: client.npy("/v1/translate/other", part), parts))
    assert np.allclose(np.concatenate([reply.rows() for reply in replies]), plain.translate(twins.eval_x), atol=1e-6)


@pytest.mark.parametrize(
    ("rows", "status", "code"),
    [
        (np.zeros((3, 23), np.float32), 422, "wrong_dimension"),
        (np.zeros((3, 48), np.float32), 422, "wrong_dimension"),
        (np.zeros(24, np.float32), 422, "wrong_shape"),
        (np.zeros((2, 2, 24), np.float32), 422, "wrong_shape"),
        (np.float32(1), 422, "wrong_shape"),
        (np.zeros((0, 24), np.float32), 422, "empty"),
        (np.zeros((501, 24), np.float32), 422, "too_many_rows"),
        (np.full((3, 24), np.nan, np.float32), 422, "unusable_input"),
        (np.full((3, 24), np.inf, np.float32), 422, "unusable_input"),
        (np.full((3, 24), 1e300), 422, "unusable_input"),
        (np.zeros((3, 24), np.int64), 422, "wrong_type"),
        (np.zeros((3, 24), np.complex64), 422, "wrong_type"),
        (np.zeros((3, 24), bool), 422, "wrong_type"),
        (np.full((3, 24), "x"), 422, "wrong_type"),
        (np.zeros((3, 24), [("a", "f4")]), 422, "wrong_type"),
        (np.array([[{}]]), 422, "wrong_type"),  # pickled, and never opened
    ],
)
def test_an_array_that_is_no_rows_of_the_source_is_refused(client: Client, rows: np.ndarray, status: int, code: str) -> None:
    reply = client.npy("/v1/translate/other", rows)
    assert (reply.status, reply.error["code"]) == (status, code)


ROWS = npy(np.linspace(-1, 1, 72, dtype=np.float32).reshape(3, 24))


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (b"", NPY, 422, "empty"),
        (ROWS[:-1], NPY, 400, "truncated"),
        (ROWS[:140], NPY, 400, "truncated"),
        (ROWS + b"\0", NPY, 400, "trailing_bytes"),
        (ROWS[:60], NPY, 400, "not_npy"),
        (ROWS[:8], NPY, 400, "not_npy"),
        (b"PK\x03\x04" + ROWS, NPY, 400, "not_npy"),
        (ROWS[:10] + b"[" * 118 + ROWS[128:], NPY, 400, "not_npy"),
        (ROWS[:6] + b"\x09" + ROWS[7:], NPY, 400, "not_npy"),
        (ROWS[:6] + b"\x02\x00\xff\xff\xff\xff" + ROWS[12:], NPY, 400, "not_npy"),
        (ROWS.replace(b"(3, 24)", b"(3,-24)"), NPY, 422, "wrong_shape"),
        (b"", JSON, 400, "not_json"),
        (b"{", JSON, 400, "not_json"),
        (b"\xff\xfe", JSON, 400, "not_json"),
        (b"[" * 100_000, JSON, 400, "not_json"),
        (b"[]", JSON, 422, "not_valid"),
        (b"{}", JSON, 422, "not_valid"),
        (b'{"vectors": []}', JSON, 422, "empty"),
        (b'{"vectors": [[]]}', JSON, 422, "wrong_dimension"),
        (b'{"vectors": [[1, 2]]}', JSON, 422, "wrong_dimension"),
        (json.dumps({"vectors": [[0.0] * 24, [0.0] * 23]}).encode(), JSON, 422, "wrong_dimension"),  # ragged
        (json.dumps({"vectors": [0.0] * 24}).encode(), JSON, 422, "not_valid"),
        (json.dumps({"vectors": [["0.0"] * 24]}).encode(), JSON, 422, "not_valid"),
        (json.dumps({"vectors": [[True] * 24]}).encode(), JSON, 422, "not_valid"),
        (json.dumps({"vectors": [[None] * 24]}).encode(), JSON, 422, "not_valid"),
        (json.dumps({"vectors": [[float("nan")] * 24]}).encode(), JSON, 422, "not_valid"),
        (json.dumps({"vectors": [[1e39] * 24]}).encode(), JSON, 422, "unusable_input"),
        (json.dumps({"vectors": [[0.0] * 24], "vector": 1}).encode(), JSON, 422, "not_valid"),
        (json.dumps({"vectors": [[0.0] * 24] * 501}).encode(), JSON, 422, "too_many_rows"),
        (ROWS, "text/plain", 415, "unknown_media_type"),
        (ROWS, None, 415, "unknown_media_type"),
    ],
)
def test_a_body_that_is_malformed_is_refused(client: Client, body: bytes, kind: str | None, status: int, code: str) -> None:
    reply = client.ask("POST", "/v1/translate/other", body, kind)
    assert (reply.status, reply.error["code"]) == (status, code)


def test_a_refusal_quotes_nothing_that_was_sent(client: Client) -> None:
    for told in ({"vectors": [["zebra-1734"]]}, {"vectors": [[17.25e300] * 24]}, {"zebra-1734": 1, "vectors": [[17.25]]}):
        reply = client.post("/v1/translate/other", told)
        assert reply.status == 422
        assert "17.25" not in reply.error["message"]
        assert "zebra" not in reply.error["message"] or "zebra-1734" in told  # a key is named, a value is not


# Texts, as OpenAI's API takes them


def test_openais_own_client_gets_embeddings_in_the_old_space(client: Client, catalogue: Catalogue) -> None:
    openai = pytest.importorskip("openai")
    query = catalogue.named("new-to-old").query
    assert isinstance(query, QueryEncoder)
    right = query.encode(TEXTS[:5])
    with openai.OpenAI(base_url=f"{client.url}/v1", api_key="any", max_retries=0) as asked:
        for options in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}, {"dimensions": 6, "user": "me"}):
            told = asked.embeddings.create(model="new-to-old", input=TEXTS[:5], **options)
            assert [one.index for one in told.data] == list(range(5))
            if options.get("encoding_format") == "base64":
                import base64

                rows = [np.frombuffer(base64.b64decode(one.embedding), "<f4") for one in told.data]
            else:
                rows = [one.embedding for one in told.data]
            assert np.allclose(rows, right, atol=1e-6)
            assert told.model == "new-to-old"
        assert np.allclose(asked.embeddings.create(model="new-to-old", input="cat sat").data[0].embedding, query("cat sat"))
        assert [one.id for one in asked.models.list()] == ["new-to-old", "other"]
        with pytest.raises(openai.NotFoundError, match="no translator"):
            asked.embeddings.create(model="text-embedding-3-small", input="cat")


def test_null_is_as_if_left_out(client: Client) -> None:
    asked = {"model": "new-to-old", "input": "cat sat"}
    nothing = dict.fromkeys(("encoding_format", "dimensions", "input_type", "user"))
    plain, told = (client.post("/v1/embeddings", one) for one in (asked, {**asked, **nothing}))
    assert told.status == 200 and told.json() == plain.json()


def test_usage_counts_the_tokens_that_the_model_reads(client: Client) -> None:
    told = client.post("/v1/embeddings", {"model": "new-to-old", "input": ["cat sat mat", "dog"]})
    assert told.json()["usage"] == {"prompt_tokens": 4, "total_tokens": 4}


def test_usage_says_when_it_is_an_estimate() -> None:
    from crossvec.service import embeddings

    class Silent:
        """A model that tells nobody how it cuts texts."""

        name, version, dim = "silent", "", 8

        def encode(self, texts, *, query=False, progress=encoders.silent):  # noqa: ANN202
            return np.ones((len(texts), 8), np.float32)

    assert embeddings.usage(Silent(), ["12345678"]) == {"prompt_tokens": 3, "total_tokens": 3, "estimated": True}


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ({"input": "cat"}, 422, "not_valid"),
        ({"model": "new-to-old"}, 422, "not_texts"),
        ({"model": "new-to-old", "input": []}, 422, "empty"),
        ({"model": "new-to-old", "input": ""}, 422, "empty"),
        ({"model": "new-to-old", "input": ["cat", " "]}, 422, "empty"),
        ({"model": "new-to-old", "input": [[1, 2]]}, 422, "not_texts"),
        ({"model": "new-to-old", "input": [1, 2]}, 422, "not_texts"),
        ({"model": "new-to-old", "input": None}, 422, "not_texts"),
        ({"model": "new-to-old", "input": ["cat"] * 501}, 422, "too_many_rows"),
        ({"model": "new-to-old", "input": "日本"}, 422, "unusable_input"),
        ({"model": "new-to-old", "input": "cat", "dimensions": 3}, 422, "wrong_dimension"),
        ({"model": "new-to-old", "input": "cat", "encoding_format": "int8"}, 422, "not_valid"),
        ({"model": "new-to-old", "input": "cat", "temperature": 1}, 422, "not_valid"),
        ({"model": "other", "input": "cat"}, 422, "no_encoder"),
        ({"model": "new-to-odd", "input": "cat"}, 404, "unknown_model"),
    ],
)
def test_a_request_for_embeddings_that_cannot_be_met_is_refused(client: Client, asked: dict, status: int, code: str) -> None:
    reply = client.post("/v1/embeddings", asked)
    assert (reply.status, reply.error["code"]) == (status, code)


def test_an_endpoint_that_fails_is_the_services_fault_and_its_words_stay_here(folders: Path) -> None:
    pytest.importorskip("openai")
    with encoding.endpoint() as behind:
        served = catalogues.opened([str(folders / "new-to-old")], [behind.name()], force=True, send_texts=True)
        with serving(served) as client:
            asked = {"model": "new-to-old", "input": "cat sat"}
            told = client.post("/v1/embeddings", asked)
            assert told.status == 200
            assert told.json()["usage"]["estimated"]
            behind.script = [encoding.Answer(401, {"error": {"message": "Incorrect API key: sk-secret"}})]
            reply = client.post("/v1/embeddings", asked)
            assert (reply.status, reply.error["code"]) == (502, "model_failed")
            assert "sk-secret" not in reply.body.decode()


# Names, probes, metrics


def test_a_name_that_is_not_served_is_answered_with_the_nearest(client: Client) -> None:
    reply = client.npy("/v1/translate/new-to-odd", np.zeros((1, 8), np.float32))
    assert (reply.status, reply.error["code"]) == (404, "unknown_model")
    assert "did you mean new-to-old?" in reply.error["message"]


def test_the_list_tells_what_each_translator_reads_and_gives(client: Client) -> None:
    first, second = client.get("/v1/models").json()["data"]
    assert first["id"] == "new-to-old"
    assert (first["source_dim"], first["target_dim"], first["embeds_texts"]) == (8, 6, True)
    assert (second["source_dim"], second["target_dim"], second["embeds_texts"]) == (24, 20, False)
    assert client.get("/v1/models/other").json() == second
    assert client.get("/v1/models/none").error["code"] == "unknown_model"
    assert abs(time.time() - first["created"]) < 7 * 86_400


@pytest.mark.parametrize("path", ["/", "/docs", "/v1/translate/other", "/v1/translate/%00%ff", "/v1/translate/a/b", "/../etc"])
def test_a_route_that_does_not_exist_is_refused_in_the_same_shape(client: Client, path: str) -> None:
    reply = client.get(path)
    assert reply.status in (404, 405)
    assert reply.error["code"] == "no_such_route"


def test_the_description_of_the_api_names_both_forms(client: Client) -> None:
    told = client.get("/openapi.json").json()
    assert set(told["paths"]["/v1/translate/{name}"]["post"]["requestBody"]["content"]) == {NPY, JSON}


def test_metrics_count_requests_and_rows_and_no_words_of_clients(catalogue: Catalogue, twins: World) -> None:
    with serving(catalogue) as client:
        client.npy("/v1/translate/other", twins.eval_x[:7])
        client.npy("/v1/translate/zebra", twins.eval_x[:7])
        client.get("/zebra")
        client.post("/v1/embeddings", {"model": "new-to-old", "input": ["cat sat", "dog"]})
        told = client.get("/metrics").body.decode()
    assert 'crossvec_rows_total{route="translate",translator="other"} 7.0' in told
    assert 'crossvec_rows_total{route="embeddings",translator="new-to-old"} 2.0' in told
    assert 'crossvec_requests_total{route="/v1/translate/{name}",status="200"} 1.0' in told
    assert 'crossvec_requests_total{route="/v1/translate/{name}",status="404"} 1.0' in told
    assert 'crossvec_requests_total{route="other",status="404"} 1.0' in told
    assert "crossvec_requests_under_way 0.0" in told
    assert "zebra" not in told and "cat sat" not in told


# Limits


def test_a_body_over_the_limit_is_refused_declared_or_not(client: Client) -> None:
    large = npy(np.zeros((3000, 24), np.float32))
    assert len(large) > 200_000
    reply = client.ask("POST", "/v1/translate/other", large, NPY)
    assert (reply.status, reply.error["code"]) == (413, "too_large")
    chunks = iter([large[i : i + 10_000] for i in range(0, len(large), 10_000)])
    reply = client.ask("POST", "/v1/translate/other", chunks, NPY)
    assert (reply.status, reply.error["code"]) == (413, "too_large")


def test_a_compressed_body_is_refused_before_it_can_unfold(client: Client) -> None:
    reply = client.ask("POST", "/v1/translate/other", b"\x1f\x8b", JSON, Content_Encoding="gzip")
    assert (reply.status, reply.error["code"]) == (415, "compressed")


def test_one_request_more_than_may_be_is_told_to_wait_and_nothing_is_lost(catalogue: Catalogue, twins: World) -> None:
    body = npy(twins.eval_x[:50])
    with serving(catalogue, requests=1) as client:
        assert client.get("/readyz").status == 200
        with client.half("/v1/translate/other", body) as under_way:
            while client.get("/readyz").status == 200:
                time.sleep(0.01)
            assert client.get("/readyz").json() == {"status": "full"}
            assert client.get("/healthz").status == 200
            reply = client.npy("/v1/translate/other", twins.eval_x[:1])
            assert (reply.status, reply.error["code"], reply.headers["retry-after"]) == (429, "too_many_requests", "1")
            assert rest(under_way, body).rows().shape == (50, 20)
        assert client.npy("/v1/translate/other", twins.eval_x[:1]).status == 200


def test_a_client_that_dawdles_loses_its_place(catalogue: Catalogue, twins: World) -> None:
    body = npy(twins.eval_x[:50])
    with serving(catalogue, requests=1, seconds=0.3) as client:
        with client.half("/v1/translate/other", body) as under_way:
            reply = rest(under_way, b"")
            assert (reply.status, reply.error["code"], reply.headers["connection"]) == (408, "too_slow", "close")
        with client.half("/v1/translate/other", body):
            pass  # gone without a word
        while client.get("/readyz").status != 200:
            time.sleep(0.01)
        assert client.npy("/v1/translate/other", twins.eval_x[:1]).status == 200


# The key, and what goes wrong inside


def test_a_key_is_asked_of_everyone_but_the_probes(catalogue: Catalogue) -> None:
    rows = np.zeros((1, 24), np.float32)
    with serving(catalogue, key="sesame") as right:
        assert right.get("/v1/models").status == 200
        assert right.npy("/v1/translate/other", rows).status == 200
        for wrong in (
            Client(right.port),
            Client(right.port, "sesame2"),
            Client(right.port, "sésame".encode().decode("latin-1")),
        ):
            for reply in (
                wrong.npy("/v1/translate/other", rows),
                *map(wrong.get, ("/v1/models", "/metrics", "/openapi.json", "/")),
            ):
                assert (reply.status, reply.error["code"]) == (401, "wrong_key")
                assert reply.headers["www-authenticate"] == "Bearer"
                assert "sesame" not in reply.body.decode()
            assert wrong.get("/healthz").status == wrong.get("/readyz").status == 200
        assert right.ask("GET", "/v1/models", Authorization="bearer sesame").status == 200
        assert Client(right.port).ask("GET", "/v1/models", Authorization="Basic sesame").status == 401


def test_what_breaks_inside_is_told_to_nobody_but_the_log_and_quotes_nothing(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(_self: Translator, _rows: np.ndarray) -> np.ndarray:
        raise RuntimeError("zebra 17.25")

    monkeypatch.setattr(Translator, "translate", breaks)
    with caplog.at_level(logging.INFO), serving(catalogue) as client:
        reply = client.npy("/v1/translate/other", np.zeros((1, 24), np.float32))
        assert (reply.status, reply.error["code"]) == (500, "internal")
        assert "zebra" not in reply.body.decode()
        assert client.get("/healthz").status == 200
    assert "RuntimeError at " in caplog.text and "test_service.py" in caplog.text
    assert "zebra" not in caplog.text and "17.25" not in caplog.text


def test_the_log_holds_nothing_that_was_sent(catalogue: Catalogue, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "crossvec"), caplog.at_level(logging.DEBUG, "uvicorn"), serving(catalogue) as client:
        assert client.post("/v1/embeddings", {"model": "new-to-old", "input": "cat zebra"}).status == 200
        assert client.post("/v1/embeddings", {"model": "zebra", "input": "cat zebra"}).status == 404
        assert client.post("/v1/translate/other", {"vectors": [[17.25]]}).status == 422
    assert "zebra" not in caplog.text and "17.25" not in caplog.text


# Whatever is sent, the answer is rows or a refusal, and never the server's own failure

NUMBERS = st.one_of(st.floats(), st.integers(), st.none(), st.booleans(), st.text(max_size=3))
VALUES = st.recursive(
    NUMBERS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
SHAPES = st.lists(st.integers(-(2**70), 2**70) | st.integers(0, 30), max_size=3).map(tuple)
KINDS = st.sampled_from(["<f4", ">f8", "<f2", "|O", "<i8", "<U3", "|V4", "<M8[s]", "<c8", "<f16", "no"])


def sound(reply: Reply) -> None:
    """A right answer, or a refusal."""
    assert reply.status in (200, 400, 404, 405, 413, 415, 422), (reply.status, reply.body[:300])
    if reply.status == 200:
        rows = reply.rows() if reply.headers["content-type"] == NPY else reply.json().get("vectors", [[0.0]])
        assert np.isfinite(rows).all()
    else:
        assert reply.error["code"]


@given(st.binary(max_size=400))
@settings(max_examples=60)
def test_any_bytes_as_any_form(client: Client, body: bytes) -> None:
    for path, kind in (("translate/other", NPY), ("translate/other", JSON), ("embeddings", JSON)):
        sound(client.ask("POST", f"/v1/{path}", body, kind))


@given(st.integers(0, len(ROWS) - 1), st.binary(min_size=1, max_size=4), st.integers(0, len(ROWS)))
@settings(max_examples=120)
def test_a_file_of_rows_with_bytes_changed_or_cut_off(client: Client, at: int, put: bytes, cut: int) -> None:
    changed = ROWS[:at] + put + ROWS[at + len(put) :]
    sound(client.ask("POST", "/v1/translate/other", changed, NPY))
    sound(client.ask("POST", "/v1/translate/other", changed[:cut], NPY))


@given(SHAPES, KINDS, st.booleans(), st.integers(0, 300))
@settings(max_examples=80)
def test_a_header_that_promises_anything(client: Client, shape: tuple, kind: str, by_column: bool, size: int) -> None:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": by_column, "shape": shape})
    sound(client.ask("POST", "/v1/translate/other", file.getvalue() + bytes(size), NPY))


@given(VALUES, st.sampled_from(["vectors", "input", "model", "encoding_format", "dimensions", "input_type"]))
@settings(max_examples=120)
def test_json_of_any_shape(client: Client, value: Any, key: str) -> None:
    good: dict[str, Any] = {"vectors": [[0.5] * 24]} if key == "vectors" else {"model": "new-to-old", "input": "cat sat"}
    path = "translate/other" if key == "vectors" else "embeddings"
    sound(client.ask("POST", f"/v1/{path}", json.dumps(good | {key: value}).encode(), JSON))
    sound(client.ask("POST", f"/v1/{path}", json.dumps(value).encode(), JSON))


@given(st.text(max_size=30), st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"]))
@example("other/", "POST")
@settings(max_examples=40)
def test_any_path_and_method(client: Client, word: str, method: str) -> None:
    for path in (f"/v1/translate/{quote(word)}", f"/{quote(word)}"):
        sound(client.ask(method, path, b"x" if method == "POST" else None, NPY))
