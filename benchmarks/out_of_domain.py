"""out_of_domain — measure: fitted on encyclopedia, scored on another kind of text, beside encyclopedia and controls.

In    DATA/NAME.npy (n, d), row i one text in every file; DATA/splits.json; DATA/texts.jsonl.gz
Out   results/out-of-domain/SOURCE-TARGET-METHOD-SEED.json     scores on `eval` (encyclopedia) and on `docs`, verdict, seconds
Uses  domain_shift (passages of Python documentation, their encoders), record, crossvec.fitting, evaluation

The passages are docstrings of Python's library and of installed packages, so that any machine has them; their number and a hash
are told, since versions differ. They are encoded here by the two encoders that work offline, after a look that these give the
rows that DATA has for its own texts. Nothing is fitted on them: rows are centred at the means of encyclopedia too.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from record import DATA, RESULTS, save

POOL = 4096
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "procrustes": ("procrustes", {}),
    "moments": ("moments", {}),
    "vec2vec": ("vec2vec", {"precision": "bf16"}),
}
"""By name, the aligner and its settings; procrustes is given the pairs of the source split: a ceiling, not a rival."""
SAME = 0.99
"""Cosine between a row of DATA and the same text encoded here, at least."""


def embedded(folder: Path, kept: Path) -> dict[str, Any]:
    """Return POOL passages of documentation in both encoders, encoded once; raises ValueError when DATA's encoders differ."""
    import numpy as np
    from domain_shift import OFFLINE, encoded, passages

    texts = passages()[:POOL]
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]
    file = kept / f"docs-{digest}.npz"
    if not file.exists():
        with gzip.open(folder / "texts.jsonl.gz", "rt", encoding="utf-8") as lines:
            some = [json.loads(next(lines))["text"] for _ in range(64)]
        rows = {}
        for name in OFFLINE:
            known = np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)[: len(some)], np.float32)
            near = float((known * encoded(name, some)).sum(1).mean())
            if near < SAME:
                raise ValueError(f"{name} here is not the {name} of {folder}: their rows have cosine {near:.3f}")
            rows[name] = encoded(name, texts)
        kept.mkdir(parents=True, exist_ok=True)
        np.savez(file, **rows)
    with np.load(file, allow_pickle=False) as held:
        return {"texts": len(texts), "digest": digest, **{name: held[name] for name in held.files}}


def measure(folder: Path, docs: dict[str, Any], source: str, target: str, method: str, seed: int) -> dict[str, Any]:
    import numpy as np

    from crossvec.evaluation import evaluate
    from crossvec.fitting import fit
    from crossvec.machine import peak_memory
    from crossvec.space import Space

    splits = json.loads((folder / "splits.json").read_text(encoding="utf-8"))
    files = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in (source, target)}

    def space(name: str, split: str) -> Space:
        return Space.of(np.asarray(files[name][slice(*splits[split])], dtype=np.float32), name=name)

    aligner, settings = METHODS[method]
    paired = aligner == "procrustes"
    x, y = space(source, "source"), space(target, "source" if paired else "target")
    pairs = np.stack([np.arange(len(x))] * 2, axis=1) if paired else None
    wall, cpu = time.perf_counter(), time.process_time()
    translator = fit(x, y, aligner, pairs=pairs, seed=seed, settings=settings)
    seconds = {"fit": round(time.perf_counter() - wall, 1), "fit_cpu": round(time.process_time() - cpu, 1)}
    pools = {
        "eval": (space(source, "eval"), space(target, "eval")),
        "docs": (Space.of(docs[source], name=source), Space.of(docs[target], name=target)),
    }
    scores = {name: evaluate(translator, *pair, bootstrap=0, csls_neighbours=0).to_json() for name, pair in pools.items()}
    return {
        "scores": scores,
        "docs": {"texts": docs["texts"], "digest": docs["digest"]},
        "label_free": label_free(translator, x, space(target, "target")),
        "verdict": translator.verdict.to_json() if translator.verdict else None,
        "seconds": seconds,
        "peak_memory_bytes": peak_memory(),
        "settings": translator.card["settings"],
        "versions": translator.card["versions"],
        "error": None,
    }


def label_free(translator: Any, x: Any, y: Any) -> list[dict[str, float]]:
    """What can be seen of a translator without pairs, by sample; see aligners.vec2vec.after."""
    import torch

    from crossvec.aligners import Alignment
    from crossvec.aligners.vec2vec.after import seen

    rows = (translator.source.centre(torch.from_numpy(x.array()))[0], translator.target.centre(torch.from_numpy(y.array()))[0])
    return seen(*rows, Alignment(translator.forward, translator.backward), seed=0)


def main() -> int:
    ask = argparse.ArgumentParser(
        prog="out_of_domain.py", description="Score fits on another kind of text; finished rows stay."
    )
    ask.add_argument("--data", type=Path, default=DATA, help="folder of the vectors and texts (or set CROSSVEC_WIKI)")
    ask.add_argument("--directions", nargs="+", default=["minilm-wordllama"], help="of minilm and wordllama")
    ask.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    ask.add_argument("--seeds", type=int, nargs="+", default=[0])
    ask.add_argument(
        "--kept", type=Path, default=Path(tempfile.gettempdir()) / "crossvec-docs", help="folder of encoded passages"
    )
    given = ask.parse_args()
    docs = embedded(given.data, given.kept)
    for direction in given.directions:
        source, target = direction.split("-")
        for method in given.methods:
            for seed in given.seeds if method != "procrustes" else [0]:
                path = RESULTS / "out-of-domain" / f"{direction}-{method}-{seed}.json"
                if path.exists():
                    continue
                print(path.stem, file=sys.stderr, flush=True)
                row = {"source": source, "target": target, "aligner": method, "method": method, "seed": seed}
                save(path, {"row": row, **measure(given.data, docs, source, target, method, seed)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
