"""engine — who does the work of a verb: the options of a run in pieces, what it would take, and what came of it.

In    --engine, --ray-address, --workers, --memory, --shard-rows, --ledger, --plan, --core-hour, --machine-hour
Out   Choice, passed to the verb as `engine`; a plan, or a record of what was done, on stdout
Uses  click; scale, once a verb runs
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from crossvec.cli import options, progress
from crossvec.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from crossvec.scale import Engine, Outcome
    from crossvec.scale.job import Job
    from crossvec.scale.plan import Estimate, Plan


@dataclass(frozen=True)
class Choice:
    """What the user has asked for; the names are those of the options."""

    engine: str = "local"
    ray_address: str | None = None
    workers: int | None = None
    memory: str | None = None
    shard_rows: int | None = None
    ledger: str | None = None
    plan: bool = False
    core_hour: float | None = None
    machine_hour: float | None = None

    @property
    def ray(self) -> bool:
        """Whether Ray's workers are to do it."""
        return self.engine == "ray"

    def in_pieces(self, source: str) -> bool:
        """Tell whether the verb's work is cut into pieces: so Ray's is, a plan's, and that on many shards.

        Raises UsageError for options that are about pieces where there are none.
        """
        from crossvec.scale.shards import many

        if self.core_hour is not None and self.machine_hour is not None:
            raise UsageError("--core-hour and --machine-hour say two different things", "use one of them")
        for name in ("core_hour", "machine_hour"):
            if getattr(self, name) is not None and not self.plan:
                raise UsageError(f"--{name.replace('_', '-')} is for the cost in a plan", "add --plan, or leave it out")
        if self.ray or self.plan or self.shard_rows or many(source):
            return True
        self.refuse(("ray_address", "workers", "memory", "ledger"))
        return False

    def refuse(self, names: tuple[str, ...]) -> None:
        """Raise UsageError when one of these options was given."""
        for name in names:
            if getattr(self, name):
                raise UsageError(f"--{name.replace('_', '-')} is for work in pieces", "add --engine ray")

    def limit(self) -> int:
        """Return the bytes that a worker may need."""
        from crossvec.scale import memory

        return memory.LIMIT if self.memory is None else memory.parsed(self.memory)

    def opened(self, device: str = "cpu", shared: int = 0) -> Engine:
        """Return the engine; a GPU is a worker's own where it is asked for by name, `shared` are bytes that all workers see."""
        from crossvec.scale import engines

        reserved = None if self.memory is None else self.limit()
        gpus = 1.0 if device == "cuda" else 0.0
        return engines.choose(self.engine, self.ray_address, self.workers, reserved, gpus, shared)

    def device(self, asked: str) -> str:
        """Return where a worker computes: on a cluster on its processor, unless GPUs are asked for."""
        return "cpu" if self.ray and asked == "auto" else asked

    def do(self, job: Job, dest: str, format: str, device: str) -> int:
        """Plan the job, or run it, and tell."""
        engine = self.opened(device)
        if self.plan:
            from crossvec.scale.plan import Price

            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            plan = job.plan(engine, Price(self.core_hour, self.machine_hour, cores))
            options.out(format, plan.to_json(), lambda: planned(plan))
            return 0
        with progress.shown() as step:
            outcome = job.run(engine, step)
        if outcome.dropped:
            named = ", ".join(f"{row:,} of {source}" for source, row in outcome.first_dropped[:5])
            options.advise(f"note: left out {outcome.dropped:,} bad rows: {named}{' …' if outcome.dropped > 5 else ''}")
        options.out(format, record(outcome, dest, job), lambda: told(outcome, dest))
        return 0


