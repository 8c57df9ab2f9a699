"""Writes what the topics say into the tables, with the positions up to which they have been read."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from models.days import DAY_MS, LocalDays
from page.store.case import refresh_case
from page.store.changed import Changed, Key, changed
from page.store.meta import set_value, value_of
from page.store.ranking import rank
from page.store.rows import (
    AlertRow,
    AlertTombstone,
    Batch,
    CaseRecord,
    DeadLetterRow,
    RiskRow,
    RiskTombstone,
    SessionRow,
    UnreadableRow,
)

#: applies records of <app>-cases within the transaction: connection, records, revision → entries that have changed
Fold = Callable[[sqlite3.Connection, Sequence[CaseRecord], int], Iterable[Key]]
#: an event further ahead of this machine's clock does not make it later [ms]
_AHEAD_MS = DAY_MS
#: number of days from the risk that a change is counted from
WEEK = 7

_ENTRY = f"""
INSERT INTO entry (
  student, course, risk, band, alert, since, reasons, cohort_n, as_of, at, model, visit_days, submission_days,
  last_visit, rank, revision, week_ago
) VALUES ({", ".join("?" * 16)}, %s)
ON CONFLICT (student, course) DO UPDATE SET
  risk = excluded.risk, band = excluded.band, alert = excluded.alert, since = excluded.since,
  reasons = excluded.reasons, cohort_n = excluded.cohort_n, as_of = excluded.as_of, at = excluded.at,
  model = excluded.model, visit_days = excluded.visit_days, submission_days = excluded.submission_days,
  last_visit = excluded.last_visit, rank = excluded.rank, revision = excluded.revision, week_ago = excluded.week_ago
