"""test_stores — how places are named, that writing is all or nothing, and what is particular to each format."""

from __future__ import annotations

import datetime
import errno
import gzip
import importlib
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from crossvec import stores
from crossvec.errors import MissingExtraError, SpaceError, StoreError, UnfinishedError
from crossvec.space import Space
from crossvec.stores.address import Address
from crossvec.stores.atomic import atomically


def cloud(n: int = 10, dim: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Run code in a fresh interpreter."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


# --- the name of a place


def test_a_path_alone_is_a_place() -> None:
    address = Address.parse("folder/a%20b.npy")
    assert (address.scheme, address.place, address.rows, address.options) == ("file", "folder/a%20b.npy", None, {})


def test_a_file_url_is_decoded() -> None:
    for url in ("file:///data/a%20b.npy?rows=0:5&key=x%26y", "FILE://localhost/data/a%20b.npy?rows=:5&key=x%26y"):
        address = Address.parse(url)
        assert (address.place, address.rows, address.options) == ("/data/a b.npy", (0, 5), {"key": "x&y"})


def test_another_scheme_keeps_what_follows() -> None:
    address = Address.parse("qdrant://host:6333/books?rows=7:")
    assert (address.scheme, address.place, address.rows) == ("qdrant", "host:6333/books", (7, None))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "names no place"),
        ("?rows=0:3", "names no place"),
        ("a\0.npy", "names no place"),
        ("file://host/a.npy", "names another machine, host"),
        ("a.npy?rows=5", "rows=5 in .* is not a slice"),
        ("a.npy?rows=-5:3", "is not a slice"),
        ("a.npy?rows=0:1e3", "is not a slice"),
        ("a.npy?rows=5:5", "selects no rows"),
        ("a.npy?rows=5:2", "selects no rows"),
        ("a.npy?rows=0:5&rows=5:9", "gives an option twice"),
        ("a.npy?keep=payload", "keep=payload is not possible"),
        ("a.npy?bad_rows=ignore", "bad_rows=ignore is not possible"),
        ("a.npy?column=x", "takes no option 'column'"),
        ("a.npyy", r"cannot read or write \.npyy files"),
        ("a.npy.gz", r"cannot read or write \.gz files"),
        ("vectors", "has no suffix that tells its format"),
        ("nosuch://host/a", "knows no store nosuch://"),
    ],
)
def test_a_place_that_cannot_be_is_refused(url: str, words: str) -> None:
    with pytest.raises(StoreError, match=words) as refused:
        stores.open(url)
    assert refused.value.hint


def test_an_unknown_suffix_names_the_nearest() -> None:
    with pytest.raises(StoreError) as refused:
        stores.open("a.parqet")
    assert refused.value.hint.startswith("did you mean .parquet?")


def test_a_suffix_may_be_written_large() -> None:
    assert stores.open("A.NPY").describe.__self__.format == ".npy"


def test_a_file_whose_name_holds_a_question_mark_can_be_read(tmp_path: Path) -> None:
    np.save(tmp_path / "what?rows=0:3.npy", cloud())
    assert len(stores.open(tmp_path / "what?rows=0:3.npy").load()) == 10


@given(st.integers(0, 99), st.integers(1, 99), st.integers(0, 120))
def test_a_span_is_what_python_would_slice(start: int, length: int, total: int) -> None:
    address = Address.parse(f"a.npy?rows={start}:{start + length}")
    if start + length <= total:
        assert address.span(total) == (start, start + length)
    else:
        with pytest.raises(StoreError, match=f"has {total:,} rows"):
            address.span(total)


