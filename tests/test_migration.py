"""test_migration — a migrated store holds every row once, with its payload, and says how good it is."""

from __future__ import annotations

import gzip
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import servers
import torch
from conftest import World, make_world, orthonormal

from crossvec import stores
from crossvec.errors import SpaceError, StoreError, TranslatorError, UnfinishedError, UsageError
from crossvec.fitting import fit
from crossvec.migration import Evidence, migrate, origin, plan
from crossvec.migration.gate import judge, neighbours, retention
from crossvec.migration.journal import Journal, fingerprint
from crossvec.migration.learning import Truth
from crossvec.migration.plan import Probe
from crossvec.migration.reading import digest, pages, sample
from crossvec.space import Space, python_values
from crossvec.stores.collection import Collection
from crossvec.stores.documents import columns, documents
from crossvec.stores.files import FileStore
from crossvec.stores.pgvector import PgvectorTable
from crossvec.stores.sampling import tolerant
from crossvec.translator import Translator

N = 200
REAL = ["pgvector", "qdrant", "qdrant-edge", "lancedb"]


@pytest.fixture(scope="module")
def worlds() -> World:
    """Row i of x and of y are one text; one cloud without clusters, as a store of one kind of text is."""
    return make_world(n=1000, m=1000, paired=True, clusters=1, noise=0.05, seed=3)


@pytest.fixture(scope="module")
def translator(worlds: World) -> Translator:
    """Fitted with pairs on rows that no test moves."""
    pairs = np.stack([np.arange(500)] * 2, axis=1)
    return fit(Space.of(worlds.x[:500]), Space.of(worlds.y[:500]), "ridge", pairs=pairs)


@pytest.fixture(scope="module", params=REAL)
def database(request: pytest.FixtureRequest) -> Iterator[servers.Database]:
    """A real database."""
    with servers.running(request.param) as running:
        yield running


numbers = itertools.count()


def place(database: servers.Database) -> str:
    """A name for a collection that nobody has used."""
    return database.url.format(name=f"m{next(numbers)}")


def rows(worlds: World, n: int = N) -> Space:
    """Rows with ids of text and payload of every kind, some of it missing."""
    payload: list[dict[str, Any]] = [
        {"title": f"Größe {i} 😀\n", "year": 1900 + i, "score": i / 3, "tags": ["a", str(i)], "more": {"deep": [None, i]}}
        for i in range(n)
    ]
    for i in range(0, n, 7):
        del payload[i]["year"]
    for i in range(0, n, 11):
        payload[i]["title"] = None
    return Space.of(worlds.x[500 : 500 + n], [f"id {i}" for i in range(n)], columns(payload))


def by_id(url: str) -> dict[int | str, tuple[np.ndarray, dict[str, Any]]]:
    space = stores.open(url).load()
    told = zip(space.array(), documents(space), strict=True)
    return dict(zip(python_values(space.ids_or_numbers()), told, strict=True))


def moved(source: str, dest: str, translator: Translator, journal: Path, **more: Any) -> Any:
    place, there = stores.open(source), stores.open(dest)
    planned = plan(place, there, Evidence(translator, **more.pop("evidence", {})), journal=Journal.load(journal), **more)
    return migrate(place, there, planned, journal, batch=32)


def changed(url: str, *queries: str) -> None:
    """Change a table of PostgreSQL, `{table}`, as any other program may."""
    store = stores.open(url)
    assert isinstance(store, PgvectorTable)
    with store.session() as client:
        for query in queries:
            client.execute(query.format(table=store.table))


def assert_moved(source: str, dest: str, translator: Translator) -> None:
    """Every row of the source is there once, translated, with its payload."""
    old, new = by_id(source), by_id(dest)
    assert set(old) == set(new)
    for key, (vector, document) in old.items():
        expected = translator.translate(vector[None])[0]
        assert np.allclose(new[key][0], expected, atol=1e-4 * np.linalg.norm(expected)), key
        assert digest(new[key][1]) == digest(document), key


# Whole rows arrive


def test_a_database_moves_into_a_new_one_with_ids_and_payload(
    database: servers.Database, worlds: World, translator: Translator, tmp_path: Path
) -> None:
    source, dest = place(database), place(database)
    stores.open(source).write([rows(worlds)])
    outcome = moved(source, dest, translator, tmp_path / "j.json")
    assert outcome.verification.good, outcome.verification
    assert (outcome.journal.rows_read, outcome.journal.rows_written, outcome.journal.skipped) == (N, N, [])
    assert outcome.verification.compared == N and outcome.verification.ids_equal
    assert_moved(source, dest, translator)
    assert stores.open(dest).describe().metric == stores.open(source).describe().metric


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".arrow"])
def test_a_file_moves_into_a_database_and_back_into_a_file(
    pgvector: servers.Database, worlds: World, translator: Translator, tmp_path: Path, suffix: str
) -> None:
    source, middle, back = str(tmp_path / f"old{suffix}"), place(pgvector), str(tmp_path / f"new{suffix}")
    stores.open(source).write([rows(worlds)])
    assert moved(source, middle, translator, tmp_path / "one.json").verification.good
    assert_moved(source, middle, translator)
    assert moved(source, back, translator, tmp_path / "two.json").verification.good
    assert_moved(source, back, translator)


