"""Entries of some students of a partition, as they are while ticks score them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from agents.ports import StatePartition
from agents.risk_output import Effect
from models import activity_records, early_events
from models.activity import Activity
from models.activity_records import Packed
from models.early_events import EarlyEvents
from models.rules import Bools, Int64s

#: number of students that are scored before other work gets its turn
SLICE = 5_000
#: most students of a partition that are kept in memory from its sums to its scores [about 120 B each]
_KEPT = 25_000


@dataclass(slots=True)
class Entries:
    """The entries of some students, and the events that wait to become part of them. Mutable."""

    #: ascending [u]
    students: Int64s
    activity: Activity
    #: the risk of each last written to MOODLE_LOGS_PREDICTION [u] in 1e-4
    predicted: Int64s
    early: EarlyEvents
    #: the tick after which each early event becomes part of its entry [n]; see Risk.due
    due: Int64s
    #: of whom the record of activity, and that of early events, is to be written [u]
    changed: Bools = field(init=False)
    taken: Bools = field(init=False)

    def __post_init__(self) -> None:
        self.changed, self.taken = (np.zeros(len(self.students), np.bool_) for _ in range(2))

    def keep(self, effect: Effect) -> None:
        """Add the records that have changed since the last time to an effect."""
        if self.taken.any():
            self._keep_early(effect)
        if not self.changed.any():
            return
        owners, new = _renumbered(self.changed)
        kept = self.activity.take(self.changed[self.activity.owner])
        records = activity_records.pack(kept.owned_by(new[kept.owner]), self.predicted[owners])
        effect.activity.update(zip(self.students[owners].tolist(), records, strict=True))
        self.changed[:] = False

    def _keep_early(self, effect: Effect) -> None:
        owners, new = _renumbered(self.taken)
        left = self.early.take(self.taken[self.early.events.owner])
        records = early_events.pack(left.owned_by(new[left.events.owner]), len(owners))
        effect.early.update(zip(self.students[owners].tolist(), records, strict=True))
        self.taken[:] = False


def _renumbered(chosen: Bools) -> tuple[Int64s, Int64s]:
    """The indices that are `chosen` [u], ascending, and the number of each among them [u]."""
    return np.flatnonzero(chosen), np.cumsum(chosen) - 1


class Turns:
    """Lets one of several tasks work in each turn of the event loop: other work waits for one piece of theirs."""

    def __init__(self) -> None:
        self._is_taken = False

    async def take(self) -> None:
        """Let other work go on, and return when it is the caller's turn."""
        await asyncio.sleep(0)
        while self._is_taken:
            await asyncio.sleep(0)
        self._is_taken = True
        asyncio.get_running_loop().call_soon(self._end)

    def _end(self) -> None:
        self._is_taken = False


class Scan:
    """All entries of a partition, read once if they are few. Mutable; valid while nobody else writes."""

    def __init__(self, partition: StatePartition, due: Callable[[EarlyEvents], Int64s], turns: Turns) -> None:
        """due: see Risk.due."""
        self._partition, self._due, self._turns = partition, due, turns
        self._kept: Sequence[Entries] | None = None

    async def run(self, effect: Effect) -> AsyncIterator[Entries]:
        """Yield all students, as they are after an `effect` that may not be written yet, some at a time.

        There must be no flush in the meantime. What is done to the entries is to be part of the next effect.
        """
        if self._kept is not None:
            for entries in self._kept:
                await self._turns.take()
                yield entries
            return
        kept, number = [], 0
        await self._turns.take()  # reading is work as well
        for entries in _entries_of(self._partition, effect, self._due):
            number += len(entries.students)
            if number <= _KEPT:
                kept.append(entries)
            await self._turns.take()
            yield entries
            await self._turns.take()
        self._kept = kept if number <= _KEPT else None


def _entries_of(partition: StatePartition, effect: Effect, due: Callable[[EarlyEvents], Int64s]) -> Iterator[Entries]:
    early = _early_of(partition, effect)
    early_students = np.array(sorted(early), np.int64)
    waiting, written = Packed.of_nobody(early_students), activity_records.join_by_student(effect.activity)
    for stored in partition.scan_activity(SLICE):
        last = int(stored.students[-1])
        (some, waiting), (changed, written) = waiting.up_to(last), written.up_to(last)
        for records in some.updated(stored).updated(changed).parts(2 * SLICE):
            yield _unpack(records, early_students, early, due)
    for records in waiting.updated(written).parts(SLICE):
        yield _unpack(records, early_students, early, due)


def _early_of(partition: StatePartition, effect: Effect) -> dict[int, bytes]:
    """All records of early events by student."""
    early: dict[int, bytes | None] = {}
    for students, records in partition.scan_early(SLICE):
        early.update(zip(students.tolist(), records, strict=True))
    early.update(effect.early)
    return {student: record for student, record in early.items() if record is not None}


def _unpack(
    records: Packed, early_students: Int64s, early: dict[int, bytes], due: Callable[[EarlyEvents], Int64s]
) -> Entries:
    """The entries of the students of `records`, who are all of those between the first and the last that have any."""
    students = records.students
    activity, predicted = records.unpack()
    low, high = np.searchsorted(early_students, students[[0, -1]] + (0, 1)).tolist()
    if low == high:
        return Entries(students, activity, predicted, EarlyEvents.none(), students[:0])
    mine = early_students[low:high]
    events = early_events.unpack([early[s] for s in mine.tolist()])
    events = events.owned_by(np.searchsorted(students, mine)[events.events.owner])
    return Entries(students, activity, predicted, events, due(events))
