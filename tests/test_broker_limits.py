"""What brokers do to a worker's rows by their limits: refused times, small batches, forgotten transactional ids.

The module's broker forgets transactional ids after a moment of rest, and has Kafka 4's limit for times ahead.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

import stack
import stack.kafka
from app.errors import ConfigError
from app.kafka import topics
from app.kafka.topic_limits import AFTER, BEFORE
from app.ops.preflight import preflight
from tests.support.cluster import TIMEOUT_S, Deployment, run_async, until, visit

pytestmark = pytest.mark.broker

HOUR = 3_600_000
#: rest after which the broker has forgotten transactional ids and producer ids [s]
REST_S = 4.0
BROKER = {
    "transactional.id.expiration.ms": 1500,
    "transaction.remove.expired.transaction.cleanup.interval.ms": 500,
    "producer.id.expiration.ms": 1500,
    "producer.id.expiration.check.interval.ms": 500,
    "log.message.timestamp.after.max.ms": HOUR,
    "log.message.timestamp.before.max.ms": HOUR,
    "message.max.bytes": 300_000,
}


@pytest.fixture(scope="module")
def strict_cluster(servers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Environment]:
    """A broker with tight limits."""
    directory = tmp_path_factory.mktemp("strict")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stack.kafka, "SETTINGS", {**stack.kafka.SETTINGS, **BROKER})
        environment = stack.up(directory, owner_pid=os.getpid())
    yield environment
    stack.down(directory)


def activities(deployment: Deployment) -> dict[int, int]:
    """Return the events of each student, by the last roll-up row."""
    rows = [json.loads(record.value) for record in deployment.read(deployment.names.agg) if record.value]
    return {row["USERID"]: row["ACTIVITIES"] for row in rows}


def test_a_worker_goes_on_after_a_rest(strict_cluster: stack.Environment, tmp_path: Path) -> None:
    """Rows of the far past and future count, and so do those that come after Kafka has forgotten the producers."""
    deployment = Deployment.new(strict_cluster, tmp_path)
    schema, source = deployment.make_source(2), deployment.names.source
    now = int(time.time() * 1000)
    with deployment.worker() as worker:
        worker.wait(lambda stats: stats["problem"] is None, timeout=TIMEOUT_S)
        time.sleep(REST_S)
        # of two students, in different partitions
        deployment.send(source, [visit(schema, 7, 5_000), visit(schema, 7, HOUR), visit(schema, 8, HOUR)])
        until(lambda: activities(deployment), lambda seen: seen == {7: 2, 8: 1})
        time.sleep(REST_S)
        deployment.send(source, [visit(schema, 7, now + 2 * HOUR), visit(schema, 8, now + 2 * HOUR)])
        until(lambda: activities(deployment), lambda seen: seen == {7: 3, 8: 2})
        assert worker.stop() == 0
    text = worker.log.read_text()
    assert "Kafka has forgotten the transactional id, starting it again" in text
    assert "another worker has taken over" not in text
    assert "Traceback" not in text


def set_configs(deployment: Deployment, topic: str, configs: dict[str, str]) -> None:
    """Set the whole configuration of a topic."""

    async def alter() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=deployment.servers.broker)
        await admin.start()
        try:
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs)])
        finally:
            await admin.close()

    run_async(alter())


def start_error(deployment: Deployment) -> str:
    """Return the error with which the checks before the start end."""
    with pytest.raises(ConfigError) as error:
        asyncio.run(preflight(deployment.settings))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_time_that_a_topic_refuses_ends_the_worker_and_counts_afterwards(deployment: Deployment) -> None:
    """Whoever narrows a topic's limit is told which setting; nothing is lost, and nothing comes twice."""
    schema, names = deployment.make_source(), deployment.names
    (wanted,) = (topic for topic in topics.wanted(names, 1) if topic.name == names.sessions)
    now = int(time.time() * 1000)
    with deployment.worker() as worker:
        worker.wait(lambda stats: stats["problem"] is None, timeout=TIMEOUT_S)
        deployment.send(names.source, [visit(schema, 7, now)])
        until(lambda: activities(deployment), lambda seen: seen == {7: 1})
        set_configs(deployment, names.sessions, wanted.configs | {AFTER: str(HOUR)})
        deployment.send(names.source, [visit(schema, 7, now + 2 * HOUR), visit(schema, 8, now)])
        until(lambda: worker.running, lambda running: not running)
        assert worker.process.returncode == 1
    (line,) = [line for line in worker.log.read_text().splitlines() if line.startswith("moodle-risk: gave up")]
    assert f"RefusedRows: topic {names.sessions} partition 0: the broker refuses rows (INVALID_TIMESTAMP)" in line
    assert f"--add-config {BEFORE}=" in line
    assert AFTER in line
    error = start_error(deployment)
    assert error.startswith(f"topic {names.sessions} has {AFTER}={HOUR}: rows carry event time")
    assert f"kafka-configs --alter --add-config {AFTER}=" in error
    set_configs(deployment, names.sessions, wanted.configs)
    with deployment.worker() as worker:
        until(lambda: activities(deployment), lambda seen: seen == {7: 2, 8: 1})
        assert worker.stop() == 0
    # what it committed names the settings (app/kafka/group_offsets.py)
    for variable, value, was in (
        ("RISK_TIME_UNIT", "s", "ms"),
        ("RISK_TOPIC_PREFIX", "other-", repr(deployment.settings.topic_prefix)),
        ("RISK_SOURCE_TOPIC", names.sessions, names.source),
    ):
        changed = replace(deployment, variables={**deployment.variables, variable: value})
        assert start_error(changed).startswith(f"{variable} was {was} so far, and is "), variable


def test_topics_made_by_hand_that_refuse_rows_are_named(deployment: Deployment) -> None:
    """All of them in one line, with each setting; a topic that replaces event time is a warning."""
    deployment.make_source()
    names, kept = deployment.names, {"cleanup.policy": "delete", "retention.ms": "-1"}
    deployment.declare(
        topics.Topic(names.sessions, 1, kept | {BEFORE: str(365 * 24 * HOUR)}),
        topics.Topic(names.prediction, 1, kept | {BEFORE: str(365 * 24 * HOUR)}),
        topics.Topic(names.in_risk, 1, kept | {"message.timestamp.difference.max.ms": "1000"}),
        topics.Topic(names.dead_letters, 1, kept | {"max.message.bytes": "500000", AFTER: str(HOUR)}),
    )
    error = start_error(deployment)
    assert f"topic {names.sessions}, {names.prediction} has {BEFORE}=31536000000" in error
    assert f"topic {names.in_risk} has message.timestamp.difference.max.ms=1000" in error
    assert f"topic {names.dead_letters} has max.message.bytes=500000" in error
    assert AFTER not in error, "dead letters have the time of writing"


def test_too_few_replicas_are_said(deployment: Deployment, caplog: pytest.LogCaptureFixture) -> None:
    """Kafka 3.7 and later write a topic with fewer replicas than min.insync.replicas, so it is a warning there."""
    deployment.make_source()
    configs = {"cleanup.policy": "delete", "retention.ms": "-1", "message.timestamp.type": "LogAppendTime"}
    deployment.declare(topics.Topic(deployment.names.sessions, 1, configs | {"min.insync.replicas": "2"}))
    asyncio.run(preflight(deployment.settings))
    text = caplog.text
    assert f"topic {deployment.names.sessions} has 1 of the 2 replicas that min.insync.replicas demands" in text
    assert f"topic {deployment.names.sessions} has message.timestamp.type=LogAppendTime" in text
