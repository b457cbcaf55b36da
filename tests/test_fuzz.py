"""test_fuzz — parsers meet damaged files: a short run of the fuzzer, its committed long run, and what it has found.

Each example of `FOUND` once ended in something else than a refusal in words.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Run

from crossvec import stores
from crossvec.errors import CrossvecError, SpaceError, StoreError, TranslatorError, UsageError
from crossvec.space import Space

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "benchmarks" / "results" / "fuzz"
SHORT, LONG = 60, 100_000


@pytest.mark.skipif(sys.platform != "linux", reason="the fuzzer forks, and limits memory as Linux does")
def test_no_parser_is_brought_down_by_a_few_damaged_files() -> None:
    run = subprocess.run(
        [sys.executable, str(ROOT / "fuzz" / "run.py"), "--inputs", str(SHORT), "--seed", "7"],
        env={"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    ran = re.findall(r"^(\S+): (\d+) inputs, (\d+) read, (\d+) refused, 0 findings", run.stdout, re.MULTILINE)
    names = [name for name, *_ in ran]
    assert len(names) == len(run.stdout.splitlines()), run.stdout
    assert {suffix.removeprefix(".") for suffix in stores.STORES} - {"feather", "hdf5"} <= set(names)
    for name, inputs, read, refused in ran:
        assert int(inputs) == int(read) + int(refused) == SHORT, name
        assert int(read) > 0, f"the valid files of {name} are not read"


@pytest.mark.parametrize("path", sorted(RECORDS.glob("*.json")), ids=lambda path: path.stem)
def test_a_committed_run_was_long_and_found_nothing_that_is_left(path: Path) -> None:
    record = json.loads(path.read_text(encoding="utf-8"))
    assert path.stem.removesuffix("-atheris") == record["parser"]
    assert record["inputs"] >= LONG and record["findings"] == []
    assert record["read"] > 0 and record["read"] + record["refused"] == record["inputs"]


# --- what it found


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def npy(shape: object, descr: str = "<f4") -> bytes:
    return header(repr({"descr": descr, "fortran_order": False, "shape": shape}) + "\n") + bytes(64)


def npz(**members: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, held in members.items():
            archive.writestr(f"{name}.npy", held)
    return packed.getvalue()


def vectors(n: int = 3) -> bytes:
    saved = io.BytesIO()
    np.save(saved, np.eye(n, 3, dtype="f4") + 1)
    return saved.getvalue()


def broken_text() -> pa.Array:
    """Three texts, the second of which ends before it begins."""
    return pa.Array.from_buffers(pa.string(), 3, [None, pa.py_buffer(np.array([0, 9, 1, 2], "i4")), pa.py_buffer(b"abcdefghi")])


def ipc(title: pa.Array, **more: pa.Array) -> bytes:
    rows = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(9, "f4")), 3)
    table = pa.table({"vector": rows, "title": title, **more})
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def short_parquet() -> bytes:
    """A file whose footer says 60 rows where it has 6."""
    sink = io.BytesIO()
    rows = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(18, dtype="f4") + 1), 3)
    pq.write_table(pa.table({"id": range(6), "vector": rows}), sink, store_schema=True)
    told = sink.getvalue()
    footer = len(told) - 8 - int.from_bytes(told[-8:-4], "little")
    changed = told[footer:].replace(b"\x16\x0c\x19", b"\x16\x78\x19").replace(b"\x16\x0c\x26", b"\x16\x78\x26")
    assert changed != told[footer:]
    return told[:footer] + changed


def parquet_of(rows: int, groups: int) -> bytes:
    """A file of 6 rows whose footer says so many, and its row group other ones."""
    sink = io.BytesIO()
    pq.write_table(pa.table({"vector": pa.FixedSizeListArray.from_arrays(pa.array(np.ones(18, "f4")), 3)}), sink)
    told = sink.getvalue()
    footer = len(told) - 8 - int.from_bytes(told[-8:-4], "little")
    head, tail = told[footer:-8], told[-8:]
    assert head.count(b"\x16\x0c\x19") == 1 and head.count(b"\x16\x0c\x26") == 1
    head = head.replace(b"\x16\x0c\x19", bytes([0x16, zigzag(rows), 0x19]))
    head = head.replace(b"\x16\x0c\x26", bytes([0x16, zigzag(groups), 0x26]))
    return told[:footer] + head + tail


def zigzag(number: int) -> int:
    """The byte by which Thrift writes a small number."""
    return number * 2 if number >= 0 else -number * 2 - 1


FOUND: list[tuple[str, Callable[[], bytes]]] = [
    ("a.npy", lambda: header("{'descr': '<f4', 'fortran_order': False, 'shape': (")),
    ("a.npy", lambda: header("(" * 3000)),
    ("a.npy", lambda: npy((1.5, 2))),
    ("a.npy", lambda: npy((True, 3))),
    ("a.npy", lambda: npy((0, 2**70))),
    ("a.npy", lambda: npy((3, 4), "|V0")),
    ("a.npz", lambda: npz(vectors=vectors(), ids=npy((1.5,), "<i8"))),
    ("a.npz", lambda: npz(vectors=vectors(), ids=npy((2**40,), "<i8"))),
    ("a.npz", lambda: npz(vectors=vectors(), ids=npy((3,), "<U99999999"))),
    (
        "a.npz",
        lambda: npz(vectors=vectors(), ids=header(repr(dict(descr="<U1", fortran_order=False, shape=(3,)))) + b"\xff" * 12),
    ),
    ("a.arrow", lambda: ipc(broken_text())),
    ("a.parquet", short_parquet),
    ("a.parquet", lambda: parquet_of(-3, -3)),
    ("a.parquet", lambda: parquet_of(6, 0)),
    ("a.parquet", lambda: parquet_of(6, -3)),
]


@pytest.mark.parametrize(("name", "made"), FOUND)
def test_a_file_that_once_broke_a_parser_is_refused_in_words(tmp_path: Path, name: str, made: Callable[[], bytes]) -> None:
    (tmp_path / name).write_bytes(made())
    for read in (lambda store: store.load().records(), lambda store: [part.records() for part in store.read()]):
        with pytest.raises((StoreError, SpaceError)):
            read(stores.open(tmp_path / name))


def test_vectors_called_id_are_no_ids(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": [1, 2, 3]}\n{"id": [3, 2, 1]}\n')
    assert len(stores.open(tmp_path / "a.jsonl").load()) == 2


def test_a_time_that_python_has_no_value_for_is_told_when_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.arrow").write_bytes(ipc(pa.array([1, 2, 2**62], pa.timestamp("s"))))
    space = stores.open(tmp_path / "a.arrow").load()
    assert len(space) == 3
    with pytest.raises(SpaceError, match="what Python has no value for"):
        space.records()


@pytest.mark.parametrize("place", ["a" * 5000, "?" * 300 + "a" * 300 + ".npy", "[" * 5000 + ".npy?rows=0:1"])
def test_a_name_longer_than_any_is_refused(place: str) -> None:
    with pytest.raises(StoreError):
        stores.open(place).describe()


def folder(scheme: str, place: Path) -> Path:
    """A sound folder of three rows; return the file that says what lies in it."""
    stores.open(f"{scheme}://{place}").write([Space.of(np.eye(3, dtype="f4"), ["a", "b", "c"])])
    return place / {"vdf": "VDF_META.json", "datasets": "state.json"}[scheme]


@pytest.mark.parametrize(
    ("scheme", "change"),
    [
        ("vdf", lambda told: {**told, "indexes": {"a": 1}}),
        ("vdf", lambda told: {**told, "indexes": {"a": [1, 2]}}),
        ("vdf", lambda told: {"indexes": {"a": [{**told["indexes"]["a"][0], "data_path": 0.5}]}}),
        ("vdf", lambda told: {"indexes": {"a": [{**told["indexes"]["a"][0], "data_path": "x" * 400}]}}),
        ("vdf", lambda told: 3),
        ("datasets", lambda told: {**told, "_data_files": 0.5}),
        ("datasets", lambda told: {**told, "_data_files": ["data-00000.arrow"]}),
        ("datasets", lambda told: {**told, "_data_files": [{"filename": "x" * 400}]}),
        ("datasets", lambda told: []),
    ],
)
def test_a_folder_that_lists_its_rows_wrongly_is_refused(tmp_path: Path, scheme: str, change: Callable[[Any], Any]) -> None:
    said = folder(scheme, tmp_path / "a")
    said.write_text(json.dumps(change(json.loads(said.read_text()))))
    with pytest.raises(StoreError):
        stores.open(f"{scheme}://{tmp_path}/a").describe()


def test_a_shard_with_fewer_rows_than_it_says_is_not_half_read(tmp_path: Path) -> None:
    folder("vdf", tmp_path / "a")
    (tmp_path / "a" / "a" / "1.parquet").write_bytes(short_parquet())
    with pytest.raises(StoreError, match="cannot be read as vdf"):
        list(stores.open(f"vdf://{tmp_path}/a").read())


def test_a_shard_with_broken_text_does_not_end_the_process(tmp_path: Path) -> None:
    folder("datasets", tmp_path / "a")
    rows = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(9, "f4")), 3)
    table = pa.table({"id": broken_text(), "vector": rows})
    with pa.ipc.new_stream(str(tmp_path / "a" / "data-00000.arrow"), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(StoreError, match="datasets.*Offset invariant failure"):
        stores.open(f"datasets://{tmp_path}/a").load()


def test_an_index_is_not_taken_at_its_word(tmp_path: Path) -> None:
    """Its 8 bytes at 9 are the number of rows, from which FAISS would ask for memory."""
    faiss = pytest.importorskip("faiss")
    index = faiss.IndexIDMap2(faiss.IndexFlatL2(3))
    index.add_with_ids(np.eye(3, dtype="f4"), np.arange(3))
    told = faiss.serialize_index(index).tobytes()
    for number in (2**31, 2**40, -1):
        (tmp_path / "a.faiss").write_bytes(told[:8] + number.to_bytes(8, "little", signed=True) + told[16:])
        with pytest.raises(StoreError):
            stores.open(f"faiss://{tmp_path}/a.faiss").load()


@pytest.mark.parametrize(
    "documents",
    [
        {"id": pa.array([0, 1, 2]), "document": broken_text()},
        {"id": pa.array([0, 1, 2]), "document": pa.array(["{}", "{", "{}"])},
        {"id": pa.array([0, 1, 2]), "document": pa.array(["{}", "[]", "{}"])},
        {"id": pa.array([0, 1, 2]), "document": pa.array(["{}", None, "{}"])},
        {"id": pa.array(["0", "1", "2"]), "document": pa.array(["{}"] * 3)},
        {"number": pa.array([0, 1, 2]), "document": pa.array(["{}"] * 3)},
    ],
)
def test_payload_beside_an_index_that_is_none_is_refused(tmp_path: Path, documents: dict[str, pa.Array]) -> None:
    pytest.importorskip("faiss")
    stores.open(f"faiss://{tmp_path}/a.faiss").write([Space.of(np.eye(3, dtype="f4"), [0, 1, 2])])
    table = pa.table(documents)
    with pa.ipc.new_file(str(tmp_path / "a.faiss.arrow"), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(StoreError, match="which holds the payload of an index"):
        stores.open(f"faiss://{tmp_path}/a.faiss").load()


DEEP = "[" * 3000


def a_policy(path: Path) -> object:
    from crossvec.audit import policy

    path.write_text(f"a = {DEEP}")
    return policy.read(path)


def a_registry(path: Path) -> object:
    from crossvec.audit import fingerprints

    path.write_bytes(b'{"schema": "\xff"}')
    return fingerprints.read(path)


def a_canary(path: Path) -> object:
    from crossvec.audit import canaries

    path.write_text(DEEP)
    return canaries.read(path)


def a_journal(path: Path) -> object:
    from crossvec.migration.journal import VERSION, Journal

    path.write_text(json.dumps({"version": VERSION, "source": "a", "dest": "b", "translator": "c", "skipped": 3}))
    return Journal.load(path)


def a_checkpoint(path: Path) -> object:
    from safetensors.numpy import save_file

    from crossvec.aligners.vec2vec import checkpoint

    save_file({"a": np.ones(3)}, path, {checkpoint.FACTS: "3"})
    return checkpoint.read(path)


@pytest.mark.parametrize("read", [a_policy, a_registry, a_canary, a_journal, a_checkpoint])
def test_what_is_nested_or_typed_as_nobody_expects_is_refused(tmp_path: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(UsageError):
        read(tmp_path / "file")


def test_an_answer_nested_beyond_reason_is_no_claim() -> None:
    from crossvec.audit import judge

    assert judge._claim('{"document": ' + DEEP + DEEP.replace("[", "]") + "}") is None


@pytest.mark.parametrize(
    "frame",
    [
        {"radius": 0},
        {"radius": -1.0},
        {"radius": "far"},
        {"norm": 0},
        {"norm": [1]},
        {"radius": 10**400},
        {"norm": 1e300},
        {"radius": 1e40},
    ],
)
def test_a_card_whose_rows_lie_nowhere_is_refused(tmp_path: Path, frame: dict[str, Any]) -> None:
    import torch

    from crossvec.aligners.maps import Linear
    from crossvec.translator import Frame, Translator

    side = Frame(torch.zeros(2), 1.0, None)
    Translator(Linear(torch.eye(2), torch.zeros(2)), Linear(torch.eye(2), torch.zeros(2)), side, side).save(tmp_path / "t")
    card = json.loads((tmp_path / "t" / "card.json").read_text())
    card["frames"]["source"] |= frame
    (tmp_path / "t" / "card.json").write_text(json.dumps(card))
    with pytest.raises(TranslatorError, match="do not say where rows of the source lie"):
        Translator.load(tmp_path / "t")


@pytest.mark.parametrize(
    "line", ["settings = {starts = inf}", "paired = 3", "seed = inf", f"a = {DEEP}", "seed = [1, 2]", "effort = 2020-01-01"]
)
def test_a_config_file_holds_no_surprise(crossvec: Run, tmp_path: Path, line: str) -> None:
    (tmp_path / "c.toml").write_text(line)
    code, out, err = crossvec("fit", "a.npy", "b.npy", "-o", tmp_path / "t", "--config", tmp_path / "c.toml")
    assert code == 2 and "unexpected" not in err and not out


def test_pairs_in_a_damaged_array_are_refused(tmp_path: Path) -> None:
    from crossvec.cli import pairs

    space = Space.of(np.eye(3, dtype="f4"))
    for held in (header("{'shape': ("), npy((2**32,)), npy((2**70, 2))):
        (tmp_path / "p.npy").write_bytes(held)
        with pytest.raises(CrossvecError):
            pairs.read(str(tmp_path / "p.npy"), space, space)


def test_tables_are_read_where_pandas_is_not_installed(tmp_path: Path) -> None:
    """A plain install has none, and neither Arrow nor crossvec may ask for it."""
    code = """
        import sys

        class Nowhere:
            def find_spec(self, name, path=None, target=None):
                if name == "pandas":
                    raise ModuleNotFoundError("No module named 'pandas'", name="pandas")

        sys.meta_path.insert(0, Nowhere())
        import numpy as np
        from crossvec import stores
        from crossvec.space import Space
        for name in ("a.parquet", "a.arrow", "datasets://./a", "vdf://./b"):
            stores.open(name).write([Space.of(np.eye(3, dtype="f4"), ["a", "b", "c"])])
            print(len(stores.open(name).load()))
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, capture_output=True, text=True)
    assert run.stdout.split() == ["3"] * 4, run.stderr
