"""Early events: those that have come before a tick which precedes them, and wait for it.

They are in the state from their transaction on, so that the sums of a tick are those of what is stored, but become day
bits only when the ticks before them have run: their bits could push out days that such a tick still needs. They occur
where one flush holds what comes before a tick and what comes after it, and where workers read source partitions at
uneven speed, such as a backlog: visits are applied as they come, but ticks wait for the slowest.

A student's early events are one record, little-endian words:

    word 0        version of this layout in the low half, checksum in the high half (models/state.py)
    then          four words per event, in the order of arrival: course; day, shifted left by one bit, and whether it is
                  a submission; event time [ms]; the last tick that was due before it arrived
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from models import state
from models.activity import Events
from models.day_bits import COUNTED_DAYS, WINDOW
from models.rules import Bools, Int64s
from models.state import StateError
from models.student_keys import StudentKeys

#: layout that this code reads and writes
VERSION = 2
#: how many days behind the next tick events may be added without pushing out a day that counts
HORIZON = WINDOW - COUNTED_DAYS
#: start of the keys
PREFIX = b"e"
_KEYS = StudentKeys(PREFIX)
keys_of, students_of, is_key = _KEYS.keys_of, _KEYS.students_of, _KEYS.is_key
_RECORD = "a record of early events"
#: words before the events, and of an event
_HEAD, _EVENT = 1, 4


@dataclass(frozen=True, slots=True)
class EarlyEvents:
    """Events of some students, ascending by owner, those of each in the order of arrival."""

    #: [n]
    events: Events
    #: event time [n] ms
    at: Int64s
    #: the last tick that was due before the event arrived [n]
    tick: Int64s

    @classmethod
    def none(cls) -> EarlyEvents:
        """No events."""
        empty = np.empty(0, np.int64)
        return cls(Events.none(), empty, empty)

    def __len__(self) -> int:
        return len(self.at)

    def take(self, rows: Int64s | Bools) -> EarlyEvents:
        """The events at `rows` (indices or a mask)."""
        return EarlyEvents(self.events.take(rows), self.at[rows], self.tick[rows])

    def owned_by(self, owner: Int64s) -> EarlyEvents:
        """The same events with other indices of their students [n], ascending as before."""
        return replace(self, events=replace(self.events, owner=owner))


def join(earlier: EarlyEvents, later: EarlyEvents) -> EarlyEvents:
    """The events of both, by owner; of several of the same student, course, day and kind the first that arrived."""
    a, b = earlier.events, later.events
    owner, course, day = (np.append(x, y) for x, y in ((a.owner, b.owner), (a.course, b.course), (a.day, b.day)))
    submission = np.append(a.submission, b.submission)
    at, tick = np.append(earlier.at, later.at), np.append(earlier.tick, later.tick)
    order = np.lexsort((submission, day, course, owner))  # stable: equal ones stay in the order of arrival
    columns = (owner[order], course[order], day[order], submission[order])
    first = np.zeros(len(order), np.bool_)
    first[:1] = True
    for column in columns:
        first[1:] |= column[1:] != column[:-1]
    rows = np.sort(order[first])
    rows = rows[np.argsort(owner[rows], kind="stable")]
    return EarlyEvents(Events(owner[rows], course[rows], day[rows], submission[rows]), at[rows], tick[rows])


def pack(early: EarlyEvents, students: int) -> list[bytes | None]:
    """One record for each of u `students`, None for one without events."""
    events = early.events
    columns = (events.course, events.day << 1 | events.submission, early.at, early.tick)
    return state.pack_tables(VERSION, events.owner, np.empty((students, 0), np.int64), np.stack(columns, axis=1))


def unpack(records: Sequence[bytes | None]) -> EarlyEvents:
    """The events of u students; None stands for a student without a record.

    Raises StateError for a damaged record, NewerState for one of a newer version.
    """
    stored = [(owner, record) for owner, record in enumerate(records) if record is not None]
    raw = [record for _, record in stored]
    state.check(raw, VERSION, _RECORD)
    size = np.fromiter((len(record) // 8 for record in raw), np.int64, len(raw))
    if ((size - _HEAD) % _EVENT != 0).any():
        raise StateError(f"{_RECORD} has the wrong length")
    words = np.frombuffer(b"".join(raw), "<i8").astype(np.int64, copy=False)
    body = np.ones(len(words), np.bool_)
    body[np.cumsum(size) - size] = False
    course, day, at, tick = (column.copy() for column in words[body].reshape(-1, _EVENT).T)
    owner = np.repeat(np.array([o for o, _ in stored], np.int64), (size - _HEAD) // _EVENT)
    return EarlyEvents(Events(owner, course, day >> 1, day & 1 != 0), at, tick)
