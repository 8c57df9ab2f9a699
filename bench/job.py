"""The whole job: a new worker processes a backlog, and its end state is compared with the expected one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.settings import Settings
from bench.figures import Run
from bench.procfs import cpu_s, peak_mb
from tools.e2e.oracle import ExpectedTables, differences, order_differences
from tools.e2e.read_topic import read_outputs
from tools.e2e.workers import Worker

#: timeout of one run [s]
TIMEOUT_S = 300.0
#: minimum and maximum interval for polling a worker's /stats [s]; a poll costs the worker 1 to 2 ms of CPU
_POLL_S = (0.02, 1.0)

Stats = Mapping[str, Any]


def whole_job(variables: Mapping[str, str], log: Path, truth: ExpectedTables) -> Run:
    """Measure one run from readiness to the last committed row, then compare the four output topics with `truth`."""
    settings = Settings.from_env(variables)
    with Worker(variables, log, level="warn") as worker:
        run = measure_worker(worker, truth.events, lambda stats: finished(stats, settings))
        worker.wait_idle(timeout=60, events=truth.events)
    return replace(run, wrong=check_outputs(variables, truth))


def measure_worker(worker: Worker, events: int, progress: Callable[[Stats], int]) -> Run:
    """Measure a worker from readiness until `progress` reaches `events`."""
    pid = worker.process.pid
    first = worker.wait(lambda stats: stats["problem"] is None, timeout=60)
    began, cpu, before = time.monotonic(), cpu_s(pid), progress(first)
    done = before
    while done < events:
        took = time.monotonic() - began
        left_s = (events - done) * took / (done - before) if done > before else _POLL_S[0]
        # half of the estimated remaining time, so that polls become frequent only towards the end
        time.sleep(min(max(left_s / 2, _POLL_S[0]), _POLL_S[1]))
        done = progress(worker.wait(lambda _: True, timeout=60))
        if took > TIMEOUT_S:
            worker.wait(lambda _: False, timeout=0)  # raises TrialError with the last stats
    took, used = time.monotonic() - began, cpu_s(pid) - cpu
    return Run((events - before) / took, used / (events - before) * 1e6, peak_mb(pid))


def finished(stats: Stats, settings: Settings) -> int:
    """Return the number of finished events: applied, with their predictions read by `alert`."""
    counts = stats["counts"]
    visits: int = counts.get("visits", 0)
    rows = counts.get("rows", {})
    waiting = rows.get(settings.topic_names.prediction, 0) > counts.get("predictions_read", 0)
    return max(0, visits - 1) if waiting else visits


def check_outputs(variables: Mapping[str, str], truth: ExpectedTables) -> tuple[str, ...]:
    """Compare the four output topics with `truth`; return one line per difference."""
    settings = Settings.from_env(variables)
    topics = asyncio.run(read_outputs(settings))
    lines = differences(truth, topics)
    if settings.emit == "batch":
        lines += order_differences(topics)
    return tuple(lines)
