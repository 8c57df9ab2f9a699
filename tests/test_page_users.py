"""The advisers' page with users, in Debian's Chromium: logins, what is refused, and two advisers at one case."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

import stack
from tests.support import page_rows
from tests.support.page import (
    Site,
    Visit,
    chromium,
    running_page,
    running_site,
    student_link,
    users_file,
    violations,
    visit,
)
from tests.support.page_rows import COURSES

pytestmark = [pytest.mark.browser, pytest.mark.broker]

PASSWORD = "correct horse battery staple"
#: ada sees all courses, ben and cleo one each
USERS = {
    "ada": (PASSWORD, None),
    "ben": (PASSWORD, frozenset({COURSES[0]})),
    "cleo": (PASSWORD, frozenset({COURSES[1]})),
    "dan": (PASSWORD, frozenset()),
}


@pytest.fixture(scope="module")
def site(cluster: stack.Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A page with users over two courses of seven weeks."""
    directory = tmp_path_factory.mktemp("users")
    with running_site(cluster, directory, RISK_PAGE_USERS=str(users_file(directory / "users", USERS))) as site:
        yield site


@pytest.fixture(scope="module")
def browser(site: Site) -> Iterator[Browser]:
    """Chromium, started once for all tests of the file."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def ada(site: Site, browser: Browser) -> Iterator[Visit]:
    """Ada's browser, logged in."""
    with visit(browser) as seen:
        seen.log_in(site, "ada", PASSWORD)
        yield seen


@pytest.fixture(scope="module")
def ben(site: Site, browser: Browser) -> Iterator[Visit]:
    """Ben's browser, logged in."""
    with visit(browser) as seen:
        seen.log_in(site, "ben", PASSWORD)
        yield seen


def open_student(seen: Visit, site: Site, student: int, course: int) -> str:
    """Open a student's page through the list; return its address."""
    tab = seen.goto(f"{site.url}/?course={course}&sort=student")
    student_link(tab, student).click()
    expect(tab.get_by_role("heading", level=1)).to_contain_text(str(student))
    return tab.url


def alerted(course: int) -> list[int]:
    """The students of a course with an open alert."""
    return sorted(s for (s, c), row in page_rows.entries().items() if c == course and row["ALERT"])


def test_nobody_gets_in_without_the_password(site: Site, browser: Browser) -> None:
    """What was asked for is shown after the login; the login page is as usable as the others."""
    with visit(browser) as seen:
        tab = seen.goto(f"{site.url}/courses")
        assert "/login" in tab.url
        assert violations(tab) == []
        tab.get_by_label("Name").fill("ben")
        tab.get_by_label("Password").fill("wrong")
        tab.get_by_role("button", name="Log in").click()
        expect(tab.get_by_role("alert")).to_be_visible()
        assert violations(tab) == []
        tab.get_by_label("Password").fill(PASSWORD)
        tab.get_by_role("button", name="Log in").click()
        expect(tab).to_have_url(f"{site.url}/courses")
        (cookie,) = [c for c in seen.context.cookies() if "session" in c["name"]]
        assert cookie["httpOnly"]
        assert cookie["sameSite"] in ("Lax", "Strict")
        tab.get_by_role("button", name="Log out").click()
        seen.goto(f"{site.url}/")
        assert "/login" in tab.url
    with site.client() as client:
        for path in ("/", "/students.csv", "/courses", f"/course/{COURSES[0]}", "/cases.csv", "/status", "/changes"):
            answer = client.get(path)
            assert answer.status_code in (303, 401), path
            assert "Student 1" not in answer.text


def test_users_see_the_courses_that_they_are_given(site: Site, ada: Visit, ben: Visit) -> None:
    tab = ben.goto(f"{site.url}/")
    assert set(tab.locator("table.students .course").all_inner_texts()) == {f"Course {COURSES[0]}"}
    expected = sum(course == COURSES[0] for _, course in page_rows.entries())
    assert f"of {expected}" in tab.locator("#list-title").inner_text()
    ben.goto(f"{site.url}/course/{COURSES[1]}", status=404)
    hidden = open_student(ada, site, alerted(COURSES[1])[0], COURSES[1])
    ben.goto(hidden, status=404)
    shown = open_student(ada, site, alerted(COURSES[0])[0], COURSES[0])
    expect(ben.goto(shown).locator("main")).to_contain_text("Sessions span all courses of a student")
    expect(ada.tab.locator("main")).not_to_contain_text("Sessions span all courses of a student")
    export = ben.context.request.get(f"{site.url}/students.csv").text()
    assert len(export.strip().splitlines()) == expected + 1
    assert ben.context.request.get(f"{site.url}/students.csv?course={COURSES[1]}").status == 404


