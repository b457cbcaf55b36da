"""domain_shift — measure: source and target about different things; how much overlap does an unpaired fit need, and what helps?

In    DATA/NAME.npy (n, d), row i one text in every file; DATA/splits.json; DATA/texts.jsonl.gz
      OTHER/NAME.npy (p, d), written by `--embed`: passages of Python documentation under the offline encoders
Out   results/domain-shift/CUT-SHARE/ROW.json    the form of run.py; `row.method` names the remedy
Uses  run (form of a result), crossvec.aligners, crossvec.verdict, crossvec.evaluation; scikit-learn for the topics

Cut `topics`: source and target each hold rows of 64 k-means topics of the texts (TF-IDF, no encoder), SHARE of them in topics
that both sides have. Cut `far`: no topic shared, and the two sides lie at the two ends of the main axis of all topics. Cut
`docs`: SHARE of the source's rows are encyclopedia, like the target; the rest is documentation. Pairs are used by the score and
by the ceiling alone.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import hashlib
import json
import re
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from jaxtyping import Float, Int
from record import DATA, HERE, machine, versions
from run import place, write
from torch import Tensor

from crossvec import encoders
from crossvec.aligners import Alignment, Linear, create, silent
from crossvec.aligners import search as third
from crossvec.aligners.refine import RANKING, finish, refine, spread
from crossvec.evaluation import evaluate
from crossvec.geometry import nearest, principal_axes, procrustes, unit
from crossvec.space import Space
from crossvec.verdict import judge

TOPICS = 64
DIRECTIONS = (("minilm", "potion"), ("wordllama", "potion"))
CUTS = {"topics": (0.5, 0.75, 0.25, 1.0, 0.0), "far": (0.0,), "docs": (0.0, 0.5)}
ROWS = {"topics": 16_000, "far": 16_000, "docs": 6_000}
OFFLINE = {"wordllama": "wordllama", "minilm": "minilm?tokens=64"}  # DATA's texts were cut at 64 tokens
LEADING = 4  # axes that `axes` leaves out of the search
WIDE = ((24, 256), (40, 96))  # rungs of `wide`: axes, candidates; the package keeps 40 and 16
NEIGHBOURS = 10
ROUNDS = 3
STANDARD: dict[str, dict[str, Any]] = {"standard": {}, "clusters": {"clusters": 100}}  # settings beside the package's own
KICKS = 300  # of `kicked`; standard effort of the package has 24
KICK_AXES = 64  # a kick on 64 axes takes a fifth of the time that it takes on 128

Rows = Int[np.ndarray, " n"]
Cloud = Float[Tensor, "n d"]


def topics_of(texts: list[str]) -> Int[np.ndarray, " n"]:
    """Return the topic of each text, 0 to TOPICS - 1: k-means on 100 latent semantic axes of TF-IDF; the same each time."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    words = TfidfVectorizer(stop_words="english", min_df=10, max_df=0.05, sublinear_tf=True, dtype=np.float32)
    latent = normalize(TruncatedSVD(100, n_iter=4, random_state=0).fit_transform(words.fit_transform(texts)))
    topics = KMeans(TOPICS, n_init=1, max_iter=50, random_state=0).fit(latent.astype(np.float32)).labels_
    centres = np.stack([latent[topics == topic].mean(0) for topic in range(TOPICS)])
    main_axis = np.linalg.svd(centres - centres.mean(0), full_matrices=False)[2][0]
    return np.argsort(np.argsort(centres @ main_axis))[topics]  # numbered along the main axis, so that `far` can cut there


def cut_topics(
    source: Int[np.ndarray, " n"], target: Int[np.ndarray, " m"], share: float, rows: int, rng: np.random.Generator | None
) -> tuple[Rows, Rows]:
    """Return `rows` rows of each side, `share` of them in topics that both sides have, the rest in topics of one side alone.

    `source` and `target` hold the topic of every row there is. With `rng` topics fall to a side at random; without it they keep
    their order, first topics to the source and last to the target. Raises ValueError when there are too few rows.
    """
    count = 1 + max(source.max(), target.max())
    left = list(range(count) if rng is None else rng.permutation(count))
    draw = rng or np.random.default_rng(0)
    common, own = round(share * rows), rows - round(share * rows)

    def of(side: Rows, chosen: list[int]) -> Rows:
        return np.flatnonzero(np.isin(side, chosen))

    def gather(wanted: int, end: int, *sides: Rows) -> list[int]:
        chosen: list[int] = []
        while any(len(of(side, chosen)) < wanted for side in sides):
            if not left:
                raise ValueError(f"there are not {rows} rows a side at a share of {share}")
            chosen.append(left.pop(end))
        return chosen

    shared = gather(common, 0, source, target)
    sides = (source, gather(own, 0, source)), (target, gather(own, -1, target))
    first, second = (
        np.sort(np.concatenate([draw.choice(of(s, t), n, replace=False) for t, n in ((shared, common), (mine, own)) if n]))
        for s, mine in sides
    )
    return first, second


