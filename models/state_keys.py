"""The keys of the table of students: which kind of record is under each.

a student's id as text, or "null"    sessions and totals        (models/state.py)
"r" and 8 bytes                      a student's activity       (models/activity_records.py)
"e" and 8 bytes                      a student's early events   (models/early_events.py)
"ids N"                              applied log ids            (models/log_ids.py)
"front"                              the position               (models/position.py)
"ticks"                              the days reached, scored   (models/ticks.py)
"forgotten"                          the last request to forget (models/forgotten.py)
"""

from __future__ import annotations

from models import activity_records, early_events, forgotten, log_ids, position, ticks
from models.student_keys import StudentKeys

#: the keys of which each partition has one record
OF_PARTITION = (position.KEY, ticks.KEY, forgotten.KEY)


def is_student(key: bytes) -> bool:
    """Whether the record under `key` has sessions and totals of a student."""
    return key not in OF_PARTITION and not log_ids.is_key(key) and not _is_binary(key)


def student_key(key: bytes) -> bytes:
    """The key by which a record is routed: that of the student whose sessions, activity or early events it has."""
    return b"%d" % StudentKeys.student_of(key) if _is_binary(key) else key


def _is_binary(key: bytes) -> bool:
    return activity_records.is_key(key) or early_events.is_key(key)
