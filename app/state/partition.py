"""One owned partition of a state table: its position, its records, and one transaction per flush."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from agents.ports import Target
from app.errors import PartitionsChanged
from app.ops.failpoints import failpoints
from app.state.caches import CachedActivity, CachedLogIds, CachedStates
from app.state.partition_store import PartitionStore
from app.state.stored_positions import divided_otherwise
from app.state.table import StateTable
from app.state.transactions import Transactions
from app.state.writes import Records, Writes
from codec.record_batch import Rows
from models import activity_records as activities
from models import early_events
from models import forgotten as last_forgotten
from models import position as positions
from models import ticks as stored_ticks
from models.activity_records import Packed
from models.forgotten import Forgotten
from models.log_ids import Bitmaps
from models.position import Position
from models.rules import Int64s
from models.ticks import Ticks
from models.visits import StudentDictionary

log = logging.getLogger(__name__)


class Partition:
    """State and output of one partition, for one assignment. Mutable; discarded as a whole, never repaired.

    A flush writes output rows, changelog records and the position in one Kafka transaction, perhaps with the flushes
    of other partitions. After its commit the same records are written to RocksDB, then to the caches.
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
        self._ticks: Ticks | None = None
        self._store = PartitionStore(table, number)
        self._states, self._log_ids = CachedStates(self._store), CachedLogIds(self._store)
        self._activity = CachedActivity(self._store)
        self._flushing = asyncio.Lock()
        self.closed = False

    @property
    def position(self) -> Position:
        """The source offsets applied so far; read from the store at the first batch, which is after recovery."""
        if self._position is None:
            raw = self.read(positions.KEY)
            with self._store.locating_errors():
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
        with self._store.locating_errors():
            return positions.unpack_next_offset(raw)

    @property
    def forgotten(self) -> Forgotten:
        """The last request to forget students that has been applied."""
        raw = self.read(last_forgotten.KEY)
        with self._store.locating_errors():
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
        """Number of cached state records."""
        return len(self._states)

    def read(self, key: bytes) -> bytes | None:
        """Read one record from the store."""
        return self._store.read([key])[0]

    def load(self, students: StudentDictionary) -> Sequence[bytes | None]:
        """Return the state record of each student [u]. Raises StateError for one that is damaged or too new."""
        return self._states.read(students)

    def log_ids(self, spans: Int64s) -> Bitmaps:
        """Return which log ids of each of `spans` [b] have been applied.

        Raises StateError for a record that is damaged or too new.
        """
        return self._log_ids.read(spans)

    @property
    def ticks(self) -> Ticks | None:
        """The days of which the cohort sums are written, and as of which the students are scored; None: never."""
        if self._ticks is None:
            raw = self.read(stored_ticks.KEY)
            with self._store.locating_errors():
                self._ticks = stored_ticks.unpack(raw)
        return self._ticks

    def activity(self, students: Int64s) -> Sequence[bytes | None]:
        """Return the record of activity of each of `students` [u]; None for one without.

        Raises StateError for one that is damaged or too new.
        """
        return self._activity.read(students)

    def early(self, students: Int64s) -> Sequence[bytes | None]:
        """Return the record of early events of each of `students` [u]; None for one without."""
        return self._store.read(early_events.keys_of(students))

    def scan_early(self, students: int) -> Iterator[tuple[Int64s, Sequence[bytes]]]:
        """Yield all records of early events with their students, so many at a time; no flush in the meantime."""
        for keys, values in self._store.scan(early_events.PREFIX, students):
            yield early_events.students_of(keys), values

    def scan_activity(self, students: int) -> Iterator[Packed]:
        """Yield all records of activity by student, about so many at a time; no flush in the meantime.

        Raises StateError for one that is damaged or too new.
        """
        return self._activity.scan(students)

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
            await self._store.write({**changes[0], **changes[1], **last} if changes[0] or changes[1] else last, offset)
            await failpoints.at("written")
            if cached is not None:
                self._states.update(*cached)
            if log_ids:
                self._log_ids.update(log_ids)
            if activity:
                self._activity.update(activity)
            self._position, self._ticks = position or self._position, ticks or self._ticks
            self._histograms.duration.observe(time.monotonic() - began)
            self._histograms.rows.observe(sum(map(len, rows.values())) + sum(len(some) for _, some in more))
            if ticks is not None:
                await failpoints.at("summed" if ticks.scored < ticks.reached else "scored")
            if last_forgotten.KEY in records:
                await failpoints.at("forgotten")
            return True

    async def close(self) -> None:
        """Wait for the flush in progress, then refuse further ones."""
        async with self._flushing:
            self.closed = True


def _by_key(activity: Mapping[int, bytes | None]) -> Records:
    """Records of activity by key instead of student."""
    return dict(zip(activities.keys_of(_students(activity)), activity.values(), strict=True))


def _students(records: Mapping[int, bytes | None]) -> Int64s:
    return np.fromiter(records, np.int64, len(records))
