"""test_tables — any slice of a table's file is the same slice of its rows, whatever pieces the file is in."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crossvec import stores
from crossvec.space import BATCH_ROWS, Space
from crossvec.stores.tables import TableFile, _runs

ROWS = 2 * BATCH_ROWS + 3000
BORDERS = (0, 1, 4999, 5000, BATCH_ROWS - 1, BATCH_ROWS, BATCH_ROWS + 1, 2 * BATCH_ROWS - 1, 2 * BATCH_ROWS, ROWS - 1)
"""Rows on both sides of what pieces end at, in the first, second and third of the batches that a row group is read in."""

PLACES = [(end, piece) for end in (".parquet", ".arrow") for piece in (ROWS, 5000, 700)]


def rows() -> np.ndarray:
    return np.arange(1, 2 * ROWS + 1, dtype=np.float32).reshape(ROWS, 2)


@pytest.fixture(scope="module", params=PLACES, ids=str)
def table(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of ROWS rows as another program writes it, in one piece or in several."""
    end, piece = request.param
    path = tmp_path_factory.mktemp("tables") / f"big{end}"
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows().reshape(-1)), 2)
    made = pa.table({"id": range(ROWS), "vector": vectors, "title": [f"é {i}" for i in range(ROWS)]})
    if end == ".parquet":
        pq.write_table(made, path, row_group_size=piece)
    else:
        with pa.ipc.new_file(str(path), made.schema) as writer:
            writer.write_table(made, max_chunksize=piece)
    return path


def assert_rows(found: list[Space], start: int, stop: int) -> None:
    assert np.array_equal(np.concatenate([space.array() for space in found]), rows()[start:stop])
    for told in ("ids", "numbers"):
        assert np.array_equal(np.concatenate([getattr(space, told) for space in found]), np.arange(start, stop))
    for space in found:
        ends = space.take([0, len(space) - 1])
        assert [row["title"] for row in ends.records()] == [f"é {number}" for number in ends.numbers]


@pytest.mark.parametrize("start", BORDERS)
def test_a_slice_that_begins_anywhere_is_the_slice_of_all_rows(table: Path, start: int) -> None:
    for stop in {start + 1, min(start + 6001, ROWS)}:
        store = stores.open(f"{table}?rows={start}:{stop}")
        assert_rows(list(store.read()), start, stop)
        assert_rows(list(store.read(2999)), start, stop)
        assert_rows([store.load()], start, stop)


def test_several_slices_in_one_reading_are_those_slices(table: Path) -> None:
    slices = [(0, 3), (3, 4), (690, 710), (5000, 5001), (BATCH_ROWS - 5, BATCH_ROWS + 5), (9000, 18000), (ROWS - 100, ROWS)]
    store = cast(TableFile, stores.open(table))
    found = list(store.parts(slices))
    assert_rows(found[:2], 0, 4)
    wanted = [i for start, stop in slices for i in range(start, stop)]
    assert [int(i) for space in found for i in space.numbers] == wanted
    assert np.array_equal(np.concatenate([space.array() for space in found]), rows()[wanted])
    inner = cast(TableFile, stores.open(f"{table}?rows=4000:12000"))
    assert [int(i) for space in inner.parts([(0, 2), (7998, 8000)]) for i in space.numbers] == [4000, 4001, 11998, 11999]


def test_row_groups_without_a_wanted_row_are_left_out() -> None:
    assert _runs([10, 10, 20, 30, 40], [(0, 1), (25, 30)]) == [range(1), range(3, 4)]
    assert _runs([10, 20, 30], [(9, 11), (12, 13), (20, 99)]) == [range(3)]
    assert _runs([], [(0, 5)]) == [] and _runs([5], [(5, 9)]) == []