"""
#: parameters of the query for week_ago follow those of the entry
_ENTRY_LATER = _ENTRY % "NULL"
_ENTRY_NOW = _ENTRY % (
    "(SELECT risk FROM history WHERE student = ?1 AND course = ?2 AND day <= ?17 ORDER BY day DESC LIMIT 1)"
)


@dataclass(frozen=True, slots=True)
class Changes:
    """What a batch has changed."""

    #: of the database after the batch
    revision: int
    #: the entries that were written or deleted; empty while the topics are read for the first time
    entries: Changed = field(default_factory=dict)
    #: the day of the newest event, None before there is one
    today: int | None = None
    #: whether that is another day than before, so that every "days since" is another
    new_day: bool = False


@dataclass(frozen=True, slots=True)
class Calendar:
    """How times become days, and how many of them are kept."""

    days: LocalDays
    #: sessions, alerts and risks are kept for so many days
    history_days: int = 120

    def day(self, at: int) -> int:
        """The local day of a time [ms]."""
        return int(self.days.of(np.array([at], np.int64))[0])

    def earliest(self, newest: int) -> int:
        """The time [ms] from which on sessions are kept, if the newest event is at `newest` [ms], or later."""
        return min(newest, latest_time()) - self.history_days * DAY_MS


def latest_time() -> int:
    """The latest time [ms] that an event may have to count as the newest."""
    return int(time.time() * 1000) + _AHEAD_MS


def apply(
    connection: sqlite3.Connection,
    batch: Batch,
    calendar: Calendar,
    *,
    fold: Fold | None = None,
    is_loading: bool = False,
) -> Changes:
    """Apply a batch within the caller's transaction.

    is_loading: whether the topics are read for the first time; `week_ago` is left to the sweep then.
    """
    revision = (value_of(connection, "revision") or 0) + 1
    set_value(connection, "revision", revision)
    newest, today, new_day = _advance(connection, batch, calendar)
    keys = _apply_risks(connection, batch.risks, calendar, revision, None if is_loading else today)
    _apply_alerts(connection, batch.alerts, today - calendar.history_days)
    _apply_sessions(connection, batch.sessions, calendar.earliest(newest))
    _count_dead_letters(connection, batch.dead_letters)
    count_unreadable(connection, batch.unreadable)
    if batch.cases and fold is not None:
        keys |= dict.fromkeys(fold(connection, batch.cases, revision))
    connection.executemany(
        "INSERT OR REPLACE INTO position VALUES (?, ?, ?)",
        [(topic, partition, offset) for (topic, partition), offset in batch.positions.items()],
    )
    return Changes(revision, {} if is_loading else changed(connection, keys), value_of(connection, "today"), new_day)


def _advance(connection: sqlite3.Connection, batch: Batch, calendar: Calendar) -> tuple[int, int, bool]:
    """Move the newest event and today; return its time [ms], today, and whether that is another than before.

    Today is the day of the newest event. While a worker catches up, its sessions are weeks ahead of its risks, and
    everybody would seem to have been silent for as long: then it is the day after that of the latest risk.
    """
    limit = latest_time()
    before = value_of(connection, "newest_event")
    ends = (row.end for row in batch.sessions if row.activities is not None and row.end <= limit)
    events = (row.at for row in batch.risks if isinstance(row, RiskRow) and row.is_event and row.at <= limit)
    newest = max(max(ends, default=0), max(events, default=0), before or 0)
    today, known = calendar.day(newest), value_of(connection, "latest_risk")
    as_of = [row.as_of for row in batch.risks if isinstance(row, RiskRow)] + ([] if known is None else [known])
    if as_of:
        latest = max(as_of)
        today = min(today, latest + 1)
        if latest != known:
            set_value(connection, "latest_risk", latest)
    if newest == 0:
        return newest, today, False
    new_day = today != value_of(connection, "today")
    if newest != before:
        set_value(connection, "newest_event", newest)
    if new_day:
        set_value(connection, "today", today)
    return newest, today, new_day


def _apply_risks(
    connection: sqlite3.Connection,
    rows: Sequence[RiskRow | RiskTombstone],
    calendar: Calendar,
    revision: int,
    today: int | None,
) -> dict[Key, None]:
    """Write entries and their history; return the keys. today: None if week_ago is left to the sweep."""
    keys: dict[Key, None] = {}
    latest: dict[Key, RiskRow] = {}
    history: dict[tuple[int, int, int], RiskRow] = {}

    def write() -> None:
        _write_entries(connection, latest, history, revision, today)
        keys.update(dict.fromkeys(latest))
        latest.clear()
        history.clear()

    for row in rows:
        key = row.student, row.course
        if isinstance(row, RiskRow):
            latest[key] = row
            history[row.student, row.course, row.as_of] = row
            continue
        if key in latest:
            write()
        keys[key] = None
        _delete_entry(connection, row, calendar)
    write()
    return keys


def _write_entries(
    connection: sqlite3.Connection,
    latest: dict[Key, RiskRow],
    history: dict[tuple[int, int, int], RiskRow],
    revision: int,
    today: int | None,
) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO history VALUES (?, ?, ?, ?, ?)",
        [(*key, history[key].risk, history[key].band) for key in sorted(history)],
    )
    week_ago = () if today is None else (today - WEEK,)
    connection.executemany(
        _ENTRY_LATER if today is None else _ENTRY_NOW,
        [
            (
                *row[:13],
                _last_visit(row),
                rank(band=row.band, risk=row.risk, alert=row.alert, since=row.since, state=0, handled=None),
                revision,
                *week_ago,
            )
            for row in map(latest.__getitem__, sorted(latest))
        ],
    )
    if connection.execute("SELECT 1 FROM action LIMIT 1").fetchone() is not None:
        for student, course in latest:
            query = "SELECT 1 FROM action WHERE student = ? AND course = ? LIMIT 1"
            if connection.execute(query, (student, course)).fetchone() is not None:
                refresh_case(connection, student, course)


def _last_visit(row: RiskRow) -> int | None:
    bits = row.visit_days
    return row.as_of - ((bits & -bits).bit_length() - 1) if bits else None


def _delete_entry(connection: sqlite3.Connection, row: RiskTombstone, calendar: Calendar) -> None:
    key = row.student, row.course
    connection.execute("DELETE FROM entry WHERE student = ? AND course = ?", key)
    connection.execute("DELETE FROM history WHERE student = ? AND course = ?", key)
    if row.forgotten_at is not None:
        # what the student does later counts as that of one who was never seen; actions have tombstones of their own,
        # so that all pages delete them at the same place of the log
        connection.execute(
            "DELETE FROM alert WHERE student = ? AND day <= ?", (row.student, calendar.day(row.forgotten_at))
        )
        connection.execute('DELETE FROM session WHERE student = ? AND "end" <= ?', (row.student, row.forgotten_at))


def _apply_alerts(connection: sqlite3.Connection, rows: Sequence[AlertRow | AlertTombstone], first_day: int) -> None:
    for row in rows:
        if isinstance(row, AlertTombstone) or row.why == "erased":
            connection.execute(
                "DELETE FROM alert WHERE student = ? AND course = ? AND offset <= ?",
                (row.student, row.course, row.offset),
            )
        elif row.day >= first_day:
            connection.execute("INSERT OR REPLACE INTO alert VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)


def _apply_sessions(connection: sqlite3.Connection, rows: Sequence[SessionRow], first_end: int) -> None:
    final = {row[:3]: row for row in rows if row.end >= first_end}
    connection.executemany(
        'DELETE FROM session WHERE student = ? AND "end" = ? AND start = ?',
        [key for key, row in final.items() if row.activities is None],
    )
    connection.executemany(
        "INSERT OR REPLACE INTO session VALUES (?, ?, ?, ?)",
        sorted(row for row in final.values() if row.activities is not None),
    )


def _count_dead_letters(connection: sqlite3.Connection, rows: Sequence[DeadLetterRow]) -> None:
    connection.executemany(
        "INSERT INTO dead_letter VALUES (?, ?, 1, ?, ?) ON CONFLICT (topic, reason) DO UPDATE SET number = number + 1, "
        "detail = iif(excluded.newest >= newest, excluded.detail, detail), newest = max(newest, excluded.newest)",
        [(row.topic, row.reason, row.at, row.detail) for row in rows],
    )


def count_unreadable(connection: sqlite3.Connection, rows: Sequence[UnreadableRow]) -> None:
    """Add records that could not be read to their numbers."""
    numbers = Counter((row.topic, row.reason) for row in rows)
    newest = {(row.topic, row.reason): row.offset for row in rows}
    connection.executemany(
        "INSERT INTO unreadable VALUES (?, ?, ?, ?) ON CONFLICT (topic, reason) DO UPDATE SET "
        "number = number + excluded.number, newest = excluded.newest",
        [(*key, number, newest[key]) for key, number in numbers.items()],
    )
