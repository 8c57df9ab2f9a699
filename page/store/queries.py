"""Lists of entries: filtered, sorted, in pages, within what a visitor may see.

A list walks an index in its order and stops when the page is full; the index holds what filters need. Numbers of
entries come from the tallies where the filter allows it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from models.assessment import Band
from page.store.database import has_indexes
from page.store.fetch import fetch_rows

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
    def of(cls, values: Sequence[Any]) -> Entry:
        """Make it from the values of its columns, in the order of ENTRY_COLUMNS."""
        student, course, risk, band, alert, since, reasons, *others = values
        return cls(student, course, risk, Band(band), bool(alert), since, tuple(orjson.loads(reasons)), *others)

    def silent_days(self, today: int | None) -> int | None:
        """Days since the last visit as of `today`; None: longer than visit_days reaches, or unknown."""
        return None if self.last_visit is None or today is None else max(0, today - self.last_visit)


#: student and course of a key of a JSON array of such pairs
_WANTED = tuple(f"json_extract(wanted.value, '$[{i}]')" for i in range(2))
#: the entries of the keys of such an array
WANTED_ENTRIES = f"FROM json_each(?) AS wanted CROSS JOIN entry ON student = {_WANTED[0]} AND course = {_WANTED[1]}"
ENTRY_COLUMNS = tuple(f"entry.{name}" for name in Entry.__slots__)


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
    source = f"FROM ({inner}) AS page JOIN entry ON entry.rowid = page.id ORDER BY {order}"
    values += [limit, offset]
    if limit < 0:  # in less memory
        rows = connection.execute(f"SELECT {', '.join(ENTRY_COLUMNS)} {source}", values)
        return [Entry.of(tuple(row)) for row in rows]
    return _entries(connection, source, *values)


def count_entries(connection: sqlite3.Connection, scope: Scope, *chosen: Filter) -> list[int]:
    """Return for each filter how many entries `list_entries` would return without a limit."""
    indexed = has_indexes(connection)
    queries, values = list[str](), list[Any]()
    for each in chosen:
        query, of_query = _count(scope, each, indexed) if _may_see(scope, each) else ("SELECT 0", [])
        queries.append(f"({query})")
        values += of_query
    return list(connection.execute(f"SELECT {', '.join(queries)}", values).fetchone())


def get_entry(connection: sqlite3.Connection, student: int, course: int) -> Entry | None:
    """Return one entry, None if there is none."""
    found = _entries(connection, "FROM entry WHERE student = ? AND course = ?", student, course)
    return found[0] if found else None


def entries_of(connection: sqlite3.Connection, student: int, scope: Scope) -> list[Entry]:
    """Return the entries of a student that a visitor may see, by course."""
    found = _entries(connection, "FROM entry WHERE student = ? ORDER BY course", student)
    return [entry for entry in found if scope is None or entry.course in scope]


def entries_at(connection: sqlite3.Connection, keys: Sequence[tuple[int, int]]) -> list[Entry]:
    """Return the entries of keys (student, course), in their order; there need not be one of each."""
    return _entries(connection, f"{WANTED_ENTRIES} ORDER BY wanted.key", orjson.dumps(keys).decode()) if keys else []


def histories(
    connection: sqlite3.Connection, keys: Iterable[tuple[int, int]], first_day: int
) -> dict[tuple[int, int], list[tuple[int, int | None, int]]]:
    """Return day, risk and band of each change since `first_day`, by key (student, course), the oldest first.

    The first is the one in force on `first_day`, if there was one, with its own day, which may be earlier.
    """
    wanted = list(keys)
    found: dict[tuple[int, int], list[tuple[int, int | None, int]]] = {key: [] for key in wanted}
    source = (
        "FROM json_each(?1) AS wanted CROSS JOIN history ON student = {0} AND course = {1} AND day >= coalesce("
        "(SELECT max(day) FROM history WHERE student = {0} AND course = {1} AND day <= ?2), ?2)"
        " ORDER BY wanted.key, day"
    ).format(*_WANTED)
    values = (orjson.dumps(wanted).decode(), first_day)
    for key, day, risk, band in fetch_rows(connection, ("wanted.key", "day", "risk", "band"), source, values):
        found[wanted[key]].append((day, risk, band))
    return found


def courses(connection: sqlite3.Connection, scope: Scope) -> list[int]:
    """Return the courses that have entries and that a visitor may see, ascending."""
    source = "tally WHERE number > 0" if has_indexes(connection) else "entry"
    found = connection.execute(f"SELECT DISTINCT course FROM {source} ORDER BY course")
    return [course for (course,) in found if scope is None or course in scope]


def _entries(connection: sqlite3.Connection, source: str, *values: Any) -> list[Entry]:
    return [Entry.of(row) for row in fetch_rows(connection, ENTRY_COLUMNS, source, values)]


def _may_see(scope: Scope, chosen: Filter) -> bool:
    """Whether a visitor may see anything of what a filter is about."""
    return scope is None or (bool(scope) if chosen.course is None else chosen.course in scope)


def _count(scope: Scope, chosen: Filter, indexed: bool) -> tuple[str, list[Any]]:
    """The query that counts, and its values."""
    where, values = _conditions(scope, chosen)
    if indexed and chosen.silent is None and chosen.assignee is None:
        return f"SELECT coalesce(sum(number), 0) FROM tally WHERE {where}", values
    if indexed and chosen == Filter(course=chosen.course, silent=chosen.silent):
        return f"SELECT coalesce(sum(number), 0) FROM visit_tally WHERE {where}", values
    index = "entry_by_visit" if chosen.silent is not None else "entry_by_assignee"
    index = "entry_by_course" if chosen.course is not None and chosen.assignee is None else index
    return f"SELECT count(*) FROM entry {f'INDEXED BY {index}' if indexed else ''} WHERE {where}", values


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
