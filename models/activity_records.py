"""Activity records: all entries of a student, packed as little-endian 64-bit words.

    word 0        version of this layout in the low half, checksum in the high half (models/state.py)
    word 1        `predicted`: the risk last written to MOODLE_LOGS_PREDICTION [1e-4], -1 if none
    then, six words per entry, ascending by course:
                  course; visits; submissions; first and newest day; opened, tick_risk (16 bits) and older (16);
                  risk (16), band (4), tick_band (4), alert (8), above (16), below (16)

They are in the same table as state records (models/state.py), under keys of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
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


def check(records: Sequence[bytes]) -> None:
    """Verify the checksums and layout versions of records [u].

    Raises StateError for the first damaged record, NewerState for the first of a newer version.
    """
    state.check(records, VERSION, _RECORD)


def unpack(records: Sequence[bytes | None], *, verify: bool = False) -> tuple[Activity, Int64s]:
    """The entries of u students, and the risk last written to MOODLE_LOGS_PREDICTION of each [u] in 1e-4.

    None stands for a student without a record. verify: check the checksums too, at less cost than by `check`. Raises
    StateError for a damaged record or one of another version, NewerState for one of a newer version; `index`: its
    index among `records`.
    """
    students, stored = np.arange(len(records)), cast("Sequence[bytes]", records)
    if not all(records):
        students = np.flatnonzero([record is not None for record in records])
        stored = [record for record in records if record is not None]
    length = np.fromiter(map(len, stored), np.int64, len(stored))
    body_size = length - _HEAD * _WORD
    try:
        if (bad := (body_size <= 0) | (body_size % (_ENTRY * _WORD) != 0)).any():
            raise state.located(StateError, bad, f"{_RECORD} of {length[bad][0]} bytes is damaged")
        words = np.frombuffer(b"".join(stored), "<i8").astype(np.int64, copy=False)
        size = length // _WORD
        head = np.cumsum(size) - size
        state.check_words(words, head, VERSION, _RECORD, verify=verify)
    except StateError as error:
        error.index = int(students[error.index])
        raise
    predicted = np.full(len(records), NONE, np.int64)
    predicted[students] = words[head + 1]
    n = (size - _HEAD) // _ENTRY
    body = np.ones(len(words), np.bool_)
    body[head] = body[head + 1] = False
    course, visits, submissions, days, counts, risk = words[body].reshape(-1, _ENTRY).T
    activity = Activity(
        owner=np.repeat(students, n),
        course=course.copy(),
        first=_low(days),
        newest=days >> 32,
        visits=visits.astype(np.uint64),
        submissions=submissions.astype(np.uint64),
        older=counts & 0xFFFF,
        above=risk >> 32 & 0xFFFF,
        below=risk >> 48 & 0xFFFF,
        alert=(risk >> 24 & 0xFF) != 0,
        opened=counts >> 32,
        risk=(risk & 0xFFFF) - 1,
        band=(risk >> 16 & 0xF) - 1,
        tick_risk=(counts >> 16 & 0xFFFF) - 1,
        tick_band=(risk >> 20 & 0xF) - 1,
    )
    return activity, predicted


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
