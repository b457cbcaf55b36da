"""render — draw: results/*/*.json become the tables between markers in README.md and benchmarks/README.md.

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
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent
PAGES = (HERE.parent / "README.md", HERE / "README.md")
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


def success(runs: list[Result], ceiling: dict[tuple[str, int], float]) -> str:
    bars = [ceiling.get((direction(r), r["row"]["rows"])) for r in runs]
    if None in bars:
        return "–"
    return f"{sum(top1(r) >= BAR * bar for r, bar in zip(runs, bars, strict=True))} of {len(runs)}"


def verdicts(runs: list[Result]) -> str:
    said = [r["verdict"]["status"] for r in runs if not r["error"] and r.get("verdict")]
    return ", ".join(f"{said.count(status)} {status}" for status in ("aligned", "uncertain", "failed") if status in said) or "–"


def memory(runs: list[Result]) -> str:
    return middle((r.get("peak_memory_bytes") and r["peak_memory_bytes"] / 2**30 for r in runs), "{:.1f} GiB")


def seconds(runs: list[Result]) -> str:
    return middle((None if r["error"] else r["seconds"]["fit"] for r in runs), "{:.3g}")


def cells(runs: list[Result], ceiling: dict[tuple[str, int], float]) -> list[str]:
    return [
        success(runs, ceiling),
        spread([top1(r) for r in runs]),
        middle((score(r, "mean_rank") for r in runs), "{:.2f}"),
        middle((score(r, "cosine_centred") for r in runs), "{:.3f}"),
        verdicts(runs),
        seconds(runs),
        memory(runs),
    ]


SCORES = ["success", "top-1, least / median / most", "mean rank", "centred cosine", "verdict", "seconds", "peak memory"]


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
    for rows, runs in group((r for r in found if r["row"]["aligner"] == "moments"), lambda r: r["row"]["rows"]).items():
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


def told(found: list[Result], drawn: str) -> str:
    """The table and, under it, where its numbers come from."""
    if drawn.count("\n") < 2:  # a head and no lines
        return "*Not measured yet.*"
    machines = sorted(
        {f"{r['machine']['cpu']}, {r['machine']['cores']} cores, {r['machine']['threads']} threads" for r in found}
    )
    versions = sorted({f"torch {r['versions']['torch']}" for r in found if r.get("versions")})
    dates = sorted(r["date"][:10] for r in found)
    failed = sum(bool(r["error"]) for r in found)
    origin = [
        f"{len(found)} run{'s' * (len(found) > 1)}" + (f", {failed} without a result" if failed else ""),
        *machines,
        *versions,
    ]
    origin += ["commit " + ", ".join(sorted({r["commit"] for r in found})), " to ".join(sorted({dates[0], dates[-1]}))]
    return f"{drawn}\n\n<sub>{'; '.join(origin)}.</sub>"


TABLES: dict[str, Callable[[], str]] = {
    "wiki": lambda: by_direction("wiki"),
    "wiki-summary": lambda: by_aligner("wiki"),
    "sample-size": lambda: by_size("sample-size", "wiki"),
    "sample-size-all": lambda: by_direction("sample-size"),
    "small-stores": lambda: by_size("small-stores"),
    "small-stores-all": lambda: by_direction("small-stores"),
    "domain-shift": by_share,
}


def drawn(text: str) -> str:
    return re.sub(
        r"(<!-- table ([a-z-]+) -->\n).*?(<!-- end -->)", lambda m: f"{m[1]}{TABLES[m[2]]()}\n{m[3]}", text, flags=re.DOTALL
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
