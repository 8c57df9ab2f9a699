"""Growing on a real broker: the source topic under running workers, and the app's own topics with `grow`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np
import pytest
from aiokafka.admin import NewPartitions

from app.kafka.clients import new_admin
from app.ops.failpoints import VARIABLE
from models.murmur2 import partitions_of
from stack.supervisor import die_with_parent
from tests.support.cluster import (
    TIMEOUT_S,
    Deployment,
    Workload,
    months_of_rows,
    run_async,
    run_to_end,
    wait_for_visits,
)
from tools.e2e.chaos.verdict import disk_differences, read_changelog, state_differences
from tools.e2e.oracle import expected_tables
from tools.e2e.workers import ROOT, Worker
from tools.replay import debezium
from tools.replay.log_rows import LogRows

pytestmark = pytest.mark.broker

#: few visits in a flush, so that a backlog lasts
SMALL = {"RISK_BATCH_ROWS": "100"}


class Log:
    """A log that is written in parts, to any partitions, with what must result from it. Mutable."""

    def __init__(self, deployment: Deployment, partitions: int, *, sessions: int = 3_000) -> None:
        self.deployment, self.rows = deployment, months_of_rows(students=200, sessions=sessions, days=30)
        self.schema = deployment.make_source(partitions)
        self.written = 0

    def write(self, share: float, partitions: Sequence[int]) -> None:
        """Write the next rows, a `share` of all, in turn to `partitions`."""
        begin, self.written = self.written, min(len(self.rows), self.written + round(share * len(self.rows)))
        chosen = np.arange(begin, self.written)
        values = debezium.values(_take(self.rows, chosen), self.schema)
        for turn, partition in enumerate(partitions):
            mine = [(None, b"k", value, []) for value in values[turn :: len(partitions)]]
            self.deployment.send(self.deployment.names.source, mine, partition)

    def differences(self) -> list[str]:
        """Compare everything that came out with an oracle."""
        written = _take(self.rows, np.arange(self.written))
        expected = expected_tables(zip(written.userid.tolist(), written.at.tolist(), strict=True))
        return Workload(self.deployment.names.source, written, expected).differences(self.deployment)

    def state_differences(self, partitions: int) -> list[str]:
        """Compare changelog and disk of worker 1 with the oracle; each student must be in its partition only."""
        written = _take(self.rows, np.arange(self.written))
        expected = expected_tables(zip(written.userid.tolist(), written.at.tolist(), strict=True))
        names = self.deployment.names
        tables = run_async(read_changelog(self.deployment.settings, names.students_changelog, partitions))[0]
        tables = [{key: value for key, value in table.items() if value} for table in tables]
        lines = state_differences(expected, tables) + disk_differences(self.deployment.state(), tables)
        for number, table in enumerate(tables):
            keys = [key for key in table if key != b"front"]
            lines += [f"in partition {number}: {keys}"] if (partitions_of(keys, partitions) != number).any() else []
        return lines


def _take(rows: LogRows, chosen: np.ndarray) -> LogRows:
    return LogRows(rows.id[chosen], rows.event[chosen], rows.names, rows.userid[chosen], rows.at[chosen])


def add_partitions(deployment: Deployment, topic: str, partitions: int) -> None:
    """Add partitions to a topic, as kafka-topics --alter does."""

    async def add() -> None:
        admin = new_admin(deployment.settings)
        await admin.start()
        try:
            await admin.create_partitions({topic: NewPartitions(partitions)})
        finally:
            await admin.close()

    run_async(add())


def grow(deployment: Deployment, partitions: int, fault: str = "") -> tuple[int, str]:
    """Run `faust -A app grow`; return its exit code and what it wrote."""
    variables = {**deployment.variables, "RISK_DATADIR": str(deployment.state()), VARIABLE: fault}
    done = subprocess.run(
        [sys.executable, "-m", "faust", "-A", "app", "grow", "--partitions", str(partitions)],
        env={**os.environ, **variables},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=2 * TIMEOUT_S,
        check=False,
        preexec_fn=die_with_parent(os.getpid()),
    )
    return done.returncode, done.stderr


def wait_until_read(log: Log, *workers: Worker) -> None:
    """Wait until the workers together have read all that was written, and nothing waits."""

    def done(stats: dict) -> bool:
        return stats["problem"] is None and not any(stats["lag"].values())

    deadline = time.monotonic() + TIMEOUT_S
    while sum((w.stats() or {"counts": {}})["counts"].get("events", 0) for w in workers) < log.written:
        assert time.monotonic() < deadline, [w.stats() for w in workers]
        time.sleep(0.1)
    for worker in workers:
        worker.wait_idle(timeout=TIMEOUT_S)


def test_debug(deployment: Deployment) -> None:
    log = Log(deployment, 2)
    log.write(0.3, [0, 1])
    with deployment.worker(**SMALL) as worker:
        wait_for_visits(worker, 500)
        worker.kill()
    t = time.monotonic()
    print(grow(deployment, 5))
    print("took", time.monotonic() - t)
    log.write(0.3, [0, 1])
    run_to_end(deployment)
    assert log.differences() == []
    assert log.state_differences(5) == []
