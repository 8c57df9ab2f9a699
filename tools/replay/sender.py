"""Write a log into the source topic as Debezium would: same bytes, same partitions, in order of id.

Each partition gets its rows in the order of their ids. So the last record of each partition shows which rows
an earlier replay has written, and exactly those are skipped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

import httpx
import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from app.errors import ConfigError
from app.kafka import topics
from app.kafka.clients import new_consumer, new_producer
from app.kafka.producer import SentBatch, send_rows
from app.kafka.ranges import read_ranges
from app.kafka.registry_client import Login, RegistryClient, reason_of
from app.kafka.topic_limits import LARGE_BATCHES
from app.ops.preflight import connect
from app.settings import Settings
from codec.avro import HEADER
from codec.record import NO_HEADERS, Row
from models.murmur2 import partitions_of
from models.rules import Bools, Int64s
from tools.replay import debezium
from tools.replay.csv_file import UNITS
from tools.replay.log_rows import LogRows

#: number of rows encoded at once; the next ones are encoded while these are in flight
SLICE = 20_000
#: minimum wait between two slices if `speed` is limited [s]
MIN_WAIT_S = 0.05
#: timeout for reading the last record of a partition [s]
READ_TIMEOUT_S = 30.0
#: unlimited retention, so that an old replay stays complete
TOPIC_CONFIGS = {"cleanup.policy": "delete", "retention.ms": "-1"} | LARGE_BATCHES

#: record batches that are not acknowledged yet
InFlight = list[SentBatch]


class ReplayError(ConfigError):
    """The topic, the broker or the registry does not accept this log."""


@dataclass(frozen=True)
class ReplayPlan:
    """The rows left to send, their partitions and their schemas."""

    settings: Settings
    #: number of partitions of the topic
    partitions: int
    #: whether the topic was created for this replay
    created: bool
    #: schema ids of key and value
    ids: tuple[int, int]
    #: rows that are not in the topic yet [n]
    rows: LogRows
    #: the partition of each row [n]
    partition: Int64s
    #: number of rows that are in the topic already
    already_written: int


async def prepare(settings: Settings, rows: LogRows, *, partitions: int) -> ReplayPlan:
    """Register the schemas, create the source topic if needed, and find the rows it does not contain yet.

    An existing topic keeps its number of partitions. Raises ReplayError if it contains another log,
    ConfigError if a server does not answer.
    """
    topic = settings.source_topic
    created, count = await _ensure_topic(settings, partitions)
    ids = await register(settings, topic, debezium.schemas_of(topic, rows))
    partition = assign_partitions(rows, ids[0], count)
    last = {} if created else await last_records(settings, count)
    left = np.flatnonzero(not_yet_written(rows, partition, last, ids, unit_ms=settings.unit_ms))
    return ReplayPlan(settings, count, created, ids, rows.take(left), partition[left], len(rows) - len(left))


async def produce(
    plan: ReplayPlan, *, speed: float | None = None, advance: Callable[[int], object] = lambda rows: None
) -> None:
    """Send the plan's rows.

    speed: log seconds per second, None or 0 for no limit; advance: called with the number of rows newly
    acknowledged by the broker. Raises ReplayError.
    """

    async def acknowledged(batches: InFlight) -> None:
        for batch in batches:
            await batch.answer
            advance(batch.rows)

    producer = new_producer(plan.settings)
    await producer.start()
    previous: InFlight = []
    latest: InFlight = []
    try:
        async for start, stop in due_slices(plan.rows.written, speed):
            latest = await _send(producer, plan, slice(start, stop))
            await acknowledged(previous)
            previous, latest = latest, []
        await acknowledged(previous)
    except KafkaError as error:
        raise ReplayError(f"{plan.settings.broker} failed: {error!r}; run the replay again to continue it") from error
    finally:
        await producer.stop()
        await asyncio.gather(*(batch.answer for batch in previous + latest), return_exceptions=True)


async def register(settings: Settings, topic: str, schemas: debezium.Schemas) -> tuple[int, int]:
    """Register the topic's schemas if needed and return their ids (key, value)."""
    client = RegistryClient(settings.schema_registry, Login.of(settings))
    ids = []
    for subject, text in ((f"{topic}-key", schemas.key), (f"{topic}-value", schemas.value)):
        # client.register() would change the whitespace, and so the text Debezium registers
        path = f"subjects/{quote(subject, safe='')}/versions"
        try:
            answer = await client.post(path, {"schema": text, "schemaType": "AVRO"})
        except httpx.RequestError as error:
            raise ReplayError(f"no schema registry answers at {client.name}: {reason_of(error)}") from error
        if not answer.is_success:
            said = " ".join(answer.text.split())[:200]
            raise ReplayError(
                f"the schema registry {client.name} refused the schema of {subject}: HTTP {answer.status_code} {said}"
            )
        ids.append(int(answer.json()["id"]))
    return ids[0], ids[1]


