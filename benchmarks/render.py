"""render — draw: results/*/*.json become the tables between markers in README.md, benchmarks/README.md and two pages of docs/.

In    results/SUITE/ROW.json
Out   the text between `<!-- table NAME -->` and `<!-- end -->`, NAME one of TABLES; with --check, exit code 1 if it is stale
Uses  the standard library

Every seed counts: a rate over all runs, and the least, the median and the most; a run that failed counts as top-1 0.
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from math import log
from pathlib import Path
from statistics import linear_regression, median
from typing import Any

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent / "docs"
PAGES = (
    HERE.parent / "README.md",
    HERE / "README.md",
    DOCS / "aligners.md",
    DOCS / "serve.md",
    DOCS / "cluster.md",
    DOCS / "migrate.md",
)
HALF = 0.50  # and is above half when it reaches this part of it: what the verdict tells apart
BAR = 0.90
"""A run succeeds when its top-1 reaches this part of the paired ceiling: orthogonal Procrustes on as many pairs."""
WITHOUT_PAIRS = ("moments", "anchors", "gromov", "sinkhorn", "emd", "auto")
WITH_PAIRS = ("procrustes", "ridge", "low-rank", "mlp")
CONTROLS = ("identity", "mean")
ORDER = (*WITHOUT_PAIRS, *WITH_PAIRS, *CONTROLS)

Result = dict[str, Any]


def results(suite: str) -> list[Result]:
    read = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((HERE / "results" / suite).glob("*.json"))]
    return sorted(
        read,
        key=lambda r: (
            r["row"]["rows"],
            r["row"]["source"],
            r["row"]["target"],
            place(r),
            r["row"]["aligner"],
            r["row"]["seed"],
        ),
    )


def place(result: Result) -> int:
    """Where an aligner stands in a table: without pairs first, controls last."""
    method = result["row"]["method"]
    return ORDER.index(method) if method in ORDER else len(ORDER)


def score(result: Result, key: str) -> float | None:
    return None if result["error"] else result["scores"]["forward"][key]


def top1(result: Result) -> float:
    return score(result, "top1") or 0.0


def direction(result: Result) -> str:
    return f"{result['row']['source']} → {result['row']['target']}"


def group(found: Iterable[Result], key: Callable[[Result], Any]) -> dict[Any, list[Result]]:
    groups = defaultdict(list)
    for result in found:
        groups[key(result)].append(result)
    return groups


def ceilings(found: list[Result]) -> dict[tuple[str, int], float]:
    """The paired ceiling of each direction and size, the median over seeds."""
    paired = group((r for r in found if r["row"]["aligner"] == "procrustes"), lambda r: (direction(r), r["row"]["rows"]))
    return {key: median(map(top1, runs)) for key, runs in paired.items()}


def spread(values: list[float], digits: int = 3) -> str:
    shown = [
        f"{v:.{digits}f}".removeprefix("0") if digits == 3 else f"{v:.{digits}f}"
        for v in (min(values), median(values), max(values))
    ]
    return shown[1] if len(set(shown)) == 1 else " / ".join(shown)


def middle(values: Iterable[float | None], form: str) -> str:
    known = [v for v in values if v is not None]
    return form.format(median(known)) if known else "–"


def success(runs: list[Result], ceiling: dict[tuple[str, int], float], share: float = BAR) -> str:
    bars = [ceiling.get((direction(r), r["row"]["rows"])) for r in runs]
    if None in bars:
        return "–"
    return f"{sum(top1(r) >= share * bar for r, bar in zip(runs, bars, strict=True))} of {len(runs)}"


def verdicts(runs: list[Result]) -> str:
    said = [r["verdict"]["status"] for r in runs if not r["error"] and r.get("verdict")]
    return ", ".join(f"{said.count(status)} {status}" for status in ("aligned", "uncertain", "failed") if status in said) or "–"


def memory(runs: list[Result]) -> str:
    return middle((r.get("peak_memory_bytes") and r["peak_memory_bytes"] / 2**30 for r in runs), "{:.1f} GiB")


def seconds(runs: list[Result], of: str = "fit") -> str:
    return middle((None if r["error"] else r["seconds"].get(of) for r in runs), "{:.3g}")


def cells(runs: list[Result], ceiling: dict[tuple[str, int], float]) -> list[str]:
    return [
        success(runs, ceiling),
        success(runs, ceiling, HALF),
        spread([top1(r) for r in runs]),
        middle((score(r, "mean_rank") for r in runs), "{:.2f}"),
        middle((score(r, "cosine_centred") for r in runs), "{:.3f}"),
        verdicts(runs),
        seconds(runs),
        seconds(runs, "fit_cpu"),
        memory(runs),
    ]


SCORES = [
    "success", "above half", "top-1, least / median / most", "mean rank", "centred cosine", "verdict", "seconds", "CPU s",
    "peak memory",
]  # fmt: skip


def table(head: list[str], lines: Iterable[list[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *lines))


def learns_from(runs: list[Result]) -> str:
    method = runs[0]["row"]["method"]
    return "pairs" if method in WITH_PAIRS else "nothing" if method in CONTROLS else "two clouds"


def by_aligner(suite: str) -> str:
    """One line an aligner, over all directions and seeds."""
    found = results(suite)
    groups = group(sorted(found, key=place), lambda r: r["row"]["aligner"])
    lines = [[f"`{a}`", learns_from(runs), *cells(runs, ceilings(found))] for a, runs in groups.items()]
    return told(found, table(["aligner", "learns from", *SCORES], lines))


def by_direction(suite: str) -> str:
    """One line a direction, a size and an aligner, over seeds."""
    found = results(suite)
    groups = group(found, lambda r: (direction(r), r["row"]["rows"], r["row"]["aligner"]))
    lines = [[d, f"{n:,}", f"`{a}`", *cells(runs, ceilings(found))] for (d, n, a), runs in groups.items()]
    return told(found, table(["direction", "rows a side", "aligner", *SCORES], lines))


def by_size(*suites: str) -> str:
    """One line a size: moments over the first suite's directions and all seeds, beside the paired ceiling at that size."""
    read = [result for suite in suites for result in results(suite)]
    directions = {direction(r) for r in results(suites[0])}
    found = [r for r in read if direction(r) in directions and r["row"]["aligner"] in ("moments", "procrustes")]
    ceiling = ceilings(found)
    lines = []
    for rows, runs in sorted(group((r for r in found if r["row"]["aligner"] == "moments"), lambda r: r["row"]["rows"]).items()):
        at = middle((ceiling.get((d, rows)) for d in {direction(r) for r in runs}), "{:.3f}")
        lines.append([f"{rows:,}", at, *cells(runs, ceiling)])
    return told(found, table(["rows a side", "paired ceiling", *SCORES], lines))


