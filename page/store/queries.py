"""Lists of entries: filtered, sorted, in pages, within what a visitor may see.

A list walks an index in its order and stops when the page is full; the index holds what filters need. Numbers of
entries come from the tallies where the filter allows it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from models.assessment import Band
from page.store.database import has_indexes

#: keys that one statement looks up
_KEYS = 1_000
#: the courses that a visitor may see; None: all
Scope = frozenset[int] | None


class Sort(StrEnum):
    """Orders of a list; each the other way round with `reverse`."""

    #: whom to contact first
    RANK = "rank"
    #: highest risk first
    RISK = "risk"
    #: what has risen most since last week first
    CHANGE = "change"
    #: longest silent first
    SILENT = "silent"
    #: lowest id first
    STUDENT = "student"


#: columns and whether they descend, and the index in this order
_ORDERS = {
    Sort.RANK: (("rank DESC", "student ASC", "course ASC"), "entry_by_rank"),
    Sort.RISK: (("risk DESC", "student ASC", "course ASC"), "entry_by_risk"),
    Sort.CHANGE: (("change DESC", "student ASC", "course ASC"), "entry_by_change"),
    Sort.SILENT: (("last_visit ASC", "student ASC", "course ASC"), "entry_by_visit"),
    Sort.STUDENT: (("student ASC", "course ASC"), "entry_by_student"),
}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries are listed: those that meet all of it."""

    course: int | None = None
    #: values of Band; empty: any
    bands: frozenset[int] = frozenset()
    #: values of page.cases.actions.State; empty: any
    states: frozenset[int] = frozenset()
    #: whether an alert is open
    alert: bool | None = None
    #: no visit for at least so many days
    silent: int | None = None
    #: user to whom the case is assigned
    assignee: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A student in a course; units as in the table `entry`."""

    student: int
    course: int
    risk: int | None
    band: Band
    alert: bool
    since: int | None
    #: as in MOODLE_RISK: CODE, FIGURE, OWN, MEDIAN, WEIGHT, TEXT
    reasons: tuple[Mapping[str, Any], ...]
    cohort_n: int
    as_of: int
    at: int
    model: str
    visit_days: int
    submission_days: int
    last_visit: int | None
    week_ago: int | None
    #: risk - week_ago; None where one of them is
    change: int | None
    revision: int
    state: int
    assignee: str | None
    case_version: int
    acted_at: int | None
    handled: int | None

    @classmethod
    def of(cls, row: sqlite3.Row) -> Entry:
        """Make it from a row with all columns."""
        values = {name: row[name] for name in cls.__slots__}
        values["band"], values["alert"] = Band(row["band"]), bool(row["alert"])
        values["reasons"] = tuple(json.loads(row["reasons"]))
        return cls(**values)

    def silent_days(self, today: int | None) -> int | None:
        """Days since the last visit as of `today`; None: longer than visit_days reaches, or unknown."""
        return None if self.last_visit is None or today is None else max(0, today - self.last_visit)


@dataclass(frozen=True, slots=True)
class CourseCount:
    """Number of entries of a course."""

    course: int
    total: int
    #: by value of Band
    bands: Mapping[int, int]
    #: with an open alert, and how many of these have the state OPEN
    alerts: int
    open_alerts: int


def list_entries(
    connection: sqlite3.Connection,
    scope: Scope,
    chosen: Filter,
    sort: Sort = Sort.RANK,
    *,
    reverse: bool = False,
    offset: int = 0,
    limit: int = 50,
) -> list[Entry]:
    """Return a page of the entries that a visitor may see; limit -1: all."""
    if not _may_see(scope, chosen):
        return []
    columns, index = _ORDERS[sort]
    where, values = _conditions(scope, chosen)
    indexed = has_indexes(connection)
    if chosen.course is not None:
        # one course is small: its entries are sorted, or are in order already
        index = "entry_by_course"
    if chosen.assignee is not None:
        index = "entry_by_assignee"
    using = f"INDEXED BY {index}" if indexed else ""
    order = ", ".join(_reversed(column) if reverse else column for column in columns)
    inner = f"SELECT rowid AS id FROM entry {using} WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?"
    query = f"SELECT entry.* FROM ({inner}) AS page JOIN entry ON entry.rowid = page.id ORDER BY {order}"
    return [Entry.of(row) for row in connection.execute(query, (*values, limit, offset))]


def count_entries(connection: sqlite3.Connection, scope: Scope, chosen: Filter) -> int:
    """Return how many entries `list_entries` would return without a limit."""
    if not _may_see(scope, chosen):
        return 0
    where, values = _conditions(scope, chosen)
    indexed = has_indexes(connection)
    if indexed and chosen.silent is None and chosen.assignee is None:
        query = f"SELECT coalesce(sum(number), 0) FROM tally WHERE {where}"
    elif indexed and chosen == Filter(course=chosen.course, silent=chosen.silent):
        query = f"SELECT coalesce(sum(number), 0) FROM visit_tally WHERE {where}"
    else:
        index = "entry_by_visit" if chosen.silent is not None else "entry_by_assignee"
        index = "entry_by_course" if chosen.course is not None and chosen.assignee is None else index
        query = f"SELECT count(*) FROM entry {f'INDEXED BY {index}' if indexed else ''} WHERE {where}"
    return int(connection.execute(query, values).fetchone()[0])


def get_entry(connection: sqlite3.Connection, student: int, course: int) -> Entry | None:
    """Return one entry, None if there is none."""
    row = connection.execute("SELECT * FROM entry WHERE student = ? AND course = ?", (student, course)).fetchone()
    return None if row is None else Entry.of(row)


def entries_of(connection: sqlite3.Connection, student: int, scope: Scope) -> list[Entry]:
    """Return the entries of a student that a visitor may see, by course."""
    rows = connection.execute("SELECT * FROM entry WHERE student = ? ORDER BY course", (student,)).fetchall()
    return [Entry.of(row) for row in rows if scope is None or row["course"] in scope]


def changed_since(
    connection: sqlite3.Connection, scope: Scope, course: int | None, revision: int, most: int
) -> list[tuple[int, int]] | None:
    """Return the keys of the entries that have changed after a revision; None if there are more than `most`.

    course: only those of this one. Entries that have been deleted meanwhile are not among them.
    """
    query = "SELECT student, course FROM entry WHERE revision > ? ORDER BY revision LIMIT ?"
    rows = connection.execute(query, (revision, most + 1)).fetchall()
    if len(rows) > most:
        return None
    return [(s, c) for s, c in rows if (scope is None or c in scope) and course in (None, c)]


def changed(
    connection: sqlite3.Connection, scope: Scope, chosen: Filter, keys: Iterable[tuple[int, int]]
) -> dict[tuple[int, int], tuple[int, bool]]:
    """Return the revision of each of the entries that a visitor may see, and whether it meets the filter."""
    where, values = _conditions(scope, chosen)
    wanted = [key for key in keys if scope is None or key[1] in scope]
    found = {}
    # few statements: with each, a thread gives way to the others
    for low in range(0, len(wanted), _KEYS):
        some = wanted[low : low + _KEYS]
        query = (
            f"WITH wanted(student, course) AS (VALUES {', '.join(['(?, ?)'] * len(some))}) "
            f"SELECT student, course, revision, ({where}) FROM wanted CROSS JOIN entry USING (student, course)"
        )
        numbers = (number for key in some for number in key)
        for student, course, revision, is_listed in connection.execute(query, (*numbers, *values)):
            found[student, course] = (revision, bool(is_listed))
    return found


def histories(
    connection: sqlite3.Connection, keys: Iterable[tuple[int, int]], first_day: int
) -> dict[tuple[int, int], list[tuple[int, int | None, int]]]:
    """Return day, risk and band of each change since `first_day`, by key (student, course), the oldest first.

    The first is the one in force on `first_day`, if there was one, with its own day, which may be earlier.
    """
    query = (
        "SELECT day, risk, band FROM history WHERE student = ?1 AND course = ?2 AND day >= coalesce("
        "(SELECT max(day) FROM history WHERE student = ?1 AND course = ?2 AND day <= ?3), ?3) ORDER BY day"
    )
    return {key: [tuple(row) for row in connection.execute(query, (*key, first_day))] for key in keys}


def courses(connection: sqlite3.Connection, scope: Scope) -> list[CourseCount]:
    """Return the courses that a visitor may see, by id."""
    source = "tally"
    if not has_indexes(connection):
        source = "(SELECT course, band, state, alert, count(*) AS number FROM entry GROUP BY 1, 2, 3, 4)"
    query = f"SELECT course, band, state, alert, number FROM {source} WHERE number > 0 ORDER BY course"
    by_course: dict[int, list[Sequence[int]]] = {}
    for row in connection.execute(query):
        if scope is None or row[0] in scope:
            by_course.setdefault(row[0], []).append(row)
    counts = []
    for course, rows in by_course.items():
        bands = dict.fromkeys(map(int, Band), 0)
        for _, band, _, _, number in rows:
            bands[band] += number
        alerts = [(state, number) for _, _, state, alert, number in rows if alert]
        still_open = sum(number for state, number in alerts if state == 0)
        counts.append(CourseCount(course, sum(bands.values()), bands, sum(n for _, n in alerts), still_open))
    return counts


def _may_see(scope: Scope, chosen: Filter) -> bool:
    """Whether a visitor may see anything of what a filter is about."""
    return scope is None or (bool(scope) if chosen.course is None else chosen.course in scope)


def _conditions(scope: Scope, chosen: Filter) -> tuple[str, list[Any]]:
    """The WHERE clause and its values. A + keeps SQLite from choosing an index by a column of many rows."""
    parts, values = ["1"], list[Any]()
    if chosen.course is not None:
        parts.append("course = ?")
        values.append(chosen.course)
    elif scope is not None:
        parts.append(_among("+course", scope))
        values += sorted(scope)
    for column, wanted in (("+band", chosen.bands), ("+state", chosen.states)):
        if wanted:
            parts.append(_among(column, wanted))
            values += sorted(wanted)
    if chosen.alert is not None:
        parts.append("+alert = ?")
        values.append(int(chosen.alert))
    if chosen.silent is not None:
        parts.append("(last_visit IS NULL OR last_visit <= (SELECT value FROM meta WHERE name = 'today') - ?)")
        values.append(chosen.silent)
    if chosen.assignee is not None:
        parts.append("assignee = ?")
        values.append(chosen.assignee)
    return " AND ".join(parts), values


def _among(column: str, wanted: Iterable[int]) -> str:
    return f"{column} IN ({', '.join('?' for _ in wanted)})"


def _reversed(column: str) -> str:
    name, direction = column.split()
    return f"{name} {'ASC' if direction == 'DESC' else 'DESC'}"
