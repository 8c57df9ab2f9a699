"""Replay a log into the source topic, with a bar on a terminal and plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

from app.settings import Settings
from tools.replay.csv_file import looks_like_seconds
from tools.replay.log_rows import LogRows
from tools.replay.sender import Plan, prepare, produce

#: how often a plain line tells how far it is [s]
LINE_S = 5.0


async def replay(
    settings: Settings,
    rows: LogRows,
    *,
    partitions: int = 4,
    speed: float | None = None,
    console: Console | None = None,
) -> Plan:
    """Send the rows that the source topic does not hold yet; what was sent and what was there.

    partitions: for a topic that is missing; speed: seconds of the log a second, None or 0 as fast as it
    goes. timecreated is written in `settings.time_unit`. Raises ConfigError; started again after an
    interruption it goes on where it was.
    """
    console = console or Console(stderr=True)
    if looks_like_seconds(rows):
        console.print("warning: timecreated looks like seconds, and was read as milliseconds", style="yellow")
    plan = await prepare(settings, rows, partitions=partitions)
    _announce(console, plan, partitions)
    began = time.monotonic()
    with _progress(console, len(plan.rows)) as advance:
        await produce(plan, speed=speed, advance=advance)
    took = max(time.monotonic() - began, 1e-3)
    console.print(f"{len(plan.rows):,} rows sent in {took:.1f} s ({len(plan.rows) / took:,.0f} a second)")
    return plan


def _announce(console: Console, plan: Plan, partitions: int) -> None:
    topic = f"topic {plan.settings.source_topic} {'made' if plan.created else 'found'}"
    note = "" if plan.partitions == partitions else f" (not {partitions}: a topic keeps what it has)"
    console.print(f"{topic}, {plan.partitions} partitions{note}", highlight=False)
    if plan.present:
        console.print(f"{plan.present:,} rows are there already, {len(plan.rows):,} to go")


@contextmanager
def _progress(console: Console, total: int) -> Iterator[Callable[[int], object]]:
    """Yields what to tell how many more rows have arrived."""
    if not console.is_terminal:
        yield _lines(console, total)
        return
    columns = (
        SpinnerColumn(),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("rows"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("replay", total=total)
        yield lambda rows: bar.advance(task, rows)


def _lines(console: Console, total: int) -> Callable[[int], object]:
    """A line every `LINE_S` seconds."""
    done, last = 0, time.monotonic()

    def advance(rows: int) -> None:
        nonlocal done, last
        done += rows
        if time.monotonic() - last >= LINE_S:
            last = time.monotonic()
            console.print(f"{done:,} of {total:,} rows")

    return advance
