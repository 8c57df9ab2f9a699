"""The whole job: a fresh worker over a whole backlog, its end state recounted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from app.settings import Settings
from bench.figures import Run
from bench.procfs import cpu_s, peak_mb
from models.topic_names import TopicNames
from tools.e2e.chaos.verdict import outputs
from tools.e2e.oracle import Truth, differences, row_by_row
from tools.e2e.workers import Worker

#: how long one run may take [s]
PATIENCE_S = 300.0
#: two looks at a worker are this far apart at least, and at most [s]. Each costs the worker a millisecond or two, so
#: they are few while there is much left to do
_LOOKS_S = (0.02, 1.0)

Stats = Mapping[str, Any]


def whole_job(variables: Mapping[str, str], log: Path, truth: Truth) -> Run:
    """One run: CPU and time from ready to the last row committed; then the four topics against the truth."""
    names = Settings.from_env(variables).topic_names
    with Worker(variables, log, level="warn") as worker:
        run = measured(worker, truth.events, lambda stats: _progress(stats, names))
        worker.wait_idle(timeout=60, events=truth.events)
    return Run(run.events_per_s, run.cpu_us_per_event, run.rss_mb, wrong(variables, truth))


def measured(worker: Worker, events: int, progress: Callable[[Stats], int]) -> Run:
    """The figures of a worker's work, from ready until `progress` says that all `events` are through."""
    pid = worker.process.pid
    first = worker.wait(lambda stats: stats["problem"] is None, timeout=60)
    began, cpu, before = time.monotonic(), cpu_s(pid), progress(first)
    done = before
    while done < events:
        took = time.monotonic() - began
        left_s = (events - done) * took / (done - before) if done > before else _LOOKS_S[0]
        # half of what it will still take, so that looks become frequent only towards the end
        time.sleep(min(max(left_s / 2, _LOOKS_S[0]), _LOOKS_S[1]))
        done = progress(worker.wait(lambda _: True, timeout=60))
        if took > PATIENCE_S:
            worker.wait(lambda _: False, timeout=0)  # raises, with what was seen last
    took, used = time.monotonic() - began, cpu_s(pid) - cpu
    return Run((events - before) / took, used / (events - before) * 1e6, peak_mb(pid))


def _progress(stats: Stats, names: TopicNames) -> int:
    """Events that are through: applied, and their predictions looked at by `alert`."""
    counts = stats["counts"]
    visits: int = counts.get("visits", 0)
    rows = counts.get("rows", {})
    waiting = rows.get(names.prediction, 0) > counts.get("predictions_read", 0)
    return max(0, visits - 1) if waiting else visits


def wrong(variables: Mapping[str, str], truth: Truth) -> tuple[str, ...]:
    """What differs from the truth in the four topics, one line each."""
    settings = Settings.from_env(variables)
    topics = asyncio.run(outputs(settings.broker, settings.topic_names, settings.topic_prefix))
    lines = differences(truth, topics)
    if settings.emit == "batch":
        lines += row_by_row(topics)
    return tuple(lines)
