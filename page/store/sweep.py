"""What a new day changes in every row: the risk a week ago, and what has become too old. In slices."""

from __future__ import annotations

import sqlite3

from models.days import DAY_MS
from page.store.apply import WEEK
from page.store.meta import set_value, value_of

_WEEK_AGO = """
UPDATE entry SET week_ago = now.risk FROM (
  SELECT e.rowid AS id, (
    SELECT risk FROM history AS h
    WHERE h.student = e.student AND h.course = e.course AND h.day <= ?3 ORDER BY day DESC LIMIT 1
  ) AS risk
  FROM entry AS e WHERE e.rowid > ?1 AND e.rowid <= ?2
) AS now
WHERE entry.rowid = now.id AND entry.week_ago IS NOT now.risk
"""
#: all but the last of the rows up to the first day that is kept
_OLD_HISTORY = """
DELETE FROM history WHERE (student, course, day) IN (
  SELECT h.student, h.course, h.day FROM entry AS e JOIN history AS h ON h.student = e.student AND h.course = e.course
  WHERE e.rowid > ?1 AND e.rowid <= ?2 AND h.day < (
    SELECT max(day) FROM history AS l WHERE l.student = e.student AND l.course = e.course AND l.day <= ?3
  )
)
"""
_NEXT_STUDENTS = """
WITH RECURSIVE next (student) AS (
  SELECT min(student) FROM session WHERE student > ?1
  UNION ALL
  SELECT (SELECT min(student) FROM session WHERE student > next.student) FROM next WHERE next.student IS NOT NULL
)
SELECT student FROM next WHERE student IS NOT NULL LIMIT ?2
"""


def is_due(connection: sqlite3.Connection) -> bool:
    """Whether today is another day than that of the last complete sweep."""
    return value_of(connection, "today") != value_of(connection, "swept")


class Sweep:
    """One pass over all tables as of one day. Mutable.

    What is killed meanwhile is done again from the beginning: `swept` is written with the last slice.
    """

    def __init__(self, history_days: int, slice_size: int = 5_000) -> None:
        """slice_size: number of entries, or of students, in one transaction."""
        self._history_days, self._size = history_days, slice_size
        self._today: int | None = None
        self._newest = 0
        self._entry = 0
        self._student: int | None = None

    def step(self, connection: sqlite3.Connection) -> bool:
        """Do a slice within the caller's transaction; return whether the sweep is complete."""
        if self._today is None:
            self._today, self._newest = value_of(connection, "today"), value_of(connection, "newest_event") or 0
            if self._today is None:
                return True
            connection.execute("DELETE FROM alert WHERE day < ?", (self._today - self._history_days,))
        if self._entries(connection, self._today) and self._sessions(connection):
            set_value(connection, "swept", self._today)
            return True
        return False

    def _entries(self, connection: sqlite3.Connection, today: int) -> bool:
        """Do the next entries; return whether there are no more."""
        (last,) = connection.execute("SELECT max(rowid) FROM entry").fetchone()
        if last is None or self._entry >= last:
            return True
        begin, self._entry = self._entry, self._entry + self._size
        connection.execute(_WEEK_AGO, (begin, self._entry, today - WEEK))
        connection.execute(_OLD_HISTORY, (begin, self._entry, today - self._history_days))
        return False

    def _sessions(self, connection: sqlite3.Connection) -> bool:
        """Do the next students; return whether there are no more."""
        if self._student is None:
            self._student = -(1 << 63)
        students = connection.execute(_NEXT_STUDENTS, (self._student, self._size)).fetchall()
        first_end = self._newest - self._history_days * DAY_MS
        connection.executemany(
            'DELETE FROM session WHERE student = ? AND "end" < ?', [(student, first_end) for (student,) in students]
        )
        if students:
            self._student = students[-1][0]
        return len(students) < self._size
