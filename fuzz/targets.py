"""targets — the parsers that are fuzzed: for each, valid files to begin with, and what must hold whatever the file says.

In    bytes of one file
Out   nothing, or a refusal in words (CrossvecError); `HalfRead` when a file was read and its parts do not agree
Uses  crossvec

A parser may refuse a file by a CrossvecError and by nothing else. If it reads one, `describe`, `load` and `read` must tell of
the same rows, ids and payload. To fuzz a parser of your own, add a Target to TARGETS.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import mutate
import numpy as np
from mutate import Mutator

from crossvec import stores
from crossvec.errors import CrossvecError, SpaceError
from crossvec.space import Space
from crossvec.stores import faiss_apart, faiss_index
from crossvec.stores.address import Address

MOST_ROWS = 1 << 16
"""A sparse or packed file may truly hold so many rows that reading them all tells about patience and not about the parser."""


class HalfRead(AssertionError):
    """A file was taken, and what it gives does not agree with itself."""


@dataclass(frozen=True)
class Target:
    """One parser: `seeds(folder)` gives valid files, `check(folder, data)` reads one; `structured` mutators know its format."""

    name: str
    seeds: Callable[[Path], list[bytes]]
    check: Callable[[Path, bytes], None]
    structured: tuple[Mutator, ...] = ()
    library: str = ""
    """The C library that parses the file, if one does: it may end the process, where Python would raise."""


# --- stores


def agree(url: str) -> None:
    """Read a store in every way there is; raises HalfRead unless they tell of the same rows."""
    store = stores.open(url)
    told = store.describe()
    if told.rows > MOST_ROWS or told.rows * told.dim > 1 << 22:
        next(iter(stores.open(f"{url}{'&' if '?' in url else '?'}rows=0:2").read()), None)
        return
    whole, parts = _refusable(lambda: _told([store.load()])), _refusable(lambda: _told(list(store.read(3))))
    if isinstance(parts, CrossvecError):
        if not isinstance(whole, CrossvecError) and not _drops(url):
            raise HalfRead(f"load gives rows, read refuses: {parts}")
        raise parts
    if isinstance(whole, CrossvecError):
        if len(set(parts[2])) == len(parts[2]) and not _drops(url):  # who reads all of it sees ids twice, who reads batches not
            raise HalfRead(f"read gives rows, load refuses: {whole}")
        raise whole
    if whole != parts:
        raise HalfRead("load and read give other rows")
    rows, dim, ids = len(whole[0]), whole[1], whole[2]
    if not _drops(url) and (rows, dim) != (told.rows, told.dim):
        raise HalfRead(f"described as {told.rows} x {told.dim}, read as {rows} x {dim}")
    if told.ids and len(set(ids)) != rows:
        raise HalfRead(f"{len(set(ids))} ids for {rows} rows")


def _drops(url: str) -> bool:
    return "bad_rows=drop" in url


def _refusable(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except CrossvecError as refused:
        return refused


def _told(spaces: list[Space]) -> tuple[list[bytes], int, list[Any], list[Any]]:
    """Return rows as bytes (NaN equals NaN there), dimension, ids and payload of spaces that follow each other."""
    rows = [row.tobytes() for space in spaces for row in space.array()]
    ids = [i for space in spaces for i in np.asarray(space.ids_or_numbers(), dtype=object).tolist()]
    # Lines of JSON may lack a key: it is None among rows that have it, and nothing where no row of the batch has it.
    payload = [
        sorted((key, repr(value)) for key, value in it.items() if value is not None)
        for space in spaces
        for it in space.records()
    ]
    if not len(rows) == len(ids) == len(payload):
        raise HalfRead(f"{len(rows)} rows, {len(ids)} ids and {len(payload)} payloads")
    return rows, spaces[0].dim, ids, payload


def _put(path: Path, data: bytes) -> Path:
    """Write a new file, never into one of the same name, which may still be mapped."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    return path


def _file(name: str, folder: Path, data: bytes) -> None:
    path = _put(folder / name, data)
    try:
        agree(str(path))
    except SpaceError:
        agree(f"{path}?bad_rows=drop")
        raise


