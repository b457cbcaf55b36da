"""test_faiss — FAISS works in a process of its own, so that no index file ends the user's; what happens when it does end."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossvec import stores
from crossvec.errors import StoreError, UnfinishedError
from crossvec.space import Space
from crossvec.stores import faiss_apart, faiss_index
from crossvec.stores.collection import Collection

faiss = pytest.importorskip("faiss")

posix = pytest.mark.skipif(os.name != "posix", reason="sends signals")


def cloud(n: int, dim: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, dim)).astype(np.float32)


def packed(kind: str, n: int = 300, dim: int = 16) -> bytes:
    """A valid index file as FAISS itself writes it."""
    index = faiss.index_factory(dim, kind)
    index.train(cloud(n, dim))
    index.add(cloud(n, dim))
    return bytes(faiss.serialize_index(index).tobytes())


def changed(data: bytes, at: int, size: int, was: int, now: int) -> bytes:
    """The file with one of its numbers changed."""
    assert int.from_bytes(data[at : at + size], "little") == was
    return data[:at] + now.to_bytes(size, "little") + data[at + size :]


def store(place: Path) -> Collection:
    opened = stores.open(f"faiss://{place}")
    assert isinstance(opened, Collection)
    return opened


def bare(place: Path) -> tuple[int, str]:
    """How a Python ends that reads all rows of an index by FAISS alone, and what it says of them."""
    code = f"""
        import faiss
        index = faiss.read_index({str(place)!r})
        inverted = faiss.try_extract_index_ivf(index)
        if inverted is not None:
            inverted.set_direct_map_type(faiss.DirectMap.Hashtable)
        print(index.reconstruct_n(0, index.ntotal).shape)
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    return run.returncode, run.stdout.strip()


@posix
@pytest.mark.parametrize(
    "data",
    [
        # Four bytes at 4 are the index's dimension, which FAISS makes room for; its product quantiser goes on writing 16.
        pytest.param(lambda: changed(packed("PQ2x4"), 4, 4, 16, 1), id="room for one of sixteen dimensions"),
        # Nothing is damaged here: FAISS 1.15 cannot find these rows by their ids, and looks for them nevertheless.
        pytest.param(lambda: packed("IVF4,PQ4x4fs"), id="fast scan"),
    ],
)
def test_a_file_that_ends_a_bare_reader_is_refused_in_words(tmp_path: Path, data: Any) -> None:
    (tmp_path / "a.faiss").write_bytes(data())
    code, _ = bare(tmp_path / "a.faiss")
    if code == 0:
        pytest.skip("this FAISS reads it")
    assert code < 0, "by a signal"
    for read in (lambda: store(tmp_path / "a.faiss").load(), lambda: list(store(tmp_path / "a.faiss").read(7))):
        with pytest.raises(StoreError, match=r"a\.faiss") as refused:
            read()
        assert "name a file that faiss.write_index wrote, uncut" in refused.value.hint


def test_rows_of_another_dimension_than_the_index_says_are_not_misread(tmp_path: Path) -> None:
    """FAISS alone gives back rows of 32 numbers, of which half are what was in memory."""
    (tmp_path / "a.faiss").write_bytes(changed(packed("PQ2x4"), 4, 4, 16, 32))
    assert bare(tmp_path / "a.faiss") == (0, "(300, 32)")
    with pytest.raises(StoreError, match="parts tell of 16 and of 32 dimensions"):
        store(tmp_path / "a.faiss").load()


