"""Claims: which transactional id writes the state of a partition, committed with the partition's offset.

A worker writes all its partitions of a table with one transactional producer. Kafka fences an id as a whole, so the id
is another one after each rebalance: fencing it stops what its worker did with the partitions that it had before, and
nothing else. The next owner has to know the id. The broker takes offsets from members of the group's current
generation only, so a worker that was suspended can claim nothing any more, and the last claim is that of the last
worker that can have written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING
from uuid import uuid4

from app.kafka.clients import new_producer
from app.settings import Settings

if TYPE_CHECKING:
    from app.kafka.consumer import Consumer


class Claims:
    """The claims on the partitions of one table, kept with the offsets of the topic that its agent reads."""

    def __init__(self, consumer: Callable[[], Consumer], topic: str) -> None:
        """consumer: returns the consumer, which is made after this object."""
        self._consumer, self._topic = consumer, topic

    async def read(self, numbers: Collection[int]) -> dict[int, str] | None:
        """Return the transactional id that wrote each of the partitions `numbers` last; none for one without a claim.

        None if the worker is stopping. Raises KafkaError.
        """
        return await self._consumer().claims(self._topic, numbers)

    async def make(self, numbers: Collection[int], transactional_id: str) -> bool:
        """Claim partitions for an id; return whether that could be done.

        It cannot if the group has another generation by now, or if the worker is stopping. Raises KafkaError.
        """
        return await self._consumer().claim(self._topic, numbers, transactional_id)

    async def is_member(self) -> bool:
        """Whether this worker belongs to the consumer group's current generation, according to the broker."""
        return await self._consumer().is_member()


def new_id(prefix: str) -> str:
    """Return a transactional id that nobody has used."""
    return f"{prefix}-{uuid4().hex}"


def former_ids(prefix: str, numbers: Iterable[int], claims: dict[int, str]) -> set[str]:
    """Return the ids that can have written the partitions `numbers`, given the claims on them.

    Without a claim it is that of an earlier version, which had an id for each partition. `faust -A app grow` writes
    with the one of partition 0.
    """
    return {claims.get(n, f"{prefix}-{n}") for n in numbers} | {f"{prefix}-0" for n in numbers if n == 0}


async def fence(settings: Settings, transactional_ids: Iterable[str]) -> None:
    """Abort what producers with these ids have left open, and let them write nothing any more. Raises KafkaError."""

    async def one(transactional_id: str) -> None:
        producer = new_producer(settings, transactional_id=transactional_id)
        await producer.start()
        await producer.stop()

    await asyncio.gather(*map(one, transactional_ids))