def choice(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options of work in pieces to a verb, which gets them as one argument, `engine`."""
    return _collecting(command, OPTIONS)


def spread(command: Callable[..., int]) -> Callable[..., int]:
    """Add to a verb the options of who works; it gets them as one argument, `engine`."""
    return _collecting(command, OPTIONS[:3])


def _collecting(command: Callable[..., int], added: Sequence[Callable[..., Any]]) -> Callable[..., int]:
    @wraps(command)
    def collected(*words: Any, **given: Any) -> int:
        asked = {field.name: given.pop(field.name) for field in fields(Choice) if field.name in given}
        return command(*words, engine=Choice(**asked), **given)

    for option in reversed(added):
        option(collected)
    return collected


OPTIONS = (
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="Who works: see docs/cluster.md.",
    ),
    click.option("--ray-address", metavar="HOST:PORT", help="A Ray cluster, or auto.  [default: workers on this machine]"),
    click.option("--workers", type=click.IntRange(1), help="How many workers, of a core each.  [default: all cores]"),
    click.option("--memory", metavar="SIZE", help="What a worker may need, such as 2G; sets translate's batch.  [default: 1G]"),
    click.option("--shard-rows", type=click.IntRange(1), help="Rows of a piece of one store.  [default: 1,000,000]"),
    click.option("--ledger", metavar="FOLDER", help="Where to note what is done.  [default: in the output folder]"),
    click.option("--plan", is_flag=True, help="Only tell hours, disk and cost, measured on some of the rows."),
    click.option("--core-hour", type=options.Finite(0), metavar="PRICE", help="What a core costs an hour, for --plan."),
    click.option("--machine-hour", type=options.Finite(0), metavar="PRICE", help="What a machine like this one costs an hour."),
)


def given(name: str) -> Any:
    """Return an option's value where the user has given one, None where it is the default."""
    context = click.get_current_context()
    asked = context.get_parameter_source(name) in (ParameterSource.COMMANDLINE, ParameterSource.DEFAULT_MAP)
    return context.params[name] if asked else None


def record(outcome: Outcome, dest: str, job: Job) -> dict[str, Any]:
    """Return what JSON tells of a run."""
    first = [{"source": source, "row": row} for source, row in outcome.first_dropped]
    return {
        "rows": outcome.rows,
        "seconds": round(outcome.seconds, 3),
        "dest": dest,
        "skipped": {"count": outcome.dropped, "rows": first},
        "pieces": outcome.pieces,
        "pieces_done_before": outcome.skipped,
        "batch": job.work.batch,
        "peak_memory_per_worker_bytes": outcome.peak_memory_bytes,
        "ledger": str(job.ledger.folder),
    }


def told(outcome: Outcome, dest: str) -> RenderableType:
    """Say what a run did."""
    from rich.console import Group

    from crossvec.report.text import line

    before = f", {outcome.skipped:,} of them done before" if outcome.skipped else ""
    head = f"{outcome.rows:,} rows in {outcome.pieces:,} shards{before}, {outcome.seconds:.1f} s, in {dest}"
    if outcome.peak_memory_bytes is None:
        return line(head)
    return Group(line(head), line(f"peak memory of a worker: {outcome.peak_memory_bytes / 2**20:,.0f} MiB"))


def planned(plan: Plan) -> RenderableType:
    """Tabulate a plan."""
    from rich import box
    from rich.console import Group
    from rich.table import Table

    from crossvec.report.text import line, note

    priced = plan.price.of_a_core is not None
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("rows", "core-hours", f"hours with {plan.workers}", "disk", *(["cost"] if priced else [])):
        table.add_column(name, justify="right", no_wrap=True)
    for one in (plan.yours, *plan.others):
        cost = [] if one.cost is None else ["< 0.01" if 0 < one.cost < 0.01 else f"{one.cost:,.2f}"]
        table.add_row(_rows(one, plan), _hours(one.core_hours), _hours(one.hours), _size(one.disk_bytes), *cost)
    read, carry, write = (1e6 * part for part in plan.pace.seconds)
    measured = f"a core reads a row in {read:,.1f} µs, carries it in {carry:,.1f} µs and writes it in {write:,.1f} µs"
    needed = "unknown" if plan.memory_needed is None else f"{plan.memory_needed / 2**20:,.0f} MiB"
    return Group(
        line((f"{plan.yours.rows:,} rows in {plan.pieces:,} shards, {plan.done:,} of them done", "bold")),
        table,
        line(f"measured on {plan.pace.sampled:,} of your rows, on this machine: {measured}"),
        line(f"a worker needs {needed} at most with batches of {plan.batch:,} rows, and may have {_size(plan.memory_limit)}"),
        *map(note, plan.notes),
        *([] if priced else [line(("add --core-hour PRICE or --machine-hour PRICE for the cost", "dim"))]),
    )


def _rows(one: Estimate, plan: Plan) -> str:
    return f"yours: {one.rows:,}" if one is plan.yours else f"{one.rows:,}"


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 1000 else f"{hours:.3g}"


def _size(size: int) -> str:
    for unit, least in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20)):
        if size >= least:
            return f"{size / least:,.1f} {unit}"
    return f"{size / 2**10:,.1f} KiB"