def _written(name: str, folder: Path) -> list[bytes]:
    """Return what crossvec itself writes: with and without ids and payload as the format allows, and a few number types."""
    rng = np.random.default_rng(0)
    made = []
    for n, dim, dtype in ((5, 3, "float32"), (1, 1, "float32"), (9, 4, "float16")):
        space = Space.of(
            rng.standard_normal((n, dim)).astype(np.float32),
            [f"r{i}" for i in range(n)] if dtype == "float32" else list(range(7, 7 + n)),
            {"title": [f"t{i}" for i in range(n)], "year": [None, *range(1, n)]},
        )
        path = folder / f"{len(made)}-{name}"
        for keep in ("all", "ids", "vectors"):
            for kind in (dtype, "float32"):
                try:
                    stores.open(f"{path}?keep={keep}&dtype={kind}").write(space.batches(4))
                    made.append(path.read_bytes())
                    break
                except CrossvecError:  # the format cannot carry this much
                    continue
    return made


def _npy_seeds(folder: Path) -> list[bytes]:
    more = []
    for array in (np.ones((4, 3), ">f8"), np.asfortranarray(np.eye(3, dtype="f4")), np.arange(6, dtype="i1").reshape(2, 3) + 1):
        np.save(folder / "more.npy", array)
        more.append((folder / "more.npy").read_bytes())
    return _written("a.npy", folder) + more


def _npz_seeds(folder: Path) -> list[bytes]:
    x = np.random.default_rng(1).standard_normal((5, 3))
    np.savez_compressed(folder / "a.npz", embeddings=x.astype("f4"), ids=np.arange(5), labels=np.array(list("abcde")))
    np.savez(folder / "b.npz", np.asfortranarray(x))
    return _written("c.npz", folder) + [(folder / name).read_bytes() for name in ("a.npz", "b.npz")]


def _tables() -> list[Any]:
    import pyarrow as pa

    x = np.random.default_rng(2).standard_normal((7, 3)).astype("f4")
    lists = [*x.tolist()[:5], None, x[6].tolist()]
    return [
        pa.table(
            {"id": list("abcdefg"), "vector": pa.array(x.tolist(), pa.list_(pa.float32())), "n": pa.array([{"a": 1}] * 7)}
        ),
        pa.table({"_id": range(7), "embedding": pa.array(lists, pa.large_list(pa.float64()))}),
        pa.table({"embedding": [row.tobytes() for row in x], "when": pa.array(range(7), pa.timestamp("us"))}),
        pa.table({"vectors": pa.array((x * 9 + 20).astype("i1").tolist(), pa.list_(pa.int8(), 3))}),
    ]


def _parquet_seeds(folder: Path) -> list[bytes]:
    import pyarrow.parquet as pq

    made = _written("a.parquet", folder)
    for at, table in enumerate(_tables()):
        sink = io.BytesIO()
        pq.write_table(
            table,
            sink,
            row_group_size=(3, 100)[at % 2],
            compression=("none", "zstd", "gzip", "snappy")[at],
            store_schema=at % 2 == 0,
        )
        made.append(sink.getvalue())
    return made


def _arrow_seeds(folder: Path) -> list[bytes]:
    import pyarrow as pa

    made = _written("a.arrow", folder)
    for at, table in enumerate(_tables()):
        sink = io.BytesIO()
        options = pa.ipc.IpcWriteOptions(compression=(None, "zstd", "lz4", None)[at])
        with (pa.ipc.new_file if at % 2 else pa.ipc.new_stream)(sink, table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=3)
        made.append(sink.getvalue())
    return made


def _safetensors_seeds(folder: Path) -> list[bytes]:
    from safetensors.numpy import save

    x = np.random.default_rng(3).standard_normal((4, 3))
    more = [save({"vectors": x.astype("f2"), "other": x.astype("f8"), "b": np.ones(3, "f4")}, {"made": "by a test"})]
    return _written("a.safetensors", folder) + more


def _jsonl_seeds(folder: Path) -> list[bytes]:
    odd = b'{"vector": [1, 2.5e0, -3],"a":{"b":[1,null]}}\n\n{"vector": [null, 1, 2]}\r\n{"vector": [1, 2, 3], "t":"\\u00e9"}'
    return [*_written("a.jsonl", folder), odd]


