"""How long a student's rows are delayed when one of two workers is killed.

A bound in seconds means nothing while other tests run: `make test` runs this file alone, after them.
"""

from __future__ import annotations

import signal
import time

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from app.settings import Settings
from models.murmur2 import partitions_of
from tests.support.cluster import (
    Deployment,
    months_of_rows,
    replay_rows,
    run_async,
    run_to_end,
    until,
    wait_for_visits,
)
from tools.e2e.chaos.actions import TAKEOVER_S
from tools.e2e.workers import Worker

pytestmark = [pytest.mark.broker, pytest.mark.alone]

#: partitions of the log, and so of the state
PARTITIONS = 4
#: partitions of log, visits and predictions
ALL = PARTITIONS + PARTITIONS + 1
#: few visits in a flush, so that the backlog lasts
SMALL = {"RISK_BATCH_ROWS": "60"}


def test_partitions_of_a_killed_worker_are_taken_over_in_time(deployment: Deployment) -> None:
    """From SIGKILL to the next committed row of one of its students, with the default session timeout.

    The best of three counts, since the broker may be slow; the result of the log is exact.
    """
    workload = replay_rows(deployment, months_of_rows(students=400, sessions=6_000), PARTITIONS)
    session_s = Settings().session_timeout_s
    settings, took = {**SMALL, "RISK_SESSION_TIMEOUT": f"{session_s:g}"}, list[float]()
    with deployment.worker(2, **settings) as survivor:
        while len(took) < 3 and not any(s <= session_s + TAKEOVER_S for s in took):
            with deployment.worker(1, **settings) as doomed:
                took.append(measure_takeover(deployment, doomed, survivor))
            wait_for_visits(survivor)
            assert len((survivor.stats() or {"lag": ()})["lag"]) == ALL
        assert min(took) <= session_s + TAKEOVER_S, took
        assert survivor.stop() == 0
    run_to_end(deployment, 2)
    assert workload.differences(deployment) == []


def measure_takeover(deployment: Deployment, doomed: Worker, survivor: Worker) -> float:
    """Kill one of two workers. Return the time until a row of one of its students is committed again [s]."""
    until(lambda: [owned(doomed), owned(survivor)], lambda both: all(both) and len(both[0] | both[1]) == PARTITIONS)
    wait_for_visits(doomed)
    wait_for_visits(survivor)
    lost = owned(doomed) - owned(survivor)
    assert lost
    killed = time.monotonic()
    assert doomed.kill() == -signal.SIGKILL
    begin = deployment.ends(deployment.names.agg)[deployment.names.agg]
    return run_async(next_row(deployment, lost, begin)) - killed


def owned(worker: Worker) -> set[int]:
    """Return the partitions whose state a worker has."""
    stats = worker.stats()
    return set(stats["state_partitions"]) if stats and stats["problem"] is None else set()


async def next_row(deployment: Deployment, partitions: set[int], begin: int) -> float:
    """Return when a row of a student of one of the visits `partitions` was committed at offset `begin` or later."""
    tp, broker = TopicPartition(deployment.names.agg, 0), deployment.servers.broker
    async with AIOKafkaConsumer(bootstrap_servers=broker, isolation_level="read_committed") as consumer:
        consumer.assign([tp])
        consumer.seek(tp, begin)
        while True:
            async for row in consumer:
                if int(partitions_of([row.key], PARTITIONS)[0]) in partitions:
                    return time.monotonic()
