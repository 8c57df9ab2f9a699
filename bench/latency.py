"""Latency of single events at a constant rate, through the app and through a bare transactional loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.settings import Settings
from bench import request_counts
from bench.child_process import ChildProcess
from bench.environment import create_topics
from bench.figures import Latency
from bench.usage import Meter, Usage
from tools.e2e.workers import Worker
from tools.replay.log_rows import LogRows
from tools.replay.sender import prepare

#: names of the programs in tables
APP = "the whole job"
BARE_LOOP = "a bare consume-transact-produce loop, aiokafka"


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


@dataclass(frozen=True)
class Target:
    """A running program whose rows are measured."""

    key: str
    label: str
    variables: Mapping[str, str]
    pid: int
    #: process of the broker, and file of the request counts; None: not measured
    broker_pid: int | None = None
    counts: Path | None = None

    def meter(self) -> Meter:
        """Begin to measure what it uses."""
        return Meter(self.pid, self.broker_pid, self.counts)


class CountedWorker(Worker):
    """A worker whose requests are counted if its environment says where."""

    runner = (request_counts.__name__,)


@contextmanager
def running_app(variables: Mapping[str, str], partitions: int, directory: Path) -> Iterator[Target]:
    """Run a worker with these settings; its source topic must not be used by others."""
    settings = Settings.from_env(variables)
    asyncio.run(create_source(settings, partitions))
    with CountedWorker(variables, directory / "latency-worker.log", level="warn") as worker:
        worker.wait(lambda stats: stats["problem"] is None, timeout=60)
        yield Target("app", APP, variables, worker.process.pid)


@contextmanager
def running_bare_loop(variables: Mapping[str, str], partitions: int, directory: Path) -> Iterator[Target]:
    """Run bench/bare_loop.py on a source topic of its own."""
    settings = Settings.from_env(variables)
    asyncio.run(create_source(settings, partitions))
    with ChildProcess("bench.bare_loop", [], variables, directory / "bare-loop.log") as loop:
        loop.read()
        yield Target("floor", BARE_LOOP, variables, loop.process.pid)


def measure(target: Target, load: Load, directory: Path) -> Latency:
    """Measure a running program under a load. CPU is that of the measured part of the load."""
    file, log = _files(load, target, directory)
    topic = Settings.from_env(target.variables).topic_names.prediction
    reader_arguments = [topic, str(file), str(load.warm_up_events)]
    with ChildProcess("bench.latency_reader", reader_arguments, target.variables, log) as reader:
        reader.read()
        usage, late_ms = use_under(load, target, directory)
        return Latency(target.key, target.label, load.rate, usage=usage, load_late_ms=late_ms, **reader.read())


def use_under(load: Load, target: Target, directory: Path) -> tuple[Usage, float]:
    """Return what a running program uses in the measured part of a load, and the delay of the load, p99 [ms]."""
    file, log = _files(load, target, directory)
    with ChildProcess("bench.load", load_arguments(load, file), target.variables, log) as sender:
        sender.read()
        time.sleep(load.warm_up_s)
        meter = target.meter()
        late_ms = sender.read()["late_ms"]
        return meter.read(), late_ms


def _files(load: Load, target: Target, directory: Path) -> tuple[Path, Path]:
    """Return the file of the times at which a load is sent, and the log of the processes that measure."""
    app_id = Settings.from_env(target.variables).app_id
    return directory / f"{app_id}-{load.rate:g}.npz", directory / f"{app_id}-load.log"


def load_arguments(load: Load, file: Path) -> list[str]:
    """Return the command line of bench/load.py."""
    return [str(x) for x in (load.rate, load.warm_up_s + load.seconds, load.students, load.partitions, file)]


async def create_source(settings: Settings, partitions: int) -> None:
    """Create the source topic with its schemas, and the topic of the predictions."""
    no_rows = LogRows(*(np.empty(0, np.int64),) * 2, ("",), *(np.empty(0, np.int64),) * 2)
    await prepare(settings, no_rows, partitions=partitions)
    await create_topics(settings, 1, only={settings.topic_names.prediction})
