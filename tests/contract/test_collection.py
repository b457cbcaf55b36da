"""test_collection — what every database promises, whatever it is: the contract, run over every one that can be started here.

To run it over a store of your own, see tests/servers.py.
"""

from __future__ import annotations

import itertools
import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import servers
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from crossvec import stores
from crossvec.errors import MissingExtraError, SpaceError, StoreError
from crossvec.space import Space
from crossvec.stores import Description, Store, connection
from crossvec.stores.collection import Collection
from crossvec.stores.documents import columns, documents

# The collection is new each time, so one fixture serves all examples of a property.
# A failure is not made smaller, which would write to the database hundreds of times.
property_test = settings(
    max_examples=6,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
names = (f"books_{number}" for number in itertools.count())

Place = Callable[..., Collection]


PARAMS = [
    pytest.param(name, marks=[pytest.mark.slow] * (name in servers.SLOW)) for name in [*servers.DATABASES, *servers.YOURS]
]


@pytest.fixture(scope="module", params=PARAMS)
def database(request: pytest.FixtureRequest) -> Iterator[servers.Database]:
    with servers.running(request.param) as started:
        yield started


@pytest.fixture(scope="module")
def kept_open(database: servers.Database) -> Iterator[servers.Database]:
    anchor = stores.open(database.url.format(name="anchor"))
    assert isinstance(anchor, Collection)
    with anchor.session():  # embedded databases stay open over all tests, which spares each a start
        yield database


@pytest.fixture
def place(kept_open: servers.Database) -> Iterator[Place]:
    """Name the one collection that a test uses; it does not exist yet, and is deleted after the test."""
    with named(kept_open) as place:
        yield place


@contextmanager
def named(database: servers.Database) -> Iterator[Place]:
    name = f"{next(names)}_{os.getpid()}"

    def place(query: str = "", suffix: str = "") -> Any:
        url = database.url.format(name=(name + suffix).replace("_", database.joint))
        return stores.open(url + (query.replace("?", "&") if "?" in url else query))

    yield place
    for suffix in ("", "_b"):
        place(suffix=suffix).delete()


def cloud(n: int, dim: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def books(n: int, dim: int = 4, start: int = 0) -> Space:
    payload = [
        {"title": f"title {i}", "year": 1900 + i, "tags": [f"t{i}", "é"], "more": {"pages": i}} for i in range(start, start + n)
    ]
    return Space.of(cloud(start + n, dim)[start:], list(range(start, start + n)), payload, "books")


def by_id(space: Space) -> dict[object, tuple[np.ndarray, dict[str, object]]]:
    return {i: (x, row) for i, x, row in zip(list(space.ids_or_numbers()), space.array(), documents(space), strict=True)}


def alike(a: object, b: object) -> bool:
    """Equal in type and value; a float may have lost its last digit, as some databases' JSON does."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(alike(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, float) or isinstance(b, float):
        return isinstance(a, (int, float)) and type(b) is not bool and a == pytest.approx(b, rel=1e-14, abs=0)
    return type(a) is type(b) and a == b


def assert_same(a: Space, b: Space) -> None:
    """The same ids of the same type, vectors within roundings and documents, in whatever order."""
    one, other = by_id(a), by_id(b)
    assert len(one) == len(a) and sorted(map(repr, one)) == sorted(map(repr, other))
    for key, (x, row) in one.items():
        assert np.allclose(x, other[key][0], rtol=1e-5, atol=1e-6)
        assert alike(row, other[key][1]), f"{row} is not {other[key][1]}"


def joined(batches: Iterator[Space]) -> list[object]:
    return [i for batch in batches for i in batch.ids_or_numbers()]


# --- first, before the databases are kept open


def test_every_call_finds_what_closed_calls_left(database: servers.Database) -> None:
    """As programs do that come one after the other: nothing may live on in a client that is closed."""
    with named(database) as place:
        assert not connection._open, "this test comes before those that keep it open"
        assert place().write(books(20).batches(7)) == 20
        told = place().describe()
        assert (told.rows, told.dim, place().count(), place().exists()) == (20, 4, 20, True)
        assert_same(place().load(), books(20))
        whole = joined(place().read(7))
        assert joined(place("?rows=3:11").read(4)) == whole[3:11]
        cursor = next(place().pages(batch=6))[1]
        assert joined(space for space, _ in place().pages(cursor, 5)) == whole[6:]
        assert place("?mode=upsert").write([books(3, start=19)]) == 3
        assert place().upsert(books(1)) == 1
        assert place().count() == 22
        place(suffix="_b").create(place().describe())
        assert len(place(suffix="_b").load()) == 0
        place().read()  # not begun, and let go
        assert not connection._open, "nothing is left open"


# --- reading gives what was written

words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
kinds_of_id = st.sampled_from(
    [
        st.integers(0, 2**63 - 1),
        st.integers(-(2**63), 2**63 - 1),
        words.filter(lambda text: text == text.strip()),
        st.uuids().map(str),
        st.uuids().map(lambda value: str(value).upper()),
    ]
)
leaves = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e6, 1e6, width=32) | words
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3), max_leaves=5
)
keys = st.sampled_from(["title", "year", "Größe", "a b", "x.y", "select"])


@property_test
@given(data=st.data())
def test_what_is_written_is_read_back(place: Place, data: st.DataObject) -> None:
    n, dim = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 5))
    vectors = cloud(n, dim, data.draw(st.integers(0, 99))) * 10 ** data.draw(st.integers(-2, 2))
    ids = data.draw(st.lists(data.draw(kinds_of_id), min_size=n, max_size=n, unique=True))
    payload = data.draw(st.lists(st.dictionaries(keys, values, max_size=4), min_size=n, max_size=n))
    space = Space.of(vectors, ids, columns(payload) or None)
    place().delete()
    assert place().write(space.batches(data.draw(st.integers(1, 7)))) == n
    assert_same(place().load(), space)


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_rows_of_any_length_come_back_under_every_metric(database: servers.Database, place: Place, metric: str) -> None:
    if metric not in database.metrics:
        with pytest.raises(StoreError, match=f"cannot compare by {metric}"):
            place(f"?metric={metric}").write([books(3)])
        return
    space = Space.of(books(6).vectors * np.array([[1], [0.01], [100], [1], [3], [7]], np.float32), list(range(6)))
    place(f"?metric={metric}").write([space])
    told = place().describe()
    assert told.metric == metric
    assert_same(place().load(), space)


def test_unit_rows_get_no_field_of_ours(place: Place) -> None:
    x = cloud(5) / np.linalg.norm(cloud(5), axis=1, keepdims=True)
    place().write([Space.of(x, list(range(5)), [{"title": "a"}] * 5)])
    assert place().describe().payload == ("title",)
    assert_same(place().load(), Space.of(x, list(range(5)), [{"title": "a"}] * 5))


def test_missing_keys_and_nothing_are_two_things(place: Place) -> None:
    payload = [{"a": None}, {"b": 1}, {}, {"a": 0, "b": None}]
    space = Space.of(cloud(4), ["p", "q", "r", "s"], columns(payload))
    place().write(space.batches(3))
    assert_same(place().load(), space)
    assert by_id(place().load())["r"][1] == {}


def test_a_payload_of_a_megabyte_comes_back(database: servers.Database, place: Place) -> None:
    long = "é€😀x" * 100_000
    space = Space.of(cloud(2), ["a", "b"], [{"text": long}, {"text": "short"}])
    if database.payload_limit:
        with pytest.raises(StoreError, match=database.payload_limit):
            place().write([space])
        assert not place().exists()
        return
    place().write([space])
    assert_same(place().load(), space)


def test_rows_without_ids_and_payload_are_kept_by_their_numbers(place: Place) -> None:
    assert place().write(Space.of(cloud(7)).batches(3)) == 7
    assert_same(place().load(), Space.of(cloud(7), list(range(7))))
    assert place().describe().payload == ()


def test_it_tells_what_it_holds(database: servers.Database, place: Place) -> None:
    metric = database.metrics[1]
    assert not place().exists()
    place(f"?metric={metric}").write([books(6)])
    told = place().describe()
    assert place().exists() and place().count() == 6
    assert isinstance(told, Description) and isinstance(place(), Store)
    assert (told.rows, told.dim, told.dtype, told.metric, told.exact) == (6, 4, "float32", metric, True)
    assert told.ids and set(told.payload) == {"title", "year", "tags", "more"}
    assert told.name == place().name and told.normalised is not True


# --- order, slices, cursors


def test_reading_in_batches_is_reading(place: Place) -> None:
    place().write(books(20).batches(7))
    whole = place().load()
    for batch in (1, 6, 20, 50):
        parts = list(place().read(batch))
        assert joined(iter(parts)) == list(whole.ids_or_numbers())
        assert [len(part) for part in parts][:-1] == [batch] * ((20 - 1) // batch)
        assert [number for part in parts for number in part.numbers] == list(range(20))


@pytest.mark.parametrize(("start", "stop"), [(0, 20), (0, 1), (3, 11), (19, 20), (7, None)])
def test_a_slice_is_those_rows_and_no_others(place: Place, start: int, stop: int | None) -> None:
    place().write([books(20)])
    whole = place().load()
    sliced = place(f"?rows={start}:{'' if stop is None else stop}")
    assert sliced.describe().rows == (stop or 20) - start
    for batch in (4, 100):
        assert joined(sliced.read(batch)) == list(whole.ids_or_numbers())[start:stop]
    assert_same(sliced.load(), whole.rows(start, stop))


@pytest.mark.parametrize("query", ["", "?rows=2:17"])
def test_reading_goes_on_after_any_cursor(place: Place, query: str) -> None:
    place().write([books(20)])
    whole = joined(place(query).read())
    seen: list[object] = []
    for space, cursor in place(query).pages(batch=3):
        seen += list(space.ids_or_numbers())
        assert isinstance(cursor, str) and json.loads(json.dumps(cursor)) == cursor
        rest = joined(batch for batch, _ in place(query).pages(cursor, 5))
        assert seen + rest == whole
    assert seen == whole


def test_after_the_last_cursor_there_is_nothing(place: Place) -> None:
    place().write([books(5)])
    *_, (_, cursor) = place().pages(batch=2)
    assert list(place().pages(cursor)) == []


def test_a_cursor_from_elsewhere_is_refused(place: Place) -> None:
    place().write([books(2)])
    for cursor in ("", "nonsense", "[-1, 0]", "7"):
        with pytest.raises(StoreError, match="is not a cursor"):
            place().pages(cursor)


def test_rows_that_stay_are_read_once_while_others_come_and_go(database: servers.Database, place: Place) -> None:
    place().write([books(30)])
    pages = place().pages(batch=4)
    seen = list(next(pages)[0].ids_or_numbers())
    gone = [i for i in range(30) if i % 7 == 3]
    stay = set(range(30)) - set(gone)
    if database.remove is None:
        gone, stay = [], set(range(30))
    else:
        with place().session() as client:
            database.remove(place(), client, gone)
    place().upsert(books(5, start=100))
    seen += [i for space, _ in pages for i in space.ids_or_numbers()]
    assert len(seen) == len(set(seen))
    assert stay <= set(seen) <= set(range(30)) | set(range(100, 105))


# --- writing


def test_writing_again_by_id_changes_rows_and_doubles_none(place: Place) -> None:
    place().write([books(10)])
    for _ in range(2):
        assert place("?mode=upsert").write(books(8, start=5).batches(3)) == 8
    assert_same(place().load(), Space.of(cloud(13), list(range(13)), books(13).columns))
    changed = Space.of(-books(3).array(), [0, 1, 2], [{"title": "new"}] * 3)
    place().upsert(changed)
    now = by_id(place().load())
    assert place().count() == 13 and now[1][1] == {"title": "new"}
    assert np.allclose(now[1][0], changed.array()[1], rtol=1e-5)


def test_a_collection_with_rows_is_not_written_to_unasked(place: Place) -> None:
    place().write([books(4)])
    with pytest.raises(StoreError, match="already holds 4 rows") as refused:
        place().write([books(9)])
    assert "mode=upsert" in refused.value.hint
    assert_same(place().load(), books(4))


def test_rows_of_another_dimension_are_refused(place: Place) -> None:
    place().write([books(4)])
    with pytest.raises(StoreError, match="holds 4 dimensions, and these rows 5"):
        place("?mode=upsert").write([books(2, dim=5)])
    assert_same(place().load(), books(4))


def _failing(space: Space, error: BaseException) -> Iterator[Space]:
    yield space
    raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("bug"), SpaceError("bad row")])
def test_a_new_collection_is_all_or_nothing(place: Place, error: BaseException) -> None:
    with pytest.raises(type(error)):
        place().write(_failing(books(4), error))
    assert not place().exists()


def test_an_empty_collection_is_made_read_and_filled(place: Place) -> None:
    assert place().write([Space.of(np.empty((0, 4), np.float32))]) == 0
    (batch,) = place().read()
    assert (len(batch), batch.dim, len(place().load())) == (0, 4, 0)
    assert place().describe().rows == 0
    assert place().write([Space.of(cloud(3), [0, 1, 2])]) == 3


def test_a_collection_is_made_like_another(place: Place) -> None:
    place("?metric=euclidean").write([books(4)])
    place(suffix="_b").create(place().describe())
    told = place(suffix="_b").describe()
    assert (told.rows, told.dim, told.metric) == (0, 4, "euclidean")
    for space, _ in place().pages(batch=2):
        assert place(suffix="_b").upsert(space) == 2
    assert_same(place(suffix="_b").load(), books(4))
    with pytest.raises(StoreError, match="there is a collection .* already"):
        place(suffix="_b").create(place().describe())
    place(suffix="_b").delete()
    assert not place(suffix="_b").exists() and place().exists()


@pytest.mark.parametrize("keep", ["vectors", "ids", "all"])
def test_only_what_is_kept_is_read_and_written(place: Place, keep: str) -> None:
    place().write([books(3)])
    place(f"?keep={keep}", "_b").write([books(3)])
    for read in (place(f"?keep={keep}").load(), place(suffix="_b").load()):
        assert bool(read.columns) == (keep == "all")
    assert (place(f"?keep={keep}").load().ids is not None) == (keep != "vectors")
    told = place(f"?keep={keep}").describe()
    assert (told.ids, bool(told.payload)) == (keep != "vectors", keep == "all")


def test_names_that_crossvec_keeps_for_itself_are_refused(place: Place) -> None:
    with pytest.raises(StoreError, match="a name that crossvec keeps for itself"):
        place().write([Space.of(cloud(1), [1], [{"_crossvec_id": 3}])])
    assert not place().exists()


# --- wrong requests are told what is right


def test_a_missing_collection_names_the_one_that_is_meant(place: Place) -> None:
    place().write([books(2)])
    for ask in (
        lambda s: s.describe(),
        lambda s: s.load(),
        lambda s: s.read(),
        lambda s: s.pages(),
        lambda s: s.upsert(books(1)),
    ):
        with pytest.raises(StoreError, match="there is no collection") as refused:
            ask(place(suffix="_b"))
        assert place().name in refused.value.hint


def test_a_slice_beyond_the_end_is_refused(place: Place) -> None:
    place().write([books(5)])
    for read in (lambda s: s.read(), lambda s: s.load(), lambda s: s.describe()):
        with pytest.raises(StoreError, match="has 5 rows, so there are no rows 3:6"):
            read(place("?rows=3:6"))
    with pytest.raises(StoreError, match="a destination takes no row slice"):
        place("?rows=0:3").write([books(5)])


def test_wrong_options_and_batches_are_told_what_is_right(place: Place) -> None:
    with pytest.raises(StoreError, match="takes no option 'metrik'") as refused:
        place("?metrik=dot")
    assert "did you mean metric?" in refused.value.hint
    with pytest.raises(StoreError, match="mode=overwrite is not possible"):
        place("?mode=overwrite")
    place().write([books(2)])
    with pytest.raises(StoreError, match="cannot have 0 rows"):
        place().read(0)
    with pytest.raises(SpaceError, match="nothing to write"):
        place(suffix="_b").write([])


@pytest.mark.parametrize("secret", ["?api_key=hunter2", "?token=hunter2", "?password=hunter2"])
def test_secrets_in_an_address_are_refused_and_not_repeated(place: Place, secret: str) -> None:
    with pytest.raises(StoreError, match="must not hold") as refused:
        place(secret)
    assert "hunter2" not in str(refused.value) + refused.value.hint and refused.value.hint


def test_secrets_are_in_no_repr(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from crossvec.stores.address import SECRETS

    secret = str(uuid.uuid4())
    for variable in SECRETS.values():
        monkeypatch.setenv(variable, secret)
    assert secret not in repr(place()) + str(place())


def test_a_missing_client_names_the_install_line(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    store = place()
    monkeypatch.setitem(sys.modules, store.module, None)
    with pytest.raises(MissingExtraError) as refused:
        store.client_library()
    assert refused.value.hint == f"pip install 'crossvec[{store.extra}]'"
