"""Measures bench/plain_faust.py as bench/job.py measures the app."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient

from app.kafka import topics
from app.settings import Settings
from bench.figures import Run
from bench.job import Stats, measured, wrong
from stack.supervisor import dying_with
from tools.e2e.oracle import Truth
from tools.e2e.workers import ROOT, Worker


class UsualWorker(Worker):
    """`faust -A bench.plain_faust worker`."""

    def start(self) -> UsualWorker:
        """Start the process."""
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "faust", "-A", "bench.plain_faust", "worker", "-l", "warn"],
                env=self._environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                preexec_fn=dying_with(os.getpid()),
            )
        return self


def usual_job(variables: Mapping[str, str], log: Path, truth: Truth, partitions: int) -> Run:
    """One run, from ready until the last event's rows are out; then its topics against the truth."""
    settings = Settings.from_env(variables)
    asyncio.run(_declare(settings))
    with UsualWorker({**variables, "BENCH_PARTITIONS": str(partitions)}, log) as worker:
        run = measured(worker, truth.events, _progress)
    # it was asked to stop, and has written what it held before it ended
    return Run(run.events_per_s, run.cpu_us_per_event, run.rss_mb, wrong({**variables, "RISK_EMIT": "changes"}, truth))


def _progress(stats: Stats) -> int:
    counts = stats["counts"]
    # a prediction is the last row of its event, and is read back: it is out
    return min(int(counts["visits"]), int(counts["predictions_read"]))


async def _declare(settings: Settings) -> None:
    """The topics it writes, as the app would have them; those Faust makes itself are left to Faust."""
    names = settings.topic_names
    four = {names.sessions, names.agg, names.prediction, names.in_risk}
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.broker)
    await admin.start()
    try:
        await topics.declare(admin, [t for t in topics.wanted(names, 1) if t.name in four], 1)
    finally:
        await admin.close()
