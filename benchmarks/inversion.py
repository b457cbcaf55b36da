"""inversion — measure: how much of a text is read from the row of an unknown model, after a translation learned without pairs.

In    DATA/NAME.npy (n, d), row i one text in every file; DATA/splits.json; DATA/texts.jsonl.gz; the encoder REFERENCE
Out   results/inversion/VICTIM-REFERENCE-ENGINE-DOCUMENTS[-fresh].json     leakage by engine, beside shuffled, naive and ideal
Uses  record, crossvec.audit

    python benchmarks/inversion.py minilm wordllama                       # fits the translator: about two minutes
    python benchmarks/inversion.py minilm wordllama --translator FOLDER   # one that was saved before

The translator learns from the rows of the splits `source` (victim) and `target` (reference), which share no article. The
documents are the last of the split `eval`, in their order: none is chosen, and the first, on which the engines were tried while
they were written, are left out. One setting was chosen on the last, so `--fresh` takes as many before them. The attacker's
texts are those of `target`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from record import DATA, RESULTS, save, versions

from crossvec import encoders
from crossvec.audit import Case
from crossvec.audit.inputs import Split
from crossvec.audit.ladder import CROWD, Rung, Stage
from crossvec.audit.probes.inversion import Inversion
from crossvec.fitting import fit
from crossvec.machine import peak_memory
from crossvec.space import Space
from crossvec.translator import Translator

REPRODUCED = 0.999  # the least cosine of stored rows to those that the encoder gives


def measure(given: argparse.Namespace) -> dict[str, Any]:
    with gzip.open(given.data / "texts.jsonl.gz", "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    splits = {name: slice(*rows) for name, rows in json.loads((given.data / "splits.json").read_text()).items()}
    vectors = {name: np.load(given.data / f"{name}.npy", mmap_mode="r") for name in (given.victim, given.reference)}

    def space(name: str, split: str) -> Space:
        return Space.of(np.asarray(vectors[name][splits[split]], np.float32), name=name)

    model = encoders.open(given.reference)
    _reproduces(model, texts[splits["eval"]][:200], space(given.reference, "eval").array()[:200])
    if given.translator:
        translator = Translator.load(given.translator)
    else:
        translator = fit(space(given.victim, "source"), space(given.reference, "target"), "moments", seed=given.seed)
    own = texts[splits["eval"]]
    reference = space(given.reference, "target")
    case = Case(space(given.victim, "eval"), reference, texts[splits["target"]], encoder=model, texts=own)
    every = np.arange(len(own))
    drawn = np.sort(np.random.default_rng(given.seed).permutation(len(reference))[:CROWD])
    # All rows of `eval` are the store, so that their mean is not that of a few; the last ones are inverted, or those before.
    drawn_from = every[: -given.documents] if given.fresh else every
    split = Split(every, drawn_from[-given.documents :], np.empty(0, np.int64))
    stage = Stage(Rung("domain", translator), case, split, reference.take(drawn).array(), drawn, model, given.seed)
    probe = Inversion(tuple(given.engine), documents=given.documents, budget_seconds=given.budget)
    found = probe.measure(stage)
    verdict = translator.verdict
    return {
        "scores": [score.to_json() for score in found.scores],
        "details": dict(found.details),
        "translator": {**{key: translator.card[key] for key in ("aligner", "settings", "versions")}, "seed": given.seed},
        "verdict": verdict.to_json() if verdict else None,
    }


def _reproduces(model: encoders.Encoder, texts: list[str], rows: np.ndarray) -> None:
    made = model.encode(texts)
    cosines = (made * rows).sum(1) / np.linalg.norm(made, axis=1) / np.linalg.norm(rows, axis=1)
    if cosines.min() < REPRODUCED:
        raise SystemExit(f"{model.name} does not give the stored rows: the least cosine is {cosines.min():.4f}")


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("victim")
    asked.add_argument("reference")
    asked.add_argument("--engine", action="append", help="static and retrieval unless given; may be repeated")
    asked.add_argument("--documents", type=int, default=500)
    asked.add_argument("--fresh", action="store_true", help="the documents before those: no setting was chosen on them")
    asked.add_argument("--budget", type=float, default=3600.0, help="seconds; enough, so that the result is the seed's")
    asked.add_argument("--translator", type=Path, help="a saved translator, learned from the same splits and seed")
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--data", type=Path, default=DATA)
    given = asked.parse_args()
    given.engine = given.engine or ["static", "retrieval"]
    started, spent = time.perf_counter(), time.process_time()
    result = measure(given)
    cost = {
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - spent, 1),
        "peak_memory_bytes": peak_memory(),
        "without_the_fit": given.translator is not None,
    }
    row = {name: value for name, value in vars(given).items() if name not in ("data", "translator")}
    used = versions(*(name for name in ("numpy", "scipy", "torch", given.reference) if find_spec(name)))
    name = f"{given.victim}-{given.reference}-{'-'.join(given.engine)}-{given.documents}{'-fresh' * given.fresh}"
    save(RESULTS / "inversion" / f"{name}.json", {"row": row, **result, "cost": cost, "versions": used})


if __name__ == "__main__":
    main()
