"""test_switch — a name leads to the new rows afterwards, the old ones are whole under another, and a kill is mended."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recorded
import servers
from conftest import Run, World, make_world
from recorded.indexes import SearchServer

from crossvec import stores
from crossvec.errors import StoreError, UsageError
from crossvec.fitting import fit
from crossvec.migration import switching
from crossvec.migration.journal import Journal
from crossvec.space import Space, python_values
from crossvec.stores.pgvector import PgvectorTable
from crossvec.stores.switching import Switching
from crossvec.stores.turns import Switchable
from crossvec.translator import Translator

RENAMING = ["pgvector", "sqlite", "duckdb", "chroma", "milvus"]
UNABLE = ["lancedb", "faiss", "redis", "qdrant-edge", "datasets", "vdf"]
numbers = itertools.count()


@pytest.fixture(scope="module", params=RENAMING)
def database(request: pytest.FixtureRequest) -> Iterator[servers.Database]:
    """A real database whose collections can be renamed."""
    with servers.running(request.param) as running:
        yield running


def cloud(n: int, dim: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def filled(url: str, dim: int, n: int = 7) -> Switching:
    store = stores.open(url)
    store.write([Space.of(cloud(n, dim), [f"r{i}" for i in range(n)], [{"title": f"é {i}"} for i in range(n)])])
    assert isinstance(store, Switching)
    return store


def pair(database: servers.Database) -> tuple[Switching, Switching]:
    """Two collections side by side: the old one of four dimensions, the new one of three."""
    name = f"shop{next(numbers)}"
    return filled(database.url.format(name=name), 4), filled(database.url.format(name=f"{name}_new"), 3)


def named(store: Switching, name: str) -> Switching:
    """The collection of another name in the same database."""
    place = store.address.place.rpartition("/")[0]
    found = stores.open(f"{store.address.scheme}://{place}/{name}")
    assert isinstance(found, Switching)
    return found


def held(url: str) -> tuple[int, list[Any], list[dict[str, Any]]]:
    space = stores.open(url).load()
    rows = dict(zip(python_values(space.ids_or_numbers()), space.records(), strict=True))
    return space.dim, sorted(rows), [rows[key] for key in sorted(rows)]


# --- every database that renames


def test_a_name_leads_to_the_new_rows_and_the_old_ones_are_whole_beside_it(database: servers.Database) -> None:
    old, new = pair(database)
    before, after = held(old.address.url), held(new.address.url)
    turn = old.turn(new)
    assert (turn.name, turn.new, turn.aside) == (old.name, new.name, f"{old.name}_before")
    assert old.stage(turn) == "before"
    old.switch(turn)
    assert old.stage(turn) == "after"
    assert held(old.address.url) == after and held(named(old, turn.aside).address.url) == before
    assert not named(old, turn.new).exists()
    old.switch(turn)  # done is done
    assert held(old.address.url) == after
    row = Space.of(cloud(1, 3), ["x"], [{"title": "later"}])
    assert old.upsert(row) == 1 and old.count() == 8, "what was renamed is written to as before"


def test_the_old_rows_of_an_earlier_switch_are_left_alone(pgvector: servers.Database) -> None:
    old, new = pair(pgvector)
    taken = filled(old.address.url + "_before", 5)
    turn = old.turn(new)
    assert turn.aside == f"{old.name}_before_2"
    old.switch(turn)
    assert named(old, turn.aside).describe().dim == 4 and taken.describe().dim == 5


def test_a_switch_that_was_killed_between_two_names_is_finished(database: servers.Database, tmp_path: Path) -> None:
    old, new = pair(database)
    after, turn = held(new.address.url), old.turn(new)
    with old.session() as client:
        old._rename(client, [(turn.name, turn.aside)])
    journal = Journal(old.address.url, new.address.url, "t", state="switching", aside=turn.aside)
    with pytest.raises(UsageError, match="a switch was interrupted") as refused:
        switching.resumed(old, new, journal, tmp_path / "j.json", may=False)
    assert "--run --switch" in refused.value.hint
    assert switching.resumed(old, new, journal, tmp_path / "j.json", may=True)
    assert held(old.address.url) == after and journal.state == "switched"
    filled(new.address.url, 5)  # for yet another model
    assert switching.resumed(old, new, journal, tmp_path / "j.json", may=False)
    new.delete()
    named(old, turn.aside).delete()  # the old rows are the user's to delete
    assert switching.resumed(old, new, journal, tmp_path / "j.json", may=False), "what was done stays done"


def test_names_that_others_changed_are_told_and_left_alone(pgvector: servers.Database) -> None:
    old, new = pair(pgvector)
    turn = old.turn(new)
    with old.session() as client:
        old._rename(client, [(turn.name, turn.aside)])
    filled(old.address.url, 6)  # an application that makes what it misses
    with pytest.raises(StoreError, match="were changed by somebody else") as refused:
        old.switch(turn)
    assert turn.aside in refused.value.hint
    assert old.describe().dim == 6 and new.describe().dim == 3


def test_two_databases_share_no_names(database: servers.Database) -> None:
    old = stores.open(database.url.format(name="one"))
    assert isinstance(old, Switching)
    away = replace(old.address, place="elsewhere/".join(old.address.place.rsplit("/", 1)))
    for other in (replace(old, address=away), stores.open("new.npy")):
        with pytest.raises(StoreError, match="not in one database"):
            old.turn(other)


# --- what is particular


def test_a_table_of_sqlite_vec_takes_its_rows_and_its_search_along(tmp_path: Path) -> None:
    pytest.importorskip("sqlite_vec")
    old, new = (filled(f"sqlite://{tmp_path}/file.db/{name}", dim) for name, dim in (("books", 4), ("books_new", 3)))
    old.switch(old.turn(new))
    with old.session() as client:
        old._look(client)
        query = "SELECT id FROM books WHERE embedding MATCH ? AND k = 1"
        assert client.sql(query, [cloud(7, 3)[5].tobytes()]) == [("r5",)]
        assert client.sql("PRAGMA integrity_check") == [("ok",)]
        assert not client.sql("SELECT name FROM sqlite_master WHERE name LIKE 'books_new%'")


def test_sqlite_changes_no_name_when_a_table_cannot_be_read_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a later sqlite-vec keeps its rows in tables that crossvec knows nothing of."""
    pytest.importorskip("sqlite_vec")
    from crossvec.stores import sqlitefile

    old, new = (filled(f"sqlite://{tmp_path}/file.db/{name}", dim) for name, dim in (("books", 4), ("books_new", 3)))
    turn = old.turn(new)
    with monkeypatch.context() as patch:
        patch.setattr(sqlitefile, "_shadows", lambda *_: [])
        with pytest.raises(StoreError, match="nothing was changed"):
            old.switch(turn)
    assert (old.stage(turn), old.describe().dim, new.describe().dim) == ("before", 4, 3)


