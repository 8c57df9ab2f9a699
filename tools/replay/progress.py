"""Replay a log into the source topic, with a progress bar on a terminal and plain lines elsewhere."""

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
from tools.replay.sender import ReplayPlan, prepare, produce

#: interval between plain progress lines [s]
LINE_INTERVAL_S = 5.0


async def replay(
    settings: Settings,
    rows: LogRows,
    *,
    partitions: int = 4,
    speed: float | None = None,
    console: Console | None = None,
) -> ReplayPlan:
    """Send the rows that the source topic does not contain yet, and return what was sent.

    partitions: number of partitions if the topic is created; speed: log seconds per second, None or 0 for
    no limit. timecreated is written in `settings.time_unit`. After an interruption, calling it again
    continues the replay. Raises ConfigError.
    """
    console = console or Console(stderr=True)
    if looks_like_seconds(rows):
        console.print("warning: timecreated looks like seconds, but was read as milliseconds", style="yellow")
    plan = await prepare(settings, rows, partitions=partitions)
    _announce(console, plan, partitions)
    began = time.monotonic()
    with _progress(console, len(plan.rows)) as advance:
        await produce(plan, speed=speed, advance=advance)
    took = max(time.monotonic() - began, 1e-3)
    console.print(f"{len(plan.rows):,} rows sent in {took:.1f} s ({len(plan.rows) / took:,.0f} a second)")
    return plan


def _announce(console: Console, plan: ReplayPlan, partitions: int) -> None:
    topic = f"topic {plan.settings.source_topic} {'created' if plan.created else 'exists'}"
    note = "" if plan.partitions == partitions else f" (--partitions {partitions} applies to new topics only)"
    console.print(f"{topic}, {plan.partitions} partitions{note}", highlight=False)
    if plan.already_written:
        console.print(f"{plan.already_written:,} rows already written, {len(plan.rows):,} to go")


@contextmanager
def _progress(console: Console, total: int) -> Iterator[Callable[[int], object]]:
    """Yield a function to call with the number of newly acknowledged rows."""
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
    """Print a line every `LINE_INTERVAL_S`."""
    done, last_line = 0, time.monotonic()

    def advance(rows: int) -> None:
        nonlocal done, last_line
        done += rows
        if time.monotonic() - last_line >= LINE_INTERVAL_S:
            last_line = time.monotonic()
            console.print(f"{done:,} of {total:,} rows")

    return advance