def by_share() -> str:
    """One line a cut, a share and a remedy: success is half of the paired ceiling, over both directions and all seeds."""
    folders = sorted((HERE / "results" / "domain-shift").glob("*"))
    found = [result for folder in folders for result in results(f"domain-shift/{folder.name}")]
    scored = group((r for r in found if not r["error"] and "ceiling" in r["scores"]), direction)
    ceiling = {d: median(r["scores"]["ceiling"]["forward"]["top1"] for r in runs) for d, runs in scored.items()}
    lines = []
    for (cut, share, aligner), runs in sorted(
        group(found, lambda r: tuple(r["row"][k] for k in ("cut", "share", "aligner"))).items()
    ):
        good = sum(top1(r) > ceiling[direction(r)] / 2 for r in runs)
        ranks = [rank for r in runs if (rank := score(r, "mean_rank")) is not None]
        cells = [f"{good} of {len(runs)}", spread([top1(r) for r in runs]), spread(ranks, 0) if ranks else "–"]
        lines.append([cut, f"{share:.0%}", f"`{aligner}`", *cells, verdicts(runs), seconds(runs)])
    head = ["cut", "shared", "method", "success", "top-1, least / median / most", "mean rank", "verdict", "seconds"]
    return told(found, table(head, lines))


def network(part: str) -> list[Result]:
    """The rows of a part of vec2vec's results, in the order of their plan's variants."""
    read = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((HERE / "results/vec2vec").glob(f"{part}-*.json"))]
    order = list(plan(part))
    known = [r for r in read if r["row"]["variant"] in order]
    return sorted(known, key=lambda r: (direction(r), order.index(r["row"]["variant"]), r["row"]["seed"]))


def plan(part: str) -> dict[str, Any]:
    """The variants that a part of vec2vec.py measures; imported here, as the other tables do not need it."""
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from vec2vec import VARIANTS

    return VARIANTS[part]


