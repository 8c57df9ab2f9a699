"""cases.csv: what was done, for whoever may see the course, and only with a record in the audit."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from page.access.visitor import Visitor
from page.cases.actions import Kind
from page.cases.audit import Look
from page.cases.fold import CaseFold
from page.cases.records import Proposal, encode
from page.store.layout import SITE
from page.store.rows import CaseRecord
from tests.support.page_site import Site, site

#: student and course of each action; nobody has a risk for the last
ACTED = ((11, 1), (11, 1), (21, 2), (31, SITE), (99, 1))


@pytest.fixture
def acted(tmp_path: Path) -> Iterator[Site]:
    """A site on whose cases there are actions."""
    with site(tmp_path, Visitor("ann", frozenset({1})), Visitor("bob", frozenset({2}))) as made:
        for student, course in ACTED[:-1]:
            made.add(student, course)
        records = []
        for offset, (student, course) in enumerate(ACTED):
            version = ACTED[:offset].count((student, course))
            asked = Proposal(f"action-{offset}", student, course, version, Kind.NOTE, "ann", 5, f"note {offset}")
            records.append(CaseRecord(offset, 5, *encode(asked, "1")))
        with made.services.database.write() as connection:
            CaseFold("cases")(connection, records, 1)
        yield made


def lines(made: Site, user: str) -> list[dict[str, str]]:
    """The lines of the file as a user gets it."""
    answer = made.get("/cases.csv", user)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert "attachment" in answer.headers["content-disposition"]
    return list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"), newline="")))


def test_everybody_gets_the_actions_of_their_courses(acted: Site) -> None:
    """Who sees all courses also those of the whole site, and of students who have no risk any more."""
    assert [row["note"] for row in lines(acted, "all")] == ["note 0", "note 1", "note 2", "note 3", "note 4"]
    assert [row["note"] for row in lines(acted, "ann")] == ["note 0", "note 1", "note 4"]
    assert [(row["userid"], row["courseid"], row["note"]) for row in lines(acted, "bob")] == [("21", "2", "note 2")]
    assert acted.audit.records == [
        ("all", Look.CASES, [(11, 1), (21, 2), (31, SITE), (99, 1)], {"address": "127.0.0.1"}),
        ("ann", Look.CASES, [(11, 1), (99, 1)], {"address": "127.0.0.1"}),
        ("bob", Look.CASES, [(21, 2)], {"address": "127.0.0.1"}),
    ]


def test_without_the_audit_there_is_no_file(acted: Site) -> None:
    acted.audit.is_broken = True
    answer = acted.get("/cases.csv")
    assert (answer.status_code, "note 0" in answer.text) == (503, False)
