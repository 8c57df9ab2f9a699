"""The list of students, its export and its search, over a database that the tests fill."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from models.assessment import Band
from page.access.visitor import Visitor
from page.cases.actions import State as CaseState
from page.cases.audit import Look
from page.reader.state import Phase, State
from page.web.list_query import ROWS
from tests.support.page_rows import REASON
from tests.support.page_site import TODAY, Site, site

ADA, NOBODY = Visitor("ada", frozenset({1})), Visitor("new", frozenset())
#: a high risk with an open alert
HIGH = {"band": Band.HIGH, "risk": 8000, "alert": 1, "since": TODAY - 4, "reasons": [REASON], "last_visit": TODAY - 9}


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Site]:
    """A site with a student of each kind, in two courses."""
    with site(tmp_path, ADA, NOBODY) as page:
        page.add(101, week_ago=2000)
        page.add(102, **HIGH, week_ago=6800)
        page.add(103, band=Band.RAISED, risk=5600, week_ago=6000, assignee="all", state=CaseState.ACKNOWLEDGED)
        page.add(104, band=Band.GONE, risk=None, last_visit=TODAY - 40, as_of=TODAY - 12)
        page.add(105, 2, **HIGH, state=CaseState.CONTACTED, assignee="<b>ada</b>")
        page.add(106, 2, band=Band.UNKNOWN, risk=None, last_visit=None)
        yield page


def listed(answer: httpx.Response) -> list[int]:
    """The students of a list, in its order."""
    assert answer.status_code == 200, answer.text
    return [int(student) for student in re.findall(r'<span class="sr">Student </span>(-?\d+)</a>', answer.text)]


def text_of(answer: httpx.Response) -> str:
    """What an answer says, without markup."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", answer.text)).replace("\u00a0", " ").replace("&nbsp;", " ")


def test_whom_to_contact_comes_first_with_what_an_adviser_needs(page: Site) -> None:
    answer = page.get("/")
    assert listed(answer) == [102, 105, 103, 104, 101, 106]
    text = text_of(answer)
    for part in (
        "As of 20 Nov 2013",
        "1\u20136 of 6",
        "High 80 %",
        "up 12 points in a week",
        "down 4 points in a week",
        "same as a week ago",
        "Alert since 16 Nov ",
        "No visit for 9 days; the median of the course is 2",
        "9 days ago",
        "40 days ago",
        "as of 8 Nov 2013",
        "over 60 days ago",
        "Too few students to compare with.",
        "assigned to all",
    ):
        assert part in text, part
    assert "<b>ada" not in answer.text
    assert "&lt;b&gt;ada" in answer.text


@pytest.mark.parametrize(
    ("query", "students"),
    [
        ("course=2", [105, 106]),
        ("band=high", [102, 105]),
        ("silent=14", [104, 106]),
        ("state=open&alert=1", [102]),
        ("mine=1", [103]),
        ("course=1&band=low", [101]),
        ("course=2&band=low", []),
        ("sort=risk", [102, 105, 103, 101, 104, 106]),
        ("sort=change", [102, 101, 103, 104, 105, 106]),
        ("sort=student", [101, 102, 103, 104, 105, 106]),
        ("course=&band=&silent=&state=&sort=student&page=", [101, 102, 103, 104, 105, 106]),
    ],
)
def test_filters_and_orders(page: Site, query: str, students: list[int]) -> None:
    answer = page.get(f"/?{query}")
    assert listed(answer) == students
    assert ("No student matches these filters" in answer.text) == (not students)


@pytest.mark.parametrize(
    "query", ["course=x", "course=1e3", "band=loud", "silent=-1", "state=9", "sort=name", "page=0", "page=99999999"]
)
def test_an_address_that_makes_no_sense_is_refused_with_a_sentence(page: Site, query: str) -> None:
    answer = page.get(f"/?{query}")
    assert answer.status_code == 400
    assert "The address of this page asks for" in answer.text


