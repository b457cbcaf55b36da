"""test_databases — what is particular to each database: ids, lengths, named vectors, tables that others made, and refusals."""

from __future__ import annotations

import datetime
import threading
import uuid
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
import servers

from crossvec import stores
from crossvec.errors import SpaceError, StoreError
from crossvec.space import Space
from crossvec.stores.address import SECRETS, Address
from crossvec.stores.documents import columns, documents, plain
from crossvec.stores.pgvector import PgvectorTable
from crossvec.stores.qdrant import point_id
from crossvec.stores.rows import packed


def cloud(n: int, dim: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def open_collection(url: str) -> Any:
    return stores.open(url)


# --- addresses


@pytest.mark.parametrize(
    ("url", "host", "port", "parts"),
    [
        ("qdrant://host:6333/books", "host", 6333, ["books"]),
        ("qdrant://host/books", "host", None, ["books"]),
        ("qdrant://[::1]:6333/books", "::1", 6333, ["books"]),
        ("qdrant:///data/qdrant/a%20b", "", None, ["data", "qdrant", "a b"]),
        ("qdrant://./here/books", "", None, [".", "here", "books"]),
        ("pgvector://me@host/db/public.books", "me@host", None, ["db", "public.books"]),
    ],
)
def test_places_are_taken_apart(url: str, host: str, port: int | None, parts: list[str]) -> None:
    assert Address.parse(url).split() == (host, port, parts)


@pytest.mark.parametrize(
    "url",
    [
        "pgvector://me:hunter2@host/db/t",
        "pgvector://me:hunter2/with/slashes@host/db/t",
        "pgvector://me%3Ahunter2@host/db/t",
        "qdrant://hunter2@host/books",
        "weaviate://:hunter2@host/Books",
        "qdrant://h/c?api_key=hunter2",
        "milvus://h/c?rows=0:3&access_token=hunter2",
    ],
)
def test_an_address_with_a_secret_is_refused_by_the_name_of_the_variable(url: str) -> None:
    with pytest.raises(StoreError, match="must not hold") as refused:
        stores.open(url)
    assert "hunter2" not in str(refused.value) + refused.value.hint
    assert SECRETS[url.partition(":")[0]] in refused.value.hint


def test_a_file_of_another_machine_is_refused_without_the_password() -> None:
    with pytest.raises(StoreError, match="another machine, host") as refused:
        stores.open("file://me:hunter2@host/x.npy")
    assert "hunter2" not in str(refused.value) + refused.value.hint


@pytest.mark.parametrize(
    "url", ["qdrant://h/c?key=hunter2", "redis://h/c?pass=hunter2", "qdrant://h/c?key=hunter2&key=hunter2"]
)
def test_an_option_that_no_store_knows_is_told_without_its_value(url: str) -> None:
    with pytest.raises(StoreError, match="option") as refused:
        stores.open(url)
    assert "hunter2" not in str(refused.value) + refused.value.hint


def test_an_option_named_key_and_a_name_with_an_at_are_no_secrets() -> None:
    assert Address.parse("file:///a/b.npz?key=embeddings").options == {"key": "embeddings"}
    for url in ("qdrant://host:6333/books@v2", "qdrant:///folder/a:b@c", "pgvector://me@host:5432/db/t"):
        assert Address.parse(url).url == url


class Another(BaseHTTPRequestHandler):
    """A server that is no database, and says back all that it was told."""

    status = 200

    def do_GET(self) -> None:
        """Answer, whatever was asked."""
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(f"<html>{self.headers}</html>".encode())

    do_POST = do_PUT = do_HEAD = do_GET

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


@pytest.mark.parametrize("status", [200, 401, 502])
@pytest.mark.parametrize("scheme", ["qdrant", "chroma"])
def test_a_server_that_is_no_database_is_told_without_the_key(
    scheme: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip({"qdrant": "qdrant_client", "chroma": "chromadb"}[scheme])
    monkeypatch.setenv(SECRETS[scheme], "hunter2")
    monkeypatch.setattr(Another, "status", status)
    with ThreadingHTTPServer(("127.0.0.1", 0), Another) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with pytest.raises(StoreError) as refused:
                open_collection(f"{scheme}://127.0.0.1:{server.server_port}/books").describe()
        finally:
            server.shutdown()
    told = str(refused.value) + refused.value.hint
    assert "hunter2" not in told and (scheme in told or "set QDRANT_API_KEY" in told)


@pytest.mark.parametrize("url", ["qdrant://127.0.0.1:1/books", "chroma://127.0.0.1:1/books", "pgvector://127.0.0.1:1/db/books"])
def test_a_server_that_does_not_answer_is_told_without_secrets(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("QDRANT_API_KEY", "CHROMA_API_KEY", "PGPASSWORD"):
        monkeypatch.setenv(variable, "hunter2")
    with pytest.raises(StoreError, match="cannot be reached") as refused:
        open_collection(url + ("" if url.startswith("pg") else "?tls=no")).describe()
    assert "running there?" in refused.value.hint and "hunter2" not in str(refused.value) + refused.value.hint


def test_a_name_that_is_missing_or_a_port_that_is_none_is_told() -> None:
    with pytest.raises(StoreError, match="names no collection"):
        stores.open("qdrant://host:6333/")
    with pytest.raises(StoreError, match="names no collection"):
        stores.open("pgvector://host/only_the_table")
    with pytest.raises(StoreError, match="is no HOST or HOST:PORT"):
        stores.open("qdrant://host:port/books")


# --- payload


def test_payload_values_are_made_plain_and_what_cannot_be_is_refused() -> None:
    day = datetime.date(2026, 11, 21)
    given = {"day": day, "n": np.int64(3), "x": [np.float32(0.5), {"id": uuid.UUID(int=1)}], "price": Decimal("1.10")}
    assert plain(given) == {"day": "2026-11-21", "n": 3, "x": [0.5, {"id": str(uuid.UUID(int=1))}], "price": "1.10"}
    with pytest.raises(StoreError, match="the payload 'thing' holds a object"):
        plain({"thing": object()})


def test_which_rows_lack_a_key_outlives_slices_and_picks() -> None:
    rows = [{"a": None}, {}, {"a": 1}, {}]
    space = Space.of(cloud(4), payload=columns(rows))
    assert documents(space) == rows
    assert documents(space.rows(1, 3)) == rows[1:3] and documents(space.take([3, 0])) == [{}, {"a": None}]
    assert [row for batch in space.batches(3) for row in documents(batch)] == rows
    assert space.records() == [{"a": None}, {"a": None}, {"a": 1}, {"a": None}]


# --- Qdrant


@pytest.fixture(scope="module", params=["qdrant", "qdrant-edge"])
def qdrant(request: pytest.FixtureRequest) -> Iterator[str]:
    with servers.running(request.param) as database:
        yield database.url


def test_qdrant_takes_its_own_kinds_of_id_as_they_are() -> None:
    own = [0, 7, 2**64 - 1, "6ba7b810-9dad-11d1-80b4-00c04fd430c8"]
    assert [point_id(value) for value in own] == own
    others = [-1, 2**64, "7", "book", "6BA7B810-9DAD-11D1-80B4-00C04FD430C8", "6ba7b8109dad11d180b400c04fd430c8"]
    made = [point_id(value) for value in others]
    assert len(set(made)) == len(others) and all(str(uuid.UUID(str(it))) == it for it in made)
    assert point_id(-1) != point_id("-1")


def test_qdrant_keeps_numbers_and_their_text_apart(qdrant: str) -> None:
    store = open_collection(qdrant.format(name="kinds"))
    ids: list[int | str] = [5, "5", -5, "-5", str(uuid.UUID(int=5)), 2**63]
    store.write([Space.of(cloud(6), ids)])
    assert sorted(map(repr, store.load().ids_or_numbers())) == sorted(map(repr, ids))


def test_under_cosine_lengths_are_restored_and_normalised_is_told(qdrant: str) -> None:
    store = open_collection(qdrant.format(name="lengths"))
    lengths = np.array([[1], [0.001], [3], [500]], np.float32)
    x = cloud(4) / np.linalg.norm(cloud(4), axis=1, keepdims=True) * lengths
    store.write([Space.of(x, [0, 1, 2, 3])])
    real = qdrant.startswith("qdrant-edge")
    assert store.describe().normalised is (True if real else None) and store.describe().payload == ()
    with store.session() as client:  # what the engine itself gives is scaled
        layout = store._look(client)
        page = store._page(client, layout, None, 10, True)
    if real:
        assert np.allclose(np.linalg.norm(np.asarray(page.vectors), axis=1), 1, atol=1e-5)
    assert [sorted(row) for row in page.documents] == [[], *[["_crossvec_norm"]] * 3]
    assert np.allclose(store.load().array(), x, rtol=1e-5)
    with store.session():  # in one session local mode scales rows too
        store.upsert(Space.of(x, [4, 5, 6, 7]))
        assert np.allclose(store.load().array()[4:], x, rtol=1e-5)


def test_lists_of_a_client_become_the_rows_that_numpy_makes_of_them() -> None:
    x = cloud(5)
    assert np.array_equal(packed(x.tolist(), 5, 4), x)
    assert np.array_equal(packed(iter([]), 0, 4), np.empty((0, 4)))
    some = packed(iter([*x[:2].tolist(), None, [1.0, 2.0], [3, 4, 5, 6]]), 5, 4)
    assert isinstance(some, list) and some[2:] == [None, [1.0, 2.0], [3, 4, 5, 6]] and np.array_equal(some[:2], x[:2])


def make_named(url: str, sizes: dict[str, int], distance: str) -> None:
    """Make a collection of named vectors with the client itself."""
    store = open_collection(url)
    if url.startswith("qdrant-edge"):
        import qdrant_edge as edge

        params = {name: edge.EdgeVectorParams(size=it, distance=getattr(edge.Distance, distance)) for name, it in sizes.items()}
        store.path.mkdir()
        edge.EdgeShard.create(str(store.path), edge.EdgeConfig(vectors=params)).close()
        return
    from qdrant_client import models

    with store.session() as client:
        kind = models.Distance(distance)
        made = {name: models.VectorParams(size=size, distance=kind) for name, size in sizes.items()}
        client.create_collection(store.name, vectors_config=made)


def test_named_vectors_are_chosen_and_the_others_are_kept(qdrant: str) -> None:
    url = qdrant.format(name="named")
    make_named(url, {"a": 4, "b": 3}, "Dot")
    points: list[tuple[int, dict[str, Any]]] = [(1, {"a": [1.0] * 4, "b": [2.0] * 3}), (2, {"b": [3.0] * 3})]
    with open_collection(url).session() as client:
        if url.startswith("qdrant-edge"):
            import qdrant_edge as edge

            shard = edge.EdgeShard.load(str(open_collection(url).path))
            shard.update(edge.UpdateOperation.upsert_points([edge.Point(i, vector, {}) for i, vector in points]))
            shard.close()
        else:
            from qdrant_client import models

            client.upsert("named", [models.PointStruct(id=i, vector=vector) for i, vector in points])
    with pytest.raises(StoreError, match="holds several vectors a row: a, b") as refused:
        open_collection(url).describe()
    assert "column=a" in refused.value.hint
    with pytest.raises(StoreError, match="has no vector 'c'"):
        open_collection(url + "?column=c").load()
    told = open_collection(url + "?vector=b").describe()
    assert (told.named, told.dim, told.rows) == (("a", "b"), 3, 2)
    with pytest.raises(SpaceError, match=r"row 1 of named \(id 2\) has no vector 'a'"):
        open_collection(url + "?column=a").load()
    kept = open_collection(url + "?column=a&bad_rows=drop").load()
    assert list(kept.ids_or_numbers()) == [1] and kept.dropped == (1,)
    open_collection(url + "?column=a").upsert(Space.of(cloud(2), [1, 2]))
    assert np.array_equal(open_collection(url + "?column=b").load().array(), np.array([[2] * 3, [3] * 3], np.float32))
    assert np.allclose(open_collection(url + "?column=a").load().array(), cloud(2))


def test_each_named_vector_keeps_its_own_lengths(qdrant: str) -> None:
    """Under cosine the engine scales both, and an upsert of one replaces the whole payload."""
    url = qdrant.format(name="two_lengths")
    make_named(url, {"a": 4, "b": 3}, "Cosine")
    a, b = cloud(3) * 7, cloud(3, 3)
    b /= np.linalg.norm(b, axis=1, keepdims=True)
    b[1] *= 5
    open_collection(url + "?column=a").upsert(Space.of(a, [1, 2, 3], [{"n": i} for i in range(3)]))
    open_collection(url + "?column=b").upsert(Space.of(b, [1, 2, 3], [{"n": i} for i in range(3)]))
    for column, rows in {"a": a, "b": b}.items():
        read = open_collection(f"{url}?column={column}").load()
        assert np.allclose(read.array(), rows, rtol=1e-5), column
        assert documents(read) == [{"n": i} for i in range(3)]
        assert open_collection(f"{url}?column={column}").describe().payload == ("n",)


# --- PostgreSQL


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with servers.running("pgvector") as database:
        yield database.url


def run(url: str, *statements: str) -> None:
    store = open_collection(url)
    assert isinstance(store, PgvectorTable)
    with store.session() as client:
        client.execute("CREATE EXTENSION IF NOT EXISTS vector")
        for statement in statements:
            client.execute(statement)


def test_a_table_that_others_made_is_read_with_all_its_types(postgres: str) -> None:
    url = postgres.format(name='Odd "Table"')
    run(
        url,
        'CREATE TABLE "Odd ""Table""" (key uuid PRIMARY KEY, "The Vector" halfvec(2), title text, price numeric, day date,'
        " tags text[], more jsonb, raw bytea, place point)",
        "INSERT INTO \"Odd \"\"Table\"\"\" VALUES ('6ba7b810-9dad-11d1-80b4-00c04fd430c8', '[1,0.5]', NULL, 1.10, '2026-11-21',"
        " '{a,NULL}', '{\"b\": [1, null]}', 'abc', '(1,2)')",
        'CREATE INDEX ON "Odd ""Table""" USING hnsw ("The Vector" halfvec_ip_ops)',
    )
    told = open_collection(url).describe()
    assert (told.dim, told.dtype, told.metric, told.id_type) == (2, "float16", "dot", "text")
    space = open_collection(url).load()
    assert list(space.ids_or_numbers()) == ["6ba7b810-9dad-11d1-80b4-00c04fd430c8"] and space.array().tolist() == [[1, 0.5]]
    assert documents(space) == [
        {
            "title": None,
            "price": Decimal("1.10"),
            "day": datetime.date(2026, 11, 21),
            "tags": ["a", None],
            "more": {"b": [1, None]},
            "raw": b"abc",
            "place": "(1,2)",
        }
    ]


def test_rows_go_into_the_columns_of_a_table_like_theirs(postgres: str) -> None:
    source, dest = postgres.format(name="typed"), postgres.format(name="typed_new")
    run(
        source,
        "CREATE TABLE typed (id bigint PRIMARY KEY, v vector(2), title text, at timestamptz, tags int[], more jsonb,"
        " raw bytea)",
        "INSERT INTO typed SELECT i, ARRAY[i, 1]::vector, 'title ' || i, '2026-11-21 12:00+00', ARRAY[i, 2],"
        " jsonb_build_object('i', i), 'abc' FROM generate_series(1, 20) i",
        "CREATE TABLE typed_new (LIKE typed INCLUDING ALL)",
    )
    assert open_collection(dest).write(open_collection(source).read(6)) == 20
    assert documents(open_collection(dest).load()) == documents(open_collection(source).load())
    assert np.array_equal(open_collection(dest).load().array(), open_collection(source).load().array())
    with pytest.raises(StoreError, match="has no column for the payload 'author'"):
        open_collection(dest + "?mode=upsert").write([Space.of(cloud(1, 2), [1], [{"author": "me"}])])


def test_other_columns_of_vectors_are_left_alone(postgres: str) -> None:
    url = postgres.format(name="two")
    run(
        url, "CREATE TABLE two (id int PRIMARY KEY, a vector(2), b vector(3))", "INSERT INTO two VALUES (1, '[1,2]', '[1,2,3]')"
    )
    with pytest.raises(StoreError, match="holds several vectors a row: a, b"):
        open_collection(url).load()
    open_collection(url + "?column=a").upsert(Space.of([[7.0, 8.0]], [1]))
    assert open_collection(url + "?column=b").load().array().tolist() == [[1, 2, 3]]
    assert open_collection(url + "?column=a").load().array().tolist() == [[7, 8]]


def test_tables_that_cannot_be_read_are_told_why(postgres: str) -> None:
    run(
        postgres.format(name="keyless"),
        "CREATE TABLE keyless (n int, v vector(2))",
        "CREATE TABLE vectorless (id int PRIMARY KEY)",
        "CREATE TABLE gap (id int PRIMARY KEY, v vector(2))",
        "INSERT INTO gap VALUES (1, '[1,2]'), (2, NULL), (3, '[3,4]')",
        "CREATE TABLE ragged (id int PRIMARY KEY, v vector)",
        "INSERT INTO ragged VALUES (1, '[1,2]'), (2, '[1,2,3]')",
    )
    with pytest.raises(StoreError, match="has no primary key of one column") as refused:
        open_collection(postgres.format(name="keyless")).load()
    assert "id=" in refused.value.hint
    assert len(open_collection(postgres.format(name="keyless") + "?id=n").load()) == 0
    with pytest.raises(StoreError, match="holds no vectors"):
        open_collection(postgres.format(name="vectorless")).load()
    with pytest.raises(SpaceError, match=r"row 1 of gap \(id 2\) has no vector 'v'"):
        open_collection(postgres.format(name="gap")).load()
    assert open_collection(postgres.format(name="gap") + "?bad_rows=drop").load().dropped == (1,)
    with pytest.raises(SpaceError):
        open_collection(postgres.format(name="ragged")).load()


def test_postgres_tells_what_it_cannot_hold(postgres: str) -> None:
    url = postgres.format(name="nul")
    with pytest.raises(StoreError, match="PostgreSQL refuses"):
        open_collection(url).write([Space.of(cloud(1), ["a"], [{"text": "a\0b"}])])
    open_collection(url).write([Space.of(cloud(1), [1])])
    with pytest.raises(StoreError, match="are whole numbers of 8 bytes, and 'a' is none"):
        open_collection(url + "?mode=upsert").write([Space.of(cloud(1), ["a"])])


# --- LanceDB


def test_a_lance_cursor_reads_on_in_the_version_it_began_with() -> None:
    pytest.importorskip("lancedb")
    with servers.running("lancedb") as database:
        store = open_collection(database.url.format(name="versions"))
        store.write([Space.of(cloud(10), list(range(10)))])
        _, cursor = next(store.pages(batch=4))
        store.upsert(Space.of(-cloud(12), list(range(12))))
        rest = np.concatenate([space.array() for space, _ in store.pages(cursor)])
        assert np.array_equal(rest, cloud(10)[4:])


# --- Chroma


def test_chroma_documents_are_payload() -> None:
    pytest.importorskip("chromadb")
    with servers.running("chroma") as database:
        store = open_collection(database.url.format(name="texts"))
        with store.session() as client:
            made = client.create_collection("texts", embedding_function=None)
            made.add(ids=["a", "b"], embeddings=cloud(2), documents=["Hello", None], metadatas=[{"n": 1}, None])
            assert documents(store.load()) == [{"n": 1, "document": "Hello"}, {}]
            copy = open_collection(database.url.format(name="copy"))
            copy.write(store.read())
            assert client.get_collection("copy", embedding_function=None).get(ids=["a"])["documents"] == ["Hello"]


def test_chroma_cloud_is_asked_for_no_more_rows_than_it_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the client's folder mode, told that it is the cloud, and that the cloud gives three rows a request."""
    from crossvec.stores import chroma

    chromadb = pytest.importorskip("chromadb")
    most: list[int] = []

    def counted(real: Any) -> Any:
        def call(self: Any, **options: Any) -> Any:
            got = real(self, **options)
            most.extend([len(options.get("ids") or []), len(got["ids"]) if real.__name__ == "get" else 0])
            return got

        return call

    for name in ("get", "upsert", "delete"):
        monkeypatch.setattr(chromadb.Collection, name, counted(getattr(chromadb.Collection, name)))
    monkeypatch.setattr(chroma, "CLOUD_ROWS", 3)
    monkeypatch.setattr(chroma, "SAMPLED", 3)
    with servers.running("chroma") as database:
        store = open_collection(database.url.format(name="cloud"))
        monkeypatch.setattr(type(store), "cloud", True)
        assert store.write([Space.of(cloud(10), [f"id {i}" for i in range(10)])]) == 10
        read = store.load()
        assert sorted(read.ids_or_numbers()) == [f"id {i}" for i in range(10)]
        assert np.allclose(read.array(), cloud(10)[[int(str(i)[3:]) for i in read.ids_or_numbers()]])
    assert max(most) == 3


def test_chroma_documents_are_payload_and_never_hide_metadata_of_that_name() -> None:
    pytest.importorskip("chromadb")
    with servers.running("chroma") as database:
        store = open_collection(database.url.format(name="documents"))
        store.write([Space.of(cloud(2), ["a", "b"], {"n": [1, 2]})])
        with store.session() as client:
            made = client.get_collection(store.name, embedding_function=None)
            made.update(ids=["a", "b"], embeddings=cloud(2), documents=["text a", "text b"])
        assert set(store.describe().payload) == {"n", "document"}
        assert documents(store.load()) == [{"n": 1, "document": "text a"}, {"n": 2, "document": "text b"}]
        with store.session() as client:
            made = client.get_collection(store.name, embedding_function=None)
            made.update(ids=["b"], metadatas=[{"document": "another"}])
        with pytest.raises(StoreError, match="row 'b' .* has a document and metadata 'document'") as refused:
            store.load()
        assert "keep=ids" in refused.value.hint
        assert len(open_collection(f"{store.address.url}?keep=ids").load()) == 2


def test_chroma_cloud_takes_its_key_as_its_own_client_does(monkeypatch: pytest.MonkeyPatch) -> None:
    chromadb = pytest.importorskip("chromadb")
    store = open_collection("chroma://api.trychroma.com/books?tenant=me")
    monkeypatch.delenv("CHROMA_API_KEY", raising=False)
    with pytest.raises(StoreError, match="Chroma Cloud asks for a key") as refused:
        store.describe()
    assert "CHROMA_API_KEY" in refused.value.hint
    asked: dict[str, Any] = {}
    monkeypatch.setenv("CHROMA_API_KEY", "hunter2")
    monkeypatch.setattr(chromadb, "CloudClient", lambda **options: asked.update(options))
    store._connect()
    assert (asked["cloud_host"], asked["cloud_port"], asked["tenant"]) == ("api.trychroma.com", 443, "me")
    assert "hunter2" not in str(asked), "the client reads the key itself"
    assert not open_collection("chroma://nottrychroma.com/books").cloud
