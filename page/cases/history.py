"""The actions on a case, read from the page's database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

from page.cases.actions import Action, Kind

_COLUMNS = "offset, id, student, course, version, kind, user, at, note, assignee"


def actions_of(connection: sqlite3.Connection, student: int, course: int) -> list[Action]:
    """Return the actions on a case, the oldest first."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM action WHERE student = ? AND course = ? ORDER BY version", (student, course)
    )
    return [_action(row) for row in rows]


def all_actions(connection: sqlite3.Connection, courses: frozenset[int] | None = None) -> Iterator[Action]:
    """Yield the actions on all cases by student, course and version; courses: only of these."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM action ORDER BY student, course, version")
    return (action for action in map(_action, rows) if courses is None or action.course in courses)


def _action(row: tuple[Any, ...]) -> Action:
    offset, action, student, course, version, kind, *rest = row
    return Action(offset, action, student, course, version, Kind(kind), *rest)