def test_visitors_see_their_courses_only(page: Site) -> None:
    answer = page.get("/", "ada")
    assert listed(answer) == [102, 103, 104, 101]
    assert "Course 2" not in answer.text
    counts = re.findall(r'<span class="count">(\d+)</span>', answer.text)
    assert counts == ["4", "1", "1", "1", "1", "0"]
    for url in ("/?course=2", "/students.csv?course=2", "/changes?course=2", "/?course=-1"):
        assert page.get(url, "ada").status_code == 404, url
    assert "105" not in page.get("/students.csv", "ada").text
    assert "You have no courses yet" in page.get("/", "new").text


def test_pages(tmp_path: Path) -> None:
    with site(tmp_path) as page:
        for student in range(2 * ROWS + 1):
            page.add(1000 + student, risk=2000 + student)
        first, second, last = (page.get(f"/?sort=risk&page={number}") for number in (1, 2, 3))
        assert listed(first) + listed(second) + listed(last) == [1000 + n for n in reversed(range(2 * ROWS + 1))]
        assert f"{ROWS + 1}\u2013{2 * ROWS} of {2 * ROWS + 1}" in text_of(second)
        assert 'rel="prev" href="/?sort=risk"' in second.text
        assert 'rel="next" href="/?sort=risk&amp;page=3"' in second.text
        assert 'rel="next"' not in last.text
        assert "This page of the list is empty" in page.get("/?page=4").text


def test_why_a_list_is_empty(tmp_path: Path) -> None:
    with site(tmp_path) as page:
        assert "No students yet" in page.get("/").text
        page.reader.state = State(Phase.LOADING, 0.31)
        text = text_of(page.get("/"))
        assert "Students are being loaded" in text
        assert "Loading: 31 % is read." in text


def test_no_id_stands_in_an_address(page: Site) -> None:
    student = 987_654_321
    page.add(student, **HIGH)
    text = page.get("/").text
    assert str(student) in text
    assert not [url for url in re.findall(r'(?:href|src|data-[a-z]+)="([^"]*)"', text) if str(student) in url]
    assert f'href="/student/{page.token(student)}"' in text


def test_links_to_moodle_where_its_address_is_known(tmp_path: Path) -> None:
    with site(tmp_path, RISK_MOODLE_URL="https://moodle.example.edu/") as page:
        page.add(101)
        text = page.get("/").text
        assert 'href="https://moodle.example.edu/user/view.php?id=101&amp;course=1"' in text
        assert 'href="https://moodle.example.edu/message/index.php?id=101"' in text


def test_search_by_id_leads_to_the_student(page: Site) -> None:
    page.add(102, 2, band=Band.LOW)
    answer = page.post("/search", {"student": " 102 "})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/student/{page.token(102)}")
    assert page.audit.records[-1] == (
        "all",
        Look.SEARCH,
        [(102, 1), (102, 2)],
        {"address": "127.0.0.1", "student": 102},
    )
    missing = page.post("/search", {"student": "105"}, "ada")
    assert missing.status_code == 404
    assert "no student 105 in the courses that you see" in missing.text
    for wrong in ("", "x", "1e5", "9" * 30, "٣"):
        assert page.post("/search", {"student": wrong}).status_code == 400, wrong


def test_the_export_has_what_the_list_has(page: Site) -> None:
    page.add(107, 1, band=Band.RAISED, risk=5000, assignee="=cmd|' /C calc'!A0", reasons=[REASON | {"TEXT": "@x"}])
    answer = page.get("/students.csv?sort=student")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert "attachment" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert [int(row["userid"]) for row in rows] == [101, 102, 103, 104, 105, 106, 107]
    assert rows[1] == {
        "userid": "102",
        "courseid": "1",
        "risk": "0.8000",
        "band": "high",
        "risk_a_week_ago": "0.6800",
        "alert": "yes",
        "alert_since": "2013-11-16",
        "days_since_last_visit": "9",
        "last_visit": "2013-11-11",
        "reasons": "No visit for 9 days; the median of the course is 2",
        "as_of": "2013-11-20",
        "case": "open",
        "assignee": "",
        "model": "v2s-0123456789ab",
    }
    assert rows[5]["risk"] == rows[5]["days_since_last_visit"] == ""
    assert (rows[6]["assignee"], rows[6]["reasons"]) == ("'=cmd|' /C calc'!A0", "'@x")
    only = csv.DictReader(io.StringIO(page.get("/students.csv?band=high&course=2").content.decode("utf-8-sig")))
    assert [row["userid"] for row in only] == ["105"]