KINDS = ["Flat", "SQ8", "PQ4x4", "LSH", "HNSW8,SQ8", "NSG8,Flat", "PCA8,Flat", "OPQ4,IVF2,PQ4x4", "IVF2,PQ4x4,RFlat", "RQ3x4"]
KINDS += ["IMI2x1,Flat", "IVF2_HNSW4,Flat", "IDMap,PCA8,SQ8", "L2norm,Flat", "Pad20,Flat"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_index_of_any_kind_is_read_as_faiss_reads_it(kind: str, tmp_path: Path) -> None:
    index = faiss.index_factory(16, kind)
    index.train(cloud(300, 16))
    index.add_with_ids(cloud(300, 16), np.arange(300)) if kind.startswith("IDMap") else index.add(cloud(300, 16))
    faiss.write_index(index, str(tmp_path / "a.faiss"))
    inner = faiss.downcast_index(index.index) if kind.startswith("IDMap") else index
    if (inverted := None if "RFlat" in kind else faiss.try_extract_index_ivf(index)) is not None:
        inverted.set_direct_map_type(faiss.DirectMap.Hashtable)
    space = store(tmp_path / "a.faiss").load()
    assert space.ids is not None and list(space.ids) == list(range(300))
    assert np.array_equal(space.array(), inner.reconstruct_batch(np.arange(300)))


@pytest.mark.skipif(sys.platform != "linux", reason="bounds the address space as Linux does")
def test_memory_is_bounded_while_a_file_is_read_and_not_afterwards() -> None:
    code = """
        import numpy as np
        from crossvec.stores.faiss_index import bounded
        with bounded(1 << 20):
            try:
                np.ones(1 << 24)
            except MemoryError:
                print("refused")
        print(len(np.ones(1 << 24)))
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert (run.stdout.split(), run.stderr) == (["refused", str(1 << 24)], "")


# --- the process


def test_the_users_process_never_loads_faiss(tmp_path: Path) -> None:
    code = f"""
        import sys
        import numpy as np
        from crossvec import stores
        from crossvec.space import Space
        place = "faiss://{tmp_path}/a.faiss"
        stores.open(place).write([Space.of(np.eye(3, dtype="f4"), ["a", "b", "c"])])
        assert sorted(stores.open(place).load().ids) == ["a", "b", "c"]
        print("faiss" in sys.modules)
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert (run.stdout, run.stderr) == ("False\n", "")


@posix
def test_what_was_written_outlives_the_process_that_held_it(tmp_path: Path) -> None:
    place = store(tmp_path / "a.faiss")
    place.write([Space.of(cloud(5, 3), list(range(5)))])
    with place.session() as client:
        place.upsert(Space.of(-cloud(5, 3)[:2], [0, 9]))
        client.held.process.kill()
        with pytest.raises(UnfinishedError, match="was killed"):
            place.load()
        assert len(place.load()) == 6, "the next call reads the index anew"
    after = place.load()
    assert after.ids is not None and list(after.ids) == [0, 1, 2, 3, 4, 9]
    assert np.allclose(after.array()[0], -cloud(5, 3)[0], rtol=1e-5)


@posix
def test_ctrl_c_is_not_meant_for_the_process_that_holds_an_index(tmp_path: Path) -> None:
    place = store(tmp_path / "a.faiss")
    place.write([Space.of(cloud(5, 3), list(range(5)))])
    with place.session() as client:
        rows = place.load().array()
        os.kill(client.held.process.pid, signal.SIGINT)
        assert np.array_equal(place.load().array(), rows)


@posix
def test_a_process_that_died_while_it_was_idle_is_not_used_again(tmp_path: Path) -> None:
    place = store(tmp_path / "a.faiss")
    place.write([Space.of(cloud(5, 3))])
    faiss_apart.end_idle()
    with place.session() as client:
        place.count()
        process = client.held.process
    process.kill()  # not waited for: it may seem to live when it is taken
    assert place.count() == 5


def test_a_process_that_refused_a_file_is_not_used_again(tmp_path: Path) -> None:
    place = store(tmp_path / "a.faiss")
    place.write([Space.of(cloud(5, 3))])
    with place.session() as client:
        place.count()
        before = client.held.process.pid
    with place.session() as client:
        place.count()
        assert client.held.process.pid == before, "one that answered is"
    (tmp_path / "b.faiss").write_bytes(packed("Flat")[:-1])
    with pytest.raises(StoreError):
        store(tmp_path / "b.faiss").load()
    with place.session() as client:
        place.count()
        assert client.held.process.pid != before


@posix
def test_a_fork_has_a_process_of_its_own(tmp_path: Path) -> None:
    """Two programs that spoke through the same pipes would get each other's answers."""
    code = f"""
        import os
        import numpy as np
        from crossvec import stores
        from crossvec.space import Space
        for name in "ab":
            stores.open(f"faiss://{tmp_path}/{{name}}").write([Space.of(np.eye(3, dtype="f4") * (ord(name) - 96), [0, 1, 2])])
        forked = os.fork()
        for _ in range(20):
            name = "b" if forked else "a"
            rows = stores.open(f"faiss://{tmp_path}/{{name}}").load().array()
            assert np.allclose(rows.max(), ord(name) - 96)
        if forked:
            assert os.waitpid(forked, 0)[1] == 0
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


@posix
def test_a_fork_that_holds_an_open_index_reads_it_anew_and_leaves_the_parents_alone(tmp_path: Path) -> None:
    code = f"""
        import os
        import numpy as np
        from crossvec import stores
        from crossvec.space import Space
        place = stores.open("faiss://{tmp_path}/a")
        place.write([Space.of(np.eye(3, dtype="f4"), [0, 1, 2])])
        place = stores.open("faiss://{tmp_path}/a")
        with place.session() as client:
            client.look()
            parents = client.held
            forked = os.fork()
            if forked:
                assert os.waitpid(forked, 0)[1] == 0
            assert client.rows(client.ids()[1]).sum() == 3
            assert (client.held is parents) == bool(forked)
            if not forked:
                client.close()
                os._exit(0)
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


def test_ctrl_c_while_a_new_index_is_written_leaves_nothing_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = faiss_apart.receive
    add: list[bool] = []

    def interrupted(stream: Any) -> Any:
        told, held = answers(stream)
        if isinstance(told[1], dict) and told[1]["rows"] and not add:
            add.append(True)
            raise KeyboardInterrupt
        return told, held

    monkeypatch.setattr(faiss_apart, "receive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stores.open(f"faiss://{tmp_path}/n.faiss").write([Space.of(np.eye(3, dtype="f4"))])
    assert add and list(tmp_path.iterdir()) == []


@posix
def test_a_process_that_does_not_start_is_not_blamed_on_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stores.open(f"faiss://{tmp_path}/a.faiss").write([Space.of(np.eye(3, dtype="f4"))])
    faiss_apart.end_idle()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(StoreError, match="does not start") as refused:
        stores.open(f"faiss://{tmp_path}/a.faiss").count()
    assert "damaged" not in str(refused.value)


def test_a_faiss_that_cannot_be_loaded_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stores.open(f"faiss://{tmp_path}/a.faiss").write([Space.of(np.eye(3, dtype="f4"))])
    faiss_apart.end_idle()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "faiss.py").write_text("raise ImportError('libgomp is missing')")
    monkeypatch.syspath_prepend(str(tmp_path / "broken"))
    with pytest.raises(StoreError, match="cannot be loaded.*libgomp is missing"):
        stores.open(f"faiss://{tmp_path}/a.faiss").count()


def test_paths_of_packages_that_are_no_text_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faiss_apart.end_idle()
    monkeypatch.setattr(sys, "path", [tmp_path, *sys.path])
    stores.open(f"faiss://{tmp_path}/a.faiss").write([Space.of(np.eye(3, dtype="f4"))])
    assert stores.open(f"faiss://{tmp_path}/a.faiss").count() == 3


@pytest.mark.parametrize(("name", "value"), [("executable", ""), ("frozen", True)])
def test_a_program_that_cannot_start_python_says_so(name: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    faiss_apart.end_idle()
    monkeypatch.setattr(sys, name, value, raising=False)
    with pytest.raises(StoreError, match="cannot start Python"):
        faiss_apart.opened("create", dim=3, metric="dot")


# --- messages

arrays = st.lists(
    st.one_of(
        st.lists(st.integers(-(2**63), 2**63 - 1)).map(lambda held: np.array(held, np.int64)),
        st.tuples(st.integers(0, 4), st.integers(0, 3)).map(lambda shape: np.ones(shape, np.float32)),
    ),
    max_size=3,
)
told = st.recursive(st.one_of(st.none(), st.integers(), st.text()), lambda inner: st.lists(inner, max_size=3), max_leaves=5)


@given(told, arrays)
def test_what_is_sent_is_received(told: Any, held: list[np.ndarray]) -> None:
    pipe = io.BytesIO()
    faiss_index.send(pipe, told, held)
    pipe.seek(0)
    said, found = faiss_index.receive(pipe)
    assert said == told and len(found) == len(held)
    for one, other in zip(held, found, strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


@given(st.data())
def test_a_message_that_is_cut_is_none(data: st.DataObject) -> None:
    pipe = io.BytesIO()
    faiss_index.send(pipe, "told", [np.arange(5)])
    whole = pipe.getvalue()
    with pytest.raises(EOFError):
        faiss_index.receive(io.BytesIO(whole[: data.draw(st.integers(0, len(whole) - 1))]))


@pytest.mark.parametrize("head", [b'["told", [["|O", [3]]]]', b'["told", [["<i8", [-1]]]]', b'["told"', b'["told", 3]', b"[]"])
def test_a_message_that_says_what_none_says_is_refused(head: bytes) -> None:
    with pytest.raises((ValueError, TypeError)):
        faiss_index.receive(io.BytesIO(len(head).to_bytes(8, "little") + head + bytes(100)))
