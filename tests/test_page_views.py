"""The advisers' page in Debian's Chromium: every view as it is seen, and the list at work. Nobody has to log in."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, expect
from playwright.sync_api import Page as Tab

import stack
from tests.support import page_rows
from tests.support.page import Site, Visit, chromium, overflow, running_site, student_link, violations, visit
from tests.support.page_rows import COURSES, REASON, risk_row

pytestmark = [pytest.mark.browser, pytest.mark.broker]

#: students that only this file knows: of whom tests send rows
OLGA, FINN, IRIS = 901, 902, 903
#: a course of their own
COURSE = 7
#: name of a view → its address; {token} stands for a student's
VIEWS = {
    "list": "/",
    "filtered": f"/?course={COURSES[0]}&band=high&sort=risk",
    "nobody": "/?band=low&alert=1",
    "student": "/student/{token}",
    "courses": "/courses",
    "course": f"/course/{COURSES[0]}",
    "model": "/model",
    "status": "/status",
    "not found": "/student/nothing",
}
#: those that look like another one
SIMILAR = ("filtered", "nobody", "courses", "not found")


@pytest.fixture(scope="module")
def site(cluster: stack.Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A page over two courses of seven weeks."""
    with running_site(cluster, tmp_path_factory.mktemp("site"), RISK_MOODLE_URL="https://moodle.example.edu") as site:
        site.send_risk(
            risk_row(OLGA, COURSE, 0.2, "LOW"),
            risk_row(FINN, COURSE, 0.5, "RAISED", REASONS=[REASON]),
            risk_row(IRIS, COURSE, None, "UNKNOWN", VISIT_DAYS=f"{1:016x}", COHORT_N=3),
        )
        yield site