def changed(store: Switching, *queries: str) -> None:
    with store.session() as client:
        for query in queries:
            client.execute(query)


def test_columns_that_would_be_missing_are_told_before_any_work(pgvector: servers.Database) -> None:
    old, _ = pair(pgvector)
    changed(
        old,
        "CREATE TABLE mine (id bigint PRIMARY KEY, title text, e vector(4))",
        "INSERT INTO mine VALUES (1, 'a', '[1,2,3,4]')",
    )
    mine, new = named(old, "mine"), named(old, "mine_new")
    with pytest.raises(StoreError, match="has the columns e, title, which mine_new would not have") as refused:
        mine.turn(new)
    made = refused.value.hint.partition(": ")[2].replace("DIMENSIONS OF THE NEW MODEL", "3")
    changed(old, made)
    assert mine.turn(new).aside == "mine_before", "the line of the hint makes what is asked for"


def test_what_goes_by_the_table_and_not_by_its_name_is_told(pgvector: servers.Database) -> None:
    old, new = pair(pgvector)
    changed(
        old,
        f"CREATE VIEW v AS SELECT id FROM {old.name}",
        f"CREATE TABLE orders (item text REFERENCES {old.name})",
        "DO $$ BEGIN CREATE ROLE reader; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        f"GRANT SELECT ON {old.name} TO reader",
    )
    one, other = old.turn(new).notes
    assert "views (1)" in one and "foreign keys to it (1)" in one and "gives no rights to reader" in other
    changed(old, f"GRANT SELECT ON {new.name} TO reader", "DROP VIEW v", "DROP TABLE orders")
    assert old.turn(new).notes == ()


