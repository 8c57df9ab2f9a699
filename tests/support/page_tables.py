"""Tables of the advisers' page in tests: rows as values, and what must be in the tables after them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from models.assessment import Band
from models.days import DAY_MS, LocalDays
from page.store.apply import WEEK, Calendar, Changes, apply
from page.store.database import Database, drop_indexes, make_indexes
from page.store.meta import read_meta, set_value
from page.store.rows import Batch, RiskRow, RiskTombstone, SessionRow
from page.store.sweep import Sweep, is_due

CALENDAR = Calendar(LocalDays(ZoneInfo("UTC")), 30)
#: a Monday of 2026
TODAY = 20_758
#: tables that triggers keep
TALLIES = ("tally", "visit_tally")
#: derived tables that say what the topics said, without the numbers of batches
COMPARED = (
    "entry",
    "history",
    "alert",
    "session",
    "action",
    "dead_letter",
    "unreadable",
    "tally",
    "visit_tally",
    "position",
)


def open_database(directory: Path) -> Database:
    """Return an empty database."""
    return Database.open(directory / "page.sqlite3")


def risk_row(student: int, course: int, risk: int | None, day: int = TODAY, **values: Any) -> RiskRow:
    """A row of MOODLE_RISK as of `day`, at its noon; values: other fields."""
    band = Band.GONE if risk is None else Band.HIGH if risk > 7_000 else Band.RAISED if risk > 5_000 else Band.LOW
    at = day * DAY_MS + DAY_MS // 2
    row = RiskRow(student, course, risk, band, False, None, "[]", 40, day, at, "v2s-0123456789ab", 0b100, 0, True)
    return row._replace(**values)


def session_row(student: int, end: int, activities: int | None = 3) -> SessionRow:
    """A session of a minute."""
    return SessionRow(student, end, end - 60_000, activities)


def write(
    database: Database, batch: Batch, *, is_loading: bool = False, history_days: int = CALENDAR.history_days
) -> Changes:
    """Apply a batch in a transaction of its own."""
    with database.write() as connection:
        return apply(connection, batch, Calendar(CALENDAR.days, history_days), is_loading=is_loading)


def write_risks(database: Database, *rows: RiskRow | RiskTombstone) -> Changes:
    """Apply rows of MOODLE_RISK."""
    return write(database, Batch(risks=list(rows)))


def tidy(database: Database, slice_size: int = 5_000, history_days: int = CALENDAR.history_days) -> None:
    """Do all that a new day changes."""
    while is_due(database.read()):
        sweep = Sweep(history_days, slice_size)
        done = False
        while not done:
            with database.write() as connection:
                done = sweep.step(connection)


def load(database: Database, batches: Iterable[Batch], history_days: int = CALENDAR.history_days) -> None:
    """Apply batches as the first reading of the topics does."""
    with database.write() as connection:
        drop_indexes(connection)
    for batch in batches:
        write(database, batch, is_loading=True, history_days=history_days)
    tidy(database, history_days=history_days)
    with database.write() as connection:
        make_indexes(connection)
        set_value(connection, "complete", 1)


def rows_of(connection: sqlite3.Connection, table: str) -> list[tuple[Any, ...]]:
    """The rows of a table in order, without revisions, and without rows that count nothing."""
    query = f"SELECT * FROM {table}{' WHERE number > 0' if table in TALLIES else ''}"
    names = [column[0] for column in connection.execute(query).description]
    chosen = [i for i, name in enumerate(names) if name != "revision"]
    return sorted((tuple(row[i] for i in chosen) for row in connection.execute(query)), key=repr)


def contents(connection: sqlite3.Connection) -> dict[str, list[tuple[Any, ...]]]:
    """What the tables say."""
    meta = read_meta(connection)
    tables = {table: rows_of(connection, table) for table in COMPARED}
    return {**tables, "meta": [(meta.newest_event, meta.today)]}


def expected_week_ago(history: dict[int, int | None], today: int) -> int | None:
    """The risk that held a week before `today`; history: risk by day."""
    days = [day for day in history if day <= today - WEEK]
    return history[max(days)] if days else None
