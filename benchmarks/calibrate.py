"""calibrate — fits of known outcome, good, bad and unrelated: what the Verdict's probability is fitted on and scored by.

In    DATA/NAME.npy (n, d), row i one text in every file; DATA/splits.json; DATA/texts.jsonl.gz for the topics
      PERMUTED/layers-ORDER.npy, written by permuted.py: the texts under MiniLM with its layers in another order
Out   results/verdict/runs.jsonl, one line a run: case, evidence, top-1 over the paired ceiling
      results/verdict/fit.json (--fit): logistic weights over these runs, AUROC and false alarms with whole directions and
      whole sizes held out, and what the shipped weights say of every suite, size and method
Uses  run.py's rows, domain_shift's topics, permuted's rows; crossvec.aligners, verdict; scikit-learn

Cases: every directed pair of encoders x rows x effort from hopeless to standard; unrelated targets: a Gaussian with the
target's covariance, the target with each coordinate shuffled over the rows, the target with each row's coordinates shuffled, a
cloud of random clusters, and the target with each row shuffled in its own way, each ten times in the store; sides that share
none, a quarter or half of their topics; MiniLM with its layers permuted on one side. They run in an order drawn once, so that
any part of them is a sample of all; those that take longest come last.

Resumable: a case whose map lies in --maps is not fitted again; `--judge` reads the evidence of all maps there, without a fit.
Lines with `from` are of other programs and stay: rows of the suites, and runs of an earlier search whose maps end with the
orthogonal finish. Their `local_reliability` was added later, from the same rows of the target drawn again.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections import Counter
from dataclasses import fields
from fnmatch import fnmatch
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import record
import torch
from domain_shift import cut_topics, topics_of
from permuted import ORDERS
from permuted import ROWS as ENCODED
from torch import Tensor

from crossvec.aligners import Alignment, Linear, aligner_class, create
from crossvec.geometry import procrustes, unit
from crossvec.verdict import EVIDENCE, LOST, SURE, WEIGHTS, evidence, probability, readings

RESULTS = record.RESULTS / "verdict"
ENCODERS = ("minilm", "wordllama", "potion")
PAIRS = [(a, b) for a, b in product(ENCODERS, ENCODERS) if a != b]
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "hopeless": ("moments", {"effort": "quick", "starts": 128, "keep": 1, "kicks": 1}),
    "quick": ("moments", {"effort": "quick"}),
    "standard": ("moments", {}),
    "anchors": ("anchors", {}),
}
ROWS = (500, 1500, 3000, 5000, 10_000)
UNRELATED = ("gaussian", "columns", "rows", "clusters", "copies")
SHARED = ("topics-000", "topics-025", "topics-050")
LAYERS = tuple(f"layers-{order}" for order in ORDERS)
KEYS = ("source", "target", "rows", "method", "kind", "seed")
PIECES = ("thirds", "first_thirds", "reliability", "local", "local_reliability")
SUITES = ("wiki", "sample-size", "small-stores")
SIZES = (500, 1500, 3000, 5000, 10_000, 20_000, 36_000)
STRENGTH = (
    30.0  # C of the regression: with 100 some bad runs that are held out come to be called aligned, with 10 fewer good ones
)
LOWEST_CHANCE = 0.51  # on these encoders: for runs from before it was measured, and hard on no bad one
PAIRED = {"procrustes", "ridge", "low-rank", "mlp"}

Case = dict[str, Any]


def cases() -> list[Case]:
    """Every case, in the order in which they run."""
    plan = [(pair, rows, method, "real") for pair, rows, method in product(PAIRS, ROWS, METHODS)]
    plan += [(pair, rows, "quick", kind) for pair, rows, kind in product(PAIRS, ROWS[1:], UNRELATED)]
    plan += [(pair, rows, "quick", kind) for pair, rows, kind in product(PAIRS, (10_000, 16_000), SHARED)]
    order = np.random.default_rng(0).permutation(len(plan))
    both = [plan[i] for i in order]
    # Last, as they take longest: nothing in common, and as many rows as there are.
    both += [(pair, 36_000, "quick", kind) for pair, kind in product(PAIRS[::2], UNRELATED)]
    layered = [pair for pair in PAIRS if "minilm" in pair] + [("minilm", "minilm")]
    for kind, (rows, method) in product(LAYERS, ((ENCODED, "standard"), (ENCODED // 2, "quick"))):
        both += [(pair, rows, method, kind) for pair in layered]
    return [
        {"source": a, "target": b, "rows": rows, "method": method, "kind": kind, "seed": 0}
        for (a, b), rows, method, kind in both
    ]


def name(case: Case) -> str:
    return "-".join(str(case[key]) for key in KEYS)


class Clouds:
    """The rows of a case, drawn as run.py draws them."""

    def __init__(self, data: Path, permuted: Path | None) -> None:
        self.data, self.permuted = data, permuted or data
        self.splits = json.loads((data / "splits.json").read_text(encoding="utf-8"))

    @cache  # noqa: B019 — one object a run of the program
    def vectors(self, encoder: str) -> np.ndarray:
        folder = self.permuted if encoder in LAYERS else self.data
        return np.asarray(np.load(folder / f"{encoder}.npy", mmap_mode="r", allow_pickle=False))

    def rows(self, encoder: str, which: np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(self.vectors(encoder)[which], np.float32))

    def there(self, split: str, *encoders: str) -> np.ndarray:
        """Return the numbers of the split's rows that these encoders have: of permuted ones not all texts are encoded."""
        start, end = self.splits[split]
        some = split != "eval" and any(encoder in LAYERS for encoder in encoders)
        return np.arange(start, start + ENCODED if some else end)

    @cache  # noqa: B019 — one object a run of the program
    def topics(self) -> np.ndarray:
        with gzip.open(self.data / "texts.jsonl.gz", "rt", encoding="utf-8") as lines:
            return topics_of([json.loads(line)["text"] for line in lines])

    def of(self, case: Case) -> tuple[Tensor, Tensor]:
        rng, n = np.random.default_rng(case["seed"]), case["rows"]
        (s0, s1), (t0, t1) = self.splits["source"], self.splits["target"]
        if case["kind"] in SHARED:
            topics, share = self.topics(), int(case["kind"][-3:]) / 100
            first, second = cut_topics(topics[s0:s1], topics[t0:t1], share, n, rng)
            return self.rows(case["source"], s0 + first), self.rows(case["target"], t0 + second)
        source, target = encoders_of(case)
        ends = self.there("source", source, target), self.there("target", source, target)
        first, second = (np.sort(rng.choice(those, n, replace=False)) for those in ends)
        y = self.rows(target, second)
        return self.rows(source, first), spoil(y, case["kind"], torch.Generator().manual_seed(1000 + case["seed"]))

    def score(self, case: Case, alignment: Alignment, mean_x: Tensor, mean_y: Tensor) -> tuple[float, float]:
        """Return top-1 on eval, and that of the paired orthogonal map."""
        source, target = encoders_of(case)
        held = self.there("eval")
        ex, ey = unit(self.rows(source, held) - mean_x), unit(self.rows(target, held) - mean_y)
        return top1(alignment.map(ex), ey), self.ceiling(source, target)

    @cache  # noqa: B019
    def ceiling(self, source: str, target: str) -> float:
        known, held = self.there("source", source, target), self.there("eval")
        x, y = self.rows(source, known), self.rows(target, known)
        ex, ey = unit(self.rows(source, held) - x.mean(0)), unit(self.rows(target, held) - y.mean(0))
        return top1(ex @ procrustes(unit(x - x.mean(0)), unit(y - y.mean(0))), ey)


