"""How the page says values, and draws the small history of a risk."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

import page
from models.assessment import Band
from page.cases.actions import State
from page.web import words
from page.web.recent import AGE_S, Recent
from page.web.sparkline import DAYS, HEIGHT, WIDTH, sparkline
from tests.support.page_site import TODAY

FOLDER = Path(page.__file__).parent


def plain(text: str) -> str:
    """A text with plain spaces."""
    return text.replace("\u00a0", " ")


def test_every_band_and_state_has_a_word_and_a_picture() -> None:
    icons = (FOLDER / "templates" / "icons.html").read_text()
    assert set(words.BANDS) == set(Band)
    assert set(words.STATES) == set(State)
    for word in (*words.BANDS.values(), *words.STATES.values()):
        assert f'id="icon-{word.name}"' in icons
        assert word.meaning.endswith(".")


@pytest.mark.parametrize(
    ("last_visit", "text"),
    [
        (TODAY, "today"),
        (TODAY + 1, "today"),
        (TODAY - 1, "yesterday"),
        (TODAY - 9, "9 days ago"),
        (None, "over 60 days ago"),
    ],
)
def test_silence(last_visit: int | None, text: str) -> None:
    assert plain(words.silence(last_visit, TODAY)) == text


@pytest.mark.parametrize(
    ("ms", "text"), [(0, "0 seconds"), (60_000, "1 minute"), (7_199_000, "1 hour"), (172_800_000, "2 days")]
)
def test_durations(ms: int, text: str) -> None:
    assert plain(words.duration(ms)) == text


def test_a_time_is_said_in_the_zone_of_the_settings() -> None:
    at = 1_385_000_000_000
    assert words.instant_iso(at) == "2013-11-21T02:13:20Z"
    assert plain(words.instant_text(at, ZoneInfo("Europe/Paris"))) == "21 Nov 2013, 03:13 CET"
    assert words.day_of(at, ZoneInfo("America/New_York")) == TODAY


@pytest.mark.parametrize(
    ("text", "number"),
    [(" 12 ", 12), ("-1", -1), ("", None), ("1.0", None), ("٣", None), (str(1 << 63), None), ("0x10", None)],
)
def test_ids_that_somebody_has_written(text: str, number: int | None) -> None:
    assert words.parse_id(text) == number


def test_courses_without_an_id() -> None:
    assert [words.course_name(course) for course in (-1, 0, 12)] == ["Whole site", "Outside of courses", "Course 12"]


def test_a_risk_stays_what_it_is_until_the_next_one() -> None:
    drawn = sparkline([(TODAY - 70, 1000), (TODAY - 28, 6000), (TODAY - 14, None), (TODAY - 7, 8000)], TODAY)
    assert drawn is not None
    assert len(drawn.lines) == 2, "a gap where there was no risk"
    assert drawn.lines[0].split()[1].split(",")[0] == drawn.lines[0].split()[2].split(",")[0], "a step"
    assert drawn.end is not None
    assert drawn.text == "Risk in the last 8 weeks: lowest 10 %, highest 80 %, now 80 %"


def test_a_history_of_one_risk_is_no_picture() -> None:
    assert sparkline([(TODAY - 3, 4000)], TODAY) is None
    assert sparkline([(TODAY - 3, None), (TODAY, None)], TODAY) is None


@given(
    st.lists(
        st.tuples(st.integers(TODAY - 90, TODAY + 1), st.none() | st.integers(0, 10_000)), unique_by=lambda p: p[0]
    )
)
def test_a_picture_stays_within_its_frame(history: list[tuple[int, int | None]]) -> None:
    drawn = sparkline(sorted(history), TODAY)
    if drawn is None:
        return
    points = [tuple(map(float, point.split(","))) for line in drawn.lines for point in line.split()]
    for x, y in [*points, *([drawn.end] if drawn.end else [])]:
        assert 0 <= x <= WIDTH
        assert 0 <= y <= HEIGHT
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert DAYS == 56


def test_icons_are_well_formed_and_used_ones_exist() -> None:
    text = (FOLDER / "templates" / "icons.html").read_text()
    tree = ET.fromstring(text[text.index("<svg") :])
    known = {symbol.attrib["id"] for symbol in tree}
    for template in (FOLDER / "templates").glob("*.html"):
        for part in template.read_text().split('icon("')[1:]:
            assert f"icon-{part.partition(chr(34))[0]}" in known, template.name


def test_a_figure_that_takes_long_is_made_once_in_a_moment() -> None:
    now, made = [0.0], [0]
    recent = Recent(lambda: now[0])

    def make() -> int:
        made[0] += 1
        return made[0]

    assert [recent.get("a", make), recent.get("a", make), recent.get("b", make)] == [1, 1, 2]
    now[0] = AGE_S
    assert recent.get("a", make) == 3
