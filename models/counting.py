"""Which rows of the log count for the risk, as what, and for whom.

Counted are visits of a student who is not ignored, made under the student's own name from a browser or an app: not
by somebody logged in as the student, not anonymous, not by a script or a restore. A submission counts for the student
whose work it is: where somebody else handed it in, the row is a visit of whoever did, and an EXTRA row follows it.

A column that is missing or null filters nothing, except userid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.rules import Bools, Int64s
from models.visits import COUNTED, SUBMISSION, UInt8s

#: bits of `RiskColumns.marks`: the event is a submission; somebody was logged in as the user; anonymous; by a script
#: or a restore
SUBMITTED, ACTED_AS, ANONYMOUS, ORIGIN = 1, 2, 4, 8
#: the origins of rows that count
ORIGINS = ("web", "ws")
#: why a row does not count, by `Judged.reason` - 1; the first one that applies
REASONS = ("user", "ignored-user", "other-user", "anonymous", "origin")
#: columns of Moodle's log that are read for the risk, and what happens where they are missing
COLUMNS = {
    "EVENTNAME": "no event is a submission",
    "COURSEID": "all courses are one",
    "RELATEDUSERID": "a submission counts for whoever hands it in",
    "REALUSERID": "what somebody does who is logged in as a student counts for the student",
    "ANONYMOUS": "anonymous events count",
    "ORIGIN": "what scripts and restores do counts",
}
#: by marks: the reason they give, 0 for none
_REASON_OF = np.array(
    [3 if m & ACTED_AS else 4 if m & ANONYMOUS else 5 if m & ORIGIN else 0 for m in range(16)], np.uint8
)
#: up to this many ignored users are compared one by one
_FEW = 8


@dataclass(frozen=True, slots=True)
class CountingRules:
    """What counts, as the settings say it."""

    #: userids that are no students
    ignored_users: frozenset[int] = frozenset({1})
    #: eventnames that are submissions
    submission_events: tuple[str, ...] = (
        r"\mod_assign\event\assessable_submitted",
        r"\mod_quiz\event\attempt_submitted",
    )
    #: whether courses are told apart; otherwise all visits have course 0
    per_course: bool = True

    def students(self, userid: Int64s) -> UInt8s:
        """0 for each `userid` [n] that is a student's, otherwise the reason it is not (REASONS) + 1."""
        reason: UInt8s = (userid <= 0).astype(np.uint8)
        for ignored in self.ignored_users if len(self.ignored_users) <= _FEW else ():
            if ignored > 0:
                reason[userid == ignored] = 2
        if len(self.ignored_users) > _FEW:
            ignored_users = np.array([user for user in self.ignored_users if user > 0], np.int64)
            reason[np.isin(userid, ignored_users)] = 2
        return reason


@dataclass(frozen=True, slots=True)
class RiskColumns:
    """What rows of the log say about the risk [n]."""

    #: courseid; 0: null, missing, or courses are not told apart
    course: Int64s
    #: relateduserid where the event is a submission; 0: null, missing, or another event
    related: Int64s
    #: bits
    marks: UInt8s

    @classmethod
    def blank(cls, n: int) -> RiskColumns:
        """The columns of rows that say nothing."""
        return cls(np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.uint8))

    def take(self, rows: Int64s | Bools | slice) -> RiskColumns:
        """The columns of the rows at `rows`."""
        return RiskColumns(self.course[rows], self.related[rows], self.marks[rows])


@dataclass(frozen=True, slots=True)
class Judged:
    """What rows are to the risk [n]."""

    #: bits COUNTED and SUBMISSION (models/visits.py)
    kind: UInt8s
    #: 0 for a row that counts, otherwise the index in REASONS + 1
    reason: UInt8s
    course: Int64s
    #: the student for whom an EXTRA row is due, 0: none
    other: Int64s

    def take(self, rows: Bools) -> Judged:
        """What the rows of a mask [n] are."""
        return Judged(self.kind[rows], self.reason[rows], self.course[rows], self.other[rows])

    def not_counted(self) -> dict[str, int]:
        """The number of rows that do not count, by reason."""
        counts = np.bincount(self.reason, minlength=len(REASONS) + 1)[1:].tolist()
        return {reason: count for reason, count in zip(REASONS, counts, strict=True) if count}


def judge(rules: CountingRules, student: Int64s, columns: RiskColumns) -> Judged:
    """What rows are to the risk; student: userid [n], 0 for null.

    An EXTRA row is due for another student who is not ignored, whoever hands in, if nothing but the user speaks
    against the row.
    """
    reason = rules.students(student)
    marks, other, course = columns.marks, np.zeros(len(student), np.int64), np.maximum(columns.course, 0)
    if not (marks.any() or reason.any()):
        return Judged(np.full(len(student), COUNTED, np.uint8), reason, course, other)
    against = _REASON_OF[marks]
    reason = np.where(reason == 0, against, reason)
    kind = (reason == 0).astype(np.uint8)
    submitted = np.flatnonzero(marks & SUBMITTED)
    related = columns.related[submitted]
    own = (related <= 0) | (related == student[submitted])
    kind[submitted[own]] *= COUNTED | SUBMISSION  # COUNTED is 1
    due = ~own & (against[submitted] == 0) & (rules.students(related) == 0)
    other[submitted[due]] = related[due]
    return Judged(kind, reason, course, other)
