"""The newest event time, for a worker that reads source partitions and applies no visits.

There is one if the source topic has more partitions than the app's own topics and there are more workers than those
have. It could not say as of when its partitions are read to their end (models/watermarks.py), and stream time would
wait for it. So it looks at the last visit batch in the topic now and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from app.kafka.clients import new_consumer
from app.settings import Settings
from models.rules import NEVER
from models.visit_batch import CorruptVisitBatch, NewerVisitBatch, decode

#: interval between two looks [s]; how long the record is waited for [ms]
INTERVAL_S, _WAIT_MS = 1.0, 500


class EventClock:
    """Reads the last visit batch of the first visits partition while that is needed. Mutable."""

    def __init__(self, settings: Settings, is_needed: Callable[[], bool]) -> None:
        """is_needed: whether this worker reads source partitions and applies no visits."""
        self._settings, self._is_needed = settings, is_needed
        self._consumer: AIOKafkaConsumer | None = None
        #: the newest event time that was seen [ms]
        self.newest = NEVER

    async def run(self) -> None:
        """Look every INTERVAL_S, until cancelled."""
        try:
            while True:
                # not for the moment of a rebalance
                needed = self._is_needed()
                await asyncio.sleep(INTERVAL_S)
                if not (needed and self._is_needed()):
                    await self._close()
                    continue
                try:
                    self.newest = max(self.newest, await self._look())
                except (KafkaError, OSError):
                    await self._close()
        finally:
            await self._close()

    async def _look(self) -> int:
        if self._consumer is None:
            self._consumer = new_consumer(self._settings)
            await self._consumer.start()
        consumer, tp = self._consumer, TopicPartition(self._settings.topic_names.visits, 0)
        consumer.assign([tp])
        end = (await consumer.end_offsets([tp]))[tp]
        if not end:
            return NEVER
        consumer.seek(tp, end - 1)
        fetched = await consumer.getmany(tp, timeout_ms=_WAIT_MS)
        return max((_newest(record.value) for record in fetched.get(tp, ())), default=NEVER)

    async def _close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()


def _newest(value: bytes | None) -> int:
    try:
        ranges = decode(value or b"").ranges
    except (CorruptVisitBatch, NewerVisitBatch):
        return NEVER
    return max((piece.watermark for piece in ranges), default=NEVER)
