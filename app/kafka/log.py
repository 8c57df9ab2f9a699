"""The agents' log on Kafka: visit batches and dead letters out, owned state partitions, acknowledgements."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TypeVar

from aiokafka import AIOKafkaProducer

from agents.ports import StatePartition
from app.kafka.clients import new_producer
from app.kafka.cohort_sums import CohortSums
from app.kafka.consumer import Consumer
from app.kafka.event_clock import EventClock
from app.kafka.producer import last_offset, send_rows
from app.ops.failpoints import failpoints
from app.settings import Settings
from app.state.owned import OwnedPartitions
from app.state.partition import Partition
from codec.dead_letters import DeadLetter
from codec.record import NO_HEADERS
from models.chunk import Chunk
from models.cohorts import Cohorts
from models.rules import NEVER

T = TypeVar("T")


class KafkaLog:
    """Implements agents.ports.Log. Mutable: holds the consumer and a producer while the worker runs."""

    def __init__(
        self, settings: Settings, students: OwnedPartitions, alerts: OwnedPartitions, *, cohorts_of: int = 0
    ) -> None:
        """cohorts_of: the number of visits partitions whose cohort sums are read, 0 for none."""
        self._settings, names = settings, settings.topic_names
        self._visits, self._dead_letters = names.visits, names.dead_letters
        self.owned_students, self.owned_alerts = students, alerts
        self._producer: AIOKafkaProducer | None = None
        self._consumer: Consumer | None = None
        self._clock = EventClock(settings, self._applies_no_visits)
        self._sums = CohortSums(settings, cohorts_of)
        self._following: list[asyncio.Task[None]] = []

    async def start(self, consumer: Consumer) -> None:
        """Connect the producer of visit batches and dead letters."""
        self._consumer = consumer
        self._producer = new_producer(self._settings)
        await self._producer.start()
        self._following = [asyncio.create_task(self._clock.run()), asyncio.create_task(self._sums.run())]

    async def release(self) -> None:
        """Let flushes finish, and own no state partition from now on."""
        await asyncio.gather(self.owned_students.release(), self.owned_alerts.release())

    @property
    def sums_read(self) -> int:
        """Offset up to which the topic of cohort sums is read: it grows with each tick of any partition."""
        return self._sums.position

    def fenced(self) -> list[str]:
        """Return the state partitions that this worker can no longer write although they are assigned to it."""
        return [*self.owned_students.fenced(), *self.owned_alerts.fenced()]

    def newest_event_time(self) -> int:
        """Return the largest event time that this worker has applied or seen [ms]; NEVER before the first."""
        positions = (partition.loaded_position for partition in self.owned_students.all())
        applied = max((p.watermarks.newest for p in positions if p is not None), default=NEVER)
        return max(applied, self._clock.newest)

    def _applies_no_visits(self) -> bool:
        return self._consumer is not None and self._consumer.has_sought() and not any(self.owned_students.all())

    async def stop(self) -> None:
        """Release the state partitions, and disconnect."""
        await self.release()
        for task in self._following:
            task.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    async def send_visits(self, visit_batches: Sequence[Sequence[bytes]]) -> None:
        """Write visit batches to each of the visits partitions; return when all are acknowledged."""
        producer = self._running(self._producer)
        sent = []
        for partition, batches in enumerate(visit_batches):
            if not batches:
                continue
            # in one record batch if they fit: a second one would wait for the answer to the first, and come as a chunk
            # of its own
            rows = [(None, None, batch, NO_HEADERS) for batch in batches]
            sent += await send_rows(producer, self._visits, partition, rows)
        await last_offset(sent)
        await failpoints.at("framed")

    async def send_dead_letters(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Write dead letters; return when all are acknowledged."""
        rows = [dead_letter.row for dead_letter in dead_letters]
        await last_offset(await send_rows(self._running(self._producer), self._dead_letters, 0, rows))

    async def processed(self, chunk: Chunk) -> None:
        """Mark a chunk as processed: its offsets may be committed."""
        self._running(self._consumer).processed(chunk)
        if chunk.topic == self._visits:
            await failpoints.at("processed")

    def pause(self, topic: str, partition: int, waits_for: str = "") -> None:
        """Stop fetching a partition; see agents.ports.Log."""
        self._running(self._consumer).pause(topic, partition, waits_for)

    def resume(self, topic: str, partition: int) -> None:
        """Fetch a partition again."""
        self._running(self._consumer).resume(topic, partition)

    async def cohorts(self, partition: StatePartition, days: Sequence[int]) -> Mapping[int, Cohorts] | None:
        """Return the cohort sums of all visits partitions as of `days`; see agents.ports.Log."""
        if not self._sums.are_complete(max(days)):
            # the other partitions have work to do, this one has not: the watchdog must not end it
            self.pause(self._visits, partition.number)
            try:
                while not await self._sums.wait(max(days)):
                    if self.owned_students.get(partition.number) is not partition:
                        return None
            finally:
                self.resume(self._visits, partition.number)
        return await self._sums.tables(days)

    def outdated_sums(self, partition: int) -> Sequence[bytes]:
        """Return the keys of the cohort sums of a partition that no partition needs any more."""
        return self._sums.outdated(partition)

    @staticmethod
    def _running(client: T | None) -> T:
        """Return the client. Raises RuntimeError if the worker has not started: a call would be lost."""
        if client is None:
            raise RuntimeError("the worker has not started: it has no Kafka client")
        return client

    def students(self, partition: int) -> Partition | None:
        """Return the students of a visits partition, None if another worker owns it now."""
        return self.owned_students.get(partition)

    def alerts(self) -> Partition | None:
        """Return the state of `alert`, None if another worker owns it now."""
        return self.owned_alerts.get(0)
