"""Measure bench/plain_faust.py in the same way as bench/job.py measures the app."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from app.settings import Settings
from bench.environment import create_topics
from bench.figures import Run
from bench.job import Stats, check_outputs, measure_worker
from tools.e2e.oracle import ExpectedTables
from tools.e2e.workers import Worker


class PlainFaustWorker(Worker):
    """`faust -A bench.plain_faust worker`."""

    module = "bench.plain_faust"


def plain_faust_job(variables: Mapping[str, str], log: Path, truth: ExpectedTables, partitions: int) -> Run:
    """Measure one run from readiness to the last event's rows, then compare the output topics with `truth`."""
    settings = Settings.from_env(variables)
    names = settings.topic_names
    outputs = set(names.outputs)
    asyncio.run(create_topics(settings, 1, only=outputs))  # Faust creates its internal topics itself
    with PlainFaustWorker({**variables, "BENCH_PARTITIONS": str(partitions)}, log, level="warn") as worker:
        run = measure_worker(worker, truth.events, _progress)
    # stopped by the with block, it has flushed its producer
    return replace(run, wrong=check_outputs({**variables, "RISK_EMIT": "changes"}, truth))


def _progress(stats: Stats) -> int:
    counts = stats["counts"]
    # a prediction is the last row of its event and is read back, so the event's rows are written
    return min(int(counts["visits"]), int(counts["predictions_read"]))