def test_an_installed_package_can_bring_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real distribution on the path: its entry point serves a scheme and a suffix."""
    (tmp_path / "attic.py").write_text(
        "from crossvec.stores.npy import NpyFile\nclass Attic(NpyFile):\n    format = '.attic'\n"
    )
    info = tmp_path / "attic-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: attic\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[crossvec.stores]\nattic = attic:Attic\n.attic = attic:Attic\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert {"attic", ".attic"} <= set(stores.names())
    stores.open(tmp_path / "old.attic").write([Space.of(cloud())])
    space = stores.open(f"attic://{tmp_path}/old.attic?rows=2:5").load()
    assert np.array_equal(space.array(), cloud()[2:5]) and space.name == "old"


def test_a_missing_library_is_told_with_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    monkeypatch.delitem(sys.modules, "crossvec.stores.hdf5", raising=False)
    with pytest.raises(MissingExtraError, match="h5py") as refused:
        stores.open("a.h5")
    assert refused.value.hint == 'pip install "crossvec[hdf5]"'
    monkeypatch.undo()
    importlib.import_module("crossvec.stores.hdf5")


def test_opening_a_store_loads_no_library_of_another_format() -> None:
    code = """
        import sys
        from crossvec import stores
        stores.open("a.npy")
        print(sorted({"torch", "pyarrow", "h5py", "safetensors"} & set(sys.modules)))
    """
    assert python(code).communicate()[0].strip() == "[]"


# --- all or nothing


def test_a_block_that_ends_well_replaces_the_file_and_keeps_its_mode(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    target.chmod(0o640)
    with atomically(target) as part:
        part.write_bytes(b"new")
        assert part.parent == tmp_path and target.read_bytes() == b"old"
    assert target.read_bytes() == b"new" and target.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_new_file_gets_the_mode_any_new_file_gets(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    with atomically(tmp_path / "a.bin"):
        pass
    assert (tmp_path / "a.bin").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_link_is_followed_and_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "real.bin").write_bytes(b"old")
    (tmp_path / "link.bin").symlink_to(tmp_path / "real.bin")
    with atomically(tmp_path / "link.bin") as part:
        part.write_bytes(b"new")
    assert (tmp_path / "link.bin").is_symlink() and (tmp_path / "real.bin").read_bytes() == b"new"


def test_a_very_long_name_can_be_written(tmp_path: Path) -> None:
    with atomically(tmp_path / ("x" * 250 + ".npy")) as part:
        part.write_bytes(b"new")
    assert len(os.listdir(tmp_path)) == 1


def test_a_target_that_may_not_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    def never() -> Any:
        raise AssertionError("rows were asked for")
        yield

    read_only = tmp_path / "a.npy"
    np.save(read_only, cloud())
    read_only.chmod(0o444)
    (tmp_path / "folder.npy").mkdir()
    for place, words in {
        read_only: "is read-only",
        tmp_path / "folder.npy": "is not a file that can be replaced",
        tmp_path / "none" / "a.npy": "there is no folder",
    }.items():
        with pytest.raises(StoreError, match=words) as refused:
            stores.open(place).write(never())
        assert refused.value.hint
    with pytest.raises(StoreError, match="cannot hold dtype=int4"):
        stores.open(f"{tmp_path}/b.npy?dtype=int4").write(never())
    assert sorted(os.listdir(tmp_path)) == ["a.npy", "folder.npy"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(StoreError, match="cannot be written: Permission denied"):
        stores.open(tmp_path / "a.npy").write([Space.of(cloud())])


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), OSError("… No space left on device …")])
def test_a_full_disk_is_unfinished_work_and_names_the_place(tmp_path: Path, error: OSError) -> None:
    with pytest.raises(UnfinishedError, match=r"no room left to write .*a\.npy") as unfinished, atomically(tmp_path / "a.npy"):
        raise error
    assert unfinished.value.exit_code == 4 and not os.listdir(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files as POSIX does")
def test_no_format_is_hurt_when_the_disk_is_full(tmp_path: Path) -> None:
    """A real failing write in every format: the system lets no file grow beyond 200 kB."""
    code = """
        import os, resource, signal, sys
        import numpy as np
        from crossvec import stores
        from crossvec.errors import UnfinishedError
        from crossvec.space import Space

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
        os.chdir(sys.argv[1])
        rows = np.random.default_rng(0).standard_normal((1000, 384)).astype("f4")
        for suffix in stores.STORES:
            store = stores.open("a" + suffix)
            store.write([Space.of(rows[:5])])
            try:
                store.write(Space.of(rows).batches(100))
            except UnfinishedError:
                print(suffix, len(store.load()), os.listdir("."))
            os.unlink("a" + suffix)
    """
    out, err = (process := python(code, tmp_path)).communicate()
    assert process.returncode == 0, err
    assert out.splitlines() == [f"{suffix} 5 ['a{suffix}']" for suffix in stores.STORES]


@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_writer_leaves_the_old_file_and_the_next_one_tidies_up(tmp_path: Path, number: signal.Signals) -> None:
    """Parts of writers that are at work, of other files and of other machines are left alone."""
    code = """
        import sys, time
        import numpy as np
        from crossvec import stores
        from crossvec.space import Space

        def endless():
            while True:
                yield Space.of(np.ones((1000, 64), np.float32))
                print("wrote", flush=True)
                time.sleep(0.01)

        stores.open(sys.argv[1]).write(endless())
    """
    target = tmp_path / "a.npy"
    np.save(target, cloud())
    writer = python(code, target)
    for _ in range(3):
        assert writer.stdout.readline() == "wrote\n"
    writer.send_signal(number)
    writer.communicate()
    assert np.array_equal(np.load(target), cloud())
    (part,) = [name for name in os.listdir(tmp_path) if name != "a.npy"] or [None]
    assert (part is None) == (number == signal.SIGINT)
    if part is not None:
        dead = str(writer.pid)
        others = [
            part.replace(dead, str(os.getpid())),
            part.replace(".a.npy.", ".b.npy."),
            part.replace(f"-{dead}-", f"x-{dead}-"),
        ]
        for other in others:
            (tmp_path / other).write_text("mine")
        stores.open(target).write([Space.of(cloud(3))])
        assert sorted(os.listdir(tmp_path)) == sorted(["a.npy", *others])


@pytest.mark.parametrize("name", ["é" * 120, "名" * 82])
def test_a_name_is_as_long_as_the_file_system_allows_in_any_script(tmp_path: Path, name: str) -> None:
    with atomically(tmp_path / f"{name}.npy") as part:
        part.write_bytes(b"new")
    assert os.listdir(tmp_path) == [f"{name}.npy"]


# --- .npy


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_what_numpy_saves_is_read(tmp_path: Path, dtype: str, order: str) -> None:
    x = np.asarray((cloud() * 9 + 30).astype(dtype), order=order)
    np.save(tmp_path / "a.npy", x)
    np.savez_compressed(tmp_path / "a.npz", x)
    for name in ("a.npy", "a.npz"):
        store = stores.open(f"{tmp_path / name}?rows=2:9")
        assert np.array_equal(store.load().array(), x[2:9].astype(np.float32))
        assert np.array_equal(np.concatenate([part.array() for part in store.read(3)]), x[2:9].astype(np.float32))


def test_numpy_reads_what_is_written(tmp_path: Path) -> None:
    stores.open(tmp_path / "a.npy").write(Space.of(cloud(1000)).batches(7))
    stores.open(tmp_path / "a.npz").write(Space.of(cloud(3), ["a", "b", "c"]).batches(2))
    assert np.array_equal(np.load(tmp_path / "a.npy", allow_pickle=False), cloud(1000))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        assert np.array_equal(archive["vectors"], cloud(3)) and archive["ids"].tolist() == ["a", "b", "c"]


def test_a_file_larger_than_memory_is_opened_and_cut_without_reading_it(tmp_path: Path) -> None:
    """64 GiB on paper: all holes but for three rows."""
    rows, dim = 1 << 25, 512
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (rows, dim)})
    with open(tmp_path / "huge.npy", "wb") as file:
        file.write(header.getvalue())
        file.seek(4 * dim * (rows - 3), os.SEEK_CUR)
        file.write(cloud(3, dim).tobytes())
    assert stores.open(tmp_path / "huge.npy").describe().rows == rows
    space = stores.open(tmp_path / "huge.npy").load()
    assert np.array_equal(space.rows(rows - 3).array(), cloud(3, dim))
    (batch,) = stores.open(f"{tmp_path}/huge.npy?rows={rows - 3}:").read()
    assert np.array_equal(batch.array(), cloud(3, dim))
    with pytest.raises(SpaceError, match="row 0 holds only zeros"):
        space.rows(0, 1).array()


def test_a_cut_file_tells_both_numbers(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", cloud(10))
    os.truncate(tmp_path / "a.npy", 128 + 7 * 12 + 5)
    with pytest.raises(StoreError, match="its header says 10 rows, it holds 7"):
        stores.open(tmp_path / "a.npy").describe()


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array([{"a": 1}, None], dtype=object), "holds pickled objects, which are never opened"),
        (np.ones(5, np.float32), r"has shape \(5,\)"),
        (np.ones((2, 3, 4), np.float32), r"has shape \(2, 3, 4\)"),
        (np.ones((2, 3), np.int64), "holds int64"),
        (np.ones((2, 3), [("a", "f4")]), r"holds \[\('a'"),
        (np.ones((5, 0), np.float32), "dimension 0"),
    ],
)
def test_arrays_that_are_no_space_are_refused(tmp_path: Path, array: np.ndarray, words: str) -> None:
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    np.savez(tmp_path / "a.npz", array)
    for name in ("a.npy", "a.npz"):
        with pytest.raises((StoreError, SpaceError), match=words):
            stores.open(tmp_path / name).load()


# --- .npz


def test_the_vectors_of_an_archive_are_found_or_asked_for(tmp_path: Path) -> None:
    x, y = cloud(5, 3), cloud(5, 4)
    np.savez(tmp_path / "one.npz", labels=np.arange(5), whatever=x)
    assert np.array_equal(stores.open(tmp_path / "one.npz").load().array(), x)
    np.savez(tmp_path / "usual.npz", embeddings=x, other=y)
    assert np.array_equal(stores.open(tmp_path / "usual.npz").load().array(), x)
    np.savez(tmp_path / "two.npz", left=x, right=y)
    with pytest.raises(StoreError, match="more than one array with vectors: left, right") as refused:
        stores.open(tmp_path / "two.npz").load()
    assert refused.value.hint.endswith("two.npz?key=left")
    assert stores.open(f"{tmp_path}/two.npz?key=right").load().dim == 4
    with pytest.raises(StoreError, match="has no array 'rihgt'") as refused:
        stores.open(f"{tmp_path}/two.npz?key=rihgt").load()
    assert "did you mean right?" in refused.value.hint


def test_ids_of_an_archive_are_found_asked_for_or_left(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", vectors=cloud(3), ids=np.array([7, 8, 9]), names=np.array(["a", "b", "c"]), two=np.arange(2))
    assert list(stores.open(tmp_path / "a.npz").load().ids) == [7, 8, 9]
    assert stores.open(f"{tmp_path}/a.npz?id=names").load().ids == ["a", "b", "c"]
    assert stores.open(f"{tmp_path}/a.npz?id=").load().ids is None
    with pytest.raises(StoreError, match="cannot be the ids of 3 rows"):
        stores.open(f"{tmp_path}/a.npz?id=two").load()
    np.savez(tmp_path / "b.npz", vectors=cloud(3), ids=np.array(["a", None, 3], dtype=object))
    with pytest.raises(StoreError, match="cannot be read as .npz: Object arrays cannot be loaded"):
        stores.open(f"{tmp_path}/b.npz").load()


@pytest.mark.parametrize("ids", [["a", 1], ["a\0", "b"], [2**70, 1]])
@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_ids_that_would_come_back_changed_are_refused(tmp_path: Path, ids: list[Any], suffix: str) -> None:
    with pytest.raises(StoreError, match="cannot carry these ids unchanged"):
        stores.open(tmp_path / f"a{suffix}").write([Space.of(cloud(2), ids)])
    assert not os.listdir(tmp_path)


# --- .parquet and .arrow


@pytest.fixture(params=[".parquet", ".arrow"])
def table_file(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Write a table as another program would, in small pieces, and return its place."""

    def write(table: pa.Table, name: str = "a", piece: int = 4) -> Path:
        path = tmp_path / f"{name}{request.param}"
        if request.param == ".parquet":
            pq.write_table(table, path, row_group_size=piece)
        else:
            with pa.ipc.new_file(str(path), table.schema) as writer:
                writer.write_table(table, max_chunksize=piece)
        return path

    return write


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float32(), 3),
        pa.list_(pa.float32()),
        pa.large_list(pa.float64()),
        pa.list_(pa.float16(), 3),
        pa.list_(pa.int8(), 3),
    ],
    ids=str,
)
def test_lists_of_any_kind_are_vectors(table_file: Any, kind: pa.DataType) -> None:
    x = (cloud() * 9).round() + 40
    numbers = (
        x.astype(np.float16) if kind.value_type == pa.float16() else x.astype(np.int8) if kind.value_type == pa.int8() else x
    )
    path = table_file(pa.table({"n": range(10), "whatever": pa.array(list(numbers), kind)}))
    assert np.array_equal(stores.open(path).load().array(), x)
    assert stores.open(path).describe().dim == 3
    assert np.array_equal(np.concatenate([part.array() for part in stores.open(f"{path}?rows=3:9").read(4)]), x[3:9])


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary(12)], ids=str)
def test_bytes_are_vectors_where_they_are_called_so(table_file: Any, kind: pa.DataType) -> None:
    rows = [row.tobytes() for row in cloud()]
    path = table_file(pa.table({"vector": pa.array(rows, kind), "image": pa.array(rows, kind)}))
    assert np.array_equal(stores.open(path).load().array(), cloud())
    assert stores.open(f"{path}?column=image").load().dim == 3
    assert stores.open(f"{path}?dtype=float16").describe().dim == 6


