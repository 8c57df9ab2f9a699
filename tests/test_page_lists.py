"""Lists of the advisers' page: every filter and order gives what filtering and sorting all entries in memory gives."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.assessment import Band
from page.store import course_queries
from page.store.case import refresh_case
from page.store.changed import ChangedEntry, changed, changed_since
from page.store.database import Database, drop_indexes, make_indexes
from page.store.queries import (
    ENTRY_COLUMNS,
    Entry,
    Filter,
    Sort,
    count_entries,
    courses,
    entries_of,
    get_entry,
    histories,
    list_entries,
)
from tests.support.page_tables import TODAY, open_database, risk_row, tidy, write_risks

COURSES = 4


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """300 entries of 150 students, a fifth of them with actions."""
    choose = random.Random(4)
    database = open_database(tmp_path_factory.mktemp("lists"))
    for back in (9, 0):
        rows = []
        for i in range(300):
            if back and i % 5 == 0:
                continue
            rows.append(
                risk_row(
                    i // 2,
                    i % COURSES,
                    choose.choice((None, choose.randrange(40) * 250)),
                    TODAY - back,
                    visit_days=choose.choice((0, 1, 1 << 20, 3 << choose.randrange(50))),
                    alert=choose.random() < 0.3,
                    since=TODAY - 1,
                )
            )
        write_risks(database, *rows)
    with database.write() as connection:
        for i in range(0, 300, 5):
            kind = choose.choice(("contact", "acknowledge", "assign", "wrong"))
            connection.execute(
                "INSERT INTO action VALUES (?, ?, ?, ?, 1, ?, 'ada', 0, '', ?, ?)",
                (i, f"id{i}", i // 2, i % COURSES, kind, choose.choice(("ada", "grace")), TODAY - 1),
            )
            refresh_case(connection, i // 2, i % COURSES)
    tidy(database)
    yield database
    database.close()


def all_entries(database: Database) -> list[tuple[Entry, int]]:
    """All entries with their ranks."""
    rows = database.read().execute(f"SELECT {', '.join(ENTRY_COLUMNS)}, rank FROM entry").fetchall()
    return [(Entry.of(row[:-1]), row[-1]) for row in map(tuple, rows)]


def meets(entry: Entry, scope: frozenset[int] | None, chosen: Filter) -> bool:
    silent = TODAY - entry.last_visit if entry.last_visit is not None else 1_000
    return (
        (scope is None or entry.course in scope)
        and chosen.course in (None, entry.course)
        and (not chosen.bands or entry.band in chosen.bands)
        and (not chosen.states or entry.state in chosen.states)
        and chosen.alert in (None, entry.alert)
        and (chosen.silent is None or silent >= chosen.silent)
        and chosen.assignee in (None, entry.assignee)
    )


def order(entry: Entry, rank: int, sort: Sort) -> tuple[Any, ...]:
    def descending(value: int | None) -> int:
        return 1 << 62 if value is None else -value

    first = {
        Sort.RANK: -rank,
        Sort.RISK: descending(entry.risk),
        Sort.CHANGE: descending(entry.change),
        Sort.SILENT: -1 if entry.last_visit is None else entry.last_visit,
        Sort.STUDENT: 0,
    }[sort]
    return first, entry.student, entry.course


def random_filter(choose: random.Random) -> Filter:
    def some(values: range) -> frozenset[int]:
        return frozenset(choose.sample(values, choose.randrange(len(values)))) if choose.random() < 0.5 else frozenset()

    return Filter(
        course=choose.choice((None, None, *range(COURSES))),
        bands=some(range(5)),
        states=some(range(5)),
        alert=choose.choice((None, True, False)),
        silent=choose.choice((None, None, 0, 5, 30)),
        assignee=choose.choice((None, None, "ada", "nobody")),
    )


@pytest.mark.parametrize("indexed", [True, False])
def test_lists_and_counts_are_those_of_an_oracle(database: Database, indexed: bool) -> None:
    choose = random.Random(8)
    everything = all_entries(database)
    told = changed(database.read(), [(entry.student, entry.course) for entry, _ in everything])
    if not indexed:
        with database.write() as connection:
            drop_indexes(connection)
    for _ in range(300):
        chosen = random_filter(choose)
        scope = choose.choice((None, frozenset(), frozenset({1}), frozenset({0, 2, 77})))
        sort, reverse = choose.choice(list(Sort)), choose.random() < 0.5
        expected = [each for each in everything if meets(each[0], scope, chosen)]
        in_scope = sum(meets(entry, scope, Filter()) for entry, _ in everything)
        expected.sort(key=lambda each: order(*each, sort), reverse=reverse)
        found = list_entries(database.read(), scope, chosen, sort, reverse=reverse, limit=-1)
        assert found == [entry for entry, _ in expected], (chosen, scope, sort, reverse)
        assert count_entries(database.read(), scope, chosen, Filter()) == [len(expected), in_scope], (chosen, scope)
        met = {key for key, each in told.items() if each is not None and each.meets(chosen, TODAY)}
        assert {key for key in met if scope is None or key[1] in scope} == {(e.student, e.course) for e in found}
        page = list_entries(database.read(), scope, chosen, sort, reverse=reverse, offset=3, limit=4)
        assert page == found[3:7]
    if not indexed:
        assert courses(database.read(), None) == [0, 1, 2, 3]


def test_no_list_sorts_or_reads_more_than_it_shows(database: Database, tmp_path: Path) -> None:
    fresh = open_database(tmp_path)
    connection = fresh.read()
    seen: list[str] = []
    connection.set_trace_callback(seen.append)
    for sort in Sort:
        list_entries(connection, frozenset({1, 2}), Filter(bands=frozenset({2}), states=frozenset({0})), sort)
    list_entries(connection, frozenset({1, 2}), Filter(course=1, bands=frozenset({2})))
    count_entries(connection, frozenset({1, 2}), Filter(course=1, bands=frozenset({2})))
    connection.set_trace_callback(None)
    lists = [query for query in seen if "AS id" in query]
    assert len(lists) == len(Sort) + 1
    for query in lists:
        inner = query[query.index("SELECT rowid AS id") : query.index(") AS page")]
        plan = " | ".join(row["detail"] for row in connection.execute(f"EXPLAIN QUERY PLAN {inner}"))
        assert "TEMP B-TREE" not in plan, (inner, plan)
    assert any("FROM tally" in query for query in seen)
    fresh.close()


def test_courses_are_those_with_entries_that_a_visitor_may_see(database: Database) -> None:
    assert courses(database.read(), None) == [0, 1, 2, 3]
    assert courses(database.read(), frozenset({3, 1, 77})) == [1, 3]


def test_what_a_visitor_may_not_see_is_not_there(database: Database) -> None:
    connection = database.read()
    assert {entry.course for entry in entries_of(connection, 0, None)} == {0, 1}
    assert {entry.course for entry in entries_of(connection, 0, frozenset({1}))} == {1}
    assert get_entry(connection, 0, 3) is None


def test_changes_are_told_from_a_revision_on(database: Database) -> None:
    connection = database.read()
    before = connection.execute("SELECT max(revision) FROM entry").fetchone()[0]
    assert changed_since(connection, None, None, before, 10) == {}
    assert changed_since(connection, None, None, 0, 10) is None
    changes = write_risks(database, risk_row(3, 2, 100), risk_row(3, 3, 9_000))
    assert set(changed_since(connection, None, None, before, 10) or ()) == {(3, 2), (3, 3)}
    assert list(changed_since(connection, frozenset({3}), None, before, 10) or ()) == [(3, 3)]
    assert list(changed_since(connection, None, 2, before, 10) or ()) == [(3, 2)]
    assert changes.entries == changed(connection, [(3, 2), (3, 3)])
    found = changed(connection, [(3, 2), (3, 3), (99, 9)])
    assert found == {
        (3, 2): ChangedEntry(2, changes.revision, Band.LOW, 0, False, TODAY - 2, None),
        (3, 3): ChangedEntry(3, changes.revision, Band.HIGH, 0, False, TODAY - 2, None),
        (99, 9): None,
    }


def test_a_history_begins_with_what_held_on_its_first_day(database: Database) -> None:
    write_risks(database, *(risk_row(900, 1, day, TODAY - day) for day in (20, 12, 3)))
    found = histories(database.read(), [(900, 1), (901, 1)], TODAY - 10)
    assert found == {(900, 1): [(TODAY - 12, 12, 0), (TODAY - 3, 3, 0)], (901, 1): []}
    assert [day for day, _, _ in histories(database.read(), [(900, 1)], TODAY - 30)[900, 1]] == [
        TODAY - 20,
        TODAY - 12,
        TODAY - 3,
    ]


@pytest.mark.parametrize("scope", [None, frozenset({1, 3}), frozenset()])
@pytest.mark.parametrize("course", [None, 1])
def test_the_courses_are_the_same_from_tallies_and_from_entries(
    database: Database, tmp_path: Path, scope: frozenset[int] | None, course: int | None
) -> None:
    connection = database.read()
    with database.write() as writing:
        make_indexes(writing)
    found = course_queries.courses(connection, scope, TODAY - 10, course)
    counted = course_queries._counted_courses(connection, scope, TODAY - 10, course)  # noqa: SLF001
    assert found == counted
    assert bool(found) == (scope is None or bool(scope))
