"""Which entries have changed, and what says whether they are in a list."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import orjson

from page.store.fetch import fetch_rows
from page.store.queries import WANTED_ENTRIES, Filter, Scope

#: student, course
Key = tuple[int, int]


class ChangedEntry(NamedTuple):
    """What filters ask of an entry; units as in the table `entry`."""

    course: int
    revision: int
    band: int
    state: int
    alert: bool
    last_visit: int | None
    assignee: str | None

    def meets(self, chosen: Filter, today: int | None) -> bool:
        """Whether the entry is in a list of these filters as of `today`: as SQL says it in page/store/queries.py."""
        return (
            chosen.course in (None, self.course)
            and (not chosen.bands or self.band in chosen.bands)
            and (not chosen.states or self.state in chosen.states)
            and chosen.alert in (None, self.alert)
            and chosen.assignee in (None, self.assignee)
            and (chosen.silent is None or self._is_silent(chosen.silent, today))
        )

    def _is_silent(self, days: int, today: int | None) -> bool:
        return self.last_visit is None or (today is not None and self.last_visit <= today - days)


#: the entries that have changed, None for those that are gone
Changed = Mapping[Key, ChangedEntry | None]

_COLUMNS = ("student", "entry.course", "revision", "band", "state", "alert", "last_visit", "assignee")


def changed(connection: sqlite3.Connection, keys: Iterable[Key]) -> Changed:
    """Return the entries of these keys as they are now."""
    found: dict[Key, ChangedEntry | None] = dict.fromkeys(keys)
    if found:
        found |= _entries(fetch_rows(connection, _COLUMNS, WANTED_ENTRIES, (orjson.dumps(list(found)).decode(),)))
    return found


def changed_since(
    connection: sqlite3.Connection, scope: Scope, course: int | None, revision: int, most: int
) -> Changed | None:
    """Return the entries that a visitor may see and that have changed after a revision; None if more than `most` have.

    course: only those of this one. Entries that have been deleted meanwhile are not among them.
    """
    source = "FROM entry WHERE revision > ? ORDER BY revision LIMIT ?"
    rows = fetch_rows(connection, _COLUMNS, source, (revision, most + 1))
    if len(rows) > most:
        return None
    return _entries(row for row in rows if (scope is None or row[1] in scope) and course in (None, row[1]))


def _entries(rows: Iterable[list[Any]]) -> dict[Key, ChangedEntry]:
    return {
        (student, course): ChangedEntry(course, revision, band, state, bool(alert), last_visit, assignee)
        for student, course, revision, band, state, alert, last_visit, assignee in rows
    }
