"""Write a log into the source topic as Debezium would: same bytes, same partitions, in order of id.

Each partition gets its rows in the order of their ids, so the last record of a partition says how far
an earlier replay came: what is there already is left out, exactly.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from schema_registry.client import AsyncSchemaRegistryClient

from app.errors import ConfigError
from app.kafka import topics
from app.kafka.producer import new_producer, send_rows
from app.ops.preflight import connect
from app.settings import Settings
from codec.avro import HEADER
from codec.record import NO_HEADERS, Row
from models.murmur2 import partitions_of
from models.rules import Bools, Int64s
from tools.replay import debezium
from tools.replay.log_rows import LogRows

#: rows encoded at once; while they are on their way the next are encoded
SLICE = 20_000
#: shortest wait between two slices when time is kept [s]
TICK_S = 0.05
#: how long the last record of a partition may take to arrive [s]
READ_S = 30.0
#: a topic made for a replay is kept whole, however long ago the replay was
KEPT = {"cleanup.policy": "delete", "retention.ms": "-1"}

#: batches under way, and how many rows each has
Flying = list[tuple[Awaitable[Any], int]]


class ReplayError(ConfigError):
    """The topic, the broker or the registry cannot take this log."""


@dataclass(frozen=True)
class Plan:
    """What is left to send, and how."""

    settings: Settings
    #: how many the topic has
    partitions: int
    #: whether the topic was made for this replay
    created: bool
    #: the registry's ids of the schemas of key and value
    ids: tuple[int, int]
    #: rows not in the topic yet [n]
    rows: LogRows
    #: the partition of each [n]
    partition: Int64s
    #: rows that are there already
    present: int


async def prepare(settings: Settings, rows: LogRows, *, partitions: int) -> Plan:
    """Register the schemas, make the source topic where it is missing, and find what it still lacks.

    A topic that exists keeps its number of partitions. Raises ReplayError where it holds another log,
    ConfigError where a server does not answer.
    """
    topic = settings.source_topic
    created, count = await _open(settings, partitions)
    ids = await register(settings.schema_registry, topic, debezium.schemas(topic, frozenset(rows.nulls)))
    where = assign(rows, ids[0], count)
    last = {} if created else await last_records(settings.brokers, topic, count)
    left = np.flatnonzero(missing(rows, where, last, ids, unit_ms=settings.unit_ms))
    return Plan(settings, count, created, ids, rows.take(left), where[left], len(rows) - len(left))


async def produce(
    plan: Plan, *, speed: float | None = None, advance: Callable[[int], object] = lambda rows: None
) -> None:
    """Send the plan's rows. `speed`: seconds of the log a second, None or 0 as fast as it goes.

    `advance` is told how many more rows the broker has acknowledged. Raises ReplayError.
    """

    async def arrived(batches: Flying) -> None:
        for batch, rows in batches:
            await batch
            advance(rows)

    producer = new_producer(plan.settings.brokers)
    await producer.start()
    before: Flying = []
    ahead: Flying = []
    try:
        async for start, stop in slices(plan.rows.written, speed):
            ahead = await _send(producer, plan, slice(start, stop))
            await arrived(before)
            before, ahead = ahead, []
        await arrived(before)
    except KafkaError as error:
        raise ReplayError(f"{plan.settings.broker} failed: {error!r}; started again it goes on") from error
    finally:
        await producer.stop()
        await asyncio.gather(*(batch for batch, _ in before + ahead), return_exceptions=True)


async def register(schema_registry: str, topic: str, schemas: debezium.Schemas) -> tuple[int, int]:
    """The registry's ids of the topic's schemas, which are registered where they are new."""
    client = AsyncSchemaRegistryClient(schema_registry)
    ids = []
    for subject, text in ((f"{topic}-key", schemas.key), (f"{topic}-value", schemas.value)):
        # not client.register(): it would send the schema with other spaces than Debezium's
        url = f"{schema_registry.rstrip('/')}/subjects/{quote(subject, safe='')}/versions"
        try:
            answer = await client.request(url, "POST", {"schema": text, "schemaType": "AVRO"})
        except httpx.RequestError as error:
            raise ReplayError(f"no schema registry answers at {schema_registry}: {error!r}") from error
        if not answer.is_success:
            raise ReplayError(f"the registry refuses the schema of {subject}: {answer.text}")
        ids.append(int(answer.json()["id"]))
    return ids[0], ids[1]


async def _open(settings: Settings, partitions: int) -> tuple[bool, int]:
    """Whether the source topic had to be made, and how many partitions it has."""
    topic = settings.source_topic
    admin = await connect(settings)
    try:
        found = await topics.partitions_of(admin, [topic])
        if topic not in found:
            await topics.declare(admin, [topics.Topic(topic, partitions, KEPT)], settings.replication)
        return topic not in found, found.get(topic, partitions)
    finally:
        await admin.close()


async def last_records(brokers: list[str], topic: str, count: int) -> dict[int, ConsumerRecord]:
    """The last record of each of the topic's `count` partitions, of those that have one."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=brokers,
        auto_offset_reset="none",
        isolation_level="read_committed",
        # a fetch at the end of one partition holds up that of the next for so long
        fetch_max_wait_ms=20,
    )
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, p) for p in range(count)]
        begin, end = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        last = {}
        for tp in partitions:
            consumer.assign([tp])
            record = await asyncio.wait_for(_last(consumer, tp, begin[tp], end[tp]), READ_S)
            if record is not None:
                last[tp.partition] = record
        return last
    except (TimeoutError, KafkaError) as error:
        raise ReplayError(f"the end of {topic} cannot be read: {error!r}") from error
    finally:
        await consumer.stop()


