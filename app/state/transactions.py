"""The transactions of a table's owned partitions: flushes that come together share one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import IllegalOperation, KafkaError, ProducerFenced

from app.ops.failpoints import failpoints
from app.state.writes import Writes, send_one, send_together
from app.upstream.aiokafka import is_fenced, is_forgotten

log = logging.getLogger(__name__)


class Transactions:
    """One transactional producer for all partitions of a table that a worker owns. Mutable.

    A flush joins the transaction that is under way until that is committed, so that partitions with something to
    write at the same time cost one transaction together. One that comes later waits for the next.
    """

    def __init__(
        self,
        table: str,
        producer: AIOKafkaProducer,
        new_producer: Callable[[], Awaitable[AIOKafkaProducer]],
        is_member: Callable[[], Awaitable[bool]],
        observe_commit: Callable[[float], object],
        *,
        pause_s: float = 0.0,
    ) -> None:
        """new_producer: starts another producer with the same transactional id.

        is_member: asks the broker whether this worker belongs to the consumer group's current generation;
        observe_commit: is told how long a commit took [s]; pause_s: how long the first of some small flushes waits for
        the others, whose requests are then one.
        """
        self._pause_s = pause_s
        self._table, self._producer, self._new_producer = table, producer, new_producer
        self._is_member, self._observe_commit = is_member, observe_commit
        #: the transaction that a flush can join
        self._open: _Shared | None = None
        #: the last one that was opened
        self._last: asyncio.Task[None] | None = None

    async def run(self, writes: Writes) -> int:
        """Write in a transaction, wait for its commit, and return the last offset of the changelog, -1 for none.

        An error of any flush that shares the transaction, or of the commit, is raised in all of them; whether Kafka has
        committed is unknown then.
        """
        if self._open is None:
            self._open = _Shared()
            self._last = asyncio.create_task(self._run(self._open, self._last))
        shared = self._open
        place = shared.join(writes)
        # a flush that is cancelled must not end the transaction of the others
        return (await asyncio.shield(shared.offsets))[place]

    def is_fenced(self, error: BaseException) -> bool:
        """Whether `error` says that another worker has taken over."""
        return is_fenced(self._producer, error)

    async def stop(self) -> None:
        """Wait for the transaction under way, and stop the producer."""
        if self._last is not None:
            await asyncio.wait([self._last])
        await self._producer.stop()

    async def _run(self, shared: _Shared, former: asyncio.Task[None] | None) -> None:
        if former is not None:
            await asyncio.wait([former])
        try:
            offsets = await self._commit_or_restart(shared)
        except BaseException as error:
            self._close(shared)
            shared.offsets.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            shared.offsets.set_result(offsets)

    def _close(self, shared: _Shared) -> None:
        if self._open is shared:
            self._open = None

    async def _commit_or_restart(self, shared: _Shared) -> list[int]:
        """Commit; if Kafka has forgotten the transactional id, start the producer again and commit once more.

        Kafka forgets an id that had no transaction for transactional.id.expiration.ms, seven days by default. It does
        so only between transactions, so nothing of this one was written.
        """
        try:
            return await self._commit(shared)
        except (KafkaError, IllegalOperation) as error:
            if not is_forgotten(self._producer, error):
                raise
        self._close(shared)
        await self._restart()
        return await self._commit(shared)

    async def _commit(self, shared: _Shared) -> list[int]:
        if self._pause_s and shared.is_small:
            await asyncio.sleep(self._pause_s)
        await self._producer.begin_transaction()
        await failpoints.at("begun")
        await shared.send(self._producer)
        self._close(shared)
        offsets = shared.sent()
        await failpoints.at("sent")
        began = time.monotonic()
        await self._producer.commit_transaction()
        self._observe_commit(time.monotonic() - began)
        await failpoints.at("committed")
        return offsets

    async def _restart(self) -> None:
        """Start the producer again. Raises ProducerFenced if this worker may not own its partitions any more.

        Without the id Kafka cannot tell an owner from a former one, so the consumer group has to. Asked before: a
        former owner must not begin to write again. Asked after: as long as this worker is a member of the current
        generation nobody else has taken over, and whoever does so later fences the new producer.
        """
        await self._require_membership()
        log.warning("%s: Kafka has forgotten the transactional id, starting it again", self._table)
        former, self._producer = self._producer, await self._new_producer()
        await former.stop()
        await self._require_membership()

    async def _require_membership(self) -> None:
        if not await self._is_member():
            raise ProducerFenced


class _Shared:
    """The flushes that share a transaction. Mutable: more join until all have been sent."""

    def __init__(self) -> None:
        #: of the flushes, in the order in which they joined
        self.offsets: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        #: whether all that have joined are small
        self.is_small = True
        self._flushes: list[Writes] = []
        self._producer: AIOKafkaProducer | None = None
        #: those under way, each with the last offsets of some flushes
        self._sending: list[asyncio.Future[list[int]]] = []

    def join(self, writes: Writes) -> int:
        """Add a flush; return its place."""
        self.is_small &= writes.is_small
        self._flushes.append(writes)
        if self._producer is not None:
            self._start([writes])
        return len(self._flushes) - 1

    async def send(self, producer: AIOKafkaProducer) -> None:
        """Send all flushes, also those that join meanwhile, and wait until none is under way."""
        self._producer, self._sending = producer, []
        if self.is_small:
            self._start(list(self._flushes))
        else:
            for writes in self._flushes:
                self._start([writes])
        while waiting := [each for each in self._sending if not each.done()]:
            await asyncio.wait(waiting)

    def sent(self) -> list[int]:
        """Return the offset of each flush. Raises the error of the first that failed."""
        errors: list[Any] = [each.exception() for each in self._sending]
        for error in filter(None, errors):
            raise error
        return [offset for each in self._sending for offset in each.result()]

    def _start(self, flushes: Sequence[Writes]) -> None:
        assert self._producer is not None
        if all(writes.is_small for writes in flushes):
            sending = send_together(self._producer, flushes)
        else:
            sending = send_one(self._producer, *flushes)
        self._sending.append(asyncio.ensure_future(sending))