@pytest.mark.parametrize("kind", [pa.list_(pa.float32(), 3), pa.list_(pa.float32())], ids=str)
def test_missing_vectors_are_bad_rows(table_file: Any, kind: pa.DataType) -> None:
    rows: list[Any] = cloud().tolist()
    rows[2] = None
    rows[7][1] = None
    try:
        path = table_file(pa.table({"vector": pa.array(rows, kind)}))
    except pa.ArrowNotImplementedError:
        pytest.skip(f"Arrow {pa.__version__} writes no Parquet of {kind} with a row missing")
    with pytest.raises(SpaceError, match="rows 2 and 7 hold NaN"):
        list(stores.open(path).read())
    space = stores.open(f"{path}?bad_rows=drop").load()
    assert space.dropped == (2, 7) and np.array_equal(space.array(), cloud()[[0, 1, 3, 4, 5, 6, 8, 9]])


def test_ragged_lists_are_refused_by_row(table_file: Any) -> None:
    rows: list[Any] = cloud().tolist()
    rows[6] = [1.0, 2.0]
    path = table_file(pa.table({"vector": pa.array(rows, pa.list_(pa.float32()))}))
    for read in (lambda: list(stores.open(path).read(4)), lambda: stores.open(path).load()):
        with pytest.raises(SpaceError, match=r"ragged: row 6 \(2 values, not 3\)"):
            read()


