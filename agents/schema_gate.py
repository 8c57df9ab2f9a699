"""Source partitions wait for a writer's schema one by one: those that need none go on."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from dataclasses import dataclass, replace

from agents.ports import Delivery, Log
from codec.moodle_log import LogDecoder, Plans

#: how long all partitions wait for a schema, before only its own does [s]
_AT_ONCE_S = 0.1
#: interval at which a wait is reported again [s]
_REPORT_S = 1.0


@dataclass(slots=True)
class _Wait:
    """Deliveries of one partition, in order. Mutable."""

    deliveries: deque[Delivery]
    #: the schemas of the first of them
    schema_ids: frozenset[int]
    plans: asyncio.Task[Plans]

    @property
    def reason(self) -> str:
        """What it waits for, in words."""
        return f"schema id {', '.join(map(str, sorted(self.schema_ids)[:3]))} of the registry"


class SchemaGate:
    """Passes deliveries on when their schemas are there, in the order of their partition. Mutable."""

    def __init__(self, log: Log, topic: str, decoder: LogDecoder) -> None:
        """topic: that of the deliveries; a partition of it is paused while it waits."""
        self._log, self._topic, self._decoder = log, topic, decoder
        self._waits: dict[int, _Wait] = {}
        self._generation = -1

    def is_waiting(self, partition: int) -> bool:
        """Whether deliveries of a partition wait."""
        return partition in self._waits

    async def passed(self, deliveries: AsyncIterable[Delivery]) -> AsyncIterator[tuple[Delivery, Plans | None]]:
        """Yield each delivery with the plans it needs.

        One that must wait is yielded twice: at once with None, so that nothing waits for it, and again with plans.
        Raises ConfigError if the registry refuses access.
        """
        iterator = aiter(deliveries)
        arriving: asyncio.Task[Delivery | None] | None = None
        ended = False
        try:
            while not ended or self._waits:
                if self._waits:
                    if arriving is None and not ended:
                        arriving = asyncio.ensure_future(_next(iterator))
                    await self._wait(arriving)
                    for delivery, plans in self._ready():
                        yield delivery, plans
                    if arriving is None or not arriving.done():
                        continue
                arrived = await (arriving or _next(iterator))
                arriving = None
                if arrived is None:
                    ended = True
                else:
                    yield arrived, await self._plans_or_wait(arrived)
        finally:
            if arriving is not None:
                arriving.cancel()
            self._forget()

    async def _wait(self, arriving: asyncio.Task[Delivery | None] | None) -> None:
        """Return when a schema or a delivery has arrived, and once a second."""
        for partition, wait in self._waits.items():
            self._log.pause(self._topic, partition, wait.reason)
        awaited: set[asyncio.Task[Plans] | asyncio.Task[Delivery | None]] = {w.plans for w in self._waits.values()}
        if arriving is not None:
            awaited.add(arriving)
        await asyncio.wait(awaited, timeout=_REPORT_S, return_when=asyncio.FIRST_COMPLETED)

    def _ready(self) -> Iterator[tuple[Delivery, Plans]]:
        """Remove the deliveries whose schemas have arrived; what followed them has arrived before."""
        for partition, wait in list(self._waits.items()):
            if not wait.plans.done():
                continue
            del self._waits[partition]
            yield replace(wait.deliveries.popleft(), has_next=False), wait.plans.result()
            while wait.deliveries:
                missing = self._decoder.missing(wait.deliveries[0].chunk)
                if missing:
                    self._begin(partition, wait.deliveries, missing)
                    break
                yield replace(wait.deliveries.popleft(), has_next=False), {}

    async def _plans_or_wait(self, delivery: Delivery) -> Plans | None:
        """Return the plans of a delivery; None, and let it wait, if the registry does not answer at once."""
        if delivery.generation != self._generation:
            self._forget()  # what waits is delivered again to the owners of this generation
            self._generation = delivery.generation
        partition = delivery.chunk.partition
        if partition in self._waits:
            self._waits[partition].deliveries.append(delivery)
            return None
        missing = self._decoder.missing(delivery.chunk)
        if not missing:
            return {}
        is_first = not self._waits
        self._begin(partition, deque([delivery]), missing)
        if is_first:
            plans = self._waits[partition].plans
            await asyncio.wait({plans}, timeout=_AT_ONCE_S)
            if plans.done():
                del self._waits[partition]
                return plans.result()
        return None

    def _begin(self, partition: int, deliveries: deque[Delivery], missing: frozenset[int]) -> None:
        self._waits[partition] = _Wait(deliveries, missing, asyncio.ensure_future(self._decoder.plans(missing)))

    def _forget(self) -> None:
        for wait in self._waits.values():
            wait.plans.cancel()
        self._waits.clear()


async def _next(iterator: AsyncIterator[Delivery]) -> Delivery | None:
    """Return the next delivery, None at the end: a task cannot raise StopAsyncIteration."""
    async for delivery in iterator:
        return delivery
    return None