def test_whoever_owned_the_old_rows_is_told_to_be_given_rights(pgvector: servers.Database) -> None:
    old, new = pair(pgvector)
    changed(
        old,
        "DO $$ BEGIN CREATE ROLE app; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        f"ALTER TABLE {old.name} OWNER TO app",
    )
    assert "gives no rights to app" in old.turn(new).notes[0]
    assert "gives no rights to app" in old.turn(named(old, "nothing_yet")).notes[0]
    changed(old, f"ALTER TABLE {new.name} OWNER TO app")
    assert old.turn(new).notes == ()


def test_foreign_keys_that_the_new_table_lacks_are_told(pgvector: servers.Database) -> None:
    old, new = pair(pgvector)
    changed(
        old,
        f"CREATE TABLE {old.name}_titles (id text PRIMARY KEY)",
        f"INSERT INTO {old.name}_titles SELECT id FROM {old.name}",
        f"ALTER TABLE {old.name} ADD FOREIGN KEY (id) REFERENCES {old.name}_titles ON DELETE CASCADE",
    )
    assert "foreign keys of its own (1)" in old.turn(new).notes[0]
    changed(old, f"ALTER TABLE {new.name} ADD FOREIGN KEY (id) REFERENCES {old.name}_titles ON DELETE CASCADE")
    assert old.turn(new).notes == ()


@pytest.mark.parametrize("identity", ["ALWAYS", "BY DEFAULT"])
def test_names_wait_until_the_new_table_numbers_rows_behind_those_it_has(pgvector: servers.Database, identity: str) -> None:
    old, _ = pair(pgvector)
    name = f"counted{next(numbers)}"
    changed(
        old,
        f"CREATE TABLE {name} (id bigint GENERATED {identity} AS IDENTITY PRIMARY KEY, embedding vector(4), payload jsonb)",
        f"INSERT INTO {name} (embedding, payload) SELECT '[1,2,3,4]', '{{\"a\": 1}}' FROM generate_series(1, 5)",
    )
    mine, new = named(old, name), named(old, f"{name}_new")
    with pytest.raises(StoreError, match="is a table of yours") as refused:
        mine.turn(new)  # a table of crossvec's numbers nothing, and keeps {"payload": {"a": 1}}
    changed(old, refused.value.hint.partition(": ")[2].replace("DIMENSIONS OF THE NEW MODEL", "3"))
    assert new.upsert(Space.of(cloud(5, 3), np.arange(1, 6), [{"payload": {"a": 1}}] * 5)) == 5
    turn = mine.turn(new)
    missing = mine.unready(turn)
    assert "by ids that it has in id" in missing
    changed(old, missing.partition(": ")[2])
    assert mine.unready(turn) == ""
    mine.switch(turn)
    changed(old, f"INSERT INTO {name} (embedding) VALUES ('[1,2,3]')")
    assert mine.count() == 6 and mine.load().records()[0] == {"payload": {"a": 1}}


