"""Faust's aiokafka transport with chunks for messages; chosen by broker URLs `chunked://host:port`.

What Faust keeps: the app, agents, assignment, recovery, flow control, timers. What changes here:

- one message is one chunk: everything a fetch returned for one topic partition, or several small ones that
  wait for their agent together;
- only committed records are read, and an end offset is the end of what is committed;
- Faust's own acks do not count. A chunk counts as processed when the wiring says `processed(...)`,
  and what is committed is the processed prefix (ledger.py);
- records of the streams are fetched only after this generation's seek to the committed offsets, and a
  chunk is delivered only if it begins where the one before it ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from aiokafka.errors import ConsumerStoppedError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage
from mode import Service

from app.errors import MissingRecords
from app.kafka.ledger import Ledger
from app.kafka.queue import ChunkQueue, merge_small
from app.kafka.thread import Thread
from models.chunk import Chunk

#: name of the transport in broker URLs
SCHEME = "chunked"
#: how often the ends of the partitions are asked for [s]
LOOK_S = 0.5
#: pause when no partition may be fetched [s]
_IDLE_S = 0.02


class Consumer(driver.Consumer):
    """Delivers chunks, and commits what has been processed."""

    #: most records in one chunk
    max_rows: int = 50_000

    def on_init(self) -> None:
        """Set up what a restart of the consumer clears."""
        super().on_init()
        self._ledger: Ledger[TP] = Ledger()
        #: where the next chunk of each stream partition must begin
        self._expected: dict[TP, int] = {}
        #: partitions an agent has asked to wait, apart from Faust's own queue pressure
        self._held: set[TP] = set()
        #: the generation whose seek is done
        self._sought: int | None = None
        self._statuses: list[Chunk] = []
        #: of each stream partition, where this assignment began, and the end as of the last look
        self._begun: dict[TP, int] = {}
        #: how often the ends have been looked at
        self.looks = 0
        self._ends: dict[TP, int] = {}
        #: the fetch under way
        self._ahead: asyncio.Task[tuple[int, list[Chunk]]] | None = None

    def _new_consumer_thread(self) -> Thread:
        return Thread(self, loop=self.loop, beacon=self.beacon)

    # -- what the wiring sets and calls

    #: called at the start of a rebalance, while the partitions are still ours
    revoking: Callable[[], Awaitable[None]] | None = None

    def processed(self, chunk: Chunk) -> None:
        """Everything that follows from `chunk` is written: its offsets may be committed."""
        self._ledger.processed(TP(chunk.topic, chunk.partition), chunk)

    def hold(self, topic: str, partition: int, held: bool) -> None:
        """Stop or go on fetching a partition."""
        (self._held.add if held else self._held.discard)(TP(topic, partition))

    @Service.task
    async def _look_at_ends(self) -> None:
        while not self.should_stop:
            await self.sleep(LOOK_S)
            if self._sought is not None and self._sought == self.app.consumer_generation_id:
                ends = await self.highwaters(*self._expected)
                if self._sought == self.app.consumer_generation_id:
                    self._ends = {tp: ends[tp] for tp in self._expected if tp in ends}
                    self.looks += 1

    def lags(self) -> dict[tuple[str, int], int]:
        """Records not processed yet, of each stream partition, as of the last look at its end."""
        begun = self._begun
        return {
            (tp.topic, tp.partition): max(0, end - self._ledger.done(tp, begun[tp])) for tp, end in self._ends.items()
        }

    def waiting(self) -> tuple[str | None, tuple[int, ...]]:
        """What is there to be processed, for a person, and a mark that changes whenever some of it has been.

        Partitions that are held back do not count: they wait for another one, maybe another worker's.
        Where nobody has answered how long the topics are, that is what is waited for.
        """
        lags = {tp: lag for tp, lag in self.lags().items() if lag and TP(*tp) not in self._held}
        done = tuple(self._ledger.done(TP(*tp), self._begun[TP(*tp)]) for tp in lags)
        if not lags:
            return ("Kafka has not said where the topics end" if self._begun else None), (self.looks,)
        (topic, partition), lag = max(lags.items(), key=lambda one: one[1])
        return f"{lag} records of topic {topic} partition {partition} wait", done

    # -- commits: the processed prefix

    def ack(self, message: Any) -> bool:
        """Faust's acks follow its own idea of "processed" (also on errors and skips): they do not count."""
        self._unacked_messages.discard(message)
        return False

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return iter(self._ledger.committable())

    def _new_offset(self, tp: TP) -> int | None:
        return self._ledger.committable().get(tp)

    async def _commit(self, offsets: Any) -> bool:
        # a crash ends the thread too: whoever then waits for its answer waits for ever. What was not
        # committed is read again
        if self._crashed.is_set() or self._thread.thread_loop.is_closed():
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
        """Finish and commit what is under way, then forget what was delivered."""
        if self.revoking is not None:
            await self.revoking()
        await self.commit()
        self._ledger.clear()
        self._sought = None
        await super().on_partitions_revoked(revoked)

    async def perform_seek(self) -> None:
        """Go to the committed offsets, and tell the agents where each partition stands.

        Raises Hole if a partition ends before what was committed: the topic is not the one it was.
        """
        generation = self.app.consumer_generation_id
        self._sought = None
        streams = sorted(tp for tp in self.assignment() if not self._is_changelog_tp(tp))
        committed = {TP(*tp): offset for tp, offset in (await self.seek_to_committed()).items()}
        first = await self.earliest_offsets(*streams) if streams else {}
        ends = await self.highwaters(*streams) if streams else {}
        positions = {tp: committed.get(tp) or first[tp] for tp in streams}
        for tp, next_offset in positions.items():
            if next_offset > ends[tp]:
                raise MissingRecords(
                    f"topic {tp.topic} partition {tp.partition} ends at offset {ends[tp]}, but {next_offset} was "
                    "committed: it was deleted and made anew; set another RISK_APP_ID to begin anew"
                )
        if positions:
            await self.seek_wait(positions)
        self._ledger.clear()
        self._held.clear()
        self._committed_offset.update({tp: offset for tp, offset in committed.items() if offset})
        self._expected, self._begun = dict(positions), dict(positions)
        self._ends = {tp: ends[tp] for tp in positions}
        self._statuses = [_status(tp, at, ends[tp]) for tp, at in positions.items()]
        self._sought = generation

    # -- fetching

    def _to_message(self, tp: TP, record: Chunk) -> ConsumerMessage:
        message: Any = ConsumerMessage  # typed for bytes; a chunk goes through all the same
        built: ConsumerMessage = message(
            record.topic,
            record.partition,
            record.next_offset - 1,
            None,
            0,
            (),
            None,
            record,
            None,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )
        return built

    def _wanted(self) -> set[TP]:
        active = self._get_active_partitions() - self._held
        if self._sought is None or self._sought != self.app.consumer_generation_id:
            return {tp for tp in active if self._is_changelog_tp(tp)}
        return active

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
            if self._ahead is not None:
                self._ahead.cancel()
                self._ahead = None

    async def _next_chunks(self) -> tuple[int, list[Chunk]]:
        """What is to be handed on, and the generation in which it was fetched."""
        generation = self.app.consumer_generation_id
        if self._statuses and self._sought == generation:
            statuses, self._statuses = self._statuses, []
            return generation, statuses
        ahead, self._ahead = self._ahead or self._fetch(), None
        if ahead is None:
            await self.sleep(_IDLE_S)
            return generation, []
        generation, chunks = await ahead
        # only what is handed on is company: somebody waits for it
        due = [chunk for chunk in chunks if await self._due(chunk, generation)]
        due = _followed([chunk for chunk in due if not self._joined(chunk, generation)])
        self._ahead = self._fetch()  # not sooner: what was not due may have been sought
        return generation, due

    def _fetch(self) -> asyncio.Task[tuple[int, list[Chunk]]] | None:
        """Have the consumer's thread make the next chunks while those before them are worked at; None: of nothing."""
        wanted, generation = self._wanted(), self.app.consumer_generation_id
        thread: Any = self._thread

        async def fetched() -> tuple[int, list[Chunk]]:
            return generation, await thread.chunks(wanted, self.max_rows)

        return asyncio.ensure_future(fetched()) if wanted else None

    async def _due(self, chunk: Chunk, generation: int) -> bool:
        """Whether what was fetched in `generation` is to be handed on."""
        tp = TP(chunk.topic, chunk.partition)
        if not self.flow_active or self.app.consumer_generation_id != generation:
            return False  # what comes after the rebalance is fetched anew
        return self._is_changelog_tp(tp) or await self._joins(tp, chunk)

    def _joined(self, chunk: Chunk, generation: int) -> bool:
        """Add a small chunk to the one before it, if that still waits for its agent; most of what one costs is once."""
        tp = TP(chunk.topic, chunk.partition)
        queues = self._queues(tp)
        if self._is_changelog_tp(tp) or not self.flow_active or len(queues) != 1:
            return False
        event = queues[0].last_of(tp)
        if event is None or not event.message.generation_id == generation == self.app.consumer_generation_id:
            return False
        whole = merge_small(event.value, chunk)
        if whole is None or not self._ledger.replace_last(tp, event.value, whole):
            return False
        event.value = event.message.value = whole
        self._expected[tp] = whole.next_offset
        self.app.monitor.track_tp_end_offset(tp, whole.end)
        return True

    async def _deliver(self, generation: int, chunks: Sequence[Chunk]) -> None:
        """Put chunks of different partitions into the agents' queues, together; waits where one is full."""
        if all(self._has_room(TP(chunk.topic, chunk.partition)) for chunk in chunks):
            await self._put(generation, chunks)  # at once: tasks that wait would cost more than what they wait for
        else:
            await self.wait_first(self._put(generation, chunks), self.suspend_flow.wait())

    def _has_room(self, tp: TP) -> bool:
        return not any(queue.full() for queue in self._queues(tp))

    def _queues(self, tp: TP) -> list[ChunkQueue]:
        """The queues of the agents of a partition."""
        conductor: Any = self.app.topics
        return [channel.queue for channel in conductor._tp_index.get(tp, ())]

    async def _put(self, generation: int, chunks: Sequence[Chunk]) -> None:
        for chunk in chunks:
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return
            tp = TP(chunk.topic, chunk.partition)
            if not self._is_changelog_tp(tp):
                self._expected[tp] = chunk.next_offset
                self._ledger.delivered(tp, chunk)
            self.app.monitor.track_tp_end_offset(tp, chunk.end)
            await self.callback(self._to_message(tp, chunk))

    async def _joins(self, tp: TP, chunk: Chunk) -> bool:
        """Whether `chunk` begins where the one before it ended; if not, see to it that nothing is lost."""
        expected = self._expected.get(tp)
        if expected is None or chunk.start < expected:
            return False  # from before a seek: it comes again
        if chunk.start > expected:
            earliest = (await self.earliest_offsets(tp)).get(tp, 0)
            if earliest <= expected:
                self.log.error("%s: got offset %d instead of %d, reading again", tp, chunk.start, expected)
                await self._seek(tp, expected)
                return False
            self.log.error(
                "topic %s partition %d: offsets %d to %d were deleted by retention before they were read",
                tp.topic, tp.partition, expected, chunk.start - 1,
            )  # fmt: skip
        return True


def _followed(chunks: list[Chunk]) -> list[Chunk]:
    """The chunks of one fetch, each topic's side by side, knowing which of them have company."""
    ordered = sorted(chunks, key=lambda chunk: chunk.topic)
    behind = [*ordered[1:], None][: len(ordered)]
    return [
        replace(chunk, followed=True) if after is not None and after.topic == chunk.topic else chunk
        for chunk, after in zip(ordered, behind, strict=True)
    ]


def _status(tp: TP, next_offset: int, end: int) -> Chunk:
    """A chunk without records that tells where a partition stands."""
    return Chunk(tp.topic, tp.partition, (), (), (), next_offset, next_offset, max(next_offset, end))


class Transport(driver.Transport):
    """Kafka with chunks for messages."""

    Consumer = Consumer
