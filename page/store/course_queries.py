"""What the pages of courses, of the model and of the status show."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass

from page.store.database import has_indexes


@dataclass(frozen=True, slots=True)
class CourseRow:
    """The numbers of a course: of students, of those in each band, with an open alert, of alerts that nobody has taken
    up (`waiting`), and of those silent since a day or longer.
    """

    course: int
    students: int
    low: int
    raised: int
    high: int
    gone: int
    unknown: int
    alerts: int
    waiting: int
    silent: int


@dataclass(frozen=True, slots=True)
class CourseEntry:
    """A student of a course, for the charts: the risk in 1e-4, the days with a visit (bit i: as_of - i), and the first
    day of the history.
    """

    risk: int | None
    as_of: int
    visit_days: int
    first: int | None


@dataclass(frozen=True, slots=True)
class LetterRow:
    """Dead letters of one topic and reason: their number, time [epoch ms] and detail of the newest."""

    topic: str
    reason: str
    number: int
    newest: int
    detail: str


def courses(
    connection: sqlite3.Connection, scope: Collection[int] | None, silent_since: int, course: int | None = None
) -> list[CourseRow]:
    """Return the courses of `scope` (None: all), or one of them; silent: whose last visit was before `silent_since`."""
    if scope is not None and not scope:
        return []
    if not has_indexes(connection):
        return _counted_courses(connection, scope, silent_since, course)
    where, values = _within(scope, course, "number > 0")
    silent = dict(
        connection.execute(
            f"SELECT course, SUM(number) FROM visit_tally{where} AND last_visit < ? GROUP BY course",
            (*values, silent_since),
        ).fetchall()
    )
    cases, case_values = _within(scope, course, "case_version > 0", "state <> 0", "alert", "since IS NOT handled")
    reopened = dict(
        connection.execute(
            f"SELECT course, COUNT(*) FROM entry INDEXED BY entry_by_case{cases} GROUP BY course", case_values
        ).fetchall()
    )
    bands = ", ".join(f"SUM(iif(band = {band}, number, 0))" for band in range(5))
    rows = connection.execute(
        f"SELECT course, SUM(number), {bands}, SUM(alert * number), SUM(alert * (state = 0) * number)"
        f" FROM tally{where} GROUP BY course ORDER BY course",
        values,
    )
    found = []
    for row in rows:
        numbers: list[int] = [*row, silent.get(row[0], 0)]
        numbers[-2] += reopened.get(row[0], 0)
        found.append(CourseRow(*numbers))
    return found


def _counted_courses(
    connection: sqlite3.Connection, scope: Collection[int] | None, silent_since: int, course: int | None
) -> list[CourseRow]:
    """The same from the entries, while the topics are read for the first time."""
    where, values = _within(scope, course)
    rows = connection.execute(
        "SELECT course, COUNT(*), SUM(band = 0), SUM(band = 1), SUM(band = 2), SUM(band = 3), SUM(band = 4),"
        " SUM(alert), SUM(alert AND (state = 0 OR since IS NOT handled)), SUM(last_visit IS NULL OR last_visit < ?)"
        f" FROM entry{where} GROUP BY course ORDER BY course",
        (silent_since, *values),
    )
    return [CourseRow(*row) for row in rows]


def course_entries(connection: sqlite3.Connection, course: int) -> list[CourseEntry]:
    """Return the students of a course."""
    rows = connection.execute(
        "SELECT e.risk, e.as_of, e.visit_days,"
        " (SELECT MIN(h.day) FROM history h WHERE h.student = e.student AND h.course = e.course)"
        " FROM entry e WHERE e.course = ?",
        (course,),
    )
    return [CourseEntry(*row) for row in rows]


def alert_days(connection: sqlite3.Connection, course: int, since: int) -> list[tuple[int, bool]]:
    """Return the days, from `since` on, on which alerts of a course have opened (True) or closed."""
    rows = connection.execute(
        "SELECT day, is_opening FROM alert WHERE course = ? AND day >= ? ORDER BY day", (course, since)
    )
    return [(day, bool(is_opening)) for day, is_opening in rows]


def case_states(
    connection: sqlite3.Connection, scope: Collection[int] | None, course: int | None = None
) -> dict[int, int]:
    """Return the number of cases in each state, of those that somebody has acted on."""
    where, values = _within(scope, course, "case_version > 0")
    rows = connection.execute(f"SELECT state, COUNT(*) FROM entry{where} GROUP BY state", values)
    return dict(rows.fetchall())


def models(
    connection: sqlite3.Connection, scope: Collection[int] | None, course: int | None = None
) -> list[tuple[str, int]]:
    """Return the ids of the models that made the latest rows, with the number of these, the largest first."""
    where, values = _within(scope, course)
    rows = connection.execute(f"SELECT model, COUNT(*) FROM entry{where} GROUP BY model ORDER BY 2 DESC, 1", values)
    return [(model, number) for model, number in rows]


def dead_letters(connection: sqlite3.Connection) -> list[LetterRow]:
    """Return the dead letters, the most frequent first."""
    rows = connection.execute(
        "SELECT topic, reason, number, newest, detail FROM dead_letter ORDER BY number DESC, topic, reason"
    )
    return [LetterRow(*row) for row in rows]


def unreadable(connection: sqlite3.Connection) -> list[tuple[str, str, int, int]]:
    """Return topic, reason, number and newest offset of the records that this page could not read."""
    rows = connection.execute(
        "SELECT topic, reason, number, newest FROM unreadable ORDER BY number DESC, topic, reason"
    )
    return [(topic, reason, number, newest) for topic, reason, number, newest in rows]


def totals(connection: sqlite3.Connection) -> dict[str, int]:
    """Return the number of rows of the tables that grow."""
    tables = ("entry", "history", "alert", "session", "action")
    return {table: int(connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]) for table in tables}


def _within(scope: Collection[int] | None, course: int | None, *conditions: str) -> tuple[str, list[int]]:
    """Return the condition for courses of a scope, or one of them, and the values that belong to it."""
    found, values = list(conditions), list[int]()
    if scope is not None:
        found.append(f"course IN ({', '.join('?' * len(scope))})")
        values += sorted(scope)
    if course is not None:
        found.append("course = ?")
        values.append(course)
    return (" WHERE " + " AND ".join(found) if found else ""), values