def test_what_is_shown_is_recorded_first(page: Site) -> None:
    page.get("/?course=2")
    page.get("/students.csv?mine=1")
    page.get(f"/rows?s={page.token(102)}&s={page.token(105, 2)}&s=nothing", "ada")
    assert page.audit.records == [
        ("all", Look.LIST, [(105, 2), (106, 2)], {"address": "127.0.0.1", "url": "/?course=2"}),
        ("all", Look.EXPORT, [(103, 1)], {"address": "127.0.0.1", "url": "/?mine=1"}),
        ("ada", Look.CHANGES, [(102, 1)], {"address": "127.0.0.1"}),
    ]
    page.audit.is_broken = True
    for url in ("/", "/students.csv", f"/rows?s={page.token(102)}"):
        answer = page.get(url)
        assert answer.status_code == 503, url
        assert "102" not in answer.text


def test_rows_of_an_open_list(page: Site) -> None:
    answer = page.get(f"/rows?s={page.token(105, 2)}&s={page.token(102)}&s={page.token(999)}")
    assert listed(answer) == [105, 102]
    assert answer.text.count("<tr") == 2


def test_a_row_that_was_shown_before_is_what_it_is_now(page: Site) -> None:
    """Rows are kept; another state, another risk and another day show."""
    assert not re.search(r"9 days ago .*Acknowledged", text_of(page.get("/?band=high&course=1")))
    page.add(102, **HIGH, week_ago=6800, state=CaseState.ACKNOWLEDGED)
    text = text_of(page.get("/?band=high&course=1"))
    assert re.search(r"9 days ago .*Acknowledged", text)
    with page.services.database.write() as connection:
        connection.execute("UPDATE meta SET value = ? WHERE name = 'today'", (TODAY + 1,))
    assert "10 days ago" in text_of(page.get("/?band=high&course=1"))


def test_outcomes_are_a_column_in_demonstrations(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.csv"
    path.write_text("student,course,outcome\n101,1,withdrawn\n102,,passed\n")
    with site(tmp_path, RISK_PAGE_OUTCOMES=str(path)) as page:
        page.add(101)
        page.add(102)
        assert re.findall(r'c-outcome"><span[^>]*>Outcome </span>([^<]*)</td>', page.get("/").text) == [
            "withdrawn",
            "\u2013",
        ]
        assert page.get("/students.csv?sort=student").text.splitlines()[1].endswith(",withdrawn")


def test_a_student_of_a_hostile_history(tmp_path: Path) -> None:
    """Reasons come from a topic: markup is text, and what is missing is empty."""
    with site(tmp_path) as page:
        page.add(101, reasons=[{"TEXT": "<script>alert(1)</script>\u202e" + "x" * 10_000}, {}], model="<i>")
        answer = page.get("/")
        assert "<script>alert" not in answer.text
        assert "&lt;script&gt;" in answer.text


def test_the_title_says_which_list_it_is(page: Site) -> None:
    title = re.search(r"<title>(.*?)</title>", page.get("/?course=1&band=high&silent=7&alert=1&state=open&mine=1").text)
    assert title is not None
    words = "open alert, risk high, last visit 7 days ago or more, case open, assigned to me"
    assert title[1] == f"Course 1, {words} \u2013 Moodle risk"