def encoders_of(case: Case) -> tuple[str, str]:
    """Return whose rows the two sides are: a permuted MiniLM stands in for MiniLM, on the target's side when both are."""
    both: tuple[str, str] = case["source"], case["target"]
    if case["kind"] not in LAYERS:
        return both
    return (both[0], case["kind"]) if both[1] == "minilm" else (case["kind"], both[1])


def spoil(y: Tensor, kind: str, generator: torch.Generator) -> Tensor:
    """Return a target that has nothing in common with the source, or y itself."""
    if kind not in UNRELATED:
        return y
    if kind == "gaussian":
        centred = y - y.mean(0)
        root = torch.linalg.cholesky(centred.T @ centred / len(y) + 1e-6 * torch.eye(y.shape[1]))
        return torch.randn(len(y), y.shape[1], generator=generator) @ root.T + y.mean(0)
    if kind == "columns":
        return torch.stack([column[torch.randperm(len(y), generator=generator)] for column in y.T], dim=1)
    if kind in ("rows", "copies"):
        few = y if kind == "rows" else y[: len(y) // 10]
        shuffled = torch.gather(few, 1, torch.rand(few.shape, generator=generator).argsort(1))
        return shuffled if kind == "rows" else shuffled.repeat_interleave(10, dim=0)
    centres = torch.randn(40, y.shape[1], generator=generator)
    sizes = torch.rand(40, generator=generator) ** 3
    member = torch.multinomial(sizes, len(y), replacement=True, generator=generator)
    return centres[member] + torch.randn(y.shape, generator=generator)


def top1(p: Tensor, y: Tensor) -> float:
    return float(((unit(p) @ y.T).argmax(1) == torch.arange(len(y))).float().mean())


def fitted(case: Case, clouds: Clouds, maps: Path) -> None:
    """Fit a case; leave its map, and beside it what pairs say of it."""
    x, y = clouds.of(case)
    mean_x, mean_y = x.mean(0), y.mean(0)
    aligner, options = METHODS[case["method"]]
    seed = {"seed": case["seed"]} if "seed" in {field.name for field in fields(aligner_class(aligner))} else {}
    started = time.process_time()
    alignment = create(aligner, {**options, **seed}).fit(unit(x - mean_x), unit(y - mean_y))
    seconds = time.process_time() - started
    score, ceiling = (0.0, 1.0) if case["kind"] in UNRELATED else clouds.score(case, alignment, mean_x, mean_y)
    np.savez(maps / f"{name(case)}.npz", **{key: tensor.numpy() for key, tensor in alignment.map.tensors().items()})
    told = {**case, "share": score / ceiling, "ceiling": ceiling, "seconds": round(seconds, 1)}
    (maps / f"{name(case)}.json").write_text(json.dumps(told), encoding="utf-8")


def judged(case: Case, clouds: Clouds, maps: Path) -> Case:
    """Return the line of a case whose map is there."""
    x, y = clouds.of(case)
    with np.load(maps / f"{name(case)}.npz", allow_pickle=False) as stored:
        learned = Linear.rebuild({key: torch.from_numpy(stored[key]) for key in stored})
    found = evidence(unit(x - x.mean(0)), unit(y - y.mean(0)), Alignment(learned, learned), seed=case["seed"])
    told: Case = json.loads((maps / f"{name(case)}.json").read_text(encoding="utf-8"))
    return {**told, "evidence": found}


def suites() -> list[Case]:
    """Rows of the suites whose verdict holds all evidence: they need no line of their own."""
    paths = [path for suite in SUITES for path in (RESULTS.parent / suite).glob("*.json")]
    paths += (RESULTS.parent / "domain-shift").glob("*/*.json")
    read = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(paths)]
    read = [r for r in read if not r["error"] and (r.get("verdict") or {"evidence": {}})["evidence"].get("usable")]
    ceilings = {
        (r["row"]["source"], r["row"]["target"]): r["scores"]["forward"]["top1"]
        for r in read
        if (r["row"]["suite"], r["row"]["aligner"]) == ("wiki", "procrustes")
    }
    return [
        {
            **{key: r["row"][key] for key in ("source", "target", "rows", "seed")},
            "method": r["row"]["aligner"],
            "kind": "real",
            "from": r["row"]["suite"],
            "share": r["scores"]["forward"]["top1"] / ceilings[r["row"]["source"], r["row"]["target"]],
            "evidence": r["verdict"]["evidence"],
        }
        for r in read
        if set(EVIDENCE) <= set(r["verdict"]["evidence"]) and r["row"]["aligner"] not in PAIRED
    ]


