"""The list of students as CSV, which spreadsheets open."""

from __future__ import annotations

import csv
import io
import sqlite3
from collections.abc import Mapping

from page.access.visitor import Visitor
from page.cases.export import as_text
from page.store import queries
from page.store.layout import SITE
from page.store.queries import Entry
from page.web.list_query import ListQuery
from page.web.words import BANDS, STATES, day_iso, reason_texts

HEADER = (
    "userid",
    "courseid",
    "risk",
    "band",
    "risk_a_week_ago",
    "alert",
    "alert_since",
    "days_since_last_visit",
    "last_visit",
    "reasons",
    "as_of",
    "case",
    "assignee",
    "model",
)
#: entries that are in memory at a time
_CHUNK = 2000
#: so that spreadsheets take the file for UTF-8
_MARK = "\ufeff"


def students_csv(
    connection: sqlite3.Connection,
    visitor: Visitor,
    query: ListQuery,
    today: int,
    outcomes: Mapping[tuple[int, int], str],
) -> tuple[list[tuple[int, int]], bytes]:
    """Write all pages of a list; return whom it names (student, course), and the file.

    connection: in one transaction, so that no entry is missed between two chunks.
    """
    chosen = query.chosen(visitor.name)
    keys: list[tuple[int, int]] = []
    out = io.StringIO()
    out.write(_MARK)
    writer = csv.writer(out)
    writer.writerow([*HEADER, "outcome"] if outcomes else HEADER)
    while True:
        entries = queries.list_entries(
            connection, visitor.courses, chosen, query.sort, offset=len(keys), limit=_CHUNK
        )  # fmt: skip
        for entry in entries:
            key = (entry.student, entry.course)
            keys.append(key)
            writer.writerow(
                [*_cells(entry, today), as_text(outcomes.get(key, ""))] if outcomes else _cells(entry, today)
            )
        if len(entries) < _CHUNK:
            return keys, out.getvalue().encode()


def _cells(entry: Entry, today: int) -> list[object]:
    """The cells of an entry; empty where there is nothing, or nothing is known."""
    return [
        entry.student,
        "" if entry.course == SITE else entry.course,
        _risk(entry.risk),
        BANDS[entry.band].name,
        _risk(entry.week_ago),
        "yes" if entry.alert else "no",
        "" if entry.since is None else day_iso(entry.since),
        _or_empty(entry.silent_days(today)),
        "" if entry.last_visit is None else day_iso(entry.last_visit),
        as_text("; ".join(reason_texts(entry.reasons))),
        day_iso(entry.as_of),
        next(word.name for state, word in STATES.items() if state == entry.state),
        as_text(entry.assignee or ""),
        as_text(entry.model),
    ]


def _risk(risk: int | None) -> str:
    return "" if risk is None else f"{risk / 10_000:.4f}"


def _or_empty(value: int | None) -> object:
    return "" if value is None else value
