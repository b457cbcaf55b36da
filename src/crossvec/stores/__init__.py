"""stores — contract, table and door: from the name of a place to a Store that yields and takes Spaces.

In    a path or URL, perhaps with a row slice and options     "vectors.npy?rows=0:36000"
Out   Store                                                   describe, load, read, write
Uses  space, errors

Each sibling module holds one family of formats, or one database, and is the only one to import its library. Every store of
files promises what tests/contract/test_store.py states, every database what tests/contract/test_collection.py states.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable
from urllib.parse import quote

from crossvec.errors import StoreError, did_you_mean
from crossvec.space import BATCH_ROWS, Space
from crossvec.stores.address import SECRETS, Address
from crossvec.stores.places import hint_for, scheme_of

__all__ = ["DATABASES", "STORES", "Address", "Description", "Store", "names", "open"]

STORES: dict[str, str] = {
    ".npy": "crossvec.stores.npy:NpyFile",
    ".npz": "crossvec.stores.npy:NpzFile",
    ".parquet": "crossvec.stores.tables:ParquetFile",
    ".arrow": "crossvec.stores.tables:ArrowFile",
    ".feather": "crossvec.stores.tables:ArrowFile",
    ".safetensors": "crossvec.stores.safetensors:SafetensorsFile",
    ".jsonl": "crossvec.stores.jsonl:JsonLinesFile",
    ".jsonl.gz": "crossvec.stores.jsonl:JsonLinesFile",
    ".fvecs": "crossvec.stores.fvecs:FvecsFile",
    ".h5": "crossvec.stores.hdf5:Hdf5File",
    ".hdf5": "crossvec.stores.hdf5:Hdf5File",
}
"""Built-in stores of files, by suffix."""

DATABASES: dict[str, str] = {
    "chroma": "crossvec.stores.chroma:ChromaCollection",
    "datasets": "crossvec.stores.datasets:DatasetFolder",
    "duckdb": "crossvec.stores.duckdb:DuckdbTable",
    "faiss": "crossvec.stores.faiss:FaissIndex",
    "elasticsearch": "crossvec.stores.elasticsearch:ElasticsearchIndex",
    "lancedb": "crossvec.stores.lancedb:LanceTable",
    "milvus": "crossvec.stores.milvus:MilvusCollection",
    "opensearch": "crossvec.stores.opensearch:OpenSearchIndex",
    "pgvector": "crossvec.stores.pgvector:PgvectorTable",
    "pinecone": "crossvec.stores.pinecone:PineconeIndex",
    "qdrant": "crossvec.stores.qdrant:QdrantCollection",
    "qdrant-edge": "crossvec.stores.qdrant_edge:QdrantEdgeShard",
    "redis": "crossvec.stores.redis:RedisHashes",
    "sqlite": "crossvec.stores.sqlite:SqliteTable",
    "vdf": "crossvec.stores.vdf:VdfFolder",
    "weaviate": "crossvec.stores.weaviate:WeaviateCollection",
}
"""Built-in databases, by scheme: each is a Collection (stores.collection).

