"""`python -m bench.recovery`: how long a worker takes to be ready again, and how much memory many students need.

Writes the changelog of `--students` students as a worker would have, then starts workers: with an empty disk, after
SIGTERM, after SIGKILL; and lets one read a backlog of all of these students. JSON last.
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
from aiokafka.admin import AIOKafkaAdminClient
from rich.console import Console

from app.kafka import topics
from app.kafka.producer import last_offset, new_producer, send_rows
from app.settings import Settings
from bench.environment import console, place
from bench.log import backlog
from bench.procfs import peak_mb, resident_mb
from codec.record import NO_HEADERS
from models import position as position
from models import state
from models.murmur2 import keys_of, partitions_of
from models.position import Position
from models.sessions import Sessions
from models.totals import Totals
from tools.e2e.workers import Worker
from tools.replay.progress import replay

PARTITIONS = 4
#: 1 July 2019 [epoch ms]: before the backlog
_AT = 1_561_975_200_000 - 10 * 86_400_000
#: records sent at once
_SLICE = 50_000
#: how long anything may take [s]
_PATIENCE_S = 600.0


async def write_changelog(settings: Settings, students: int) -> None:
    """One record a student, with totals and an open session, and each partition's front."""
    names = settings.topic_names
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.broker)
    await admin.start()
    await topics.declare(admin, topics.wanted(names, PARTITIONS), 1)
    await admin.close()
    ids = np.arange(1, students + 1)
    keys = keys_of(ids, np.zeros(students, np.bool_))
    partition = partitions_of(keys, PARTITIONS)
    producer = new_producer(settings.brokers)
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


def ready(worker: Worker) -> float:
    """How long a worker that has just been started takes until it has its state [s]."""
    began = time.monotonic()
    worker.wait(lambda stats: stats["problem"] is None, timeout=_PATIENCE_S)
    return round(time.monotonic() - began, 1)


async def measure(
    variables: Mapping[str, str], directory: Path, console: Console, students: int, events: int
) -> dict[str, float]:
    """All of it, on servers that run, under the names that the variables give; times [s] and memory [MB] by name."""
    settings = Settings.from_env(variables)
    console.print(f"writing the records of {students:,} students …")
    await write_changelog(settings, students)
    rows = backlog(events, students)
    await replay(settings, rows.take(slice(0, 1)), partitions=PARTITIONS, console=console)
    figures: dict[str, float] = {"students": students, "events": len(rows)}
    log = directory / "recovery.log"
    with Worker(variables, log) as worker:
        figures["empty_disk_s"] = ready(worker)
        figures["recovered_mb"] = round(resident_mb(worker.process.pid))
        console.print(f"recovered: {figures}")
        await replay(settings, rows, partitions=PARTITIONS, console=console)
        began = time.monotonic()
        await asyncio.to_thread(worker.wait_idle, timeout=_PATIENCE_S, events=len(rows))
        figures["events_per_s"] = round(len(rows) / (time.monotonic() - began))
        figures["peak_mb"] = round(peak_mb(worker.process.pid))
        stopped = time.monotonic()
        worker.stop()
        figures["stop_s"] = round(time.monotonic() - stopped, 1)
    with Worker(variables, log) as worker:
        figures["after_sigterm_s"] = ready(worker)
        worker.kill()
    with Worker(variables, log) as worker:
        figures["after_sigkill_s"] = ready(worker)
    return figures


def main(students: int, events: int) -> int:
    """Measure, and print one line of JSON."""
    with place("recovery", steady=False) as (servers, directory):
        variables = {
            **servers.settings,
            "RISK_DATADIR": str(directory / "data"),
        }
        figures = asyncio.run(measure(variables, directory, console(), students, events))
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.recovery", description=__doc__)
    parser.add_argument("--students", type=int, default=1_000_000, help="default %(default)s")
    parser.add_argument("--events", type=int, default=1_000_000, help="default %(default)s")
    given = parser.parse_args()
    sys.exit(main(given.students, given.events))
