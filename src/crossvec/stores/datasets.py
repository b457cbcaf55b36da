"""datasets — folders that Hugging Face `datasets` saves with `save_to_disk`, and opens with `load_from_disk`.

In    datasets:///folder/name?column=embedding&id=id
Out   Space                                            in the order of the files
Uses  stores.shards; pyarrow alone: the package `datasets` is not needed

Such a folder holds Arrow streams, `state.json`, which lists them, and `dataset_info.json`. A folder of several splits is read
by one of them: datasets:///folder/name/train. A dataset without a column of ids is read by row numbers. The metric is kept in
the schema's metadata. How rows are written is told in stores.shards.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from crossvec.errors import StoreError
from crossvec.stores.atomic import atomically
from crossvec.stores.rows import Layout
from crossvec.stores.shards import METRIC, Folder, Listing, ShardFolder
from crossvec.stores.tables import checked

STATE, INFO, SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"
UNSET = ("_format_columns", "_format_type", "_split")


class DatasetFolder(ShardFolder):
    """A saved dataset."""

    format = "datasets"
    beside = (STATE, INFO)

    def _listing(self, client: Folder) -> Listing | None:
        if (client.path / SPLITS).is_file():
            splits = json.loads((client.path / SPLITS).read_text(encoding="utf-8"))["splits"]
            hint = f"name one: datasets://{client.path}/{splits[0]}" if splits else "it holds nothing"
            raise StoreError(f"{client.path} holds several splits: {', '.join(splits)}", hint)
        if not (client.path / STATE).is_file():
            return None
        state = json.loads((client.path / STATE).read_text(encoding="utf-8"))
        shards = [_inside(client.path, it["filename"]) for it in state["_data_files"]]
        if not shards:
            raise StoreError(f"{client.path} lists no files of rows", "save the dataset anew")
        told = (self._rows(shards[0])[1].metadata or {}).get(METRIC.encode())
        return Listing(shards, told.decode() if told else None)

    def _list(self, client: Folder, shards: list[Path], layout: Layout) -> None:
        path = client.path / STATE
        state = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else dict.fromkeys(UNSET)
        state |= {"_data_files": [{"filename": shard.name} for shard in shards], "_fingerprint": secrets.token_hex(8)}
        state = {"_format_kwargs": {}, "_output_all_columns": False} | state
        if not (client.path / INFO).is_file():
            _write(client.path / INFO, {"citation": "", "description": "", "homepage": "", "license": ""})
        _write(path, state)

    def _rows(self, shard: Path) -> tuple[int, pa.Schema]:
        with pa.memory_map(str(shard)) as source, pa.ipc.open_stream(source) as stream:
            return sum(len(piece) for piece in stream), stream.schema

    def _pieces(self, shard: Path, start: int, columns: list[str]) -> Iterator[pa.RecordBatch]:
        with pa.OSFile(str(shard)) as source, pa.ipc.open_stream(source) as stream:
            for piece in stream:
                if start < len(piece):
                    yield checked(piece.select(columns)).slice(start)
                start = max(start - len(piece), 0)

    def _save(self, path: Path, table: pa.Table) -> None:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)

    def _next(self, shards: list[Path]) -> Path:
        taken = {shard.name for shard in shards}
        return next(self.path / name for at in range(len(shards), 10**9) if (name := f"data-{at:05}.arrow") not in taken)


def _inside(folder: Path, name: str) -> Path:
    """Return a file that the folder lists; raises StoreError where it lies elsewhere.

    Its own folder is what counts, as in stores.vdf: where a hub keeps its downloads every file is a link to one elsewhere.
    """
    shard = folder / name
    if shard.name == ".." or not shard.parent.resolve().is_relative_to(folder.resolve()):
        raise StoreError(f"{folder / STATE} leads out of its folder, to {name}", "move the files into it")
    return shard


def _write(path: Path, content: object) -> None:
    with atomically(path) as part:
        part.write_text(json.dumps(content, indent=2), encoding="utf-8")