def test_payload_keeps_its_types_through_a_rewrite(table_file: Any, tmp_path: Path) -> None:
    now = datetime.datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=datetime.UTC)
    table = pa.table(
        {
            "id": pa.array(range(10), pa.int32()),
            "vector": pa.array(list(cloud()), pa.list_(pa.float32(), 3)),
            "when": pa.array([now] * 10, pa.timestamp("ms", "UTC")),
            "price": pa.array([None, *range(9)], pa.decimal128(9, 2)),
            "tags": pa.array([["a", "b"], None] * 5, pa.list_(pa.string())),
            "nested": pa.array([{"a": 1, "b": ["x"]}] * 10),
            "small": pa.array(range(10), pa.uint8()),
            "a.b": pa.array(["dotted"] * 10),
        }
    )
    path = table_file(table)
    stores.open(path).write(stores.open(path).read(3))
    read = stores.open(path).load()
    assert list(read.ids) == list(range(10))
    for name in set(table.column_names) - {"id", "vector"}:
        assert read.columns[name].type == table.column(name).type
        assert read.columns[name].to_pylist() == table.column(name).to_pylist()


def test_payload_types_widen_from_batch_to_batch(table_file: Any, tmp_path: Path) -> None:
    suffix = table_file(pa.table({"vector": [[1.0]]}), "unused").suffix
    records = [{"n": 1, "late": None}, {"n": 2.5, "late": None}, {"n": 3, "late": "x", "new": True}]
    store = stores.open(tmp_path / f"wide{suffix}")
    assert store.write(Space.of(cloud(1, seed=i), payload=[record]) for i, record in enumerate(records)) == 3
    space = store.load()
    assert space.records() == [{"n": r["n"], "late": r["late"], "new": r.get("new")} for r in records]
    assert np.array_equal(space.array(), np.concatenate([cloud(1, seed=i) for i in range(3)]))
    with pytest.raises(StoreError, match="payload changes its type before row 1"):
        store.write([Space.of(cloud(1), payload=[{"n": 1}]), Space.of(cloud(1), payload=[{"n": "one"}])])
    assert len(store.load()) == 3 and not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_columns_are_found_asked_for_or_left(table_file: Any) -> None:
    two = {
        "title_vector": list(cloud()),
        "text_vector": list(cloud(seed=1)),
        "isbn": [f"i{n}" for n in range(10)],
        "id": ["x"] * 10,
    }
    path = table_file(pa.table(two))
    with pytest.raises(StoreError, match="more than one column with vectors: title_vector, text_vector"):
        stores.open(path).describe()
    with pytest.raises(SpaceError, match="rows 0 and 1 of a have the same id, 'x'"):
        stores.open(f"{path}?column=text_vector").load()
    space = stores.open(f"{path}?column=text_vector&id=isbn").load()
    assert np.array_equal(space.array(), cloud(seed=1)) and space.ids == two["isbn"]
    assert list(space.columns) == ["title_vector", "id"]
    assert list(stores.open(f"{path}?column=text_vector&id=").load().columns) == ["title_vector", "isbn", "id"]
    with pytest.raises(StoreError, match="column 'isbn' of .* holds string, not vectors"):
        stores.open(f"{path}?column=isbn").describe()
    with pytest.raises(StoreError, match="has no column 'titel_vector'") as refused:
        stores.open(f"{path}?column=titel_vector").describe()
    assert "did you mean title_vector?" in refused.value.hint


