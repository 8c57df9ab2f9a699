"""How long a student's rows stay away when one of two workers is killed.

A bound in seconds says nothing on a machine where other tests run: `make test` runs this file after them (`alone`).
"""

from __future__ import annotations

import signal
import time

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from app.settings import Settings
from models.murmur2 import partitions_of
from tests.support import cluster as live
from tests.support.cluster import Place, finish, months, replayed, until, working
from tools.e2e.chaos.actions import TAKEOVER_S
from tools.e2e.workers import Worker

pytestmark = [pytest.mark.broker, pytest.mark.alone]

#: partitions of the log, and so of the state
PARTITIONS = 4
#: of log, visits and predictions
ALL = PARTITIONS + PARTITIONS + 1
#: visits in a flush: the backlog lasts
SMALL = {"RISK_BATCH_ROWS": "60"}


def test_one_of_two_is_killed_and_the_other_takes_over_in_time(place: Place) -> None:
    """With the default session time-out: from SIGKILL to the next committed row of one of its students.

    The best of three, for even the broker may be slow; what comes of the log is exact.
    """
    course = replayed(place, months(students=400, sessions=6_000), PARTITIONS)
    session_s = Settings().session_timeout_s
    own, took = {**SMALL, "RISK_SESSION_TIMEOUT": f"{session_s:g}"}, list[float]()
    with place.worker(2, **own) as survivor:
        while len(took) < 3 and not any(s <= session_s + TAKEOVER_S for s in took):
            with place.worker(1, **own) as doomed:
                took.append(taken_over(place, doomed, survivor))
            working(survivor)
            assert len((survivor.stats() or {"lag": ()})["lag"]) == ALL
        assert min(took) <= session_s + TAKEOVER_S, took
        assert survivor.stop() == 0
    finish(place, 2)
    assert course.wrong(place) == []


def taken_over(place: Place, doomed: Worker, survivor: Worker) -> float:
    """Kill one of two; how long it takes until a row of one of its students is committed again [s]."""
    until(lambda: [parts(doomed), parts(survivor)], lambda both: all(both) and len(both[0] | both[1]) == PARTITIONS)
    working(doomed)
    working(survivor)
    lost = parts(doomed) - parts(survivor)
    assert lost
    killed = time.monotonic()
    assert doomed.kill() == -signal.SIGKILL
    after = place.ends(place.names.agg)[place.names.agg]
    return live.run(next_row(place, lost, after)) - killed


def parts(worker: Worker) -> set[int]:
    """The partitions whose state a worker has."""
    stats = worker.stats()
    return set(stats["state_partitions"]) if stats and stats["problem"] is None else set()


async def next_row(place: Place, partitions: set[int], after: int) -> float:
    """When a row was committed, at offset `after` or later, of a student of one of the visits `partitions`."""
    tp = TopicPartition(place.names.agg, 0)
    async with AIOKafkaConsumer(bootstrap_servers=place.servers.broker, isolation_level="read_committed") as consumer:
        consumer.assign([tp])
        consumer.seek(tp, after)
        while True:
            async for row in consumer:
                if int(partitions_of([row.key], PARTITIONS)[0]) in partitions:
                    return time.monotonic()
