"""A whole topic read back, as a consumer sees it that reads what is committed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition


class Record(NamedTuple):
    """One record."""

    key: bytes | None
    value: bytes | None
    at: int
    headers: Sequence[tuple[str, bytes]]


async def read_topic(broker: str, topic: str, partition: int = 0) -> list[Record]:
    """All committed records of one partition up to its end now, in order."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=broker, isolation_level="read_committed", max_partition_fetch_bytes=1 << 22
    )
    await consumer.start()
    try:
        tp = TopicPartition(topic, partition)
        consumer.assign([tp])
        end = (await consumer.end_offsets([tp]))[tp]
        consumer.seek(tp, (await consumer.beginning_offsets([tp]))[tp])
        records: list[Record] = []
        while await consumer.position(tp) < end:
            for some in (await consumer.getmany(timeout_ms=500)).values():
                records += [Record(r.key, r.value, r.timestamp, r.headers) for r in some]
        return records
    finally:
        await consumer.stop()
