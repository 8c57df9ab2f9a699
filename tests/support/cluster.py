"""Helpers of the tests that run real workers: deployments on shared servers, and records to send and read back."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
from aiokafka import TopicPartition

import stack
from app.kafka import topics
from app.kafka.clients import new_admin, new_consumer, new_producer
from app.kafka.group_offsets import read_claims
from app.kafka.producer import last_offset, send_rows
from app.settings import Settings
from codec.record import NO_HEADERS, Row
from models.topic_names import TopicNames
from tests.support.forked_worker import ForkedWorker
from tools.e2e.chaos.workload import HOUR, MEAN_CLICKS, PACE_MS, START, generate_workload
from tools.e2e.oracle import ExpectedTables, differences, expected_tables, order_differences
from tools.e2e.read_topic import Record, read_outputs, read_topic
from tools.e2e.workers import Worker
from tools.replay import debezium
from tools.replay.log_rows import LogRows
from tools.replay.sender import prepare, produce

T = TypeVar("T")

#: upper bound for everything that a test waits for, on a busy machine [s]
TIMEOUT_S = 120.0
#: value schema of the log as Debezium registers it, four columns
SCHEMA: dict[str, Any] = json.loads(debezium.schemas("a.b.log").value)
#: topic configuration that never deletes a record
RETAINED = {"cleanup.policy": "delete", "retention.ms": "-1"}


def until(look: Callable[[], T], done: Callable[[T], object] = bool, *, timeout: float = TIMEOUT_S) -> T:
    """Call `look` until `done` accepts its result, and return it; fail after `timeout` s."""
    deadline = time.monotonic() + timeout
    while True:
        began = time.monotonic()
        if done(seen := look()):
            return seen
        now = time.monotonic()
        assert now < deadline, f"condition not reached within {timeout:g} s; last seen: {seen}"
        # reading a topic costs as much CPU as the worker needs to make progress: most of the time is the worker's
        time.sleep(max(0.02, 2 * (now - began)))


def run_async(coroutine: Awaitable[T]) -> T:
    """Run a coroutine to its end; fail after TIMEOUT_S."""

    async def bounded() -> T:
        return await asyncio.wait_for(coroutine, TIMEOUT_S)

    return asyncio.run(bounded())


def wait_for_visits(worker: Worker, visits: int = 1, *, timeout: float = TIMEOUT_S) -> dict[str, Any]:
    """Wait until a worker has applied that many visits since its start, with a backlog left. Return its /stats."""
    stats = worker.wait(lambda stats: stats["counts"].get("visits", 0) >= visits, timeout=timeout)
    assert sum(stats["lag"].values()), "no backlog is left"
    return stats


def run_to_end(deployment: Deployment, number: int = 1, *, timeout: float = TIMEOUT_S) -> None:
    """Process the rest of the log with a worker that uses large batches, and stop it."""
    with deployment.worker(number, RISK_BATCH_ROWS="40000") as worker:
        worker.wait_idle(timeout=timeout)
        assert worker.stop() == 0, worker.tail()


@dataclass(frozen=True)
class Deployment:
    """A deployment of the app for one test: its own topics, settings and directories on servers shared with others."""

    servers: stack.Environment
    directory: Path
    #: RISK_ variables of its workers, without web port and data directory
    variables: Mapping[str, str]

    @classmethod
    def new(cls, servers: stack.Environment, directory: Path, **variables: str) -> Deployment:
        """Return a deployment with unused names; `variables` override its settings."""
        tag = f"live{uuid.uuid4().hex[:8]}"
        own = {
            **servers.settings,
            "RISK_APP_ID": tag,
            "RISK_SOURCE_TOPIC": f"{tag}.log",
            "RISK_TOPIC_PREFIX": f"{tag}-",
            "RISK_SESSION_TIMEOUT": "2",
            "RISK_REGISTRY_PATIENCE": "1",
            # most tests are about the topics that KSQL has too: without ticks, which take time for each day of a log
            "RISK_MODEL": "v1",
        }
        return cls(servers, directory, {**own, **variables})

    @property
    def settings(self) -> Settings:
        return Settings.from_env(self.variables)

    @property
    def names(self) -> TopicNames:
        return self.settings.topic_names

    def worker(self, number: int = 1, *, forked: bool = True, **variables: str) -> Worker:
        """Return a worker that is not started yet. Workers of the same number share a data directory and a log.

        forked: fork it from a process that has already imported the app (forked_worker.py); False: start it as a
        user would.
        """
        own = {"RISK_DATADIR": str(self.state(number))}
        kind = ForkedWorker if forked else Worker
        return kind({**self.variables, **own, **variables}, self.directory / f"worker-{number}.log")

    def claims(self) -> dict[int, str]:
        """Return the transactional id that writes each partition of the table of students."""
        settings = self.settings

        async def read() -> dict[int, str]:
            admin = new_admin(settings)
            await admin.start()
            try:
                return await read_claims(admin, settings.app_id, settings.topic_names.visits, TIMEOUT_S)
            finally:
                await admin.close()

        return run_async(read())

    def state(self, number: int = 1) -> Path:
        """Return the data directory of a worker."""
        return self.directory / f"data-{number}"

    # -- topics

    def declare(self, *wanted: topics.Topic) -> None:
        """Create topics."""

        async def declare() -> None:
            admin = new_admin(self.settings)
            await admin.start()
            try:
                await topics.declare(admin, wanted, self.settings.replication)
            finally:
                await admin.close()

        run_async(declare())

    def make_source(self, partitions: int = 1) -> int:
        """Create the source topic and register its schema. Return the schema's id."""
        self.declare(topics.Topic(self.names.source, partitions, RETAINED))
        return self.register(SCHEMA)

    def send(self, topic: str, rows: Sequence[Row], partition: int = 0) -> None:
        """Write records in order."""

        async def send() -> None:
            producer = new_producer(self.settings)
            await producer.start()
            try:
                await last_offset(await send_rows(producer, topic, partition, rows))
            finally:
                await producer.stop()

        run_async(send())

    def read(self, topic: str, partition: int = 0) -> list[Record]:
        """Return all committed records of a partition."""
        return run_async(read_topic(self.settings, topic, partition))

    def outputs(self) -> dict[str, list[Record]]:
        """Return the records of the four output topics, by topic name without prefix."""
        return run_async(read_outputs(self.settings))

    def ends(self, *wanted: str) -> dict[str, int]:
        """Return the end offset of partition 0 of each topic, uncommitted records included."""

        async def ends() -> dict[str, int]:
            async with new_consumer(self.settings, isolation_level="read_uncommitted") as consumer:
                offsets = await consumer.end_offsets([TopicPartition(topic, 0) for topic in wanted])
                return {tp.topic: end for tp, end in offsets.items()}

        return run_async(ends())

    # -- schemas

    def register(self, schema: Mapping[str, Any], subject: str = "") -> int:
        """Register a schema, by default as the source topic's value schema. Return its id."""
        url = f"{self.servers.registry}/subjects/{subject or self.names.source + '-value'}/versions"
        response = httpx.post(url, json={"schema": json.dumps(schema)}, timeout=TIMEOUT_S, trust_env=False)
        assert response.is_success, response.text
        return int(response.json()["id"])


