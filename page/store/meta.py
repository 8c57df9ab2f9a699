"""Numbers about the database as a whole."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from page.store.fetch import fetch_rows


@dataclass(frozen=True, slots=True)
class Meta:
    """As of when the database is."""

    #: time of the newest event [ms], and its day; None as long as there is none
    newest_event: int | None
    today: int | None
    #: of the newest change
    revision: int


def read_meta(connection: sqlite3.Connection) -> Meta:
    """Read the numbers about the database."""
    values = dict(fetch_rows(connection, ("name", "value"), "FROM meta"))
    return Meta(values.get("newest_event"), values.get("today"), values.get("revision", 0))


def value_of(connection: sqlite3.Connection, name: str) -> int | None:
    """Read one number, None if it is not there."""
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return None if row is None else int(row[0])


def set_value(connection: sqlite3.Connection, name: str, value: int) -> None:
    """Write one number."""
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))
