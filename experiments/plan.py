"""plan — what an experiment's TOML file says: spaces, texts, methods, seeds, and the paper's figures for each row.

In    NAME.toml beside this file, or any other; paper.toml: encoders and datasets by the short names that the others use
Out   Plan, and its rows: one fit each
Uses  crossvec.errors
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from crossvec.errors import SettingError, UsageError

HERE = Path(__file__).resolve().parent
SHARED = "paper"
KEYS = ("table", "about", "train", "scores", "pairs", "seeds", "methods", "published")


@dataclass(frozen=True)
class Pool:
    """Pairs to score on: `held` texts of a dataset that nothing is trained on, in pools of `pool`; `images` of the target."""

    name: str
    dataset: str
    held: int
    pool: int
    images: bool = False


@dataclass(frozen=True)
class Method:
    """An aligner and its settings; `rows` a side at most (0: all); one that needs pairs is given as many."""

    name: str
    aligner: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    rows: int = 0


@dataclass(frozen=True)
class Row:
    """One fit: both directions between two spaces come of it."""

    experiment: str
    source: str
    target: str
    method: Method
    seed: int
    source_rows: int
    target_rows: int

    @property
    def name(self) -> str:
        """The name of its file."""
        rows = f"-{self.source_rows}" if self.source_rows != self.target_rows else ""
        return f"{self.source}-{self.target}{rows}-{self.method.name}-{self.seed}"

    def to_json(self) -> dict[str, Any]:
        """Return what a result must share with the run that would skip it."""
        return {**asdict(self), "method": asdict(self.method)}


@dataclass(frozen=True)
class Plan:
    """An experiment. `source_rows` has a fit for each number of source rows; `published` holds figures by pool and method."""

    name: str
    table: str
    about: str
    dataset: str
    rows: int
    source_rows: tuple[int, ...]
    pools: tuple[Pool, ...]
    pairs: tuple[tuple[str, str], ...]
    seeds: int
    methods: tuple[Method, ...]
    published: Mapping[str, Mapping[str, Mapping[str, list[float]]]]

    @property
    def encoders(self) -> list[str]:
        """The short names of all encoders, each once."""
        return list(dict.fromkeys(name for pair in self.pairs for name in pair))

    @property
    def datasets(self) -> list[str]:
        """The short names of all datasets, each once."""
        return list(dict.fromkeys([self.dataset, *(pool.dataset for pool in self.pools)]))

    def rows_of(self) -> Iterator[Row]:
        """Yield every fit, controls and quick methods in the order of the file."""
        for source, target in self.pairs:
            for rows in self.source_rows:
                for method in self.methods:
                    for seed in range(self.seeds if _seeded(method) else 1):
                        most = method.rows or self.rows
                        yield Row(self.name, source, target, method, seed, min(rows, most), min(self.rows, most))

    def figures(self, pool: str, row: Row, source: str, target: str) -> dict[str, float] | None:
        """Return what the paper prints for one direction of a row: cosine, top-1, mean rank; None where it prints nothing."""
        tables = self.published.get(pool, {})
        known = tables.get(row.method.name) or (tables.get("vec2vec") if row.method.aligner == "vec2vec" else None) or {}
        found = known.get(f"{source}-{target}-{row.source_rows}") or known.get(f"{source}-{target}")
        return dict(zip(("cosine", "top1", "mean_rank"), found, strict=True)) if found else None

    def scored_on(self, pools: list[str]) -> Plan:
        """Return the plan with some of its pools; all where none is named; raises SettingError for one it has not."""
        known = [pool.name for pool in self.pools]
        wrong = [name for name in pools if name not in known]
        if wrong:
            raise SettingError(f"{self.name} has no pool {wrong[0]!r}", f"it has {', '.join(known)}")
        return replace(self, pools=tuple(pool for pool in self.pools if pool.name in pools)) if pools else self

    def changed(self, rows: int, held: int, settings: Mapping[str, Mapping[str, Any]]) -> Plan:
        """Return the plan with fewer rows, smaller pools, and settings by aligner in place of its own."""
        pools, methods = self.pools, self.methods
        if held:
            pools = tuple(replace(pool, held=min(pool.held, held), pool=min(pool.pool, held)) for pool in pools)
        most = rows or self.rows
        unknown = set(settings) - {method.aligner for method in methods}
        if unknown:
            known = ", ".join(dict.fromkeys(method.aligner for method in methods))
            raise SettingError(f"{self.name} fits no {min(unknown)}", f"settings can be given to {known}")
        methods = tuple(replace(m, settings={**m.settings, **settings.get(m.aligner, {})}) for m in methods)
        sizes = tuple(dict.fromkeys(min(size, most) for size in self.source_rows))
        return replace(self, rows=min(self.rows, most), source_rows=sizes, pools=pools, methods=methods)


def names() -> list[str]:
    """Return the names of the experiments here."""
    return sorted(path.stem for path in HERE.glob("*.toml") if path.stem != SHARED)


def shared() -> dict[str, Any]:
    """Return the encoders and datasets that short names stand for."""
    return read(HERE / f"{SHARED}.toml")


def load(name: str) -> Plan:
    """Return the plan of a name, or of a TOML file; raises UsageError for one that cannot be read or lacks something."""
    path = Path(name) if name.endswith(".toml") else HERE / f"{name}.toml"
    if not path.is_file() or path.stem == SHARED:
        raise UsageError(f"there is no experiment {name!r}", f"known: {', '.join(names())}; or name a TOML file")
    told = read(path)
    missing = [key for key in KEYS if key not in told and key not in ("seeds", "published")]
    unknown = [key for key in told if key not in KEYS]
    if missing or unknown:
        problem = f"lacks {missing[0]!r}" if missing else f"has the unknown key {unknown[0]!r}"
        raise UsageError(f"{path.name} {problem}", f"an experiment has {', '.join(KEYS)}")
    train = told["train"]
    try:
        return Plan(
            name=path.stem,
            table=told["table"],
            about=told["about"],
            dataset=train["dataset"],
            rows=train["rows"],
            source_rows=tuple(train.get("source_rows", [train["rows"]])),
            pools=tuple(Pool(**pool) for pool in told["scores"]),
            pairs=tuple((source, target) for source, target in told["pairs"]),
            seeds=told.get("seeds", 1),
            methods=tuple(Method(name, **method) for name, method in told["methods"].items()),
            published=told.get("published", {}),
        )
    except (KeyError, TypeError, ValueError) as problem:
        raise UsageError(f"{path.name} is not whole: {problem}", "write it like in-distribution.toml") from None


def read(path: Path) -> dict[str, Any]:
    """Return a TOML file; raises UsageError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise UsageError(f"{path} cannot be read: {problem}", "check the file") from None


def _seeded(method: Method) -> bool:
    return method.aligner not in ("identity", "mean", "procrustes", "ridge")
