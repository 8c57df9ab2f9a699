"""Visits: a batch of log events in columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from models.chunk import Headers
from models.factorize import factorize
from models.rules import NEVER, Bools, Int64s

#: stands for the id of a row that has none
NO_LOG_ID = -1

#: bits of `Visits.kind`: the visit counts for the risk (models/counting.py)
COUNTED = 1
#: with COUNTED: it is a submission of the student
SUBMISSION = 2
#: no row of the log, and no visit to KSQL: a submission that somebody else handed in for this student
EXTRA = 4

UInt8s: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Visits:
    """Events of the Moodle log, in arrival order.

    With EXTRA in its kind, a row follows the one that it was made from, and has the same `at` and offset.
    """

    #: userid [n]; 0 where `null`
    student: Int64s
    #: whether userid is null [n]: KSQL groups these under the key "null"
    null: Bools
    #: event time [n] ms
    at: Int64s
    #: offset in the source partition [n]
    offset: Int64s
    #: the source record's headers [n], or None if no record has any
    headers: Sequence[Headers] | None = None
    #: the log's own id of each row [n], NO_LOG_ID for a row without one; None: not read (RISK_DEDUPLICATE=off)
    log_id: Int64s | None = None
    #: courseid [n], 0 for a row without one, or if courses are not told apart; None: not read (RISK_MODEL=none)
    course: Int64s | None = None
    #: what each visit is to the risk [n], bits; None together with `course`
    kind: UInt8s | None = None

    @classmethod
    def none(cls) -> Visits:
        """No visits."""
        empty = np.empty(0, np.int64)
        return cls(empty, np.empty(0, np.bool_), empty, empty)

    def __len__(self) -> int:
        return len(self.student)

    @property
    def extra(self) -> Bools | None:
        """Which rows are EXTRA [n]; None: none is."""
        if self.kind is None:
            return None
        extra: Bools = (self.kind & EXTRA) != 0
        return extra if extra.any() else None

    @property
    def extra_rows(self) -> int:
        """Number of EXTRA rows."""
        extra = self.extra
        return 0 if extra is None else int(np.count_nonzero(extra))

    @property
    def event_time(self) -> Int64s:
        """`at` [n] ms, NEVER for EXTRA rows: they do not move stream time, which is KSQL's."""
        extra = self.extra
        return self.at if extra is None else np.where(extra, NEVER, self.at)

    def take(self, rows: Int64s | Bools) -> Visits:
        """The visits at `rows` (indices or a mask)."""
        headers = self.headers
        if headers is not None:
            headers = [headers[i] for i in np.arange(len(self))[rows].tolist()]
        return Visits(
            self.student[rows],
            self.null[rows],
            self.at[rows],
            self.offset[rows],
            headers,
            None if self.log_id is None else self.log_id[rows],
            None if self.course is None else self.course[rows],
            None if self.kind is None else self.kind[rows],
        )

    def slice(self, start: int, stop: int) -> Visits:
        """The visits from `start` up to `stop`, without copying the columns."""
        s = slice(start, stop)
        return Visits(
            self.student[s],
            self.null[s],
            self.at[s],
            self.offset[s],
            None if self.headers is None else self.headers[s],
            None if self.log_id is None else self.log_id[s],
            None if self.course is None else self.course[s],
            None if self.kind is None else self.kind[s],
        )


def concatenate(parts: Sequence[Visits]) -> Visits:
    """The visits of all `parts`, one after another.

    Visits of which nobody has read what they are to the risk do not count for it.
    """
    if not parts:
        return Visits.none()
    if len(parts) == 1:
        return parts[0]
    headers: list[Headers] | None = None
    if any(p.headers is not None for p in parts):
        headers = [h for p in parts for h in (p.headers if p.headers is not None else [()] * len(p))]
    log_id: Int64s | None = None
    if any(p.log_id is not None for p in parts):
        log_id = np.concatenate([np.full(len(p), NO_LOG_ID) if p.log_id is None else p.log_id for p in parts])
    course: Int64s | None = None
    kind: UInt8s | None = None
    if any(p.kind is not None for p in parts):
        course = np.concatenate([np.zeros(len(p), np.int64) if p.course is None else p.course for p in parts])
        kind = np.concatenate([np.zeros(len(p), np.uint8) if p.kind is None else p.kind for p in parts])
    return Visits(
        np.concatenate([p.student for p in parts]),
        np.concatenate([p.null for p in parts]),
        np.concatenate([p.at for p in parts]),
        np.concatenate([p.offset for p in parts]),
        headers,
        log_id,
        course,
        kind,
    )


@dataclass(frozen=True, slots=True)
class StudentDictionary:
    """The distinct students of some visits, like Arrow's DictionaryArray."""

    #: userid of each student [u]; the null student, if any, is last, with 0
    student: Int64s
    #: whether each is the null student [u]
    null: Bools
    #: the index of each visit's student [n]
    indices: Int64s


def dictionary_encode(visits: Visits) -> StudentDictionary:
    """The distinct students of `visits` [n]."""
    if not visits.null.any():
        student, indices = factorize(visits.student)
        return StudentDictionary(student, np.zeros(len(student), np.bool_), indices)
    not_null = ~visits.null
    student, not_null_indices = factorize(visits.student[not_null])
    indices = np.full(len(visits), len(student), np.int64)
    indices[not_null] = not_null_indices
    null = np.zeros(len(student) + 1, np.bool_)
    null[-1] = True
    return StudentDictionary(np.append(student, 0), null, indices)
