"""The reader of the advisers' page on a real broker: from the topics to the tables, whatever happens."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import RecordsToDelete
from aiokafka.structs import TopicPartition

import stack
from app.kafka.clients import new_admin
from codec.tombstones import forgotten_headers
from page.reader.follow import Follower
from page.reader.state import Phase
from page.store.apply import Changes
from page.store.meta import read_meta
from page.store.queries import get_entry
from tests.support import page_rows
from tests.support.cluster import TIMEOUT_S, Deployment, run_async, until
from tests.support.page_deployment import HISTORY_DAYS, declare, expected, fill
from tests.support.page_tables import contents, open_database, rows_of

pytestmark = pytest.mark.broker


class Reader:
    """A reader with its database."""

    def __init__(self, deployment: Deployment, directory: Path, **options: Any) -> None:
        self.names = deployment.names
        self.database = open_database(directory)
        self.changes: list[Changes] = []
        self.follower = Follower(
            deployment.settings,
            self.database,
            cases_topic=deployment.names.cases,
            history_days=HISTORY_DAYS,
            on_changes=self.changes.append,
            **options,
        )

    def is_live(self) -> bool:
        return self.follower.state.kind == Phase.LIVE

    def wait(self, **ends: int) -> None:
        """Wait until the reader is live."""
        until(self.is_live)

    def contents(self) -> dict[str, Any]:
        return contents(self.database.read())


@contextmanager
def reading(deployment: Deployment, directory: Path, **options: Any) -> Iterator[Reader]:
    reader = Reader(deployment, directory, **options)
    reader.follower.start()
    try:
        yield reader
    finally:
        reader.follower.stop()
        reader.database.close()


def delete_topic(deployment: Deployment, topic: str) -> None:
    async def delete() -> None:
        admin = new_admin(deployment.settings)
        await admin.start()
        try:
            await admin.delete_topics([topic])
        finally:
            await admin.close()

    run_async(delete())


@pytest.fixture
def deployment(cluster: stack.Environment, tmp_path: Path) -> Deployment:
    return Deployment.new(cluster, tmp_path, RISK_MODEL="")


def test_the_tables_are_what_the_topics_say_and_stay_so(deployment: Deployment, tmp_path: Path) -> None:
    declare(deployment)
    # too old to be kept: most of them are not even read
    days = range(page_rows.TODAY - 2 * HISTORY_DAYS, page_rows.TODAY - HISTORY_DAYS + 2)
    ends = [day * page_rows.DAY_MS for day in days for _ in range(3)]
    sessions = [page_rows.session_row(i, end - 1_000, end, 1) for i, end in enumerate(ends)]
    deployment.send(deployment.names.sessions, sessions)
    fill(deployment)
    with reading(deployment, tmp_path / "page") as reader:
        reader.wait()
        assert reader.contents() == expected(deployment, tmp_path / "expected")
        assert (
            min(row[1] for row in reader.contents()["session"])
            == (page_rows.TODAY - HISTORY_DAYS + 1) * page_rows.DAY_MS
        )
        assert len(reader.contents()["entry"]) == len(page_rows.entries())
        # live: a row is there once it is waited for, and who listens has heard of it
        del reader.changes[:]
        topic = reader.names.risk
        end = deployment.ends(topic)[topic]
        row = page_rows.risk_row(101, 1, 0.4321, "LOW")
        began = time.monotonic()
        deployment.send(topic, [row, (None, b"?", b"no row", [])])
        assert reader.follower.wait_for(topic, end + 1, TIMEOUT_S)
        assert time.monotonic() - began < 5
        entry = get_entry(reader.database.read(), 101, 1)
        assert entry is not None
        assert entry.risk == 4_321
        assert [key for change in reader.changes for key in change.entries] == [(101, 1)]
        assert not reader.follower.wait_for(topic, end + 2, 0.1)
        assert [row[:3] for row in reader.contents()["unreadable"]] == [(topic, "the value is not JSON", 1)]
    # what was written meanwhile is read at the next start, and nothing twice
    deployment.send(reader.names.dead_letters, [page_rows.dead_letter("bad-magic", 9)])
    with reading(deployment, tmp_path / "page") as reader:
        assert reader.follower.state.is_complete
        reader.wait()
        assert reader.contents() == expected(deployment, tmp_path / "later")


def test_coroutines_run_on_the_readers_loop(deployment: Deployment, tmp_path: Path) -> None:
    declare(deployment)

    async def name() -> str:
        return threading.current_thread().name

    with reading(deployment, tmp_path / "page") as reader:
        assert reader.follower.run(name()) == "page-reader"
        with pytest.raises(TimeoutError):
            reader.follower.run(asyncio.sleep(60), 0.05)
    with pytest.raises(RuntimeError, match="ended"):
        reader.follower.run(name())


def test_topics_that_are_missing_are_waited_for(deployment: Deployment, tmp_path: Path) -> None:
    with reading(deployment, tmp_path / "page") as reader:
        state = until(lambda: reader.follower.state, lambda state: state.line)
        assert state.kind == Phase.LOADING
        assert "does not exist yet: start a worker" in state.line
        declare(deployment)
        reader.wait()
        assert reader.follower.state.line == ""


def test_a_topic_that_was_made_anew_is_read_from_its_beginning(deployment: Deployment, tmp_path: Path) -> None:
    fill(deployment)
    topic = deployment.names.risk
    with reading(deployment, tmp_path / "page") as reader:
        reader.wait()
    delete_topic(deployment, topic)

    def again() -> bool:
        try:
            declare(deployment)
        except Exception:  # the deletion is under way
            return False
        return True

    until(again)
    deployment.send(topic, [page_rows.risk_row(7, 1, 0.5, "RAISED")])
    with reading(deployment, tmp_path / "page") as reader:
        until(lambda: [row[:2] for row in reader.contents()["entry"]], lambda keys: keys == [(7, 1)])
        reader.wait()
        assert reader.contents() == expected(deployment, tmp_path / "expected")


def test_dead_letters_that_were_written_anew_are_counted_anew(deployment: Deployment, tmp_path: Path) -> None:
    fill(deployment)
    topic = deployment.names.dead_letters

    async def delete(before: int) -> None:
        admin = new_admin(deployment.settings)
        await admin.start()
        try:
            await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before)})
        finally:
            await admin.close()

    with reading(deployment, tmp_path / "page") as reader:
        reader.wait()
        assert [row[1:3] for row in reader.contents()["dead_letter"]] == [("bad-magic", 1), ("truncated", 2)]
        # as `forget` does: what is kept is written again, then the beginning is deleted
        deployment.send(topic, [page_rows.dead_letter("truncated")])
        run_async(delete(3))
        until(lambda: [row[1:3] for row in reader.contents()["dead_letter"]], lambda rows: rows == [("truncated", 1)])


def test_a_forgotten_student_leaves_the_tables(deployment: Deployment, tmp_path: Path) -> None:
    fill(deployment)
    names = deployment.names
    student = page_rows.STUDENTS[0]
    headers = forgotten_headers((page_rows.TODAY + 3) * page_rows.DAY_MS)
    with reading(deployment, tmp_path / "page") as reader:
        reader.wait()
        for topic in (names.risk, names.risk_alerts):
            keys = [f"{student}|{course}".encode() for course in page_rows.COURSES]
            deployment.send(topic, [(None, key, None, headers) for key in keys])
        end = deployment.ends(names.risk_alerts)[names.risk_alerts]
        assert reader.follower.wait_for(names.risk_alerts, end - 1, TIMEOUT_S)
        end = deployment.ends(names.risk)[names.risk]
        assert reader.follower.wait_for(names.risk, end - 1, TIMEOUT_S)
        for table in ("entry", "history", "alert", "session"):
            column = 1 if table == "alert" else 0
            rows = rows_of(reader.database.read(), table)
            assert rows
            assert student not in {row[column] for row in rows}, table


def test_a_full_disk_is_a_line_and_the_reader_goes_on(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(deployment)
    with reading(deployment, tmp_path / "page") as reader:
        reader.wait()
        with reader.database.write() as connection:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
        reader.database._writer.execute(f"PRAGMA max_page_count = {pages}")  # noqa: SLF001
        many = [page_rows.risk_row(10_000 + i, 1, 0.5, "RAISED") for i in range(5_000)]
        deployment.send(reader.names.risk, many)
        state = until(lambda: reader.follower.state, lambda state: state.kind == Phase.FAILED)
        assert "cannot be written" in state.line
        assert "full" in state.line
        reader.database._writer.execute("PRAGMA max_page_count = 1000000")  # noqa: SLF001
        until(lambda: len(rows_of(reader.database.read(), "entry")) >= 5_000)
        reader.wait()


def test_an_error_of_our_own_ends_the_process(deployment: Deployment, tmp_path: Path) -> None:
    fill(deployment)
    crashes: list[BaseException] = []

    def fold(*_: object) -> list[tuple[int, int]]:
        raise ZeroDivisionError

    deployment.send(deployment.names.cases, [(None, b"k", b"v", [])])
    with reading(deployment, tmp_path / "page", fold=fold, on_crash=crashes.append) as reader:
        until(lambda: crashes)
        assert isinstance(crashes[0], ZeroDivisionError)
        assert reader.follower.state.kind == Phase.FAILED
        assert not reader.follower.wait_for(reader.names.risk, 1 << 40, TIMEOUT_S)


def test_the_newest_event_is_that_of_the_sessions_too(deployment: Deployment, tmp_path: Path) -> None:
    fill(deployment)
    later = (page_rows.TODAY + 1) * page_rows.DAY_MS + 5
    with reading(deployment, tmp_path / "page") as reader:
        reader.wait()
        deployment.send(reader.names.sessions, [page_rows.session_row(101, later - 60_000, later, 3)])
        until(lambda: read_meta(reader.database.read()).newest_event == later)
        until(lambda: any(change.new_day for change in reader.changes))
