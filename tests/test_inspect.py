"""test_inspect — what `crossvec inspect` tells of a database: what it says of itself, and what a bounded sample shows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import servers
from conftest import Run

from crossvec import stores
from crossvec.space import Space
from crossvec.stores import sampling
from crossvec.stores.collection import Collection

CLIENTS = {
    "sqlite": ("apsw", "sqlite_vec"),
    "duckdb": ("duckdb",),
    "qdrant": ("qdrant_client",),
    "qdrant-edge": ("qdrant_edge",),
}
INSIDE = {"sqlite": "file.db/books", "duckdb": "file.db/books", "qdrant": "local/books", "qdrant-edge": "edge"}
ROWS, DIM = 140, 6


@pytest.fixture(params=CLIENTS)
def books(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database with rows of other lengths than 1, ids and payload."""
    for module in CLIENTS[request.param]:
        pytest.importorskip(module)
    with servers.folder("inspect") as folder:
        url = f"{request.param}://{folder}/{INSIDE[request.param]}"
        stores.open(f"{url}?metric=euclidean").write([cloud(ROWS)])
        yield url


def cloud(rows: int) -> Space:
    x = 3 * np.random.default_rng(0).standard_normal((rows, DIM)).astype(np.float32)
    return Space.of(x, list(range(100, 100 + rows)), {"title": [f"Title {i}" for i in range(rows)]})


def test_it_tells_what_a_database_says_of_itself(crossvec: Run, books: str) -> None:
    code, out, _ = crossvec("inspect", books, "--format", "json")
    told = json.loads(out)
    assert (code, told["store"], told["rows"], told["dim"]) == (0, books, ROWS, DIM)
    assert (told["metric"], told["normalised"], told["payload"]) == ("euclidean", False, ["title"])
    assert told["ids"] and told["id_type"] in ("integer", None) and told["exact"]
    assert told["scanned"] == ROWS and not told["unit_norm"]
    code, out, _ = crossvec("inspect", books)
    assert code == 0
    for word in ("euclidean", "scales rows to unit length", "title", "ids", f"measured on {ROWS} rows"):
        assert word in out


def test_no_more_vectors_are_read_than_were_asked_for(crossvec: Run, books: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, read = type(stores.open(books)), []
    whole = kind._page

    def counted(self: Any, client: Any, layout: Any, after: Any, limit: int, vectors: bool) -> Any:
        page = whole(self, client, layout, after, limit, vectors)
        read.append(len(page.keys) * vectors)
        return page

    monkeypatch.setattr(kind, "_page", counted)
    code, out, _ = crossvec("inspect", books, "--sample", 20, "--format", "json")
    told = json.loads(out)
    assert (code, told["rows"], told["scanned"], sum(read)) == (0, ROWS, 20, 20)
    assert f"sample of 20 of {ROWS} rows" in told["notes"][0]


def test_a_sample_comes_from_beginning_middle_and_end_and_a_slice_bounds_it(books: str) -> None:
    store = stores.open(f"{books}?rows=10:130")
    assert isinstance(store, Collection)
    numbers = np.asarray(sampling.drawn(store, 120, 20).numbers)
    assert (len(numbers), numbers[0], numbers[-1]) == (20, 10, 129)
    assert np.diff(numbers).max() < 10
    whole = sampling.drawn(store, 120, 120)
    assert list(whole.numbers) == list(range(10, 130))


def test_the_database_is_looked_at_once_however_many_places_rows_are_taken_from(
    books: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, looks = stores.open(books), []
    kind = type(store)
    look = kind._look
    monkeypatch.setattr(kind, "_look", lambda self, client: looks.append(self) or look(self, client))
    assert len(sampling.drawn(store, ROWS, 20)) == 20
    assert len(looks) == 1


def test_what_cannot_be_measured_is_told_and_the_rest_is_not_lost(crossvec: Run, books: str) -> None:
    code, out, _ = crossvec("inspect", f"{books}?rows=3:4", "--format", "json")
    assert (code, json.loads(out)["rows"], "norms" in json.loads(out)) == (0, 1, False)
    assert "nothing to measure" in crossvec("inspect", f"{books}?rows=3:4")[1]


def test_rows_without_a_vector_are_counted_and_do_not_hide_the_others(crossvec: Run, tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect(str(tmp_path / "file.db")) as client:
        client.execute("create table books (id integer primary key, vector float[2])")
        client.executemany("insert into books values (?, ?)", [(i, None if i == 5 else [i, 1.0]) for i in range(40)])
    code, out, err = crossvec("inspect", f"duckdb://{tmp_path}/file.db/books", "--format", "json")
    told = json.loads(out)
    assert (code, told["rows"], told["scanned"]) == (0, 40, 39)
    assert "1 bad row: 5" in err


def test_the_vectors_of_a_row_are_named(crossvec: Run, tmp_path: Path) -> None:
    client = pytest.importorskip("qdrant_client")
    models = client.models
    with servers.folder("named") as folder:
        made = client.QdrantClient(path=str(folder))
        vectors = {
            name: models.VectorParams(size=size, distance=models.Distance.DOT) for name, size in {"text": 3, "image": 5}.items()
        }
        made.create_collection("books", vectors_config=vectors)
        row = {"text": [1.0, 2, 3], "image": [1.0, 2, 3, 4, 5]}
        made.upsert("books", [models.PointStruct(id=i, vector=row) for i in range(3)])
        made.close()
        code, _, err = crossvec("inspect", f"qdrant://{folder}/books")
        assert code == 2 and "column=image" in err
        code, out, _ = crossvec("inspect", f"qdrant://{folder}/books?column=image", "--format", "json")
        assert (code, sorted(json.loads(out)["named"]), json.loads(out)["dim"]) == (0, ["image", "text"], 5)