def _hdf5_seeds(folder: Path) -> list[bytes]:
    import h5py

    x = np.random.default_rng(4).standard_normal((6, 3))
    with h5py.File(folder / "b.h5", "w", libver="latest") as file:
        file.create_dataset("group/embeddings", data=x.astype("f4"), chunks=(2, 3), compression="gzip", shuffle=True)
        file.create_dataset("ids", data=np.arange(6))
    with h5py.File(folder / "c.h5", "w") as file:
        file["vectors"] = x
        file.create_dataset("ids", data=list("abcdef"), dtype=h5py.string_dtype())
    return _written("a.h5", folder) + [(folder / name).read_bytes() for name in ("b.h5", "c.h5")]


# --- collections in folders: one file of a whole folder is damaged, its neighbours are sound


def _collection(scheme: str, name: str, changed: Callable[[Path], Path], folder: Path, data: bytes) -> None:
    _put(changed(folder / name), data)
    agree(f"{scheme}://{folder / name}")


def _folder_of(scheme: str, place: Path, payload: bool = True) -> None:
    x = np.random.default_rng(5).standard_normal((6, 3)).astype("f4")
    columns = {"title": [f"t{i}" for i in range(6)], "more": [{"a": 1}] * 6} if payload else None
    stores.open(f"{scheme}://{place}?metric=dot").write(Space.of(x, [f"r{i}" for i in range(6)], columns).batches(4))


def _of_folder(scheme: str, changed: Callable[[Path], Path], folder: Path) -> list[bytes]:
    """Make a sound folder, and give the one file of it that will be changed."""
    made = []
    for at, payload in enumerate((False, True)):
        place = folder / str(at) / scheme
        place.parent.mkdir()
        _folder_of(scheme, place, payload)
        made.append(changed(place).read_bytes())
    return made


def _in_folder(scheme: str, changed: Callable[[Path], Path], folder: Path, data: bytes) -> None:
    if not (place := folder / scheme).exists():
        _folder_of(scheme, place)
    _collection(scheme, scheme, changed, folder, data)


def _vdf_meta(place: Path) -> Path:
    return place / "VDF_META.json"


def _vdf_shard(place: Path) -> Path:
    return place / place.name / "1.parquet"


def _datasets_state(place: Path) -> Path:
    return place / "state.json"


def _datasets_shard(place: Path) -> Path:
    return place / "data-00000.arrow"


class Slow(AssertionError):
    """FAISS's process computed for too long."""


class Forked:
    """FAISS's process as a fork of one that has FAISS already: to start Python for each input would take days."""

    COMPUTING = 10  # seconds of processor time, as run.COMPUTING allows to a worker

    def __init__(self) -> None:
        asked, answered = os.pipe(), os.pipe()
        self.id = os.fork()
        if not self.id:
            try:
                os.close(asked[1])
                os.close(answered[0])
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the last words of malloc
                resource.setrlimit(resource.RLIMIT_CPU, (self.COMPUTING, self.COMPUTING + 1))
                faiss_index.serve(os.fdopen(asked[0], "rb"), os.fdopen(answered[1], "wb"))
            finally:
                os._exit(0)
        os.close(asked[0])
        os.close(answered[1])
        self.stdin, self.stdout = os.fdopen(asked[1], "wb"), os.fdopen(answered[0], "rb")
        self.code: int | None = None

    def poll(self) -> int | None:
        return self._known(os.WNOHANG)

    def wait(self, _seconds: float | None = None) -> int:
        return self._known(0) or 0

    def kill(self) -> None:
        if self.code is None:
            os.kill(self.id, signal.SIGKILL)

    def _known(self, how: int) -> int | None:
        if self.code is None and (ended := os.waitpid(self.id, how))[0]:
            self.code = os.waitstatus_to_exitcode(ended[1])
            if self.code == -signal.SIGXCPU:
                raise Slow(f"more than {self.COMPUTING} s of computing in FAISS's process")
        return self.code


faiss_apart.started = Forked