def numbers(runs: list[Result], stage: str, way: str = "forward") -> list[str]:
    """Top-1 and centred cosine of runs, before training or after it."""
    scored = [r["scores"][stage][way] for r in runs if not r["error"] and stage in r["scores"]]
    return [spread([s[key] for s in scored]) if scored else "–" for key in ("top1", "cosine")]


def copied(of: str) -> list[str]:
    """The control of a direction: top-1 and centred cosine of rows as they are."""
    found = [r for r in results("wiki") if direction(r) == of and r["row"]["aligner"] == "identity" and not r["error"]]
    return (
        [spread([s]) if (s := score(found[0], key)) is not None else "–" for key in ("top1", "cosine_centred")]
        if found
        else ["–"] * 2
    )


def missing(part: str, found: list[Result]) -> str:
    """What of a part's plan has no row in a direction that has some; nothing is said of it."""
    there = {d: {r["row"]["variant"] for r in runs} for d, runs in group(found, direction).items()}
    lacking = {d: [f"`{v}`" for v in plan(part) if v not in known] for d, known in there.items()}
    told = [f"{d}: {', '.join(variants)}" for d, variants in lacking.items() if variants]
    return f"\n\n<sub>Not measured yet: {'; '.join(told)}.</sub>" if told else ""


def by_choice() -> str:
    """One line a direction and an aligner, where vec2vec was measured: the table to choose by."""
    trained = group((r for r in network("warm") if r["row"]["variant"] == "small"), direction)
    others = results("wiki")
    lines, used = [], []
    for d, runs in trained.items():
        rivals = group((r for r in others if direction(r) == d and r["row"]["rows"] == 36_000), lambda r: r["row"]["aligner"])
        rivals = dict(sorted(rivals.items(), key=lambda item: place(item[1][0])))
        ends = [seconds for r in runs if (seconds := r["seconds"]["start"] + r["seconds"]["train_cpu"])]
        network_line = [d, "`vec2vec`", "two clouds", str(len(runs)), *numbers(runs, "end"), f"{median(ends):.0f}"]
        start_line = [d, "`moments`, `finish=orthogonal`", "two clouds", str(len(runs)), *numbers(runs, "start")]
        start_line.append(f"{median(r['seconds']['start'] for r in runs):.0f}")
        for aligner, them in rivals.items():
            tops = spread([top1(r) for r in them])
            near = [c for r in them if (c := score(r, "cosine_centred")) is not None]
            taken = middle((None if r["error"] else r["seconds"].get("fit_cpu") for r in them), "{:.0f}")
            lines.append([d, f"`{aligner}`", learns_from(them), str(len(them)), tops, spread(near) if near else "–", taken])
            if aligner == "moments":
                lines += [start_line, network_line]
            used += them
        if "moments" not in rivals:
            lines += [start_line, network_line]
        used += runs
    head = ["direction", "aligner", "learns from", "seeds", "top-1, least / median / most", "centred cosine", "CPU seconds"]
    return told(used, table(head, lines))


def by_variant(part: str, name: str) -> str:
    """One line a direction and a variant of a part, beside where it started and the control."""
    found = network(part)
    lines = []
    for (d, variant), runs in group(found, lambda r: (direction(r), r["row"]["variant"])).items():
        cells = [*numbers(runs, "end"), *numbers(runs, "end", "backward")]
        spent = middle((r["seconds"]["train_cpu"] for r in runs), "{:.0f}")
        lines.append([d, f"`{variant}`", str(len(runs)), *cells, *numbers(runs, "start"), *copied(d), spent])
    way = ["top-1", "cosine", "back: top-1", "back: cosine"]
    head = [
        "direction",
        name,
        "seeds",
        *way,
        "start: top-1",
        "start: cosine",
        "identity: top-1",
        "identity: cosine",
        "CPU seconds",
    ]
    return told(found, table(head, lines)) + missing(part, found)