@dataclass(frozen=True, eq=False)
class Fitted:
    """A map between two frames, in the form that `evaluate` takes."""

    map: Linear
    source: SimpleNamespace
    target: SimpleNamespace

    @classmethod
    def of(cls, map: Linear, mean_x: Tensor, mean_y: Tensor) -> Fitted:
        return cls(map, SimpleNamespace(mean=mean_x), SimpleNamespace(mean=mean_y))

    def translate(self, rows: Float[np.ndarray, "k dx"]) -> Float[np.ndarray, "k dy"]:
        directions = unit(self.map(unit(torch.from_numpy(rows) - self.source.mean)))
        return (directions + self.target.mean).numpy()


@dataclass(frozen=True, eq=False)
class Found:
    """An alignment, and the means that the rows were centred at."""

    alignment: Alignment
    mean_x: Tensor
    mean_y: Tensor


def moments(x: Cloud, y: Cloud, seed: int) -> Found:
    """The package's default: the search of quick effort, and rounds enough for a start that is barely right."""
    return _fit(x, y, x.mean(0), y.mean(0), seed)


def trimmed(x: Cloud, y: Cloud, seed: int, keep: float = 0.5) -> Found:
    """Fit, keep the rows of each side whose neighbours across are close for how close their own are, and fit again.

    The second fit starts anew, centred at the means of the rows kept.
    """
    # A rotation: the learned finishes lean away from where rows are dense, which is what is measured here.
    first = _fit(x, y, x.mean(0), y.mean(0), seed, finish="orthogonal")
    u, v = unit(x - first.mean_x), unit(y - first.mean_y)
    across = unit(first.alignment.map(u))

    def best(a: Cloud, b: Cloud) -> Tensor:
        own = nearest(a, a, NEIGHBOURS + 1)[0][:, 1:].mean(1)
        return (nearest(a, b, NEIGHBOURS)[0].mean(1) - own).argsort(descending=True)[: round(keep * len(a))]

    x, y = x[best(across, v)], y[best(v, across)]
    return _fit(x, y, x.mean(0), y.mean(0), seed)


def without_leading_axes(x: Cloud, y: Cloud, seed: int) -> Found:
    """Search on rows without their first LEADING principal axes, which carry the domain; refine on whole rows."""
    return _searched(x, y, seed, LEADING)


def wide(x: Cloud, y: Cloud, seed: int) -> Found:
    """Carry six times as many candidates up the ladder: a wrong optimum on few axes shows itself as wrong only on many."""
    with mock.patch.object(third, "LADDER", WIDE):
        return _searched(x, y, seed, 0, starts=4096, keep=16, kicks=12)


def kicked(x: Cloud, y: Cloud, seed: int) -> Found:
    """Kick KICKS times on KICK_AXES axes: under a shift most starts end in optima that have many axes wrong."""
    with mock.patch.object(third, "SEARCH_AXES", KICK_AXES):
        return _searched(x, y, seed, 0, keep=12, kicks=KICKS)


def standard(x: Cloud, y: Cloud, seed: int) -> Found:
    """The package's default at standard effort."""
    return _fit(x, y, x.mean(0), y.mean(0), seed, effort="standard", **STANDARD["standard"])


def clusters(x: Cloud, y: Cloud, seed: int) -> Found:
    """The same with third moments within clusters, which do not know how often a topic comes."""
    return _fit(x, y, x.mean(0), y.mean(0), seed, effort="standard", **STANDARD["clusters"])


METHODS: dict[str, Callable[[Cloud, Cloud, int], Found]] = {
    "moments": moments,
    "standard": standard,
    "clusters": clusters,
    "kicked": kicked,
    "trimmed": trimmed,
    "without-leading-axes": without_leading_axes,
    "wide": wide,
}


