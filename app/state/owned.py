"""The partitions of a state table that a worker owns: taken over at a rebalance, released before the next."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from aiokafka import AIOKafkaProducer

from app.kafka.claims import Claims, fence, former_ids, new_id
from app.kafka.clients import new_producer
from app.ops.failpoints import failpoints
from app.settings import Settings
from app.state.partition import Partition
from app.state.table import StateTable
from app.state.transactions import Transactions

log = logging.getLogger(__name__)

#: how long a small flush waits for those of other partitions, whose visits come with the next fetch [s]
_PAUSE_S = 0.004


class OwnedPartitions:
    """The partitions of one table that this worker owns."""

    def __init__(
        self,
        table: StateTable,
        settings: Settings,
        prefix: str,
        claims: Claims,
        *,
        partitions: int = 0,
        sources: int = 0,
    ) -> None:
        """prefix: of the table's transactional ids; partitions, sources: see Partition."""
        self._table, self._claims = table, claims
        self._settings, self._prefix = settings, prefix
        self._counts = {"partitions": partitions, "sources": sources}
        self._partitions: dict[int, Partition] = {}
        self._transactions: Transactions | None = None

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

        Fencing aborts the transaction that a former owner left open, so this must happen before Faust reads the end
        offset of the changelog. If the group has another generation by now, no partition is owned.
        """
        await self.release()
        log.info("%s: taking over partitions %s (generation %d)", self._table.changelog, sorted(numbers), generation)
        transactional_id = new_id(self._prefix)
        if numbers and await self._take_over(numbers, transactional_id):
            self._transactions = await self._start(transactional_id, pause=len(numbers) > 1)
            self._partitions = {n: self._open(n, self._transactions, generation) for n in sorted(numbers)}
        await failpoints.at("owned")

    async def release(self) -> None:
        """Finish the flushes in progress, then own no partition."""
        partitions, self._partitions = self._partitions, {}
        transactions, self._transactions = self._transactions, None
        await asyncio.gather(*(p.close() for p in partitions.values()))
        if transactions is not None:
            await transactions.stop()

    async def _take_over(self, numbers: set[int], transactional_id: str) -> bool:
        """Fence the former owners, then claim their partitions: whoever reads the claim relies on the fencing."""
        claims = await self._claims.read(numbers)
        if claims is None:
            return False
        await fence(self._settings, former_ids(self._prefix, numbers, claims))
        if await self._claims.make(numbers, transactional_id):
            return True
        log.info("%s: not taken over: the group has another generation by now", self._table.changelog)
        return False

    async def _start(self, transactional_id: str, *, pause: bool) -> Transactions:
        async def new() -> AIOKafkaProducer:
            producer = new_producer(self._settings, transactional_id=transactional_id)
            await producer.start()
            return producer

        observe = self._table.flushes.commit.observe
        pause_s = _PAUSE_S if pause and self._settings.linger_ms else 0.0
        return Transactions(self._table.name, await new(), new, self._claims.is_member, observe, pause_s=pause_s)

    def _open(self, number: int, transactions: Transactions, generation: int) -> Partition:
        return Partition(
            number,
            self._table,
            transactions,
            generation=generation,
            max_ahead_ms=self._settings.max_ahead_ms,
            **self._counts,
        )
