"""Early events: those of days so far ahead of the ticks that their bits would push out days that a tick still needs.

They occur where workers read source partitions at uneven speed, such as a backlog: visits are applied as they come, but
ticks wait for the slowest. Until their day is near, a student's early events are one record, little-endian words:

    word 0        version of this layout in the low half, checksum in the high half (models/state.py)
    then          two words per event, ascending: course; day, shifted left by one bit, and whether it is a submission
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from models import state
from models.activity import Events
from models.day_bits import COUNTED_DAYS, WINDOW
from models.rules import Int64s
from models.state import StateError

#: layout that this code reads and writes
VERSION = 1
#: how many days behind the next tick events are added at once
HORIZON = WINDOW - COUNTED_DAYS
#: start of the keys
PREFIX = b"e"


def keys_of(students: Int64s) -> list[bytes]:
    """The keys of the records of `students` [u]; no other record of the table has such a key."""
    raw = students.astype(">i8").tobytes()
    return [PREFIX + raw[i : i + 8] for i in range(0, len(raw), 8)]


def students_of(keys: Sequence[bytes]) -> Int64s:
    """The students of the records' keys [u]."""
    return np.frombuffer(b"".join(key[1:] for key in keys), ">i8").astype(np.int64)


def is_key(key: bytes) -> bool:
    """Whether the record under `key` is one of early events."""
    return len(key) == 9 and key.startswith(PREFIX)


def pack(events: Events, students: int) -> list[bytes | None]:
    """One record for each of u `students`, None for one without events; `events` are distinct and ascending."""
    words = np.stack((events.course, events.day << 1 | events.submission), axis=1)
    bounds = np.searchsorted(events.owner, np.arange(students + 1)).tolist()
    return [
        state.pack_words(VERSION, np.append(0, words[low:high].reshape(-1))) if high > low else None
        for low, high in pairwise(bounds)
    ]


def unpack(records: Sequence[bytes | None]) -> Events:
    """The events of u students; None stands for a student without a record.

    Raises StateError for a damaged record, NewerState for one of a newer version.
    """
    stored = [(owner, record) for owner, record in enumerate(records) if record is not None]
    state.check([record for _, record in stored], VERSION, "a record of early events")
    if any(len(record) % 16 != 8 for _, record in stored):
        raise StateError("a record of early events has the wrong length")
    tables = [np.frombuffer(record, "<i8")[1:].reshape(-1, 2).astype(np.int64) for _, record in stored]
    owner = np.repeat(np.array([o for o, _ in stored], np.int64), [len(table) for table in tables])
    words = np.concatenate([np.empty((0, 2), np.int64), *tables])
    return Events(owner, words[:, 0].copy(), words[:, 1] >> 1, words[:, 1] & 1 != 0)