def _fit(x: Cloud, y: Cloud, mean_x: Tensor, mean_y: Tensor, seed: int, **more: Any) -> Found:
    quick = {} if "effort" in more else {"effort": "quick", "rounds": ROUNDS}
    aligner = create("moments", {"seed": seed, **quick, **more})
    alignment = aligner.fit(unit(x - mean_x), unit(y - mean_y))
    return Found(alignment, mean_x, mean_y)


def _searched(x: Cloud, y: Cloud, seed: int, skip: int, starts: int = 2048, keep: int = 4, kicks: int = 9) -> Found:
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = unit(x - mean_x), unit(y - mean_y)
    axes_x, axes_y = principal_axes(x)[0], principal_axes(y)[0]
    zx, zy = x @ axes_x, y @ axes_y
    found = third.search(
        zx[:, skip:],
        zy[:, skip:],
        starts=starts,
        keep=keep,
        kicks=kicks,
        axes=128,
        damping=0.5,
        generator=torch.Generator().manual_seed(seed),
        progress=silent,
    )
    start = zx.new_zeros(zx.shape[1], zy.shape[1])
    start[skip:, skip:] = found.map
    c = refine(zx, zy, start, rounds=ROUNDS, k=NEIGHBOURS, progress=silent)
    forward = finish(c, spread(zx), spread(zy), RANKING)
    backward = finish(c.T, spread(zy), spread(zx), RANKING)
    maps = Linear.of(axes_x @ forward @ axes_y.T), Linear.of(axes_y @ backward @ axes_x.T)
    return Found(Alignment(*maps, evidence={"objective": found.objective}), mean_x, mean_y)


@dataclass(frozen=True, eq=False)
class Cell:
    """What one row of the suite fits on and is scored on. `own` (n, dy): the source's rows in the target's encoder, or none."""

    x: Cloud
    y: Cloud
    own: Cloud | None
    pool: tuple[Space, Space]
    kept: int  # rows that come from topics, or texts, of both sides


def cells(data: Path, other: Path | None, topics: Int[np.ndarray, " n"], row: dict[str, Any]) -> Cell:
    """Return the rows of both sides; a seed settles which topics and which rows."""
    splits = json.loads((data / "splits.json").read_text(encoding="utf-8"))
    (s0, s1), (t0, t1), (e0, e1) = (splits[name] for name in ("source", "target", "eval"))
    a, b = (np.load(data / f"{row[side]}.npy", mmap_mode="r", allow_pickle=False) for side in ("source", "target"))

    def cloud(rows: np.ndarray) -> Cloud:
        return torch.from_numpy(np.asarray(rows, dtype=np.float32))

    pool = Space.of(np.asarray(a[e0:e1], np.float32)), Space.of(np.asarray(b[e0:e1], np.float32))
    rng, n = np.random.default_rng(row["seed"]), row["rows"]
    common = round(row["share"] * n)
    if row["cut"] == "docs":
        if other is None:
            raise ValueError("the cut docs needs --other, a folder that --embed has filled")
        docs = np.load(other / f"{row['source']}.npy", allow_pickle=False)
        wiki = s0 + rng.choice(s1 - s0, common, replace=False)
        mixed = np.concatenate([np.asarray(a[wiki]), docs[rng.choice(len(docs), n - common, replace=False)]])
        target = t0 + rng.choice(t1 - t0, n, replace=False)
        return Cell(cloud(mixed), cloud(b[np.sort(target)]), None, pool, common)
    first, second = cut_topics(topics[s0:s1], topics[t0:t1], row["share"], n, None if row["cut"] == "far" else rng)
    return Cell(cloud(a[s0 + first]), cloud(b[t0 + second]), cloud(b[s0 + first]), pool, common)


def rows_of(cut: str, seeds: list[int]) -> Iterator[dict[str, Any]]:
    for share in CUTS[cut]:
        for seed in seeds:
            for source, target in DIRECTIONS:
                suite = f"domain-shift/{cut}-{round(100 * share):03d}"
                yield {
                    "suite": suite,
                    "cut": cut,
                    "share": share,
                    "source": source,
                    "target": target,
                    "rows": ROWS[cut],
                    "seed": seed,
                }