def by_text() -> str:
    """One line a direction and a method: on the texts' own kind and on another, with controls."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((HERE / "results/out-of-domain").glob("*.json"))]
    lines = []
    for (d, _, method), runs in sorted(group(found, lambda r: (direction(r), place(r), r["row"]["method"])).items()):
        cells = []
        for pool in ("eval", "docs"):
            ways = [r["scores"][pool] for r in runs]
            cells += [spread([w["forward"][key] for w in ways]) for key in ("top1", "cosine_centred")]
            cells.append(spread([w["backward"]["top1"] for w in ways]))
            cells += [spread([w["controls"][control]["top1"] for w in ways]) for control in ("identity", "shuffled")]
        lines.append([d, f"`{method}`", str(len(runs)), *cells, middle((r["seconds"]["fit_cpu"] for r in runs), "{:.0f}")])
    of = ["top-1", "cosine", "target to source", "identity", "shuffled"]
    head = ["direction", "method", "seeds", *(f"own kind: {o}" for o in of), *(f"other kind: {o}" for o in of), "CPU seconds"]
    return told(found, table(head, lines))


def by_workers() -> str:
    """One line a round and a number of rows: workers of Ray's beside one process that does the same."""
    paths = sorted((HERE / "results/scale").glob("*.json"))
    found = [json.loads(path.read_text(encoding="utf-8")) | {"error": None} for path in paths]
    lines = []
    for r in found:
        for one in r["rounds"]:
            alone, both = one["stream"], one["workers"]
            clocks = [f"{it['seconds'][kind]:,.0f}" for kind in ("wall", "cpu") for it in (alone, both)]
            ratios = [f"{one['ratio_per_core'][kind]:.2f}" for kind in ("wall", "cpu")]
            peaks = [f"{it['peak_memory_bytes'] / 2**20:,.0f} MiB" for it in (alone, both)]
            lines.append([f"{r['rows']:,}", str(r["workers"]), *clocks, *ratios, *peaks, f"{both['seconds']['start']:.0f}"])
    head = ["rows", "workers", "stream: s", "workers: s", "stream: CPU s", "workers: CPU s", "per core, by the clock"]
    head += ["per core, by CPU", "stream: peak", "a worker: peak", "cluster's start, s"]
    return told(found, table(head, lines))


def by_rows() -> str:
    """One line a size: what a fit of ever more rows takes, and what it gains; then how time and memory grow."""
    paths = (HERE / "results/fit-at-scale").glob("*.json")
    read = [json.loads(path.read_text(encoding="utf-8")) | {"error": None} for path in paths]
    read = [r | {"shape": r["shape"] + ("" if r.get("effort", "standard") == "standard" else f", {r['effort']}")} for r in read]
    found = sorted(read, key=lambda r: (r["shape"], r["rows"]))
    lines = []
    for r in found:
        ways = [r["scores"][way] for way in ("forward", "backward")]
        tops = " and ".join(f"{way['top1']:.3f}" for way in ways)
        dims = " and ".join(map(str, r["dims"]))
        lines.append(
            [
                f"{r['shape']}, {dims}", f"{r['rows']:,}", tops, f"{ways[0]['mean_rank']:.2f}", r["verdict"]["status"],
                f"{r['scores']['controls']['identity']['top1']:.3f}", f"{r['cpu_seconds']:,.0f}", f"{r['fit_seconds']:,.0f}",
                f"{r['peak_memory_bytes'] / 2**30:.1f} GiB",
            ]
        )  # fmt: skip
    head = [
        "spaces",
        "rows a side",
        "top-1 there and back",
        "mean rank",
        "verdict",
        "identity",
        "CPU s",
        "seconds",
        "peak memory",
    ]
    grows = [
        f"{shape}: CPU seconds grow as rows to the power {exponent(runs, 'cpu_seconds'):.2f}, peak memory to "
        f"{exponent(runs, 'peak_memory_bytes'):.2f}"
        for shape, runs in group(found, lambda r: r["shape"]).items()
        if len(runs) > 1
    ]
    return told(found, table(head, lines) + "".join(f"\n\n{line}." for line in grows))


def by_pairs() -> str:
    """One line a number of pairs: what those held out say of a map, and what the map does; then the same of shuffled pairs."""
    read = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((HERE / "results/held-out").glob("*.json"))]
    every = [run for r in read for run in r["runs"]]
    lines = []
    for (shuffled, pairs), runs in sorted(group(every, lambda run: (run["shuffled"], run["pairs"])).items()):
        said = [run["held_out"]["status"] for run in runs]
        shares = [sum(run["share"].values()) / 2 for run in runs]
        right = sum(
            status == "uncertain" or (status == "aligned") == (share > HALF) for status, share in zip(said, shares, strict=True)
        )
        lines.append(
            [
                f"{pairs:,}{', shuffled' if shuffled else ''}", spread(shares),
                spread([(run["held_out"]["low"] + run["held_out"]["high"]) / 2 for run in runs]),
                verdicts([{"error": None, "verdict": {"status": status}} for status in said]),
                f"{len(runs) - right} of {len(runs)}",
                verdicts([{"error": None, "verdict": {"status": run["verdict"]}} for run in runs]),
            ]
        )  # fmt: skip
    head = [
        "pairs",
        "top-1 over the ceiling, least / median / most",
        "nearness",
        "pairs held out say",
        "wrongly",
        "the verdict says",
    ]
    return told([r | {"error": None} for r in read], table(head, lines))


