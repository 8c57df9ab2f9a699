"""`python -m bench --growth`: what becomes of rate, memory and recovery when the log and the students grow."""

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
from bench.job import whole_job
from bench.log import backlog
from tools.e2e.oracle import expected_tables
from tools.replay.progress import replay

#: events, students
STEPS: Sequence[tuple[int, int]] = ((1_000_000, 5_000), (3_000_000, 50_000), (10_000_000, 500_000))

#: as the table names them
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
    """Every step: the whole job over a backlog, and the restarts of bench/recovery.py. JSON last; the exit code."""
    found = []
    for number, (events, students) in enumerate(steps):
        step = _job(servers, directory, console, partitions, number, events, students)
        step |= asyncio.run(_restarts(servers, directory, console, number, students))
        console.print(step)
        found.append(step)
    table = Table(title="Growth: the whole job (batch), one run each; time until ready again")
    for heading in COLUMNS.values():
        table.add_column(heading, justify="right")
    for step in found:
        table.add_row(*(f"{step[name]:,}" if name != "exact" else str(step[name]) for name in COLUMNS))
    console.print(table)
    exact = all(step["exact"] for step in found)
    print(json.dumps({"growth": found, "exact": exact}))
    return 0 if exact else 1


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
    variables = {
        **servers.settings,
        "RISK_SOURCE_TOPIC": f"{name}.log",
        "RISK_APP_ID": name,
        "RISK_TOPIC_PREFIX": f"{name}.",
        "RISK_DATADIR": str(directory / name),
    }
    rows = backlog(events, students)
    asyncio.run(replay(Settings.from_env(variables), rows, partitions=partitions, console=console))
    truth = expected_tables(zip(rows.userid.tolist(), rows.at.tolist(), strict=True))
    one = whole_job(variables, directory / f"{name}.log", truth)
    for line in one.wrong or ():
        console.print(line, markup=False)
    return {
        "students": students,
        "events": truth.events,
        "cpu_us_per_event": round(one.cpu_us_per_event, 2),
        "events_per_s": round(one.events_per_s),
        "peak_mb": round(one.rss_mb),
        "exact": not one.wrong,
    }


async def _restarts(
    servers: stack.Environment, directory: Path, console: Console, number: int, students: int
) -> dict[str, float]:
    variables = {
        **servers.settings,
        "RISK_SOURCE_TOPIC": f"recovery{number}.log",
        "RISK_APP_ID": f"recovery{number}",
        "RISK_TOPIC_PREFIX": f"recovery{number}.",
        "RISK_DATADIR": str(directory / f"recovery{number}"),
    }
    # few events: what is looked at is the state, which is there before the first of them
    figures = await recovery.measure(variables, directory, console, students, 10_000)
    wanted = ("empty_disk_s", "after_sigterm_s", "after_sigkill_s", "recovered_mb")
    return {name: figures[name] for name in wanted}