def test_names_wait_for_the_index_that_searches_need(pgvector: servers.Database) -> None:
    old, new = pair(pgvector)
    changed(old, f"CREATE INDEX ON {old.name} USING hnsw (embedding vector_cosine_ops)")
    turn = old.turn(new)
    missing = old.unready(turn)
    assert missing in turn.notes[0]
    changed(old, missing.partition(": ")[2])
    assert old.unready(turn) == "" and old.turn(new).notes == ()


def test_names_wait_until_the_new_rows_are_hidden_as_the_old_ones_are(pgvector: servers.Database) -> None:
    old, new = pair(pgvector)
    changed(old, f"ALTER TABLE {old.name} ENABLE ROW LEVEL SECURITY")
    missing = old.unready(old.turn(new))
    assert "all of its rows would be seen" in missing
    changed(old, missing.rpartition("; ")[2])
    assert old.unready(old.turn(new)) == ""


def test_both_tables_stay_in_their_schema(pgvector: servers.Database) -> None:
    old, _ = pair(pgvector)
    changed(old, 'CREATE SCHEMA "Shop"')
    mine = filled(named(old, "Shop.books").address.url, 4)
    with pytest.raises(StoreError, match="lies in the schema Shop") as refused:
        mine.turn(named(old, "books_new"))
    assert "write DEST as Shop.NAME" in refused.value.hint
    assert mine.turn(named(old, "Shop.books_new")), "also before it is made"
    new = filled(named(old, "Shop.books_new").address.url, 3)
    mine.switch(mine.turn(new))
    assert (mine.describe().dim, named(old, "Shop.books_before").describe().dim) == (3, 4)