def by_command() -> str:
    """One line a command that something was promised of: medians of its rounds."""
    what = {"help": "`--help`", "demo": "`demo`", "evaluate": "`evaluate`, 65,536 pairs of 768 columns"}
    paths = {name: HERE / "results/commands" / f"{name}.json" for name in what}
    found = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items() if path.exists()}
    lines = []
    for name, r in found.items():
        wall, cpu = (f"{median(one[key] for one in r['rounds']):.3g}" for key in ("wall", "cpu"))
        memory = r["rounds"][0]["peak_memory_bytes"]
        beside = f"one product of the clouds takes {r['product']['cpu']:.0f} CPU s" if "product" in r else ""
        held = f"{memory / 2**30:.1f} GiB" if memory and name != "help" else "–"
        lines.append([what[name], str(len(r["rounds"])), wall, cpu, held, f"{r['load_before']:.1f}", beside])
    head = ["command", "rounds", "seconds", "CPU s", "peak memory", "load before", ""]
    return told([r | {"error": None} for r in found.values()], table(head, lines))


def exponent(runs: list[Result], what: str) -> float:
    """The slope of a line through the logarithms, by least squares."""
    x, y = ([log(r[key]) for r in runs] for key in ("rows", what))
    return linear_regression(x, y).slope


def by_cost() -> str:
    """One line a preset, precision and size: a training step beside its matrix products alone."""
    paths = sorted((HERE / "results/step-cost").glob("*.json"))
    found = [json.loads(path.read_text(encoding="utf-8")) | {"error": None} for path in paths]
    lines = []
    for r in found:
        row, took = r["row"], r["seconds"]
        how = "".join(f", {word}" for word, so in (("compiled", row["compile"]), ("emulated", row.get("emulated"))) if so)
        what = [f"`{row['preset']}`", row["precision"] + how, row["device"], str(row["batch"])]
        what.append(" and ".join(map(str, row["dims"])))
        lines.append([*what, f"{1000 * took['step']:.1f}", f"{1000 * took['floor']:.1f}", f"{r['times_the_floor']:.2f}"])
    head = ["preset", "precision", "device", "batch", "dimensions", "step, ms", "its products alone, ms", "times"]
    return told(found, table(head, lines))


def by_load() -> str:
    """One line a size and a way of asking: the product alone, a bare server, the service."""
    paths = sorted((HERE / "results/service").glob("load-*.json"), key=lambda path: int(path.stem.split("-")[1]))
    found = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    lines = []
    for r in found:
        for what, taken in r["medians"].items():
            form, _, connections = what.partition("-")
            form = {"product": "the product alone", "echo": "uvicorn, no work", "npy": "`.npy`", "json": "JSON"}[form]
            times = r["times_the_product"].get(what, {"wall": 1.0, "cpu": 1.0})
            cells = [
                f"{taken['rows_per_second']:,.0f}",
                f"{times['wall']:.1f}",
                f"{taken['cpu_ms']:.2f}",
                f"{times['cpu']:.1f}",
            ]
            cells += [f"{taken[key]:.0f}" if key in taken else "–" for key in ("p50_ms", "p99_ms")]
            lines.append([" → ".join(map(str, r["dims"])), form, connections or ("4" if what == "echo" else "–"), *cells])
    head = ["dimensions", "asked", "connections", "rows a second", "product's, times", "CPU ms a request", "product's, times"]
    return told(found, table([*head, "p50 ms", "p99 ms"], lines))


def by_soak() -> str:
    """One line: what ten minutes of requests did to the memory."""
    paths = sorted((HERE / "results/service").glob("soak.json"))
    found = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    sizes = ("resident_start_bytes", "resident_end_bytes", "resident_peak_bytes")
    lines = [
        [
            f"{r['seconds']:.0f}",
            f"{r['requests']:,}",
            f"{r['refused']:,}",
            *(f"{r[size] / 2**20:.1f}" for size in sizes),
            f"{r['slope_mib_per_hour']:+.1f}",
        ]
        for r in found
    ]
    head = ["seconds", "requests", "of them refused", "MiB after a minute", "MiB at the end", "MiB at most", "MiB an hour"]
    return told(found, table(head, lines))