def _faiss_seeds(folder: Path) -> list[bytes]:
    import faiss

    x = np.random.default_rng(6).standard_normal((40, 4)).astype("f4")
    ids = np.arange(100, 140)
    made = [
        faiss.IndexFlatL2(4),
        faiss.IndexIDMap2(faiss.IndexFlatIP(4)),
        faiss.IndexScalarQuantizer(4, faiss.ScalarQuantizer.QT_8bit),
    ]
    made += [
        faiss.IndexHNSWFlat(4, 4),
        faiss.index_factory(4, "IVF2,Flat"),
        faiss.index_factory(4, "PQ2x4"),
        faiss.IndexLSH(4, 8),
    ]
    made += [faiss.index_factory(4, "IDMap,PCA2,Flat"), faiss.index_factory(4, "IVF2,PQ2x4,RFlat")]
    packed = []
    for index in made:
        index.train(x)
        index.add_with_ids(x, ids) if isinstance(index, (faiss.IndexIDMap2, faiss.IndexIVF)) or hasattr(
            index, "id_map"
        ) else index.add(x)
        packed.append(faiss.serialize_index(index).tobytes())
    stores.open(f"faiss://{folder}/own.faiss?metric=cosine").write([Space.of(x[:6])])
    return [*packed, (folder / "own.faiss").read_bytes()]


def _faiss(folder: Path, data: bytes) -> None:
    _put(folder / "a.faiss", data)
    try:
        agree(f"faiss://{folder}/a.faiss")
    finally:
        faiss_apart.end_idle()


def _faiss_documents(folder: Path, data: bytes) -> None:
    if not (folder / "own.faiss").exists():
        _faiss_document_seeds(folder)
    _put(folder / "own.faiss.arrow", data)
    agree(f"faiss://{folder}/own.faiss")


def _faiss_document_seeds(folder: Path) -> list[bytes]:
    x = np.random.default_rng(7).standard_normal((6, 4)).astype("f4")
    space = Space.of(x, [f"r{i}" for i in range(6)], {"title": list("abcdef")})
    (folder / "own.faiss").unlink(missing_ok=True)
    stores.open(f"faiss://{folder}/own.faiss?metric=cosine").write([space])
    return [(folder / "own.faiss.arrow").read_bytes()]


# --- addresses


ADDRESSES = """
vectors.npy?rows=0:36000
file:///home/me/a%20b.parquet?column=title_vector&id=isbn&rows=3:
faiss://./folder/index.faiss?keep=ids&bad_rows=drop
qdrant://localhost:6333/books?rows=:7&mode=upsert
pgvector://me@[::1]:5432/db/table?metric=cosine
vdf:///folder/name?index=books&namespace=&column=vector
texts.jsonl.gz?column=body
C:\\vectors\\a.npy
hf://
"""


def _address_seeds(_folder: Path) -> list[bytes]:
    return [line.encode() for line in ADDRESSES.strip().splitlines()]


def _address(folder: Path, data: bytes) -> None:
    """A place's name never opens anything: what is taken apart is put together alike, and a slice is in order."""
    url = data.decode("utf-8", "surrogateescape")
    address = Address.parse(url)
    if address.url != url or not address.place or "rows" in address.options:
        raise HalfRead(f"{url!r} was read as {address}")
    if address.rows and address.rows[1] is not None and not 0 <= address.rows[0] < address.rows[1]:
        raise HalfRead(f"{url!r} has the slice {address.rows}")
    for question in (address.split, address.folder, lambda: address.span(10), lambda: stores.open(url)):
        _refusable(question)


# --- files of the audit


LABELS = """
column = "topic"
templates = ["This text is about {}.", "{}"]
k = 1
[[label]]
name = "health"
sentences = ["A doctor, a hospital or an illness is mentioned."]
[[label]]
name = "law"
"""


def _labels(ending: str, folder: Path, data: bytes) -> None:
    from crossvec.audit import labels

    (folder / f"labels{ending}").write_bytes(data)
    read = labels.read(str(folder / f"labels{ending}"))
    if not 1 <= read.k < len(read.names) or not all(isinstance(one, str) for made in read.sentences.values() for one in made):
        raise HalfRead(f"labels {read}")


def _labels_json_seeds(_folder: Path) -> list[bytes]:
    import tomllib

    return [json.dumps(tomllib.loads(LABELS)).encode(), b'["health", "law", {"name": "sport", "sentences": ["A ball."]}]']


POLICY = """
[audit]
fail_on = "medium"
[audit.thresholds]
attributes = 0.05
membership = 0.1
[[audit.waivers]]
probe = "attributes"
rung = "domain"
reason = "public texts"
until = 2027-06-30
[other]
key = 1
"""