def test_rows_without_ids_are_found_again_by_their_place(worlds: World, translator: Translator, tmp_path: Path) -> None:
    x = worlds.x[500:600].copy()
    x[[3, 50]] = np.nan
    np.save(tmp_path / "old.npy", x)
    outcome = moved(f"{tmp_path}/old.npy?rows=2:90", f"{tmp_path}/new.npy", translator, tmp_path / "j.json")
    assert outcome.verification.good and outcome.verification.compared == 86
    assert [(skip["row"], skip["id"]) for skip in outcome.journal.skipped] == [(3, None), (50, None)]
    assert outcome.notes == ()
    kept = np.delete(x[2:90], [1, 48], axis=0)
    assert np.allclose(np.load(tmp_path / "new.npy"), translator.translate(kept), atol=1e-5)


def test_a_payload_of_a_megabyte_and_one_of_nothing_arrive(
    database: servers.Database, worlds: World, translator: Translator, tmp_path: Path
) -> None:
    source, dest = place(database), place(database)
    payload = [{"text": "é€😀x" * 100_000}] + [{} for _ in range(49)]
    stores.open(source).write([Space.of(worlds.x[500:550], list(range(50)), columns(payload))])
    outcome = moved(source, dest, translator, tmp_path / "j.json")
    assert outcome.verification.good
    assert_moved(source, dest, translator)


def test_what_is_left_out_is_counted_and_listed(
    pgvector: servers.Database, worlds: World, translator: Translator, tmp_path: Path
) -> None:
    source, dest = place(pgvector), place(pgvector)
    stores.open(source).write([Space.of(worlds.x[500:600], list(range(100)))])
    changed(
        source,
        "ALTER TABLE {table} ALTER embedding DROP NOT NULL",
        "UPDATE {table} SET embedding = NULL WHERE id IN (7, 70)",
        "UPDATE {table} SET embedding = array_fill(0, ARRAY[24])::vector WHERE id = 99",
    )
    outcome = moved(source, dest, translator, tmp_path / "j.json")
    assert (outcome.journal.rows_read, outcome.journal.rows_written, outcome.journal.skipped_rows) == (100, 97, 3)
    assert [(skip["row"], skip["id"]) for skip in outcome.journal.skipped] == [(7, 7), (70, 70), (99, 99)]
    assert "left out, by id: 7, 70, 99 (no vector" in outcome.notes[0]
    assert all("no vector" in skip["reason"] for skip in outcome.journal.skipped)
    assert outcome.verification.good
    assert set(by_id(dest)) == set(range(100)) - {7, 70, 99}


def test_rows_deleted_while_they_are_read_are_told_and_nothing_else_is_lost(
    database: servers.Database, worlds: World, translator: Translator, tmp_path: Path
) -> None:
    source, dest = place(database), place(database)
    place_, there = stores.open(source), stores.open(dest)
    assert isinstance(place_, Collection)
    place_.write([Space.of(worlds.x[500:800], list(range(300)))])
    planned = plan(place_, there, Evidence(translator))
    gone: list[int] = []

    def deleting(_doing: str, fraction: float) -> None:
        if fraction and not gone:
            gone.extend(range(200, 230))
            with place_.session() as client:
                assert database.remove
                database.remove(place_, client, gone)

    outcome = migrate(place_, there, planned, tmp_path / "j.json", batch=100, progress=deleting)
    assert gone and outcome.verification.lost == 0 and outcome.verification.good
    assert outcome.verification.gone + outcome.journal.rows_written >= 300
    assert set(by_id(dest)) >= set(range(300)) - set(gone)
    if outcome.journal.rows_read == 270:
        assert "deleted meanwhile" in outcome.notes[-1]


# It can be stopped anywhere


class Stopped(Exception):
    """The end of a process, for tests."""


