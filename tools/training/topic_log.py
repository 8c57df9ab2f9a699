"""The log in the source topic, up to its end, read as a worker reads it: committed records only."""

from __future__ import annotations

from collections import Counter

import numpy as np
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from app.errors import ConfigError
from app.kafka import topics
from app.kafka.clients import new_consumer
from app.kafka.ranges import read_ranges
from app.kafka.registry import SchemaRegistry
from app.kafka.registry_client import Login
from app.ops.preflight import check_schema, connect
from app.ops.source_schema import counting_rules, source_schema
from app.settings import Settings
from codec.moodle_log import LogDecoder
from models.chunk import Chunk
from models.visits import Visits, concatenate
from tools.training.counted_log import CountedLog, of_visits

#: how long the registry may take to answer [s]
PATIENCE_S = 30.0


async def read_log(settings: Settings) -> CountedLog:
    """Read the topic RISK_SOURCE_TOPIC; rows of all partitions are put in order of their time.

    Raises ConfigError if a server does not answer, if the topic does not exist, or if its schema cannot be used.
    """
    try:
        visits, not_counted = await _read(settings)
    except KafkaError as error:
        raise ConfigError(f"{settings.broker} (RISK_BROKER) failed: {error!r}") from error
    return of_visits(visits.take(np.argsort(visits.at, kind="stable")), not_counted)


async def _read(settings: Settings) -> tuple[Visits, dict[str, int]]:
    partitions = [TopicPartition(settings.source_topic, p) for p in range(await _partitions(settings))]
    consumer = new_consumer(settings, max_partition_fetch_bytes=1 << 22)
    await consumer.start()
    try:
        begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        decoder = await _decoder(settings, len(partitions))
        parts: list[Visits] = []
        not_counted: Counter[str] = Counter()
        async for batch in read_ranges(consumer, begins, ends):
            tp = TopicPartition(batch[0].topic, batch[0].partition)
            records = [record for record in batch if record.offset < ends[tp]]
            offsets = [record.offset for record in records]
            if not offsets:
                continue
            chunk = Chunk(
                tp.topic, tp.partition, offsets, [None] * len(offsets), [record.value for record in records],
                offsets[0], offsets[-1] + 1, ends[tp],
            )  # fmt: skip
            decoded = await decoder.decode(chunk)
            if decoded.judged is not None:
                not_counted.update(decoded.judged.not_counted())
            not_counted.update(reject.reason for reject in decoded.rejects)
            parts.append(decoded.visits(chunk))
        return concatenate(parts), dict(not_counted)
    finally:
        await consumer.stop()


async def _partitions(settings: Settings) -> int:
    """The number of partitions of the source topic. Raises ConfigError if it does not exist."""
    admin = await connect(settings)
    try:
        existing = await topics.partitions_of(admin, [settings.source_topic])
    finally:
        await admin.close()
    if settings.source_topic not in existing:
        raise ConfigError(
            f"topic {settings.source_topic} does not exist on {settings.broker}: set RISK_SOURCE_TOPIC, or use --log"
        )
    return existing[settings.source_topic]


async def _decoder(settings: Settings, partitions: int) -> LogDecoder:
    """The decoder of a worker with these settings."""
    registry = SchemaRegistry(settings.schema_registry, Login.of(settings), patience_s=PATIENCE_S)
    found = await source_schema(settings, registry, partitions, PATIENCE_S)
    declared = check_schema(settings, found.schema, found.origin)
    return LogDecoder(registry, declared, unit_ms=settings.unit_ms, counting=counting_rules(settings, declared))