def _policy(folder: Path, data: bytes) -> None:
    from datetime import date

    from crossvec.audit import policy

    (folder / "crossvec.toml").write_bytes(data)
    read = policy.read(folder / "crossvec.toml")
    json.dumps(read.to_json())
    read.expired(date(2026, 1, 1))


def _planted() -> Any:
    from crossvec.audit.canaries import SCHEMA, Canary, Planted

    made = [Canary("phone", f"Call the {w} at 555", f"555 010{i}", (w, "b", "c"), i) for i, w in enumerate(("red", "blue"))]
    return Planted("model", SCHEMA, "2026-01-01", tuple(made), np.eye(2, 3, dtype="f4"), tuple(made), np.eye(2, 3, dtype="f4"))


def _canary_seeds(folder: Path) -> list[bytes]:
    path = folder / "canaries.json"
    path.unlink(missing_ok=True)
    _planted().write(path)
    return [path.read_bytes()]


def _canaries(folder: Path, data: bytes) -> None:
    from crossvec.audit import canaries

    (folder / "canaries.json").write_bytes(data)
    read = canaries.read(folder / "canaries.json")
    if len(read.canaries) != len(read.vectors) or len(read.strangers) != len(read.strange):
        raise HalfRead("canaries without rows")
    _refusable(lambda: canaries.in_texts(read, ["Call the red at 555 0100"], "here"))
    _refusable(lambda: canaries.in_rows(read, iter([Space.of(np.eye(3, dtype="f4"))]), "here", 0.9))


def _model_seeds(folder: Path) -> list[bytes]:
    from crossvec.audit import fingerprints

    made = [fingerprints.Fingerprint("a", 3, True, (0.5, 0.3, 0.2), "b"), fingerprints.Fingerprint("b", 2)]
    fingerprints.write(folder / "models.json", made)
    return [(folder / "models.json").read_bytes()]


def _models(folder: Path, data: bytes) -> None:
    from crossvec.audit import fingerprints

    (folder / "models.json").write_bytes(data)
    for one in fingerprints.read(folder / "models.json"):
        json.dumps(one.to_json())


def _answers(_folder: Path, data: bytes) -> None:
    """What a judge answers is text from elsewhere: yes, no, a claim as JSON, or none of these."""
    from crossvec.audit import judge

    told = data.decode("utf-8", "replace")
    claim = judge._claim(told)
    if judge._yes(told) not in (True, False, None) or not (claim is None or isinstance(claim[0], int)):
        raise HalfRead(f"{told!r} was read as {claim!r}")


# --- settings


CONFIG = """
effort = "thorough"
seed = 3
max-rows = 20000
aligner = "moments"
device = "cpu"
format = "json"
paired = true
[settings]
starts = 64
"""


def _config(folder: Path, data: bytes) -> None:
    """A verb's options as a file gives them, as far as the verb's own first line; click's refusals are a user's too."""
    import click

    from crossvec import aligners
    from crossvec.cli import cli

    path = folder / "fit.toml"
    path.write_bytes(data)
    fit = cli.commands["fit"]
    try:
        context = fit.make_context("fit", ["a.npy", "b.npy", "-o", "made", "--config", str(path)])
    except (click.ClickException, click.exceptions.Exit):
        return
    name = context.params["aligner"]
    aligners.create("moments" if name == "auto" else name, context.params["settings"])


def _pair_seeds(_folder: Path) -> list[bytes]:
    return [b"source,target\n0,1\n2, 3\n1,0\n", b"a,b\r\nc,a\r\n", b'"a","c"\n']


def _npy_pair_seeds(folder: Path) -> list[bytes]:
    made = []
    for array in (np.array([[0, 1], [2, 3]]), np.array([["a", "b"]]), np.array([[1.0, 2.0]], "f4")):
        np.save(folder / "pairs.npy", array)
        made.append((folder / "pairs.npy").read_bytes())
    return made


def _pairs(ending: str, folder: Path, data: bytes) -> None:
    from crossvec.cli import pairs

    (folder / f"pairs{ending}").write_bytes(data)
    x = np.eye(4, dtype="f4")
    for ids in (None, list("abcd")):
        found, _ = pairs.read(str(folder / f"pairs{ending}"), Space.of(x, ids), Space.of(x, ids))
        if len(found) and not (0 <= found.min() and found.max() < 4):
            raise HalfRead(f"pairs {found}")


