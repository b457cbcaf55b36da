"""The laws of pairs: row i stays the partner of row i, whatever was left out on either side."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossvec.errors import SpaceError
from crossvec.pairing import joined, partners, places, same_ids
from crossvec.space import Space

bad = st.sets(st.integers(0, 19), max_size=20)


def holed(missing: set[int], first: int = 0, ids: list[str] | None = None) -> Space:
    """Twenty rows that hold their own place, from row `first` of a file; the missing ones are NaN there."""
    vectors = np.stack([np.arange(1.0, 21), np.ones(20)], axis=1)
    vectors[sorted(missing)] = np.nan
    return Space.of(vectors, ids, numbers=range(first, first + 20), bad_rows="drop")


@given(bad, bad, st.integers(0, 50), st.integers(0, 50))
def test_pairs_stand_in_the_same_place_and_only_bad_rows_cost_any(one: set[int], other: set[int], a: int, b: int) -> None:
    left, right, lost = joined(holed(one, a), holed(other, b))
    assert lost == len(one | other)
    assert left.vectors[:, 0].tolist() == right.vectors[:, 0].tolist()
    assert left.vectors[:, 0].tolist() == [place + 1 for place in range(20) if place not in one | other]


@given(bad)
def test_places_are_those_before_rows_were_left_out(missing: set[int]) -> None:
    assert places(holed(missing)).tolist() == [place for place in range(20) if place not in missing]


def test_whole_spaces_are_not_copied() -> None:
    a, b = holed(set()), holed(set())
    one, other, lost = joined(a, b)
    assert (one is a, other is b, lost) == (True, True, 0)


def test_sizes_are_compared_before_rows_were_left_out() -> None:
    with pytest.raises(SpaceError, match="20 rows and the target 19"):
        partners(holed({3, 4}), holed({1}).rows(0, 19))
    with pytest.raises(SpaceError, match="cannot be pairs"):
        partners(holed({3}), holed(set()).rows(0, 19))


@pytest.mark.parametrize(
    "cut", [lambda space: space.rows(0, 15), lambda space: space.sample(15), lambda space: space.take([4])]
)
def test_what_was_cut_after_bad_rows_were_left_out_is_no_pair_of_anything(cut: Callable[[Space], Space]) -> None:
    whole, broken = holed(set()), holed({0})
    with pytest.raises(SpaceError, match="before it was cut"):
        partners(cut(broken), cut(whole))
    one, other, _ = joined(broken, whole)
    assert len(partners(cut(one), cut(other))) == len(cut(one))


def test_equal_ids_are_seen_through_what_was_left_out() -> None:
    names = [f"text {i}" for i in range(20)]
    assert same_ids(holed({3}, ids=names), holed({5, 6}, ids=names))
    assert not same_ids(holed({3}, ids=names), holed({3}))
    assert not same_ids(holed(set(), ids=names), holed(set(), ids=names[::-1]))
    with pytest.raises(SpaceError, match="another order"):
        partners(holed({0}, ids=names), holed({0}, ids=[names[0], *names[:0:-1]]))


def test_numbers_that_do_not_rise_cannot_tell_places() -> None:
    vectors = np.ones((3, 2))
    vectors[1] = np.nan
    with pytest.raises(SpaceError, match="do not tell where"):
        places(Space.of(vectors, numbers=[5, 2, 1], bad_rows="drop"))
