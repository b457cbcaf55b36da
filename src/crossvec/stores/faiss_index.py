"""faiss_index — an index as FAISS holds it, in a process that does nothing else and answers calls through two pipes.

In    calls on stdin       a method of Held by name, its settings as JSON, arrays as bytes
Out   answers on stdout    what it returned, or the error it raised
Uses  numpy, faiss

FAISS believes what it reads, and a damaged file may end the process that reads it: so it is this one, and never the user's. It
is started by stores.faiss_apart as `python -m crossvec.stores.faiss_index`, and ends when its stdin does. docs/decisions/0007.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

KINDS = ("<i8", "<f4")
"""What arrays may hold on their way."""

INSIDE = ("index", "storage", "base_index", "refine_index")
CODES = ("pq", "refine_pq", "sq", "rq", "lsq", "prq", "plsq", "rabitq")
"""What FAISS calls the indexes, and what makes codes of rows, that an index may have inside."""

LONGEST = 1 << 16  # bytes of the JSON of a message
EXPLAINED = 16  # bytes in memory for a byte of the file, at most: small codes, each with an entry in a table of ids
SPARE = 1 << 30  # and as many more whatever the file


def send(sink: BufferedIOBase, told: Any, arrays: Sequence[np.ndarray] = ()) -> None:
    """Write a message: the length of its JSON, the JSON with the arrays' types and shapes, the arrays' bytes."""
    kept = [np.ascontiguousarray(array) for array in arrays]
    head = json.dumps([told, [[array.dtype.newbyteorder("<").str, array.shape] for array in kept]]).encode()
    sink.write(struct.pack("<Q", len(head)) + head)
    for array in kept:
        if array.size:
            sink.write(array.data.cast("B"))
    sink.flush()


def receive(stream: BufferedIOBase) -> tuple[Any, list[np.ndarray]]:
    """Read a message; raises EOFError where the stream ends, ValueError when it says what no message says."""
    size = struct.unpack("<Q", _filled(stream, bytearray(8)))[0]
    if size > LONGEST:
        raise ValueError(f"a message of {size:,} bytes")
    told, shapes = json.loads(_filled(stream, bytearray(size)))
    arrays = []
    for kind, shape in shapes:
        if kind not in KINDS:
            raise ValueError(f"an array of {kind}")
        arrays.append(np.empty(shape, kind))
        if arrays[-1].size:
            _filled(stream, arrays[-1].data.cast("B"))
    return told, arrays


def _filled(stream: BufferedIOBase, held: Any) -> Any:
    rest = memoryview(held)
    while rest:
        if not (got := stream.readinto(rest)):
            raise EOFError
        rest = rest[got:]
    return held


class Held:
    """One index in memory. Its public methods are the calls; each returns what the index is now, or arrays."""

    def __init__(self) -> None:
        import faiss

        self.faiss: Any = faiss
        self.index: Any = None
        self.threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)  # within `bounded` there is no address space for threads
        self.size = 0

    def read(self, path: str) -> dict[str, Any]:
        """Read a file, whose length bounds what it may ask for, whatever it says; raises RuntimeError, MemoryError."""
        self.size = Path(path).stat().st_size
        limits = {}
        for what in ("vector_byte_limit", "loop_limit"):
            if hasattr(self.faiss, f"set_deserialization_{what}"):  # FAISS 1.13 and later
                limits[what] = getattr(self.faiss, f"get_deserialization_{what}")()
                getattr(self.faiss, f"set_deserialization_{what}")(EXPLAINED * self.size)
        try:
            with bounded(EXPLAINED * self.size + SPARE):
                self.index = self.faiss.read_index(path, self.faiss.IO_FLAG_SKIP_PRECOMPUTE_TABLE)  # which only searching needs
        finally:
            for what, limit in limits.items():
                getattr(self.faiss, f"set_deserialization_{what}")(limit)
        self._agree(self.index)
        return self.facts()

    def create(self, dim: int, metric: str) -> dict[str, Any]:
        """Make an empty index of rows with ids."""
        metrics = {"euclidean": self.faiss.METRIC_L2}
        self.index = self.faiss.IndexIDMap2(self.faiss.IndexFlat(dim, metrics.get(metric, self.faiss.METRIC_INNER_PRODUCT)))
        return self.facts()

    def facts(self) -> dict[str, Any]:
        """Tell what the index is: rows, dim, metric, kind, and whether rows can be replaced by id."""
        index, inner, numbered = self.index, self._inner(), hasattr(self.index, "id_map")
        kind = type(inner).__name__.removeprefix("Index")
        known = {self.faiss.METRIC_L2: "euclidean", self.faiss.METRIC_INNER_PRODUCT: "dot"}
        all_metrics = ((name, value) for name, value in vars(self.faiss).items() if name.startswith("METRIC_"))
        named = next((name for name, value in all_metrics if value == index.metric_type), "")
        return {
            "rows": int(index.ntotal),
            "dim": int(index.d),
            "metric": known.get(index.metric_type, named.removeprefix("METRIC_").lower()),
            "kind": "float32" if kind.endswith("Flat") or kind.startswith("Flat") else kind,
            "replaces": isinstance(inner, self.faiss.IndexFlatCodes) if numbered else self._inverted(index) is not None,
        }

    def ids(self) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        """Return the ids, and for each the number by which the index gives back its row."""
        numbers = np.arange(self.index.ntotal)
        if hasattr(self.index, "id_map"):
            return self.faiss.vector_to_array(self.index.id_map), numbers
        if (inverted := self._inverted(self.index)) is None:
            return numbers, numbers
        lists = inverted.invlists
        sizes = [(at, lists.list_size(at)) for at in range(inverted.nlist)]
        parts = [self.faiss.rev_swig_ptr(lists.get_ids(at), size).copy() for at, size in sizes if size]
        ids = np.concatenate(parts) if parts else numbers
        return ids, ids

    def rows(self, numbers: Int64[np.ndarray, " k"]) -> tuple[Float32[np.ndarray, "k d"]]:
        """Return rows by the numbers that `ids` gives."""
        inner = self._inner()
        with bounded(EXPLAINED * self.size + SPARE):
            if (inverted := self._inverted(inner)) is not None and inverted.direct_map.no():
                inverted.set_direct_map_type(self.faiss.DirectMap.Hashtable)
            return (np.asarray(inner.reconstruct_batch(numbers), np.float32),)

    def remove(self, ids: Int64[np.ndarray, " k"]) -> dict[str, Any]:
        """Remove rows, of which some may not be there."""
        self._unmapped()
        self.index.remove_ids(ids)
        return self.facts()

    def add(self, ids: Int64[np.ndarray, " k"], vectors: Float32[np.ndarray, "k d"]) -> dict[str, Any]:
        """Add rows whose ids are not there."""
        self._unmapped()
        self.faiss.omp_set_num_threads(self.threads)
        try:
            self.index.add_with_ids(vectors, ids)
        finally:
            self.faiss.omp_set_num_threads(1)
        return self.facts()

    def write(self, path: str) -> None:
        """Write the index to a file."""
        self._unmapped()
        self.faiss.write_index(self.index, path)

    def forget(self) -> None:
        """Free the memory."""
        self.index = None

    def _agree(self, index: Any) -> None:
        """Raise RuntimeError where a part tells of other dimensions or rows than the whole: FAISS looks at some of them."""
        index = self.faiss.downcast_index(index)
        dim = index.d
        if isinstance(index, self.faiss.IndexPreTransform):
            for step in (index.chain.at(at) for at in range(index.chain.size())):
                _same("dimensions", step.d_in, dim)
                dim = step.d_out
        for inner in filter(None, (getattr(index, name, None) for name in INSIDE)):
            _same("dimensions", inner.d, dim)
            _same("rows", inner.ntotal, index.ntotal)
            self._agree(inner)
        for codes in filter(None, (getattr(index, name, None) for name in CODES)):
            _same("dimensions", codes.d, dim)
        if isinstance(index, self.faiss.IndexIVF):
            _same("dimensions", index.quantizer.d, dim)
            _same("lists", index.quantizer.ntotal, index.nlist)

    def _inner(self) -> Any:
        return self.faiss.downcast_index(self.index.index) if hasattr(self.index, "id_map") else self.index

    def _inverted(self, index: Any) -> Any:
        """Return the inverted file that an index is, or has inside; None when there is none."""
        return None if hasattr(index, "refine_index") else self.faiss.try_extract_index_ivf(index)

    def _unmapped(self) -> None:
        """Drop the table that finds a row by its id, which an inverted file cannot have while it changes."""
        if (inverted := self._inverted(self.index)) is not None:
            inverted.set_direct_map_type(self.faiss.DirectMap.NoMap)


def _same(what: str, one: int, other: int) -> None:
    if one != other:
        raise RuntimeError(f"read_index: its parts tell of {one} and of {other} {what}")


CALLS = ("read", "create", "ids", "rows", "remove", "add", "write", "forget")


@contextmanager
def bounded(more: int) -> Iterator[None]:
    """Let this process ask for so many more bytes of address space at most, where the system keeps account of them (Linux)."""
    if sys.platform != "linux":
        yield
        return
    import resource

    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = taken + more if soft == resource.RLIM_INFINITY else min(soft, taken + more)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def serve(stream: BufferedIOBase, sink: BufferedIOBase) -> None:
    """Answer calls until there are no more."""
    held: Held | None = None
    while True:
        try:
            (name, settings), arrays = receive(stream) if held else (("", {}), [])
        except EOFError:
            return
        try:
            if held is None:
                held, answer = Held(), None
            elif name in CALLS:
                answer = getattr(held, name)(*arrays, **settings)
            else:
                raise ValueError(f"there is no call {name!r}")
            told, arrays = (None, list(answer)) if isinstance(answer, tuple) else (answer, [])
            send(sink, [None, told], arrays)
        except Exception as error:
            send(sink, [type(error).__name__, str(error)[: LONGEST // 8]])
            if held is None:
                return


def main() -> None:
    """Serve the process that has started this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for that one, which may want to save
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what FAISS prints is no answer
    serve(os.fdopen(0, "rb"), sink)


if __name__ == "__main__":
    main()
