"""Measure how long a worker takes to become ready again, and how much memory it needs for many students.

Writes a changelog of all students as a worker would, then starts workers on an empty disk, after SIGTERM and after
SIGKILL, and lets one process a backlog of all students. Prints one line of JSON on stdout.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

from app.kafka.clients import new_producer
from app.kafka.producer import last_offset, send_rows
from app.settings import Settings
from bench.environment import SAME_WORK, create_topics, stderr_console, temporary_servers
from bench.procfs import peak_mb, resident_mb
from bench.synthetic_log import backlog
from codec.record import NO_HEADERS
from models import position, state
from models.murmur2 import keys_of, partitions_of
from models.position import Position
from models.sessions import Sessions
from models.totals import Totals
from tools.e2e.workers import Worker
from tools.replay.progress import replay

PARTITIONS = 4
#: 1 July 2019 [epoch ms]: before the backlog
_AT = 1_561_975_200_000 - 10 * 86_400_000
#: records per send
_SLICE = 50_000
#: timeout of each step [s]
_TIMEOUT_S = 600.0


async def write_changelog(settings: Settings, students: int) -> None:
    """Write one record per student, with totals and an open session, and the position of each partition."""
    names = settings.topic_names
    await create_topics(settings, PARTITIONS)
    ids = np.arange(1, students + 1)
    keys = keys_of(ids, np.zeros(students, np.bool_))
    partition = partitions_of(keys, PARTITIONS)
    producer = new_producer(settings)
    await producer.start()
    try:
        for p in range(PARTITIONS):
            mine = np.flatnonzero(partition == p)
            for first in range(0, len(mine), _SLICE):
                part = mine[first : first + _SLICE]
                n, owner = len(part), np.arange(len(part))
                ones = np.ones(n, np.int64)
                totals = Totals(ones, 0 * ones, ones, ones * _AT)
                records = state.pack(totals, Sessions(owner, ones * _AT, ones * _AT, ones))
                rows = [(None, keys[i], record, NO_HEADERS) for i, record in zip(part.tolist(), records, strict=True)]
                await last_offset(await send_rows(producer, names.students_changelog, p, rows))
            whole = replace(Position.start(PARTITIONS), students=len(mine))
            row = (None, position.KEY, position.pack(whole), NO_HEADERS)
            await last_offset(await send_rows(producer, names.students_changelog, p, [row]))
    finally:
        await producer.stop()


def ready_s(worker: Worker) -> float:
    """Wait until a worker that was just started is ready, and return how long it took [s]."""
    began = time.monotonic()
    worker.wait(lambda stats: stats["problem"] is None, timeout=_TIMEOUT_S)
    return round(time.monotonic() - began, 1)


async def measure(
    variables: Mapping[str, str], directory: Path, console: Console, students: int, events: int
) -> dict[str, float]:
    """Measure on running servers with a worker's settings; return times [s] and memory [MB] by JSON key."""
    settings = Settings.from_env(variables)
    console.print(f"writing the changelog of {students:,} students …")
    await write_changelog(settings, students)
    rows = backlog(events, students)
    await replay(settings, rows.take(slice(0, 1)), partitions=PARTITIONS, console=console)
    figures: dict[str, float] = {"students": students, "events": len(rows)}
    log = directory / "recovery.log"
    with Worker(variables, log) as worker:
        figures["empty_disk_s"] = ready_s(worker)
        figures["recovered_mb"] = round(resident_mb(worker.process.pid))
        console.print(f"recovered: {figures}")
        await replay(settings, rows, partitions=PARTITIONS, console=console)
        began = time.monotonic()
        await asyncio.to_thread(worker.wait_idle, timeout=_TIMEOUT_S, events=len(rows))
        figures["events_per_s"] = round(len(rows) / (time.monotonic() - began))
        figures["peak_mb"] = round(peak_mb(worker.process.pid))
        began = time.monotonic()
        worker.stop()
        figures["stop_s"] = round(time.monotonic() - began, 1)
    with Worker(variables, log) as worker:
        figures["after_sigterm_s"] = ready_s(worker)
        worker.kill()
    with Worker(variables, log) as worker:
        figures["after_sigkill_s"] = ready_s(worker)
    return figures


def main(students: int, events: int) -> int:
    """Measure and print one line of JSON."""
    with temporary_servers("recovery") as (servers, directory):
        variables = {**servers.settings, **SAME_WORK, "RISK_DATADIR": str(directory / "data")}
        figures = asyncio.run(measure(variables, directory, stderr_console(), students, events))
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m bench.recovery", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--students", type=int, default=1_000_000, help="number of students")
    parser.add_argument("--events", type=int, default=1_000_000, help="number of events in the backlog")
    arguments = parser.parse_args()
    sys.exit(main(arguments.students, arguments.events))
