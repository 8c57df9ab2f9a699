"""One owned partition of a state table: its cached records, its position, and one transaction per flush."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice

import numpy as np

from agents.ports import Target
from app.errors import PartitionsChanged
from app.ops.failpoints import failpoints
from app.state.activity_copy import ActivityCopy
from app.state.stored_positions import divided_otherwise
from app.state.table import StateTable
from app.state.transactions import Transactions
from app.state.writes import Records, Writes
from codec.record_batch import Rows
from models import activity_records as activities
from models import early_events, state
from models import forgotten as last_forgotten
from models import log_ids as applied_ids
from models import position as positions
from models import ticks as stored_ticks
from models.activity_records import Packed
from models.forgotten import Forgotten
from models.log_ids import Bitmaps
from models.murmur2 import keys_of
from models.position import Position
from models.rules import Int64s
from models.state import NewerState, StateError
from models.ticks import Ticks
from models.visits import StudentDictionary

log = logging.getLogger(__name__)

#: maximum number of records cached per partition; RocksDB holds the rest
CACHED_RECORDS = 50_000
#: maximum number of records written to the store without another thread
_WRITTEN_AT_ONCE = 5_000
#: maximum number of records of log ids cached per partition, of at most 528 B each
CACHED_LOG_IDS = 4_096
#: what to do about a damaged record
_REMEDY = (
    "delete RISK_DATADIR and start again, which reads topic %s from its beginning; if that does not help the topic is "
    "damaged: set another RISK_APP_ID to start over"
)


class Partition:
    """State and output of one partition, for one assignment. Mutable; discarded as a whole, never repaired.

    A flush writes output rows, changelog records and the position in one Kafka transaction, perhaps with the flushes
    of other partitions. After its commit the same records are written to RocksDB, then to the cache.
    """

    def __init__(
        self,
        number: int,
        table: StateTable,
        transactions: Transactions,
        *,
        generation: int = 0,
        partitions: int = 0,
        sources: int = 0,
        max_ahead_ms: int = 0,
    ) -> None:
        """generation: see agents.ports.StatePartition; partitions: of the table, 0 if it keeps no position.

        sources: partitions of the source topic, at least.
        """
        self.number, self.generation = number, generation
        self._table, self._transactions = table, transactions
        self._partitions, self._sources = partitions, sources
        self._histograms = table.flushes
        self._max_ahead_ms = max_ahead_ms
        self._position: Position | None = None
        #: records by student, None for the null student; None instead of a record: the student was forgotten
        self._cache: dict[int | None, bytes | None] = {}
        #: records of activity by student; None: known to have none
        self._activity: dict[int, bytes | None] = {}
        self._activity_copy = ActivityCopy()
        self._ticks: Ticks | None = None
        #: records of log ids by key
        self._log_ids: dict[bytes, bytes] = {}
        self._flushing = asyncio.Lock()
        self.closed = False

    @property
    def position(self) -> Position:
        """The source offsets applied so far; read from the store at the first batch, which is after recovery."""
        if self._position is None:
            raw = self.read(positions.KEY)
            with self._locating_errors():
                position = positions.unpack(raw, self._sources)
            if position.partitions not in (0, self._partitions):
                raise PartitionsChanged(divided_otherwise(self._table.changelog, self._partitions, position.partitions))
            self._position = self._set_back(replace(position, partitions=self._partitions))
        return self._position

    def _set_back(self, position: Position) -> Position:
        """Limit stream time to RISK_MAX_AHEAD beyond the clock: the way back after an event from the future."""
        if not self._max_ahead_ms:
            return position
        limit = time.time_ns() // 1_000_000 + self._max_ahead_ms
        limited = positions.set_back(position, limit)
        if limited is not position:
            hours = (max(position.watermarks.newest, position.watermarks.stream_time) - limit) / 3_600_000
            log.warning(
                "%s-%d: stream time was %.1f h further ahead of the clock than RISK_MAX_AHEAD allows, and is set back",
                self._table.changelog, self.number, hours,
            )  # fmt: skip
        return limited

    @property
    def next_offset(self) -> int:
        """Offset of the first prediction that the agent `alert` has not read."""
        raw = self.read(positions.NEXT_OFFSET_KEY)
        with self._locating_errors():
            return positions.unpack_next_offset(raw)

    @property
    def forgotten(self) -> Forgotten:
        """The last request to forget students that has been applied."""
        raw = self.read(last_forgotten.KEY)
        with self._locating_errors():
            return last_forgotten.unpack(raw)

    @property
    def loaded_position(self) -> Position | None:
        """The position if it has been read: this property must not read it, for recovery may not be done."""
        return self._position

    @property
    def loaded_ticks(self) -> Ticks | None:
        """The ticks if they have been read; see loaded_position."""
        return self._ticks

    @property
    def known(self) -> int:
        """Number of cached records."""
        return len(self._cache)

    def read(self, key: bytes) -> bytes | None:
        """Read one record from the store."""
        return self._table.read(self.number, [key])[0]

    def load(self, students: StudentDictionary) -> Sequence[bytes | None]:
        """Return the state record of each student [u]. Raises StateError for one that is damaged or too new."""
        records = list(map(self._cache.get, _cache_keys(students)))
        if None in records:
            missing = [i for i, record in enumerate(records) if record is None]
            keys = keys_of(students.student[missing], students.null[missing])
            stored = self._table.read(self.number, keys)
            with self._locating_errors():
                state.check([r for r in stored if r is not None], state.VERSION, "a state record")
            for i, record in zip(missing, stored, strict=True):
                records[i] = record
        return records

    def log_ids(self, spans: Int64s) -> Bitmaps:
        """Return which log ids of each of `spans` [b] have been applied.

        Raises StateError for a record that is damaged or too new.
        """
        keys = applied_ids.keys_of(spans)
        records = [self._log_ids.get(key) for key in keys]
        missing = [i for i, record in enumerate(records) if record is None]
        if missing:
            for i, record in zip(missing, self._table.read(self.number, [keys[i] for i in missing]), strict=True):
                records[i] = record
        with self._locating_errors():
            return applied_ids.unpack(records)

    @property
    def ticks(self) -> Ticks | None:
        """The days of which the cohort sums are written, and as of which the students are scored; None: never."""
        if self._ticks is None:
            raw = self.read(stored_ticks.KEY)
            with self._locating_errors():
                self._ticks = stored_ticks.unpack(raw)
        return self._ticks

    def activity(self, students: Int64s) -> Sequence[bytes | None]:
        """Return the record of activity of each of `students` [u]; None for one without.

        Raises StateError for one that is damaged or too new.
        """
        numbers = students.tolist()
        missing = [i for i, student in enumerate(numbers) if student not in self._activity]
        if missing:
            stored = self._table.read(self.number, activities.keys_of(students[missing]))
            with self._locating_errors():
                activities.check([r for r in stored if r is not None])
            self._update_cached_activity({numbers[i]: record for i, record in zip(missing, stored, strict=True)})
            found = dict(zip(missing, stored, strict=True))
            return [found[i] if i in found else self._activity.get(s) for i, s in enumerate(numbers)]
        return [self._activity[student] for student in numbers]

    def early(self, students: Int64s) -> Sequence[bytes | None]:
        """Return the record of early events of each of `students` [u]; None for one without."""
        return self._table.read(self.number, early_events.keys_of(students))

    def scan_early(self, students: int) -> Iterator[tuple[Int64s, Sequence[bytes]]]:
        """Yield all records of early events with their students, so many at a time; no flush in the meantime."""
        records = self._table.scan(self.number, early_events.PREFIX)
        while some := list(islice(records, students)):
            yield early_events.students_of([key for key, _ in some]), [value for _, value in some]

    def scan_activity(self, students: int) -> Iterator[Packed]:
        """Yield all records of activity by student, about so many at a time; no flush in the meantime.

        Raises StateError for one that is damaged or too new.
        """
        return self._activity_copy.scan(self._scan_stored(students), students)

    def _scan_stored(self, students: int) -> Iterator[Packed]:
        records = self._table.scan(self.number, activities.PREFIX)
        while some := list(islice(records, students)):
            keys, values = zip(*some, strict=True)
            with self._locating_errors():
                packed = activities.join(activities.students_of(keys), values, verify=True)
            yield packed

    @contextmanager
    def _locating_errors(self) -> Iterator[None]:
        """Add table, topic, partition and remedy to a StateError; not the key, which may be a student's id."""
        try:
            yield
        except StateError as error:
            topic = self._table.changelog
            remedy = "" if isinstance(error, NewerState) else f"; {_REMEDY % topic}"
            where = f"table {self._table.name} (topic {topic}) partition {self.number}"
            raise type(error)(f"{where}: {error}{remedy}") from None

    async def flush(
        self,
        rows: Mapping[Target, Rows],
        records: Mapping[bytes, bytes | None],
        position: Position | None = None,
        cached: tuple[StudentDictionary, Sequence[bytes | None]] | None = None,
        log_ids: Mapping[bytes, bytes] | None = None,
        *,
        activity: Mapping[int, bytes | None] | None = None,
        early: Mapping[int, bytes | None] | None = None,
        ticks: Ticks | None = None,
        more: Sequence[tuple[Target, Rows]] = (),
    ) -> bool:
        """Write output `rows`, and `more` behind them, and state in one transaction.

        The state: `records` (None: delete), the `position`, records of `log_ids`, records of `activity` and `early`
        events by student, and `ticks`. cached: students and their records among `records`, to keep in memory; None: the
        student has none now.

        Returns False, and writes nothing, if another worker owns the partition by now. Any other failure raises, and
        this object must not be used again: memory is as of the last commit, but whether Kafka has committed this one
        is unknown.
        """
        async with self._flushing:
            if self.closed:
                return False
            began = time.monotonic()
            last = dict(records)
            if ticks is not None:
                last[stored_ticks.KEY] = stored_ticks.pack(ticks)
            if position is not None:
                last[positions.KEY] = positions.pack(position)
            if early:
                last |= dict(zip(early_events.keys_of(_students(early)), early.values(), strict=True))
            changes = [log_ids or {}, _by_key(activity or {}), last]
            try:
                writes = Writes([*rows.items(), *more], (self._table.changelog, self.number), changes)
                offset = await self._transactions.run(writes)
            except Exception as error:
                if not self._transactions.is_fenced(error):
                    raise
                self.closed = True
                log.warning("%s-%d: another worker has taken over", self._table.changelog, self.number)
                return False
            await self._write({**changes[0], **changes[1], **last} if changes[0] or changes[1] else last, offset)
            await failpoints.at("written")
            if cached is not None:
                self._update_cache(*cached)
            if log_ids:
                self._update_cached_log_ids(log_ids)
            if activity:
                self._update_cached_activity(activity)
                self._activity_copy.update(activity)
            self._position, self._ticks = position or self._position, ticks or self._ticks
            self._histograms.duration.observe(time.monotonic() - began)
            self._histograms.rows.observe(sum(map(len, rows.values())) + sum(len(some) for _, some in more))
            if ticks is not None:
                await failpoints.at("summed" if ticks.scored < ticks.reached else "scored")
            if last_forgotten.KEY in records:
                await failpoints.at("forgotten")
            return True

    async def _write(self, records: Records, offset: int) -> None:
        """Write to the store; many records in another thread, so that the event loop is not held."""
        if len(records) <= _WRITTEN_AT_ONCE:
            self._table.write(self.number, records, offset)
        else:
            writing = asyncio.ensure_future(asyncio.to_thread(self._table.write, self.number, records, offset))
            try:
                await asyncio.shield(writing)
            finally:
                await writing  # if cancelled too: nothing may be written after the partition was given up

    def _update_cache(self, students: StudentDictionary, records: Sequence[bytes | None]) -> None:
        if len(self._cache) + len(records) > CACHED_RECORDS:
            self._cache.clear()
        self._cache.update(zip(_cache_keys(students), records, strict=True))

    def _update_cached_activity(self, records: Mapping[int, bytes | None]) -> None:
        if len(self._activity) + len(records) > CACHED_RECORDS:
            self._activity.clear()
        if len(records) <= CACHED_RECORDS:
            self._activity.update(records)

    def _update_cached_log_ids(self, records: Mapping[bytes, bytes]) -> None:
        if len(self._log_ids) + len(records) > CACHED_LOG_IDS:
            self._log_ids.clear()
        if len(records) <= CACHED_LOG_IDS:
            self._log_ids.update(records)

    async def close(self) -> None:
        """Wait for the flush in progress, then refuse further ones."""
        async with self._flushing:
            self.closed = True


def _by_key(activity: Mapping[int, bytes | None]) -> Records:
    """Records of activity by key instead of student."""
    return dict(zip(activities.keys_of(_students(activity)), activity.values(), strict=True))


def _students(records: Mapping[int, bytes | None]) -> Int64s:
    return np.fromiter(records, np.int64, len(records))


def _cache_keys(students: StudentDictionary) -> list[int | None]:
    keys: list[int | None] = students.student.tolist()
    if len(keys) and students.null[-1]:
        keys[-1] = None
    return keys