# --- texts


def _texts(name: str, folder: Path, data: bytes) -> None:
    from crossvec import texts

    (folder / name).write_bytes(data)
    place = texts.open(folder / name)
    rows = place.rows()
    read = sum(len(batch) for batch in texts.open(f"{folder / name}?bad_rows=drop").read(2))
    if rows != read:
        raise HalfRead(f"{rows} texts counted, {read} read")


def _text_seeds(_folder: Path) -> list[bytes]:
    return ["one\ntwo\r\nthrée\n".encode(), b"\xef\xbb\xbfa\n\nb"]


def _text_line_seeds(_folder: Path) -> list[bytes]:
    return [b'{"id": "a", "text": "one", "year": 1}\n{"id": "b", "text": null}\n{"text": "x", "id": 3}\n']


def _csv_seeds(_folder: Path) -> list[bytes]:
    return [b'id,text,year\na,"one, two",1\nb,"three\nfour",2\n', b"text\r\none\r\n\r\ntwo\r\n"]


# --- what crossvec itself leaves behind


def _translator(kind: str = "linear") -> Any:
    import torch

    from crossvec.aligners.maps import Linear, Residual
    from crossvec.translator import Frame, Translator

    torch.manual_seed(0)
    if kind == "linear":
        forward, backward = Linear(torch.randn(4, 3), torch.zeros(3)), Linear(torch.randn(3, 4), torch.zeros(4))
    else:
        forward, backward = (
            Residual(torch.randn(a, b), torch.zeros(b), torch.randn(a, 2), torch.zeros(2), torch.randn(2, b))
            for a, b in ((4, 3), (3, 4))
        )
    return Translator(
        forward, backward, Frame(torch.ones(4), 1.0, 1.5), Frame(torch.ones(3), 1.0, None), {"aligner": "moments"}
    )


def _saved_seeds(name: str, folder: Path) -> list[bytes]:
    made = []
    for kind in ("linear", "residual"):
        _translator(kind).save(folder / kind)
        made.append((folder / kind / name).read_bytes())
    return made


def _saved(name: str, folder: Path, data: bytes) -> None:
    """A translator that loads translates, both ways, into rows of the dimension that it promises, or says why not."""
    from crossvec.translator import Translator

    place = folder / "saved"
    if not place.exists():
        _translator().save(place)
    (place / name).write_bytes(data)
    read = Translator.load(place)
    repr(read)
    for way in (read, read.inverse()):
        rows = _refusable(partial(way.translate, np.ones((2, way.source.dim), np.float32)))
        if not isinstance(rows, CrossvecError) and (rows.shape != (2, way.target.dim) or not np.isfinite(rows).all()):
            raise HalfRead(f"rows {rows}")
    read.save(folder / "again")


def _checkpoint_seeds(folder: Path) -> list[bytes]:
    import torch

    from crossvec.aligners.vec2vec import checkpoint

    checkpoint.write(folder / "c.safetensors", {"a": torch.ones(2, 3), "b": torch.zeros(4)}, {"step": 3, "settings": {"x": 1}})
    return [(folder / "c.safetensors").read_bytes()]


def _checkpoint(folder: Path, data: bytes) -> None:
    from crossvec.aligners.vec2vec import checkpoint

    (folder / "c.safetensors").write_bytes(data)
    checkpoint.read(folder / "c.safetensors")


def _journal_seeds(folder: Path) -> list[bytes]:
    from crossvec.migration.journal import Journal

    Journal("a.npy", "b.npy", "0123456789abcdef", cursor="r", skipped=[{"row": 1, "reason": "x"}]).save(folder / "j.json")
    return [(folder / "j.json").read_bytes()]


def _journal(folder: Path, data: bytes) -> None:
    from crossvec.migration.journal import Journal

    (folder / "j.json").write_bytes(data)
    read = Journal.load(folder / "j.json")
    if read is None:
        raise HalfRead("there is a journal")
    read.check(folder / "j.json", Journal("a.npy", "b.npy", "0123456789abcdef"))
    read.skip((1, 2), ("a", None), "because")


def _constant(*seeds: bytes) -> Callable[[Path], list[bytes]]:
    return lambda _folder: list(seeds)


