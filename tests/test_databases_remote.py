"""test_databases_remote — what is particular to databases that cannot run here, held to servers written from their documents.

The contract (tests/contract/test_collection.py) runs over the same servers. To run it over real ones, name them in
CROSSVEC_TEST_STORES: see tests/servers.py.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import recorded
import servers
from recorded.indexes import SHARDS, SearchServer
from recorded.pinecones import PineconeServer

from crossvec import stores
from crossvec.errors import SpaceError, StoreError
from crossvec.space import Space
from crossvec.stores.collection import Collection
from crossvec.stores.documents import documents


def cloud(n: int, dim: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def opened(url: str) -> Collection:
    store = stores.open(url)
    assert isinstance(store, Collection)
    return store


def rows_of(store: Collection) -> dict[object, tuple[np.ndarray, dict[str, object]]]:
    space = store.load()
    return {i: (x, row) for i, x, row in zip(list(space.ids_or_numbers()), space.array(), documents(space), strict=True)}


# --- Elasticsearch and OpenSearch


@pytest.fixture(params=["elasticsearch", "opensearch"])
def index(request: pytest.FixtureRequest) -> Iterator[tuple[SearchServer, str]]:
    """A server and the address of an index on it."""
    pytest.importorskip({"elasticsearch": "elasticsearch", "opensearch": "opensearchpy"}[request.param])
    server = SearchServer(opensearch=request.param == "opensearch")
    with recorded.serve(server) as place:
        yield server, f"{request.param}://{place}/books"


def made(server: SearchServer, fields: dict[str, dict[str, Any]], rows: dict[str, dict[str, Any]], url: str) -> None:
    """An index that somebody else made and filled."""
    kind, dim = ("knn_vector", "dimension") if server.opensearch else ("dense_vector", "dims")
    fields = {
        name: {"type": kind} | {dim if word == "dim" else word: value for word, value in told.items()}
        if "dim" in told
        else told
        for name, told in fields.items()
    }
    with opened(url).session() as client:
        settings = {"settings": {"index": {"knn": True}}} if server.opensearch else {}
        client.indices.create(index="books", body={"mappings": {"properties": fields}, **settings})
        for key, row in rows.items():
            assert not client.bulk(body=[{"index": {"_index": "books", "_id": key}}, row])["errors"]


@pytest.mark.parametrize("version", ["9.0.4", "9.2.0", "10.0.0"])
def test_vectors_come_whether_the_server_leaves_them_out_of_source_or_not(version: str) -> None:
    pytest.importorskip("elasticsearch")
    with recorded.serve(SearchServer(version)) as place:
        store = opened(f"elasticsearch://{place}/books")
        store.write([Space.of(cloud(5), list(range(5)))])
        assert np.allclose(rows_of(store)[3][0], cloud(5)[3], atol=1e-6)


@pytest.mark.parametrize("kept", [True, False], ids=["source as it was sent", "source rebuilt"])
@pytest.mark.parametrize(("kind", "version", "order"), [("elasticsearch", "9.3.0", ">"), ("opensearch", "3.9.0", "<")])
def test_vectors_that_were_sent_as_base64_are_read(kind: str, version: str, order: str, kept: bool) -> None:
    pytest.importorskip({"elasticsearch": "elasticsearch", "opensearch": "opensearchpy"}[kind])
    with recorded.serve(SearchServer(version, opensearch=kind == "opensearch")) as place:
        store, x = opened(f"{kind}://{place}/books"), cloud(3)
        with store.session() as client:
            field = {"type": "dense_vector", "dims": 4} if order == ">" else {"type": "knn_vector", "dimension": 4}
            word = "mapping.exclude_source_vectors" if order == ">" else "knn.derived_source.enabled"
            settings = {"index": {word: not kept}}
            client.indices.create(index="books", body={"settings": settings, "mappings": {"properties": {"v": field}}})
            sent = [base64.b64encode(row.astype(f"{order}f4").tobytes()).decode() for row in x]
            actions = [it for i, row in enumerate(sent) for it in ({"index": {"_index": "books", "_id": str(i)}}, {"v": row})]
            assert not client.bulk(body=actions, refresh="true")["errors"]
            raw = client.search(index="books", body={"_source": store._source(client, [])})["hits"]["hits"][0]["_source"]["v"]
            assert isinstance(raw, str) == kept
        read = rows_of(store)
        assert all(np.allclose(read[str(i)][0], row, atol=1e-6) for i, row in enumerate(x))


def test_a_vector_that_is_a_text_is_read_in_all_its_forms() -> None:
    from crossvec.stores.elasticsearch import _decoded

    def text(content: bytes) -> str:
        return base64.b64encode(content).decode()

    x = np.array([1.5, -2.0, 0.25], np.float32)
    assert np.array_equal(_decoded(text(x.astype(">f4").tobytes()), 3, "bfloat16", ">"), x)
    assert np.array_equal(_decoded(text((x.view(np.uint32) >> 16).astype(">u2").tobytes()), 3, "bfloat16", ">"), x)
    assert np.array_equal(_decoded(text(x.astype("<f2").tobytes()), 3, "float16", "<"), x)
    whole = np.array([-126, 28, 127], np.int8)
    assert np.array_equal(_decoded(text(whole.tobytes()), 3, "int8", "<"), whole)
    assert np.array_equal(_decoded("821c7f", 3, "int8", ">"), whole), "hexadecimal digits"
    for wrong in ("", "none", text(b"12345"), text(x.tobytes()) + "!"):
        assert _decoded(wrong, 3, "float32", ">") is None


def test_an_answer_that_is_no_vector_is_told_by_its_row(index: tuple[SearchServer, str]) -> None:
    """As OpenSearch 3.6 answers for vectors in objects (issue 21184 there)."""
    server, url = index
    opened(url).write([Space.of(cloud(3), ["a", "b", "c"])])
    for shard in server.indexes["books"].shards:
        for key, (number, row) in shard.items():
            shard[key] = number, row | {"vector": 1}
    with pytest.raises(StoreError, match="holds no vector in 'vector', but '1'"):
        opened(url).load()


def test_a_reading_goes_on_when_its_point_in_time_is_gone(index: tuple[SearchServer, str]) -> None:
    server, url = index
    opened(url).write([Space.of(cloud(40), list(range(40)))])
    seen: list[object] = []
    for space, _ in opened(url).pages(batch=3):
        seen += list(space.ids_or_numbers())
        server.pits.clear()
    assert sorted(map(int, map(str, seen))) == list(range(40)) and len(seen) == 40


def test_points_in_time_are_given_back(index: tuple[SearchServer, str]) -> None:
    server, url = index
    opened(url).write([Space.of(cloud(40), list(range(40)))])
    assert len(opened(url).load()) == 40 and not server.pits


def test_rows_of_a_shard_that_does_not_answer_are_no_silent_loss(index: tuple[SearchServer, str]) -> None:
    server, url = index
    opened(url).write([Space.of(cloud(9), list(range(9)))])
    pages = opened(url).pages(batch=2)
    next(pages)
    server.failing = True
    with pytest.raises(StoreError, match="a part of .* does not answer"):
        list(pages)


def test_ids_are_those_of_the_documents_and_fields_those_of_the_mapping(index: tuple[SearchServer, str]) -> None:
    server, url = index
    rows = {"b1": {"emb": [1, 0, 0], "title": "x", "at": {"page": 3}}, "b2": {"emb": [0, 2, 0], "more": None}}
    made(server, {"emb": {"dim": 3}, "title": {"type": "text"}, "price": {"type": "float"}}, rows, url)
    store = opened(url)
    told = store.describe()
    assert set(told.payload) == {"title", "price", "at", "more"} and told.named == () and told.rows == 2
    assert told.metric == ("euclidean" if server.opensearch else "cosine")
    read = rows_of(store)
    assert read["b1"][1] == {"title": "x", "at": {"page": 3}} and read["b2"][1] == {"more": None}
    assert np.allclose(read["b2"][0], [0, 2, 0])


def test_the_metric_is_told_by_its_usual_name() -> None:
    pytest.importorskip("opensearchpy")
    pytest.importorskip("elasticsearch")
    for opensearch, field, metric in [
        (False, {"similarity": "dot_product"}, "dot"),
        (False, {"similarity": "l2_norm"}, "euclidean"),
        (True, {"space_type": "cosinesimil"}, "cosine"),
        (True, {"method": {"name": "hnsw", "engine": "faiss", "space_type": "innerproduct"}}, "dot"),
    ]:
        server = SearchServer(opensearch=opensearch)
        with recorded.serve(server) as place:
            url = f"{'opensearch' if opensearch else 'elasticsearch'}://{place}/books"
            made(server, {"emb": {"dim": 2} | field}, {}, url)
            assert opened(url).describe().metric == metric


def test_one_of_several_vectors_is_chosen_and_writing_it_keeps_the_others(index: tuple[SearchServer, str]) -> None:
    server, url = index
    rows = {"1": {"a": [1, 0], "b": [5, 6, 7], "title": "x"}, "2": {"a": [0, 1], "title": "y"}}
    made(server, {"a": {"dim": 2}, "b": {"dim": 3}, "title": {"type": "text"}}, rows, url)
    with pytest.raises(StoreError, match="several vectors a row: a, b") as refused:
        opened(url).describe()
    assert "column=a" in refused.value.hint
    assert opened(f"{url}?column=a").describe().named == ("a", "b")
    opened(f"{url}?column=a").upsert(Space.of(np.array([[0, 3]], np.float32), ["1"], [{"title": "z"}]))
    assert np.allclose(rows_of(opened(f"{url}?column=a"))["1"][0], [0, 3])
    with pytest.raises(SpaceError, match=r"'2'\) has no vector 'b'"):
        opened(f"{url}?column=b").load()
    read = rows_of(opened(f"{url}?column=b&bad_rows=drop"))
    assert list(read) == ["1"] and np.allclose(read["1"][0], [5, 6, 7]) and read["1"][1] == {"title": "z"}


def test_a_vector_within_an_object_is_found_by_its_path(index: tuple[SearchServer, str]) -> None:
    server, url = index
    kind = {"type": "knn_vector", "dimension": 2} if server.opensearch else {"type": "dense_vector", "dims": 2}
    rows = {"1": {"emb": {"text": [1, 0], "model": "m"}}, "2": {"emb.text": [0, 1]}}
    made(server, {"emb": {"properties": {"text": kind, "model": {"type": "keyword"}}}}, rows, url)
    read = rows_of(opened(f"{url}?column=emb.text"))
    assert np.allclose(read["1"][0], [1, 0]) and read["1"][1] == {"emb": {"model": "m"}}
    assert np.allclose(read["2"][0], [0, 1]) and read["2"][1] == {}


def test_ids_and_names_that_an_index_refuses_come_back(index: tuple[SearchServer, str]) -> None:
    _, url = index
    payload = [{"": 1}, {"a..b": {".": 2}}, {"_id": "x", "vector": [1], "deep": [{" ": 0}]}, {"a.b": 1, "a": 2}]
    ids = ["x" * 513, "ü" * 300, "short", " "]
    opened(url).write([Space.of(cloud(4), ids, [{"n": i, "rest": None} | row for i, row in enumerate(payload)])])
    assert {key: row[1]["n"] for key, row in rows_of(opened(url)).items()} == dict(zip(ids, range(4), strict=True))
    for key, row in zip(ids, payload, strict=True):
        read = rows_of(opened(url))[key][1]
        assert {name: read[name] for name in row} == row


def test_a_row_that_the_index_refuses_is_named_with_the_reason() -> None:
    pytest.importorskip("elasticsearch")
    server = SearchServer()
    with recorded.serve(server) as place:
        url = f"elasticsearch://{place}/books"
        made(server, {"emb": {"dim": 2, "similarity": "dot_product"}}, {}, url)
        with pytest.raises(StoreError, match="refuses the row 'b' of .*only be used with unit-length") as refused:
            opened(url).upsert(Space.of(np.array([[1, 0], [3, 0]], np.float32), ["a", "b"]))
    assert "mode=upsert" in refused.value.hint


def test_patterns_and_aliases_of_several_indexes_are_refused(index: tuple[SearchServer, str]) -> None:
    server, url = index
    for name in ("books", "books-2"):
        opened(url.replace("books", name)).write([Space.of(cloud(2), [1, 2])])
    server.aliases = {"all": {"books": {}, "books-2": {}}, "now": {"books-2": {}}}
    assert len(opened(url.replace("books", "now")).load()) == 2
    with pytest.raises(StoreError, match="stands for 2 indexes"):
        opened(url.replace("books", "all")).describe()
    with pytest.raises(StoreError, match="is a pattern"):
        opened(url.replace("books", "books*")).describe()


def test_an_index_that_keeps_no_source_or_no_vectors_says_so(index: tuple[SearchServer, str]) -> None:
    server, url = index
    with opened(url).session() as client:
        client.indices.create(index="plain", body={"mappings": {"properties": {"title": {"type": "text"}}}})
        client.indices.create(index="bare", body={"mappings": {"_source": {"enabled": False}, "properties": {}}})
    with pytest.raises(StoreError, match="plain holds no vectors"):
        opened(url.replace("books", "plain")).describe()
    with pytest.raises(StoreError, match="keeps no _source"):
        opened(url.replace("books", "bare")).describe()


@pytest.mark.parametrize(
    ("user", "variable"), [("", "ELASTICSEARCH_API_KEY"), ("elastic@", "ELASTICSEARCH_PASSWORD"), ("", "OPENSEARCH_PASSWORD")]
)
def test_a_key_comes_from_the_environment_and_a_wrong_one_is_not_repeated(
    user: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import base64

    scheme = "opensearch" if variable.startswith("OPENSEARCH") else "elasticsearch"
    pytest.importorskip({"elasticsearch": "elasticsearch", "opensearch": "opensearchpy"}[scheme])
    name = user.rstrip("@") or "admin"
    right = "right" if variable.endswith("API_KEY") else base64.b64encode(f"{name}:right".encode()).decode()
    with recorded.serve(SearchServer(opensearch=scheme == "opensearch", secret=right)) as place:
        url = f"{scheme}://{user}{place}/books?tls=no"
        monkeypatch.setenv(variable, "hunter2")
        with pytest.raises(StoreError, match="asks for a key") as refused:
            opened(url).describe()
        assert variable in refused.value.hint and "hunter2" not in str(refused.value) + refused.value.hint
        monkeypatch.setenv(variable, "right")
        opened(url).write([Space.of(cloud(3), [1, 2, 3])])
        assert opened(url).count() == 3


@pytest.mark.parametrize("scheme", ["elasticsearch", "opensearch"])
def test_a_server_that_is_not_there_is_told_with_its_port(scheme: str) -> None:
    pytest.importorskip({"elasticsearch": "elasticsearch", "opensearch": "opensearchpy"}[scheme])
    with pytest.raises(StoreError, match="cannot be reached") as refused:
        opened(f"{scheme}://127.0.0.1:{servers.free_port()}/books").describe()
    assert "9200" in refused.value.hint
    with pytest.raises(StoreError, match="names no host"):
        opened(f"{scheme}:///books").describe()


def test_the_rows_of_these_tests_lie_in_several_shards(index: tuple[SearchServer, str]) -> None:
    server, url = index
    opened(url).write([Space.of(cloud(9), list(range(9)))])
    assert SHARDS > 1 and all(server.indexes["books"].shards)


# --- Pinecone


@pytest.fixture
def pine() -> Iterator[tuple[PineconeServer, str]]:
    pytest.importorskip("pinecone")
    server = PineconeServer()
    with recorded.serve(server) as place:
        yield server, f"pinecone://{place}/books"


def test_namespaces_are_read_written_and_emptied_one_by_one(pine: tuple[PineconeServer, str]) -> None:
    server, url = pine
    for space, n in (("en", 3), ("de", 5)):
        assert opened(f"{url}?namespace={space}&mode=upsert").write([Space.of(cloud(n), list(range(n)))]) == n
    with pytest.raises(StoreError, match="lie in namespaces: de, en") as refused:
        opened(url).describe()
    assert "namespace=de" in refused.value.hint
    assert opened(f"{url}?namespace=de").describe().rows == len(opened(f"{url}?namespace=de").load()) == 5
    with pytest.raises(StoreError, match="lie in namespaces"):
        opened(url).delete()
    opened(f"{url}?namespace=__default__&mode=upsert").write([Space.of(cloud(2), ["a", "b"])])
    with pytest.raises(StoreError, match="holds other namespaces"):
        opened(url).delete()
    opened(f"{url}?namespace=de").delete()
    assert opened(f"{url}?namespace=de").count() == 0 and opened(f"{url}?namespace=en").count() == 3
    assert set(server.indexes) == {"books"}


def test_writing_waits_until_rows_can_be_read() -> None:
    pytest.importorskip("pinecone")
    server = PineconeServer(lag=2)
    with recorded.serve(server) as place:
        store = opened(f"pinecone://{place}/books")
        assert store.write([Space.of(cloud(4), list(range(4)))]) == 4
        assert len(store.load()) == 4


def test_rows_that_never_become_readable_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pinecone")
    monkeypatch.setattr("crossvec.stores.pinecone.PATIENCE", 0.0)
    with recorded.serve(PineconeServer(lag=10**6)) as place, pytest.raises(StoreError, match="cannot be read after"):
        opened(f"pinecone://{place}/books").write([Space.of(cloud(2), [1, 2])])


def test_metadata_that_pinecone_cannot_hold_come_back_and_the_rest_can_be_searched(pine: tuple[PineconeServer, str]) -> None:
    server, url = pine
    plain = {"title": "x", "year": 1999, "price": 1.5, "new": True, "tags": ["a", "é"]}
    other = {"$no": 1, "none": None, "deep": {"a": [1, {"b": None}]}, "mixed": ["a", 1], "empty": [], "large": 2**60, "": "k"}
    opened(url).write([Space.of(cloud(1), ["a"], [plain | other])])
    kept = server.rows["books"]["__default__"]["a"]["metadata"]
    assert {key: kept[key] for key in plain} == plain and set(kept) == {*plain, "_crossvec_json"}
    read = rows_of(opened(url))["a"][1]
    assert read == plain | other and type(read["year"]) is int and type(read["price"]) is float


def test_ids_that_pinecone_refuses_come_back(pine: tuple[PineconeServer, str]) -> None:
    _, url = pine
    ids = ["é", "x" * 513, "plain", "a b", "7"]
    opened(url).write([Space.of(cloud(5), ids)])
    assert sorted(map(str, rows_of(opened(url)))) == sorted(ids)


def test_long_ids_are_fetched_in_several_requests(pine: tuple[PineconeServer, str]) -> None:
    server, url = pine
    ids = [f"{i:03}" + "y" * 500 for i in range(90)]
    opened(url).write([Space.of(cloud(90), ids)])
    assert list(opened(url).load().ids_or_numbers()) == ids
    assert max(len(request.query["ids"]) for request in server.seen if request.path[-1] == "fetch") < 10


def test_rows_deleted_between_listing_and_fetching_are_left_out(pine: tuple[PineconeServer, str]) -> None:
    server, url = pine
    opened(url).write([Space.of(cloud(250), [f"{i:03}" for i in range(250)])])
    listed = server._list

    def then_deleted(rows: dict[str, Any], namespace: str, request: recorded.Request) -> recorded.Answer:
        told = listed(rows, namespace, request)
        if request.one("paginationToken"):
            for row in told.body["vectors"][:99]:
                rows.pop(row["id"])
        return told

    server._list = then_deleted  # type: ignore[method-assign]
    seen = [i for space in opened(url).read() for i in space.ids_or_numbers()]
    assert seen == [f"{i:03}" for i in [*range(100), 199]]  # of the last page, which has 50, none is left


def test_an_index_of_documents_is_refused(pine: tuple[PineconeServer, str]) -> None:
    server, url = pine
    opened(url).write([Space.of(cloud(1), ["a"])])
    server.indexes["books"]["schema"]["fields"] = {"title": {"type": "string", "full_text_search": {}}}
    with pytest.raises(StoreError, match="holds documents or sparse vectors"):
        opened(url).describe()


def test_names_that_pinecone_refuses_and_keys_are_told_without_repeating_the_key(
    pine: tuple[PineconeServer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, url = pine
    with pytest.raises(StoreError, match="lowercase alphanumeric"):
        opened(url + "_1").write([Space.of(cloud(1), ["a"])])
    monkeypatch.setenv("PINECONE_API_KEY", "hunter2")
    with pytest.raises(StoreError, match="asks for a key") as refused:
        opened(f"{url}?tls=no").describe()
    assert "PINECONE_API_KEY" in refused.value.hint and "hunter2" not in str(refused.value) + refused.value.hint
    monkeypatch.delenv("PINECONE_API_KEY")
    with pytest.raises(StoreError, match="asks for a key"):
        opened("pinecone://books").describe()
    with pytest.raises(StoreError, match="cannot be reached"):
        opened(f"pinecone://127.0.0.1:{servers.free_port()}/books").describe()


# --- Weaviate


@pytest.fixture
def weaviate() -> Iterator[tuple[Any, str]]:
    pytest.importorskip("weaviate")
    from recorded.weaviates import WeaviateServer

    server = WeaviateServer()
    with server.serving() as place:
        yield server, f"weaviate://{place.format(name='books')}"


def test_values_become_properties_of_their_type_and_the_rest_comes_back(weaviate: tuple[Any, str]) -> None:
    server, url = weaviate
    plain = {"title": "x", "year": 1999, "price": 1.5, "new": True, "tags": ["a", "é"]}
    other = {"Title": "y", "a b": 1, "none": None, "deep": {"a": [1, {"b": None}]}, "empty": [], "large": 2**60, "id": 3}
    opened(url).write([Space.of(cloud(1), ["a"], [plain | other]), Space.of(cloud(1), ["b"], [{"year": "?", "price": 2}])])
    kinds = {it["name"]: it["dataType"] for it in server.classes["Books"]["properties"] if it["name"] in plain}
    assert kinds == {"title": ["text"], "year": ["int"], "price": ["number"], "new": ["boolean"], "tags": ["text[]"]}
    read = rows_of(opened(url))
    assert read["a"][1] == plain | other and read["b"][1] == {"year": "?", "price": 2}
    assert type(read["a"][1]["price"]) is float and type(read["b"][1]["price"]) is int
    assert set(opened(url).describe().payload) == set(plain | other)


def test_ids_that_are_uuids_stay_and_others_come_back(weaviate: tuple[Any, str]) -> None:
    server, url = weaviate
    own = "0c9a1a5c-9d5c-4a8e-8f36-4a3f9c0f1b2d"
    ids = [own, own.upper(), "7", "", "é" * 400]
    opened(url).write([Space.of(cloud(5), ids)])
    assert set(rows_of(opened(url))) == set(ids) and own in server.objects["Books"][""]
    assert "_crossvec_id" not in server.objects["Books"][""][own]["properties"]


def test_several_vectors_are_read_by_name_and_not_written(weaviate: tuple[Any, str]) -> None:
    server, url = weaviate
    opened(f"{url}&column=title").write([Space.of(cloud(2), ["a", "b"])])
    assert opened(url).describe().dim == 4
    from recorded.weaviates import packed

    server.classes["Books"]["vectorConfig"]["cover"] = server.classes["Books"]["vectorConfig"]["title"]
    for row in list(server.objects["Books"][""].values())[:1]:
        row["vectors"]["cover"] = packed([0.6, 0.8])
    with pytest.raises(StoreError, match="several vectors a row: cover, title"):
        opened(url).describe()
    covers = opened(f"{url}&column=cover&bad_rows=drop")
    assert covers.describe().named == ("cover", "title") and len(covers.load()) == 1
    with pytest.raises(StoreError, match="holds several vectors a row, and writing one would delete"):
        opened(f"{url}&column=title").upsert(Space.of(cloud(1), ["a"]))


def test_tenants_are_kept_apart(weaviate: tuple[Any, str]) -> None:
    _, url = weaviate
    opened(f"{url}&tenant=me").write([Space.of(cloud(3), [1, 2, 3])])
    opened(f"{url}&tenant=you&mode=upsert").write([Space.of(cloud(2), [1, 2])])
    assert opened(f"{url}&tenant=me").count() == len(opened(f"{url}&tenant=me").load()) == 3
    with pytest.raises(StoreError, match="has tenants") as refused:
        opened(url).describe()
    assert "tenant=" in refused.value.hint
    opened(f"{url}&tenant=me").delete()
    assert opened(f"{url}&tenant=me").count() == 0 and opened(f"{url}&tenant=you").count() == 2


def test_rows_that_weaviate_refuses_are_named(weaviate: tuple[Any, str]) -> None:
    server, url = weaviate
    opened(url).write([Space.of(cloud(2), [1, 2])])
    store = opened(url)
    with store.session():
        store.upsert(Space.of(cloud(1), [1], [{"year": 1999}]))
        server.classes["Books"]["properties"][-1]["dataType"] = ["text"]  # changed behind our back
        with pytest.raises(StoreError, match="refuses the row .*invalid text property 'year'") as refused:
            store.upsert(Space.of(cloud(2), [1, 3], [{"year": 2000}, {}]))
    assert refused.value.hint


def test_weaviates_key_and_ports_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("weaviate")
    from recorded.weaviates import WeaviateServer

    with WeaviateServer("right").serving() as place:
        url = f"weaviate://{place.format(name='books')}&tls=no"
        for key in ("", "hunter2"):
            monkeypatch.setenv("WEAVIATE_API_KEY", key)
            with pytest.raises(StoreError, match="asks for a key") as refused:
                opened(url).describe()
            assert "WEAVIATE_API_KEY" in refused.value.hint and "hunter2" not in str(refused.value) + refused.value.hint
        monkeypatch.setenv("WEAVIATE_API_KEY", "right")
        opened(url).write([Space.of(cloud(2), [1, 2])])
        with pytest.raises(StoreError, match="nothing answers gRPC") as refused:
            opened(f"{url.partition('?')[0]}?tls=no&grpc=127.0.0.1:{servers.free_port()}").load()
        assert "50051" in refused.value.hint
    monkeypatch.delenv("WEAVIATE_API_KEY")
    with pytest.raises(StoreError, match="cannot be reached"):
        opened(f"weaviate://127.0.0.1:{servers.free_port()}/books").describe()
    with pytest.raises(StoreError, match="grpc=x is not possible"):
        opened("weaviate://127.0.0.1/books?grpc=x").describe()
