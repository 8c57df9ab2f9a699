"""Latency of single events at a constant rate, through the app and through a bare transactional loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.settings import Settings
from bench.child_process import ChildProcess
from bench.environment import create_topics
from bench.figures import Latency
from bench.procfs import cpu_s, machine_s
from tools.e2e.workers import Worker
from tools.replay.log_rows import LogRows
from tools.replay.sender import prepare


@dataclass(frozen=True)
class Load:
    """A load of single events."""

    #: events per second
    rate: float
    #: duration of the measured load, and of the warm-up before it [s]
    seconds: float
    warm_up_s: float
    students: int
    partitions: int

    @property
    def warm_up_events(self) -> int:
        """Number of events that are not measured."""
        return round(self.rate * self.warm_up_s)


def measure_app(variables: Mapping[str, str], load: Load, directory: Path) -> Latency:
    """Measure a worker with these settings; its source topic must not be used by others."""
    settings = Settings.from_env(variables)
    asyncio.run(_create_topics(settings, load.partitions))
    with Worker(variables, directory / "latency-worker.log", level="warn") as worker:
        worker.wait(lambda stats: stats["problem"] is None, timeout=60)
        return _measure("app", "the whole job", variables, load, directory, worker.process.pid)


def measure_bare_loop(variables: Mapping[str, str], load: Load, directory: Path) -> Latency:
    """Measure bench/bare_loop.py with the same load and reader."""
    settings = Settings.from_env(variables)
    asyncio.run(_create_topics(settings, load.partitions))
    with ChildProcess("bench.bare_loop", [], variables, directory / "bare-loop.log") as loop:
        loop.read()
        label = "a bare consume-transact-produce loop, aiokafka"
        return _measure("floor", label, variables, load, directory, loop.process.pid)


def _measure(key: str, label: str, variables: Mapping[str, str], load: Load, directory: Path, pid: int) -> Latency:
    settings = Settings.from_env(variables)
    file, log = directory / f"{settings.app_id}.npz", directory / f"{settings.app_id}-load.log"
    seconds = load.warm_up_s + load.seconds
    load_arguments = [str(x) for x in (load.rate, seconds, load.students, load.partitions, file)]
    reader_arguments = [settings.topic_names.prediction, str(file), str(load.warm_up_events)]
    with ChildProcess("bench.latency_reader", reader_arguments, variables, log) as reader:
        reader.read()
        with ChildProcess("bench.load", load_arguments, variables, log) as sender:
            sender.read()
            began, cpu, busy = time.monotonic(), cpu_s(pid), machine_s()
            late_ms = sender.read()["late_ms"]
            took = time.monotonic() - began
            share, machine = (cpu_s(pid) - cpu) / took, (machine_s() - busy) / took
        return Latency(
            key, label, load.rate, cpu_share=share, machine_share=machine, load_late_ms=late_ms, **reader.read()
        )


async def _create_topics(settings: Settings, partitions: int) -> None:
    """Create the source topic with its schemas, and the topic of the predictions."""
    no_rows = LogRows(*(np.empty(0, np.int64),) * 2, ("",), *(np.empty(0, np.int64),) * 2)
    await prepare(settings, no_rows, partitions=partitions)
    await create_topics(settings, 1, only={settings.topic_names.prediction})
