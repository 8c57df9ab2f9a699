"""The page's database: one writer, any number of readers, which never wait for it (SQLite, WAL)."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from weakref import WeakKeyDictionary

from app.errors import ConfigError
from page.store import layout

log = logging.getLogger(__name__)

#: memory for pages of the writer and of each reader [kB]
_WRITER_CACHE, _READER_CACHE = 65_536, 2_048
#: pages of the write-ahead log after which it is copied into the file
_CHECKPOINT_PAGES = 4_096
#: the write-ahead log is cut to this size when it has been copied [bytes]
_LOG_BYTES = 64 << 20
#: how long a statement waits for another process's lock, such as that of sqlite3 on the command line [s]
_BUSY_S = 10.0


class Database:
    """The database in one file. Thread-safe; one process at a time has it open."""

    def __init__(self, path: Path, origin: str, lock: IO[bytes]) -> None:
        """Use `open`."""
        self.path = path
        self._origin, self._file_lock = _number(origin), lock
        self._lock = threading.Lock()
        self._readers: WeakKeyDictionary[threading.Thread, sqlite3.Connection] = WeakKeyDictionary()
        self._readers_lock = threading.Lock()
        self._writer = self._connect(_WRITER_CACHE)

    @classmethod
    def open(cls, path: Path, *, origin: str = "") -> Database:
        """Open the database in the file `path`, or make it, with its directory.

        origin: names what it is derived from; a file of another origin or version, or a damaged one, is made anew.
        Raises ConfigError if the file cannot be used, or another process uses it.
        """
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = _lock(path)
            with suppress(FileExistsError):  # ids of students: for nobody else
                os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
        except OSError as error:
            raise ConfigError(
                f"{path.parent}: {error.strerror}; set RISK_PAGE_DATADIR to a directory that may be written"
            ) from None
        try:
            try:
                if _marker(path).exists():
                    raise sqlite3.DatabaseError("it was found damaged")
                database = cls._prepared(path, origin, lock)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError as error:
                log.warning("%s cannot be read (%s): it is built again from the topics", path, error)
                _delete(path)
                database = cls._prepared(path, origin, lock)
        except sqlite3.Error as error:
            lock.close()
            raise ConfigError(f"{path} cannot be used ({error}): set RISK_PAGE_DATADIR to a local directory") from None
        return database

    @classmethod
    def _prepared(cls, path: Path, origin: str, lock: IO[bytes]) -> Database:
        database = cls(path, origin, lock)
        try:
            database._prepare()
        except sqlite3.Error:
            database._close_connections()
            raise
        return database

    def _prepare(self) -> None:
        (version,) = self._writer.execute("PRAGMA user_version").fetchone()
        if version != layout.VERSION:
            if version:
                log.warning("%s has version %d: it is built again from the topics", self.path, version)
            self._close_connections()
            _delete(self.path)
            self._writer = self._connect(_WRITER_CACHE)
            with self.write() as connection:
                for statement in layout.TABLES.split(";\n"):
                    connection.execute(statement)
                make_indexes(connection)
                connection.execute(f"PRAGMA user_version = {layout.VERSION}")
                connection.execute("INSERT INTO meta VALUES ('origin', ?)", (self._origin,))
            return
        if self._writer.execute("SELECT value FROM meta WHERE name = 'origin'").fetchone() != (self._origin,):
            log.warning("%s is derived from other topics: it is built again", self.path)
            self.clear()

    def _connect(self, cache_kb: int) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        for pragma in (
            "journal_mode = WAL",
            "synchronous = NORMAL",
            f"cache_size = -{cache_kb}",
            f"wal_autocheckpoint = {_CHECKPOINT_PAGES}",
            f"journal_size_limit = {_LOG_BYTES}",
            "trusted_schema = OFF",
        ):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A connection within a transaction, which is committed at the end, or rolled back if an error is raised."""
        with self._lock:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
            except BaseException:
                if self._writer.in_transaction:  # SQLite ends it itself after some errors, such as a full disk
                    self._writer.execute("ROLLBACK")
                raise
            self._writer.execute("COMMIT")

    def read(self) -> sqlite3.Connection:
        """The calling thread's connection for queries. Its rows can be read by name and by index."""
        thread = threading.current_thread()
        with self._readers_lock:
            connection = self._readers.get(thread)
            if connection is None:
                self._close_readers_of_ended_threads()
                connection = self._readers[thread] = self._connect(_READER_CACHE)
                connection.row_factory = sqlite3.Row
                connection.execute("PRAGMA query_only = ON")
        return connection

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Like `read`, and all queries see the same state."""
        connection = self.read()
        connection.execute("BEGIN")
        try:
            yield connection
        finally:
            connection.execute("COMMIT")

    def clear(self) -> None:
        """Delete everything that is derived from topics: they are to be read from their beginning."""
        with self.write() as connection:
            for table in layout.DERIVED:
                connection.execute(f"DELETE FROM {table}")
            connection.execute("INSERT INTO meta VALUES ('origin', ?)", (self._origin,))

    def mark_damaged(self) -> None:
        """Let the next `open` make the file anew."""
        _marker(self.path).touch()

    def close(self) -> None:
        """Close all connections; no other call may follow or be under way."""
        self._close_connections()
        self._file_lock.close()

    def _close_connections(self) -> None:
        with self._readers_lock:
            for connection in self._readers.values():
                connection.close()
            self._readers.clear()
        self._writer.close()

    def _close_readers_of_ended_threads(self) -> None:
        for thread in [t for t in self._readers if not t.is_alive()]:
            self._readers.pop(thread).close()


def make_indexes(connection: sqlite3.Connection) -> None:
    """Make what lists need, from the rows that are there."""
    connection.execute("DELETE FROM tally")
    connection.execute("INSERT INTO tally SELECT course, band, state, alert, count(*) FROM entry GROUP BY 1, 2, 3, 4")
    connection.execute("DELETE FROM visit_tally")
    query = "SELECT course, coalesce(last_visit, ?), count(*) FROM entry GROUP BY 1, 2"
    connection.execute(f"INSERT INTO visit_tally {query}", (layout.NO_VISIT,))
    for name, definition in layout.TRIGGERS.items():
        connection.execute(f"CREATE TRIGGER IF NOT EXISTS {name} {definition}")
    for name, definition in layout.INDEXES.items():
        connection.execute(f"CREATE INDEX IF NOT EXISTS {name} {definition}")


def drop_indexes(connection: sqlite3.Connection) -> None:
    """Remove what `make_indexes` makes, so that many rows can be written fast."""
    for name in layout.TRIGGERS:
        connection.execute(f"DROP TRIGGER IF EXISTS {name}")
    for name in layout.INDEXES:
        connection.execute(f"DROP INDEX IF EXISTS {name}")


def has_indexes(connection: sqlite3.Connection) -> bool:
    """Whether the first reading of the topics is over."""
    query = "SELECT count(*) FROM sqlite_schema WHERE type IN ('index', 'trigger') AND name IN ({})"
    names = [*layout.TRIGGERS, *layout.INDEXES]
    (count,) = connection.execute(query.format(", ".join("?" * len(names))), names).fetchone()
    return bool(count == len(names))


def _number(origin: str) -> int:
    return int.from_bytes(hashlib.sha256(origin.encode()).digest()[:8], "big", signed=True)


def _marker(path: Path) -> Path:
    return path.with_name(path.name + ".damaged")


def _delete(path: Path) -> None:
    for suffix in ("-wal", "-shm", ""):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
    _marker(path).unlink(missing_ok=True)


def _lock(path: Path) -> IO[bytes]:
    """Take the lock of the file for as long as the process runs. Raises ConfigError if another process has it."""
    file = path.with_name(path.name + ".lock").open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise ConfigError(
            f"another page uses {path.parent}: set RISK_PAGE_DATADIR to a directory of its own for each"
        ) from None
    return file
