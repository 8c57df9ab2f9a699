"""The tables of the advisers' page: what rows of the topics make of them, in whatever batches they come."""

from __future__ import annotations

import itertools
import random
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.errors import ConfigError
from models.assessment import Band
from models.days import DAY_MS
from page.cases.actions import Kind, State
from page.reader.parse import Record
from page.reader.sources import Sources
from page.reader.writing import Writing
from page.store import case, course_queries, ranking
from page.store.case import refresh_case
from page.store.database import Database, has_indexes
from page.store.meta import read_meta, value_of
from page.store.queries import get_entry
from page.store.ranking import rank
from page.store.rows import AlertRow, AlertTombstone, Batch, DeadLetterRow, RiskRow, RiskTombstone, UnreadableRow
from tests.support import page_rows
from tests.support.page_tables import (
    CALENDAR,
    TODAY,
    contents,
    expected_week_ago,
    load,
    open_database,
    risk_row,
    rows_of,
    session_row,
    tidy,
    write,
    write_risks,
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = open_database(tmp_path)
    yield database
    database.close()


# -- the file


def test_the_file_is_for_its_owner_only(database: Database) -> None:
    for path in database.path.parent.iterdir():
        if not path.name.endswith(".lock"):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_write_that_fails_leaves_nothing(database: Database) -> None:
    def fail() -> None:
        with database.write() as connection:
            connection.execute("INSERT INTO meta VALUES ('today', 1)")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert read_meta(database.read()).today is None
    with database.write() as connection:
        connection.execute("INSERT INTO meta VALUES ('today', 2)")
    assert read_meta(database.read()).today == 2


def test_readers_cannot_write(database: Database) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        database.read().execute("DELETE FROM entry")


def test_a_snapshot_stays_as_it_was(database: Database) -> None:
    write_risks(database, risk_row(1, 2, 100))
    with database.snapshot() as connection:
        assert len(rows_of(connection, "entry")) == 1
        write_risks(database, risk_row(2, 2, 100))
        assert len(rows_of(connection, "entry")) == 1
    assert len(rows_of(database.read(), "entry")) == 2


def test_the_content_is_there_after_a_restart_and_built_again_for_another_origin(tmp_path: Path) -> None:
    for origin, expected in (("a", 0), ("a", 1), ("b", 0)):
        database = Database.open(tmp_path / "page.sqlite3", origin=origin)
        assert len(rows_of(database.read(), "entry")) == expected
        if not expected:
            write_risks(database, risk_row(1, 2, 100))
        database.close()


@pytest.mark.parametrize("damage", ["text", "version", "marked"])
def test_a_file_that_cannot_be_used_is_made_anew(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "page.sqlite3"
    database = Database.open(path)
    write_risks(database, risk_row(1, 2, 100))
    if damage == "marked":
        database.mark_damaged()
    if damage == "version":
        with database.write() as connection:
            connection.execute("PRAGMA user_version = 99")
    database.close()
    if damage == "text":
        path.write_bytes(b"this is no database " * 500)
    for expected in (0, 1):
        database = Database.open(path)
        assert len(rows_of(database.read(), "entry")) == expected
        write_risks(database, risk_row(1, 2, 100))
        database.close()


def test_who_opens_it_a_second_time_is_told_what_to_set(database: Database) -> None:
    with pytest.raises(ConfigError, match=r"another page uses .*: set RISK_PAGE_DATADIR"):
        Database.open(database.path)


def test_a_directory_that_cannot_be_made_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="set RISK_PAGE_DATADIR"):
        Database.open(tmp_path / "file" / "page.sqlite3")


# -- ranking


def test_states_and_kinds_are_those_of_the_cases() -> None:
    assert {State.CONTACTED, State.NOT_APPLICABLE, State.WRONG} == ranking.FINISHED
    assert case.STATES == {
        Kind.ACKNOWLEDGE: State.ACKNOWLEDGED,
        Kind.CONTACT: State.CONTACTED,
        Kind.NOT_APPLICABLE: State.NOT_APPLICABLE,
        Kind.WRONG: State.WRONG,
        Kind.REOPEN: State.OPEN,
    }
    assert {*case.STATES, case.ASSIGN, Kind.NOTE} == set(Kind)


def test_the_order_of_the_list() -> None:
    def ranked(
        band: Band, risk: int | None, *, alert: int | None = None, state: int = 0, handled: int | None = None
    ) -> int:
        return rank(band=band, risk=risk, alert=alert is not None, since=alert, state=state, handled=handled)

    order = [
        ranked(Band.HIGH, 9_000, alert=20),
        ranked(Band.HIGH, 8_000, alert=30, state=State.CONTACTED, handled=20),  # another alert than was handled
        ranked(Band.RAISED, 7_900, alert=20, state=State.ACKNOWLEDGED, handled=20),
        ranked(Band.GONE, None, alert=20),
        ranked(Band.HIGH, 9_900, alert=20, state=State.CONTACTED, handled=20),
        ranked(Band.HIGH, 9_900),
        ranked(Band.RAISED, 9_950),
        ranked(Band.RAISED, 5_000),
        ranked(Band.GONE, None),
        ranked(Band.LOW, 4_000),
        ranked(Band.LOW, 0),
        ranked(Band.UNKNOWN, None),
        ranked(Band.HIGH, 9_900, state=State.WRONG),
    ]
    assert order == sorted(set(order), reverse=True)


# -- rows of the risk


def test_an_entry_is_the_latest_row(database: Database) -> None:
    changes = write_risks(database, risk_row(1, 2, 4_000), risk_row(1, 2, 8_000, alert=True, since=TODAY - 3))
    entry = get_entry(database.read(), 1, 2)
    assert entry is not None
    assert list(changes.entries) == [(1, 2)]
    assert (entry.risk, entry.band, entry.alert, entry.since) == (8_000, Band.HIGH, True, TODAY - 3)
    assert (entry.last_visit, entry.silent_days(TODAY), entry.revision) == (TODAY - 2, 2, changes.revision)
    assert read_meta(database.read()).today == TODAY


def test_only_what_changed_has_the_new_revision(database: Database) -> None:
    first = write_risks(database, risk_row(1, 2, 4_000), risk_row(2, 2, 4_000)).revision
    second = write_risks(database, risk_row(2, 2, 5_000)).revision
    assert second > first
    assert [row["revision"] for row in database.read().execute("SELECT revision FROM entry ORDER BY student")] == [
        first,
        second,
    ]


def test_the_history_has_the_last_row_of_each_day(database: Database) -> None:
    write_risks(database, risk_row(1, 2, 4_000, TODAY - 1), risk_row(1, 2, 5_000), risk_row(1, 2, 6_000))
    assert rows_of(database.read(), "history") == [(1, 2, TODAY - 1, 4_000, 0), (1, 2, TODAY, 6_000, 1)]


def test_the_risk_of_a_week_ago_follows_the_days(database: Database) -> None:
    write_risks(database, *(risk_row(1, 2, 1_000 + day, TODAY - 10 + day) for day in range(5)))
    assert get_entry(database.read(), 1, 2).week_ago is None  # type: ignore[union-attr]
    write_risks(database, risk_row(1, 2, 3_000))
    entry = get_entry(database.read(), 1, 2)
    assert entry is not None
    assert (entry.week_ago, entry.change) == (1_003, 1_997)
    changes = write(database, Batch(sessions=[session_row(9, (TODAY + 1) * DAY_MS)]))
    assert changes.new_day
    assert get_entry(database.read(), 1, 2).week_ago == 1_003  # type: ignore[union-attr]
    tidy(database)
    assert get_entry(database.read(), 1, 2).week_ago == 1_004  # type: ignore[union-attr]


def test_a_new_day_takes_what_is_too_old(database: Database) -> None:
    old = TODAY - CALENDAR.history_days
    rows = [risk_row(student, 2, 1_000, day) for student in (1, 2) for day in (old - 9, old - 5, old, TODAY)]
    write_risks(database, *[row for row in rows if (row.student, row.as_of) != (2, old)])
    alerts = [AlertRow(i, 1, 2, True, day, day, "risk", 8_000, "[]") for i, day in enumerate((old - 2, old))]
    sessions = [session_row(student, day * DAY_MS) for student in (1, 2) for day in (old - 1, old + 1)]
    before_rows = Batch(alerts=alerts, sessions=sessions)
    write(database, before_rows)
    write(database, Batch(sessions=[session_row(5, TODAY * DAY_MS + 1)]))
    tidy(database, slice_size=1)
    days = [(row[0], row[2]) for row in rows_of(database.read(), "history")]
    # of what is older the last row is kept, which holds on the first day that is kept
    assert days == [(1, old), (1, TODAY), (2, old - 5), (2, TODAY)]
    assert [row[4] for row in rows_of(database.read(), "alert")] == [old]
    assert [row[0] for row in rows_of(database.read(), "session")] == [1, 2, 5]


def test_an_event_from_the_future_does_not_make_it_later(database: Database) -> None:
    far = 4_000_000_000_000_000
    write(database, Batch(risks=[risk_row(1, 2, 100), risk_row(2, 2, 100, at=far)], sessions=[session_row(3, far)]))
    assert read_meta(database.read()).today == TODAY


def test_a_tick_is_no_event(database: Database) -> None:
    write_risks(database, risk_row(1, 2, 100), risk_row(2, 2, 100, at=(TODAY + 2) * DAY_MS, is_event=False))
    assert read_meta(database.read()).today == TODAY


def test_while_a_worker_catches_up_nobody_seems_silent(database: Database) -> None:
    """Sessions are weeks ahead of the risks then: today is the day after the latest of these, in any order."""
    write_risks(database, risk_row(1, 2, 100, TODAY - 30))
    write(database, Batch(sessions=[session_row(1, TODAY * DAY_MS)]))
    assert read_meta(database.read()).today == TODAY - 29
    changes = write_risks(database, risk_row(1, 2, 100, TODAY - 1, is_event=False))
    assert (changes.new_day, changes.today) == (True, TODAY)
    write(database, Batch(sessions=[session_row(1, (TODAY + 9) * DAY_MS)]))
    assert read_meta(database.read()).today == TODAY


def test_a_tombstone_deletes_the_entry_and_its_history(database: Database) -> None:
    batch = [risk_row(1, 2, 100), risk_row(1, 3, 100), RiskTombstone(1, 2, None)]
    assert set(write_risks(database, *batch).entries) == {(1, 2), (1, 3)}
    assert [row[:2] for row in rows_of(database.read(), "entry")] == [(1, 3)]
    write_risks(database, risk_row(1, 2, 200, TODAY - 1), RiskTombstone(1, 2, None), risk_row(1, 2, 300))
    assert rows_of(database.read(), "history") == [(1, 2, TODAY, 300, 0), (1, 3, TODAY, 100, 0)]


def test_a_forgotten_student_is_unknown_but_for_what_came_later(database: Database) -> None:
    now = TODAY * DAY_MS
    write(
        database,
        Batch(
            risks=[risk_row(1, 2, 100), risk_row(7, 2, 100)],
            alerts=[AlertRow(i, 1, 2, True, TODAY - 3 + 4 * i, TODAY, "risk", 8_000, "[]") for i in range(2)],
            sessions=[session_row(1, now - 5), session_row(1, now + 5), session_row(7, now - 5)],
        ),
    )
    write_risks(database, RiskTombstone(1, 2, now))
    assert [row[0] for row in rows_of(database.read(), "entry")] == [7]
    assert [row[:2] for row in rows_of(database.read(), "session")] == [(1, now + 5), (7, now - 5)]
    assert [row[4] for row in rows_of(database.read(), "alert")] == [TODAY + 1]


# -- the other topics


def test_alerts_end_at_a_tombstone_and_at_an_erasure(database: Database) -> None:
    def opened(offset: int, student: int, why: str = "risk") -> AlertRow:
        return AlertRow(offset, student, 2, True, TODAY, TODAY, why, 8_000, "[]")

    write(database, Batch(alerts=[opened(1, 1), opened(2, 8), AlertTombstone(3, 1, 2), opened(4, 1)]))
    assert [row[0] for row in rows_of(database.read(), "alert")] == [2, 4]
    write(database, Batch(alerts=[opened(5, 1, "erased")]))
    assert [row[0] for row in rows_of(database.read(), "alert")] == [2]


def test_sessions_are_extended_and_merged(database: Database) -> None:
    now = TODAY * DAY_MS
    write(database, Batch(sessions=[session_row(1, now)]))
    write(database, Batch(sessions=[session_row(1, now, None), session_row(1, now + 5), session_row(1, now + 5, None)]))
    write(database, Batch(sessions=[session_row(1, now + 9, 7)]))
    assert rows_of(database.read(), "session") == [(1, now + 9, now + 9 - 60_000, 7)]


def test_dead_letters_and_unreadable_records_are_counted(database: Database) -> None:
    letters = [DeadLetterRow("log", "truncated", f"d{at}", at) for at in (5, 9, 7)]
    bad = [UnreadableRow("MOODLE_RISK", 0, offset, "the value is not JSON") for offset in (3, 4)]
    write(database, Batch(dead_letters=letters, unreadable=bad))
    write(database, Batch(dead_letters=letters[:1], unreadable=bad[:1]))
    assert rows_of(database.read(), "dead_letter") == [("log", "truncated", 4, 9, "d9")]
    assert rows_of(database.read(), "unreadable") == [("MOODLE_RISK", "the value is not JSON", 3, 3)]


def act(database: Database, version: int, kind: Kind, since: int | None = None, assignee: str | None = None) -> None:
    with database.write() as connection:
        connection.execute(
            "INSERT INTO action VALUES (?, ?, 1, 2, ?, ?, 'ada', ?, '', ?, ?)",
            (version, f"id{version}", version, kind, 1_000 + version, assignee, since),
        )
        refresh_case(connection, 1, 2)


def test_a_case_is_what_its_actions_say_whatever_comes_first(database: Database, tmp_path: Path) -> None:
    row = risk_row(1, 2, 8_000, alert=True, since=TODAY - 3)
    write_risks(database, row)
    other = open_database(tmp_path / "other")
    for store in (database, other):
        act(store, 1, Kind.ASSIGN, TODAY - 3, "grace")
        act(store, 2, Kind.CONTACT, TODAY - 3)
        act(store, 3, Kind.NOTE, TODAY - 3)
    write_risks(other, row)  # its entry comes later
    assert contents(database.read()) == contents(other.read())
    entry = get_entry(database.read(), 1, 2)
    assert entry is not None
    assert (entry.state, entry.assignee, entry.case_version, entry.acted_at) == (State.CONTACTED, "grace", 3, 1_003)
    handled = database.read().execute("SELECT rank FROM entry").fetchone()[0]
    write_risks(database, row._replace(since=TODAY))  # a new alert: the case counts as open
    assert database.read().execute("SELECT rank FROM entry").fetchone()[0] > handled
    write_risks(database, row, row._replace(risk=8_100))  # and rows keep the case
    assert get_entry(database.read(), 1, 2).state == State.CONTACTED  # type: ignore[union-attr]
    other.close()


# -- batches


def random_rows(seed: int, number: int) -> list[RiskRow | RiskTombstone]:
    choose = random.Random(seed)
    rows: list[RiskRow | RiskTombstone] = []
    for i in range(number):
        student, course, day = choose.randrange(6), choose.randrange(2), TODAY - 20 + 20 * i // number
        if choose.random() < 0.1:
            rows.append(RiskTombstone(student, course, choose.choice((None, day * DAY_MS))))
        else:
            risk = choose.choice((None, choose.randrange(10_000)))
            row = risk_row(student, course, risk, day, alert=choose.random() < 0.3, since=day)
            rows.append(row._replace(visit_days=choose.choice((0, 1, 8))))
    return rows


@pytest.mark.parametrize("seed", range(6))
def test_batches_make_no_difference(tmp_path: Path, seed: int) -> None:
    rows = random_rows(seed, 120)
    found = []
    for size, loads in itertools.product((1, 7, 200), (False, True)):
        store = open_database(tmp_path / f"{size}-{loads}")
        batches = [Batch(risks=rows[i : i + size], positions={("r", 0): i + size}) for i in range(0, len(rows), size)]
        batches[-1].positions = {("r", 0): len(rows)}
        if loads:
            load(store, batches)
        else:
            for batch in batches:
                write(store, batch)
            tidy(store)
        assert has_indexes(store.read())
        found.append(contents(store.read()))
        store.close()
    assert all(each == found[0] for each in found)
    # an oracle of its own, without tables
    entries: dict[tuple[int, int], dict[int, int | None]] = {}
    for row in rows:
        key = (row.student, row.course)
        if isinstance(row, RiskRow):
            entries.setdefault(key, {})[row.as_of] = row.risk
        else:
            entries.pop(key, None)
    today = max(row.as_of for row in rows if isinstance(row, RiskRow))
    assert {row[:2]: (row[2], row[14]) for row in found[0]["entry"]} == {
        key: (days[max(days)], expected_week_ago(days, today)) for key, days in entries.items()
    }
    assert len(found[0]["history"]) == sum(map(len, entries.values()))


def test_the_tally_counts_the_entries(database: Database) -> None:
    for row in random_rows(9, 200):
        write_risks(database, row)
    query = "SELECT course, band, state, alert, count(*) FROM entry GROUP BY 1, 2, 3, 4"
    assert rows_of(database.read(), "tally") == sorted(map(tuple, database.read().execute(query)), key=repr)
    query = "SELECT course, coalesce(last_visit, -1000000), count(*) FROM entry GROUP BY 1, 2"
    assert rows_of(database.read(), "visit_tally") == sorted(map(tuple, database.read().execute(query)), key=repr)
    rows = course_queries.courses(database.read(), None, 0)
    assert sum(row.students for row in rows) == len(rows_of(database.read(), "entry"))


def test_positions_are_written_with_the_rows(database: Database) -> None:
    write(database, Batch(risks=[risk_row(1, 2, 1)], positions={("r", 0): 5}))
    write(database, Batch(positions={("r", 0): 9, ("s", 0): 1}))
    assert rows_of(database.read(), "position") == [("r", 0, 9), ("s", 0, 1)]
    database.clear()
    assert contents(database.read())["position"] == contents(database.read())["entry"] == []
    assert value_of(database.read(), "origin") is not None


def test_what_a_first_reading_has_not_committed_is_not_there(database: Database) -> None:
    sources = Sources("risk", "alerts", "sessions", "letters", "cases")
    writing = Writing(database, sources, CALENDAR, None)
    rows = [Record(0, 1, *page_rows.risk_row(student, 1, 0.5, "RAISED")[1:]) for student in range(1, 4)]
    assert writing.begin() == {}
    assert not has_indexes(database.read())
    assert writing.load({"risk": rows[:1]}, {"risk": 1}) == {}
    assert rows_of(database.read(), "entry") == []
    writing.abort()
    writing.abort()
    assert writing.begin() == {}
    assert writing.load({"risk": rows[:1]}, {"risk": 1}) == {}
    assert writing.load({"risk": rows[1:]}, {"risk": 3}) == {}
    assert writing.commit() == {"risk": 3}
    assert writing.commit() == {}
    assert len(rows_of(database.read(), "entry")) == 3
    assert writing.begin() == {"risk": 3}
    while writing.tidy():
        pass
    writing.complete()
    assert has_indexes(database.read())
    assert sum(row.students for row in course_queries.courses(database.read(), None, 0)) == 3


def test_a_first_reading_that_fails_leaves_what_was_committed(database: Database) -> None:
    def fold(*_: object) -> list[tuple[int, int]]:
        raise ZeroDivisionError

    writing = Writing(database, Sources("risk", "alerts", "sessions", "letters", "cases"), CALENDAR, fold)
    writing.begin()
    writing.load({"risk": [Record(0, 1, *page_rows.risk_row(1, 1, 0.5, "RAISED")[1:])]}, {"risk": 1})
    with pytest.raises(ZeroDivisionError):
        writing.load({"cases": [Record(0, 1, b"k", b"v", ())]}, {"cases": 1})
    assert writing.begin() == {}
    write_risks(database, risk_row(1, 2, 100))  # nobody holds the lock
