"""universal — draw figure 4 from a real run: the cosines of several encoders' rows before and in one latent, and controls.

In    DATA/NAME.npy (n, d) with row i one text in every file; DATA/splits.json: source, target, eval
Out   results/vec2vec/universal-NAMES-SEED.json     cosines, retrieval, seconds, machine, versions; ../docs/universal.png
Uses  crossvec.aligners.vec2vec.universal, crossvec.report.heatmap, record

Each encoder is trained on a part of the texts that no other one sees, so no two rows of training are one text. The latent is
scored on the `eval` split, which nothing was trained on. A result that is there is drawn again and not measured again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from itertools import permutations
from pathlib import Path
from typing import Any

from record import DATA, HERE, RESULTS, save, versions


def measure(folder: Path, names: list[str], seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    import numpy as np
    import torch

    from crossvec.aligners.vec2vec import Vec2Vec
    from crossvec.aligners.vec2vec.universal import Universal
    from crossvec.geometry import unit
    from crossvec.machine import peak_memory
    from crossvec.metrics import retrieve

    splits = json.loads((folder / "splits.json").read_text(encoding="utf-8"))
    first, last = splits["source"][0], splits["target"][1]
    edges = np.linspace(first, last, len(names) + 1).astype(int)
    files = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in names}

    def rows(name: str, start: int, stop: int) -> torch.Tensor:
        return torch.from_numpy(np.asarray(files[name][start:stop], dtype=np.float32))

    seen = {name: rows(name, *edges[number : number + 2]) for number, name in enumerate(names)}
    held = {name: rows(name, *splits["eval"]) for name in names}
    wall, cpu = time.perf_counter(), time.process_time()
    universal = Universal.fit(
        seen,
        Vec2Vec(**settings, seed=seed),
        progress=lambda doing, part: print(f"{part:4.0%}  {doing}", file=sys.stderr, flush=True),
    )
    seconds = {"fit": round(time.perf_counter() - wall, 1), "fit_cpu": round(time.process_time() - cpu, 1)}
    latent = {name: unit(universal.encode_latent(name, x)) for name, x in held.items()}

    def ranked(a: torch.Tensor, b: torch.Tensor) -> dict[str, float]:
        ranks = retrieve(a, b, csls_neighbours=0).plain.forward
        return {"top1": ranks.top(1), "mean_rank": ranks.mean_rank}

    order = torch.randperm(len(held[names[0]]), generator=torch.Generator().manual_seed(seed))
    retrieval = {
        f"{a}-{b}": {
            "latent": ranked(latent[a], latent[b]),
            "shuffled": ranked(latent[a], latent[b][order]),
            "translated": ranked(
                universal.translator(a, b)(unit(held[a] - universal.means[a])), unit(held[b] - universal.means[b])
            ),
        }
        for a, b in permutations(names, 2)
    }
    return {
        "cosines": universal.cosines(held),
        "retrieval": retrieval,
        "pool": len(order),
        "rows_a_space": [len(x) for x in seen.values()],
        "trace": list(universal.trace),
        "seconds": seconds,
        "peak_memory_bytes": peak_memory(),
        "versions": versions("torch", "numpy"),
        "error": None,
    }


def main() -> int:
    ask = argparse.ArgumentParser(prog="universal.py", description="Measure and draw the latent of several encoders.")
    ask.add_argument("--data", type=Path, default=DATA, help="folder of the vectors (or set CROSSVEC_WIKI)")
    ask.add_argument("--spaces", nargs="+", default=["minilm", "wordllama", "potion"], help="the first is the hub of the start")
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument("--settings", type=json.loads, default={"precision": "bf16"}, help="of the aligner, as JSON")
    ask.add_argument("--picture", type=Path, default=HERE.parent / "docs" / "universal.png")
    given = ask.parse_args()
    path = RESULTS / "vec2vec" / f"universal-{'-'.join(given.spaces)}-{given.seed}.json"
    if not path.exists():
        row = {"part": "universal", "spaces": given.spaces, "seed": given.seed, "settings": given.settings}
        save(path, {"row": row, **measure(given.data, given.spaces, given.seed, given.settings)})
    from crossvec.report.heatmap import draw_cosines

    told = json.loads(path.read_text(encoding="utf-8"))["cosines"]
    # JSON is sorted; the picture keeps the order asked for.
    ordered = {name: {a: {b: table[a][b] for b in given.spaces} for a in given.spaces} for name, table in told.items()}
    print(draw_cosines(given.picture, ordered))
    return 0


if __name__ == "__main__":
    sys.exit(main())
