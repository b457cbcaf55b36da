"""audit — measure: what real vectors give away, which secret keys hold, and how often an audit cries wolf.

In    DATA/NAME.npy (n, d), row i one text in every file; DATA/splits.json; DATA/texts.jsonl.gz; the encoder wordllama or minilm
Out   results/audit/NAME.json     what `audit` or `defend` returned as JSON, or a count of alarms
Uses  record, crossvec.audit

    python benchmarks/audit.py attributes minilm wordllama       # topics read from translated rows, beside naive and ideal
    python benchmarks/audit.py keyed minilm wordllama rotate     # is the key needed? by which rung
    python benchmarks/audit.py unrelated minilm wordllama --rows 8000    # rows that say nothing: does it claim anything?
    python benchmarks/audit.py alarms                            # audits in which labels, texts and guesses belong to nothing

A text has a topic when it has one of the topic's words: labels that can be made again from public texts, made by no model.
The victim's texts are those of the split `source`, the reference's those of `target`: no article is in both.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from record import DATA, RESULTS, save

from crossvec import encoders
from crossvec.audit import Case, Labels, Policy, Reading, Stage, audit, defend, inversion
from crossvec.audit.defences import named
from crossvec.audit.inputs import QUICK, WHOLE, Remembered, centred
from crossvec.audit.inversion import Budget, Known
from crossvec.audit.judge import LocalJudge, judged
from crossvec.audit.ladder import Rung, witnessed
from crossvec.audit.leakage import measures, others
from crossvec.audit.probes import create
from crossvec.fitting import fit
from crossvec.machine import peak_memory
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
SEEDS = 3  # of `unrelated`


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
    """Audits in which nothing belongs to anything: how often is a score above its gate, and how often a finding?

    Three kinds, AUDITS times each, on rows drawn anew. `labels`: labels dealt at random, as unevenly as labels are, to an
    attacker who has the model itself. `texts`: the owner's texts are dealt to the wrong rows as well, for an attacker who reads
    rows as they are beside other texts. `guesses`: texts recovered from real rows, each beside another row's text.
    """
    model = Remembered(encoders.open("wordllama"))
    rows = np.load(data / "wordllama.npy", mmap_mode="r", allow_pickle=False)
    with gzip.open(data / "texts.jsonl.gz", "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    recovered = _recovered(model.encoder, rows, texts)
    clouds = (Space.of(np.asarray(part, np.float32)) for part in np.split(rows[: 2 * WHOLE.scored], 2))
    as_they_are = fit(*clouds, "identity")
    kinds = {"labels": [], "texts": [], "guesses": []}
    for seed in range(AUDITS):
        rng = np.random.default_rng(seed)
        drawn, other = np.split(rng.choice(len(rows), 2 * ALARM_ROWS, replace=False), 2)
        weights = rng.dirichlet(np.full(len(WORDS), 0.7))
        dealt = [frozenset({str(name)}) for name in rng.choice(list(WORDS), ALARM_ROWS, p=weights)]
        store, home = (Space.of(np.asarray(rows[np.sort(part)], np.float32)) for part in (drawn, other))
        labels = Labels.of(list(WORDS))
        it = audit(Case(store, own_encoder=model, labels=labels, truth=dealt), probes=["attributes"], quick=True, seed=seed)
        kinds["labels"].append(_told(seed, len(it.findings), [("attributes", it.readings["encoder", "attributes"])]))
        wrong = [texts[row] for row in rng.permutation(drawn)]
        case = Case(store, home, encoder=model, labels=labels, truth=dealt, texts=wrong)
        split, rung = case.split(QUICK.scored, seed), Rung("domain", as_they_are)
        stage = Stage(rung, case, split, home.array(), np.arange(len(home)), model, seed)
        read = [(name, create(name).measure(stage)) for name in ("alignment", "attributes", "membership", "neighbours")]
        arrived = witnessed(stage).rung.status == "aligned"
        kinds["texts"].append(_told(seed, sum(map(_above, read)) if arrived else 0, read))
        truths, guesses = (list(part) for part in zip(*(recovered[row] for row in rng.permutation(500)[:100]), strict=True))
        guesses = [guesses[row] for row in others(100, 1, seed)[0]]
        reading = Reading((*measures(truths, guesses, seed=seed), *judged(LocalJudge(), truths, guesses, seed)))
        kinds["guesses"].append(_told(seed, int(_above(("inversion", reading))), [("inversion", reading)]))
        model.rows.clear()
    counted = {
        kind: {
            "with_a_finding": sum(one["findings"] > 0 for one in found),
            "above_the_gate": {name: sum(one["above"][name] for one in found) for name in found[0]["above"]},
            "each": found,
        }
        for kind, found in kinds.items()
    }
    return {"audits": AUDITS, **counted}


def unrelated(data: Path, victim: str, reference: str, rows: int, quick: bool) -> list[dict[str, Any]]:
    """Audits of stores that say nothing: normal noise, and rows of the victim, each with its coordinates in another order."""
    found = []
    for seed in range(SEEDS):
        case, rng = case_of(data, victim, reference, rows, seed), np.random.default_rng(seed)
        shape = len(case.victim), case.victim.dim
        noise = {
            "gaussian": rng.standard_normal(shape, dtype=np.float32),
            "coordinates of each row shuffled": rng.permuted(case.victim.array(), axis=1),
        }
        for kind, vectors in noise.items():
            told = audit(replace(case, victim=Space.of(vectors, name=kind)), quick=quick, seed=seed)
            verdicts = {rung.name: rung.status for rung in told.rungs}
            findings = [one.to_json() for one in told.findings]
            found.append({"kind": kind, "seed": seed, "rungs": verdicts, "exit_code": told.exit_code, "findings": findings})
    return found


def _recovered(model: encoders.Encoder, rows: np.ndarray, texts: list[str]) -> list[tuple[str, str]]:
    """500 texts, and the words that are recovered from their own rows by an attacker with the model and 5,000 other texts."""
    drawn, other = np.split(np.random.default_rng(AUDITS).choice(len(rows), 5500, replace=False), [500])
    known = Known.of(model, np.asarray(rows[other], np.float32), [texts[row] for row in other])
    targets = centred(np.asarray(rows[drawn], np.float32))
    found = inversion.create("static").invert(targets, known, budget=Budget(3600.0))
    return [(texts[row], text) for row, text in zip(drawn, found, strict=True)]


def _above(read: tuple[str, Reading]) -> bool:
    name, reading = read
    return any(score.gates and score.lift_low > Policy().threshold(name) for score in reading.scores)


def _told(seed: int, findings: int, read: list[tuple[str, Reading]]) -> dict[str, Any]:
    lifts = {name: [round(s.lift_low, 5) for s in reading.scores if s.gates] for name, reading in read}
    return {"seed": seed, "findings": findings, "above": {one[0]: _above(one) for one in read}, "lift_low": lifts}


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("what", choices=("attributes", "keyed", "unrelated", "alarms"))
    asked.add_argument("names", nargs="*", metavar="NAME", help="VICTIM REFERENCE, and for `keyed` the defences")
    asked.add_argument("--rows", type=int, default=36_000)
    asked.add_argument("--pairs", action="store_true", help=f"climb the rung `pairs` too, with {KNOWN} of them")
    asked.add_argument("--standard", action="store_true", help="more rows and more effort than --quick")
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--data", type=Path, default=DATA)
    given = asked.parse_args()
    started, spent = time.perf_counter(), time.process_time()
    if given.what == "alarms":
        result = alarms(given.data)
    elif given.what == "unrelated":
        result = {"audits": unrelated(given.data, *given.names[:2], given.rows, not given.standard)}
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
    save(RESULTS / "audit" / f"{name}.json", {"row": row, **result, "cost": cost})


if __name__ == "__main__":
    main()