def test_a_table_that_somebody_uses_is_not_waited_for_for_ever(
    pgvector: servers.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crossvec.stores import pgvector as module

    old, new = pair(pgvector)
    turn, other = old.turn(new), stores.open(old.address.url)
    assert isinstance(other, PgvectorTable)
    monkeypatch.setattr(module, "LOCKED", 0.1)
    with other.session() as client, client.transaction():
        client.execute(f"SELECT count(*) FROM {old.name}")
        with pytest.raises(StoreError, match="could not be locked"):
            old.switch(turn)
    assert old.stage(turn) == "before"


def test_a_plain_table_of_sqlite_is_not_told_to_make_what_could_not_be_read(tmp_path: Path) -> None:
    apsw = pytest.importorskip("apsw")
    with apsw.Connection(str(tmp_path / "file.db")) as file:
        file.execute("CREATE TABLE books (id INTEGER PRIMARY KEY, title, embedding BLOB)")
        file.execute("INSERT INTO books VALUES (1, 'a', ?)", [cloud(1, 4).tobytes()])
    old, new = (stores.open(f"sqlite://{tmp_path}/file.db/{name}") for name in ("books", "books_new"))
    assert isinstance(old, Switching)
    with pytest.raises(StoreError, match="columns embedding, title|columns title") as refused:
        old.turn(new)
    assert refused.value.hint == old.by_hand


def test_duckdb_renames_no_table_with_an_index(tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    old, new = (filled(f"duckdb://{tmp_path}/file.db/{name}", dim) for name, dim in (("books", 4), ("books_new", 3)))
    with old.session() as client:
        client.sql("CREATE INDEX mine ON books (id)", write=True)
    with pytest.raises(StoreError, match="has mine") as refused:
        old.turn(new)
    assert "DROP INDEX mine" in refused.value.hint


# --- aliases


@pytest.fixture(params=["qdrant", "milvus", "elasticsearch", "opensearch"])
def aliased(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Switching, Switching, Switching]]:
    """An alias, the collection behind it, and the new one."""
    kind = request.param
    if kind in ("qdrant", "milvus"):
        pytest.importorskip({"qdrant": "qdrant_client", "milvus": "milvus_lite"}[kind])
        base = f"{kind}://{tmp_path}/{'db' if kind == 'qdrant' else 'lite.db'}"
        old, new = filled(f"{base}/books_v1", 4), filled(f"{base}/books_v2", 3)
        alias = named(old, "books")
        with alias.session() as client:
            if kind == "milvus":
                client.create_alias("books_v1", "books")
            else:
                models = alias.client_library("qdrant_client.models")
                made = models.CreateAlias(collection_name="books_v1", alias_name="books")
                client.update_collection_aliases([models.CreateAliasOperation(create_alias=made)])
        yield alias, old, new
        return
    pytest.importorskip({"elasticsearch": "elasticsearch", "opensearch": "opensearchpy"}[kind])
    with recorded.serve(SearchServer(opensearch=kind == "opensearch")) as place:
        old, new = filled(f"{kind}://{place}/books_v1", 4), filled(f"{kind}://{place}/books_v2", 3)
        with old.session() as client:
            add = {"index": "books_v1", "alias": "books", "filter": {"match_all": {}}, "is_write_index": True}
            client.indices.update_aliases(body={"actions": [{"add": add}]})
        yield named(old, "books"), old, new


def test_an_alias_is_pointed_at_the_new_rows_in_one_step(aliased: tuple[Switching, Switching, Switching]) -> None:
    alias, old, new = aliased
    turn = alias.turn(new)
    assert (turn.alias, turn.aside, alias.stage(turn)) == (True, "books_v1", "before")
    alias.switch(turn)
    assert (alias.stage(turn), alias.describe().dim) == ("after", 3)
    assert (old.describe().dim, new.describe().dim) == (4, 3), "the collections keep their names"
    alias.switch(turn)
    assert alias.describe().dim == 3
    if alias.format in ("elasticsearch", "opensearch"):
        with alias.session() as client:
            told = client.indices.get_alias(name="books")["books_v2"]["aliases"]["books"]
        assert told == {"filter": {"match_all": {}}, "is_write_index": True}, "what it says of its index goes along"


def test_a_collection_that_is_no_alias_is_refused_where_none_can_be_renamed(
    aliased: tuple[Switching, Switching, Switching],
) -> None:
    _, old, new = aliased
    if old.renaming:
        assert not old.turn(new).alias
        return
    with pytest.raises(StoreError, match="cannot rename books_v1") as refused:
        old.turn(new)
    assert "alias" in refused.value.hint


@pytest.mark.parametrize("name", UNABLE)
def test_a_store_that_cannot_switch_says_so_before_any_work(name: str) -> None:
    place = "redis://127.0.0.1:1" if name == "redis" else f"{name}:///nowhere"
    source, dest = (stores.open(f"{place}/{it}" + (".faiss" if name == "faiss" else "")) for it in ("a", "b"))
    assert not isinstance(source, Switchable)
    with pytest.raises(StoreError, match="no way to give one place the name of another") as refused:
        switching.planned(source, dest)
    assert "leave --switch out" in refused.value.hint


# --- files


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("suffix", [".npy", ".parquet", ".jsonl.gz"])
def test_a_file_takes_the_name_and_the_mode_of_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, links: bool
) -> None:
    old, new = tmp_path / f"books{suffix}", tmp_path / f"books_new{suffix}"
    stores.open(old).write([Space.of(cloud(5, 4))])
    stores.open(new).write([Space.of(cloud(5, 3))])
    old.chmod(0o640)
    store = stores.open(old)
    assert isinstance(store, Switchable)
    turn = store.turn(stores.open(new))
    assert turn.aside == str(tmp_path / f"books_before{suffix}")
    if not links:
        monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(PermissionError("no links here")))
    with monkeypatch.context() as patch:  # killed before the new file takes the name
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.switch(turn)
    assert store.stage(turn) == "between" and old.exists() == links and Path(turn.aside).exists()
    store.switch(turn)
    assert store.stage(turn) == "after" and not new.exists()
    assert (stores.open(old).describe().dim, stores.open(turn.aside).describe().dim) == (3, 4)
    assert old.stat().st_mode & 0o777 == 0o640


