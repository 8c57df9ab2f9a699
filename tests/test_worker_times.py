"""Real workers: an event from the future, headers on every row, and the time of an idle partition."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import httpx
import pytest

from app.kafka.topics import Topic
from tests.support.cluster import RETAINED, TIMEOUT_S, Deployment, row, until, visit
from tools.e2e.workers import Worker

pytestmark = pytest.mark.broker

MINUTE, HOUR, YEAR = 60_000, 3_600_000, 365 * 86_400_000


def ready(stats: dict[str, Any]) -> bool:
    return stats["problem"] is None and bool(stats["lag"])


def health(worker: Worker) -> dict[str, Any]:
    with httpx.Client(trust_env=False) as client:
        answer: dict[str, Any] = client.get(f"http://127.0.0.1:{worker.port}/health").json()
        return answer


def activities(deployment: Deployment) -> dict[str, int]:
    """Student → activities in the last row."""
    rows = [json.loads(r.value) for r in deployment.read(deployment.names.agg) if r.value]
    return {str(r["USERID"]): r["ACTIVITIES"] for r in rows}


def test_an_event_from_the_future_is_named_and_there_is_a_way_back(cluster, tmp_path):
    """As in KSQL everything after it is late. With RISK_MAX_AHEAD the next start sets stream time back."""
    deployment = Deployment.new(cluster, tmp_path)
    schema, source = deployment.make_source(), deployment.names.source
    now = int(time.time() * 1000)
    with deployment.worker() as worker:
        worker.wait(ready, timeout=TIMEOUT_S)
        deployment.send(source, [visit(schema, 1, now - HOUR), visit(schema, 9, now + YEAR)])
        deployment.send(source, [visit(schema, 1, now - HOUR + MINUTE) for _ in range(20)])
        worker.wait_idle(timeout=TIMEOUT_S, events=22)
        said = health(worker)
        assert said["healthy"]
        assert abs(said["stream_time_ahead_s"] - YEAR / 1000) < 3_600
        assert any("ahead of the clock" in line for line in said["cautions"])
        until(lambda: [line for line in health(worker)["cautions"] if re.match("20 of 2[0-2] visits", line)])
        assert worker.stop() == 0
        log = worker.tail(200)
        assert f"topic {source} partition 0 offset 1: timecreated is 87" in log
        assert f"topic {source} partition 0 offset 2: the visit does not count, it is late: 87" in log
        assert "offset 6: the visit does not count, it is late: 87" in log
        assert "offset 7: the visit does not count" not in log
    assert activities(deployment) == {"1": 1, "9": 1}
    with deployment.worker(RISK_MAX_AHEAD="3600") as worker:
        worker.wait(ready, timeout=TIMEOUT_S)
        deployment.send(source, [visit(schema, 9, now + 2 * YEAR), visit(schema, 1, now), visit(schema, 2, now - HOUR)])
        stats = worker.wait_idle(timeout=TIMEOUT_S, events=3)
        assert stats["counts"]["rejected"] == {"ahead-of-clock": 1}
        assert stats["counts"].get("late", 0) == 0
        assert health(worker)["cautions"] == []
        assert "stream time was 87" in worker.tail(200)
    assert activities(deployment) == {"1": 2, "2": 1, "9": 1}
    (letter,) = deployment.read(deployment.names.dead_letters)
    assert dict(letter.headers)["dead-letter.offset"] == b"22"


def test_a_backlog_with_headers_on_every_row_counts(cluster, tmp_path):
    """Debezium's context headers do not travel; a trace id on each of 30,000 rows does, in batches that fit."""
    deployment = Deployment.new(cluster, tmp_path)
    schema, source = deployment.make_source(), deployment.names.source
    now = int(time.time() * 1000)
    value = visit(schema, 5, now)[2]
    context = [("__debezium.context.connectorName", b"moodle"), ("__debezium.context.taskId", b"0")]
    rows = [row(value, headers=[*context, ("traceparent", b"00-%032x-%016x-01" % (i, i))]) for i in range(30_000)]
    deployment.send(source, rows)
    with deployment.worker() as worker:
        worker.wait_idle(timeout=TIMEOUT_S, events=30_000)
    assert activities(deployment) == {"5": 30_000}
    last = deployment.read(deployment.names.agg)[-1]
    assert [name for name, _ in last.headers] == ["traceparent"]


@pytest.mark.long
def test_stream_time_moves_on_where_a_worker_applies_no_visits(cluster, tmp_path):
    """The app has one partition, the source two: the second worker reads a partition, and does not see the others'
    event times in what it applies."""
    deployment = Deployment.new(cluster, tmp_path)
    schema, names = deployment.make_source(2), deployment.names
    compacted = {"cleanup.policy": "compact"}
    deployment.declare(Topic(names.visits, 1, RETAINED), Topic(names.students_changelog, 1, compacted))
    at = int(time.time() * 1000) - YEAR
    with deployment.worker(1) as first, deployment.worker(2) as second:
        for worker in (first, second):
            worker.wait(ready, timeout=TIMEOUT_S)
        owner = until(lambda: [w for w in (first, second) if (w.stats() or {}).get("state_partitions")], len)[0]
        for partition in (0, 1):
            for _ in range(3):
                at += 24 * HOUR
                deployment.send(names.source, [visit(schema, student, at) for student in range(1, 5)], partition)
                owner.wait(lambda stats, at=at: stats["observed_ms"] == {"0": at}, timeout=TIMEOUT_S)


def test_stream_time_moves_on_while_a_partition_is_idle(cluster, tmp_path):
    """The idle partition's owner confirms again and again that it is read to its end."""
    deployment = Deployment.new(cluster, tmp_path)
    schema, source = deployment.make_source(3), deployment.names.source
    start = int(time.time() * 1000) - YEAR
    with deployment.worker() as worker:
        worker.wait(ready, timeout=TIMEOUT_S)
        for day in range(3):
            at = start + day * 24 * HOUR
            deployment.send(source, [visit(schema, student, at) for student in range(1, 30)], 1)
            worker.wait(
                lambda stats, at=at: (
                    {"0", "1", "2"} == set(stats["observed_ms"]) and set(stats["observed_ms"].values()) == {at}
                ),
                timeout=TIMEOUT_S,
            )
