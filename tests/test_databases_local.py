"""test_databases_local — what is particular to databases in files, folders and Redis: what others made, and refusals."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import servers

from crossvec import stores
from crossvec.errors import SpaceError, StoreError
from crossvec.space import Space
from crossvec.stores.documents import documents

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


def cloud(n: int, dim: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def open_collection(url: str) -> Any:
    return stores.open(url)


def ids(space: Space) -> list[object]:
    return list(space.ids_or_numbers())


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder in memory where there is such a place, since databases wait for the disk after every write."""
    with servers.folder("local") as path:
        yield path


# --- what all of them promise

FILES = ["sqlite", "duckdb", "faiss", "datasets", "vdf"]
INSIDE = {"sqlite": "file.db/books", "duckdb": "file.db/books", "faiss": "books.index", "datasets": "books", "vdf": "books"}


@pytest.fixture(params=FILES)
def local(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    for module in {"sqlite": ["apsw", "sqlite_vec"], "duckdb": ["duckdb"], "faiss": ["faiss"]}.get(request.param, []):
        pytest.importorskip(module)
    return f"{request.param}://{tmp_path}/{INSIDE[request.param]}"


def test_a_wrong_path_is_told_and_makes_nothing(local: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no") as refused:
        open_collection(local).describe()
    assert refused.value.hint and not list(tmp_path.iterdir())
    with pytest.raises(StoreError, match="there is no") as refused:
        open_collection(local.replace(str(tmp_path), f"{tmp_path}/nowhere")).load()
    assert f"{tmp_path}/nowhere" in str(refused.value) + refused.value.hint and not list(tmp_path.iterdir())


def test_a_place_on_another_machine_is_refused(local: str) -> None:
    with pytest.raises(StoreError, match="names a server") as refused:
        open_collection(local.replace(":///", "://host/")).describe()
    assert ":///" in refused.value.hint


def test_a_file_of_another_kind_is_refused(local: str, tmp_path: Path) -> None:
    open_collection(local).write([Space.of(cloud(3), [1, 2, 3])])
    for path in tmp_path.rglob("*"):
        if path.is_file():
            path.write_bytes(b"<html>not found</html>" * 500)
    with pytest.raises(StoreError) as refused:
        open_collection(local).load()
    assert refused.value.hint and str(tmp_path) in str(refused.value)


def test_what_a_killed_program_wrote_is_there(local: str) -> None:
    """Every batch is on the disk when `upsert` returns: the next program reads it, and goes on."""
    script = (
        "import os, numpy as np\nfrom crossvec import stores\nfrom crossvec.space import Space\n"
        f"store = stores.open({local!r})\nx = np.arange(1, 25, dtype='f4').reshape(6, 4)\n"
        "with store.session():\n"
        "    store.create(stores.Description('', '', '', 0, 4, 'float32', id_type='integer', metric='euclidean'))\n"
        "    store.upsert(Space.of(x[:3], [1, 2, 3], [{'t': 'ä'}] * 3))\n"
        "    store.upsert(Space.of(x[3:], [4, 5, 6], [{'t': 'b'}] * 3))\n"
        "    os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    space = open_collection(local).load()
    assert sorted(ids(space)) == [1, 2, 3, 4, 5, 6] and documents(space)[0] == {"t": "ä"}
    open_collection(local).upsert(Space.of(-cloud(2), [6, 7], [{"t": "c"}] * 2))
    assert open_collection(local).count() == 7 and open_collection(local).describe().metric == "euclidean"


def test_reading_leaves_every_byte_as_it_was(local: str, tmp_path: Path) -> None:
    open_collection(local).write([Space.of(cloud(9), list(range(9)), [{"t": "x"}] * 9)])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    open_collection(local).describe()
    list(open_collection(local).read(2))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


# --- SQLite


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[tuple[str, Any]]:
    apsw = pytest.importorskip("apsw")
    connection = apsw.Connection(str(tmp_path / "their.db"))
    yield f"sqlite://{tmp_path}/their.db/", connection
    connection.close()


def test_plain_tables_are_read_without_the_extension(sqlite: tuple[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A table as the command-line tool `llm` and many programs keep it: float32 BLOBs beside text."""
    url, connection = sqlite
    monkeypatch.setitem(sys.modules, "sqlite_vec", None)
    connection.execute("CREATE TABLE embeddings (id TEXT PRIMARY KEY, embedding BLOB, content TEXT, image BLOB, n REAL)")
    for i, row in enumerate(cloud(20)):
        connection.execute(
            "INSERT INTO embeddings VALUES (?, ?, ?, ?, ?)", (f"id é {i}", row.tobytes(), f"text {i}", PNG, i / 2)
        )
    told = open_collection(url + "embeddings").describe()
    assert (told.rows, told.dim, told.dtype, told.id_type, told.metric) == (20, 4, "float32", "text", None)
    assert set(told.payload) == {"content", "image", "n"}
    space = open_collection(url + "embeddings").load()
    assert np.array_equal(space.array(), cloud(20)) and ids(space) == [f"id é {i}" for i in range(20)]
    assert documents(space)[3] == {"content": "text 3", "image": PNG, "n": 1.5}
    open_collection(url + "embeddings").upsert(
        Space.of(-cloud(2), ["id é 19", "new"], [{"content": "changed"}, {"content": "new"}])
    )
    after = open_collection(url + "embeddings").load()
    assert len(after) == 21 and np.array_equal(after.array()[19:], -cloud(2))
    with pytest.raises(StoreError, match="has no column for the payload 'author'"):
        open_collection(url + "embeddings").upsert(Space.of(cloud(1), ["z"], [{"author": "me"}]))


def test_vec0_tables_that_others_made_are_read_with_metadata(sqlite: tuple[str, Any]) -> None:
    url, connection = sqlite
    sqlite_vec = pytest.importorskip("sqlite_vec")
    connection.enable_load_extension(True)
    connection.load_extension(sqlite_vec.loadable_path())
    connection.execute(
        "CREATE VIRTUAL TABLE docs USING vec0(user integer partition key, a float[4] distance_metric=cosine, b int8[3],"
        " genre text, +note text)"
    )
    for i, row in enumerate(cloud(6)):
        connection.execute(
            "INSERT INTO docs(user, a, b, genre, note) VALUES (?, ?, vec_int8(?), ?, ?)",
            (i % 2, row.tobytes(), bytes([1, 2, i + 1]), "g", f"n{i}"),
        )
    with pytest.raises(StoreError, match="holds several vectors a row: a, b"):
        open_collection(url + "docs").load()
    told = open_collection(url + "docs?column=a").describe()
    assert (told.metric, told.dim, told.named, set(told.payload)) == ("cosine", 4, ("a", "b"), {"user", "genre", "note"})
    space = open_collection(url + "docs?column=a").load()
    assert np.array_equal(space.array(), cloud(6)) and ids(space) == [1, 2, 3, 4, 5, 6]
    assert documents(space)[2] == {"user": 0, "genre": "g", "note": "n2"}
    assert open_collection(url + "docs?column=b").load().array().tolist()[4] == [1, 2, 5]
    with pytest.raises(StoreError, match="several vectors a row, and sqlite-vec wants all"):
        open_collection(url + "docs?column=a&mode=upsert").write([Space.of(cloud(1), [1])])


def test_what_crossvec_writes_can_be_searched_with_sqlite_vec(tmp_path: Path) -> None:
    apsw, sqlite_vec = pytest.importorskip("apsw"), pytest.importorskip("sqlite_vec")
    open_collection(f"sqlite://{tmp_path}/a.db/books").write([Space.of(cloud(50), [f"b{i}" for i in range(50)])])
    connection = apsw.Connection(str(tmp_path / "a.db"))
    connection.enable_load_extension(True)
    connection.load_extension(sqlite_vec.loadable_path())
    found = connection.execute("SELECT id FROM books WHERE embedding MATCH ? AND k = 1", (cloud(50)[17].tobytes(),)).get
    assert found == "b17"
    connection.close()


def test_sqlite_tables_that_cannot_be_read_are_told_why(sqlite: tuple[str, Any]) -> None:
    url, connection = sqlite
    x = cloud(3)
    connection.execute("CREATE TABLE texts (id INTEGER PRIMARY KEY, body TEXT)")
    connection.execute("INSERT INTO texts VALUES (1, 'abcd')")
    connection.execute("CREATE TABLE hollow (id INTEGER PRIMARY KEY, embedding BLOB)")
    connection.execute("CREATE TABLE ragged (id INTEGER PRIMARY KEY, v BLOB)")
    connection.execute("INSERT INTO ragged VALUES (1, ?), (2, ?), (3, NULL)", (x[0].tobytes(), x[1, :3].tobytes()))
    connection.execute("CREATE TABLE twice (name TEXT, v BLOB)")
    connection.execute("INSERT INTO twice VALUES ('a', ?), ('a', ?)", (x[0].tobytes(), x[1].tobytes()))
    connection.execute("CREATE TABLE wide (id INTEGER PRIMARY KEY, v BLOB)")
    connection.execute("INSERT INTO wide VALUES (1, ?)", (x[0].astype("f8").tobytes(),))
    with pytest.raises(StoreError, match="there is no collection") as refused:
        open_collection(url + "text").describe()
    assert "did you mean texts?" in refused.value.hint
    with pytest.raises(StoreError, match="holds no vectors"):
        open_collection(url + "texts").load()
    with pytest.raises(StoreError, match="'body' of .* holds no float32 vectors"):
        open_collection(url + "texts?column=body").load()
    with pytest.raises(StoreError, match="holds no rows, so no dimension"):
        open_collection(url + "hollow").load()
    with pytest.raises(SpaceError, match=r"row 1 .* \(id 2\)|ragged: row 1|no vector"):
        open_collection(url + "ragged").load()
    with pytest.raises(StoreError, match="1 rows whose id others have too"):
        open_collection(url + "twice?id=name").load()
    assert ids(open_collection(url + "twice").load()) == [1, 2]  # the rows' numbers
    with pytest.raises(StoreError, match="no unique column of ids"):
        open_collection(url + "twice").upsert(Space.of(x[:1], [1]))
    assert np.allclose(open_collection(url + "wide?dtype=float64").load().array(), x[:1])
    with pytest.raises(StoreError, match="dtype=float99 is not possible"):
        open_collection(url + "wide?dtype=float99").load()


def test_rows_deleted_while_sqlite_is_read_are_left_out_and_no_others(sqlite: tuple[str, Any]) -> None:
    url, connection = sqlite
    connection.execute("CREATE TABLE t (id TEXT PRIMARY KEY, v BLOB) WITHOUT ROWID")
    for i, row in enumerate(cloud(30)):
        connection.execute("INSERT INTO t VALUES (?, ?)", (f"{i:02}", row.tobytes()))
    pages = open_collection(url + "t").read(7)
    seen = ids(next(pages))
    connection.execute("DELETE FROM t WHERE id IN ('03', '12', '29')")
    seen += [i for page in pages for i in ids(page)]
    assert seen == [f"{i:02}" for i in range(30) if i not in (12, 29)]


# --- DuckDB


@pytest.fixture
def duckdb(tmp_path: Path) -> tuple[str, Any]:
    library = pytest.importorskip("duckdb")

    def run(*statements: str) -> None:
        with library.connect(str(tmp_path / "their.db")) as connection:
            for statement in statements:
                connection.execute(statement)

    return f"duckdb://{tmp_path}/their.db/", run


def test_duckdb_tables_that_others_made_are_read_with_all_their_types(duckdb: tuple[str, Any]) -> None:
    url, run = duckdb
    run(
        'CREATE SCHEMA "my schema"',
        'CREATE TABLE "my schema"."Odd ""Table""" (key UUID PRIMARY KEY, v DOUBLE[2], w FLOAT[], title VARCHAR, day DATE,'
        " tags VARCHAR[], more JSON, n HUGEINT, c0 INTEGER)",
        'INSERT INTO "my schema"."Odd ""Table""" VALUES (\'6ba7b810-9dad-11d1-80b4-00c04fd430c8\', [1, 0.5], [3, 4, 5], NULL,'
        " '2026-11-21', ['é', NULL], '{\"b\": [1, null]}', 7, 1)",
    )
    place = url + 'my%20schema.Odd%20"Table"'
    with pytest.raises(StoreError, match="holds several vectors a row: v, w"):
        open_collection(place).load()
    told = open_collection(place + "?column=v").describe()
    assert (told.dim, told.dtype, told.id_type, told.named) == (2, "float64", "text", ("v", "w"))
    space = open_collection(place + "?column=v").load()
    assert ids(space) == ["6ba7b810-9dad-11d1-80b4-00c04fd430c8"] and space.array().tolist() == [[1, 0.5]]
    (row,) = documents(space)
    assert (row["title"], str(row["day"]), row["tags"], row["more"], int(row["n"])) == (
        None,
        "2026-11-21",
        ["é", None],
        {"b": [1, None]},
        7,
    )
    assert open_collection(place + "?column=w").load().array().tolist() == [[3, 4, 5]]


def test_rows_go_into_the_columns_of_a_duckdb_table_like_theirs(duckdb: tuple[str, Any]) -> None:
    url, run = duckdb
    for name in ("typed", "typed_new"):
        run(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, v FLOAT[2], title VARCHAR, day DATE, more JSON, tags VARCHAR[])")
    run(
        "INSERT INTO typed SELECT i, [i, 1]::FLOAT[2], 'title ' || i, DATE '2026-11-21', '{\"a\": 1}', ['x']"
        " FROM range(1, 21) r(i)"
    )
    assert open_collection(url + "typed_new").write(open_collection(url + "typed").read(6)) == 20
    one, other = open_collection(url + "typed").load(), open_collection(url + "typed_new").load()
    assert documents(one) == documents(other) and np.array_equal(one.array(), other.array()) and ids(one) == ids(other)
    with pytest.raises(StoreError, match="has no column for the payload 'author'"):
        open_collection(url + "typed_new?mode=upsert").write([Space.of(cloud(1, 2), [1], [{"author": "me"}])])


def test_duckdb_tables_that_cannot_be_read_are_told_why(duckdb: tuple[str, Any]) -> None:
    url, run = duckdb
    run(
        "CREATE TABLE keyless AS SELECT [1, 2]::FLOAT[2] AS v UNION ALL SELECT [3, 4]::FLOAT[2]",
        "CREATE TABLE vectorless (id INTEGER PRIMARY KEY, body VARCHAR)",
        "CREATE TABLE gap (id INTEGER PRIMARY KEY, v FLOAT[2])",
        "INSERT INTO gap VALUES (1, [1, 2]), (2, NULL), (3, [3, 4])",
        "CREATE TABLE ragged (id INTEGER PRIMARY KEY, v FLOAT[])",
        "INSERT INTO ragged VALUES (1, [1, 2]), (2, [1, 2, 3])",
        "CREATE TABLE hollow (id INTEGER PRIMARY KEY, v FLOAT[])",
        "CREATE TABLE twice AS SELECT 'a' AS id, [1, 2]::FLOAT[2] AS v FROM range(3)",
    )
    assert open_collection(url + "keyless").load().array().tolist() == [[1, 2], [3, 4]]
    with pytest.raises(StoreError, match="no unique column of ids"):
        open_collection(url + "keyless").upsert(Space.of(cloud(1, 2), [1]))
    with pytest.raises(StoreError, match="holds no vectors"):
        open_collection(url + "vectorless").load()
    with pytest.raises(StoreError, match="has no vector 'body'"):
        open_collection(url + "vectorless?column=body").load()
    with pytest.raises(SpaceError, match=r"row 1 of gap \(id 2\) has no vector 'v'"):
        open_collection(url + "gap").load()
    assert open_collection(url + "gap?bad_rows=drop").load().dropped == (1,)
    with pytest.raises(SpaceError, match="ragged"):
        open_collection(url + "ragged").load()
    with pytest.raises(StoreError, match="holds no rows, and its column v has no dimension"):
        open_collection(url + "hollow").load()
    with pytest.raises(StoreError, match="2 rows whose id others have too"):
        open_collection(url + "twice").load()
    with pytest.raises(StoreError, match="there is no collection") as refused:
        open_collection(url + "gaps").load()
    assert "did you mean gap?" in refused.value.hint


def test_a_duckdb_file_that_another_program_writes_is_told(duckdb: tuple[str, Any], tmp_path: Path) -> None:
    url, run = duckdb
    run("CREATE TABLE t (id INTEGER PRIMARY KEY, v FLOAT[2])")
    holding = (
        f"import duckdb, sys; c = duckdb.connect({str(tmp_path / 'their.db')!r}); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", holding], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"open\n"
        with pytest.raises(StoreError, match="is open elsewhere") as refused:
            open_collection(url + "t").load()
        assert "end the other program" in refused.value.hint
        other.communicate()


# --- FAISS


@pytest.mark.parametrize("kind", ["Flat", "HNSW8", "IVF2,Flat", "IDMap,Flat", "IDMap2,HNSW8"])
def test_indexes_that_others_made_give_back_their_rows(kind: str, tmp_path: Path) -> None:
    faiss = pytest.importorskip("faiss")
    x = cloud(120)
    index = faiss.index_factory(4, kind, faiss.METRIC_INNER_PRODUCT)
    index.train(x)
    numbers = np.arange(120)[::-1] * 3 + 5 if "I" in kind[0] else np.arange(120)
    index.add_with_ids(x, numbers) if "I" in kind[0] else index.add(x)
    faiss.write_index(index, str(tmp_path / "their.index"))
    told = open_collection(f"faiss://{tmp_path}/their.index").describe()
    assert (told.rows, told.dim, told.metric, told.dtype) == (120, 4, "dot", "float32")
    space = open_collection(f"faiss://{tmp_path}/their.index").load()
    assert ids(space) == sorted(numbers.tolist())
    assert np.array_equal(space.array(), x[np.argsort(numbers)])
    if kind in ("IVF2,Flat", "IDMap,Flat"):
        open_collection(f"faiss://{tmp_path}/their.index").upsert(Space.of(-x[:2], [5, 6], [{"a": 1}] * 2))
        after = open_collection(f"faiss://{tmp_path}/their.index").load()
        assert len(after) == 121 and np.array_equal(after.array()[:2], -x[:2]) and documents(after)[2] == {}
    else:
        with pytest.raises(StoreError, match="no rows can be replaced by id"):
            open_collection(f"faiss://{tmp_path}/their.index").upsert(Space.of(x[:1], [5]))


def test_compressed_indexes_come_back_near_and_say_what_they_are(tmp_path: Path) -> None:
    faiss = pytest.importorskip("faiss")
    index = faiss.index_factory(4, "SQ8")
    index.train(cloud(100))
    index.add(cloud(100))
    faiss.write_index(index, str(tmp_path / "sq"))
    told = open_collection(f"faiss://{tmp_path}/sq").describe()
    assert (told.dtype, told.metric) == ("ScalarQuantizer", "euclidean")
    assert np.allclose(open_collection(f"faiss://{tmp_path}/sq").load().array(), cloud(100), atol=0.05)


def test_indexes_that_cannot_be_read_are_told_why(tmp_path: Path) -> None:
    faiss = pytest.importorskip("faiss")
    faiss.write_index_binary(faiss.IndexBinaryFlat(8), str(tmp_path / "bits"))
    index = faiss.IndexIDMap2(faiss.IndexFlatL2(4))
    index.add_with_ids(cloud(3), np.array([1, 2, 2]))
    faiss.write_index(index, str(tmp_path / "twice"))
    with pytest.raises(StoreError, match="is a binary index"):
        open_collection(f"faiss://{tmp_path}/bits").load()
    with pytest.raises(StoreError, match="holds several rows of the id 2"):
        open_collection(f"faiss://{tmp_path}/twice").load()
    with pytest.raises(StoreError, match="there is no collection") as refused:
        open_collection(f"faiss://{tmp_path}/twic").load()
    assert "did you mean twice?" in refused.value.hint


def test_what_crossvec_writes_can_be_searched_with_faiss(tmp_path: Path) -> None:
    faiss = pytest.importorskip("faiss")
    open_collection(f"faiss://{tmp_path}/books").write([Space.of(cloud(50) * 7, list(range(100, 150)))])
    index = faiss.read_index(str(tmp_path / "books"))
    scores, found = index.search(cloud(50) / np.linalg.norm(cloud(50), axis=1, keepdims=True), 1)
    assert found[:, 0].tolist() == list(range(100, 150)) and np.allclose(scores, 1)
    assert open_collection(f"faiss://{tmp_path}/books").describe().normalised is True
    assert np.allclose(open_collection(f"faiss://{tmp_path}/books").load().array(), cloud(50) * 7, rtol=1e-5)


# --- places without a scheme


@pytest.mark.parametrize("scheme", ["datasets", "vdf"])
def test_a_folder_that_is_one_collection_needs_no_scheme(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a folder #1 50%25"
    space = Space.of(cloud(5), list(range(5)), [{"n": i} for i in range(5)])
    open_collection(f"{scheme}://{quote(str(folder))}").write([space])
    monkeypatch.chdir(tmp_path)
    for named in (str(folder), f"{folder.name}/", f"./{folder.name}?rows=0:5", folder):
        read = stores.open(named)
        assert read.describe().format == scheme
        assert np.array_equal(read.load().array(), cloud(5)) and documents(read.load()) == documents(space)
    with pytest.raises(StoreError, match="already holds 5 rows"):
        stores.open(folder).write([space])


@pytest.mark.parametrize("kind", ["chroma", "lancedb", "milvus", "qdrant", "qdrant-edge", "sqlite", "duckdb", "faiss"])
def test_a_place_that_needs_a_scheme_is_told_with_it(kind: str, tmp_path: Path) -> None:
    with servers.running(kind) as database:
        url = database.url.format(name="books")
        open_collection(url).write([Space.of(cloud(3), [0, 1, 2])])
        bare = url.partition("://")[2] if kind in ("qdrant-edge", "faiss") else url.partition("://")[2].rpartition("/")[0]
        with pytest.raises(StoreError, match=r" is a ") as refused:
            stores.open(bare)
        told = refused.value.hint.replace("COLLECTION", "books").replace("TABLE", "books")
        assert url in told.replace(",", "").split()


# --- folders of Hugging Face datasets


def test_saved_datasets_are_read_and_what_is_written_is_loaded(tmp_path: Path) -> None:
    library = pytest.importorskip("datasets")
    library.disable_progress_bars()
    rows = {"id": [f"é{i}" for i in range(20)], "text": ["x" * i for i in range(20)], "tags": [["a", "b"]] * 20}
    kind = library.Features(
        {
            "id": library.Value("string"),
            "text": library.Value("string"),
            "tags": library.List(library.Value("string")),
            "embedding": library.List(library.Value("float32"), length=4),
        }
    )
    made = library.Dataset.from_dict(rows | {"embedding": cloud(20).tolist()}, features=kind)
    made.save_to_disk(str(tmp_path / "theirs"), num_shards=3)
    library.DatasetDict({"train": made}).save_to_disk(str(tmp_path / "splits"))
    space = open_collection(f"datasets://{tmp_path}/theirs").load()
    assert np.array_equal(space.array(), cloud(20)) and ids(space) == rows["id"]
    assert documents(space)[3] == {"text": "xxx", "tags": ["a", "b"]}
    with pytest.raises(StoreError, match="holds several splits: train") as refused:
        open_collection(f"datasets://{tmp_path}/splits").load()
    assert f"datasets://{tmp_path}/splits/train" in refused.value.hint
    assert len(open_collection(f"datasets://{tmp_path}/splits/train").load()) == 20

    open_collection(f"datasets://{tmp_path}/ours").write(space.batches(6))
    ours = library.load_from_disk(str(tmp_path / "ours"))
    assert ours["id"] == made["id"] and ours["text"] == made["text"] and ours["tags"] == made["tags"]
    assert np.array_equal(np.array(ours["vector"], np.float32), cloud(20))
    open_collection(f"datasets://{tmp_path}/theirs").upsert(Space.of(-cloud(1), ["é3"], [{"text": "new", "tags": []}]))
    changed = library.load_from_disk(str(tmp_path / "theirs"))
    assert len(changed) == 20 and changed[3] | {"embedding": None} == {"id": "é3", "text": "new", "tags": [], "embedding": None}
    assert changed.features == made.features


# --- VDF folders


def _exported(folder: Path, **spaces: tuple[str, np.ndarray]) -> None:
    """A folder as vdf-io exports it: written with pandas' types, in files of 4 rows."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    told: list[dict[str, object]] = []
    for space, (place, x) in spaces.items():
        (folder / place).mkdir(parents=True)
        for number, start in enumerate(range(0, len(x), 4), 1):
            part = x[start : start + 4].astype(np.float64)
            table = pa.table(
                {
                    "id": [str(i) for i in range(start, start + len(part))],
                    "vector": part.tolist(),
                    "title": [f"t{i}" for i in range(start, start + len(part))],
                }
            )
            pq.write_table(table, folder / place / f"{number}.parquet")
        told.append(
            {
                "namespace": "" if space == "only" else space,
                "index_name": "books",
                "total_vector_count": len(x),
                "exported_vector_count": len(x),
                "dimensions": 4,
                "model_name": "m",
                "vector_columns": ["vector"],
                "data_path": place,
                "metric": "Dot",
            }
        )
    meta = {"version": "0.1.248", "file_structure": [], "author": "a", "exported_from": "qdrant", "indexes": {"books": told}}
    (folder / "VDF_META.json").write_text(json.dumps(meta | {"exported_at": "2026-01-01", "id_column": "id"}), "utf-8")


def test_exported_folders_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    _exported(tmp_path / "vdf", only=("books_x", cloud(50)))
    told = open_collection(f"vdf://{tmp_path}/vdf").describe()
    assert (told.rows, told.dim, told.metric, told.payload, told.dtype) == (50, 4, "dot", ("title",), "float64")
    space = open_collection(f"vdf://{tmp_path}/vdf").load()
    assert ids(space) == [str(i) for i in range(50)] and np.array_equal(space.array(), cloud(50))
    open_collection(f"vdf://{tmp_path}/vdf").upsert(Space.of(-cloud(2), ["3", "new"], [{"title": "a"}] * 2))
    meta = json.loads((tmp_path / "vdf" / "VDF_META.json").read_text("utf-8"))
    (now,) = meta["indexes"]["books"]
    assert (now["total_vector_count"], now["model_name"], meta["exported_from"]) == (51, "m", "qdrant")
    assert open_collection(f"vdf://{tmp_path}/vdf").load().array()[3].tolist() == (-cloud(1))[0].tolist()


def test_one_of_several_namespaces_is_chosen(tmp_path: Path) -> None:
    _exported(tmp_path / "vdf", a=("x", cloud(3)), b=("y", cloud(5, seed=1)))
    with pytest.raises(StoreError, match="has several namespaces: a, b") as refused:
        open_collection(f"vdf://{tmp_path}/vdf").load()
    assert "namespace=a" in refused.value.hint
    assert np.array_equal(open_collection(f"vdf://{tmp_path}/vdf?namespace=b").load().array(), cloud(5, seed=1))
    with pytest.raises(StoreError, match="has no index 'book'") as refused:
        open_collection(f"vdf://{tmp_path}/vdf?index=book").load()
    assert "did you mean books?" in refused.value.hint
    with pytest.raises(StoreError, match="holds other rows too"):
        open_collection(f"vdf://{tmp_path}/vdf?namespace=a").delete()


def test_a_folder_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    _exported(tmp_path / "vdf", only=("../outside", cloud(3)))
    with pytest.raises(StoreError, match="leads out of its folder"):
        open_collection(f"vdf://{tmp_path}/vdf").load()


def test_what_is_written_says_what_the_format_asks_for(tmp_path: Path) -> None:
    open_collection(f"vdf://{tmp_path}/books?metric=euclidean").write(Space.of(cloud(9), list(range(9))).batches(4))
    meta = json.loads((tmp_path / "books" / "VDF_META.json").read_text("utf-8"))
    assert meta.keys() == {"version", "file_structure", "author", "exported_from", "exported_at", "indexes", "id_column"}
    ((index,),) = meta["indexes"].values()
    assert index == {
        "namespace": "",
        "index_name": "books",
        "total_vector_count": 9,
        "exported_vector_count": 9,
        "dimensions": 4,
        "model_name": "",
        "vector_columns": ["vector"],
        "data_path": "books",
        "metric": "Euclid",
    }
    assert meta["file_structure"] == [f"books/books/{number}.parquet" for number in (1, 2, 3)]
    assert all((tmp_path / path).is_file() for path in meta["file_structure"])


@pytest.mark.parametrize("scheme", ["datasets", "vdf"])
def test_a_cursor_into_a_folder_that_was_written_anew_is_refused(scheme: str, tmp_path: Path) -> None:
    url = f"{scheme}://{tmp_path}/books"
    open_collection(url).write([Space.of(cloud(9), [f"a{i}" for i in range(9)])])
    (_, cursor), *_ = open_collection(url).pages(batch=4)
    open_collection(url).delete()
    open_collection(url).write([Space.of(cloud(9), [f"b{i}" for i in range(9)])])
    with pytest.raises(StoreError, match="row 3 .* is not 'a3' any more") as refused:
        list(open_collection(url).pages(cursor))
    assert "without a cursor" in refused.value.hint


# --- Redis


@pytest.fixture(scope="module")
def redis() -> Iterator[str]:
    with servers.running("redis") as database:
        yield database.url


def test_hashes_that_others_made_are_read(redis: str) -> None:
    store = open_collection(redis.format(name="doc"))
    with store.session() as client:
        for i, row in enumerate(cloud(30)):
            client.hset(f"doc:{i}", mapping={"content": f"é {i}", "vector": row.tobytes(), "raw": b"\xff\xfe\xfd"})
        client.set("doc:count", 30)  # no hash
        client.hset("document:1", mapping={"vector": cloud(1).tobytes()})
    told = store.describe()
    assert (told.rows, told.dim, told.metric, told.id_type, set(told.payload)) == (30, 4, None, "text", {"content", "raw"})
    space = store.load()
    assert ids(space) == sorted(map(str, range(30)))
    assert documents(space)[1] == {"content": "é 1", "raw": b"\xff\xfe\xfd"} or ids(space)[1] != "1"
    assert np.array_equal(space.array()[ids(space).index("17")], cloud(30)[17])
    store.upsert(Space.of(-cloud(1), ["17"], [{"content": "new"}]))
    again = store.load()
    assert len(again) == 30 and documents(again)[ids(again).index("17")] == {"content": "new"}


def test_redis_hashes_that_cannot_be_read_are_told_why(redis: str) -> None:
    store = open_collection(redis.format(name="bad"))
    with store.session() as client:
        client.hset("bad:1", mapping={"content": "text only"})
        with pytest.raises(StoreError, match="holds no vectors"):
            store.load()
        with pytest.raises(StoreError, match="which are no float32 numbers"):
            open_collection(redis.format(name="bad") + "?column=content").load()
        client.hset("bad:1", mapping={"v": cloud(1).tobytes()})
        client.hset("bad:2", mapping={"v": cloud(1, 3).tobytes()})
        with pytest.raises(SpaceError, match="ragged"):
            store.load()
        client.hset("bad:2", mapping={"v": cloud(1).tobytes()[:-1]})
        with pytest.raises(StoreError, match="holds no vectors|are no float32 numbers"):
            store.load()
        client.delete("bad:2")
        client.hset("bad:3", mapping={"content": "no vector"})
        with pytest.raises(SpaceError, match=r"row 1 of bad \(id '3'\) has no vector 'v'"):
            store.load()
        assert open_collection(redis.format(name="bad") + "?bad_rows=drop").load().dropped == (1,)


def test_numbers_of_another_type_are_read_as_they_were_written(redis: str) -> None:
    store = open_collection(redis.format(name="wide") + "?dtype=float64")
    store.write([Space.of(cloud(5), list(range(5)))])
    assert open_collection(redis.format(name="wide")).describe().dtype == "float64"
    assert np.array_equal(open_collection(redis.format(name="wide")).load().array(), cloud(5))


def test_prefixes_with_signs_of_patterns_are_taken_as_they_are(redis: str) -> None:
    for name in ("a*", "ab", "a[bc]"):
        open_collection(redis.format(name=name.replace("[", "%5B").replace("]", "%5D"))).write([Space.of(cloud(2), [1, 2])])
    assert open_collection(redis.format(name="a*")).count() == 2


def test_a_redis_password_comes_from_the_environment_and_shows_nowhere(redis: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = importlib.import_module("redis").Redis(port=int(redis.rpartition(":")[2].partition("/")[0]))
    client.config_set("requirepass", "hunter2")
    try:
        with pytest.raises(StoreError, match="asks for a password") as refused:
            open_collection(redis.format(name="secret")).describe()
        assert refused.value.hint == "set REDIS_PASSWORD"
        monkeypatch.setenv("REDIS_PASSWORD", "hunter3")
        with pytest.raises(StoreError, match="asks for a password") as refused:
            open_collection(redis.format(name="secret")).describe()
        assert "hunter3" not in str(refused.value)
        monkeypatch.setenv("REDIS_PASSWORD", "hunter2")
        assert open_collection(redis.format(name="secret")).write([Space.of(cloud(1), [1])]) == 1
        user = redis.replace("redis://", "redis://default@")  # on this machine a user changes nothing: there is no TLS
        assert open_collection(user.format(name="secret")).count() == 1
    finally:
        client.config_set("requirepass", "")
        client.close()


def test_a_redis_that_does_not_answer_is_told() -> None:
    pytest.importorskip("redis")
    with pytest.raises(StoreError, match="cannot be reached") as refused:
        open_collection("redis://127.0.0.1:1/books").describe()
    assert "running there?" in refused.value.hint


# --- SQLite: written to while it is read


def vec0_table(sqlite: tuple[str, Any], columns: str, cast: str = "?") -> Any:
    """Return the connection to a table of sqlite-vec with the rows c, a and b, made as another program makes it."""
    _, connection = sqlite
    connection.enable_load_extension(True)
    connection.load_extension(pytest.importorskip("sqlite_vec").loadable_path())
    connection.execute(f"CREATE VIRTUAL TABLE t USING vec0(id text primary key, {columns})")
    for i, key in enumerate("cab"):
        row = np.eye(3, dtype=np.int8 if cast != "?" else np.float32)[i].tobytes()
        connection.execute(f"INSERT INTO t(id, v, kind) VALUES (?, {cast}, ?)", (key, row, f"kind {i}"))
    return connection


def upserted_into_itself(url: str) -> list[object]:
    """Return the ids that were read while each row was upserted as soon as it was read; at most twelve."""
    seen = []
    for space in open_collection(url).read(1):
        open_collection(url + "?mode=upsert").upsert(space)
        seen += ids(space)
        if len(seen) == 12:
            break
    return seen


def test_a_sqlite_table_that_is_upserted_into_itself_while_it_is_read_is_read_once(tmp_path: Path) -> None:
    pytest.importorskip("apsw"), pytest.importorskip("sqlite_vec")
    url = f"sqlite://{tmp_path}/q.db/t"
    payload = {"title": ["é", None, "x"]}
    open_collection(url).write([Space.of(np.eye(3, dtype=np.float32), ["c", "a", "b"], payload)])
    assert upserted_into_itself(url) == ["c", "a", "b"]
    moved = (Space.of(-space.array(), space.ids, space.payload) for space in open_collection(url).read(2))
    assert open_collection(url + "?mode=upsert").write(moved) == 3
    after = open_collection(url).load()
    assert np.array_equal(after.array(), -np.eye(3)) and ids(after) == ["c", "a", "b"] and dict(after.columns) == payload


def test_rows_that_another_process_upserts_while_a_sqlite_table_is_read_are_read_once(tmp_path: Path) -> None:
    pytest.importorskip("apsw"), pytest.importorskip("sqlite_vec")
    url = f"sqlite://{tmp_path}/q.db/t"
    open_collection(url).write([Space.of(cloud(9), [f"b{i}" for i in range(9)])])
    pages = open_collection(url).pages(batch=4)
    first, cursor = next(pages)
    code = (
        "import sys, numpy as np; from crossvec import stores; from crossvec.space import Space;"
        "stores.open(sys.argv[1]).upsert(Space.of(np.ones((10, 4), np.float32), [f'b{i}' for i in range(10)]))"
    )
    subprocess.run([sys.executable, "-c", code, url], check=True)
    wanted = [f"b{i}" for i in range(9)]
    assert ids(first) + [i for space, _ in pages for i in ids(space)] == [*wanted, "b9"]  # b9 was added meanwhile
    resumed = [i for space, _ in open_collection(url).pages(cursor) for i in ids(space)]
    assert ids(first) + resumed == [*wanted, "b9"]


@pytest.mark.parametrize(
    ("columns", "cast", "order"),
    [
        ("v float[3] distance_metric=cosine, kind text", "?", "cab"),
        ("v float[3], +kind text", "?", "cab"),
        ("v int8[3], kind text", "vec_int8(?)", "abc"),
        ("kind text partition key, v float[3]", "?", "abc"),
    ],
    ids=["metadata", "auxiliary", "int8", "partitioned"],
)
def test_sqlite_tables_that_others_made_are_read_once_while_they_are_upserted(
    sqlite: tuple[str, Any], columns: str, cast: str, order: str
) -> None:
    connection, url = vec0_table(sqlite, columns, cast), sqlite[0] + "t"
    assert upserted_into_itself(url) == list(order)
    changed = Space.of(np.eye(3, dtype=np.float32)[::-1], ["b", "c", "d"], {"kind": ["a longer kind than before", "new", "d"]})
    assert open_collection(url + "?mode=upsert").write([changed]) == 3
    after = open_collection(url).load()
    found = {i: (row.tolist(), kind) for i, row, kind in zip(ids(after), after.array(), after.columns["kind"], strict=True)}
    assert found == {
        "a": ([0, 1, 0], "kind 1"),
        "b": ([0, 0, 1], "a longer kind than before"),
        "c": ([0, 1, 0], "new"),
        "d": ([1, 0, 0], "d"),
    }
    assert connection.execute("SELECT count(*) FROM t").get == 4