def test_two_runs_at_once_overwrite_no_old_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = tmp_path / "books.npy", tmp_path / "books_new.npy"
    np.save(old, cloud(5, 4))
    np.save(new, cloud(5, 3))
    store, link = stores.open(old), os.link
    assert isinstance(store, Switchable)
    turn = store.turn(stores.open(new))

    def late(*names: Any, **how: Any) -> None:  # another run switches between a look at the names and the first change
        link(turn.name, turn.aside)
        os.replace(turn.new, turn.name)
        link(*names, **how)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(StoreError, match="is there already"):
        store.switch(turn)
    assert (np.load(old).shape, np.load(turn.aside).shape) == ((5, 3), (5, 4))


def test_a_file_of_another_format_takes_no_name(tmp_path: Path) -> None:
    np.save(tmp_path / "old.npy", cloud(3, 4))
    store = stores.open(tmp_path / "old.npy")
    assert isinstance(store, Switchable)
    with pytest.raises(StoreError, match="ends in .npy, and DEST does not") as refused:
        store.turn(stores.open(tmp_path / "new.parquet"))
    assert "old_new.npy" in refused.value.hint


# --- the verb


@pytest.fixture(scope="module")
def worlds() -> World:
    return make_world(n=900, m=900, paired=True, clusters=1, noise=0.02, seed=3)


@pytest.fixture(scope="module")
def translator(worlds: World) -> Translator:
    pairs = np.stack([np.arange(400)] * 2, axis=1)
    return fit(Space.of(worlds.x[:400]), Space.of(worlds.y[:400]), "ridge", pairs=pairs)


@pytest.fixture
def here(tmp_path: Path, worlds: World, translator: Translator, monkeypatch: pytest.MonkeyPatch) -> str:
    """The current folder, with a translator t, and the address of an SQLite table of an old model's rows in it."""
    pytest.importorskip("sqlite_vec")
    monkeypatch.chdir(tmp_path)
    translator.save("t")
    source = "sqlite://./shop.db/items"
    stores.open(source).write([Space.of(worlds.x[400:], [f"r{i}" for i in range(500)], [{"n": i} for i in range(500)])])
    return source


WORDS = "--translator", "t", "--format", "json", "--min-retention"


def test_the_verb_switches_when_the_gate_passes_and_only_then(crossvec: Run, here: str) -> None:
    line = "migrate", here, f"{here}_new", "--switch", *WORDS
    code, out, _ = crossvec(*line, 0)
    dry = json.loads(out)
    assert dry["switch"]["switched"] is False and "items becomes items_before" in dry["plan"]["changes"]["names"]
    code, out, _ = crossvec(*line, 1, "--run")
    told = json.loads(out)
    assert (code, told["gate"], told["switch"]["switched"]) == (1, "FAIL", False)
    assert told["switch"]["why_not"] == "the gate says FAIL" and stores.open(here).describe().dim == 24
    code, out, _ = crossvec(*line, 0, "--run")
    told = json.loads(out)
    assert (code, told["gate"], told["switch"]["switched"], told["switch"]["old_rows"]) == (0, "PASS", True, "items_before")
    assert (stores.open(here).describe().dim, stores.open(f"{here}_before").describe().dim) == (20, 24)
    for words in (line, line[:3] + line[4:]):  # again, also without being asked
        code, out, _ = crossvec(*words, 0, "--run")
        again = json.loads(out)
        assert (code, again["rows_written"], again["switch"]["switched"]) == (0, 500, True)
    assert stores.open(here).describe().dim == 20


