"""The pages of courses, of the model and of the status, over a database that the tests fill."""

from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from aiokafka.errors import GroupAuthorizationFailedError
from hypothesis import given
from hypothesis import strategies as st

from app.errors import ConfigError
from models.assessment import Band
from page.access.visitor import Visitor
from page.cases.actions import State as CaseState
from page.cases.audit import Look
from page.reader import workers
from page.reader.state import Phase, State
from page.reader.workers import Group, Workers
from page.store.course_queries import CourseEntry
from page.store.layout import DAYS, SITE
from page.web.charts.risk_history import Thresholds
from page.web.course_figures import SILENT_DAYS, CourseColumns, at_threshold, distribution, flags_per_week, silence
from page.web.known_models import known_models
from page.web.model_card import card_of
from tests.support.page_site import DAY_MS, TODAY, Site, site, text_of

ADA, NOBODY = Visitor("ada", frozenset({1})), Visitor("new", frozenset())
MODEL = next(name for name in known_models("") if name.startswith("v2s"))
HIGH: dict[str, Any] = {"band": Band.HIGH, "risk": 8000, "alert": 1, "since": TODAY - 4, "model": MODEL}
CARD = Path("docs/model-card/report.json")
THRESHOLDS = Thresholds(0.5, 0.7)


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Site]:
    """A site with two courses."""
    with site(tmp_path, ADA, NOBODY) as page:
        page.add(101, model=MODEL)
        page.add(102, **HIGH, last_visit=TODAY - 7, visit_days=1 << 7)
        page.add(103, **HIGH, state=CaseState.CONTACTED, handled=TODAY - 4, case_version=1)
        page.add(104, **HIGH, state=CaseState.WRONG, handled=TODAY - 30, case_version=2, last_visit=TODAY - 6)
        page.add(105, band=Band.GONE, risk=None, last_visit=None, model=MODEL)
        page.add(201, 2, band=Band.RAISED, risk=5500)
        page.add(301, SITE, band=Band.UNKNOWN, risk=None)
        with page.services.database.write() as connection:
            connection.executemany(
                "INSERT INTO alert VALUES (NULL, 102, 1, ?, ?, ?, 'risk', NULL, '[]')",
                [(1, TODAY - 4, TODAY - 4), (1, TODAY - 15, TODAY - 15), (0, TODAY - 9, TODAY - 15)],
            )
        yield page


def rows_of(text: str) -> list[list[str]]:
    """The cells of the first table of a page, without its head."""
    body = text.split("<tbody>")[1].split("</tbody>")[0]
    return [
        [
            re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", cell))).strip()
            for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.S)
        ]
        for row in body.split("</tr>")[:-1]
    ]


def test_courses_have_their_numbers_those_with_most_to_do_first(page: Site) -> None:
    rows = rows_of(page.get("/courses").text)
    assert rows == [
        ["Course 1", "2", "3", "", "3", "0", "1", "40 %", "5"],
        ["Whole site", "0", "0", "", "0", "0", "0", "0 %", "1"],
        ["Course 2", "0", "0", "", "0", "1", "0", "0 %", "1"],
    ]
    assert [row[0] for row in rows_of(page.get("/courses", "ada").text)] == ["Course 1"]
    assert "None of your courses has had a visit yet." in text_of(page.get("/courses", "new"))


def test_a_course_has_its_charts(page: Site) -> None:
    answer = page.get("/course/1")
    text = text_of(answer)
    for part in (
        "Alerts open 3 Alerts not taken up 2",
        "Silent for 7 days or more 2",
        "0 acknowledged, 1 contacted, 0 not applicable, 1 flagged wrongly.",
        "4 students with a risk; half of them have 80 % or more. 3 are at 70 % or above, 0 between that and 50 %.",
        "2 alerts opened in 12 weeks, none this week so far.",
        "At 70 %: 3 of 4 students, 75 %.",
    ):
        assert part in text, part
    assert "Back to the model's" not in text
    assert [(name, what, detail["course"]) for name, what, _, detail in page.audit.records] == [("all", Look.COURSE, 1)]


