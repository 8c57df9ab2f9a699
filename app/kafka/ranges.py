"""Reading parts of a topic, apart from the consumer group: up to offsets that are known before."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

#: how long one request waits for records [ms]
_WAIT_MS = 500


async def read_ranges(
    consumer: AIOKafkaConsumer,
    starts: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    *,
    timeout_s: float = math.inf,
) -> AsyncIterator[list[ConsumerRecord]]:
    """Yield the records of each partition from its start on, until all have been read to their ends, or timeout_s.

    A list has records of one partition, in order; the last ones may lie behind the end. Assigns the partitions.
    """
    consumer.assign(list(starts))
    for tp, start in starts.items():
        consumer.seek(tp, start)
    unread = {tp for tp, start in starts.items() if start < ends[tp]}
    deadline = time.monotonic() + timeout_s
    while unread and time.monotonic() < deadline:
        for records in (await consumer.getmany(*unread, timeout_ms=_WAIT_MS)).values():
            yield records
        unread = {tp for tp in unread if await consumer.position(tp) < ends[tp]}