@pytest.mark.parametrize(("after", "written"), [(0, False), (2, True), (6, False)])
def test_it_goes_on_where_it_stopped(
    database: servers.Database,
    worlds: World,
    translator: Translator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    after: int,
    written: bool,
) -> None:
    source, dest, path = place(database), place(database), tmp_path / "j.json"
    stores.open(source).write([rows(worlds)])
    place_, there = stores.open(source), stores.open(dest)
    planned = plan(place_, there, Evidence(translator))
    saved, calls = Journal.save, itertools.count()

    def stopping(self: Journal, where: Path) -> None:
        if written:
            saved(self, where)
        if self.rows_written and next(calls) == after:
            raise Stopped
        if not written:
            saved(self, where)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "save", stopping)
        with pytest.raises(Stopped):
            migrate(place_, there, planned, path, batch=32)
    held = Journal.load(path)
    assert held is not None and held.state == "writing"
    outcome = moved(source, dest, translator, path)
    assert outcome.resumed == held.rows_written == min(N, 32 * (after + written))
    assert outcome.journal.rows_read == outcome.journal.rows_written == N
    assert outcome.verification.good and outcome.verification.ids_equal
    assert_moved(source, dest, translator)


def test_a_store_that_fails_in_the_middle_is_unfinished_and_goes_on(
    pgvector: servers.Database, worlds: World, translator: Translator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, dest, path = place(pgvector), place(pgvector), tmp_path / "j.json"
    stores.open(source).write([rows(worlds)])
    there = stores.open(dest)
    assert isinstance(there, Collection)

    def cut(_doing: str, fraction: float) -> None:
        if fraction > 0.3:  # the server ends our connections, as it does when it is restarted
            changed(
                source,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'crossvec' AND pid <> pg_backend_pid()",
            )

    planned = plan(stores.open(source), there, Evidence(translator))
    with pytest.raises(UnfinishedError, match="rows are in") as refused:
        migrate(stores.open(source), there, planned, path, batch=32, progress=cut)
    assert "run the same line again" in refused.value.hint
    assert moved(source, dest, translator, path).resumed > 0
    assert_moved(source, dest, translator)


def test_an_interruption_says_what_is_there_and_how_to_go_on(
    pgvector: servers.Database, worlds: World, translator: Translator, tmp_path: Path
) -> None:
    source, dest, path = place(pgvector), place(pgvector), tmp_path / "j.json"
    stores.open(source).write([rows(worlds)])

    def interrupt(_doing: str, fraction: float) -> None:
        if fraction > 0.3:
            raise KeyboardInterrupt

    place_, there = stores.open(source), stores.open(dest)
    planned = plan(place_, there, Evidence(translator))
    with pytest.raises(UnfinishedError, match=r"interrupted; 64 rows are in"):
        migrate(place_, there, planned, path, batch=32, progress=interrupt)


def test_running_it_again_checks_again_and_writes_nothing(
    pgvector: servers.Database, worlds: World, translator: Translator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, dest, path = place(pgvector), place(pgvector), tmp_path / "j.json"
    stores.open(source).write([rows(worlds)])
    first = moved(source, dest, translator, path)
    with monkeypatch.context() as patch:
        patch.setattr(Collection, "upsert", lambda *_: pytest.fail("nothing is left to write"))
        again = moved(source, dest, translator, path)
    assert again.verification == first.verification and again.scores == first.scores


def test_another_translator_does_not_go_on_with_a_migration(
    pgvector: servers.Database, worlds: World, translator: Translator, tmp_path: Path
) -> None:
    source, dest, path = place(pgvector), place(pgvector), tmp_path / "j.json"
    stores.open(source).write([rows(worlds)])
    moved(source, dest, translator, path)
    pairs = np.stack([np.arange(300)] * 2, axis=1)
    other = fit(Space.of(worlds.x[:500]), Space.of(worlds.y[:500]), "ridge", pairs=pairs)
    assert fingerprint(other) != fingerprint(translator)
    with pytest.raises(UsageError, match="two in one store would mix spaces"):
        moved(source, dest, other, path)


def test_a_saved_translator_is_the_same_translator(translator: Translator, tmp_path: Path) -> None:
    translator.save(tmp_path / "t")
    assert fingerprint(Translator.load(tmp_path / "t")) == fingerprint(translator)


def test_a_file_that_changed_is_not_gone_on_with(worlds: World, translator: Translator, tmp_path: Path) -> None:
    np.save(tmp_path / "old.npy", worlds.x[:200])
    told = stores.open(f"{tmp_path}/old.npy").describe()
    begun = Journal("a", "b", "t", cursor="100", rows_read=100, rows_written=100, source_size=told.size)
    begun.save(tmp_path / "j.json")
    held = Journal.load(tmp_path / "j.json")
    assert held == begun
    with pytest.raises(UsageError, match="has changed since 100"):
        held.check(tmp_path / "j.json", Journal("a", "b", "t", source_size=7))


def test_a_journal_that_is_none_is_refused(tmp_path: Path) -> None:
    for text in ("{", "[]", "{}", json.dumps({"version": 1, "what": 2})):
        (tmp_path / "j.json").write_text(text)
        with pytest.raises(UsageError, match="not the journal"):
            Journal.load(tmp_path / "j.json")
    assert Journal.load(tmp_path / "none.json") is None


def test_what_was_changed_afterwards_is_found(
    pgvector: servers.Database, worlds: World, translator: Translator, tmp_path: Path
) -> None:
    """Verification is no formality: a row lost, one replaced, a payload changed, a vector moved; each is told."""
    source, dest, path = place(pgvector), place(pgvector), tmp_path / "j.json"
    stores.open(source).write([rows(worlds)])
    assert moved(source, dest, translator, path).verification.good
    spoiled = {
        "payload_differ": "UPDATE {table} SET payload = payload - 'title' WHERE id = 'id 3'",
        "vectors_differ": "UPDATE {table} SET embedding = embedding * embedding WHERE id = 'id 8'",
        "lost": "DELETE FROM {table} WHERE id = 'id 1'",
    }
    for field, query in spoiled.items():
        changed(dest, query)
        outcome = moved(source, dest, translator, path)
        assert getattr(outcome.verification, field) == 1
        assert not outcome.verification.good and outcome.gate == "FAIL"
    assert outcome.verification.ids_equal is False


# What is refused


def test_an_empty_collection_is_nothing_to_migrate(database: servers.Database, translator: Translator, tmp_path: Path) -> None:
    source = place(database)
    stores.open(source).write([Space.of(np.empty((0, 24), np.float32))])
    with pytest.raises(SpaceError, match="holds no rows"):
        moved(source, place(database), translator, tmp_path / "j.json")


def test_a_store_that_holds_rows_is_not_written_to(
    database: servers.Database, worlds: World, translator: Translator, tmp_path: Path
) -> None:
    source, dest = place(database), place(database)
    stores.open(source).write([rows(worlds)])
    stores.open(dest).write([Space.of(worlds.y[:3])])
    with pytest.raises(StoreError, match="already holds 3 rows"):
        moved(source, dest, translator, tmp_path / "j.json")
    with pytest.raises(UsageError, match="never in place"):
        moved(source, source, translator, tmp_path / "j.json")
    assert len(by_id(dest)) == 3


def test_a_store_under_another_name_is_known_as_the_source(worlds: World, translator: Translator, tmp_path: Path) -> None:
    """Added to itself, with as many dimensions, a collection would hold two models' rows."""
    lancedb = pytest.importorskip("lancedb")
    assert lancedb
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    source = f"lancedb://{tmp_path}/data/books"
    stores.open(source).write([rows(worlds)])
    for name in ("link/books?mode=upsert", "data/../link/books?mode=upsert"):
        for taken in (source, f"{source}?rows=50:100"):
            with pytest.raises(UsageError, match="never in place"):
                moved(taken, f"lancedb://{tmp_path}/{name}", translator, tmp_path / "j.json")
    stores.open(f"lancedb://{tmp_path}/data/new").write([Space.of(worlds.y[:3], ["a", "b", "c"])])
    added = moved(source, f"lancedb://{tmp_path}/data/new?mode=upsert", translator, tmp_path / "j.json")
    assert added.verification.good and added.verification.rows == N + 3


@pytest.mark.parametrize("scheme", ["duckdb", "sqlite", "chroma", "lancedb"])
def test_a_database_by_another_spelling_is_known_as_the_source(
    worlds: World, translator: Translator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """Who is told that it holds rows deletes it, and has deleted the source."""
    pytest.importorskip({"sqlite": "apsw", "chroma": "chromadb"}.get(scheme, scheme))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    inside = "file.db/docs" if scheme in ("duckdb", "sqlite") else "db/docs"
    source = f"{scheme}://{tmp_path}/data/{inside}"
    stores.open(source).write([rows(worlds, 30)])
    for other in (f"./data/{inside}", f"{tmp_path}/link/../data/{inside}", f"{tmp_path}/link/{inside}"):
        for taken in (source, f"{source}?rows=5:20"):
            with pytest.raises(UsageError, match="is the source itself.*never in place") as refused:
                moved(taken, f"{scheme}://{other}", translator, tmp_path / "j.json")
            assert "delete" not in refused.value.hint and "upsert" not in refused.value.hint
    assert len(by_id(source)) == 30


def test_a_duckdb_table_is_one_by_any_case_of_its_name(worlds: World, translator: Translator, tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    source = f"duckdb://{tmp_path}/file.db/Docs"
    stores.open(source).write([rows(worlds, 30)])
    assert by_id(f"duckdb://{tmp_path}/file.db/MAIN.DOCS").keys() == by_id(source).keys()
    with pytest.raises(UsageError, match="never in place"):
        moved(source, f"duckdb://{tmp_path}/file.db/DOCS", translator, tmp_path / "j.json")
    for name in ("É", "é"):  # two tables, to DuckDB
        stores.open(f"duckdb://{tmp_path}/file.db/{name}").write([rows(worlds, 3)])
    assert len(by_id(f"duckdb://{tmp_path}/file.db/é")) == 3


def test_a_duckdb_address_without_a_table_is_told_to_name_one(
    worlds: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("duckdb")
    monkeypatch.chdir(tmp_path)
    stores.open("duckdb://./app.duckdb/docs").write([rows(worlds, 3)])
    for place in ("./app.duckdb", f"{tmp_path}/app.duckdb"):
        with pytest.raises(StoreError, match="names no table") as refused:
            stores.open(f"duckdb://{place}").describe()
        assert refused.value.hint == f"write duckdb://{place}/TABLE"


def test_the_alias_that_applications_ask_is_pointed_at_the_new_collection(
    worlds: World, translator: Translator, tmp_path: Path
) -> None:
    """The switch of docs/migrate.md, in one step and back; what is behind an alias is described and read by it."""
    client = pytest.importorskip("qdrant_client")
    old, new, alias = (f"qdrant://{tmp_path}/db/{name}" for name in ("books_v1", "books_v2", "books"))
    stores.open(old).write([Space.of(worlds.x[500:550], list(range(50)))])

    def point(name: str) -> None:
        models, here = client.models, client.QdrantClient(path=str(tmp_path / "db"))
        gone = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name="books"))
        made = models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name=name, alias_name="books"))
        here.update_collection_aliases([gone, made])
        here.close()

    point("books_v1")
    assert moved(alias, new, translator, tmp_path / "j.json").verification.good
    assert_moved(old, new, translator)
    point("books_v2")
    assert stores.open(alias).describe().dim == translator.target.dim
    assert np.array_equal(by_id(alias)[7][0], by_id(new)[7][0])
    point("books_v1")
    assert stores.open(alias).describe().dim == translator.source.dim


def test_a_file_that_was_whole_before_a_kill_could_be_noted_is_known_as_ours(
    worlds: World, translator: Translator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "old.npy", worlds.x[:200])
    names, save = (f"{tmp_path}/old.npy", f"{tmp_path}/new.npy"), Journal.save

    def struck(journal: Journal, path: Path) -> None:
        if (tmp_path / "new.npy").exists():
            raise SystemExit("as a kill does, it leaves all as it is")
        save(journal, path)

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(Journal, "save", struck)
        moved(*names, translator, tmp_path / "j.json")
    outcome = moved(*names, translator, tmp_path / "j.json")
    assert outcome.verification.good and outcome.journal.rows_written == 200


def test_a_place_for_the_journal_that_cannot_be_written_is_refused_before_any_row_is(
    worlds: World, translator: Translator, tmp_path: Path
) -> None:
    np.save(tmp_path / "old.npy", worlds.x[:200])
    with pytest.raises((UsageError, StoreError)):
        moved(f"{tmp_path}/old.npy", f"{tmp_path}/new.npy", translator, tmp_path / "nowhere" / "j.json")
    assert not (tmp_path / "new.npy").exists()


def test_a_file_that_is_there_is_not_replaced(worlds: World, translator: Translator, tmp_path: Path) -> None:
    np.save(tmp_path / "old.npy", worlds.x[:200])
    np.save(tmp_path / "new.npy", worlds.y[:5])
    with pytest.raises(StoreError, match="exists already"):
        moved(f"{tmp_path}/old.npy", f"{tmp_path}/new.npy", translator, tmp_path / "j.json")
    assert len(np.load(tmp_path / "new.npy")) == 5


def test_a_destination_that_is_gone_is_not_begun_anew_in_silence(
    pgvector: servers.Database, worlds: World, translator: Translator, tmp_path: Path
) -> None:
    source, dest, path = place(pgvector), place(pgvector), tmp_path / "j.json"
    stores.open(source).write([rows(worlds)])
    moved(source, dest, translator, path)
    there = stores.open(dest)
    assert isinstance(there, Collection)
    there.delete()
    with pytest.raises(UsageError, match="it is gone"):
        moved(source, dest, translator, path)
    file, path = tmp_path / "new.jsonl", tmp_path / "k.json"
    moved(source, str(file), translator, path)
    file.unlink()
    with pytest.raises(UsageError, match="it is gone"):
        moved(source, str(file), translator, path)


def test_wrong_dimensions_are_refused_by_name(worlds: World, translator: Translator, tmp_path: Path) -> None:
    np.save(tmp_path / "old.npy", worlds.x[:200, :10])
    with pytest.raises(TranslatorError, match="holds 10 dimensions; this translator reads 24"):
        moved(f"{tmp_path}/old.npy", f"{tmp_path}/new.npy", translator, tmp_path / "j.json")
    np.save(tmp_path / "turned.npy", worlds.y[:200])
    with pytest.raises(TranslatorError) as refused:
        moved(f"{tmp_path}/turned.npy", f"{tmp_path}/new.npy", translator, tmp_path / "j.json")
    assert "inverse" in refused.value.hint


class Model:
    """An encoder that keeps what it is asked to embed."""

    name, version = "minilm", ""

    def __init__(self, dim: int, told: int) -> None:
        self.gives, self.dim, self.asked = dim, told, list[str]()

    def encode(self, texts: Sequence[str], *, query: bool = False, progress: Any = None) -> np.ndarray:
        self.asked += texts
        return np.ones((len(texts), self.gives), np.float32)


@pytest.mark.parametrize(("told", "asked"), [(7, []), (0, ["dimension"])])
def test_an_encoder_of_another_dimension_is_refused_before_any_text_is_paid_for(
    worlds: World, translator: Translator, tmp_path: Path, told: int, asked: list[str]
) -> None:
    stores.open(tmp_path / "old.jsonl").write([rows(worlds)])
    source, dest, model = stores.open(tmp_path / "old.jsonl"), stores.open(tmp_path / "new.jsonl"), Model(7, told)
    with pytest.raises(TranslatorError, match="minilm gives 7 dimensions; this translator writes 20"):
        plan(source, dest, Evidence(translator, encoder=model, field="title"))
    with pytest.raises(SpaceError, match="has 20 dimensions, and minilm gives 7"):
        plan(source, dest, Evidence(target=Space.of(worlds.y, name="new"), encoder=model, field="title"))
    assert model.asked == 2 * asked


def test_ragged_rows_are_an_error_and_not_lost(pgvector: servers.Database, worlds: World, translator: Translator) -> None:
    source = place(pgvector)
    stores.open(source).write([Space.of(worlds.x[500:600], list(range(100)))])
    changed(
        source,
        "ALTER TABLE {table} ALTER embedding TYPE vector",
        "UPDATE {table} SET embedding = '[1,2,3]' WHERE id = 42",
    )
    with pytest.raises(SpaceError, match="ragged"):
        plan(stores.open(source), stores.open(place(pgvector)), Evidence(translator))


def foreign(worlds: World, seed: int = 5) -> np.ndarray:
    """Rows of another model with the same dimension: the same texts under an unrelated encoder."""
    turned = worlds.x @ orthonormal(24, 24, np.random.default_rng(seed)).astype(np.float32)
    return np.ascontiguousarray(turned)


@pytest.mark.parametrize("seed", range(5))
def test_rows_of_another_model_are_refused(worlds: World, translator: Translator, tmp_path: Path, seed: int) -> None:
    rows = foreign(worlds, seed)
    np.save(tmp_path / "old.npy", rows)
    cosine = rows.mean(0) @ worlds.x.mean(0) / np.linalg.norm(rows.mean(0)) / np.linalg.norm(worlds.x.mean(0))
    where = f"{tmp_path}/old.npy", f"{tmp_path}/new.npy"
    if cosine > 0.25:  # in 24 dimensions two directions may be alike by chance: then it is a doubt, not a refusal
        assert moved(*where, translator, tmp_path / "j.json", force=True).plan.doubts
        return
    with pytest.raises(TranslatorError, match="look another model's"):
        moved(*where, translator, tmp_path / "j.json")
    assert not (tmp_path / "new.npy").exists()
    forced = moved(*where, translator, tmp_path / "j.json", force=True)
    assert "another model" in forced.plan.doubts[0] and forced.gate != "PASS"


def test_rows_of_another_length_are_refused(worlds: World, translator: Translator, tmp_path: Path) -> None:
    np.save(tmp_path / "old.npy", 3 * worlds.x[500:])
    with pytest.raises(TranslatorError, match="have length 3, and the translator was fitted on rows of length 1"):
        moved(f"{tmp_path}/old.npy", f"{tmp_path}/new.npy", translator, tmp_path / "j.json")


def test_other_rows_of_the_same_model_raise_no_doubt(worlds: World, translator: Translator) -> None:
    assert origin.look(translator, worlds.x[500:], "rows") == origin.Doubts()
    for start in range(500, 1000, 100):
        assert origin.look(translator, worlds.x[start : start + 100], "rows") == origin.Doubts()


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_two_models_in_one_collection_are_a_doubt(share: float) -> None:
    """In as many dimensions as real models have, neighbours of one model's row are of that model."""
    rng = np.random.default_rng(0)

    def model() -> np.ndarray:
        latent = rng.standard_normal((1500, 40)) + 1.0
        rows = latent @ orthonormal(40, 128, rng)
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    one, other = model(), model()
    cut = int(1500 * share)
    mixed = np.concatenate([one[cut:], other[:cut]])
    assert origin.conductance(one) > 2 * origin.MIXED
    assert origin.conductance(mixed) < origin.MIXED
    pairs = np.stack([np.arange(1500)] * 2, axis=1)
    fitted = fit(Space.of(one), Space.of(other), "procrustes", pairs=pairs)
    assert "two models in one" in origin.look(fitted, mixed, "rows").notes[-1]
    assert origin.conductance(one[:50]) is None


# Samples, cursors, digests


def test_a_sample_of_a_large_store_comes_from_all_over_it(database: servers.Database, worlds: World) -> None:
    source = place(database)
    stores.open(source).write([Space.of(worlds.x, list(range(1000)))])
    stored = by_id(source)
    for want in (100, 900):  # in blocks, and drawn from all rows
        drawn = sample(stores.open(source), want)
        assert 0 < len(drawn) <= want and len(set(drawn.ids)) == len(drawn)
        assert set(drawn.ids) <= set(range(1000))
        parts = np.histogram(drawn.numbers, bins=10, range=(0, 1000))[0]
        assert parts.min() > 0
        assert all(np.allclose(stored[i][0], row) for i, row in zip(drawn.ids, drawn.vectors, strict=True))


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".jsonl", ".jsonl.gz"])
def test_a_sample_is_of_the_same_rows_whatever_the_file(worlds: World, tmp_path: Path, suffix: str) -> None:
    x = worlds.x.copy()
    x[[3, 400, 401, 777]] = np.nan
    np.save(tmp_path / "old.npy", x)
    lines = [json.dumps({"vector": None if np.isnan(row).any() else row.tolist()}) for row in x]
    (tmp_path / "old.jsonl").write_text("\n".join(lines))
    (tmp_path / "old.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    for end, write in ((".parquet", pq.write_table), (".arrow", pa.feather.write_feather)):
        table = pa.table({"vector": pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), x.shape[1])})
        write(table, str(tmp_path / f"old{end}"), **({"row_group_size": 130} if end == ".parquet" else {}))
    for part, want in (("", 90), ("", 240), ("?rows=100:900", 90), ("", 900)):
        one, other = (sample(tolerant(stores.open(f"{tmp_path}/old{end}{part}")), want) for end in (".npy", suffix))
        assert (one.numbers, one.bad) == (other.numbers, other.bad)
        assert np.array_equal(one.vectors, other.vectors)


