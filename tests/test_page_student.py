"""The page of one student and the actions on a case, over a database that the tests fill."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from models.assessment import Band
from page.access.visitor import Visitor
from page.cases.actions import Action, Kind
from page.cases.actions import State as CaseState
from page.cases.audit import Look
from page.cases.desk import Done, InvalidText, NotWritten, Refused, UnknownEntry
from page.web.known_models import known_models
from tests.support.page_rows import REASON
from tests.support.page_site import DAY_MS, TODAY, Site, site, text_of

ADA, BOB = Visitor("ada", frozenset({1})), Visitor("bob", frozenset({2}))
MODEL = next(name for name in known_models("") if name.startswith("v2s"))
SUBMISSIONS = {"CODE": "SUBMISSIONS", "FIGURE": "submissions", "OWN": 1, "MEDIAN": 4, "WEIGHT": 0.5, "TEXT": "one"}
HIGH: dict[str, Any] = {
    "band": Band.HIGH,
    "risk": 8000,
    "alert": 1,
    "since": TODAY - 4,
    "reasons": [REASON, SUBMISSIONS],
    "last_visit": TODAY - 9,
    "visit_days": 0b1011 << 9,
    "submission_days": 0b1000 << 9,
    "model": MODEL,
}


@dataclass
class Counter:
    """A desk that answers as told, and keeps what it was asked."""

    answer: Done | Refused | Exception
    asked: list[tuple[Any, ...]] = field(default_factory=list)

    def act(self, visitor: Visitor, *asked: Any) -> Done | Refused:
        """Answer."""
        self.asked.append((visitor.name, *asked))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def action(version: int, kind: Kind, user: str = "grace", note: str = "", assignee: str | None = None) -> Action:
    """An action on the case of student 102."""
    return Action(version, f"id-{version:06}", 102, 1, version, kind, user, TODAY * DAY_MS, note, assignee)


def write(page: Site, statement: str, *rows: Sequence[Any]) -> None:
    """Write rows into a table."""
    with page.services.database.write() as connection:
        connection.executemany(statement, rows)


def write_actions(page: Site, *actions: Action) -> None:
    """Write actions, without their effect on the entry."""
    statement = "INSERT INTO action (offset, id, student, course, version, kind, user, at, note, assignee) VALUES ("
    rows = [
        (a.offset, a.id, a.student, a.course, a.version, a.kind.value, a.user, a.at, a.note, a.assignee)
        for a in actions
    ]
    write(page, statement + ", ".join("?" * 10) + ")", *rows)


def use(page: Site, answer: Done | Refused | Exception) -> Counter:
    """Let the site's desk answer as told."""
    desk = Counter(answer)
    object.__setattr__(page.services, "desk", cast(Any, desk))
    return desk


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Site]:
    """A site with a student in two courses, who has had an alert before."""
    with site(tmp_path, ADA, BOB, RISK_MOODLE_URL="https://moodle.example.edu") as page:
        page.add(102, **HIGH, week_ago=6800)
        page.add(102, 2, risk=1200)
        days = ((TODAY - 40, 2000, 0), (TODAY - 9, 5600, 1), (TODAY - 4, 8000, 2))
        write(page, "INSERT INTO history VALUES (102, 1, ?, ?, ?)", *days)
        alerts = ((1, TODAY - 30, TODAY - 30, "risk"), (0, TODAY - 20, TODAY - 30, "gone"))
        write(
            page,
            "INSERT INTO alert VALUES (NULL, 102, 1, ?, ?, ?, ?, NULL, '[]')",
            *alerts,
            (1, TODAY - 4, TODAY - 4, "risk"),
        )
        write(page, "INSERT INTO session VALUES (102, ?, ?, 7)", (TODAY * DAY_MS + 600_000, TODAY * DAY_MS))
        yield page


