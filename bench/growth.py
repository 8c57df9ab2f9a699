"""`python -m bench --growth`: throughput, memory and recovery time for growing logs and numbers of students."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import stack
from app.settings import Settings
from bench import recovery
from bench.environment import SAME_WORK, own_settings
from bench.job import whole_job
from bench.synthetic_log import backlog
from tools.e2e.oracle import expected_tables
from tools.replay.progress import replay

#: (events, students) of each step
STEPS: Sequence[tuple[int, int]] = ((1_000_000, 5_000), (3_000_000, 50_000), (10_000_000, 500_000))

#: table headings by JSON key
COLUMNS = {
    "students": "students",
    "events": "events",
    "cpu_us_per_event": "CPU µs/event",
    "events_per_s": "events/s",
    "peak_mb": "peak MB",
    "exact": "exact",
    "empty_disk_s": "from an empty disk s",
    "after_sigterm_s": "after SIGTERM s",
    "after_sigkill_s": "after SIGKILL s",
    "recovered_mb": "MB after recovery",
}


def run(
    servers: stack.Environment,
    directory: Path,
    console: Console,
    partitions: int,
    steps: Sequence[tuple[int, int]] = STEPS,
) -> int:
    """Measure the whole job on a backlog and the restarts of bench/recovery.py at each step; return the exit code."""
    results = []
    for number, (events, students) in enumerate(steps):
        step = _job(servers, directory, console, partitions, number, events, students)
        step |= asyncio.run(_restarts(servers, directory, console, number, students))
        console.print(step)
        results.append(step)
    table = Table(title="Growth: the whole job (batch), one run each; time until ready again")
    for heading in COLUMNS.values():
        table.add_column(heading, justify="right")
    for step in results:
        table.add_row(*(f"{step[name]:,}" if name != "exact" else str(step[name]) for name in COLUMNS))
    console.print(table)
    exact = all(step["exact"] for step in results)
    print(json.dumps({"growth": results, "exact": exact}))
    return 0 if exact else 1


def _variables(servers: stack.Environment, directory: Path, name: str) -> dict[str, str]:
    """Return a worker's settings with topics, group and data directory called `name`."""
    return {
        **servers.settings,
        **SAME_WORK,
        **own_settings(name, directory),
        "RISK_SOURCE_TOPIC": f"{name}.log",
    }


def _job(
    servers: stack.Environment,
    directory: Path,
    console: Console,
    partitions: int,
    number: int,
    events: int,
    students: int,
) -> dict[str, Any]:
    name = f"growth{number}"
    variables = _variables(servers, directory, name)
    rows = backlog(events, students)
    asyncio.run(replay(Settings.from_env(variables), rows, partitions=partitions, console=console))
    truth = expected_tables(zip(rows.userid.tolist(), rows.at.tolist(), strict=True))
    result = whole_job(variables, directory / f"{name}.log", truth)
    for line in result.wrong or ():
        console.print(line, markup=False)
    return {
        "students": students,
        "events": truth.events,
        "cpu_us_per_event": round(result.cpu_us_per_event, 2),
        "events_per_s": round(result.events_per_s),
        "peak_mb": round(result.rss_mb),
        "exact": not result.wrong,
    }


async def _restarts(
    servers: stack.Environment, directory: Path, console: Console, number: int, students: int
) -> dict[str, float]:
    variables = _variables(servers, directory, f"recovery{number}")
    # few events: recovery depends only on the state, which the changelog already contains
    figures = await recovery.measure(variables, directory, console, students, 10_000)
    wanted = ("empty_disk_s", "after_sigterm_s", "after_sigkill_s", "recovered_mb")
    return {name: figures[name] for name in wanted}