def fit() -> dict[str, Any]:
    """Return weights by regression over all runs, and how they do on directions and sizes that they have not seen."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GroupKFold, cross_val_predict

    lines = (RESULTS / "runs.jsonl").read_text(encoding="utf-8").splitlines()
    runs = list(
        {
            (run.get("from"), name(run)): run for run in [*map(json.loads, lines), *suites()] if run["evidence"]["usable"]
        }.values()
    )
    for run in runs:
        run["evidence"].setdefault("chance", LOWEST_CHANCE)
    seen = [readings(run["evidence"]) for run in runs]
    features = np.array([[one[piece] for piece in WEIGHTS] for one in seen])
    good = np.array([run["share"] > 0.5 for run in runs])
    unrelated = np.array([run["kind"] in UNRELATED for run in runs])
    model = LogisticRegression(C=STRENGTH, max_iter=100_000)
    directions = [f"{run['source']}-{run['target']}" for run in runs]
    sizes = [min(SIZES, key=lambda size, rows=run["rows"]: abs(np.log(size / rows))) for run in runs]  # type: ignore[misc]

    def held_out(groups: list[Any]) -> np.ndarray:
        folds = GroupKFold(len(set(groups)))
        return np.asarray(cross_val_predict(model, features, good, groups=groups, cv=folds, method="predict_proba")[:, 1])

    def scored(sure: np.ndarray) -> dict[str, float]:
        return {
            "auroc": float(roc_auc_score(good, sure)),
            "aligned of good": float((sure[good] >= SURE).mean()),
            "failed of good": float((sure[good] < LOST).mean()),
            "aligned of bad": float((sure[~good] >= SURE).mean()),
            "aligned of unrelated": float((sure[unrelated] >= SURE).mean()),
            "highest unrelated": float(sure[unrelated].max()),
        }

    shipped = np.array([probability(run["evidence"]) for run in runs])
    model.fit(features, good)
    return {
        "versions": record.versions("python", "torch", "scikit-learn"),
        "runs": len(runs),
        "good": int(good.sum()),
        "unrelated": int(unrelated.sum()),
        "directions held out": scored(by_direction := held_out(directions)),
        "sizes held out": scored(by_size := held_out(sizes)),
        "shipped": scored(shipped),
        "auroc of one piece": {piece: float(roc_auc_score(good, [run["evidence"][piece] for run in runs])) for piece in PIECES}
        | {"shapes": float(roc_auc_score(good, [one["shapes"] for one in seen]))},
        "good among those of a probability": {
            "directions held out": calibrated(by_direction, good),
            "sizes held out": calibrated(by_size, good),
            "shipped": calibrated(shipped, good),
        },
        "said": said(runs, shipped),
        "weights": dict(zip(WEIGHTS, map(float, model.coef_[0]), strict=True)),
        "bias": float(model.intercept_[0]),
    }


def calibrated(sure: np.ndarray, good: np.ndarray) -> dict[str, str]:
    fifth = np.minimum((5 * sure).astype(int), 4)
    return {f"{k / 5:.1f} to {(k + 1) / 5:.1f}": f"{good[fifth == k].sum()} of {(fifth == k).sum()}" for k in range(5)}


def said(runs: list[Case], sure: np.ndarray) -> dict[str, dict[str, int]]:
    """Return how many good, bad and unrelated runs are called what, by where they are from, rows and method."""
    groups: dict[tuple[str, int, str], Counter[str]] = {}
    for run, one in zip(runs, sure, strict=True):
        status = "aligned" if one >= SURE else "failed" if one < LOST else "uncertain"
        kind = "unrelated" if run["kind"] in UNRELATED else "good" if run["share"] > 0.5 else "bad"
        groups.setdefault((run.get("from", "calibrate"), run["rows"], run["method"]), Counter())[f"{kind} {status}"] += 1
    return {" ".join(map(str, key)): dict(sorted(groups[key].items())) for key in sorted(groups)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=record.DATA)
    parser.add_argument("--maps", type=Path, help="folder for the maps of finished cases, outside of the repository")
    parser.add_argument("--permuted", type=Path, help="folder of the rows that permuted.py writes")
    parser.add_argument("--judge", action="store_true", help="fit nothing; write the lines of all maps there anew")
    parser.add_argument("--fit", action="store_true", help="fit weights to what runs.jsonl and the suites hold")
    parser.add_argument("--only", default="*", help="fit the cases whose name matches, such as '*-36000-*'")
    parser.add_argument("--most", type=int, default=10_000, help="stop after so many cases")
    chosen = parser.parse_args()
    if chosen.fit:
        record.save(RESULTS / "fit.json", fit(), sort=False)
        print((RESULTS / "fit.json").read_text(encoding="utf-8"))
        return
    if chosen.maps is None:
        parser.error("name a folder for the maps: --maps FOLDER")
    chosen.maps.mkdir(parents=True, exist_ok=True)
    clouds, where = Clouds(chosen.data, chosen.permuted), RESULTS / "runs.jsonl"
    if not chosen.judge:
        wanted = [case for case in cases() if fnmatch(name(case), chosen.only)]
        todo = [case for case in wanted if not (chosen.maps / f"{name(case)}.json").exists()]
        for case in todo[: chosen.most]:
            fitted(case, clouds, chosen.maps)
    kept = [line for line in where.read_text(encoding="utf-8").splitlines() if "from" in json.loads(line)]
    mine = [case for case in cases() if (chosen.maps / f"{name(case)}.json").exists()]
    kept += [json.dumps(judged(case, clouds, chosen.maps)) for case in mine]
    where.write_text("\n".join(kept) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