def test_another_threshold_is_compared_with_that_of_the_model(page: Site) -> None:
    text = text_of(page.get("/course/1?threshold=15"))
    assert "At 15 %: 4 of 4 students, 100 %. That is 1 more than at 70 %, where the band High begins." in text
    assert "Back to the model's" in text
    for odd in ("0", "100", "x", "1e1", "-5", "٣"):
        assert "At 70 %" in text_of(page.get("/course/1", "all") if not odd else page.get(f"/course/1?threshold={odd}"))


@pytest.mark.parametrize("course", ["2", "99", "x", "1.0", "9" * 30, "-2"])
def test_a_course_that_one_may_not_see_is_not_found(page: Site, course: str) -> None:
    assert page.get(f"/course/{course}", "ada").status_code == 404
    assert page.audit.records == []


def test_a_course_without_students_is_not_found(page: Site) -> None:
    assert page.get("/course/99").status_code == 404
    assert page.get(f"/course/{SITE}").status_code == 200


def test_before_the_first_event_there_is_no_course(tmp_path: Path) -> None:
    with site(tmp_path) as page:
        assert "A course appears with the first visit of a student." in text_of(page.get("/courses"))
        assert page.get("/course/1").status_code == 404
        assert page.get("/model").status_code == 200


ENTRIES = st.lists(
    st.builds(
        CourseEntry,
        st.none() | st.integers(0, 10_000),
        st.integers(TODAY - 100, TODAY),
        st.integers(0, (1 << DAYS) - 1),
        st.none() | st.integers(TODAY - 120, TODAY),
    ),
    max_size=30,
)


@given(ENTRIES, st.integers(0, 100))
def test_figures_of_a_course_are_those_of_its_students_one_by_one(entries: list[CourseEntry], percent: int) -> None:
    columns = CourseColumns.of(entries, TODAY)
    flagged = [e.risk for e in entries if e.risk is not None and e.risk >= 100 * percent]
    assert columns.flagged(percent / 100) == len(flagged)
    assert columns.expected(percent / 100) == pytest.approx(sum(flagged) / 10_000)
    expected = []
    for day in range(TODAY - DAYS + SILENT_DAYS, TODAY + 1):
        silent = known = 0
        for entry in entries:
            visits = {entry.as_of - i for i in range(DAYS) if entry.visit_days >> i & 1}
            visits = {visit for visit in visits if visit > TODAY - DAYS}
            first = min([*visits, *([entry.first] if entry.first is not None else [])], default=None)
            if first is not None and first <= day:
                known += 1
                silent += not visits & set(range(day - SILENT_DAYS + 1, day + 1))
        if known >= max(1, len(entries) // 10):
            expected.append((day, silent, known))
    assert columns.silent_shares == expected


@given(ENTRIES)
def test_every_course_can_be_drawn(entries: list[CourseEntry]) -> None:
    columns = CourseColumns.of(entries, TODAY)
    figure = distribution(columns, THRESHOLDS)
    assert sum(int(row[1].replace(",", "")) for row in figure.rows) == len(columns.risks)
    for each in (silence(columns), at_threshold(columns, 0.5, None), distribution(columns, None)):
        assert each.text


def test_alerts_are_counted_by_week() -> None:
    monday = TODAY - 2
    days = [(monday, True), (monday - 1, True), (monday - 7, True), (monday - 8, False), (monday - 100, True)]
    figure = flags_per_week(days, TODAY)
    assert figure.rows[:3] == [
        ("18 Nov to 24 Nov (so far)", "1", "0"),
        ("11 Nov to 17 Nov", "2", "0"),
        ("4 Nov to 10 Nov", "0", "1"),
    ]
    assert figure.text == "3 alerts opened in 12 weeks, 1 this week so far."


def test_the_model_is_explained_with_its_figures(page: Site) -> None:
    text = text_of(page.get("/model"))
    for part in (
        "Looks at students who later withdrew or failed 39 %",
        "probability that a student will have withdrawn or failed at the end of the course",
        "Any automatic action about a person.",
        "74 of 100 times the risk ranks them rightly",
        "85 of 100 students among the tenth with the highest risk later withdrew or failed. Of all students it was 37",
        "80 of 100 alerts were right",
        "47 of 100 students who were lost never had an alert.",
        "A formal withdrawal within 28 days is hardly predictable: it follows 2.2 of 100 looks",
        "High a risk of 70 % or more, from day 14 of a student on",
        "Alert opens after 3 days in a row with a risk of 70 % or more",
        "Of students with a risk of about 95 %, 93 % were lost.",
        "Of those later lost, flagged",
        "marked 1 as flagged wrongly (50 %)",
    ):
        assert part in text, part
    assert "The figures below are of another model." in text, "of course 2 and the site"
    assert "The figures below are of another model." not in text_of(page.get("/model", "ada"))


def test_the_card_that_ships_is_that_of_the_evaluation() -> None:
    assert Path("page/data/model-card.json").read_text() == CARD.read_text(), f"cp {CARD} page/data/model-card.json"
    assert card_of("").id == MODEL


def test_a_report_of_ones_own_is_shown(tmp_path: Path) -> None:
    report = json.loads(CARD.read_text())
    report["model"]["id"] = "v2s-own"
    report["fairness"], report["withdrawal"], report["leads"]["withdrawn"] = [], None, 0
    report["alerts"]["precision"] = report["alerts"]["lost_with_an_alert"] = None
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report))
    card = card_of(str(path))
    assert (card.id, len(card.figures), card.fairness, len(card.claims)) == ("v2s-own", 3, [], 2)
    with site(tmp_path / "own", RISK_PAGE_REPORT=str(path)) as own:
        text = text_of(own.get("/model"))
    assert "That was not audited for this model." in text
    assert "v2s-own" in text


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": 5}', "null", "\ud800"])
def test_a_file_that_is_no_report_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ConfigError, match=r"RISK_PAGE_REPORT: .*report.json is no report.json of `faust -A app evalua"):
        card_of(str(path))


