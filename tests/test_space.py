"""test_space — what a Space accepts, what it refuses and by which words, and that its parts are the whole."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crossvec.errors import SpaceError
from crossvec.space import CHECKED_AT_ONCE, Space

clouds = hnp.arrays(
    np.float32,
    st.tuples(st.integers(0, 40), st.integers(1, 6)),
    elements=st.floats(-1e6, 1e6, width=32).filter(lambda value: abs(value) > 1e-6),
)


def cloud(n: int = 50, dim: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def with_rows(bad: dict[int, float], n: int = 50, dim: int = 4) -> np.ndarray:
    x = cloud(n, dim)
    for row, value in bad.items():
        x[row] = value
    return x


def named(n: int) -> Space:
    return Space.of(cloud(n), [f"id{i}" for i in range(n)], [{"title": f"t{i}", "year": i} for i in range(n)], "named")


# --- what is accepted


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", ">f4"])
def test_every_accepted_number_type_becomes_float32(dtype: str) -> None:
    x = (cloud() * 10).round() + 0.5 if dtype != "int8" else (cloud() * 10).round() + 20
    given = x.astype(dtype)
    array = Space.of(given).array()
    assert array.dtype == np.float32 and array.flags.c_contiguous and array.flags.writeable
    assert np.array_equal(array, given.astype(np.float32))


@pytest.mark.parametrize("make", [lambda x: x.tolist(), list, torch.tensor, lambda x: torch.tensor(x).requires_grad_()])
def test_anything_like_a_matrix_is_taken(make: object) -> None:
    x = cloud()
    assert np.array_equal(Space.of(make(x)).array(), x)


def test_bfloat16_tensors_are_taken() -> None:
    x = torch.tensor(cloud()).bfloat16()
    assert np.array_equal(Space.of(x).array(), x.float().numpy())


@pytest.mark.parametrize("shape", [(0, 5), (1, 5), (50, 1), (3, 8192)])
def test_small_and_wide_spaces_are_spaces(shape: tuple[int, int]) -> None:
    space = Space.of(cloud(*shape))
    assert (len(space), space.dim, space.array().shape) == (*shape, shape)


def test_float32_rows_are_not_copied() -> None:
    x = cloud()
    assert np.shares_memory(Space.of(x).array(), x)


def test_an_array_from_read_only_memory_is_the_callers_own() -> None:
    x = cloud()
    x.flags.writeable = False
    array = Space.of(x).array()
    array[0] = 7
    assert not np.shares_memory(array, x)


# --- what is refused, and how it is said


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (with_rows({3: np.nan}), "row 3 holds NaN or infinite values"),
        (with_rows({3: np.inf, 7: np.nan, 40: -np.inf}), "rows 3, 7 and 40 hold NaN or infinite values"),
        (with_rows({i: np.nan for i in range(20)}), "rows 0, 1, 2, 3, 4 and 15 more hold NaN"),
        (with_rows({5: 0.0}), "row 5 holds only zeros"),
        (with_rows({5: 0.0, 6: np.nan}), "row 6 holds NaN or infinite values; row 5 holds only zeros"),
        (with_rows({5: 1e30}), "row 5 holds values too large for float32 arithmetic"),
        (with_rows({5: 1e-30}), "row 5 holds only zeros, or values too small for float32"),
        (
            with_rows({2: 1.0}).astype(np.float64) * np.where(np.arange(50) == 2, 1e300, 1)[:, None],
            "row 2 holds NaN or infinite",
        ),
        ([[1.0, 2.0], [1.0, 2.0, 3.0], [4.0, 5.0]], r"ragged: row 1 \(3 values, not 2\)"),
        ([[1.0, 2.0], [1.0, "2"]], "something else than numbers: row 1"),
        ([[1.0, 2.0], [None, 1.0]], "row 1 holds NaN"),
        ([[10**400, 2.0]], "not a table of numbers"),
        ([], "is empty"),
        (5, "not a table of numbers"),
        (cloud()[0], r"shape \(4,\); a space is \(rows, dimensions\)"),
        (cloud()[None], r"shape \(1, 50, 4\)"),
        (np.empty((5, 0), np.float32), "dimension 0"),
        (np.ones((5, 4), np.int64), "holds int64"),
        (np.ones((5, 4), np.uint8), "holds uint8"),
        (np.ones((5, 4), complex), "holds complex128"),
        (np.full((5, 4), "a"), "holds <U1"),
        (np.ma.masked_array(cloud(), mask=cloud() > 0), "MaskedArray"),
    ],
)
def test_what_is_no_space_is_refused_by_row(array: object, words: str) -> None:
    with pytest.raises(SpaceError, match=words):
        Space.of(array)


@given(clouds.filter(len), st.data())
def test_exactly_the_bad_rows_are_named(x: np.ndarray, data: st.DataObject) -> None:
    rows = sorted(data.draw(st.sets(st.integers(0, len(x) - 1), min_size=1, max_size=5)))
    for row in rows:
        x[row, data.draw(st.integers(0, x.shape[1] - 1))] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    listed = ", ".join(map(str, rows[:-1])) + (" and " if rows[1:] else "") + str(rows[-1])
    with pytest.raises(SpaceError, match=f"rows? {listed} hold"):
        Space.of(x)


def test_a_bad_row_is_found_beyond_the_rows_checked_at_once() -> None:
    x = np.ones((CHECKED_AT_ONCE // 1024 + 3, 1024), np.float16)
    x[-1, 5] = np.nan
    with pytest.raises(SpaceError, match=f"row {len(x) - 1:,} holds NaN"):
        Space.of(x)


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (["a", "b", "a"], "rows 0 and 2 of toy have the same id, 'a'"),
        (np.array([4, 4, 5]), "rows 0 and 1 of toy have the same id, 4"),
        (["a", None, "c"], "the id of row 1 is None"),
        (["a", 1.5, "c"], "the id of row 1 is 1.5"),
        ([True, False, 2], "the id of row 0 is True"),
        (["a", "b"], "3 rows but 2 ids"),
    ],
)
def test_ids_that_do_not_tell_rows_apart_are_refused(ids: object, words: str) -> None:
    with pytest.raises(SpaceError, match=words):
        Space.of(cloud(3), ids, name="toy")


def test_payload_of_another_length_is_refused() -> None:
    with pytest.raises(SpaceError, match="3 rows but 2 values in payload column 'a'"):
        Space.of(cloud(3), payload={"a": [1, 2]})
    with pytest.raises(SpaceError, match="3 rows but 2 values"):
        Space.of(cloud(3), payload=[{"a": 1}, {"a": 2}])


# --- bad rows can be left out, and nothing is lost unsaid


def test_dropped_rows_are_listed_and_the_others_keep_what_is_theirs() -> None:
    x = with_rows({2: np.nan, 5: 0.0, 7: 1e30}, n=9)
    space = Space.of(x, list("abcdefghi"), {"n": list(range(9))}, bad_rows="drop")
    assert space.dropped == (2, 5, 7)
    assert list(space.ids) == list("abdegi") and space.columns["n"] == [0, 1, 3, 4, 6, 8]
    assert list(space.numbers) == [0, 1, 3, 4, 6, 8]
    assert np.array_equal(space.array(), x[[0, 1, 3, 4, 6, 8]])


def test_good_rows_are_not_dropped() -> None:
    x = cloud()
    space = Space.of(x, bad_rows="drop")
    assert not space.dropped and np.shares_memory(space.array(), x)


def test_rows_without_ids_keep_their_numbers_when_others_are_dropped() -> None:
    assert list(Space.of(with_rows({0: 0.0}, n=3), bad_rows="drop").ids_or_numbers()) == [1, 2]


def test_rows_checked_later_are_refused_when_they_are_read() -> None:
    space = Space.of(with_rows({20: np.nan}), name="late", bad_rows="later")
    assert len(space.rows(0, 20).array()) == 20
    for read in (space.array, space.rows(10, 30).array, lambda: [batch.array() for batch in space.batches(7)]):
        with pytest.raises(SpaceError, match="in late, row 20 holds NaN"):
            read()


def test_vectors_put_into_a_checked_space_are_checked_again() -> None:
    space = Space.of(cloud())
    with pytest.raises(SpaceError, match="row 3 holds NaN"):
        dataclasses.replace(space, vectors=with_rows({3: np.nan})).array()


def test_an_unknown_wish_for_bad_rows_is_refused() -> None:
    with pytest.raises(Exception, match="bad_rows"):  # by the type check of these tests, elsewhere by Space itself
        Space.of(cloud(), bad_rows="ignore")


# --- parts of a Space are Spaces


@given(clouds, st.integers(1, 50))
def test_batches_together_are_the_space(x: np.ndarray, rows: int) -> None:
    space = Space.of(x, [f"r{i}" for i in range(len(x))], {"n": np.arange(len(x))})
    parts = list(space.batches(rows))
    assert np.array_equal(np.concatenate([part.array() for part in parts]), x)
    assert [i for part in parts for i in part.ids] == list(space.ids)
    assert [n for part in parts for n in part.columns["n"]] == list(range(len(x)))
    assert all(len(part) == rows for part in parts[:-1])


@given(st.integers(0, 30), st.data())
def test_slices_compose(n: int, data: st.DataObject) -> None:
    space = named(n)
    a = data.draw(st.integers(0, n))
    b = data.draw(st.integers(a, n))
    c = data.draw(st.integers(0, b - a))
    d = data.draw(st.integers(c, b - a))
    twice, once = space.rows(a, b).rows(c, d), space.rows(a + c, a + d)
    assert np.array_equal(twice.array(), once.array())
    assert (twice.ids, twice.records(), list(twice.numbers)) == (once.ids, once.records(), list(once.numbers))


def test_batches_do_not_copy() -> None:
    x = cloud()
    assert all(np.shares_memory(part.vectors, x) for part in Space.of(x).batches(7))


def test_an_empty_space_has_one_empty_batch_that_tells_the_dimension() -> None:
    (batch,) = Space.of(np.empty((0, 5), np.float32)).batches()
    assert (len(batch), batch.dim) == (0, 5)


@pytest.mark.parametrize(("start", "stop"), [(0, 51), (-1, 5), (9, 3)])
def test_rows_that_are_not_there_are_refused(start: int, stop: int) -> None:
    with pytest.raises(SpaceError, match="has 50 rows, so there are no rows"):
        Space.of(cloud()).rows(start, stop)


def test_a_batch_of_no_rows_is_refused() -> None:
    with pytest.raises(SpaceError, match="cannot have 0 rows"):
        list(Space.of(cloud()).batches(0))


def test_the_same_seed_draws_the_same_rows_each_once() -> None:
    space = named(40)
    one, two, other = space.sample(10, seed=3), space.sample(10, seed=3), space.sample(10, seed=4)
    assert one.ids == two.ids != other.ids
    assert len(set(one.ids)) == 10 and list(one.numbers) == sorted(one.numbers)
    assert [f"id{i}" for i in one.numbers] == one.ids
    assert space.sample(40) is space and space.sample(999) is space


def test_arrow_columns_are_cut_like_lists() -> None:
    space = Space.of(cloud(6), payload={"when": pa.chunked_array([[1, 2, 3], [4, 5, 6]], pa.timestamp("ms"))})
    part = space.rows(2, 5).take([2, 0])
    assert part.columns["when"].cast(pa.int64()).to_pylist() == [5, 3]
    assert part.columns["when"].type == pa.timestamp("ms")


def test_records_become_columns_and_records_again() -> None:
    space = Space.of(cloud(3), payload=[{"a": 1}, {"b": "x"}, {"a": 3, "b": "y"}])
    assert dict(space.columns) == {"a": [1, None, 3], "b": [None, "x", "y"]}
    assert space.records() == [{"a": 1, "b": None}, {"a": None, "b": "x"}, {"a": 3, "b": "y"}]
    assert Space.of(cloud(2)).records() == [{}, {}]


def test_records_that_come_once_are_kept(unchecked: None) -> None:
    once = ({"a": row} for row in range(2))
    assert Space.of(cloud(2), payload=once).records() == [{"a": 0}, {"a": 1}]  # type: ignore[arg-type]


def test_rows_are_taken_by_position_or_by_truth_values_and_by_nothing_else(unchecked: None) -> None:
    space = Space.of(np.eye(4), ids=["a", "b", "c", "d"])
    assert space.take([3, 1, 1]).ids == ["d", "b", "b"]
    assert space.take(np.array([False, True, False, True])).ids == ["b", "d"]
    assert len(space.take([])) == 0
    for wrong in ([-1], [4], [1.7], [True, False], np.array([[0, 1]]), "12"):
        with pytest.raises(SpaceError, match="cannot be taken|there is no row"):
            space.take(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [np.array, torch.tensor], ids=["array", "tensor"])
def test_columns_with_several_values_a_row_keep_them_when_rows_are_picked(make: Any) -> None:
    space = Space.of(np.eye(3), payload={"tags": make([[1, 2], [3, 4], [5, 6]])})
    assert space.take([1, 2]).records() == space.rows(1, 3).records() == [{"tags": [3, 4]}, {"tags": [5, 6]}]


def test_times_finer_than_a_microsecond_stay_times() -> None:
    moments = np.array(["2020-01-01T00:00:00.000000001", "NaT"], "M8[ns]")
    told = Space.of(np.eye(2), payload={"when": moments}).records()
    assert told == [{"when": datetime(2020, 1, 1)}, {"when": None}]


def test_a_column_whose_name_is_no_text_is_refused(unchecked: None) -> None:
    with pytest.raises(SpaceError, match="named 1, which is no text"):
        Space.of(np.eye(3), payload={1: [1, 2, 3]})


def test_a_space_shows_its_size_and_not_its_vectors() -> None:
    assert repr(named(3)) == "Space('named': 3 x 4 float32; ids; payload title, year)"