@pytest.fixture(scope="module")
def browser(site: Site) -> Iterator[Browser]:
    """Chromium, started once for all tests of the file."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def visitor(browser: Browser) -> Iterator[Visit]:
    """A tab that tests share: for those that leave it as it was."""
    with visit(browser) as seen:
        yield seen


def address(site: Site, tab: Visit, view: str) -> str:
    """The address of a view."""
    if "{token}" not in VIEWS[view]:
        return site.url + VIEWS[view]
    link = tab.goto(f"{site.url}/").locator("table.students tbody th a").first
    return site.url + str(link.get_attribute("href"))


def rows(tab: Tab) -> Locator:
    """The rows of the list."""
    return tab.locator("table.students tbody tr")


def students(tab: Tab) -> list[int]:
    """The students in the list, in its order."""
    texts = tab.locator("table.students tbody th a").all_inner_texts()
    return [int(re.sub(r"\D", "", text)) for text in texts]


def background(tab: Tab) -> float:
    """How light the page is: 0 black, 1 white."""
    colour = str(tab.evaluate("getComputedStyle(document.body).backgroundColor"))
    red, green, blue = (float(part) for part in re.findall(r"[\d.]+", colour)[:3])
    return (red + green + blue) / 765


@pytest.mark.parametrize(
    "view", [pytest.param(view, marks=[pytest.mark.long] if view in SIMILAR else []) for view in VIEWS]
)
def test_a_view_is_for_everybody(view: str, site: Site, browser: Browser) -> None:
    """axe-core finds nothing, light and dark; nothing is cut off at 360 px; print has the content without controls."""
    with visit(browser, viewport={"width": 1280, "height": 900}) as seen:
        url = address(site, seen, view)
        tab = seen.goto(url, status=404 if view == "not found" else 200)
        expect(tab.get_by_role("heading", level=1)).to_have_count(1)
        assert background(tab) > 0.8
        assert violations(tab) == []
        tab.emulate_media(color_scheme="dark")
        assert background(tab) < 0.25
        assert violations(tab, "color-contrast") == []
        tab.emulate_media(color_scheme="light")
        for width in (768, 360):
            tab.set_viewport_size({"width": width, "height": 740})
            assert overflow(tab) <= 0, f"{width} px"
        tab.reload()
        assert overflow(tab) <= 0
        assert violations(tab, "target-size", "scrollable-region-focusable", "aria-hidden-focus") == []
        tab.set_viewport_size({"width": 1000, "height": 900})
        tab.emulate_media(media="print")
        expect(tab.get_by_role("navigation", name="Main")).to_be_hidden()
        expect(tab.get_by_role("heading", level=1)).to_be_visible()


@pytest.mark.parametrize("view", ["list", "student"])
def test_a_view_holds_still_for_who_wants_that(view: str, site: Site, browser: Browser) -> None:
    with visit(browser, reduced_motion="reduce") as seen:
        tab = seen.goto(address(site, seen, view))
        moving = """() => [...document.querySelectorAll("*")].filter((e) => {
            const s = getComputedStyle(e);
            return parseFloat(s.transitionDuration) > 0.01 || parseFloat(s.animationDuration) > 0.01;
        }).length"""
        assert tab.evaluate(moving) == 0
        assert tab.evaluate("document.getAnimations().length") == 0


def test_the_list_has_everybody_and_open_alerts_come_first(site: Site, visitor: Visit) -> None:
    """The first page of a recount of the topics."""
    tab = visitor.goto(f"{site.url}/")
    known = page_rows.entries()
    expect(tab.get_by_role("heading", name="Students to contact")).to_be_visible()
    assert f"of {len(known) + 3}" in tab.locator("#list-title").inner_text()
    alerts = [row["USERID"] for row in known.values() if row["ALERT"]]
    assert sorted(students(tab)[: len(alerts)]) == sorted(alerts)
    risks = [row["RISK"] for row in sorted(known.values(), key=lambda row: -(row["RISK"] or 0)) if row["ALERT"]]
    first = rows(tab).first.inner_text()
    assert f"{round(100 * risks[0])}\u00a0%" in first
    assert "Alert since" in first


def test_filters_are_a_form_and_leave_who_matches(site: Site, visitor: Visit) -> None:
    tab = visitor.goto(f"{site.url}/")
    tab.get_by_label("Course", exact=True).select_option(label=f"Course {COURSES[1]}")
    tab.get_by_label("Risk", exact=True).select_option(label="High")
    tab.get_by_label("Order").select_option(label="Student id")
    with tab.expect_navigation():
        tab.get_by_role("button", name="Apply").click()
    known = page_rows.entries().values()
    expected = sorted(row["USERID"] for row in known if row["COURSEID"] == COURSES[1] and row["BAND"] == "HIGH")
    assert expected
    assert students(tab) == expected
    with tab.expect_navigation():
        tab.get_by_role("link", name="Clear").click()
    tab.get_by_label("Open alert").check()
    with tab.expect_navigation():
        tab.get_by_role("button", name="Apply").click()
    assert sorted(students(tab)) == sorted(row["USERID"] for row in known if row["ALERT"])


def test_a_student_is_found_by_id_and_no_address_names_one(site: Site, visitor: Visit) -> None:
    tab = visitor.goto(f"{site.url}/")
    student, course = next(key for key in page_rows.entries() if key[1] == COURSES[1])
    tab.get_by_role("search").get_by_label("Student id").fill(f" {student} ")
    tab.get_by_role("search").get_by_role("button").click()
    expect(tab.get_by_role("heading", level=1)).to_contain_text(str(student))
    assert str(student) not in tab.url
    assert tab.get_by_role("link", name=f"Course {course}").count() or f"course {course}" in tab.content().lower()
    tab = visitor.goto(f"{site.url}/")
    tab.get_by_role("search").get_by_label("Student id").fill("123456789")
    tab.get_by_role("search").get_by_role("button").click()
    expect(tab.locator("main")).to_contain_text(re.compile("no student|nobody|not found", re.IGNORECASE))


def test_the_export_is_what_the_list_shows(site: Site, visitor: Visit) -> None:
    tab = visitor.goto(f"{site.url}/?course={COURSES[0]}&band=high")
    shown = students(tab)
    with tab.expect_download() as download:
        tab.get_by_role("link", name=re.compile("Export .* as CSV")).click()
    lines = download.value.path().read_text(encoding="utf-8-sig").splitlines()
    header = lines[0].lower().split(",")
    column = next(i for i, name in enumerate(header) if name in ("student", "userid"))
    assert [int(line.split(",")[column]) for line in lines[1:]] == shown


def test_new_data_arrive_and_no_row_moves_until_asked(site: Site, browser: Browser) -> None:
    """A student whose risk rises is announced at once; the order stays until the reader wants the new one."""
    with visit(browser) as seen:
        tab = seen.goto(f"{site.url}/?course={COURSE}")
        before = students(tab)
        assert before == [FINN, OLGA, IRIS]
        tops = [box.bounding_box() for box in rows(tab).all()]
        site.send_risk(risk_row(OLGA, COURSE, 0.93, "HIGH", REASONS=[REASON]))
        show = tab.get_by_role("link", name="1 change: show")
        expect(show).to_be_visible()
        expect(rows(tab).nth(1)).to_have_class(re.compile("changed"))
        assert students(tab) == before
        assert [box.bounding_box() for box in rows(tab).all()] == tops
        show.click()
        expect(rows(tab).first).to_contain_text("93")
        assert students(tab) == [OLGA, FINN, IRIS]
        expect(tab.get_by_role("status")).to_contain_text("up to date")
        expect(show).to_be_hidden()
        # a student of another course is no news here
        site.send_risk(risk_row(904, COURSE + 1, 0.9, "HIGH"), risk_row(FINN, COURSE, 0.55, "RAISED", REASONS=[REASON]))
        expect(tab.get_by_role("link", name="1 change: show")).to_be_visible()


def test_one_visit_is_little_to_go_on(site: Site, visitor: Visit) -> None:
    tab = visitor.goto(f"{site.url}/?course={COURSE}")
    student_link(tab, IRIS).click()
    expect(tab.locator("main")).to_contain_text("Only one visit so far: little to go on")


def test_a_students_page_says_what_the_topics_say(site: Site, visitor: Visit) -> None:
    known = page_rows.entries()
    key, row = next((key, row) for key, row in known.items() if row["ALERT"] and row["REASONS"])
    tab = visitor.goto(f"{site.url}/?course={key[1]}&alert=1")
    student_link(tab, key[0]).click()
    main = tab.locator("main")
    expect(main).to_contain_text(row["REASONS"][0]["TEXT"][1:])
    expect(main).to_contain_text(f"{round(100 * row['RISK'])}\u00a0%")
    expect(main).to_contain_text("still open")
    links = [
        str(link.get_attribute("href")) for link in tab.get_by_role("link", name=re.compile("Moodle|message")).all()
    ]
    assert any(link.startswith("https://moodle.example.edu/") for link in links)
    # what a chart shows is there in numbers too
    tables = main.get_by_text("As a table").all()
    assert len(tables) >= 2
    tables[0].click()
    expect(main.get_by_role("region", name=re.compile("Table")).first).to_be_visible()


def test_the_keyboard_is_enough(site: Site, browser: Browser) -> None:
    """From the address to a recorded action without a mouse, and the focus is always seen."""
    with visit(browser) as seen:
        tab = seen.goto(f"{site.url}/?course={COURSE}")
        tab.keyboard.press("Tab")
        expect(tab.locator(":focus")).to_have_text("Skip to the content")
        tab.keyboard.press("Enter")
        for _ in range(40):
            tab.keyboard.press("Tab")
            focus = tab.locator(":focus")
            outline = "e => getComputedStyle(e).outlineStyle !== 'none' || getComputedStyle(e).boxShadow !== 'none'"
            assert focus.evaluate(outline), focus.evaluate("e => e.outerHTML")
            if str(focus.get_attribute("href")).startswith("/student/"):
                break
        tab.keyboard.press("Enter")
        expect(tab.get_by_role("heading", level=1)).to_contain_text("Student")
        tab.get_by_label("Note").focus()
        tab.keyboard.type("rang, no answer")
        tab.keyboard.press("Tab")
        expect(tab.locator(":focus")).to_have_text("Contacted")
        tab.keyboard.press("Enter")
        expect(tab.get_by_text("Recorded: you contacted the student")).to_be_visible()
        expect(tab.locator("main")).to_contain_text("rang, no answer")


def test_without_javascript_the_page_is_complete(site: Site, browser: Browser) -> None:
    with visit(browser, java_script_enabled=False) as seen:
        tab = seen.goto(f"{site.url}/")
        tab.get_by_label("Course", exact=True).select_option(label=f"Course {COURSE}")
        with tab.expect_navigation():
            tab.get_by_role("button", name="Apply").click()
        assert set(students(tab)) == {OLGA, FINN, IRIS}
        student_link(tab, IRIS).click()
        tab.get_by_label("Note").fill("met in the library")
        tab.get_by_role("button", name="Acknowledge").click()
        expect(tab.locator("main")).to_contain_text("met in the library")
        expect(tab.locator("main")).to_contain_text("Acknowledged")


def test_times_are_those_of_the_readers_zone(site: Site, browser: Browser) -> None:
    """Days are the school's; an instant is in the browser's zone, and its title in the server's, with their names."""
    for zone, offset, name in (("UTC", 0, "UTC"), ("Asia/Tokyo", 9, "GMT+9")):
        with visit(browser, timezone_id=zone) as seen:
            tab = seen.goto(f"{site.url}/status")
            instant = tab.locator("time.instant").first
            hours = instant.evaluate("e => new Date(e.dateTime).getUTCHours()")
            expect(instant).to_contain_text(f"{(hours + offset) % 24:02d}:")
            expect(instant).to_contain_text(name)
            assert "UTC" in str(instant.get_attribute("title"))
