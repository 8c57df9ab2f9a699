"""The streams' view of the real Kafka: frames and dead letters out, state partitions, commits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer

from app.kafka.driver import Consumer
from app.kafka.producer import last_offset, new_producer, send_rows
from app.state.partition import OwnedPartitions, Partition
from codec.dead_letters import DeadLetter
from codec.record import NO_HEADERS
from models.chunk import Chunk


class KafkaLog:
    """Implements agents.ports.Log. Mutable: holds the producer of frames while the worker runs."""

    def __init__(
        self, brokers: Sequence[str], visits: str, dead_letters: str, students: OwnedPartitions, alerts: OwnedPartitions
    ) -> None:
        self._brokers = brokers
        self._visits, self._dead_letters = visits, dead_letters
        self.owned_students, self.owned_alerts = students, alerts
        self._producer: AIOKafkaProducer | None = None
        self._consumer: Consumer | None = None

    async def start(self, consumer: Consumer) -> None:
        """Connect the producer of frames and dead letters."""
        self._consumer = consumer
        self._producer = new_producer(self._brokers)
        await self._producer.start()

    async def release(self) -> None:
        """Let flushes under way finish, and own no state partition."""
        await asyncio.gather(self.owned_students.release(), self.owned_alerts.release())

    async def stop(self) -> None:
        """Settle, and disconnect."""
        await self.release()
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    async def send_visits(self, visit_batches: Sequence[Sequence[bytes]]) -> None:
        """Write frames to each of the visits partitions; returns when all are acknowledged."""
        sent = []
        for partition, some in enumerate(visit_batches):
            # one batch a frame: two of the largest would not fit the broker's limit
            for visit_batch in some:
                sent += await send_rows(self._running, self._visits, partition, [(None, None, visit_batch, NO_HEADERS)])
        await last_offset(sent)

    async def send_dead_letters(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Keep records that could not be used."""
        rows = [letter.row for letter in dead_letters]
        await last_offset(await send_rows(self._running, self._dead_letters, 0, rows))

    @property
    def _running(self) -> AIOKafkaProducer:
        assert self._producer is not None, "the worker has not started"
        return self._producer

    def processed(self, chunk: Chunk) -> None:
        """Everything that follows from `chunk` is written."""
        if self._consumer is not None:
            self._consumer.processed(chunk)

    def hold(self, topic: str, partition: int, held: bool) -> None:
        """Stop or go on fetching a source partition."""
        if self._consumer is not None:
            (self._consumer.pause if held else self._consumer.resume)(topic, partition)

    def students(self, partition: int) -> Partition | None:
        """The state of a visits partition, None if it is not ours now."""
        return self.owned_students.get(partition)

    def alerts(self) -> Partition | None:
        """The state of `alert`, None if it is not ours now."""
        return self.owned_alerts.get(0)
