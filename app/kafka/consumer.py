"""Faust's consumer with chunks as messages: what the app calls, commits, rebalances, and the loop that reads.

How far each partition has been read, and where it ends, is in source_progress.py and end_polls.py; how chunks come into
the agents' queues, in delivery.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from aiokafka.errors import ConsumerStoppedError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode import Service

from app.errors import PartitionsChanged
from app.kafka.delivery import Delivery
from app.kafka.end_polls import EndPolls
from app.kafka.ends import END_OFFSETS_INTERVAL_S, ends_behind
from app.kafka.queue import QueuedChunk
from app.kafka.source_progress import SourceProgress, tp_of
from app.kafka.thread import Thread
from models.chunk import Chunk
from models.rules import NEVER

T = TypeVar("T")

#: pause if no partition may be fetched [s]
_IDLE_S = 0.02


class Consumer(driver.Consumer):
    """Delivers chunks, and commits what has been processed."""

    #: a chunk ends with the record batch that reaches this number of records
    max_rows: int = 50_000
    #: called at the start of a rebalance, before the partitions are given up
    revoking: Callable[[], Awaitable[None]] | None = None
    #: the number of partitions that topics had when this worker was built; another one ends it
    fixed_partitions: Mapping[str, int] = MappingProxyType({})
    #: whether a partition is to be fetched now
    may_fetch: Callable[[TP], bool] = staticmethod(lambda tp: True)
    #: the topic whose partitions are aligned in time, and the newest event time that the app has applied [ms]
    source_topic: str | None = None
    newest_event_time: Callable[[], int] = staticmethod(lambda: NEVER)

    def on_init(self) -> None:
        """Create the state that a restart of the consumer clears."""
        super().on_init()
        self._progress = SourceProgress()
        self._end_polls = EndPolls(self, self._progress)
        self._delivery = Delivery(self, self._progress)
        #: number of partitions of each topic at the start of this generation
        self._partitions: dict[str, int] = {}
        #: the generation that has sought the committed offsets
        self._sought_generation: int | None = None
        #: the fetch in progress
        self._next_fetch: asyncio.Task[tuple[int, list[Chunk]]] | None = None

    def _new_consumer_thread(self) -> Thread:
        self._chunk_thread = Thread(self, loop=self.loop, beacon=self.beacon)
        return self._chunk_thread

    # -- called by the app

    def processed(self, chunk: Chunk) -> None:
        """Record that all output of `chunk` is durable: its offsets may be committed."""
        self._progress.ledger.processed(tp_of(chunk), chunk)

    def pause(self, topic: str, partition: int, waits_for: str = "") -> None:
        """Stop fetching a partition; waits_for: for what, empty for another partition."""
        self._progress.paused[TP(topic, partition)] = waits_for

    def resume(self, topic: str, partition: int) -> None:
        """Continue fetching a partition."""
        self._progress.paused.pop(TP(topic, partition), None)

    async def is_member(self) -> bool:
        """Whether this worker belongs to the group's current generation, according to the broker.

        Commits what may be committed, possibly again: a commit is the request that the broker refuses otherwise.
        """
        offsets = self._progress.processed_offsets()
        return bool(offsets) and await self._chunk_thread.commit(offsets)

    async def claims(self, topic: str, numbers: Collection[int]) -> dict[int, str] | None:
        """Return the claim on each of some partitions of a topic, where there is one; see claims.py.

        None if the worker is stopping. Raises KafkaError.
        """
        found = await self._unless_stopping(self._chunk_thread.claims({TP(topic, number) for number in numbers}))
        return None if found is None else {tp.partition: claim for tp, claim in found.items()}

    async def claim(self, topic: str, numbers: Collection[int], transactional_id: str) -> bool:
        """Claim some partitions of a topic; whether that could be done. Raises KafkaError.

        It cannot if the group has another generation by now, or if the worker is stopping.
        """
        claiming = self._chunk_thread.claim({TP(topic, number) for number in numbers}, transactional_id)
        return bool(await self._unless_stopping(claiming))

    async def _unless_stopping(self, call: Awaitable[T]) -> T | None:
        """Return the answer of the consumer's thread; None once this service stops: the thread does not answer then."""
        answer: T | None = (await self.wait(call)).result
        return answer

    def partitions(self, topic: str) -> int:
        """Return the number of partitions that a topic had at the start of this generation, 0 if it is unknown."""
        return self._partitions.get(topic, 0)

    def next_offset(self, tp: TP) -> int:
        """Return the offset behind what has been delivered of a source partition, -1 before the first seek."""
        return self._progress.next_offsets.get(tp, -1)

    def lags(self) -> dict[tuple[str, int], int]:
        """Return the number of unprocessed records of each source partition, as of the last poll of its end."""
        return self._progress.lags()

    def backlog(self) -> tuple[str | None, tuple[int, ...]]:
        """Describe what waits to be processed, and return what changes with any progress; see SourceProgress."""
        return self._progress.backlog()

    @property
    def end_offset_polls(self) -> int:
        """How often the broker has answered with the source partitions' end offsets."""
        return self._progress.end_offset_polls

    async def count_partitions(self, topics: set[str]) -> dict[str, int]:
        """Ask the broker for the number of partitions of topics that this worker reads."""
        return await self._chunk_thread.count_partitions(topics)

    def has_sought(self) -> bool:
        """Whether this generation has begun to read: it has sought the committed offsets."""
        return self._sought_generation is not None and self._sought_generation == self.app.consumer_generation_id

    # -- commits: the processed prefix

    def ack(self, message: Any) -> bool:
        """Ignore Faust's acks: it also acks messages that failed or were skipped."""
        self.unacked.discard(message)
        return False

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return iter(self._progress.ledger.committable())

    def _new_offset(self, tp: TP) -> int | None:
        return self._progress.ledger.committable().get(tp)

    @Service.task
    async def _commit_handler(self) -> None:
        while not self.should_stop:
            await asyncio.sleep(self.commit_interval)
            await self.commit()

    @Service.task
    async def _commit_livelock_detector(self) -> None:
        """No-op, as Thread.verify_event_path, which it would call."""

    async def _commit(self, offsets: Any) -> bool:
        # a crash also ends the consumer's thread, which then never answers. What is not committed is read again
        if self.crashed or self._chunk_thread.thread_loop.is_closed():
            return False
        committing = asyncio.ensure_future(super()._commit(offsets))
        crashed = asyncio.ensure_future(self._crashed.wait())
        await asyncio.wait({committing, crashed}, return_when=asyncio.FIRST_COMPLETED)
        crashed.cancel()
        if not committing.done():
            committing.cancel()
            return False
        return committing.result()

    # -- rebalance and seek

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish and commit the work in progress, then forget what was delivered."""
        if self.revoking is not None:
            await self.revoking()
        await self.commit()
        self._progress.ledger.clear()
        self._sought_generation = None
        await super().on_partitions_revoked(revoked)

    async def perform_seek(self) -> None:
        """Seek the committed offsets, and queue a chunk without records for each source partition.

        Raises MissingRecords if a partition ends before its committed offset: the topic has been recreated; and
        PartitionsChanged. What a worker sends afterwards as a member of this generation, it sends to topics that have
        not grown: they grow only while the group has no member (`faust -A app grow`).
        """
        generation = self.app.consumer_generation_id
        self._sought_generation = None
        as_of = self._end_polls.newest_event_time()
        await self._update_partitions()
        sources = sorted(tp for tp in self.assignment() if not self.is_changelog(tp))
        committed = {TP(*tp): offset for tp, offset in (await self.seek_to_committed()).items()}
        earliest = await self.earliest_offsets(*sources) if sources else {}
        positions = {tp: committed.get(tp) or earliest[tp] for tp in sources}
        ends = await ends_behind(positions, self.highwaters)
        if positions:
            await self.seek_wait(positions)
        self._committed_offset.update({tp: offset for tp, offset in committed.items() if offset})
        self._progress.begin(positions, ends)
        self._end_polls.begin(as_of)
        self._sought_generation = generation

    async def seek_wait(self, partitions: Mapping[TP, int | None]) -> None:
        """Seek, and wait for it. Ignores partitions whose offset is None.

        Faust's recovery passes None for a partition that a later rebalance assigned after the offsets had been looked
        up; the recovery that this rebalance starts looks them up again.
        """
        await super().seek_wait({tp: offset for tp, offset in partitions.items() if offset is not None})

    async def _update_partitions(self) -> None:
        topics = {tp.topic for tp in self.assignment()} | self.fixed_partitions.keys()
        self._partitions = await self.count_partitions(topics)
        for topic, expected in self.fixed_partitions.items():
            if (actual := self._partitions[topic]) != expected:
                raise PartitionsChanged(
                    f"topic {topic} has {actual} partitions, and had {expected} when this worker started: "
                    "start it again"
                )

    # -- fetching

    @Service.task
    async def _poll_end_offsets(self) -> None:
        while not self.should_stop:
            await asyncio.sleep(END_OFFSETS_INTERVAL_S)  # mode's sleep takes five turns of the loop
            await self._end_polls.poll()

    def is_changelog(self, tp: TP) -> bool:
        """Whether a partition is one of a table's changelog; the others are source partitions."""
        return tp.topic in self.app.tables.changelog_topics

    def _fetchable(self) -> set[TP]:
        active = {tp for tp in self._get_active_partitions() - self._progress.paused.keys() if self.may_fetch(tp)}
        return active if self.has_sought() else {tp for tp in active if self.is_changelog(tp)}

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self.should_stop or fetcher.should_stop):
                if not self.flow_active:
                    await self.wait(self.can_resume_flow.wait())
                await self._delivery.put(*await self._next_chunks())
        except (ConsumerStoppedError, asyncio.CancelledError):
            if not self.app.should_stop:
                raise
        finally:
            if self._next_fetch is not None:
                self._next_fetch.cancel()
                self._next_fetch = None

    async def _next_chunks(self) -> tuple[int, list[QueuedChunk]]:
        """Return the chunks to deliver, and the generation in which they were fetched."""
        generation = self.app.consumer_generation_id
        if self.has_sought() and (chunks := self._progress.take_positions() or self._end_polls.take_confirmations()):
            return generation, [QueuedChunk(chunk) for chunk in chunks]
        fetch, self._next_fetch = self._next_fetch or self._start_fetch(), None
        if fetch is None:
            await self.sleep(_IDLE_S)
            return generation, []
        generation, chunks = await fetch
        queued = await self._delivery.select(generation, chunks)
        self._next_fetch = self._start_fetch()  # not before: `select` may have sought
        return generation, queued

    def _start_fetch(self) -> asyncio.Task[tuple[int, list[Chunk]]] | None:
        """Let the consumer's thread read the next chunks while the current ones are processed; None: no partition."""
        partitions, generation = self._fetchable(), self.app.consumer_generation_id

        async def fetch() -> tuple[int, list[Chunk]]:
            return generation, await self._chunk_thread.chunks(partitions, self.max_rows, generation)

        return asyncio.ensure_future(fetch()) if partitions else None
