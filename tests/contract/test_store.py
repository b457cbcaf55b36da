"""test_store — what every store promises, whatever its format: the contract, run over every built-in store.

To run it over a store of your own, install the package that brings it and add what it carries to CARRIES.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crossvec import stores
from crossvec.errors import SpaceError, StoreError
from crossvec.space import Space
from crossvec.stores import Description, Store

CARRIES = {
    ".npy": "",
    ".npz": "ids",
    ".parquet": "ids payload",
    ".arrow": "ids payload",
    ".feather": "ids payload",
    ".safetensors": "",
    ".jsonl": "ids payload",
    ".jsonl.gz": "ids payload",
    ".fvecs": "",
    ".h5": "ids",
    ".hdf5": "ids",
}
NO_ROWS_NO_DIMENSION = {".jsonl", ".jsonl.gz", ".fvecs"}

Place = Callable[..., Store]

# Each text draws its own rows; the folder is new each time, so one place serves all examples of a property.
property_test = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=stores.STORES)
def suffix(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def place(suffix: str, tmp_path: Path) -> Place:
    def at(query: str = "", name: str = "vectors") -> Store:
        return stores.open(f"{tmp_path / (name + suffix)}{query}")

    return at


@pytest.fixture
def new_place(suffix: str) -> Iterator[Place]:
    """A place that does not exist yet, however often it is asked for."""
    with tempfile.TemporaryDirectory() as folder:
        yield lambda query="": stores.open(f"{tempfile.mkdtemp(dir=folder)}/vectors{suffix}{query}")


def cloud(n: int, dim: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def full(suffix: str, n: int, dim: int = 3) -> Space:
    """A Space with all that the format carries."""
    ids = [f"id{i}" for i in range(n)] if "ids" in CARRIES[suffix] else None
    payload = {"title": [f"title {i}" for i in range(n)], "year": list(range(n))} if "payload" in CARRIES[suffix] else None
    return Space.of(cloud(n, dim), ids, payload, "full")


def joined(batches: Iterator[Space]) -> tuple[np.ndarray, list[object], list[dict[str, object]]]:
    parts = list(batches)
    ids = [i for part in parts for i in part.ids_or_numbers()]
    return np.concatenate([part.array() for part in parts]), ids, [record for part in parts for record in part.records()]


def equal(a: Space, b: Space) -> bool:
    alike = np.array_equal(a.array(), b.array()) and (a.ids is None) == (b.ids is None)
    return alike and list(a.ids_or_numbers()) == list(b.ids_or_numbers()) and a.records() == b.records()


values = st.floats(-1e6, 1e6, width=32).filter(lambda value: abs(value) > 1e-6)
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
kinds_of_id = st.sampled_from([st.integers(-(2**63), 2**63 - 1), words])
column_names = words.filter(lambda name: name not in ("", "id", "ids", "_id", "vector"))
kinds_of_value = st.sampled_from([words, st.integers(-(2**53), 2**53), st.booleans(), st.floats(allow_nan=False, width=32)])


@st.composite
def contents(draw: st.DrawFn, carries: str) -> tuple[np.ndarray, list[object] | None, dict[str, list[object]] | None]:
    n, dim = draw(st.integers(1, 12)), draw(st.integers(1, 5))
    vectors = np.array(draw(st.lists(values, min_size=n * dim, max_size=n * dim)), np.float32).reshape(n, dim)
    ids = draw(st.lists(draw(kinds_of_id), min_size=n, max_size=n, unique=True)) if "ids" in carries else None
    names = draw(st.lists(column_names, max_size=3, unique=True)) if "payload" in carries else []
    columns = {name: draw(st.lists(st.none() | draw(kinds_of_value), min_size=n, max_size=n)) for name in names}
    return vectors, ids, columns or None


# --- reading gives what was written


@property_test
@given(data=st.data())
def test_what_is_written_is_read_back(suffix: str, new_place: Place, data: st.DataObject) -> None:
    space = Space.of(*data.draw(contents(CARRIES[suffix])))
    store = new_place()
    assert store.write(space.batches(data.draw(st.integers(1, 12)))) == len(space)
    assert equal(store.load(), space)


@property_test
@given(batch=st.integers(1, 30), written=st.integers(1, 30))
def test_reading_in_batches_is_reading(suffix: str, new_place: Place, batch: int, written: int) -> None:
    store = new_place()
    store.write(full(suffix, 20).batches(written))
    vectors, ids, records = joined(store.read(batch))
    whole = store.load()
    assert np.array_equal(vectors, whole.array())
    assert ids == list(whole.ids_or_numbers()) and records == whole.records()
    assert [len(part) for part in store.read(batch)][:-1] == [batch] * ((20 - 1) // batch)


@property_test
@given(start=st.integers(0, 19), length=st.integers(1, 20), batch=st.integers(1, 9))
def test_a_slice_is_those_rows_and_no_others(suffix: str, place: Place, start: int, length: int, batch: int) -> None:
    space = full(suffix, 20)
    if not Path(place().address.place).exists():
        place().write(space.batches(6))
    stop = min(start + length, 20)
    sliced = place(f"?rows={start}:{stop}")
    assert sliced.describe().rows == stop - start
    assert equal(sliced.load(), space.rows(start, stop))
    vectors, ids, records = joined(sliced.read(batch))
    assert np.array_equal(vectors, space.array()[start:stop])
    assert ids == list(space.ids_or_numbers())[start:stop] and records == space.records()[start:stop]


@pytest.mark.parametrize(("n", "dim"), [(1, 1), (1, 8192), (50, 1), (50, 8192), (3, 7)])
def test_small_and_wide_spaces_come_back(place: Place, n: int, dim: int) -> None:
    assert place().write([Space.of(cloud(n, dim))]) == n
    assert np.array_equal(place().load().array(), cloud(n, dim))
    assert place().describe().dim == dim


def test_no_rows_come_back_as_no_rows_where_the_format_keeps_the_dimension(suffix: str, place: Place) -> None:
    assert place().write([Space.of(np.empty((0, 5), np.float32))]) == 0
    if suffix in NO_ROWS_NO_DIMENSION:
        with pytest.raises(StoreError, match="holds no rows, so no dimension"):
            place().load()
        return
    (batch,) = place().read()
    assert (len(batch), batch.dim) == (len(place().load()), place().load().dim) == (0, 5)


def test_empty_batches_among_others_change_nothing(suffix: str, place: Place) -> None:
    space = full(suffix, 5)
    place().write([space.rows(0, 0), space.rows(0, 2), space.rows(2, 2), space.rows(2, 5)])
    assert equal(place().load(), space)


def test_it_tells_what_it_holds(suffix: str, place: Place) -> None:
    place().write([full(suffix, 6)])
    told = place().describe()
    assert isinstance(told, Description) and isinstance(place(), Store)
    assert (told.rows, told.dim, told.dtype, told.name) == (6, 3, "float32", "vectors")
    assert (told.ids, bool(told.payload)) == ("ids" in CARRIES[suffix], "payload" in CARRIES[suffix])
    assert told.size == Path(place().address.place).stat().st_size


def test_half_precision_comes_back_where_the_format_has_it(suffix: str, place: Place) -> None:
    if suffix in (".jsonl", ".jsonl.gz", ".fvecs"):
        with pytest.raises(StoreError, match="cannot hold dtype=float16"):
            place("?dtype=float16").write([full(suffix, 6)])
        return
    place("?dtype=float16").write([full(suffix, 6)])
    assert place().describe().dtype == "float16"
    assert np.array_equal(place().load().array(), cloud(6).astype(np.float16).astype(np.float32))


def test_what_half_precision_cannot_hold_is_refused(suffix: str, place: Place) -> None:
    with pytest.raises((SpaceError, StoreError), match="row 1 holds NaN or infinite|cannot hold dtype"):
        place("?dtype=float16").write([Space.of(cloud(3) * np.array([[1], [1e6], [1]]))])


# --- nothing is lost unsaid


def test_ids_and_payload_it_cannot_carry_are_refused_with_the_way_out(suffix: str, place: Place) -> None:
    space = full(".parquet", 4)
    lost = [what for what in ("ids", "payload") if what not in CARRIES[suffix]]
    if not lost:
        place().write([space])
        assert equal(place().load(), space)
        return
    with pytest.raises(StoreError, match=f"cannot carry the {' and '.join(lost)} of these rows") as refused:
        place().write([space])
    assert ".parquet" in refused.value.hint
    assert not os.listdir(Path(place().address.place).parent)
    place("?" + refused.value.hint.rpartition("?")[2]).write([space])  # the hint works
    assert np.array_equal(place().load().array(), space.array())


@pytest.mark.parametrize("keep", ["vectors", "ids", "all"])
def test_only_what_is_kept_is_read_and_written(suffix: str, place: Place, keep: str) -> None:
    space = full(suffix, 4)
    place().write([space])
    place(f"?keep={keep}", "copy").write([space])
    for read in (place(f"?keep={keep}").load(), place(name="copy").load(), next(place(f"?keep={keep}").read())):
        assert (read.ids is not None) == (space.ids is not None and keep != "vectors")
        assert bool(read.columns) == (bool(space.columns) and keep == "all")
    told = place(f"?keep={keep}").describe()
    assert (told.ids, bool(told.payload)) == (read.ids is not None, bool(read.columns))


def test_bad_rows_are_refused_by_number_or_dropped_and_listed(suffix: str, place: Place) -> None:
    if suffix.startswith(".jsonl"):
        lines = ['{"vector": [1, 2, 3]}', '{"vector": [NaN, 2, 3]}', '{"vector": [0, 0, 0]}', '{"vector": [4, 5, 6]}']
        _write_text(Path(place().address.place), "\n".join(lines))
        kept = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    else:
        vectors = cloud(4)
        vectors[1, 0], vectors[2] = np.nan, 0
        unchecked = Space(vectors)._trusted()  # as a program that does not check would write it
        place().write([unchecked])
        kept = vectors[[0, 3]]
    told = "row 1 holds NaN or infinite values; row 2 holds only zeros"
    with pytest.raises(SpaceError, match=told):
        list(place().read())
    with pytest.raises(SpaceError, match=told):
        place().load().array()
    with pytest.raises(SpaceError, match="row 2 holds only zeros"):
        list(place("?rows=2:4").read())
    for space in (place("?bad_rows=drop").load(), next(place("?bad_rows=drop").read())):
        assert space.dropped == (1, 2) and list(space.ids_or_numbers()) == [0, 3]
        assert np.array_equal(space.array(), kept)


# --- all or nothing


def _failing(space: Space, error: BaseException) -> Iterator[Space]:
    yield space
    raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("bug"), SpaceError("bad row")])
def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(suffix: str, place: Place, error: BaseException) -> None:
    folder = Path(place().address.place).parent
    with pytest.raises(type(error)):
        place().write(_failing(full(suffix, 4), error))
    assert not os.listdir(folder)
    place().write([full(suffix, 4)])
    before = Path(place().address.place).read_bytes()
    with pytest.raises(type(error)):
        place().write(_failing(full(suffix, 9), error))
    assert Path(place().address.place).read_bytes() == before
    assert len(os.listdir(folder)) == 1


def test_a_place_can_be_rewritten_from_itself(suffix: str, place: Place) -> None:
    space = full(suffix, 20)
    place().write([space])
    place().write(dataclasses.replace(part, vectors=-part.array()) for part in place().read(3))
    assert np.array_equal(place().load().array(), -space.array())
    assert list(place().load().ids_or_numbers()) == list(space.ids_or_numbers())


def test_rows_that_do_not_belong_together_are_refused(suffix: str, place: Place) -> None:
    with pytest.raises(SpaceError, match="change their dimension from 3 to 4"):
        place().write([Space.of(cloud(2, 3)), Space.of(cloud(2, 4))])
    with pytest.raises(SpaceError, match="nothing to write"):
        place().write([])
    if "ids" in CARRIES[suffix]:
        with pytest.raises(SpaceError, match="some rows .* have ids and some have none"):
            place().write([Space.of(cloud(2), ["a", "b"]), Space.of(cloud(2))])
    assert not os.listdir(Path(place().address.place).parent)


# --- wrong requests are told what is right


def test_a_slice_beyond_the_end_is_refused(suffix: str, place: Place) -> None:
    place().write([full(suffix, 5)])
    for read in (lambda s: s.read(), lambda s: s.load(), lambda s: s.describe()):  # before the first batch is asked for
        with pytest.raises(StoreError, match="has 5 rows, so there are no rows 3:6"):
            read(place("?rows=3:6"))


def test_a_destination_takes_no_slice(suffix: str, place: Place) -> None:
    with pytest.raises(StoreError, match="a destination takes no row slice"):
        place("?rows=0:3").write([full(suffix, 5)])


def test_a_batch_of_no_rows_is_refused(suffix: str, place: Place) -> None:
    place().write([full(suffix, 5)])
    with pytest.raises(StoreError, match="cannot have 0 rows"):
        place().read(0)


def test_a_missing_file_names_the_one_that_is_meant(suffix: str, place: Place) -> None:
    place(name="potion").write([full(suffix, 2)])
    with pytest.raises(StoreError, match="there is no file") as refused:
        place(name="poton").load()
    assert f"did you mean potion{suffix}?" in refused.value.hint


def test_an_unknown_option_names_the_nearest(place: Place) -> None:
    with pytest.raises(StoreError, match="takes no option 'row'") as refused:
        place("?row=0:3")
    assert "did you mean rows?" in refused.value.hint


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.99])
def test_a_file_that_is_cut_short_is_refused(suffix: str, place: Place, part: float) -> None:
    place().write([full(suffix, 307, dim=7)])
    path = Path(place().address.place)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises((StoreError, SpaceError)) as refused:
        list(place().read(64))
    assert str(path.name).partition(".")[0] in str(refused.value) and refused.value.hint


def test_a_file_of_another_format_is_refused(suffix: str, place: Place) -> None:
    Path(place().address.place).write_bytes(b"<html>not found</html>" * 50)
    for read in (lambda s: s.describe(), lambda s: s.load(), lambda s: list(s.read())):
        with pytest.raises(StoreError) as refused:
            read(place())
        assert "vectors" in str(refused.value)


def _write_text(path: Path, text: str) -> None:
    import gzip

    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