def test_columns_are_written_under_the_names_asked_for(table_file: Any) -> None:
    path = table_file(pa.table({"vector": list(cloud())}))
    space = Space.of(cloud(2), ["a", "b"], {"id": [1, 2], "vector": ["x", "y"]})
    with pytest.raises(StoreError, match="payload has a column 'vector'"):
        stores.open(path).write([space])
    with pytest.raises(StoreError, match="payload has a column 'id'"):
        stores.open(f"{path}?column=embedding").write([space])
    place = f"{path}?column=embedding&id=key"
    stores.open(place).write([space])
    read = stores.open(place).load()
    assert read.ids == ["a", "b"] and read.records() == space.records()


def test_values_that_no_column_holds_are_refused(table_file: Any) -> None:
    path = table_file(pa.table({"vector": list(cloud())}))
    with pytest.raises(StoreError, match="column 'mixed' cannot be written"):
        stores.open(path).write([Space.of(cloud(2), payload={"mixed": [1, "one"]})])
    with pytest.raises(StoreError, match="column 'id' cannot be written"):
        stores.open(path).write([Space.of(cloud(2), ids=[1, "one"])])
    assert len(stores.open(path).load()) == 10


def test_a_table_without_vectors_is_refused(table_file: Any) -> None:
    with pytest.raises(StoreError, match="holds no column with vectors"):
        stores.open(table_file(pa.table({"a": [1], "b": ["x"]}))).describe()
    with pytest.raises(StoreError, match="does not tell its dimension"):
        stores.open(table_file(pa.table({"vector": pa.array([None, None], pa.list_(pa.float32()))}))).describe()