def told(found: list[Result], drawn: str) -> str:
    """The table and, under it, where its numbers come from."""
    if drawn.count("\n") < 2:  # a head and no lines
        return "*Not measured yet.*"
    machines = sorted(
        {f"{r['machine']['cpu']}, {r['machine']['cores']} cores, {r['machine']['threads']} threads" for r in found}
    )
    versions = sorted({f"torch {r['versions']['torch']}" for r in found if r.get("versions")})
    dates = sorted(r["date"][:10] for r in found if "date" in r)
    failed = sum(bool(r["error"]) for r in found)
    origin = [
        f"{len(found)} run{'s' * (len(found) > 1)}" + (f", {failed} without a result" if failed else ""),
        *machines,
        *versions,
    ]
    origin += [
        "commit " + ", ".join(sorted({r["commit"] for r in found})),
        *([" to ".join(sorted({dates[0], dates[-1]}))] if dates else []),
    ]
    return f"{drawn}\n\n<sub>{'; '.join(origin)}.</sub>"


def by_database() -> str:
    """One line a database: what a migration costs beside the same read and write by the bare client."""
    names = {"pgvector": "PostgreSQL, pgvector", "qdrant": "Qdrant, local mode", "qdrant-edge": "Qdrant's engine, in process"}
    found = [json.loads(path.read_text(encoding="utf-8")) for path in (HERE / "results/migrate").glob("throughput-*.json")]
    lines, load = [], []
    for r in sorted(found, key=lambda it: (-it["rows"], *it["databases"])):
        ((kind, it),) = r["databases"].items()
        walls = [f"{median(run['wall'] for run in it['runs'][who]):,.0f}" for who in ("bare", "crossvec")]
        beside = [
            f"{(it[f'peak_memory_bytes{part}'] - it[bare]) / 1e6:,.0f}"
            if (bare := f"peak_memory_bytes_bare{part}") in it
            else "–"
            for part in ("_quarter_of_the_rows", "")
        ]
        lines.append([names[kind], f"{r['rows']:,}", *walls, f"{it['ratio_wall']:.2f}", f"{it['ratio_cpu']:.2f}", *beside])
        load.append(f"{len(it['runs']['bare'])} at a load of {r['load_before']:.0f}")
    head = ["database", "rows x 384", "bare client, s", "crossvec, s", "times", "times, CPU", "MB more, a quarter of the rows"]
    note = f"Medians of runs in turn, on two cores that others used too: {', '.join(load)}, in this order."
    return f"{table([*head, 'MB more, all rows'], lines)}\n\n{note}"


TABLES: dict[str, Callable[[], str]] = {
    "wiki": lambda: by_direction("wiki"),
    "wiki-summary": lambda: by_aligner("wiki"),
    "sample-size": lambda: by_size("sample-size", "small-stores", "wiki"),
    "sample-size-all": lambda: by_direction("sample-size"),
    "small-stores": lambda: by_size("small-stores"),
    "small-stores-all": lambda: by_direction("small-stores"),
    "domain-shift": by_share,
    "choose": by_choice,
    "vec2vec-warm": lambda: by_variant("warm", "preset"),
    "vec2vec-scratch": lambda: by_variant("scratch", "preset"),
    "vec2vec-ablation": lambda: by_variant("ablation", "variant"),
    "vec2vec-pairs": lambda: by_variant("pairs", "known pairs"),
    "out-of-domain": by_text,
    "step-cost": by_cost,
    "scale": by_workers,
    "commands": by_command,
    "fit-at-scale": by_rows,
    "held-out": by_pairs,
    "migrate": by_database,
    "service-load": by_load,
    "service-soak": by_soak,
}


def drawn(text: str) -> str:
    return re.sub(
        r"(<!-- table ([a-z0-9-]+) -->\n).*?(<!-- end -->)", lambda m: f"{m[1]}{TABLES[m[2]]()}\n{m[3]}", text, flags=re.DOTALL
    )


def main() -> int:
    stale = [page for page in PAGES if drawn(page.read_text(encoding="utf-8")) != page.read_text(encoding="utf-8")]
    if "--check" in sys.argv[1:]:
        for page in stale:
            print(f"{page.name} is stale: run python benchmarks/render.py", file=sys.stderr)
        return 1 if stale else 0
    for page in stale:
        page.write_text(drawn(page.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