def test_a_report_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        card_of(str(tmp_path / "none.json"))


@dataclass
class Runner:
    """A reader's loop on which every coroutine has the same end."""

    end: Callable[[], Any]
    asked: int = 0

    def run(self, coroutine: Coroutine[Any, Any, Any], timeout_s: float | None = None) -> Any:
        """Return it."""
        self.asked += 1
        coroutine.close()
        return self.end()


def failing(error: BaseException) -> Callable[[], Any]:
    """A function that raises an error."""

    def fail() -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    ("end", "problem"),
    [
        (failing(TimeoutError()), "Kafka has not answered within 5 seconds."),
        (failing(RuntimeError("the reader has ended")), "The page is ending."),
        (failing(GroupAuthorizationFailedError("moodle-risk")), "Kafka does not say:"),
        (failing(ConfigError("RISK_SSL_CA: none")), "Kafka does not say: RISK_SSL_CA: none"),
    ],
)
def test_what_kafka_does_not_say_is_told(page: Site, end: Callable[[], Any], problem: str) -> None:
    assert Workers(page.services.settings, Runner(end)).group().problem.startswith(problem)


def test_kafka_is_asked_seldom(page: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    runner = Runner(lambda: Group(("host",)))
    asking = Workers(page.services.settings, runner)
    for second in (0.0, 1.0, 4.9, 5.0):
        now[0] = second
        assert asking.group().hosts == ("host",)
    assert runner.asked == 2


def test_while_kafka_is_asked_others_get_the_answer_before(page: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [Group(("first",)), Group(("second",))]

    def second() -> Group:
        assert asking.group() == answers[0], "within the same thread, as from another"
        return answers[1]

    runner = Runner(lambda: answers[0])
    asking = Workers(page.services.settings, runner)
    assert asking.group() == answers[0]
    runner.end = second
    monkeypatch.setattr(workers, "_KEPT_S", 0.0)
    assert asking.group() == answers[1]


def status_of(page: Site, group: Group, user: str = "all") -> str:
    """What the status says with a consumer group."""
    cast(Any, page.reader).run = Runner(lambda: group).run
    answer = page.get("/status", user)
    assert answer.status_code == 200
    return text_of(answer)


def test_the_status_says_that_all_is_well(page: Site) -> None:
    names = page.services.settings.topic_names
    text = status_of(page, Group(("10.0.0.5", "10.0.0.5"), {names.source: 0, names.visits: 3}))
    for part in (
        "Newest event It is",
        "This page follows the data",
        "2 workers run",
        "No backlog All events of Moodle's log have been counted.",
        "on 10.0.0.5.",
        f"{names.visits} visits, by student 3",
        "None: every record could be used.",
        "Students, once for each course 7",
    ):
        assert part in text, part


@pytest.mark.parametrize(
    ("group", "told"),
    [
        (Group(), "No worker runs"),
        (Group(("10.0.0.5",)), "1 worker runs It does all the work."),
        (Group(), "Backlog: not known No worker has read anything"),
        (
            Group((), {"demo.demo.mdl_logstore_standard_log": 1}),
            "1 event waits to be counted. It is processed as soon",
        ),
        (Group(("a",), {"demo.demo.mdl_logstore_standard_log": 20_000}), "20,000 events wait to be counted. It should"),
        (
            Group(("a",), {"demo.demo.mdl_logstore_standard_log": 0, "moodle-risk-visits": 46}),
            "Backlog Moodle's log has been read; 46 batches of visits wait to be counted. It should shrink",
        ),
        (Group(problem="Kafka has not answered within 5 seconds."), "Workers: not known Kafka has not answered"),
    ],
)
def test_the_status_says_how_the_workers_are(page: Site, group: Group, told: str) -> None:
    assert told in status_of(page, group)


def test_the_status_says_what_the_page_does(page: Site) -> None:
    page.reader.state = State(Phase.LOADING, 0.42)
    assert "This page is loading 42 % of the topics has been read." in status_of(page, Group())
    page.reader.state = State(Phase.LIVE, 1.0, behind=1_200)
    assert "This page follows the data 1,200 records are still to be read." in status_of(page, Group())
    page.reader.state = State(Phase.FAILED, 0.42, "no broker answers at 127.0.0.1:9092")
    assert "This page cannot read no broker answers at 127.0.0.1:9092" in status_of(page, Group())


def test_the_age_of_the_data_counts_as_set(tmp_path: Path) -> None:
    with site(tmp_path, RISK_PAGE_STALE_HOURS="24") as page:
        assert "No event of a student has arrived yet." in status_of(page, Group())
        page.add(101)
        assert "Old data The newest event is" in status_of(page, Group())
        with page.services.database.write() as connection:
            connection.execute("UPDATE meta SET value = value + ? WHERE name = 'newest_event'", (100 * 365 * DAY_MS,))
        assert "Data from the future" in status_of(page, Group())
        with page.services.database.write() as connection:
            now = time.time_ns() // 1_000_000
            connection.execute("UPDATE meta SET value = ? WHERE name = 'newest_event'", (now - 3_700_000,))
        assert "Data are up to date The newest event is 1 hour old." in status_of(page, Group())


def test_dead_letters_are_shown_by_reason_and_their_detail_to_who_sees_all_courses(page: Site) -> None:
    with page.services.database.write() as connection:
        connection.executemany(
            "INSERT INTO dead_letter VALUES (?, ?, ?, ?, ?)",
            [("log", "truncated", 12, TODAY * DAY_MS, "<b>3 bytes</b>"), ("log", "<i>odd", 1, 0, "x" * 10_000)],
        )
        connection.execute("INSERT INTO unreadable VALUES ('MOODLE_RISK', 'RISK is no number', 3, 812)")
    text = status_of(page, Group(("10.0.0.5",)))
    for part in (
        "truncated ends too early 12",
        "<b>3 bytes</b>",
        "MOODLE_RISK : 3 rows, RISK is no number, the latest",
    ):
        assert part in text, part
    assert "x" * 301 not in text
    assert "<i>odd" not in page.get("/status").text
    text = status_of(page, Group(("10.0.0.5",)), "ada")
    assert "truncated ends too early 12" in text
    for part in ("3 bytes", "10.0.0.5", "offset 812", "once for each course"):
        assert part not in text, part
