"""calibrate — many fits, good and bad, of known outcome: what the Verdict's probability is fitted on and scored by.

In    the wiki folder (--data or CROSSVEC_WIKI)
Out   results/verdict/runs.jsonl, one line a fit: case, evidence, top-1 over the paired ceiling
      results/verdict/fit.json (--fit): logistic weights over these runs and the rows of `wiki`, AUROC and false alarms with
      whole directions held out

Cases: every directed pair of encoders x sample sizes x effort from hopeless to standard x seeds, and unrelated targets: a
Gaussian with the target's covariance, the target with each coordinate shuffled over the rows, the target with each row's
coordinates shuffled, a cloud of random clusters, and the target with each row shuffled in its own way, each ten times in the
store. Resumable: a case that is in the file is not run again. The verdict looks at the rotation behind a map, so the fits end
with the orthogonal finish, which is free.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import product
from pathlib import Path

import numpy as np
import record
import torch

from crossvec.aligners import create
from crossvec.geometry import polar, unit
from crossvec.verdict import BIAS, SURE, WEIGHTS, evidence

RESULTS = record.RESULTS / "verdict"
ENCODERS = ("minilm", "wordllama", "potion")
EFFORTS = {
    "hopeless": {"starts": 128, "keep": 1, "kicks": 1, "rounds": 1, "axes": 128},
    "poor": {"starts": 512, "keep": 2, "kicks": 3, "rounds": 1, "axes": 128},
    "quick": {"starts": 2048, "keep": 4, "kicks": 9, "rounds": 2, "axes": 128},
}
UNRELATED = ("gaussian", "columns", "rows", "clusters")


def cases() -> list[dict[str, object]]:
    pairs = [(a, b) for a, b in product(ENCODERS, ENCODERS) if a != b]
    real = [
        {"source": a, "target": b, "rows": rows, "effort": effort, "seed": seed, "kind": "real"}
        for seed, rows, effort, (a, b) in product(range(2), (500, 1500, 4000, 10000), EFFORTS, pairs)
    ]
    unrelated = [
        {"source": a, "target": b, "rows": rows, "effort": "quick", "seed": seed, "kind": kind}
        for seed, rows, kind, (a, b) in product(range(1), (500, 1500, 4000, 10000), UNRELATED, pairs[::2])
    ]
    order = np.random.default_rng(0).permutation(len(real) + len(unrelated))
    both = real + unrelated
    later = [
        {"source": a, "target": b, "rows": 20000, "effort": "quick", "seed": seed, "kind": "real"}
        for seed, (a, b) in product(range(2), pairs)
    ]
    later += [
        {"source": a, "target": b, "rows": rows, "effort": "quick", "seed": 0, "kind": "copies"}
        for rows, (a, b) in product((500, 1500, 4000, 10000), pairs[::2])
    ]
    return [both[i] for i in order] + later


def run(case: dict[str, object], clouds: dict[str, torch.Tensor]) -> dict[str, object]:
    generator = torch.Generator().manual_seed(1000 + int(str(case["seed"])))
    a, b, rows = clouds[str(case["source"])], clouds[str(case["target"])], int(str(case["rows"]))
    x = a[torch.randperm(36000, generator=generator)[:rows]]
    y = b[36000 + torch.randperm(36000, generator=generator)[:rows]]
    y = spoil(y, str(case["kind"]), generator)
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = unit(x - mean_x), unit(y - mean_y)
    started = time.perf_counter()
    aligner = create("moments", {"seed": case["seed"], "finish": "orthogonal", **EFFORTS[str(case["effort"])]})
    alignment = aligner.fit(x, y)
    seconds = time.perf_counter() - started
    found = evidence(x, y, alignment, seed=int(str(case["seed"])))
    px, py = unit(a[:36000] - a[:36000].mean(0)), unit(b[:36000] - b[:36000].mean(0))
    ex, ey = unit(a[72000:] - mean_x), unit(b[72000:] - mean_y)
    ceiling = top1(unit(a[72000:] - a[:36000].mean(0)) @ polar(px.T @ py), unit(b[72000:] - b[:36000].mean(0)))
    share = 0.0 if case["kind"] != "real" else top1(alignment.map(ex), ey) / ceiling
    return {**case, "evidence": found, "objective": alignment.evidence["objective"], "share": share, "seconds": seconds}


def spoil(y: torch.Tensor, kind: str, generator: torch.Generator) -> torch.Tensor:
    if kind == "real":
        return y
    if kind == "gaussian":
        centred = y - y.mean(0)
        root = torch.linalg.cholesky(centred.T @ centred / len(y) + 1e-6 * torch.eye(y.shape[1]))
        return torch.randn(len(y), y.shape[1], generator=generator) @ root.T + y.mean(0)
    if kind == "columns":
        return torch.stack([column[torch.randperm(len(y), generator=generator)] for column in y.T], dim=1)
    if kind in ("rows", "copies"):
        few = y if kind == "rows" else y[: len(y) // 10].repeat_interleave(10, dim=0)
        order = torch.rand(y.shape, generator=generator).argsort(1)
        return torch.gather(few, 1, order if kind == "rows" else order[: len(few) // 10].repeat_interleave(10, dim=0))
    centres = torch.randn(40, y.shape[1], generator=generator)
    sizes = torch.rand(40, generator=generator) ** 3
    member = torch.multinomial(sizes, len(y), replacement=True, generator=generator)
    return centres[member] + torch.randn(y.shape, generator=generator)


def top1(p: torch.Tensor, y: torch.Tensor) -> float:
    similar = unit(p) @ y.T
    return float((similar.argmax(1) == torch.arange(len(y))).float().mean())


def suite() -> list[dict[str, object]]:
    """The rows of the suite `wiki`: other aligners, right and wrong, and 36,000 rows a side."""
    read = [json.loads(path.read_text()) for path in sorted((RESULTS.parent / "wiki").glob("*.json"))]
    read = [r for r in read if not r["error"] and r.get("verdict")]
    top1 = {(r["row"]["source"], r["row"]["target"], r["row"]["aligner"]): r["scores"]["forward"]["top1"] for r in read}
    return [
        {
            **{key: r["row"][key] for key in ("source", "target", "rows", "seed")},
            "kind": "real",
            "evidence": r["verdict"]["evidence"],
            "share": r["scores"]["forward"]["top1"] / top1[r["row"]["source"], r["row"]["target"], "procrustes"],
        }
        for r in read
    ]


def fit() -> dict[str, object]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GroupKFold, cross_val_predict

    runs = [json.loads(line) for line in (RESULTS / "runs.jsonl").read_text().splitlines()]
    runs = [r for r in runs + suite() if r["evidence"]["usable"]]
    names = tuple(WEIGHTS)
    features = np.array([[r["evidence"][name] for name in names] for r in runs])
    good = np.array([r["share"] > 0.5 for r in runs])
    model = LogisticRegression(C=100.0, max_iter=100_000)  # C: 30 to 400 differ by .004 of AUROC
    groups = [f"{r['source']}-{r['target']}" for r in runs]
    held_out = cross_val_predict(model, features, good, groups=groups, cv=GroupKFold(6), method="predict_proba")[:, 1]
    model.fit(features, good)
    unrelated = np.array([r["kind"] != "real" for r in runs])
    shipped = 1 / (1 + np.exp(-(BIAS + features @ np.array([WEIGHTS[name] for name in names]))))
    return {
        "versions": record.versions("python", "torch", "scikit-learn"),
        "runs": len(runs),
        "good": int(good.sum()),
        "unrelated": int(unrelated.sum()),
        "auroc": {
            "held out by direction": float(roc_auc_score(good, held_out)),
            **{name: float(roc_auc_score(good, features[:, i])) for i, name in enumerate(names)},
        },
        "aligned": {
            "of good": float((held_out[good] >= SURE).mean()),
            "of bad": float((held_out[~good] >= SURE).mean()),
            "of unrelated": float((held_out[unrelated] >= SURE).mean()),
            "highest unrelated": float(held_out[unrelated].max()),
        },
        "shipped": {
            "auroc": float(roc_auc_score(good, shipped)),
            "aligned of good": float((shipped[good] >= SURE).mean()),
            "aligned of bad": float((shipped[~good] >= SURE).mean()),
            "aligned of unrelated": float((shipped[unrelated] >= SURE).mean()),
            "highest unrelated": float(shipped[unrelated].max()),
        },
        "weights": dict(zip(names, map(float, model.coef_[0]), strict=True)),
        "bias": float(model.intercept_[0]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=record.DATA)
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--most", type=int, default=10_000)
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), metavar=("I", "OF"))
    chosen = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    if chosen.fit:
        record.save(RESULTS / "fit.json", fit(), sort=False)
        print((RESULTS / "fit.json").read_text())
        return
    clouds = {name: torch.from_numpy(np.load(chosen.data / f"{name}.npy").astype(np.float32)) for name in ENCODERS}
    where = RESULTS / "runs.jsonl"
    keys = ("source", "target", "rows", "effort", "seed", "kind")
    done = {tuple(json.loads(line)[k] for k in keys) for line in where.read_text().splitlines()} if where.exists() else set()
    part, of = chosen.part
    for case in cases()[part::of][: chosen.most]:
        if tuple(case[k] for k in keys) not in done:
            line = json.dumps(run(case, clouds))
            with where.open("a") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()
