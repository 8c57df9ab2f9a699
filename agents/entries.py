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
from models.early_events import EarlyEvents
from models.rules import Bools, Int64s

#: number of students that are scored before other work gets its turn
SLICE = 5_000
#: most students of a partition that are kept in memory from its sums to its scores [about 120 B each]
_KEPT = 250_000


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
        owners, new = _renumbered(self.changed)
        kept = self.activity.take(self.changed[self.activity.owner])
        records = activity_records.pack(kept.owned_by(new[kept.owner]), self.predicted[owners])
        effect.activity |= dict(zip(self.students[owners].tolist(), records, strict=True))
        owners, new = _renumbered(self.taken)
        left = self.early.take(self.taken[self.early.events.owner])
        records = early_events.pack(left.owned_by(new[left.events.owner]), len(owners))
        effect.early |= dict(zip(self.students[owners].tolist(), records, strict=True))
        self.__post_init__()


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
    written = dict(effect.activity)
    written_students = np.fromiter(written, np.int64, len(written))
    for students, records in partition.scan_activity(SLICE):
        changed: list[bytes | None] = list(records)
        for i in np.flatnonzero(np.isin(students, written_students)).tolist():
            changed[i] = written.pop(int(students[i]))
        mine = np.isin(early_students, students)
        yield _unpack(students, changed, early_students[mine], early, due)
        early_students = early_students[~mine]
    new = np.union1d(early_students, np.array([s for s, record in written.items() if record is not None], np.int64))
    for low in range(0, len(new), SLICE):
        students = new[low : low + SLICE]
        yield _unpack(students, [written.get(s) for s in students.tolist()], students, early, due)


def _early_of(partition: StatePartition, effect: Effect) -> dict[int, bytes]:
    """All records of early events by student."""
    early: dict[int, bytes | None] = {}
    for students, records in partition.scan_early(SLICE):
        early.update(zip(students.tolist(), records, strict=True))
    early.update(effect.early)
    return {student: record for student, record in early.items() if record is not None}


def _unpack(
    students: Int64s,
    records: Sequence[bytes | None],
    early_students: Int64s,
    early: dict[int, bytes],
    due: Callable[[EarlyEvents], Int64s],
) -> Entries:
    activity, predicted = activity_records.unpack(records)
    events = early_events.unpack([early.get(s) for s in early_students.tolist()])
    owners = np.searchsorted(students, early_students)
    events = events.owned_by(owners[events.events.owner])
    return Entries(students, activity, predicted, events, due(events))