def test_a_student_has_risk_reasons_days_alerts_and_sessions(page: Site) -> None:
    answer = page.get(f"/student/{page.token(102)}")
    assert answer.status_code == 200
    text = text_of(answer)
    for part in (
        "Student 102 in course 1",
        "High 80 %",
        "up 12 points in a week",
        "Alert since 16 Nov",
        "9 days ago",
        "3 of last 14 3 of last 28",
        "35 students",
        "No visit for 9 days; the median of the course is 2 strong reason",
        "Days since the last visit",
        "One clear reason",
        "20 % on 11 Oct, 80 % since 16 Nov. 2 alerts in this time, the latest still open.",
        "The risk is raised from 50 % and high from 70 % on.",
        "3 days with a visit, 1 with a submission. The last visit was 9 days ago, on Mon 11 Nov 2013.",
        "1 session in 9 weeks, 10 minutes in all; 1 in the last 7 days.",
        "10 minutes 7",
        "Taken by nobody",
        "Nothing yet.",
        "Opened 16 Nov 2013 , still open",
        "Opened 21 Oct 2013 , closed 31 Oct 2013 : silent for so long that the enrolment should be checked",
        "In other courses Course 2 Low 12 %",
    ):
        assert part in text, part
    assert "little to go on" not in text
    assert "https://moodle.example.edu/message/index.php?id=102" in answer.text
    label = re.search(r'aria-label="(Days since the last visit: [^"]*)"', answer.text)
    assert label
    assert label[1] == "Days since the last visit: this student 9, median 2."


def test_reasons_of_a_former_day_name_it(page: Site) -> None:
    """The days since then are in the figures, but not in the reasons."""
    assert "when the risk last changed" not in text_of(page.get(f"/student/{page.token(102)}"))
    write(page, "UPDATE entry SET as_of = ? WHERE student = 102", (TODAY - 3,))
    text = text_of(page.get(f"/student/{page.token(102)}"))
    assert "Why as of 17 Nov 2013 , when the risk last changed No visit for 9 days" in text


def test_sessions_shorter_than_a_minute_have_a_length(page: Site) -> None:
    write(page, "UPDATE session SET end = start + 20000 WHERE student = ?", (102,))
    assert "1 session in 9 weeks, less than a minute in all" in text_of(page.get(f"/student/{page.token(102)}"))


def test_each_look_at_a_student_is_recorded_with_all_that_is_shown(page: Site) -> None:
    page.get(f"/student/{page.token(102)}", "all")
    page.get(f"/student/{page.token(102)}", "ada")
    assert [(name, what, entries) for name, what, entries, _ in page.audit.records] == [
        ("all", Look.STUDENT, [(102, 1), (102, 2)]),
        ("ada", Look.STUDENT, [(102, 1)]),
    ]
    page.audit.is_broken = True
    answer = page.get(f"/student/{page.token(102)}")
    assert answer.status_code == 503
    assert "102" not in text_of(answer)


def test_who_sees_a_course_only_sees_neither_sessions_nor_other_courses(page: Site) -> None:
    text = text_of(page.get(f"/student/{page.token(102)}", "ada"))
    assert "Sessions span all courses of a student. They are shown to those who may see all courses." in text
    assert "10 minutes" not in text
    assert "Course 2" not in text


@pytest.mark.parametrize("token", ["nothing", "AAAAAAAAAAAAAAAAAAAAAA", "102.1"])
def test_what_is_no_student_is_not_found(page: Site, token: str) -> None:
    assert page.get(f"/student/{token}").status_code == 404
    assert page.audit.records == []


def test_a_student_of_a_foreign_course_is_not_found_whether_there_or_not(page: Site) -> None:
    desk = use(page, UnknownEntry("x"))
    for student in (102, 999):
        token = page.token(student)
        assert page.get(f"/student/{token}", "bob").status_code == 404
        assert page.post(f"/student/{token}/case", {"kind": "contact", "version": "0"}, "bob").status_code == 404
    assert page.get(f"/student/{page.token(999)}").status_code == 404
    assert page.audit.records == []
    assert desk.asked == []


def test_one_visit_is_little_to_go_on(page: Site) -> None:
    page.add(103, visit_days=0b100, as_of=TODAY, last_visit=TODAY - 2)
    write(page, "INSERT INTO history VALUES (103, 1, ?, 2000, 0)", (TODAY - 2,))
    assert "Only one visit so far: little to go on." in text_of(page.get(f"/student/{page.token(103)}"))
    write(page, "INSERT INTO history VALUES (103, 1, ?, 2000, 0)", (TODAY - 90,))
    assert "little to go on" not in text_of(page.get(f"/student/{page.token(103)}"))