def row(value: bytes | None, key: bytes | None = b"k", headers: Sequence[tuple[str, bytes]] = ()) -> Row:
    """Return a record to send; its timestamp is the time of sending."""
    return None, key, value, list(headers) or NO_HEADERS


def visit(schema_id: int, student: int, at: int) -> Row:
    """Return a row of the log as Debezium writes it."""
    unit = np.array([1])
    log = LogRows(unit, unit - 1, ("e",), unit * student, unit * at)
    return row(debezium.values(log, schema_id)[0])


# -- logs that several tests read


@dataclass(frozen=True)
class Workload:
    """A log in a topic, and the tables that must result from it."""

    topic: str
    rows: LogRows
    expected: ExpectedTables

    def differences(self, deployment: Deployment, *, scored: bool = True) -> list[str]:
        """Compare a deployment's output topics with the oracle: the final tables and the order of the rows."""
        outputs = deployment.outputs()
        return differences(self.expected, outputs, scored) + order_differences(outputs)


def months_of_rows(*, students: int = 2_000, days: int = 120, sessions: int = 30_000, seed: int = 7) -> LogRows:
    """Return a log in time order but for the few seconds between a request and its row."""
    seconds = days * 24 * HOUR / PACE_MS
    return generate_workload(seed, sessions * MEAN_CLICKS, seconds, students, delays_ms={5_000: 1.0})


def replay_rows(deployment: Deployment, rows: LogRows, partitions: int = 4) -> Workload:
    """Write a log to the deployment's source topic, partitioned by id as Debezium does."""

    async def send() -> None:
        await produce(await prepare(deployment.settings, rows, partitions=partitions))

    run_async(send())
    expected = expected_tables(zip(rows.userid.tolist(), rows.at.tolist(), strict=True))
    return Workload(deployment.names.source, rows, expected)


__all__ = [
    "HOUR",
    "RETAINED",
    "SCHEMA",
    "START",
    "TIMEOUT_S",
    "Deployment",
    "Workload",
    "months_of_rows",
    "replay_rows",
    "row",
    "run_async",
    "run_to_end",
    "until",
    "visit",
    "wait_for_visits",
]