def test_the_time_to_read_is_that_of_rows_in_a_row(worlds: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are looked for one by one, and what that takes says nothing of a reading of all rows."""
    np.save(tmp_path / "old.npy", worlds.x)
    opened, slow = FileStore._opened, 0.02

    def slowly(store: FileStore) -> Any:
        time.sleep(slow)
        return opened(store)

    monkeypatch.setattr(FileStore, "_opened", slowly)
    drawn = sample(stores.open(tmp_path / "old.npy"), 64)
    assert len(drawn) == 64 and 1000 / drawn.rate < 64 * slow


def test_texts_are_found_in_a_field_that_no_early_row_has(database: servers.Database, worlds: World) -> None:
    """A database keeps no list of its payload's names: what is told of it are those of its first rows."""
    source = place(database)
    payload = [{"title": f"row {i}"} | ({"body": f"text {i}"} if i >= 150 else {}) for i in range(N)]
    stores.open(source).write([Space.of(worlds.x[500 : 500 + N], list(range(N)), columns(payload))])
    drawn = sample(stores.open(source), N, field="body")
    assert {drawn.ids[at]: text for at, text in enumerate(drawn.texts) if text} == {i: f"text {i}" for i in range(150, N)}
    with pytest.raises(StoreError, match="has a field 'bdy'") as refused:
        sample(stores.open(source), N, field="bdy")
    assert "body" in refused.value.hint


def test_a_sample_keeps_to_the_slice_asked_for(worlds: World, tmp_path: Path) -> None:
    np.save(tmp_path / "old.npy", worlds.x)
    for want in (20, 200):
        drawn = sample(stores.open(f"{tmp_path}/old.npy?rows=300:800"), want)
        assert min(drawn.numbers) >= 300 and max(drawn.numbers) < 800
        assert np.array_equal(drawn.vectors, worlds.x[drawn.numbers])


@pytest.mark.parametrize("suffix", [".npy", ".parquet", ".jsonl"])
def test_reading_a_file_goes_on_after_any_cursor(worlds: World, tmp_path: Path, suffix: str) -> None:
    store = stores.open(tmp_path / f"old{suffix}")
    store.write([Space.of(worlds.x[:50])])
    seen: list[int] = []
    for space, cursor in pages(stores.open(f"{store.address.url}?rows=5:45"), batch=7):  # type: ignore[attr-defined]
        seen += list(space.numbers)
        rest = [n for more, _ in pages(stores.open(f"{tmp_path}/old{suffix}?rows=5:45"), cursor, 9) for n in more.numbers]
        assert seen + rest == list(range(5, 45))


def test_digests_tell_payload_apart_and_forgive_what_stores_do() -> None:
    assert digest({"a": 1, "b": [1.0, None], "c": None}) == digest({"b": [1, None], "a": 1.0})
    assert digest({"x": 0.1 + 0.2}) == digest({"x": 0.3})
    different = [{}, {"a": 1}, {"a": "1"}, {"a": [1]}, {"a": True}, {"b": 1}, {"a": 0.123456}, {"a": 0.123457}, {"a": "é"}]
    assert len({digest(document) for document in different}) == len(different)


# Retention and the gate


def test_retention_is_one_for_the_same_rows_and_chance_for_others() -> None:
    rng = np.random.default_rng(0)
    x, other = (rng.standard_normal((600, 16)).astype(np.float32) for _ in range(2))
    for metric in ("cosine", "dot", "euclidean"):
        near = neighbours(x, x, metric, own=True)
        assert not (near == torch.arange(600)[:, None]).any(), "a row is not its own neighbour"
        same = retention("old neighbours", near, near, 600)
        assert same.recall == same.ndcg == 1.0 and same.recall_interval[0] < 1
        chance = retention("old neighbours", near, neighbours(other, other, metric, own=True), 600)
        assert abs(chance.recall - chance.chance) < 0.01


def test_the_old_models_own_search_stands_beside_the_translated_one(translator: Translator, tmp_path: Path) -> None:
    """Where the new model turns the old one, both find all; where it judges otherwise, the old search shows by how much."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 16)).astype(np.float32)
    turned = (x @ orthonormal(16, 16, rng)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    drawn, there = sample(stores.open(tmp_path / "x.npy"), 300), np.ones(300, bool)
    for new, least, most in ((turned, 1.0, 1.0), ((turned * np.linspace(0.1, 3, 16)).astype(np.float32), 0.2, 0.8)):
        probe = Probe(drawn, Truth(np.arange(300), new), ("cosine", "cosine"))
        told = probe.score(translator, new, there)["re-embedding"]
        assert told.recall == 1.0 and told.old is not None and least <= told.old <= most
        assert told.to_json()["controls"]["old_search"] == told.old
    probe = replace(probe, new_queries=turned[:30])
    assert probe.score(translator, new, there)["re-embedding"].old is None, "queries of the new model mean nothing to it"


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_neighbours_are_those_of_the_definition(metric: str) -> None:
    rng = np.random.default_rng(1)
    q, p = rng.standard_normal((20, 5)).astype(np.float32), rng.standard_normal((200, 5)).astype(np.float32)
    if metric == "euclidean":
        scores = -np.linalg.norm(q[:, None] - p[None], axis=2)
    else:
        unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) if metric == "cosine" else rows for rows in (q, p)]
        scores = unit[0] @ unit[1].T
    expected = np.argsort(-scores, axis=1)[:, :10]
    assert np.array_equal(neighbours(q, p, metric, own=False).numpy(), expected)


def test_ndcg_prefers_what_is_found_early() -> None:
    reference = torch.arange(10)[None].repeat(30, 1)
    early, late = reference.clone(), reference.clone()
    early[:, 5:] = torch.arange(50, 55)
    late[:, :5] = torch.arange(50, 55)
    one, other = (retention("re-embedding", reference, found, 100) for found in (early, late))
    assert one.recall == other.recall == 0.5
    assert one.ndcg > 0.6 > 0.4 > other.ndcg
    discount = 1 / np.log2(np.arange(10) + 2)
    assert one.ndcg == pytest.approx(discount[:5].sum() / discount.sum())


def scored(basis: Any, hits: float, n: int) -> Any:
    reference = torch.arange(10)[None].repeat(n, 1)
    found = reference + 100
    found[: int(hits * n)] = reference[: int(hits * n)]
    return retention(basis, reference, found, 1000)


def test_the_gate_acts_on_the_bound_of_the_interval() -> None:
    assert judge(scored("re-embedding", 0.9, 1000), 0.8, False) == "PASS"
    assert judge(scored("re-embedding", 0.81, 200), 0.8, False) == "WARN"
    assert judge(scored("re-embedding", 0.6, 1000), 0.8, True) == "FAIL"
    assert judge(None, 0.8, True) == "WARN"


def test_old_neighbours_alone_do_not_pass() -> None:
    """A rotation to the wrong place keeps every neighbour: only the verdict can say that it is the right place."""
    assert judge(scored("old neighbours", 1.0, 1000), 0.8, trusted=False) == "WARN"
    assert judge(scored("old neighbours", 1.0, 1000), 0.8, trusted=True) == "PASS"
    assert judge(scored("old neighbours", 0.1, 1000), 0.8, trusted=True) == "FAIL"