async def _last(consumer: AIOKafkaConsumer, tp: TopicPartition, begin: int, end: int) -> ConsumerRecord | None:
    """The last record from `begin` up to `end`: steps back where aborted or markers end the log."""
    back = 1
    while begin < end:
        start = max(begin, end - back)
        consumer.seek(tp, start)
        last = None
        while await consumer.position(tp) < end:
            for record in (await consumer.getmany(tp, timeout_ms=100)).get(tp, ()):
                last = record if record.offset < end else last
        if last is not None or start == begin:
            return last
        back *= 16
    return None


def assign(rows: LogRows, key_id: int, partitions: int) -> Int64s:
    """The partition of each row [n]: Kafka's default, over the key's bytes with their header."""
    where = [
        partitions_of(debezium.keys(rows.take(slice(start, start + SLICE)), key_id), partitions)
        for start in range(0, len(rows), SLICE)
    ]
    return np.concatenate(where) if where else np.empty(0, np.int64)


def missing(
    rows: LogRows,
    partition: Int64s,
    last: Mapping[int, ConsumerRecord],
    ids: tuple[int, int],
    *,
    unit_ms: int = 1,
) -> Bools:
    """Which rows [n] come after the `last` record of their partition.

    Raises ReplayError where that record is no row of this log: sending on would mix two logs.
    """
    lacking = np.ones(len(rows), np.bool_)
    for p, record in last.items():
        mine = np.flatnonzero(partition == p)
        place = f"{record.topic}, partition {p}, offset {record.offset}"
        last_id = debezium.id_of(record.key, ids[0])
        if last_id is None:
            raise ReplayError(f"{place}: the key is not one that a replay with schema id {ids[0]} writes")
        there = int(np.searchsorted(rows.id[mine], last_id, "right"))
        if there and last_id <= rows.id[mine[-1]]:
            same = debezium.values(rows.take(mine[there - 1 : there]), ids[1], unit_ms=unit_ms)[0]
            # ids of value schemas may differ: a registry that was set up anew gives others
            if record.value is None or same[HEADER:] != record.value[HEADER:]:
                raise ReplayError(f"{place}: this is not row {last_id} of the log to be replayed")
        lacking[mine[:there]] = False
    return lacking


async def slices(
    written: Int64s,
    speed: float | None,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> AsyncIterator[tuple[int, int]]:
    """Which rows to send next, as (start, stop), each when it is due.

    written: when each row was written [n] ms, non-decreasing; speed: seconds of it a second.
    """
    began, start = clock(), 0
    while start < len(written):
        stop = min(start + SLICE, len(written))
        if speed:
            due = written[0] + (clock() - began) * speed * 1000
            stop = min(stop, int(np.searchsorted(written, due, "right")))
        if stop > start:
            yield start, stop
            start = stop
        elif speed:
            await sleep(max(TICK_S, (written[start] - due) / speed / 1000))


async def _send(producer: AIOKafkaProducer, plan: Plan, part: slice) -> Flying:
    """Hand rows to the producer, partition by partition; their batches."""
    rows, partition = plan.rows.take(part), plan.partition[part]
    keys = debezium.keys(rows, plan.ids[0])
    values = debezium.values(rows, plan.ids[1], unit_ms=plan.settings.unit_ms)
    now = int(time.time() * 1000)  # as Connect does: the record's time is the producer's
    sent: Flying = []
    for p in np.unique(partition).tolist():
        records: list[Row] = [(now, keys[i], values[i], NO_HEADERS) for i in np.flatnonzero(partition == p).tolist()]
        sent += await send_rows(producer, plan.settings.source_topic, p, records)
    return sent
