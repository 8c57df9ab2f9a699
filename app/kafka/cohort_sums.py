"""Follows the topic of cohort sums: what each visits partition has written of its students as of each day."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from agents.cohort_tables import in_thread_if
from app.kafka.clients import new_consumer
from app.settings import Settings
from models import cohort_records, cohorts
from models.cohort_keys import parse, sums_key
from models.cohorts import Cohorts

#: how long one request waits for records [ms]; pause after an error, and longest wait until the caller looks again [s]
_WAIT_MS, _PAUSE_S, _WAIT_S = 500, 1.0, 0.2
#: number of tables that are kept: of the days for which events are scored, and of several to catch up
_TABLES = 40
#: for how many days before the latest that all partitions have scored sums are kept: events are scored against them
_KEPT_DAYS = 5
#: size of a day's sums above which they are added up in a thread [bytes]
_LARGE = 1_000_000


class CohortSums:
    """The sums of all visits partitions, as read so far. Mutable."""

    def __init__(self, settings: Settings, partitions: int) -> None:
        """partitions: of the visits topic; 0: no sums are read."""
        self._settings, self._partitions = settings, partitions
        self._next = 0
        #: day → partition → pieces by number
        self._pieces: dict[int, dict[int, dict[int, bytes]]] = {}
        #: partition → last day of which its sums are there
        self._reached: dict[int, int] = {}
        #: partition → a day as of which it has scored its students: what it had reached before
        self._scored: dict[int, int] = {}
        #: the sums over all partitions by day
        self._tables: dict[int, Cohorts] = {}
        self._changed, self._adding = asyncio.Event(), asyncio.Lock()

    @property
    def position(self) -> int:
        """The offset of the next record."""
        return self._next

    async def run(self) -> None:
        """Read the topic until cancelled."""
        while self._partitions:
            try:
                await self._follow()
            except (KafkaError, OSError):
                await asyncio.sleep(_PAUSE_S)

    async def _follow(self) -> None:
        consumer: AIOKafkaConsumer = new_consumer(self._settings)
        await consumer.start()
        try:
            tp = TopicPartition(self._settings.topic_names.cohorts, 0)
            consumer.assign([tp])
            consumer.seek(tp, self._next)
            while True:
                records = (await consumer.getmany(tp, timeout_ms=_WAIT_MS)).get(tp, ())
                for record in records:
                    self.apply(record.key or b"", record.value)
                    self._next = record.offset + 1
                if records:
                    self._changed.set()
        finally:
            await consumer.stop()

    def apply(self, key: bytes, value: bytes | None) -> None:
        """Apply a record of the topic."""
        day, partition, piece = parse(key)
        if day is None:
            if value is None:
                self._reached.pop(partition, None)
            else:
                before, self._reached[partition] = self._reached.get(partition), int(value)
                if before is not None and before < int(value):  # only after the scores of those days
                    self._scored[partition] = before
            return
        pieces = self._pieces.setdefault(day, {}).setdefault(partition, {})
        if value is not None:
            pieces[piece] = value
        else:
            pieces.pop(piece, None)
            if not pieces:
                del self._pieces[day][partition]
            if not self._pieces[day]:
                del self._pieces[day]

    def are_complete(self, day: int) -> bool:
        """Whether the sums of all partitions as of `day` are there."""
        return all(self._reached.get(partition, day - 1) >= day for partition in range(self._partitions))

    async def wait(self, day: int) -> bool:
        """Wait for a moment; return whether the sums as of `day` are complete."""
        if not self.are_complete(day):
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), _WAIT_S)
            except TimeoutError:
                return False
        return self.are_complete(day)

    async def tables(self, days: Sequence[int]) -> Mapping[int, Cohorts]:
        """Return the sums over all partitions as of `days`, which are complete; other work gets its turn meanwhile.

        Raises StateError for damaged ones.
        """
        tables: dict[int, Cohorts] = {}
        for day in days:
            async with self._adding:  # partitions ask for the same at the same time
                known = self._tables.get(day)
                if known is None:
                    parts = self._parts(day)
                    is_large = sum(len(piece) for part in parts for piece in part) > _LARGE
                    known = self._tables[day] = await in_thread_if(is_large, self._add, parts)
                    await asyncio.sleep(0)
            tables[day] = known
        while len(self._tables) > _TABLES:
            del self._tables[min(self._tables)]
        return tables

    def _parts(self, day: int) -> list[list[bytes]]:
        """The pieces of each partition that has some."""
        parts = self._pieces.get(day, {})
        return [[parts[p][i] for i in sorted(parts[p])] for p in range(self._partitions) if p in parts]

    def _add(self, parts: Sequence[Sequence[bytes]]) -> Cohorts:
        decoded = [cohort_records.decode(pieces) for pieces in parts]
        return cohorts.add(decoded or [Cohorts.none()], self._settings.alert_budget)

    def outdated(self, partition: int) -> list[bytes]:
        """Return the keys of a partition's sums as of days that no partition needs any more."""
        if not all(p in self._scored for p in range(self._partitions)):
            return []
        before = min(self._scored[p] for p in range(self._partitions)) - _KEPT_DAYS
        days = (day for day in self._pieces if day < before)
        return [sums_key(day, partition, piece) for day in days for piece in self._pieces[day].get(partition, ())]