async def _ensure_topic(settings: Settings, partitions: int) -> tuple[bool, int]:
    """Create the source topic if needed; return whether it was created, and its number of partitions."""
    topic = settings.source_topic
    admin = await connect(settings)
    try:
        existing = await topics.partitions_of(admin, [topic])
        if topic not in existing:
            await topics.declare(admin, [topics.Topic(topic, partitions, TOPIC_CONFIGS)], settings.replication)
        return topic not in existing, existing.get(topic, partitions)
    finally:
        await admin.close()


async def last_records(settings: Settings, count: int) -> dict[int, ConsumerRecord]:
    """Return the last record of each of the source topic's `count` partitions that has one."""
    topic = settings.source_topic
    consumer = new_consumer(
        settings,
        auto_offset_reset="none",
        # a fetch at the end of one partition delays the next partition's fetch by this time
        fetch_max_wait_ms=20,
    )
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, p) for p in range(count)]
        begin, end = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        last = {}
        for tp in partitions:
            record = await asyncio.wait_for(_last_record(consumer, tp, begin[tp], end[tp]), READ_TIMEOUT_S)
            if record is not None:
                last[tp.partition] = record
        return last
    except (TimeoutError, KafkaError) as error:
        raise ReplayError(f"the end of {topic} cannot be read: {error!r}") from error
    finally:
        await consumer.stop()


async def _last_record(consumer: AIOKafkaConsumer, tp: TopicPartition, begin: int, end: int) -> ConsumerRecord | None:
    """Return the last record from `begin` up to `end`, searching backwards over aborted records and markers."""
    back = 1
    while begin < end:
        start = max(begin, end - back)
        batches = [batch async for batch in read_ranges(consumer, {tp: start}, {tp: end})]
        records = [record for batch in batches for record in batch if record.offset < end]
        if records or start == begin:
            return records[-1] if records else None
        back *= 16
    return None


def assign_partitions(rows: LogRows, key_id: int, partitions: int) -> Int64s:
    """Return the partition of each row [n]: Kafka's default, from the key's bytes including the schema id."""
    parts = [
        partitions_of(debezium.keys(rows.take(slice(start, start + SLICE)), key_id), partitions)
        for start in range(0, len(rows), SLICE)
    ]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def not_yet_written(
    rows: LogRows,
    partition: Int64s,
    last: Mapping[int, ConsumerRecord],
    ids: tuple[int, int],
    *,
    unit_ms: int = 1,
) -> Bools:
    """Return which rows [n] come after the last record of their partition; last: that record by partition.

    Raises ReplayError if that record is not a row of this log: continuing would mix two logs.
    """
    result = np.ones(len(rows), np.bool_)
    for p, record in last.items():
        in_partition = np.flatnonzero(partition == p)
        where = f"{record.topic}, partition {p}, offset {record.offset}"
        last_id = debezium.id_of(record.key, ids[0])
        if last_id is None:
            raise ReplayError(f"{where}: a replay with schema id {ids[0]} does not write this key")
        written = int(np.searchsorted(rows.id[in_partition], last_id, "right"))
        if written and last_id <= rows.id[in_partition[-1]]:
            row = rows.take(in_partition[written - 1 : written])
            if not _is_row(record, row, ids[1], unit_ms):
                for unit, other_ms in UNITS.items():
                    if _is_row(record, row, ids[1], other_ms):
                        raise ReplayError(f"{where}: the log was replayed in {unit}: set RISK_TIME_UNIT={unit}")
                raise ReplayError(f"{where}: this is not row {last_id} of the log to be replayed")
        result[in_partition[:written]] = False
    return result


def _is_row(record: ConsumerRecord, row: LogRows, value_id: int, unit_ms: int) -> bool:
    """Whether a record is this row. The schema id is not compared: a new registry may have assigned another one."""
    expected = debezium.values(row, value_id, unit_ms=unit_ms)[0]
    return record.value is not None and expected[HEADER:] == record.value[HEADER:]


async def due_slices(
    written: Int64s,
    speed: float | None,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> AsyncIterator[tuple[int, int]]:
    """Yield slices of rows (start, stop), each when its rows are due.

    written: time at which each row was written [n] ms, non-decreasing; speed: log seconds per second, None
    or 0 for no limit.
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
            await sleep(max(MIN_WAIT_S, (written[start] - due) / speed / 1000))


async def _send(producer: AIOKafkaProducer, plan: ReplayPlan, part: slice) -> InFlight:
    """Pass rows to the producer, partition by partition; returns their batches."""
    rows, partition = plan.rows.take(part), plan.partition[part]
    keys = debezium.keys(rows, plan.ids[0])
    values = debezium.values(rows, plan.ids[1], unit_ms=plan.settings.unit_ms)
    now = int(time.time() * 1000)  # as Kafka Connect does: the record's timestamp is the time of sending
    sent: InFlight = []
    for p in np.unique(partition).tolist():
        records: list[Row] = [(now, keys[i], values[i], NO_HEADERS) for i in np.flatnonzero(partition == p).tolist()]
        sent += await send_rows(producer, plan.settings.source_topic, p, records)
    return sent