Installed packages add stores under the entry points `crossvec.stores`: the name is a suffix (".lance") or a URL's scheme
("qdrant"), the value a class or function that takes an Address and returns a Store.
"""

LIKE_AN_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(/*)(.*)", re.DOTALL)
USER = re.compile(r"[^/@]*:[^/@]*@")


@dataclass(frozen=True)
class Description:
    """What a place holds, told without reading its vectors.

    `rows` are those of the slice when the address has one. `ids` tells whether rows have ids, `payload` names the columns,
    `size` is the place's size in bytes, None when unknown.

    What databases tell beside: `metric`, by which they compare ("cosine", "dot", "euclidean", or their own word for another;
    None: none is set); `normalised`, whether the rows come out with unit length because the database makes them so (None: it
    cannot be known without reading them); `named`, the names of the vectors that a row has, when it can have several;
    `id_type`, "integer" or "text" when all ids are such; `exact`, whether `rows` was counted and not estimated.
    """

    url: str
    name: str
    format: str
    rows: int
    dim: int
    dtype: str
    ids: bool = False
    payload: tuple[str, ...] = ()
    size: int | None = None
    metric: str | None = None
    normalised: bool | None = None
    named: tuple[str, ...] = ()
    id_type: str | None = None
    exact: bool = True


@runtime_checkable
class Store(Protocol):
    """A place that yields and takes Spaces. Making one touches nothing; every method may raise StoreError and SpaceError."""

    def describe(self) -> Description:
        """Tell what is there without reading the vectors."""
        ...

    def load(self) -> Space:
        """Return everything, memory-mapped where the format allows; rows of a memory map are checked when they are read."""
        ...

    def read(self, batch: int = BATCH_ROWS) -> Iterator[Space]:
        """Yield everything in stable order, `batch` checked rows at a time, at least one (perhaps empty) batch."""
        ...

    def write(self, batches: Iterable[Space]) -> int:
        """Write the batches, all or nothing, and return the number of rows.

        Raises StoreError when the place cannot carry the ids or payload it is given, UnfinishedError when the disk is full.
        """
        ...


def open(url: str | Path) -> Store:
    """Return the store that a path or URL names; raises StoreError, with the nearest right name, when there is none.

    A path is a file, or a folder of Hugging Face datasets or of VDF, which is recognised by what lies in it.
    Options follow a `?`: `rows=0:36000` (half-open), `column=`, `key=` and `id=` where a file holds several things, `keep=ids`
    or `keep=vectors` to leave payload, or ids too, behind, `bad_rows=drop`, and `dtype=float16` when writing.
    """
    _refuse_hidden_secrets(str(url))
    address = Address.parse(url)
    name = address.scheme
    if name == "file":
        path = Path(address.place)
        if found := scheme_of(path):
            name, address = found, replace(address, scheme=found, place=quote(str(path.absolute())))
        else:
            name = _suffix(path)
    return cast(Store, _door(name, address)(address))


def names() -> list[str]:
    """Return the suffixes and schemes of all stores, built in and installed."""
    built_in = [*STORES, *DATABASES]
    return [*built_in, *sorted(e.name for e in entry_points(group="crossvec.stores") if e.name not in built_in)]


def _refuse_hidden_secrets(url: str) -> None:
    """Raise StoreError for a mistyped address with a secret, as for a right one: with a blank before it, a slash too few, ….

    It would be taken for a path, and repeated in messages. A path that is there is a path, whatever is in its name.
    """
    found = LIKE_AN_ADDRESS.search(url)
    if not found or os.path.exists(url) or os.path.exists(url.partition("?")[0]):
        return
    scheme, slashes, rest = found[1].lower(), found[2], found[3]
    if not found.start() and len(slashes) > 1:  # no mistake, but for a host after the third slash
        mistaken = len(slashes) > 2 and scheme in SECRETS and USER.match(rest) is not None
    else:
        mistaken = scheme in DATABASES or (slashes != "" and scheme != "file")
    if mistaken:
        Address.parse(f"{scheme}://{rest}")


def _suffix(path: Path) -> str:
    known = (name for name in names() if name.startswith(".") and path.name.lower().endswith(name))
    return max(known, key=len, default=path.suffix.lower())


def _door(name: str, address: Address) -> Any:
    if known := STORES.get(name) or DATABASES.get(name):
        module, attribute = known.split(":")
        return getattr(import_module(module), attribute)
    for entry in entry_points(group="crossvec.stores"):
        if entry.name == name:
            return entry.load()
    if address.scheme != "file":
        raise StoreError(f"crossvec knows no store {name}://", did_you_mean(name, names()))
    place = USER.sub("…@", address.place)  # it may be an address without its scheme
    if told := hint_for(Path(address.place)):
        raise StoreError(f"{place} is {told[0]}", told[1])
    if not name:
        what = "is a folder" if os.path.isdir(address.place) else "has no suffix that tells its format"
        suffixes = ", ".join(known for known in names() if known.startswith("."))
        raise StoreError(f"{place} {what}", f"name a file that ends in one of {suffixes}")
    hint = "unpack it first" if name in (".gz", ".zip", ".zst", ".bz2", ".xz") else did_you_mean(name, names())
    raise StoreError(f"crossvec cannot read or write {name} files, such as {place}", hint)
