"""Faust's aiokafka transport with chunks as messages; selected by broker URLs `chunked://host:port`.

Faust keeps the app, agents, assignment, recovery, flow control and timers. The differences:

- a message is a chunk: all records that a fetch returned for one topic partition, or several small chunks that
  wait for their agent and are merged;
- only committed records are read, and the end of a partition is its last stable offset;
- Faust's acks are ignored. A chunk counts as processed after a call of `processed(...)`, and the committed
  offset is the end of the processed prefix (ledger.py);
- records of source topics are fetched only after this generation has sought the committed offsets, and a
  chunk is delivered only if it begins where the one before it ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.errors import ConsumerStoppedError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage
from mode import Service

from app.errors import PartitionsChanged
from app.kafka.clients import new_producer
from app.kafka.confirmations import Confirmations
from app.kafka.ends import END_OFFSETS_INTERVAL_S, ends_behind
from app.kafka.ledger import Ledger
from app.kafka.queue import ChunkQueue, QueuedChunk
from app.kafka.thread import Thread
from app.upstream.faust import new_message
from models.chunk import Chunk
from models.rules import NEVER

T = TypeVar("T")

#: pause if no partition may be fetched [s]
_IDLE_S = 0.02
#: polls of end offsets left out between two while nothing happens
_SKIPPED_POLLS = 3


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
        self._ledger: Ledger[TP] = Ledger()
        #: offset at which the next chunk of each source partition must begin
        self._expected: dict[TP, int] = {}
        #: partitions paused by an agent, independent of Faust's pauses for full queues, and what they wait for
        self._paused: dict[TP, str] = {}
        #: number of partitions of each topic at the start of this generation
        self._partitions: dict[str, int] = {}
        #: the generation that has sought the committed offsets
        self._sought_generation: int | None = None
        #: chunks without records that tell the agents each partition's position after a seek
        self._position_chunks: list[Chunk] = []
        #: position of each source partition at the start of this assignment
        self._start_offsets: dict[TP, int] = {}
        #: end offset of each source partition, and how often the broker has answered with them
        self._end_offsets: dict[TP, int] = {}
        self.end_offset_polls = 0
        #: the newest event time so far [ms]
        self._newest = NEVER
        self._confirmations: Confirmations[TP] = Confirmations()
        #: the fetch in progress
        self._next_fetch: asyncio.Task[tuple[int, list[Chunk]]] | None = None

    def _new_consumer_thread(self) -> Thread:
        self._chunk_thread = Thread(self, loop=self.loop, beacon=self.beacon)
        return self._chunk_thread

    # -- called by the app

    def processed(self, chunk: Chunk) -> None:
        """Record that all output of `chunk` is durable: its offsets may be committed."""
        self._ledger.processed(_tp(chunk), chunk)

    def pause(self, topic: str, partition: int, waits_for: str = "") -> None:
        """Stop fetching a partition; waits_for: for what, empty for another partition."""
        self._paused[TP(topic, partition)] = waits_for

    def resume(self, topic: str, partition: int) -> None:
        """Continue fetching a partition."""
        self._paused.pop(TP(topic, partition), None)

    async def is_member(self) -> bool:
        """Whether this worker belongs to the group's current generation, according to the broker.

        Commits what may be committed, possibly again: a commit is the request that the broker refuses otherwise.
        """
        offsets = {tp: self._ledger.done(tp, start) for tp, start in self._start_offsets.items()}
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
        return self._expected.get(tp, -1)

    def lags(self) -> dict[tuple[str, int], int]:
        """Return the number of unprocessed records of each source partition, as of the last poll of its end."""
        start = self._start_offsets
        return {
            (tp.topic, tp.partition): max(0, end - self._ledger.done(tp, start[tp]))
            for tp, end in self._end_offsets.items()
        }

    def backlog(self) -> tuple[str | None, tuple[int, ...]]:
        """Describe what waits to be processed, None for nothing, and return a value that changes with any progress.

        Partitions paused for another one, possibly another worker's, do not count.
        With nothing to process the next answer with end offsets counts as progress, and is what is waited for.
        """
        lags = {TP(*tp): lag for tp, lag in self.lags().items() if lag and self._paused.get(TP(*tp)) != ""}
        done = tuple(self._ledger.done(tp, self._start_offsets[tp]) for tp in lags)
        if not lags:
            waiting = "Kafka has not answered with the topics' end offsets" if self._start_offsets else None
            return waiting, (self.end_offset_polls,)
        tp, lag = max(lags.items(), key=lambda item: item[1])
        if tp in self._paused:
            return f"{lag} records of topic {tp.topic} partition {tp.partition} wait for {self._paused[tp]}", done
        return f"{lag} records of topic {tp.topic} partition {tp.partition} wait", done

    @Service.task
    async def _poll_end_offsets(self) -> None:
        before, skipped = None, 0
        while not self.should_stop:
            await asyncio.sleep(END_OFFSETS_INTERVAL_S)  # mode's sleep takes five turns of the loop
            if self.has_sought():
                generation, as_of = self._sought_generation, self._newest_so_far()
                mark = generation, as_of, tuple(self._expected.values())
                if mark == before and skipped < _SKIPPED_POLLS:
                    skipped += 1
                    continue
                before, skipped = mark, 0
                has_grown = await self.source_has_grown(as_of)
                ends = await self.highwaters(*self._expected)
                if self.has_sought() and generation == self._sought_generation:
                    # a fetch that was answered later may know of more
                    known = self._end_offsets
                    self._end_offsets = {tp: max(ends[tp], known.get(tp, 0)) for tp in self._expected if tp in ends}
                    self.end_offset_polls += 1
                    if not has_grown:
                        self._note_ends(as_of)

    def _newest_so_far(self) -> int:
        self._newest = max(self._newest, self.newest_event_time())
        return self._newest

    def _note_ends(self, as_of: int) -> None:
        ends = {tp: end for tp, end in self._end_offsets.items() if tp.topic == self.source_topic}
        self._confirmations.note_ends(ends, as_of)

    async def source_has_grown(self, as_of: int) -> bool:
        """Whether the source topic has partitions that this generation does not know, if that matters for `as_of`.

        Nobody reads those yet: without a confirmation, event time cannot run away from them.
        """
        topic, due = self.source_topic, self._confirmations.is_due
        if topic is None or not any(tp.topic == topic and due(tp, as_of) for tp in self._expected):
            return False
        return (await self._chunk_thread.count_partitions({topic}))[topic] != self.partitions(topic)

    def has_sought(self) -> bool:
        """Whether this generation has begun to read: it has sought the committed offsets."""
        return self._sought_generation is not None and self._sought_generation == self.app.consumer_generation_id

    # -- commits: the processed prefix

    def ack(self, message: Any) -> bool:
        """Ignore Faust's acks: it also acks messages that failed or were skipped."""
        self.unacked.discard(message)
        return False

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return iter(self._ledger.committable())

    def _new_offset(self, tp: TP) -> int | None:
        return self._ledger.committable().get(tp)

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
        self._ledger.clear()
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
        as_of = self._newest_so_far()
        await self._update_partitions()
        sources = sorted(tp for tp in self.assignment() if not self._is_changelog(tp))
        committed = {TP(*tp): offset for tp, offset in (await self.seek_to_committed()).items()}
        earliest = await self.earliest_offsets(*sources) if sources else {}
        positions = {tp: committed.get(tp) or earliest[tp] for tp in sources}
        ends = await ends_behind(positions, self.highwaters)
        if positions:
            await self.seek_wait(positions)
        self._ledger.clear()
        self._paused.clear()
        self._committed_offset.update({tp: offset for tp, offset in committed.items() if offset})
        self._expected, self._start_offsets = dict(positions), dict(positions)
        self._end_offsets = {tp: ends[tp] for tp in positions}
        self._confirmations.clear()
        self._note_ends(as_of)
        self._position_chunks = [_position_chunk(tp, position, ends[tp]) for tp, position in positions.items()]
        self._sought_generation = generation

    async def seek_wait(self, partitions: Mapping[TP, int | None]) -> None:
        """Seek, and wait for it. Ignores partitions whose offset is None.

        Faust's recovery passes None for a partition that a later rebalance assigned after the offsets had been looked
        up; the recovery that this rebalance starts looks them up again.
        """
        await super().seek_wait({tp: offset for tp, offset in partitions.items() if offset is not None})

    async def _update_partitions(self) -> None:
        topics = {tp.topic for tp in self.assignment()} | self.fixed_partitions.keys()
        self._partitions = await self._chunk_thread.count_partitions(topics)
        for topic, expected in self.fixed_partitions.items():
            if (actual := self._partitions[topic]) != expected:
                raise PartitionsChanged(
                    f"topic {topic} has {actual} partitions, and had {expected} when this worker started: "
                    "start it again"
                )

    # -- fetching

    def _is_changelog(self, tp: TP) -> bool:
        return tp.topic in self.app.tables.changelog_topics

    def _fetchable(self) -> set[TP]:
        active = {tp for tp in self._get_active_partitions() - self._paused.keys() if self.may_fetch(tp)}
        return active if self.has_sought() else {tp for tp in active if self._is_changelog(tp)}

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self.should_stop or fetcher.should_stop):
                if not self.flow_active:
                    await self.wait(self.can_resume_flow.wait())
                await self._deliver(*await self._next_chunks())
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
        if self._position_chunks and self.has_sought():
            chunks, self._position_chunks = self._position_chunks, []
            return generation, [QueuedChunk(chunk) for chunk in chunks]
        if self.has_sought() and (confirmed := self._confirmations.take(self._expected)):
            ends = self._end_offsets
            chunks = [_position_chunk(tp, self._expected[tp], ends[tp], as_of) for tp, as_of in confirmed.items()]
            return generation, [QueuedChunk(chunk) for chunk in chunks]
        fetch, self._next_fetch = self._next_fetch or self._start_fetch(), None
        if fetch is None:
            await self.sleep(_IDLE_S)
            return generation, []
        generation, chunks = await fetch
        # `has_next` makes an agent wait: it must count only chunks that are delivered
        chunks = [chunk for chunk in chunks if await self._is_due(chunk, generation)]
        queued = with_has_next([chunk for chunk in chunks if not self._merge(chunk, generation)])
        self._next_fetch = self._start_fetch()  # not before: `_is_due` may have sought
        return generation, queued

    def _start_fetch(self) -> asyncio.Task[tuple[int, list[Chunk]]] | None:
        """Let the consumer's thread read the next chunks while the current ones are processed; None: no partition."""
        partitions, generation = self._fetchable(), self.app.consumer_generation_id

        async def fetch() -> tuple[int, list[Chunk]]:
            return generation, await self._chunk_thread.chunks(partitions, self.max_rows, generation)

        return asyncio.ensure_future(fetch()) if partitions else None

    async def _is_due(self, chunk: Chunk, generation: int) -> bool:
        """Whether to deliver a chunk that was fetched in `generation`."""
        tp = _tp(chunk)
        if not self.flow_active or self.app.consumer_generation_id != generation:
            return False  # it is fetched again after the rebalance
        return self._is_changelog(tp) or await self._is_next(tp, chunk)

    async def _is_next(self, tp: TP, chunk: Chunk) -> bool:
        """Whether `chunk` begins where the one before it ended. Seek back if it begins later."""
        expected = self._expected.get(tp)
        if expected is None or chunk.start < expected:
            return False  # fetched before a seek, and fetched again after it
        if chunk.start > expected:
            earliest = (await self.earliest_offsets(tp)).get(tp, 0)
            if earliest <= expected:
                self.log.error("%s: got offset %d instead of %d, reading again", tp, chunk.start, expected)
                await self.seek(tp, expected)
                return False
            self.log.error(
                "topic %s partition %d: offsets %d to %d were deleted by retention before they were read",
                tp.topic, tp.partition, expected, chunk.start - 1,
            )  # fmt: skip
        return True

    def _merge(self, chunk: Chunk, generation: int) -> bool:
        """Merge a small chunk into the one before it if that still waits: an agent's cost is mostly per chunk."""
        tp = _tp(chunk)
        queues = self._queues(tp)
        if self._is_changelog(tp) or not self.flow_active or len(queues) != 1:
            return False
        if generation != self.app.consumer_generation_id:
            return False
        merged = queues[0].merge_last(tp, chunk, generation, partial(self._ledger.replace_last, tp))
        if merged is None:
            return False
        self._expected[tp] = merged.next_offset
        self._note_end(tp, merged)
        self.app.monitor.track_tp_end_offset(tp, merged.end)
        return True

    def _queues(self, tp: TP) -> list[ChunkQueue]:
        """Return the queues of the agents that read a partition, as Faust's Conductor selects them."""
        channels: Any = self.app.topics
        return [
            channel.queue
            for channel in channels
            if tp.topic in channel.topics and (channel.active_partitions is None or tp in channel.active_partitions)
        ]

    async def _deliver(self, generation: int, chunks: Sequence[QueuedChunk]) -> None:
        """Put chunks into the agents' queues; wait while one is full, until flow is suspended."""
        if all(not queue.full() for queued in chunks for queue in self._queues(_tp(queued.chunk))):
            await self._put(generation, chunks)  # without the cost of two tasks
        else:
            await self.wait_first(self._put(generation, chunks), self.suspend_flow.wait())

    async def _put(self, generation: int, chunks: Sequence[QueuedChunk]) -> None:
        for queued in chunks:
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return
            chunk = queued.chunk
            tp = _tp(chunk)
            if not self._is_changelog(tp):
                self._expected[tp] = chunk.next_offset
                self._note_end(tp, chunk)
                self._ledger.delivered(tp, chunk)
            self.app.monitor.track_tp_end_offset(tp, chunk.end)
            await self.callback(self._to_message(tp, queued))

    def _note_end(self, tp: TP, chunk: Chunk) -> None:
        if tp in self._end_offsets:
            self._end_offsets[tp] = max(self._end_offsets[tp], chunk.end)

    def _to_message(self, tp: TP, record: QueuedChunk) -> ConsumerMessage:
        # recovery waits for the offset before the end: that of a control marker, or of a record that compaction took
        return new_message(tp, record, record.chunk.next_offset - 1, self.app.consumer_generation_id)


def with_has_next(chunks: Sequence[Chunk]) -> list[QueuedChunk]:
    """Order the chunks of one fetch by topic, and set `has_next` for all but the last of each topic."""
    ordered = sorted(chunks, key=lambda chunk: chunk.topic)
    topics = [chunk.topic for chunk in ordered]
    return [QueuedChunk(chunk, topics[i + 1 : i + 2] == [chunk.topic]) for i, chunk in enumerate(ordered)]


def _tp(chunk: Chunk) -> TP:
    return TP(chunk.topic, chunk.partition)


def _position_chunk(tp: TP, position: int, end: int, as_of: int = NEVER) -> Chunk:
    """Create a chunk without records that tells a partition's position."""
    return Chunk(tp.topic, tp.partition, (), (), (), position, position, max(position, end), as_of=as_of)


class Producer(driver.Producer):
    """Faust's producer, which a worker starts and never sends with."""

    def _new_producer(self, transactional_id: str | None = None) -> AIOKafkaProducer:
        app: Any = self.app
        return new_producer(app.settings, transactional_id=transactional_id)


class Transport(driver.Transport):
    """Kafka with chunks as messages."""

    Consumer = Consumer
    Producer = Producer
