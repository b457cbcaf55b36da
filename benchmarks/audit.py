"""audit — measure: what real vectors give away, which secret keys hold, and how often an audit cries wolf.

In    DATA/NAME.npy (n, d), row i one text in every file; DATA/splits.json; DATA/texts.jsonl.gz; the encoder wordllama or minilm
Out   results/audit/NAME.json     what `audit` or `defend` returned as JSON, or a count of alarms
Uses  run (machine, commit), crossvec.audit

    python benchmarks/audit.py attributes minilm wordllama       # topics read from translated rows, beside naive and ideal
    python benchmarks/audit.py keyed minilm wordllama rotate     # is the key needed? by which rung
    python benchmarks/audit.py alarms                            # 100 audits with labels that have nothing to do with the texts

A text has a topic when it has one of the topic's words: labels that can be made again from public texts, made by no model.
The victim's texts are those of the split `source`, the reference's those of `target`: no article is in both.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from run import DATA, RESULTS, commit, machine

from crossvec import encoders
from crossvec.audit import Case, Labels, audit, defend
from crossvec.audit.defences import named
from crossvec.fitting import peak_memory
from crossvec.space import Space

WORDS = {
    "sport": "football basketball baseball cricket olympic league coach championship",
    "music": "album song band singer guitar orchestra",
    "film and television": "film television episode actress actor",
    "war and military": "army regiment battle military troops navy",
    "politics": "election parliament minister senator party governor",
    "biology": "species genus plant beetle moth bird",
    "religion": "church bishop temple monastery mosque",
    "transport": "railway station highway airport locomotive aircraft",
    "education": "university school college students professor",
    "literature": "novel poem poet author poetry",
    "science and technology": "software physics chemical mathematics theorem computer",
    "geography": "river village mountain municipality lake population",
}
KNOWN = 300  # pairs on the rung `pairs`
ALARM_ROWS = 1000
AUDITS = 100


def topics(text: str) -> frozenset[str]:
    words = set(re.findall(r"[a-z]+", text.lower()))
    return frozenset(name for name, own in WORDS.items() if words & set(own.split()))


def case_of(data: Path, victim: str, reference: str, rows: int, seed: int, pairs: int = 0) -> Case:
    """The store of one model, other texts under another; `pairs` of the store's texts are among the reference's."""
    with gzip.open(data / "texts.jsonl.gz", "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    splits = json.loads((data / "splits.json").read_text(encoding="utf-8"))
    rng = np.random.default_rng(seed)
    mine, other = (
        np.sort(rng.choice(np.arange(*splits[name]), min(rows, splits[name][1] - splits[name][0]), replace=False))
        for name in ("source", "target")
    )
    other = np.concatenate([other, mine[:pairs]])
    known = np.stack([np.arange(pairs), len(other) - pairs + np.arange(pairs)], axis=1) if pairs else None
    vectors = {name: np.load(data / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in (victim, reference)}
    return Case(
        Space.of(np.asarray(vectors[victim][mine], np.float32), name=victim),
        Space.of(np.asarray(vectors[reference][other], np.float32), name=reference),
        [texts[row] for row in other],
        pairs=known,
        encoder=encoders.open(reference),
        labels=Labels.of(list(WORDS), source="the topics"),
        texts=[texts[row] for row in mine],
        truth=[topics(texts[row]) for row in mine],
    )


def alarms(data: Path) -> dict[str, Any]:
    """Audits of real rows with labels dealt at random, as unevenly as labels are; the attacker has the model itself."""
    model, labels = encoders.open("wordllama"), Labels.of(list(WORDS))
    rows = np.load(data / "wordllama.npy", mmap_mode="r", allow_pickle=False)
    found = []
    for seed in range(AUDITS):
        rng = np.random.default_rng(seed)
        drawn = np.sort(rng.choice(len(rows), ALARM_ROWS, replace=False))
        weights = rng.dirichlet(np.full(len(WORDS), 0.7))
        dealt = [frozenset({str(name)}) for name in rng.choice(list(WORDS), ALARM_ROWS, p=weights)]
        store = Space.of(np.asarray(rows[drawn], np.float32))
        told = Case(store, own_encoder=model, labels=labels, truth=dealt)
        it = audit(told, probes=["attributes"], quick=True, seed=seed)
        top = it.readings["encoder", "attributes"].scores[0]
        found.append({"seed": seed, "findings": len(it.findings), "lift_low": top.lift_low, "lift": top.lift})
    return {"audits": AUDITS, "with_a_finding": sum(one["findings"] > 0 for one in found), "each": found}


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("what", choices=("attributes", "keyed", "alarms"))
    asked.add_argument("names", nargs="*", metavar="NAME", help="VICTIM REFERENCE, and for `keyed` the defences")
    asked.add_argument("--rows", type=int, default=36_000)
    asked.add_argument("--pairs", action="store_true", help=f"climb the rung `pairs` too, with {KNOWN} of them")
    asked.add_argument("--standard", action="store_true", help="more rows and more effort than --quick")
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--data", type=Path, default=Path(DATA))
    given = asked.parse_args()
    started, spent = time.perf_counter(), time.process_time()
    if given.what == "alarms":
        result = alarms(given.data)
    else:
        case = case_of(given.data, *given.names[:2], given.rows, given.seed, KNOWN if given.pairs else 0)
        if given.what == "attributes":
            result = audit(case, quick=not given.standard, seed=given.seed).to_json()
        else:
            tried = [named(one) for one in given.names[2:]]
            result = {"defences": [one.to_json() for one in defend(case, tried, seed=given.seed)]}
    cost = {
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - spent, 1),
        "peak_memory_bytes": peak_memory(),
    }
    row = {name: value for name, value in vars(given).items() if name != "data"}
    name = "-".join([given.what, *given.names, *(["pairs"] if given.pairs else []), f"{given.rows}"]).replace(":", "_")
    path = RESULTS / "audit" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    whole = {"row": row, **result, "cost": cost, "machine": machine(), "commit": commit(), "date": date}
    path.write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
