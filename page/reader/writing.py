"""Writes what was read: the part of the reader that runs in a thread of its own, beside the event loop."""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack

from page.reader.parse import Record
from page.reader.sources import Sources
from page.store import sweep
from page.store.apply import Calendar, Changes, Fold, apply
from page.store.database import Database, drop_indexes, has_indexes, make_indexes
from page.store.meta import set_value, value_of
from page.store.rows import Batch, UnreadableRow
from page.store.sweep import Sweep

log = logging.getLogger(__name__)

#: most unreadable records of a batch that are named in the log; all are counted
_NAMED = 20
#: longest time [s] and most records of a transaction while the topics are read for the first time: rows come in no
#: order, so that each batch touches most pages of the tables, and each commit writes them
_LOADING_S, _LOADING_RECORDS = 3.0, 200_000
#: number of entries in one slice of a sweep: while others read, and before anybody does
_SLICE, _LOADING_SLICE = 2_000, 50_000


class _Aborted(Exception):
    """What has been applied is not to be committed."""


class Writing:
    """Applies what was read to the database. Mutable; its methods are called in one thread."""

    def __init__(self, database: Database, sources: Sources, calendar: Calendar, fold: Fold | None) -> None:
        self._database, self._sources, self._calendar, self._fold = database, sources, calendar, fold
        self._sweep: Sweep | None = None
        #: the transaction of the first reading, since when it is open, its number of records, and the positions in it
        self._open = ExitStack()
        self._connection: sqlite3.Connection | None = None
        self._since = 0.0
        self._records = 0
        self._pending: dict[str, int] = {}
        #: whether all topics have once been read to their end
        self.is_complete = self._is_complete(database.read())

    def begin(self) -> dict[str, int]:
        """Return the offset of the next record by topic; of a topic that has not been read there is none."""
        self._sweep = None
        with self._database.write() as connection:
            positions = dict(connection.execute("SELECT topic, next FROM position").fetchall())
            self.is_complete = self._is_complete(connection)
            if not positions:
                drop_indexes(connection)
        return positions

    def has_origin(self, name: str, value: str) -> bool:
        """Whether the database is derived from what `value` names, such as a cluster; the first value is kept."""
        number = int.from_bytes(hashlib.sha256(value.encode()).digest()[:8], "big", signed=True)
        with self._database.write() as connection:
            known = value_of(connection, name)
            if known is None:
                set_value(connection, name, number)
        return known in (None, number)

    def clear(self) -> None:
        """Delete what was read: the topics are to be read from their beginning."""
        self._database.clear()

    def clear_letters(self, begin: int) -> bool:
        """Delete the numbers of dead letters if the topic has been written anew since; return whether it has.

        begin: the topic's first offset. What `forget` keeps it writes again, before it deletes the beginning.
        """
        with self._database.write() as connection:
            before = value_of(connection, "letters_begin")
            set_value(connection, "letters_begin", begin)
            if before is None or before >= begin:
                return False
            connection.execute("DELETE FROM dead_letter")
            connection.execute("DELETE FROM position WHERE topic = ?", (self._sources.dead_letters,))
            return True

    def write(self, records: Mapping[str, Sequence[Record]], positions: Mapping[str, int]) -> Changes:
        """Apply the records of each topic, and commit. positions: the offset of the next record by topic."""
        batch = self._batch(records, positions)
        with self._database.write() as connection:
            changes = apply(connection, batch, self._calendar, fold=self._fold)
        _report(batch.unreadable)
        return changes

    def load(self, records: Mapping[str, Sequence[Record]], positions: Mapping[str, int]) -> dict[str, int]:
        """Apply the records of each topic while they are read for the first time; return the positions committed now.

        Most calls commit nothing; `commit` does in the end.
        """
        batch = self._batch(records, positions)
        if self._connection is None:
            self._since, self._records = time.monotonic(), 0
            self._connection = self._open.enter_context(self._database.write())
        try:
            apply(self._connection, batch, self._calendar, fold=self._fold, is_loading=True)
        except BaseException:
            self.abort()
            raise
        _report(batch.unreadable)
        self._pending.update(positions)
        self._records += sum(map(len, records.values()))
        if self._records < _LOADING_RECORDS and time.monotonic() - self._since < _LOADING_S:
            return {}
        return self.commit()

    def commit(self) -> dict[str, int]:
        """Commit what `load` has applied; return the positions."""
        self._connection, positions, self._pending = None, self._pending, {}
        self._open.close()
        return positions

    def abort(self) -> None:
        """Forget what `load` has applied and not committed."""
        if self._connection is not None:
            self._connection, self._pending = None, {}
            self._open.__exit__(_Aborted, _Aborted(), None)

    def _batch(self, records: Mapping[str, Iterable[Record]], positions: Mapping[str, int]) -> Batch:
        batch = Batch(positions={(topic, 0): offset for topic, offset in positions.items()})
        for topic, of_topic in records.items():
            self._sources.add(batch, topic, of_topic)
        return batch

    def tidy(self) -> bool:
        """Do a slice of what a new day changes, if there is one; return whether there is more to do."""
        if self._sweep is None:
            if not sweep.is_due(self._database.read()):
                return False
            size = _SLICE if self.is_complete else _LOADING_SLICE
            self._sweep = Sweep(self._calendar.history_days, size)
        with self._database.write() as connection:
            if self._sweep.step(connection):
                self._sweep = None
        return self._sweep is not None or sweep.is_due(self._database.read())

    def complete(self) -> Changes:
        """Make what lists need, after all topics have been read."""
        with self._database.write() as connection:
            if not has_indexes(connection):
                make_indexes(connection)
            revision = (value_of(connection, "revision") or 0) + 1
            set_value(connection, "revision", revision)
            set_value(connection, "complete", 1)
            today = value_of(connection, "today")
        self.is_complete = True
        return Changes(revision, today=today, new_day=True)

    @staticmethod
    def _is_complete(connection: sqlite3.Connection) -> bool:
        return value_of(connection, "complete") is not None


def _report(rows: Sequence[UnreadableRow]) -> None:
    for row in rows[:_NAMED]:
        log.warning("%s", row)
    if len(rows) > _NAMED:
        log.warning("skipped %d more records that cannot be read", len(rows) - _NAMED)
