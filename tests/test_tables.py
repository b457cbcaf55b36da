"""test_tables — any slice of a table's file is the same slice of its rows, whatever pieces the file is in; lines are JSON."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crossvec import stores
from crossvec.errors import CrossvecError, StoreError
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


# --- lines of JSON are JSON


def no_json(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


def lines_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line, parse_constant=no_json) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_payload_column_whose_name_is_no_text_is_refused_and_writes_no_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    for name in (1, None, (1, 2)):
        payload: dict[Any, list[int]] = {"a": [1, 2, 3], name: [1, 2, 3]}
        with pytest.raises(CrossvecError, match="is no text") as refused:
            stores.open(path).write([Space.of(np.eye(3), payload=payload)])
        assert repr(name) in str(refused.value) and refused.value.hint and not list(tmp_path.iterdir())


def test_a_missing_number_is_null_in_lines_of_json_wherever_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    nan, day = float("nan"), date(2024, 2, 29)
    payload = {
        "price": np.array([1.5, nan, -2.0]),
        "deep": [{"NaN": [nan, "NaN"], "day": day}, [nan, [nan, 1]], nan],
        "said": ["NaN", "[Infinity", ", -Infinity"],
    }
    stores.open(path).write([Space.of(np.eye(3), payload=payload)])
    assert [line["price"] for line in lines_of(path)] == [1.5, None, -2.0]
    deep = [{"NaN": [None, "NaN"], "day": "2024-02-29"}, [None, [None, 1]], None]
    assert [line["deep"] for line in lines_of(path)] == deep
    space = stores.open(path).load()
    assert space.columns["deep"] == deep and space.columns["said"] == payload["said"]


def test_an_infinite_number_comes_back_from_lines_that_are_json(tmp_path: Path) -> None:
    inf = float("inf")
    for ending in (".jsonl", ".parquet"):
        path = tmp_path / f"a{ending}"
        stores.open(path).write([Space.of(np.eye(3), payload={"n": [inf, -inf, 1.5], "deep": [[inf], [-inf], [0.5]]})])
        assert stores.open(path).load().records() == [
            {"n": inf, "deep": [inf]},
            {"n": -inf, "deep": [-inf]},
            {"n": 1.5, "deep": [0.5]},
        ]
    assert len(lines_of(tmp_path / "a.jsonl")) == 3


def test_lines_with_a_bare_nan_that_others_wrote_are_still_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"vector": [1, 2], "n": NaN}\n{"vector": [3, 4], "n": -Infinity}\n')
    found = stores.open(path).load().columns["n"]
    assert np.isnan(found[0]) and found[1] == -np.inf


def test_a_payload_value_that_holds_itself_is_refused_and_the_lines_before_stay(tmp_path: Path) -> None:
    path, round_and_round = tmp_path / "a.jsonl", [1.0]
    round_and_round.append(round_and_round)  # type: ignore[arg-type]
    stores.open(path).write([Space.of(np.eye(2))])
    with pytest.raises(StoreError, match="'loop' cannot be written as JSON") as refused:
        stores.open(path).write([Space.of(np.eye(2), payload={"loop": [1, round_and_round]})])
    assert refused.value.hint and len(lines_of(path)) == 2