def test_days_since_the_latest_row_are_days_without_a_visit(page: Site) -> None:
    page.add(103, visit_days=0b11, as_of=TODAY - 5, last_visit=TODAY - 5)
    text = text_of(page.get(f"/student/{page.token(103)}"))
    assert "2 days with a visit, none with a submission. The last visit was 5 days ago, on Fri 15 Nov 2013." in text
    assert "As of 15 Nov 2013" in text


def test_without_risk_or_days_the_page_says_so(page: Site) -> None:
    page.add(104, band=Band.UNKNOWN, risk=None, visit_days=0, last_visit=None, model="v2s-of-somebody", cohort_n=3)
    text = text_of(page.get(f"/student/{page.token(104)}"))
    for part in (
        "Too few students to compare with",
        "No risk is known for this period.",
        "No days with a visit",
        "The thresholds of the model v2s-of-somebody are not known to this page.",
        "No alert so far.",
    ):
        assert part in text, part


def test_hostile_reasons_and_notes_are_text(page: Site) -> None:
    odd = [
        {**REASON, "TEXT": "<script>x</script>\u202e", "OWN": "<b>", "WEIGHT": "y"},
        {**REASON, "FIGURE": "<i>", "WEIGHT": None},
        {**REASON, "OWN": 10**18, "MEDIAN": -5},
        {},
    ]
    page.add(102, **{**HIGH, "reasons": odd, "assignee": "<b>ada</b>"})
    write_actions(page, action(1, Kind.NOTE, "<i>eve</i>", "<img src=x>\n\u202eb"))
    answer = page.get(f"/student/{page.token(102)}")
    assert answer.status_code == 200
    for markup in ("<script>x", "<img", "<i>", "<b>"):
        assert markup not in answer.text
    assert "&lt;img src=x&gt;\n\u202eb" in answer.text
    assert "this student 9999, median 0" in answer.text


def test_what_was_done_is_told_the_latest_first(page: Site) -> None:
    page.add(102, **HIGH, state=CaseState.CONTACTED, assignee="ada", case_version=4, handled=TODAY - 4)
    write_actions(
        page,
        action(1, Kind.ACKNOWLEDGE),
        action(2, Kind.ASSIGN, "ada", assignee="ada"),
        action(3, Kind.ASSIGN, "ada", assignee="grace"),
        action(4, Kind.CONTACT, "ada", "Called."),
    )
    answer = page.get(f"/student/{page.token(102)}", "ada")
    text = text_of(answer)
    told = ["ada contacted the student", "ada assigned it to grace", "ada took it", "grace acknowledged it"]
    places = [text.index(part) for part in told]
    assert places == sorted(places)
    assert "Taken by ada (you)" in text
    assert "Give back" in text
    assert "Assign to me" not in text
    assert 'name="version" value="4"' in answer.text


def test_a_new_alert_opens_a_finished_case_again(page: Site) -> None:
    page.add(102, **HIGH, state=CaseState.CONTACTED, handled=TODAY - 4)
    assert "A new alert has opened since then." not in text_of(page.get(f"/student/{page.token(102)}"))
    page.add(102, **HIGH, state=CaseState.CONTACTED, handled=TODAY - 30)
    assert "A new alert has opened since then." in text_of(page.get(f"/student/{page.token(102)}"))


FORM = {"kind": "contact", "version": "3", "action_id": "an-id-of-the-form", "note": "Called."}


@pytest.mark.parametrize(
    ("button", "kind", "assignee", "told"),
    [
        ("contact", "contact", None, "Recorded: you contacted the student."),
        ("take", "assign", "ada", "Recorded: you took it."),
        ("release", "assign", None, "Recorded: you gave it back."),
    ],
)
def test_an_action_is_recorded_and_shown(page: Site, button: str, kind: str, assignee: str | None, told: str) -> None:
    desk = use(page, Done(action(4, Kind.CONTACT)))
    answer = page.post(f"/student/{page.token(102)}/case", {**FORM, "kind": button}, "ada")
    assert answer.status_code == 303
    assert answer.headers["location"] == f"/student/{page.token(102)}?done={button}#case"
    assert desk.asked == [("ada", 102, 1, 3, kind, "an-id-of-the-form", "Called.", assignee)]
    ((name, what, entries, detail),) = page.audit.records
    assert (name, what, entries, detail["kind"]) == ("ada", Look.ACTION, [(102, 1)], kind)
    assert told in text_of(page.get(answer.headers["location"], "ada"))


