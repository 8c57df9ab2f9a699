"""What the page of one student shows."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from page.store.fetch import fetch_rows


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """The last row of a day."""

    day: int
    risk: int | None
    band: int


@dataclass(frozen=True, slots=True)
class AlertRow:
    """An alert that has opened or closed on `day`."""

    is_opening: bool
    day: int
    opened: int
    why: str


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session, over all courses: start and end [epoch ms]."""

    start: int
    end: int
    activities: int


def history(connection: sqlite3.Connection, student: int, course: int) -> list[HistoryRow]:
    """Return the days on which there was a row, in their order."""
    source = "FROM history WHERE student = ? AND course = ? ORDER BY day"
    return [HistoryRow(*row) for row in fetch_rows(connection, ("day", "risk", "band"), source, (student, course))]


def alerts(connection: sqlite3.Connection, student: int, course: int) -> list[AlertRow]:
    """Return what was said of alerts, in its order."""
    rows = connection.execute(
        "SELECT is_opening, day, opened, why FROM alert WHERE student = ? AND course = ? ORDER BY day, offset",
        (student, course),
    )
    return [AlertRow(bool(is_opening), day, opened, why) for is_opening, day, opened, why in rows]


def sessions(connection: sqlite3.Connection, student: int, since: int) -> list[SessionRow]:
    """Return the sessions that ended at `since` [epoch ms] or later, the newest first."""
    source = 'FROM session WHERE student = ? AND "end" >= ? ORDER BY "end" DESC, start DESC'
    rows = fetch_rows(connection, ("start", '"end"', "activities"), source, (student, since))
    return [SessionRow(*row) for row in rows]
