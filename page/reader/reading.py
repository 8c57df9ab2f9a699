"""Reads the topics from where the database is: one connection to Kafka, until it fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from app.errors import ConfigError
from app.kafka.clients import new_admin, new_consumer, without_silent_brokers
from app.kafka.ends import ends_and_missing
from app.kafka.topics import partitions_of
from app.settings import Settings
from page.reader.errors import MadeAnew, NotReady, Rewritten, unanswered
from page.reader.parse import Record
from page.reader.sources import Sources
from page.reader.state import Phase
from page.reader.writing import Writing
from page.store.apply import Calendar, Changes

log = logging.getLogger(__name__)

T = TypeVar("T")

#: most records of a batch while the topics are read for the first time, and later
_LOADING_RECORDS, _RECORDS = 20_000, 2_000
#: longest wait for records [ms]; least time from one commit to the next, so that changes come in batches [s]
_WAIT_MS, _INTERVAL_S = 250, 0.1
#: most that is read of a partition at once [bytes]
_FETCH_BYTES = 4 << 20
#: longest time that the brokers hold back an answer: a topic that is not asked for in it waits for so long [ms]
_FETCH_MS = 100
#: interval at which the ends of the topics are looked at, and how long that may take [s]
_LOOK_S, _ANSWER_S = 3.0, 10.0
#: number of looks that fail, or that find a topic shorter than it was, before it is believed
_ATTEMPTS = 4
#: after so many empty answers in a row a topic has no records up to its end: compaction has taken them
_EMPTY_ANSWERS = 20
#: number of records at the end of the sessions among which the newest event is looked for
_LAST_RECORDS = 100


class Progress(Protocol):
    """Whoever is told how far the reading is."""

    def show(self, **values: Any) -> None:
        """Show values of State."""

    def committed(self, positions: Mapping[str, int], changes: Changes | None) -> None:
        """Hear of a commit; positions: by topic; changes: None while not everything has been read."""


class Reading:
    """Reads the topics. Mutable; runs on the reader's event loop, and writes in a thread beside it."""

    def __init__(
        self, settings: Settings, sources: Sources, calendar: Calendar, writing: Writing, progress: Progress
    ) -> None:
        self._settings, self._sources, self._calendar = settings, sources, calendar
        self._writing, self._progress = writing, progress
        self._pool = ThreadPoolExecutor(1, "page-writer")
        self._partitions = [TopicPartition(topic, 0) for topic in sources.all]
        self._positions: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._letters_begin = 0
        #: where the reading began, for the share that is done
        self._begins: dict[TopicPartition, int] = {}
        self._is_live = False
        self._stopping = asyncio.Event()
        #: why the brokers cannot be asked now, a line
        self._problem = ""

    async def run(self) -> None:
        """Read until `stop` is called, or an error is raised.

        NotReady, MadeAnew, Rewritten, ConfigError, KafkaError, OSError, sqlite3.Error.
        """
        self._is_live, self._problem = False, ""
        settings = await without_silent_brokers(self._settings)
        cluster = await self._check(settings)
        if not await self._in_thread(lambda: self._writing.has_origin("cluster", cluster)):
            raise MadeAnew("the brokers are those of another cluster")
        consumer = new_consumer(
            settings,
            auto_offset_reset="none",
            enable_auto_commit=False,
            max_partition_fetch_bytes=_FETCH_BYTES,
            fetch_max_wait_ms=_FETCH_MS,
            request_timeout_ms=20_000,
        )
        try:
            await consumer.start()
            await self._seek(consumer)
            work = (self._look(consumer), self._follow(consumer), self._stopping.wait())
            tasks = [asyncio.ensure_future(each) for each in work]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    if task.done():
                        task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            await self._in_thread(self._writing.abort)
            # aiokafka ends with the cancellation of its own tasks, if a broker was silent (0.14.0)
            with suppress(KafkaError, asyncio.CancelledError):
                await consumer.stop()

    def stop(self) -> None:
        """Let `run` end soon: a connection that is being made is made first, since aiokafka would leave it open."""
        self._stopping.set()

    async def clear(self) -> None:
        """Delete what was read, so that the next run begins anew."""
        await self._in_thread(self._writing.clear)
        self._progress.show(kind=Phase.LOADING, share=0.0, line="", is_complete=False)

    async def close(self) -> None:
        """Wait until what is being written is written. No other call may follow."""
        await asyncio.to_thread(self._pool.shutdown)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    async def _check(self, settings: Settings) -> str:
        """Return the cluster's id. Raises NotReady for a missing topic, ConfigError for one that cannot be read."""
        admin = new_admin(settings)
        try:
            await admin.start()
            existing = await partitions_of(admin, self._sources.all)
            described = await admin.describe_cluster()
        finally:
            await admin.close()
        if missing := [topic for topic in self._sources.all if topic not in existing]:
            raise NotReady(
                f"topic {missing[0]} does not exist yet: start a worker (faust -A app worker; RISK_MODEL empty, v2s or "
                "v2), or set RISK_TOPIC_PREFIX and RISK_APP_ID as for the workers"
            )
        for topic, number in existing.items():
            if number != 1:
                raise ConfigError(f"topic {topic} has {number} partitions and must have 1: make it anew")
        return str(described.get("cluster_id"))

    # -- positions

    async def _seek(self, consumer: AIOKafkaConsumer) -> None:
        consumer.assign(self._partitions)
        begins = await consumer.beginning_offsets(self._partitions)
        letters = TopicPartition(self._sources.dead_letters, 0)
        await self._in_thread(lambda: self._writing.clear_letters(begins[letters]))
        positions = await self._in_thread(self._writing.begin)
        self._progress.show(is_complete=self._writing.is_complete)
        self._ends = await self._checked_ends(consumer, positions)
        for tp in self._partitions:
            position = positions.get(tp.topic, begins[tp])
            if position < begins[tp]:
                log.warning("topic %s: offsets %d to %d were deleted unread", tp.topic, position, begins[tp] - 1)
                position = begins[tp]
            self._positions[tp] = position
            consumer.seek(tp, position)
        self._letters_begin = begins[letters]
        sessions = TopicPartition(self._sources.sessions, 0)
        if sessions.topic not in positions:
            first = await self._first_session(consumer, sessions, begins[sessions])
            self._positions[sessions] = begins[sessions] = first
            consumer.seek(sessions, first)
        self._begins = {
            tp: begins[tp] if not self._writing.is_complete else position for tp, position in self._positions.items()
        }
        self._progress.committed({tp.topic: position for tp, position in self._positions.items()}, None)
        self._show()

    async def _checked_ends(
        self, consumer: AIOKafkaConsumer, positions: Mapping[str, int]
    ) -> dict[TopicPartition, int]:
        """Return the ends of the topics. Raises MadeAnew if one stays below its position."""
        read = {tp: positions.get(tp.topic, 0) for tp in self._partitions}
        ends, shorter = await ends_and_missing(read, lambda *tps: consumer.end_offsets(tps), _ATTEMPTS, 1.0)
        if not shorter:
            return ends
        tp = shorter[0]
        raise MadeAnew(
            f"topic {tp.topic} ends at offset {ends[tp]} and was read up to {positions[tp.topic]}: it was made anew"
        )

    async def _first_session(self, consumer: AIOKafkaConsumer, tp: TopicPartition, begin: int) -> int:
        """Where sessions are read from that have not been read: those that are too old to be kept are left out."""
        end = self._ends[tp]
        if end <= begin:
            return begin
        consumer.seek(tp, max(begin, end - _LAST_RECORDS))
        records = await consumer.getmany(tp, timeout_ms=2_000, max_records=_LAST_RECORDS)
        # a time before that of the newest event is right too: what is too old is left out later
        oldest = self._calendar.earliest(max((record.timestamp for record in records.get(tp, ())), default=0))
        if oldest <= 0:
            return begin
        found = (await consumer.offsets_for_times({tp: oldest}))[tp]
        return begin if found is None else max(begin, found.offset)

    # -- records

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        loop, empty = asyncio.get_running_loop(), 0
        while True:
            began = loop.time()
            number = _RECORDS if self._is_live else _LOADING_RECORDS
            fetched = await consumer.getmany(timeout_ms=_WAIT_MS, max_records=number)
            positions = {tp: await consumer.position(tp) for tp in self._partitions}
            moved = {tp.topic: offset for tp, offset in positions.items() if offset != self._positions[tp]}
            if moved:
                empty = 0
                records = {tp.topic: of_topic for tp, of_topic in fetched.items()}
                await self._write(records, moved)
                self._positions = positions
            else:
                empty += 1
                if not self._writing.is_complete:
                    self._progress.committed(await self._in_thread(self._writing.commit), None)
            if not self._is_live:
                self._show()
                if not self._has_reached_ends() and empty >= _EMPTY_ANSWERS:
                    # what is left was taken by compaction, if the brokers answer
                    await consumer.end_offsets(self._partitions)
                    empty = 0
                    await self._go_live()
                elif self._has_reached_ends():
                    await self._go_live()
            elif await self._in_thread(self._writing.tidy):
                continue
            if moved and self._is_live:
                await asyncio.sleep(max(0.0, _INTERVAL_S - (loop.time() - began)))

    async def _write(self, records: Mapping[str, list[Record]], moved: Mapping[str, int]) -> None:
        if self._writing.is_complete:
            changes = await self._in_thread(lambda: self._writing.write(records, moved))
            self._progress.committed(moved, changes)
        else:
            self._progress.committed(await self._in_thread(lambda: self._writing.load(records, moved)), None)

    def _has_reached_ends(self) -> bool:
        return all(self._positions[tp] >= end for tp, end in self._ends.items())

    async def _go_live(self) -> None:
        if not self._writing.is_complete:
            self._progress.committed(await self._in_thread(self._writing.commit), None)
            log.info("the topics have been read: making what lists need")
            while await self._in_thread(self._writing.tidy):
                pass
            changes = await self._in_thread(self._writing.complete)
            self._progress.committed({}, changes)
        self._is_live = True
        self._progress.show(is_complete=True)
        self._show()
        log.info("the page follows the topics")

    # -- what is shown

    def _show(self) -> None:
        """Show how far it is."""
        ends = self._ends.items()
        whole = sum(max(0, end - self._begins[tp]) for tp, end in ends)
        left = sum(max(0, end - self._positions[tp]) for tp, end in ends)
        share = 1.0 if self._is_live or not whole else 1.0 - left / whole
        kind = Phase.FAILED if self._problem else Phase.LIVE if self._is_live else Phase.LOADING
        self._progress.show(kind=kind, share=share, line=self._problem, behind=left)

    async def _look(self, consumer: AIOKafkaConsumer) -> None:
        """Look at the ends of the topics now and then: whether Kafka answers, and what is left to read."""
        failed = shorter = 0
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                async with asyncio.timeout(_ANSWER_S):
                    ends = await consumer.end_offsets(self._partitions)
                    begins = await consumer.beginning_offsets(self._partitions)
            except (KafkaError, OSError, TimeoutError) as error:
                failed += 1
                if failed >= _ATTEMPTS:
                    raise
                self._problem = unanswered(self._settings, error)
                self._show()
                continue
            failed, self._problem = 0, ""
            below = [tp for tp in self._partitions if ends[tp] < self._positions[tp]]
            shorter = shorter + 1 if below else 0
            if shorter >= _ATTEMPTS:
                raise MadeAnew(f"topic {below[0].topic} is shorter than what was read of it: it was made anew")
            if begins[TopicPartition(self._sources.dead_letters, 0)] != self._letters_begin:
                raise Rewritten(self._sources.dead_letters)
            if self._is_live:
                self._ends = ends
                self._show()