def test_the_verb_finishes_a_switch_that_was_killed_and_says_so(crossvec: Run, here: str) -> None:
    line = "migrate", here, f"{here}_new", "--translator", "t", "--min-retention", 0, "--run"
    assert crossvec(*line)[0] == 0
    store, path = stores.open(here), Path("t.migration.json")
    assert isinstance(store, Switching)
    journal = Journal.load(path)
    assert journal
    journal.state, journal.aside = "switching", "items_before"
    journal.save(path)
    with store.session() as client:
        store._rename(client, [("items", "items_before")])
    code, _, err = crossvec(*line)
    assert code == 2 and "a switch was interrupted" in err and "--run --switch" in err
    code, out, err = crossvec(*line, "--switch")
    assert code == 0 and "the old ones are items_before" in " ".join(out.split()) and "by the new model" in err
    assert stores.open(here).describe().dim == 20


def test_names_stay_when_rows_came_or_went_meanwhile(crossvec: Run, here: str) -> None:
    line = "migrate", here, f"{here}_new", *WORDS, 0, "--run"
    assert crossvec(*line)[0] == 0
    store = stores.open(here)
    assert isinstance(store, Switching)
    with store.session() as client:
        store._look(client)
        client.sql("DELETE FROM items WHERE id = 'r7'")
    code, out, _ = crossvec(*line, "--switch")
    told = json.loads(out)
    assert (code, told["gate"], told["switch"]["switched"]) == (4, "PASS", False)
    assert "items holds 499 rows now, and 500 were read" in told["switch"]["why_not"]
    assert stores.open(here).describe().dim == 24


def test_a_row_deleted_from_the_source_does_not_come_back_by_a_dest_of_an_earlier_run(crossvec: Run, here: str) -> None:
    line = "migrate", here, f"{here}_new?mode=upsert", *WORDS, 0, "--run", "--journal"
    assert crossvec(*line, "one.json")[0] == 0
    store = stores.open(here)
    assert isinstance(store, Switching)
    with store.session() as client:
        store._look(client)
        client.sql("DELETE FROM items WHERE id = 'r7'")
    code, out, _ = crossvec(*line, "two.json", "--switch")
    told = json.loads(out)
    assert (code, told["gate"], told["switch"]["switched"]) == (4, "PASS", False)
    assert "items_new holds 500 rows, and 499 of them are items's" in told["switch"]["why_not"]
    assert stores.open(here).describe().dim == 24


def test_whoever_agrees_to_rows_left_out_gets_the_switch(crossvec: Run, here: str, worlds: World) -> None:
    x = worlds.x[400:].copy()
    x[[5, 17]] = np.nan
    np.save("old.npy", x)
    Journal("another", "migration", "t", rows_written=1).save(Path("t.migration.json"))  # by the same translator
    code, out, _ = crossvec("migrate", "old.npy", "new.npy", "--switch", *WORDS, 0, "--run")
    told = json.loads(out)
    assert (code, told["switch"]["switched"]) == (4, False) and "rows were left out (2)" in told["switch"]["why_not"]
    code, out, _ = crossvec("migrate", "old.npy?bad_rows=drop", "new.npy", "--switch", *WORDS, 0, "--run")
    told = json.loads(out)
    assert code == 0 and told["switch"]["switched"], told
    assert np.load("old.npy").shape == (498, 20) and np.load("old_before.npy").shape == (500, 24)


@pytest.mark.parametrize(
    ("source", "dest", "says"),
    [
        ("{}?rows=0:100", "{}_new", "leave rows= out"),
        ("{}?column=embedding", "{}_new", "give both the same column="),
        ("{}?keep=ids", "{}_new?keep=ids", "leave keep= out"),
        ("{}", "sqlite://./other.db/items_new", "not in one database"),
        ("{}", "new.parquet", "not in one database"),
    ],
)
def test_a_switch_that_cannot_be_is_refused_in_the_plan(crossvec: Run, here: str, source: str, dest: str, says: str) -> None:
    code, out, err = crossvec("migrate", source.format(here), dest.format(here), "--translator", "t", "--switch")
    assert (code, out) == (2, "") and says in err
    assert not Path("other.db").exists() and not Path("new.parquet").exists()
