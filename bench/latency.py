"""Live latency: single events at an even rate, through the app and, for comparison, through a bare transaction loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from aiokafka.admin import AIOKafkaAdminClient

from app.kafka import topics
from app.settings import Settings
from bench.children import Child
from bench.figures import Latency
from bench.procfs import cpu_s, machine_s
from tools.e2e.workers import Worker
from tools.replay.log_rows import LogRows
from tools.replay.sender import prepare


@dataclass(frozen=True)
class Load:
    """What comes in."""

    #: events a second
    rate: float
    #: how long it is counted, and how long before that it runs already [s]
    seconds: float
    warm_up_s: float
    students: int
    partitions: int

    @property
    def uncounted(self) -> int:
        """Events of the warm-up."""
        return round(self.rate * self.warm_up_s)


def through_the_app(variables: Mapping[str, str], load: Load, directory: Path) -> Latency:
    """A worker with these settings, a load, a reader: three processes. The source topic must be its own."""
    settings = Settings.from_env(variables)
    asyncio.run(_prepared(settings, load.partitions))
    with Worker(variables, directory / "latency-worker.log", level="warn") as worker:
        worker.wait(lambda stats: stats["problem"] is None, timeout=60)
        return _measured("app", "the whole job", variables, load, directory, worker.process.pid)


def through_the_floor(variables: Mapping[str, str], load: Load, directory: Path) -> Latency:
    """The same load and reader, with bench/bare_loop.py between them."""
    settings = Settings.from_env(variables)
    asyncio.run(_prepared(settings, load.partitions))
    with Child("bench.bare_loop", [], variables, directory / "floor.log") as floor:
        floor.said()
        label = "a bare consume-transact-produce loop, aiokafka"
        return _measured("floor", label, variables, load, directory, floor.process.pid)


def _measured(key: str, label: str, variables: Mapping[str, str], load: Load, directory: Path, pid: int) -> Latency:
    settings = Settings.from_env(variables)
    file, log = directory / f"{settings.app_id}.npz", directory / f"{settings.app_id}-load.log"
    seconds = load.warm_up_s + load.seconds
    wanted = [str(x) for x in (load.rate, seconds, load.students, load.partitions, file)]
    with Child(
        "bench.watching", [settings.topic_names.prediction, str(file), str(load.uncounted)], variables, log
    ) as reader:
        reader.said()
        with Child("bench.load", wanted, variables, log) as sender:
            sender.said()
            began, cpu, busy = time.monotonic(), cpu_s(pid), machine_s()
            late_ms = sender.said()["late_ms"]
            took = time.monotonic() - began
            share, machine = (cpu_s(pid) - cpu) / took, (machine_s() - busy) / took
        return Latency(
            key, label, load.rate, cpu_share=share, machine_share=machine, load_late_ms=late_ms, **reader.said()
        )


async def _prepared(settings: Settings, partitions: int) -> None:
    """The source topic with its schemas, and the topic the reader waits at."""
    nothing = LogRows(*(np.empty(0, np.int64),) * 2, ("",), *(np.empty(0, np.int64),) * 2)
    await prepare(settings, nothing, partitions=partitions)
    names = settings.topic_names
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.broker)
    await admin.start()
    try:
        await topics.declare(admin, [t for t in topics.wanted(names, 1) if t.name == names.prediction], 1)
    finally:
        await admin.close()
