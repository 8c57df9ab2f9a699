"""A worker started as a user starts it, on a real broker, over months of backlog."""

from __future__ import annotations

import pytest

from tests.support.cluster import TIMEOUT_S, Deployment, Workload

pytestmark = pytest.mark.broker


def test_months_over_four_partitions_are_exact(deployment: Deployment, workload: Workload) -> None:
    """A backlog over several partitions yields exactly the sessions of the time-ordered log, with few tombstones."""
    assert len(workload.rows) > 200_000
    reading = Deployment.new(deployment.servers, deployment.directory, RISK_SOURCE_TOPIC=workload.topic)
    with reading.worker(forked=False) as worker:
        stats = worker.wait_idle(timeout=TIMEOUT_S, events=len(workload.rows))
    assert stats["counts"]["visits"] == len(workload.rows)
    assert "late" not in stats["counts"]
    assert workload.differences(reading) == []
    sessions = reading.read(reading.names.sessions)
    tombstones = sum(record.value is None for record in sessions)
    assert tombstones <= 0.02 * len(workload.expected.sessions)