def test_a_stale_form_is_refused_with_what_happened_and_keeps_the_note(page: Site) -> None:
    happened = [action(4, Kind.CONTACT, "grace", "Spoke on the phone."), action(5, Kind.NOTE, "eve", "Will come back.")]
    use(page, Refused(happened, 5))
    page.add(102, **HIGH, state=CaseState.CONTACTED, case_version=5)
    answer = page.post(f"/student/{page.token(102)}/case", {**FORM, "note": "I <called> too."}, "ada")
    assert answer.status_code == 409
    text = text_of(answer)
    for part in (
        "Not recorded: the case has changed meanwhile.",
        "grace contacted the student",
        "Spoke on the phone.",
        "Will come back.",
        "your note is still in the form",
    ):
        assert part in text, part
    assert "I &lt;called&gt; too.</textarea>" in answer.text
    assert 'name="version" value="5"' in answer.text
    assert "an-id-of-the-form" not in answer.text, "it is another action now"


def test_a_case_that_was_erased_meanwhile_says_so(page: Site) -> None:
    use(page, Refused([], 0))
    answer = page.post(f"/student/{page.token(102)}/case", FORM)
    assert answer.status_code == 409
    assert "The records of this case have been erased." in text_of(answer)


def test_a_note_that_is_not_accepted_stays_in_the_form_with_the_reason(page: Site) -> None:
    use(page, InvalidText("The note has 2,001 characters; at most 2,000 are kept."))
    answer = page.post(f"/student/{page.token(102)}/case", {**FORM, "note": "n" * 2_001})
    assert answer.status_code == 422
    assert "The note has 2,001 characters" in text_of(answer)
    assert "n" * 2_001 in answer.text
    assert 'aria-invalid="true"' in answer.text
    assert 'name="version" value="3"' in answer.text, "what happened since then still counts"


@pytest.mark.parametrize("broken", ["audit", "desk"])
def test_what_is_not_confirmed_can_be_sent_again_and_shows_no_data(page: Site, broken: str) -> None:
    use(page, NotWritten("topic"))
    page.audit.is_broken = broken == "audit"
    answer = page.post(f"/student/{page.token(102)}/case", FORM)
    assert answer.status_code == 503
    assert "however often you do, it counts once" in text_of(answer)
    for part in ('value="an-id-of-the-form"', 'name="version" value="3"', "Called.</textarea>", 'value="contact"'):
        assert part in answer.text
    assert "102" not in text_of(answer)


@pytest.mark.parametrize("version", ["", "-1", "x", "1" * 30, "٣"])
def test_a_damaged_form_is_refused(page: Site, version: str) -> None:
    desk = use(page, NotWritten("topic"))
    assert page.post(f"/student/{page.token(102)}/case", {**FORM, "version": version}).status_code == 400
    assert desk.asked == []


def test_a_form_needs_its_token(page: Site) -> None:
    desk = use(page, Done(action(4, Kind.CONTACT)))
    assert page.post(f"/student/{page.token(102)}/case", {**FORM, "csrf": "other"}).status_code == 403
    assert desk.asked == []


def test_what_was_done_is_not_taken_from_the_url(page: Site) -> None:
    assert "Recorded" not in text_of(page.get(f"/student/{page.token(102)}?done=<b>x"))


def test_each_form_has_an_id_of_its_own(page: Site) -> None:
    ids = [
        re.findall(r'name="action_id" value="([^"]+)"', page.get(f"/student/{page.token(102)}").text) for _ in range(3)
    ]
    assert len({i for (i,) in ids}) == 3
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{8,64}", i) for (i,) in ids)


def test_the_page_names_the_changes_that_it_listens_to(page: Site) -> None:
    text = page.get(f"/student/{page.token(102)}", "ada").text
    assert f'data-token="{page.token(102)}" data-changes="/changes?course=1" data-revision="2"' in text


def test_outcomes_are_shown_where_they_are_set(tmp_path: Path) -> None:
    outcomes = tmp_path / "outcomes.csv"
    outcomes.write_text("student,course,outcome\n102,1,withdrawn\n")
    with site(tmp_path, RISK_PAGE_OUTCOMES=str(outcomes)) as page:
        page.add(102)
        page.add(103)
        assert "Known outcome (demo only): withdrawn" in text_of(page.get(f"/student/{page.token(102)}"))
        assert "Known outcome" not in text_of(page.get(f"/student/{page.token(103)}"))
