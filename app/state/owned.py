"""The partitions of a state table that a worker owns: taken over at a rebalance, released before the next."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from aiokafka import AIOKafkaProducer

from app.kafka.clients import new_producer
from app.ops.failpoints import failpoints
from app.settings import Settings
from app.state.partition import Partition
from app.state.table import StateTable

log = logging.getLogger(__name__)


class OwnedPartitions:
    """The partitions of one table that this worker owns."""

    def __init__(
        self,
        table: StateTable,
        settings: Settings,
        transactional_id: str,
        is_member: Callable[[], Awaitable[bool]],
        *,
        partitions: int = 0,
        sources: int = 0,
    ) -> None:
        """is_member: asks the broker whether this worker belongs to the consumer group's current generation.

        partitions, sources: see Partition.
        """
        self._table = table
        self._is_member = is_member
        self._settings = settings
        self._transactional_id = transactional_id
        self._counts = {"partitions": partitions, "sources": sources}
        self._partitions: dict[int, Partition] = {}

    def get(self, number: int) -> Partition | None:
        """Return the partition, None if this worker does not own it or another worker has taken over."""
        partition = self._partitions.get(number)
        return None if partition is None or partition.closed else partition

    def all(self) -> Iterable[Partition]:
        """Return all partitions owned."""
        return self._partitions.values()

    def fenced(self) -> list[str]:
        """Return changelog-partition of each that was taken over while it is still assigned to this worker."""
        return [f"{self._table.changelog}-{n}" for n, partition in self._partitions.items() if partition.closed]

    async def renew(self, numbers: set[int], generation: int) -> None:
        """Take over partitions `numbers`: discard all memory, and fence the former owners.

        Starting a transactional producer aborts the transaction that its predecessor left open, so this
        must happen before Faust reads the end offset of the changelog.
        """
        await self.release()
        log.info("%s: taking over partitions %s (generation %d)", self._table.changelog, sorted(numbers), generation)
        opened = await asyncio.gather(*(self._open(n, generation) for n in sorted(numbers)))
        self._partitions = {p.number: p for p in opened}
        await failpoints.at("owned")

    async def release(self) -> None:
        """Finish the flushes in progress, then own no partition."""
        partitions, self._partitions = self._partitions, {}
        await asyncio.gather(*(p.close() for p in partitions.values()))

    async def _open(self, number: int, generation: int) -> Partition:
        producer = await self._start_producer(number)
        return Partition(
            number,
            self._table,
            producer,
            self._start_producer,
            self._is_member,
            generation=generation,
            max_ahead_ms=self._settings.max_ahead_ms,
            **self._counts,
        )

    async def _start_producer(self, number: int) -> AIOKafkaProducer:
        producer = new_producer(self._settings, transactional_id=f"{self._transactional_id}-{number}")
        await producer.start()
        return producer