def measure(cell: Cell, row: dict[str, Any], method: str) -> dict[str, Any]:
    """Fit and score one method; the ceiling is orthogonal Procrustes on the source's own pairs, centred with them."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = METHODS[method](cell.x, cell.y, row["seed"])
    seconds = {"fit": round(time.perf_counter() - wall, 2), "fit_cpu": round(time.process_time() - cpu, 2)}
    u, v = unit(cell.x - found.mean_x), unit(cell.y - found.mean_y)
    fitted = Fitted.of(found.alignment.map, found.mean_x, found.mean_y)
    best = None
    if cell.own is not None:
        mean_x, mean_y = cell.x.mean(0), cell.own.mean(0)
        best = Fitted.of(Linear.of(procrustes(unit(cell.x - mean_x), unit(cell.own - mean_y))), mean_x, mean_y)
    scores = evaluate(fitted, *cell.pool, bootstrap=0, csls_neighbours=0, ceiling=best).to_json()
    return {
        "scores": scores,
        "verdict": judge(u, v, found.alignment, seed=row["seed"]).to_json(),
        "evidence": dict(found.alignment.evidence),
        "seconds": seconds,
        "settings": {
            **({"effort": "standard", **STANDARD[method]} if method in STANDARD else {"effort": "quick", "rounds": ROUNDS}),
            "remedy": method,
        },
        "versions": versions("torch", "numpy"),
        "error": None,
    }


def passages() -> list[str]:
    """Return paragraphs of 15 to 48 words from the docstrings of Python's library and four packages, in an order by hash."""
    library, site = (Path(sysconfig.get_paths()[name]) for name in ("stdlib", "purelib"))
    files = [(library, file) for pattern in ("*.py", "[a-z]*/*.py") for file in sorted(library.glob(pattern))]
    for package in ("numpy", "scipy", "sklearn", "torch"):
        files += [(site, file) for file in sorted((site / package).rglob("*.py"))]
    found = {}
    for file in (file for root, file in files if "test" not in str(file.relative_to(root))):
        try:
            nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        except (SyntaxError, UnicodeDecodeError):
            continue  # Python keeps files of bad syntax and old encodings to test itself
        for node in nodes:
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                for paragraph in re.split(r"\n\s*\n", ast.get_docstring(node) or ""):
                    text = " ".join(paragraph.split())
                    prose = sum(c.isalpha() or c == " " for c in text) > 0.85 * len(text)
                    if 15 <= len(text.split()) <= 48 and prose and ">>>" not in text:
                        found[hashlib.sha256(text.encode()).hexdigest()] = text
    return [found[key] for key in sorted(found)]


def encoded(name: str, texts: list[str]) -> np.ndarray:
    """Return unit rows of one of the encoders that work offline, as DATA's were made."""
    rows = encoders.open(OFFLINE[name]).encode(texts)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def embed(other: Path, rows: int) -> None:
    """Write minilm.npy and wordllama.npy of documentation passages, with the encoders that lie in installed packages."""
    texts = passages()[:rows]
    other.mkdir(parents=True, exist_ok=True)
    for name in OFFLINE:
        np.save(other / f"{name}.npy", encoded(name, texts).astype(np.float16))


def main() -> int:
    ask = argparse.ArgumentParser(prog="domain_shift.py", description="Measure fits across domains; finished rows are skipped.")
    ask.add_argument("cut", choices=list(CUTS), nargs="?")
    ask.add_argument("--data", type=Path, default=DATA, help="folder of the vectors and texts (or set CROSSVEC_WIKI)")
    ask.add_argument("--other", type=Path, help="folder of documentation vectors, for the cut docs")
    ask.add_argument("--embed", type=int, metavar="ROWS", help="fill --other with ROWS passages, and stop")
    ask.add_argument("--methods", default=",".join(METHODS))
    ask.add_argument("--direction", type=int, choices=range(len(DIRECTIONS)), help="run only this one")
    ask.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    given = ask.parse_args()
    if given.embed:
        embed(given.other, given.embed)
        return 0
    if not given.cut:
        ask.error(f"name a cut: {', '.join(CUTS)}")
    torch.set_num_threads(machine()["threads"])
    with gzip.open(given.data / "texts.jsonl.gz", "rt", encoding="utf-8") as lines:
        topics = topics_of([json.loads(line)["text"] for line in lines])
    wanted = DIRECTIONS if given.direction is None else DIRECTIONS[given.direction : given.direction + 1]
    for method, asked in product(given.methods.split(","), list(rows_of(given.cut, given.seeds))):
        row = asked | {"aligner": method, "method": method}
        if (row["source"], row["target"]) in wanted and not place(row).exists():
            write(row, result := measure(cells(given.data, given.other, topics, row), row, method))
            top1, said = result["scores"]["forward"]["top1"], result["verdict"]
            print(f"{place(row).relative_to(HERE)}  top-1 {top1:.3f}  {said['status']} {said['probability']:.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
