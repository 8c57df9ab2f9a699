"""What the tests of a real worker share: names of their own on the common servers, and records in and out."""

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
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

import stack
from app.kafka import topics
from app.kafka.producer import last_offset, new_producer, send_rows
from app.settings import Settings
from codec.record import NO_HEADERS, Row
from models.topic_names import TopicNames
from tests.support.forked_worker import ForkedWorker
from tools.e2e.oracle import Truth, differences, recount, row_by_row
from tools.e2e.read_topic import Record, read_topic
from tools.e2e.workers import Worker
from tools.replay import debezium
from tools.replay.log_rows import LogRows
from tools.replay.sender import prepare, produce

T = TypeVar("T")

#: how long anything may take that ends well within it [s]
PATIENCE_S = 60.0
#: four-column rows as Debezium writes them
SCHEMA: dict[str, Any] = json.loads(debezium.schemas("a.b.log").value)
#: a Monday in October 2013 [epoch ms]
START = 1_381_104_000_000
HOUR = 3_600_000
#: what keeps a topic's rows for ever
KEPT = {"cleanup.policy": "delete", "retention.ms": "-1"}


def until(look: Callable[[], T], done: Callable[[T], object] = bool, *, timeout: float = PATIENCE_S) -> T:
    """Look again and again until `done` with what is seen; fails after `timeout` s."""
    give_up = time.monotonic() + timeout
    while not done(seen := look()):
        assert time.monotonic() < give_up, f"not so after {timeout:g} s; last seen: {seen}"
        time.sleep(0.02)
    return seen


def run(one: Awaitable[T]) -> T:
    """Wait for one coroutine, bounded."""

    async def bounded() -> T:
        return await asyncio.wait_for(one, PATIENCE_S)

    return asyncio.run(bounded())


def working(worker: Worker, visits: int = 1) -> dict[str, Any]:
    """Wait until a worker has applied so many visits of a backlog that is not over."""
    stats = worker.wait(lambda stats: stats["counts"].get("visits", 0) >= visits, timeout=PATIENCE_S)
    assert sum(stats["lag"].values()), "the backlog was over too soon"
    return stats


def finish(place: Place, number: int = 1, *, timeout: float = PATIENCE_S) -> None:
    """A last worker, in large steps to the end of the log."""
    with place.worker(number, RISK_BATCH_ROWS="40000") as worker:
        worker.wait_idle(timeout=timeout)
        assert worker.stop() == 0, worker.tail()