def test_an_action_of_one_user_is_seen_by_another(site: Site, ada: Visit, ben: Visit) -> None:
    """On the open list of the other at once, and on the student's page with name and note."""
    student = alerted(COURSES[0])[0]
    url = open_student(ada, site, student, COURSES[0])
    tab = ben.goto(f"{site.url}/?course={COURSES[0]}&alert=1")
    ada.tab.get_by_label("Note").fill("rang, will come on Monday")
    ada.tab.get_by_role("button", name="Contacted").click()
    expect(ada.tab.get_by_text("Recorded: you contacted the student")).to_be_visible()
    expect(tab.get_by_role("link", name="1 change: show")).to_be_visible()
    tab.get_by_role("link", name="1 change: show").click()
    expect(tab.locator("table.students tbody tr", has_text=str(student)).first).to_contain_text("Contacted")
    main = ben.goto(url).locator("main")
    expect(main).to_contain_text("ada contacted the student")
    expect(main).to_contain_text("rang, will come on Monday")


def test_a_form_of_yesterday_is_refused_with_what_happened_meanwhile(site: Site, ada: Visit, ben: Visit) -> None:
    """The note is still there, and may be sent again to the case as it is now."""
    student = alerted(COURSES[0])[1]
    url = open_student(ben, site, student, COURSES[0])
    ada.goto(url)
    ada.tab.get_by_role("button", name="Not applicable").click()
    expect(ada.tab.get_by_text("Recorded:")).to_be_visible()
    ben.tab.get_by_label("Note").fill("wrote an email")
    ben.tab.get_by_role("button", name="Contacted").click()
    problem = ben.tab.get_by_role("alert")
    expect(problem).to_contain_text("Not recorded")
    expect(problem).to_contain_text("ada marked it as not applicable")
    assert violations(ben.tab) == []
    expect(ben.tab.get_by_label("Note")).to_have_value("wrote an email")
    expect(ben.tab.locator("#case")).to_contain_text("Not applicable")
    ben.tab.get_by_role("button", name="Contacted").click()
    expect(ben.tab.get_by_text("Recorded: you contacted the student")).to_be_visible()
    expect(ada.goto(url).locator("main")).to_contain_text("wrote an email")


def test_a_second_page_shows_what_was_done_on_the_first(site: Site, browser: Browser, ada: Visit) -> None:
    """It has its own file, and its links are its own."""
    student = alerted(COURSES[1])[0]
    open_student(ada, site, student, COURSES[1])
    ada.tab.get_by_role("button", name="Assign to me").click()
    expect(ada.tab.get_by_text("Recorded: you took it")).to_be_visible()
    with running_page(site.deployment, 2) as second, visit(browser) as seen:
        other = Site(site.deployment, second)
        seen.log_in(other, "cleo", PASSWORD)
        open_student(seen, other, student, COURSES[1])
        expect(seen.tab.locator("#case")).to_contain_text("Taken by ada")
        seen.tab.get_by_role("button", name="Acknowledge").click()
        expect(seen.tab.get_by_text("Recorded: you acknowledged it")).to_be_visible()
        ada.tab.reload()
        expect(ada.tab.locator("main")).to_contain_text("cleo acknowledged it")
        listed = ada.goto(f"{site.url}/?mine=1").locator("table.students")
        expect(listed).to_contain_text(str(student))


def test_who_has_no_course_reads_what_to_do(site: Site, browser: Browser) -> None:
    with visit(browser) as seen:
        seen.log_in(site, "dan", PASSWORD)
        expect(seen.tab.locator("main")).to_contain_text("You have no courses yet")
