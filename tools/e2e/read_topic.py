"""Reading whole topics back, as a read_committed consumer sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from aiokafka import TopicPartition

from app.kafka.clients import new_consumer
from app.kafka.ranges import read_ranges
from app.settings import Settings


class Record(NamedTuple):
    """One record."""

    key: bytes | None
    value: bytes | None
    #: timestamp [epoch ms]
    at: int
    headers: Sequence[tuple[str, bytes]]


async def read_topic(settings: Settings, topic: str, partition: int = 0) -> list[Record]:
    """Return all committed records of a partition up to its current end, in order."""
    consumer = new_consumer(settings, max_partition_fetch_bytes=1 << 22)
    await consumer.start()
    try:
        tp = TopicPartition(topic, partition)
        begins, ends = await consumer.beginning_offsets([tp]), await consumer.end_offsets([tp])
        records: list[Record] = []
        async for batch in read_ranges(consumer, begins, ends):
            records += [Record(r.key, r.value, r.timestamp, r.headers) for r in batch]
        return records
    finally:
        await consumer.stop()


async def read_outputs(settings: Settings) -> dict[str, list[Record]]:
    """Return the committed records of the four output topics, by topic name without prefix."""
    return await _read_all(settings, settings.topic_names.outputs)


async def read_risk(settings: Settings) -> dict[str, list[Record]]:
    """Return the committed records of the two topics of the risk, by topic name without prefix."""
    names = settings.topic_names
    return await _read_all(settings, (names.risk, names.risk_alerts))


async def _read_all(settings: Settings, topics: Sequence[str]) -> dict[str, list[Record]]:
    return {topic.removeprefix(settings.topic_prefix): await read_topic(settings, topic) for topic in topics}