@dataclass(frozen=True)
class Place:
    """One test's own names, directory and worker settings on servers it shares with others."""

    servers: stack.Environment
    directory: Path
    #: RISK_ variables of its workers, without web port and data directory
    variables: Mapping[str, str]

    @classmethod
    def new(cls, servers: stack.Environment, directory: Path, **variables: str) -> Place:
        """Names that nobody used before; `variables` are put over what follows from them."""
        tag = f"live{uuid.uuid4().hex[:8]}"
        own = {
            **servers.settings,
            "RISK_APP_ID": tag,
            "RISK_SOURCE_TOPIC": f"{tag}.log",
            "RISK_TOPIC_PREFIX": f"{tag}-",
            "RISK_SESSION_TIMEOUT": "2",
        }
        return cls(servers, directory, {**own, **variables})

    @property
    def settings(self) -> Settings:
        return Settings.from_env(self.variables)

    @property
    def names(self) -> TopicNames:
        return self.settings.topic_names

    def worker(self, number: int = 1, *, forked: bool = True, **variables: str) -> Worker:
        """A worker, not started; each number has its own state and log, which the next one of that number finds.

        forked: start it from a process that has imported the app already (nursery.py); False: as a user would.
        """
        own = {"RISK_DATADIR": str(self.state(number))}
        kind = ForkedWorker if forked else Worker
        return kind({**self.variables, **own, **variables}, self.directory / f"worker-{number}.log")

    def state(self, number: int = 1) -> Path:
        """The data directory of a worker."""
        return self.directory / f"data-{number}"

    # -- topics

    def declare(self, *wanted: topics.Topic) -> None:
        """Create topics."""

        async def declared() -> None:
            admin = AIOKafkaAdminClient(bootstrap_servers=self.servers.broker)
            await admin.start()
            try:
                await topics.declare(admin, wanted, 1)
            finally:
                await admin.close()

        run(declared())

    def make_source(self, partitions: int = 1) -> int:
        """Create the source topic and register its schema; the schema's id."""
        self.declare(topics.Topic(self.names.source, partitions, KEPT))
        return self.register(SCHEMA)

    def send(self, topic: str, rows: Sequence[Row], partition: int = 0) -> None:
        """Write records, in order."""

        async def sent() -> None:
            producer = new_producer([self.servers.broker])
            await producer.start()
            try:
                await last_offset(await send_rows(producer, topic, partition, rows))
            finally:
                await producer.stop()

        run(sent())

    def read(self, topic: str, partition: int = 0) -> list[Record]:
        """All committed records."""
        return run(read_topic(self.servers.broker, topic, partition))

    def outputs(self) -> dict[str, list[Record]]:
        """The records of the four output topics, by their names without prefix."""
        names, prefix = self.names, self.settings.topic_prefix
        four = (names.sessions, names.agg, names.prediction, names.in_risk)
        return {topic.removeprefix(prefix): self.read(topic) for topic in four}

    def ends(self, *wanted: str) -> dict[str, int]:
        """The end of partition 0 of topics, whatever stands there."""

        async def ended() -> dict[str, int]:
            async with AIOKafkaConsumer(bootstrap_servers=self.servers.broker) as consumer:
                found = await consumer.end_offsets([TopicPartition(topic, 0) for topic in wanted])
                return {tp.topic: end for tp, end in found.items()}

        return run(ended())

    # -- schemas

    def register(self, schema: Mapping[str, Any], subject: str = "") -> int:
        """Give a schema to the registry, as the source topic's if no subject is named; its id."""
        url = f"{self.servers.registry}/subjects/{subject or self.names.source + '-value'}/versions"
        answer = httpx.post(url, json={"schema": json.dumps(schema)}, timeout=PATIENCE_S)
        assert answer.is_success, answer.text
        return int(answer.json()["id"])


def row(value: bytes | None, key: bytes | None = b"k", headers: Sequence[tuple[str, bytes]] = ()) -> Row:
    """A record to send, stamped with the time of sending."""
    return None, key, value, list(headers) or NO_HEADERS


def visit(schema_id: int, student: int, at: int) -> Row:
    """A row of the log, as Debezium writes it."""
    one = np.array([1])
    log = LogRows(one, one - 1, ("e",), one * student, one * at)
    return row(debezium.values(log, schema_id)[0])


# -- a log that many tests read


@dataclass(frozen=True)
class Course:
    """Months of a log in a topic of four partitions, and what must come of it."""

    topic: str
    rows: LogRows
    truth: Truth

    def wrong(self, place: Place, *, scored: bool = True) -> list[str]:
        """What differs from the recount in a place's output topics, row by row where there can be no doubt."""
        outputs = place.outputs()
        return differences(self.truth, outputs, scored) + row_by_row(outputs)


def months(*, students: int = 2_000, days: int = 120, sessions: int = 30_000, seed: int = 7) -> LogRows:
    """A log of about eight rows a session, its silences often just what joins or just what parts."""
    rng = np.random.default_rng(seed)
    size = rng.geometric(1 / 8, sessions)
    n = int(size.sum())
    begins = np.repeat(START + rng.integers(0, days * 24 * HOUR, sessions), size)
    gaps = rng.choice([0, 1_000, 47_000, 310_000, 900_000, 900_001], n, p=[0.05, 0.3, 0.3, 0.25, 0.05, 0.05])
    past = np.cumsum(gaps)
    at = begins + past - np.repeat(past[np.cumsum(size) - size], size)
    # a row is written when its request ends, so ids are nearly in time order
    order = np.argsort(at + rng.integers(0, 5_000, n), kind="stable")
    userid = np.repeat(rng.integers(1, students + 1, sessions), size)
    return LogRows(
        np.arange(1, n + 1), np.zeros(n, np.int64), (r"\core\event\course_viewed",), userid[order], at[order]
    )


def replayed(place: Place, rows: LogRows, partitions: int = 4) -> Course:
    """Put a log into the place's source topic, partitioned by id as Debezium does."""

    async def sent() -> None:
        await produce(await prepare(place.settings, rows, partitions=partitions))

    run(sent())
    return Course(place.names.source, rows, recount(zip(rows.userid.tolist(), rows.at.tolist(), strict=True)))
