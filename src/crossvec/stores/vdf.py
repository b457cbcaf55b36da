"""vdf — folders of the Vector Dataset Format, which vdf-io exports from and imports into many databases.

In    vdf:///folder/name?index=books&namespace=&column=vector
Out   Space                                                    in the order of the files' numbers
Uses  stores.shards; pyarrow alone: the package vdf-io is not needed

`VDF_META.json` names the indexes that a folder holds, and of each the namespaces: dimension, metric, columns of vectors, and
the folder of Parquet files with its rows. An index with several namespaces is read by one of them. A folder that
crossvec makes holds one index, of the folder's name. How rows are written is told in stores.shards.

Format: vdf-io's README and its classes VDFMeta and NamespaceMeta (github.com/AI-Northstar-Tech/vector-io), version 0.1.248.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from crossvec.errors import StoreError, did_you_mean
from crossvec.space import BATCH_ROWS
from crossvec.stores.address import with_option
from crossvec.stores.atomic import atomically
from crossvec.stores.rows import Layout
from crossvec.stores.shards import Folder, Listing, ShardFolder
from crossvec.stores.tables import parquet_rows

META = "VDF_META.json"
VERSION = "0.1.248"
METRICS = {"Cosine": "cosine", "Dot": "dot", "Euclid": "euclidean"}
READ_AHEAD = 1 << 20  # bytes of a Parquet column


class VdfFolder(ShardFolder):
    """One index of a VDF folder."""

    format = "vdf"
    options = frozenset({"id", "index", "namespace"})
    beside = (META,)

    def _meta(self, client: Folder) -> dict[str, Any] | None:
        path = client.path / META
        try:
            return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None
        except ValueError as error:
            raise StoreError(f"{path} is no JSON: {error}", "export the folder anew") from None

    def _chosen(self, meta: dict[str, Any]) -> dict[str, Any]:
        """Return what is told of the namespace that was asked for, or of the only one."""
        found: Any = meta.get("indexes")
        if not isinstance(found, dict) or not found:
            raise StoreError(f"{self.path / META} names no indexes", "export the folder anew")
        index = self.address.options.get("index") or (next(iter(found)) if len(found) == 1 else "")
        if index not in found:
            hint = (
                did_you_mean(index, found)
                if index
                else f"choose one: {with_option(self.address.url, f'index={next(iter(found))}')}"
            )
            told = f"has no index {index!r}" if index else f"holds several indexes: {', '.join(found)}"
            raise StoreError(f"{self.path} {told}", hint)
        spaces = {str(it.get("namespace", "")): it for it in found[index]}
        name = self.address.options.get("namespace", next(iter(spaces)) if len(spaces) == 1 else None)
        if name is None or name not in spaces:
            first = with_option(self.address.url, f"namespace={next(iter(spaces), '')}")
            told = f"has no namespace {name!r}" if name is not None else "has several namespaces"
            raise StoreError(f"the index {index!r} of {self.path} {told}: {', '.join(spaces)}", f"choose one: {first}")
        return dict(spaces[name])

    def _listing(self, client: Folder) -> Listing | None:
        meta = self._meta(client)
        if meta is None:
            return None
        told = self._chosen(meta)
        place = client.path / told.get("data_path", ".")
        if not place.resolve().is_relative_to(client.path.resolve()):
            raise StoreError(f"{client.path / META} leads out of its folder, to {told['data_path']}", "move the files into it")
        shards = sorted(place.glob("*.parquet"), key=_number) if place.is_dir() else [place]
        if not shards:
            raise StoreError(f"{place} holds no Parquet files", f"{META} says that the rows are there: export them anew")
        metric = str(told.get("metric") or "")
        return Listing(
            shards,
            METRICS.get(metric, metric.lower() or None),
            tuple(told.get("vector_columns", ["vector"])),
            meta.get("id_column"),
        )

    def _list(self, client: Folder, shards: list[Path], layout: Layout) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat()
        meta = self._meta(client) or {
            "version": VERSION,
            "author": "crossvec",
            "exported_from": "crossvec",
            "indexes": {self.name: [{"namespace": "", "index_name": self.name, "data_path": shards[0].parent.name}]},
            "exported_at": now,
            "id_column": layout.about["key"],
        }
        told = self._chosen(meta)
        kept = {name: metric for metric, name in METRICS.items()}.get(str(layout.metric), layout.metric)
        changed = {"total_vector_count": layout.rows, "exported_vector_count": layout.rows}
        first = {"dimensions": layout.dim, "model_name": "", "vector_columns": [layout.vector], "metric": kept}
        for spaces in meta["indexes"].values():
            spaces[:] = [first | it | changed if it == told else it for it in spaces]
        files = [str(Path(self.name) / it.relative_to(self.path)) for it in shards]
        others = [it for it in meta.get("file_structure", []) if it not in files]
        with atomically(client.path / META) as part:
            part.write_text(json.dumps(meta | {"file_structure": [*others, *files]}, indent=4), encoding="utf-8")

    def _drop(self, client: Any) -> None:
        if sum(map(len, (self._meta(client) or {"indexes": {}})["indexes"].values())) > 1:
            raise StoreError(f"{self.path} holds other rows too, and is not deleted", "delete what you mean by hand")
        super()._drop(client)

    def _rows(self, shard: Path) -> tuple[int, pa.Schema]:
        with pq.ParquetFile(shard) as file:
            return parquet_rows(file), file.schema_arrow

    def _pieces(self, shard: Path, start: int, columns: list[str]) -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(shard, buffer_size=READ_AHEAD, pre_buffer=False) as file:
            ends = np.cumsum([file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)], dtype=np.int64)
            skipped = int(np.searchsorted(ends, start, side="right"))
            at = int(ends[skipped - 1]) if skipped else 0
            # A dot in a name would mean a nested field, so that all columns are read then.
            plain = None if any("." in name for name in columns) else columns
            groups = range(skipped, file.num_row_groups)
            for piece in file.iter_batches(BATCH_ROWS, row_groups=groups, columns=plain) if groups else ():
                if at + len(piece) > start:
                    yield piece.slice(max(start - at, 0)).select(columns)
                at += len(piece)

    def _save(self, path: Path, table: pa.Table) -> None:
        pq.write_table(table, path)

    def _next(self, shards: list[Path]) -> Path:
        last = max((_number(shard)[0] for shard in shards), default=0)
        return (shards[0].parent if shards else self.path / self.name) / f"{last + 1}.parquet"


def _number(path: Path) -> tuple[int, str]:
    """Return what files are sorted by: 2.parquet comes before 10.parquet."""
    found = re.findall(r"\d+", path.stem)
    return int(found[-1]) if found else 0, path.name
