"""Activity records: all entries of a student, packed as little-endian 64-bit words.

    word 0        version of this layout in the low half, checksum in the high half (models/state.py)
    word 1        `predicted`: the risk last written to MOODLE_LOGS_PREDICTION [1e-4], -1 if none
    then, six words per entry, ascending by course:
                  course; visits; submissions; first and newest day; opened, tick_risk (16 bits) and older (16);
                  risk (16), band (4), tick_band (4), alert (8), above (16), below (16)

They are in the same table as state records (models/state.py), under keys of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from models import state
from models.activity import NONE, Activity
from models.rules import Int64s
from models.state import StateError
from models.student_keys import StudentKeys

#: layout that this code reads and writes
VERSION = 1
_RECORD = "an activity record"
#: start of the keys
PREFIX = b"r"
_KEYS = StudentKeys(PREFIX)
keys_of, student_of, students_of, is_key = _KEYS.keys_of, _KEYS.student_of, _KEYS.students_of, _KEYS.is_key
_HEAD, _ENTRY, _WORD = 2, 6, 8
_LOW = 0xFFFF_FFFF
#: largest number of ticks in a row that is stored
_MAX_TICKS = 2**15 - 1


@dataclass(frozen=True, slots=True)
class Packed:
    """Records of some students, one after another in one buffer: reading and changing them takes no object for each."""

    #: ascending [u]
    students: Int64s
    words: Int64s
    #: number of words of each student's record [u], 0: none
    size: Int64s

    @classmethod
    def none(cls) -> Packed:
        return cls(*(np.empty(0, np.int64) for _ in range(3)))

    @classmethod
    def of_nobody(cls, students: Int64s) -> Packed:
        """No record of each of `students` [u]."""
        return cls(students, np.empty(0, np.int64), np.zeros(len(students), np.int64))

    def __len__(self) -> int:
        return len(self.students)

    @property
    def heads(self) -> tuple[Int64s, Int64s]:
        """Where in `words` each record begins [r], and the index of its student [r]."""
        head = np.cumsum(self.size) - self.size
        if (self.size != 0).all():
            return head, np.arange(len(self))
        present = np.flatnonzero(self.size)
        return head[present], present

    def unpack(self) -> tuple[Activity, Int64s]:
        """The entries, and the risk last written to MOODLE_LOGS_PREDICTION of each student [u] in 1e-4."""
        if (self.size == _HEAD + _ENTRY).all():  # as most are
            table = self.words.reshape(-1, _HEAD + _ENTRY)
            return _entries(np.arange(len(self)), table[:, _HEAD:]), table[:, 1].copy()
        head, present = self.heads
        predicted = np.full(len(self), NONE, np.int64)
        predicted[present] = self.words[head + 1]
        body = np.ones(len(self.words), np.bool_)
        body[head] = body[head + 1] = False
        n = (self.size[present] - _HEAD) // _ENTRY
        return _entries(np.repeat(present, n), self.words[body].reshape(-1, _ENTRY)), predicted

    def updated(self, other: Packed) -> Packed:
        """These records, replaced by those of the students of `other`, also where there are none now."""
        if not len(other) or not len(self):
            return other if len(other) else self
        students = np.append(self.students, other.students)
        order = np.argsort(students, kind="stable")
        latest = np.append(students[order][1:] != students[order][:-1], True)
        order = order[latest]
        start = np.cumsum(self.size) - self.size
        starts = np.append(start, len(self.words) + np.cumsum(other.size) - other.size)[order]
        size = np.append(self.size, other.size)[order]
        before = np.cumsum(size) - size
        index = np.repeat(starts - before, size)
        index += np.arange(len(index))
        return Packed(students[order], np.append(self.words, other.words)[index], size)

    def between(self, low: int, high: int) -> Packed:
        """The records of the students at the indices from `low` to `high` - 1."""
        end = np.cumsum(self.size)
        first, last = (int(end[i - 1]) if i else 0 for i in (low, high))
        return Packed(self.students[low:high], self.words[first:last], self.size[low:high])

    def up_to(self, student: int) -> tuple[Packed, Packed]:
        """The records of the students up to `student`, and those behind."""
        index = int(np.searchsorted(self.students, student, side="right"))
        return self.between(0, index), self.between(index, len(self))

    def parts(self, most: int) -> Iterator[Packed]:
        """These records, at most so many at a time."""
        for low in range(0, len(self), most):
            yield self if len(self) <= most else self.between(low, min(low + most, len(self)))

    def dense(self) -> Packed:
        """These records without the students that have none."""
        present = self.size != 0
        return self if present.all() else Packed(self.students[present], self.words, self.size[present])


def _entries(owner: Int64s, table: Int64s) -> Activity:
    """The entries of the owners [m] in the words of `table` [m, _ENTRY]."""
    course, visits, submissions, days, counts, risk = np.ascontiguousarray(table.T)
    return Activity(
        owner=owner,
        course=course,
        first=_low(days),
        newest=days >> 32,
        visits=visits.view(np.uint64),
        submissions=submissions.view(np.uint64),
        older=counts & 0xFFFF,
        above=risk >> 32 & 0xFFFF,
        below=risk >> 48 & 0xFFFF,
        alert=(risk & 0xFF00_0000) != 0,
        opened=counts >> 32,
        risk=(risk & 0xFFFF) - 1,
        band=(risk >> 16 & 0xF) - 1,
        tick_risk=(counts >> 16 & 0xFFFF) - 1,
        tick_band=(risk >> 20 & 0xF) - 1,
    )


def check(records: Sequence[bytes]) -> None:
    """Verify the checksums and layout versions of records [u].

    Raises StateError for the first damaged record, NewerState for the first of a newer version.
    """
    state.check(records, VERSION, _RECORD)


def join(students: Int64s, records: Sequence[bytes | None], *, verify: bool = False) -> Packed:
    """The records of `students` [u], ascending, as one buffer; None stands for a student without a record.

    verify: check the checksums too. Raises StateError for a damaged record or one of another version, NewerState for
    one of a newer version; `index`: its index among `records`.
    """
    stored = cast("Sequence[bytes]", records) if all(records) else [record or b"" for record in records]
    length = np.fromiter(map(len, stored), np.int64, len(stored))
    body_size = length - _HEAD * _WORD
    bad = (body_size <= 0) | (body_size % (_ENTRY * _WORD) != 0)
    if bad.any() and (bad := bad & np.array([record is not None for record in records])).any():
        raise state.located(StateError, bad, f"{_RECORD} of {length[bad][0]} bytes is damaged")
    words = np.frombuffer(b"".join(stored), "<i8").astype(np.int64, copy=False)
    packed = Packed(students, words, length // _WORD)
    head, present = packed.heads
    try:
        state.check_words(words, head, VERSION, _RECORD, verify=verify)
    except StateError as error:
        error.index = int(present[error.index])
        raise
    return packed


def join_by_student(records: Mapping[int, bytes | None]) -> Packed:
    """Records by student, in any order, as one buffer; see `join`, which raises the same errors."""
    students = np.fromiter(records, np.int64, len(records))
    order = np.argsort(students)
    values = list(records.values())
    return join(students[order], [values[i] for i in order.tolist()])


def unpack(records: Sequence[bytes | None]) -> tuple[Activity, Int64s]:
    """The entries of u students, and the risk last written to MOODLE_LOGS_PREDICTION of each [u] in 1e-4.

    See `join`, which raises the same errors.
    """
    return join(np.arange(len(records)), records).unpack()


def pack(activity: Activity, predicted: Int64s) -> list[bytes | None]:
    """One record for each of u students, None for one without entries; for `predicted` [u] see `unpack`."""
    table = np.empty((len(activity), _ENTRY), np.int64)
    table[:, 0] = activity.course
    table[:, 1] = activity.visits.view(np.int64)
    table[:, 2] = activity.submissions.view(np.int64)
    table[:, 3] = activity.first & _LOW | activity.newest << 32
    table[:, 4] = activity.older | (activity.tick_risk + 1) << 16 | activity.opened << 32
    ticks = np.minimum(activity.above, _MAX_TICKS) << 32 | np.minimum(activity.below, _MAX_TICKS) << 48
    bands = (activity.band + 1) << 16 | (activity.tick_band + 1) << 20
    table[:, 5] = (activity.risk + 1) | bands | activity.alert.astype(np.int64) << 24 | ticks
    return state.pack_tables(VERSION, activity.owner, predicted[:, None], table)


def _low(words: Int64s) -> Int64s:
    """The low halves of `words` [n], signed."""
    return (words << 32) >> 32