def test_dictionaries_are_written_as_their_values(table_file: Any) -> None:
    path = table_file(
        pa.table({"vector": list(cloud(4)), "kind": pa.array(["a", "b", "a", None]).dictionary_encode()}), piece=2
    )
    stores.open(path).write(stores.open(path).read(1))
    assert stores.open(path).load().columns["kind"].to_pylist() == ["a", "b", "a", None]


def test_an_arrow_stream_is_read_too(tmp_path: Path) -> None:
    table = pa.table({"vector": pa.array(list(cloud()), pa.list_(pa.float32(), 3))})
    with pa.ipc.new_stream(str(tmp_path / "a.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=4)
    assert stores.open(tmp_path / "a.arrow").describe().rows == 10
    assert np.array_equal(stores.open(f"{tmp_path}/a.arrow?rows=2:9").load().array(), cloud()[2:9])


# --- .safetensors, .fvecs, .h5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8])
def test_tensors_of_every_type_are_read(tmp_path: Path, dtype: torch.dtype) -> None:
    x = (torch.tensor(cloud()) * 20 + 50).to(dtype)
    safetensors.torch.save_file({"bias": torch.ones(5), "weight": x}, tmp_path / "a.safetensors")
    store = stores.open(f"{tmp_path}/a.safetensors?rows=1:9")
    assert np.array_equal(store.load().array(), x[1:9].float().numpy())
    assert np.array_equal(np.concatenate([part.array() for part in store.read(3)]), x[1:9].float().numpy())


def test_the_tensors_library_reads_what_is_written(tmp_path: Path) -> None:
    for rows in (0, 1, 1000):
        stores.open(tmp_path / "a.safetensors").write([Space.of(cloud(rows))])
        assert np.array_equal(safetensors.numpy.load_file(tmp_path / "a.safetensors")["vectors"], cloud(rows))


def test_a_tensor_is_chosen_by_key(tmp_path: Path) -> None:
    safetensors.numpy.save_file(
        {"a": cloud(), "b": cloud(4), "c": np.ones(3), "d": np.ones((2, 2), int)}, tmp_path / "a.safetensors"
    )
    assert len(stores.open(f"{tmp_path}/a.safetensors?key=b").load()) == 4
    for query, words in {"": "more than one tensor", "?key=c": r"c in .* of shape \(3,\)", "?key=d": "d in .* is I64"}.items():
        with pytest.raises(StoreError, match=words):
            stores.open(f"{tmp_path}/a.safetensors{query}").describe()


def test_fvecs_are_laid_out_as_texmex_says(tmp_path: Path) -> None:
    stores.open(tmp_path / "a.fvecs").write([Space.of(np.array([[1.5, 2], [3, 4]], np.float32))])
    assert (tmp_path / "a.fvecs").read_bytes().hex() == "020000000000c03f00000040" + "020000000000404000008040"


def test_a_row_of_another_dimension_is_named(tmp_path: Path) -> None:
    stores.open(tmp_path / "a.fvecs").write([Space.of(cloud())])
    raw = bytearray((tmp_path / "a.fvecs").read_bytes())
    raw[16 * 6] = 9
    (tmp_path / "a.fvecs").write_bytes(raw)
    with pytest.raises(SpaceError, match=r"ragged: row 6 \(9 values, not 3\)"):
        list(stores.open(tmp_path / "a.fvecs").read(4))


def test_datasets_in_groups_are_found_and_chosen(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["deep/train"], file["test"], file["neighbours"] = cloud(6), cloud(2), np.ones((2, 5), int)
        file["numbers"] = np.arange(6)
    with pytest.raises(StoreError, match="more than one dataset with vectors: deep/train, test"):
        stores.open(tmp_path / "a.h5").describe()
    space = stores.open(f"{tmp_path}/a.h5?key=deep/train&id=numbers").load()
    assert np.array_equal(space.array(), cloud(6)) and list(space.ids) == list(range(6))
    with pytest.raises(StoreError, match="numbers in .* has shape"):
        stores.open(f"{tmp_path}/a.h5?key=numbers").describe()
    with pytest.raises(StoreError, match="cannot be the ids of 2 rows"):
        stores.open(f"{tmp_path}/a.h5?key=test&id=numbers").describe()


def test_ids_in_a_heap_without_an_end_are_refused_where_hdf5_would_look_for_ever(tmp_path: Path) -> None:
    ids = [f"text {i} {'x' * (i % 70)}" for i in range(300)]
    stores.open(tmp_path / "a.h5").write([Space.of(cloud(300), ids)])
    assert stores.open(tmp_path / "a.h5").load().ids == ids
    whole = (tmp_path / "a.h5").read_bytes()
    heaps = [at for at in range(len(whole)) if whole.startswith(b"GCOL", at)]
    assert heaps
    free = heaps[-1] + 16
    while number := int.from_bytes(whole[free : free + 2], "little"):
        assert number <= len(ids)
        free += 16 + (int.from_bytes(whole[free + 8 : free + 16], "little") + 7) // 8 * 8
    (tmp_path / "b.h5").write_bytes(whole[: free + 8] + bytes(8) + whole[free + 16 :])
    with pytest.raises(StoreError, match="without an end") as refused:
        stores.open(tmp_path / "b.h5").load()
    assert "id=" in refused.value.hint
    assert stores.open(f"{tmp_path}/b.h5?id=").load().array().shape == (300, 3)


# --- .jsonl


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8")
    return path


def test_lines_of_any_shape_become_rows(tmp_path: Path) -> None:
    rows = [{"_id": "ä", "title": "x", "embedding": [1, 2.5]}, "", {"embedding": [3, 4], "_id": "b", "year": 2026}]
    space = stores.open(lines(tmp_path / "a.jsonl", *rows)).load()
    assert space.ids == ["ä", "b"] and space.array().tolist() == [[1, 2.5], [3, 4]]
    assert space.records() == [{"title": "x", "year": None}, {"title": None, "year": 2026}]


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ('{"vector": [1, 2', "row 1 of .* is not JSON"),
        ("[" * 100_000, "row 1 of .* is not JSON"),
        ("[1, 2]", "row 1 of .* is not a JSON object"),
        ('{"id": 2}', "in row 1 of a, 'vector' is missing"),
        ('{"id": 2, "vector": [1, "2"]}', "in row 1 of a, 'vector' is no list of numbers"),
        ('{"id": 2, "vector": [1, true]}', "in row 1 of a, 'vector' is no list of numbers"),
        ('{"id": 2, "vector": "AAAA"}', "in row 1 of a, 'vector' is no list of numbers"),
        ('{"id": 2, "vector": [1, 2, 3]}', r"ragged: row 1 \(3 values, not 2\)"),
        ('{"id": 2, "vector": [1, null]}', "row 1 holds NaN or infinite"),
        ('{"id": 2, "vector": [1, 1e300]}', "row 1 holds NaN or infinite"),
        ('{"vector": [1, 2]}', "row 1 of a has no 'id'"),
        ('{"id": null, "vector": [1, 2]}', "row 1 of a has no 'id'"),
        ('{"id": 1, "vector": [1, 2]}', "rows 0 and 1 of a have the same id, 1"),
        ('{"id": 1.5, "vector": [1, 2]}', "the id of row 1 is 1.5"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, second: str, words: str) -> None:
    path = lines(tmp_path / "a.jsonl", {"id": 1, "vector": [1, 2]}, second)
    with pytest.raises((StoreError, SpaceError), match=words):
        list(stores.open(path).read())


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"vector": [1, 2], "t": "\xff"}\n')
    with pytest.raises(StoreError, match="row 0 of .* is not JSON"):
        stores.open(tmp_path / "a.jsonl").load()


def test_dates_are_written_as_text_and_what_json_has_not_is_refused(tmp_path: Path) -> None:
    store = stores.open(tmp_path / "a.jsonl")
    store.write([Space.of(cloud(1), payload={"day": [datetime.date(2026, 11, 21)]})])
    assert store.load().records() == [{"day": "2026-11-21"}]
    with pytest.raises(StoreError, match="column 'raw' cannot be written as JSON: bytes"):
        store.write([Space.of(cloud(1), payload={"raw": [b"x"]})])


def test_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        stores.open(tmp_path / name).write([Space.of(cloud())])
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    assert len(gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()).splitlines()) == 10


# --- from one format to another


@pytest.mark.parametrize("end", [".parquet", ".arrow", ".jsonl", ".jsonl.gz"])
@pytest.mark.parametrize("start", [".parquet", ".arrow", ".jsonl"])
def test_rows_keep_ids_and_payload_on_the_way_to_another_format(tmp_path: Path, start: str, end: str) -> None:
    space = Space.of(cloud(), [f"i{n}" for n in range(10)], {"n": list(range(10)), "t": [None, *"abcdefghi"]})
    one, other = stores.open(tmp_path / f"one{start}"), stores.open(tmp_path / f"other{end}")
    one.write(space.batches(4))
    assert other.write(one.read(3)) == 10
    read = other.load()
    assert np.array_equal(read.array(), space.array())
    assert read.ids == space.ids and read.records() == space.records()


# --- what others have written, and what somebody has mistyped


def dataset(place: Path) -> Path:
    """A sound folder of ten rows in one file; return the file that lists it."""
    stores.open(f"datasets://{place}").write([Space.of(cloud(), list(range(10)))])
    return place / "state.json"


@pytest.mark.parametrize(
    "name", ["{elsewhere}/data-00000.arrow", "../elsewhere/data-00000.arrow", "out/data-00000.arrow", ".."]
)
def test_a_dataset_that_lists_a_file_outside_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    dataset(tmp_path / "elsewhere")
    state = dataset(tmp_path / "a")
    (tmp_path / "a" / "out").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    listed = [{"filename": name.format(elsewhere=tmp_path / "elsewhere")}]
    state.write_text(json.dumps(json.loads(state.read_text()) | {"_data_files": listed}))
    for ask in ("describe", "load"):
        with pytest.raises(StoreError, match="leads out of its folder"):
            getattr(stores.open(f"datasets://{tmp_path}/a"), ask)()


def test_a_dataset_whose_files_are_links_as_hubs_keep_them_is_read(tmp_path: Path) -> None:
    dataset(tmp_path / "a")
    (shard,) = (tmp_path / "a").glob("*.arrow")
    (tmp_path / "blobs").mkdir()
    shard.rename(tmp_path / "blobs" / "0a1b2c")
    shard.symlink_to(tmp_path / "blobs" / "0a1b2c")
    assert np.array_equal(stores.open(f"datasets://{tmp_path}/a").load().array(), cloud())


@pytest.mark.parametrize(
    "url",
    [
        " qdrant://me:hunter2@localhost/books",
        "\tqdrant://hunter2@localhost/books?rows=x",
        '"pgvector://me:hunter2@localhost/db/books"',
        "qdrant:/me:hunter2@localhost/books",
        "qdrant:me:hunter2@localhost/books",
        "redis:/me:hunter2/with?signs@localhost/books.npy",
        "pgvector:///me:hunter2@localhost/db/books",
        "nosuch:/me:hunter2@localhost/books",
        " milvus://h/c?access_token=hunter2&rows=x",
        "qdrant//me:hunter2@localhost/books",
        "me:hunter2@localhost/books",
    ],
)
def test_a_mistyped_address_with_a_secret_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(StoreError) as refused:
        stores.open(url)
    assert "hunter2" not in str(refused.value) + refused.value.hint


@pytest.mark.parametrize("name", ["me@home/rows.npy", "a:b@c.npy", "a/x:y@z/rows.npy", "qdrant:/me:b@c/rows.npy"])
def test_a_path_with_the_signs_of_an_address_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    np.save(name, cloud())
    assert len(stores.open(name).load()) == 10
    assert len(stores.open(f"{name}?rows=0:3").load()) == 3
