"""The topic of the cases in memory, and pages that fold it: desks without Kafka."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.assessment import Band
from page.access.visitor import Visitor
from page.cases.desk import Desk, Done, Refused
from page.cases.fold import CaseFold
from page.cases.writer import NotWritten
from page.store.case import refresh_case
from page.store.layout import TABLES
from page.store.rows import CaseRecord

TOPIC = "test-cases"
#: the entries that every page knows
ENTRIES = ((1, 10), (1, 11), (2, 10))
NOW_S = 1_700_000_000.5


@dataclass
class CaseLog:
    """A topic of one partition. Mutable."""

    records: list[CaseRecord] = field(default_factory=list)

    def append(self, key: bytes | None, value: bytes | None) -> int:
        """Write a record; return its offset."""
        self.records.append(CaseRecord(len(self.records), 0, key, value))
        return len(self.records) - 1

    def alive(self, student: int) -> list[bytes]:
        """The keys of a student that have a value, as `forget` finds them."""
        latest = {r.key: r.value for r in self.records if r.key is not None}
        prefix = b"%d|" % student
        return [key for key, value in latest.items() if value is not None and key.startswith(prefix)]

    def compacted(self, *, tombstones: bool) -> list[CaseRecord]:
        """The last record of each key; tombstones: whether those that delete a key are still there."""
        last = {r.key: r.offset for r in self.records}
        return [r for r in self.records if last[r.key] == r.offset and (tombstones or r.value is not None)]


class Page:
    """One page: its tables, how far it has read, and its desk, in one thread. Mutable."""

    def __init__(self, log: CaseLog) -> None:
        self.log, self.next = log, 0
        self.connection = tables()
        #: is called before a record is appended: what others do meanwhile
        self.meanwhile: Callable[[], object] = lambda: None
        #: whether records are lost, and whether an answer is
        self.loses_records = self.loses_answers = False
        self.desk = Desk(self, self, self, TOPIC, timeout_s=0.0, clock=lambda: NOW_S)  # type: ignore[arg-type]

    def act(
        self, user: str, entry: tuple[int, int], version: int, kind: str, action_id: str, **more: Any
    ) -> Done | Refused:
        """Act on a case."""
        return self.desk.act(Visitor(user), *entry, version, kind, action_id, **more)

    def version(self, entry: tuple[int, int]) -> int:
        """The version of a case, as the page shows it."""
        query = "SELECT case_version FROM entry WHERE student = ? AND course = ?"
        return int(self.connection.execute(query, entry).fetchone()[0])

    def follow(self, end: int | None = None) -> None:
        """Read on, up to the offset `end`, else all there is."""
        stop = len(self.log.records) if end is None else end
        if stop > self.next:
            CaseFold(TOPIC)(self.connection, self.log.records[self.next : stop], stop)
            self.next = stop

    def rows(self) -> list[tuple[Any, ...]]:
        """Everything that the page knows of cases, but for the offsets."""
        return rows(self.connection)

    # what a desk needs

    def read(self) -> sqlite3.Connection:
        return self.connection

    def begin(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        raise NotImplementedError

    def run(self, coroutine: Coroutine[Any, Any, Any], timeout_s: float | None = None) -> Any:
        raise NotImplementedError

    def wait_for(self, topic: str, offset: int, timeout_s: float) -> bool:
        self.follow(offset + 1)
        return not self.loses_answers

    def write(self, topic: str, written: Sequence[tuple[bytes | None, bytes]], at: int | None = None) -> list[int]:
        self.meanwhile()
        if self.loses_records:
            raise NotWritten(topic)
        return [self.log.append(key, value) for key, value in written]


def tables() -> sqlite3.Connection:
    """The tables of a page in memory, with ENTRIES: the first has an alert."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(TABLES)
    for student, course in ENTRIES:
        alert = (student, course) == ENTRIES[0]
        connection.execute(
            "INSERT INTO entry (student, course, risk, band, alert, since, reasons, cohort_n, as_of, at, model, "
            "visit_days, submission_days, rank, revision) VALUES (?, ?, 8000, ?, ?, ?, '[]', 9, 9, 0, 'm', 0, 0, 0, 0)",
            (student, course, int(Band.HIGH), alert, 90 if alert else None),
        )
        refresh_case(connection, student, course)
    return connection


def folded(records: Sequence[CaseRecord]) -> list[tuple[Any, ...]]:
    """What a new page makes of the records."""
    connection = tables()
    CaseFold(TOPIC)(connection, records, 1)
    return rows(connection)


def rows(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
    """Everything that tables know of cases, but for offsets and revisions."""
    actions = "SELECT student, course, version, id, kind, user, note, assignee, since FROM action ORDER BY 1, 2, 3"
    entries = "SELECT student, course, state, assignee, case_version, acted_at, rank FROM entry ORDER BY 1, 2"
    return [*connection.execute(actions).fetchall(), *connection.execute(entries).fetchall()]
