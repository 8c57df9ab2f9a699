"""Pages of this process on a real broker, without their web servers: reader, desk and audit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.settings import Settings
from page.cases.audit import Audit
from page.cases.desk import Desk
from page.cases.fold import CaseFold
from page.cases.writer import Writer
from page.reader.follow import Follower
from page.reader.sources import origin
from page.reader.state import Phase
from page.store.database import Database
from tests.support.case_log import rows
from tests.support.cluster import TIMEOUT_S, until


@dataclass(frozen=True)
class CasePage:
    """The parts of a page that cases need."""

    database: Database
    follower: Follower
    desk: Desk
    audit: Audit
    writer: Writer

    def rows(self) -> list[tuple[Any, ...]]:
        """Everything that the page knows of cases, but for the offsets."""
        with self.database.snapshot() as connection:
            return [tuple(row) for row in rows(connection)]

    def version(self, entry: tuple[int, int]) -> int:
        """The version of a case, as the page shows it."""
        query = "SELECT case_version FROM entry WHERE student = ? AND course = ?"
        return int(self.database.read().execute(query, entry).fetchone()[0])


@contextmanager
def running(settings: Settings, directory: Path, *, timeout_s: float = TIMEOUT_S) -> Iterator[CasePage]:
    """Run a page over topics that exist; at the end it is live. timeout_s: within which Kafka must confirm records."""
    names = settings.topic_names
    database = Database.open(directory / "page.sqlite3", origin=origin(settings))
    follower = Follower(settings, database, cases_topic=names.cases, fold=CaseFold(names.cases))
    writer = Writer(settings, follower, timeout_s)
    follower.start()
    try:
        until(lambda: follower.state.kind, lambda kind: kind is Phase.LIVE)
        desk, audit = Desk(database, follower, writer, names.cases, timeout_s), Audit(writer, names.page_audit)
        yield CasePage(database, follower, desk, audit, writer)
    finally:
        writer.close()
        follower.stop()
        database.close()
