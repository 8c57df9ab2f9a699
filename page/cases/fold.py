"""What the records of `<app>-cases` make of the cases: every page that reads them comes to the same.

The fold depends on nothing but the records of this topic and their order, and on none that compaction drops:

- An action is accepted if the case has the version that it was made for; otherwise somebody else was faster.
- An action whose id the case has already is ignored: it was sent again.
- A tombstone erases the case; its next action is its first.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence

from page.cases.records import Erasure, Proposal, UnreadableRecord, decode
from page.store.apply import count_unreadable
from page.store.case import refresh_case
from page.store.changed import Key
from page.store.rows import CaseRecord, UnreadableRow

log = logging.getLogger(__name__)

#: most unreadable records of a batch that are named in the log; all are counted
_NAMED = 20


class CaseFold:
    """Applies records of the topic of the cases to the tables, as page.store.apply asks for."""

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def __call__(self, connection: sqlite3.Connection, records: Sequence[CaseRecord], revision: int) -> list[Key]:
        """Apply records, in order, within the caller's transaction; return the cases that have changed.

        revision: of the database with this batch, for the entries that change. Records that cannot be read are
        counted, and change nothing.
        """
        changed: dict[Key, None] = {}
        unreadable = []
        for record in records:
            try:
                key = fold(connection, record)
            except UnreadableRecord as error:
                unreadable.append(UnreadableRow(self._topic, 0, record.offset, str(error)))
                continue
            if key is not None:
                changed[key] = None
        for row in unreadable[:_NAMED]:
            log.warning("%s", row)
        count_unreadable(connection, unreadable)
        for student, course in changed:
            refresh_case(connection, student, course, revision)
        return list(changed)


def fold(connection: sqlite3.Connection, record: CaseRecord) -> Key | None:
    """Apply a record to the table of actions; return the student and the course whose case has changed, None for none.

    Raises UnreadableRecord, and has changed nothing then.
    """
    read = decode(record.key, record.value)
    key = (read.student, read.course)
    changed = _erase(connection, key) if isinstance(read, Erasure) else _accept(connection, record.offset, read)
    return key if changed else None


def _erase(connection: sqlite3.Connection, key: Key) -> bool:
    return connection.execute("DELETE FROM action WHERE student = ? AND course = ?", key).rowcount > 0


def _accept(connection: sqlite3.Connection, offset: int, asked: Proposal) -> bool:
    key = (asked.student, asked.course)
    latest = "SELECT coalesce(max(version), 0) FROM action WHERE student = ? AND course = ?"
    (version,) = connection.execute(latest, key).fetchone()
    known = "SELECT 1 FROM action WHERE student = ? AND course = ? AND id = ?"
    if asked.version != version or connection.execute(known, (*key, asked.id)).fetchone():
        return False
    connection.execute(
        "INSERT INTO action (offset, id, student, course, version, kind, user, at, note, assignee, since)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(offset, asked.id, *key, version + 1, asked.kind.value),
            *(asked.user, asked.at, asked.note, asked.assignee, asked.since),
        ),
    )
    return True