def _store(name: str, seeds: Callable[[Path], list[bytes]], *structured: Mutator, library: str = "") -> Target:
    return Target(name, seeds, partial(_file, f"a.{name}"), structured, library)


def _gzipped_seeds(folder: Path) -> list[bytes]:
    return [gzip.compress(seed, mtime=0) for seed in _jsonl_seeds(folder)]


def _shards(name: str, scheme: str, changed: Callable[[Path], Path], *structured: Mutator, library: str = "") -> Target:
    return Target(name, partial(_of_folder, scheme, changed), partial(_in_folder, scheme, changed), structured, library)


TARGETS: tuple[Target, ...] = (
    _store("npy", _npy_seeds, mutate.npy),
    _store("npz", _npz_seeds, mutate.zipped(mutate.npy), mutate.zipped(mutate.havoc)),
    _store("parquet", _parquet_seeds, library="pyarrow"),
    _store("arrow", _arrow_seeds, library="pyarrow"),
    _store("safetensors", _safetensors_seeds, mutate.safetensors, library="safetensors"),
    _store("jsonl", _jsonl_seeds, mutate.lines_of_trees, mutate.text),
    _store("jsonl.gz", _gzipped_seeds, mutate.gzipped(mutate.lines_of_trees), mutate.gzipped(mutate.text)),
    _store("fvecs", partial(_written, "a.fvecs")),
    _store("h5", _hdf5_seeds, library="h5py"),
    _shards("vdf-meta", "vdf", _vdf_meta, mutate.tree),
    _shards("vdf-shard", "vdf", _vdf_shard, library="pyarrow"),
    _shards("datasets-state", "datasets", _datasets_state, mutate.tree),
    _shards("datasets-shard", "datasets", _datasets_shard, library="pyarrow"),
    Target("faiss", _faiss_seeds, _faiss, library="faiss"),
    Target("faiss-documents", _faiss_document_seeds, _faiss_documents, library="pyarrow"),
    Target("address", _address_seeds, _address, (mutate.text,)),
    Target("labels-txt", _constant(b"health\nlaw\nsport\n"), partial(_labels, ".txt"), (mutate.text,)),
    Target("labels-toml", _constant(LABELS.encode()), partial(_labels, ".toml"), (mutate.text,)),
    Target("labels-json", _labels_json_seeds, partial(_labels, ".json"), (mutate.tree,)),
    Target("policy", _constant(POLICY.encode()), _policy, (mutate.text,)),
    Target("canaries", _canary_seeds, _canaries, (mutate.tree,)),
    Target("models", _model_seeds, _models, (mutate.tree,)),
    Target(
        "judge",
        _constant(b"Yes, it does.", b'<think>hm</think>{"document": 3, "spans": ["a b", "c"]}'),
        _answers,
        (mutate.text,),
    ),
    Target("config", _constant(CONFIG.encode()), _config, (mutate.text,)),
    Target("pairs-csv", _pair_seeds, partial(_pairs, ".csv"), (mutate.text,)),
    Target(
        "pairs-jsonl",
        _constant(b'[0, 1]\n{"source": 2, "target": 3}\n[3, 0]', b'["a", "b"]\n{"target": "c", "source": "d"}'),
        partial(_pairs, ".jsonl"),
        (mutate.lines_of_trees,),
    ),
    Target("pairs-npy", _npy_pair_seeds, partial(_pairs, ".npy"), (mutate.npy,)),
    Target("texts-txt", _text_seeds, partial(_texts, "t.txt"), (mutate.text,)),
    Target("texts-jsonl", _text_line_seeds, partial(_texts, "t.jsonl"), (mutate.lines_of_trees,)),
    Target("texts-csv", _csv_seeds, partial(_texts, "t.csv"), (mutate.text,)),
    Target("card", partial(_saved_seeds, "card.json"), partial(_saved, "card.json"), (mutate.tree,)),
    Target(
        "tensors",
        partial(_saved_seeds, "translator.safetensors"),
        partial(_saved, "translator.safetensors"),
        (mutate.safetensors,),
        "safetensors",
    ),
    Target("checkpoint", _checkpoint_seeds, _checkpoint, (mutate.safetensors,), "safetensors"),
    Target("journal", _journal_seeds, _journal, (mutate.tree,)),
)
