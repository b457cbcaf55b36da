"""progress — tells on stderr how far a long piece of work is; silent when it takes less than two seconds.

In    step(doing, fraction) calls
Out   a bar on a terminal, a line every ten seconds elsewhere
Uses  rich, once there is something to show
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress

    from crossvec.space import Space

SILENT_SECONDS = 2.0
LOG_SECONDS = 10.0

NAMED = 1000
"""Numbers of bad rows that are kept to be told; more are only counted, so that memory stays flat."""


@contextmanager
def shown() -> Iterator[Callable[[str, float], None]]:
    """Give a Step whose calls are shown while the block runs."""
    step, close = _bar() if sys.stderr.isatty() else _lines()
    try:
        yield step
    finally:
        close()


class Counted:
    """Batches that report, as they pass, how many of the rows have gone by, and remember how many bad ones were left out."""

    def __init__(self, batches: Iterable[Space], rows: int, step: Callable[[str, float], None]) -> None:
        self.batches, self.rows, self.step = batches, rows, step
        self.dropped = 0
        self.first_dropped: list[int] = []

    def __iter__(self) -> Iterator[Space]:
        done = 0
        for batch in self.batches:
            yield batch
            done += len(batch) + len(batch.dropped)
            self.dropped += len(batch.dropped)
            self.first_dropped += batch.dropped[: NAMED - len(self.first_dropped)]
            self.step(f"{done:,} of {self.rows:,} rows", done / max(self.rows, 1))


def _bar() -> tuple[Callable[[str, float], None], Callable[[], None]]:
    started = time.monotonic()
    live: list[Progress] = []

    def step(doing: str, fraction: float) -> None:
        if not live and time.monotonic() - started > SILENT_SECONDS:
            from rich import progress as rich
            from rich.console import Console

            texts = rich.TextColumn("{task.percentage:>3.0f}%"), rich.TextColumn("{task.description}")
            live.append(
                rich.Progress(rich.BarColumn(), *texts, rich.TimeElapsedColumn(), console=Console(stderr=True), transient=True)
            )
            live[0].add_task(doing, total=1.0)
            live[0].start()
        if live:
            live[0].update(live[0].task_ids[0], completed=fraction, description=doing)

    return step, lambda: live[0].stop() if live else None


def _lines() -> tuple[Callable[[str, float], None], Callable[[], None]]:
    due = time.monotonic() + SILENT_SECONDS

    def step(doing: str, fraction: float) -> None:
        nonlocal due
        if time.monotonic() > due:
            click.echo(f"{fraction:4.0%} {doing}", err=True)
            due = time.monotonic() + LOG_SECONDS

    return step, lambda: None
