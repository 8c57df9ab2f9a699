"""A student's roll-up totals, the rows of MOODLE_LOGS_PREDICTION_AGG, maintained incrementally.

KSQL: `sum(activities)`, `sum(duration)/count(*)`, `count(*)` over the sessions table: a removed session is
subtracted, an added one is added; sums wrap at 64 bits, the division truncates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.factorize import argsort_codes
from models.grouped import group_ends, grouped_cummax, grouped_cumsum
from models.rules import NEVER, Bools, Int64s
from models.session_changes import SessionChanges


@dataclass(frozen=True, slots=True)
class Totals:
    """Totals in columns, one row per student or one row per revision."""

    #: number of visits in all sessions [u]
    activities: Int64s
    #: sum of the sessions' durations [u] s
    seconds: Int64s
    #: number of sessions [u]
    sessions: Int64s
    #: largest end of any session so far, removed ones included [u] ms
    at: Int64s

    @classmethod
    def zero(cls, u: int) -> Totals:
        """Totals of `u` students without visits."""
        zeros = np.zeros(u, np.int64)
        return cls(zeros, zeros, zeros, np.full(u, NEVER, np.int64))

    def __len__(self) -> int:
        return len(self.activities)

    def take(self, rows: Int64s | Bools) -> Totals:
        """The totals at `rows` (indices or a mask)."""
        return Totals(self.activities[rows], self.seconds[rows], self.sessions[rows], self.at[rows])

    @property
    def duration(self) -> Int64s:
        """Mean session length [u] s, truncated toward zero as in Java; 0 if there is no session."""
        n = np.where(self.sessions == 0, 1, self.sessions)
        quotient = self.seconds // n
        # floor and truncation differ by one if the signs differ and there is a remainder
        quotient += ((self.seconds < 0) != (n < 0)) & (quotient * n != self.seconds)
        return np.where(self.sessions == 0, 0, quotient)


@dataclass(frozen=True, slots=True)
class Rollup:
    """The totals after a batch of session changes."""

    #: the revisions to emit, in order
    rows: Totals
    #: the student's index of each revision [r]
    owner: Int64s
    #: the visit that caused each revision [r]
    cause: Int64s
    #: the totals of all students afterwards [u]
    totals: Totals


def roll_up(totals: Totals, changes: SessionChanges, *, emit_every_change: bool) -> Rollup:
    """Apply session `changes` to the `totals` [u] of their students.

    emit_every_change: emit a revision for every change, in their order; otherwise the last one of each student.
    """
    order = argsort_codes(changes.sessions.owner, len(totals))
    sorted_changes = changes.take(order)
    owner, delta, sessions = sorted_changes.sessions.owner, sorted_changes.delta, sorted_changes.sessions
    added = np.empty((3, len(owner)), np.int64)
    added[0], added[1], added[2] = delta * sessions.count, delta * sessions.seconds, delta
    activities, seconds, number = grouped_cumsum(owner, added)
    after = Totals(
        totals.activities[owner] + activities,
        totals.seconds[owner] + seconds,
        totals.sessions[owner] + number,
        np.maximum(totals.at[owner], grouped_cummax(owner, sessions.end)),
    )
    last = group_ends(owner)
    updated = _put(totals, owner[last], after.take(last))
    if emit_every_change:
        inverse = np.empty(len(order), np.int64)
        inverse[order] = np.arange(len(order))
        return Rollup(after.take(inverse), changes.sessions.owner, changes.cause, updated)
    latest = grouped_cummax(owner, sorted_changes.cause)
    return Rollup(after.take(last), owner[last], latest[last], updated)


def _put(totals: Totals, owner: Int64s, new: Totals) -> Totals:
    columns = []
    for old_column, new_column in (
        (totals.activities, new.activities),
        (totals.seconds, new.seconds),
        (totals.sessions, new.sessions),
        (totals.at, new.at),
    ):
        column = old_column.copy()
        column[owner] = new_column
        columns.append(column)
    return Totals(*columns)
