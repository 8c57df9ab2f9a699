"""The charts of the advisers' page: what is drawn is what the words and the table say."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from models.assessment import Band
from page.store.layout import DAYS
from page.web.charts import axes, svg
from page.web.charts.bars import Bar, bars, beside_median
from page.web.charts.calendar import calendar
from page.web.charts.figure import count
from page.web.charts.lines import Axis, Line, lines
from page.web.charts.risk_history import Point, Span, Thresholds, risk_history

#: Wed 20 Nov 2013
TODAY = 16_029
THRESHOLDS = Thresholds(0.5, 0.7)
BITS = st.integers(0, (1 << DAYS) - 1)


def elements(drawn: Markup, name: str, kind: str) -> list[ET.Element]:
    """The elements of a picture with a tag name and a class."""
    found = ET.fromstring(drawn).iter(name)
    return [e for e in found if kind in e.get("class", "").split()]


def titles(drawn: Markup, kind: str) -> list[str]:
    """What the rectangles or circles of a class say to a pointer."""
    shapes = [*elements(drawn, "rect", kind), *elements(drawn, "circle", kind)]
    return [title.text or "" for shape in shapes for title in shape.iter("title")]


def plain(text: str) -> str:
    """A text with ordinary spaces."""
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_text_in_a_picture_is_text() -> None:
    drawn = svg.text(0, 0, "</text><script>x</script>", kind='a" onload="x')
    (text,) = [ET.fromstring(drawn)]
    assert text.text == "</text><script>x</script>"
    assert sorted(text.attrib) == ["class", "text-anchor", "x", "y"]


def test_pictures_need_neither_style_attributes_nor_scripts() -> None:
    figures = [
        calendar(0b101, 0b100, TODAY, TODAY - 9).svg,
        risk_history([Point(TODAY - 9, 300, Band.LOW)], [Span(TODAY - 5, None)], THRESHOLDS, TODAY, 120).svg,
        bars([Bar(3, "high", "x")], label="x", ticks=[(0, "0")], marks=[(0.5, "m", "high")]),
        lines([Line([(0, 0), (1, 1)], "own", dots=True)], Axis.of_shares(), Axis.of_numbers(3), label="x"),
        beside_median(3, 5, 14, "x"),
    ]
    for drawn in figures:
        root = ET.fromstring(drawn)
        assert root.get("role") == "img"
        assert root.get("aria-label")
        assert not {a for e in root.iter() for a in e.attrib if a == "style" or a.startswith("on")}


@given(BITS, BITS, st.integers(TODAY - 400, TODAY + 400))
def test_the_calendar_has_each_day_once_as_its_bit_says(visits: int, submissions: int, today: int) -> None:
    figure = calendar(visits, submissions, today, None)
    told = {t.split(":")[0].removesuffix(" (today)"): t.split(": ")[1] for t in titles(figure.svg, "day")}
    assert len(told) == DAYS
    for ago in range(DAYS):
        expected = {(0, 0): "neither visit nor submission", (1, 0): "visit", (0, 1): "submission"}
        of_day = (visits >> ago & 1, submissions >> ago & 1)
        assert told[axes.full(today - ago)] == expected.get(of_day, "visit and submission")
    for column, bits in ((1, visits), (2, submissions)):
        days = [name for row in figure.rows for name in row[column].split(", ") if name != "none"]
        assert len(days) == bits.bit_count()


def test_the_calendar_says_when_the_student_was_there() -> None:
    figure = calendar(0b1000000100, 0b100, TODAY, TODAY - 9)
    assert figure.text == (
        "2 days with a visit, 1 with a submission. The last visit was 2 days ago, on Mon 18 Nov 2013. "
        "The first was on Mon 11 Nov 2013."
    )
    assert len(titles(figure.svg, "before")) == DAYS - 10
    assert figure.rows[0] == ("18 Nov to 24 Nov", "Mon", "Mon")
    assert ("key before", "before the first visit") in figure.legend


def test_a_risk_holds_until_the_next_row_and_a_gap_interrupts_it() -> None:
    points = [
        Point(TODAY - 40, 3000, Band.LOW),
        Point(TODAY - 20, 8000, Band.HIGH),
        Point(TODAY - 10, None, Band.GONE),
        Point(TODAY - 4, 6000, Band.RAISED),
    ]
    figure = risk_history(points, [Span(TODAY - 18, TODAY - 10, "gone")], THRESHOLDS, TODAY, 120)
    paths = [e.get("d") for e in elements(figure.svg, "path", "curve")]
    scale = axes.Scale(TODAY - 40, TODAY + 1)
    assert len(paths) == 2, "one before and one after the gap"
    begin, middle, end = (1000 * scale.share(TODAY - ago) for ago in (40, 20, 10))
    drawn = [number for point in steps(paths[0]) for number in point]
    assert drawn == pytest.approx([begin, 700, middle, 700, middle, 200, end, 200], abs=0.01)
    assert steps(paths[1])[-1] == (1000, 400)
    (gap,) = elements(figure.svg, "rect", "gap")
    assert float((gap.get("width") or "").rstrip("%")) == pytest.approx(600 / 41, abs=0.01)
    assert titles(figure.svg, "gap") == ["gone silent from Sun 10 Nov 2013"]
    assert titles(figure.svg, "alert-strip") == ["alert opened on Sat 2 Nov 2013, closed on Sun 10 Nov 2013"]
    assert plain(figure.text) == (
        "30 % on 11 Oct, highest with 80 % on 31 Oct, 60 % since 16 Nov. One alert in this time, closed on 10 Nov. "
        "The risk is raised from 50 % and high from 70 % on."
    )
    assert [tuple(map(plain, row)) for row in figure.rows] == [
        ("Sat 16 Nov 2013", "60 %", "raised", ""),
        ("Sun 10 Nov 2013", "none", "gone", "closed: gone"),
        ("Sat 2 Nov 2013", "", "", "opened"),
        ("Thu 31 Oct 2013", "80 %", "high", ""),
        ("Fri 11 Oct 2013", "30 %", "low", ""),
    ]


def steps(path: str | None) -> list[tuple[float, float]]:
    """The points of a path."""
    return [(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", path or "")]


def test_a_risk_from_before_the_period_holds_at_its_begin() -> None:
    figure = risk_history([Point(TODAY - 900, 3000, Band.LOW)], [], None, TODAY, 120)
    (path,) = [e.get("d") for e in elements(figure.svg, "path", "curve")]
    assert steps(path) == [(0, 700), (1000, 700)]
    assert not elements(figure.svg, "circle", "dot")


@pytest.mark.parametrize("points", [[], [Point(TODAY, None, Band.UNKNOWN)]])
def test_no_risk_is_said_to_be_none(points: Sequence[Point]) -> None:
    figure = risk_history(points, [], THRESHOLDS, TODAY, 120)
    assert figure.text == "No risk is known for this period."


def test_an_alert_that_is_open_reaches_to_the_end_of_today() -> None:
    figure = risk_history([Point(TODAY - 13, 9000, Band.HIGH)], [Span(TODAY - 6, None)], THRESHOLDS, TODAY, 120)
    (tint,) = elements(figure.svg, "rect", "alert-tint")
    assert float((tint.get("x") or "").rstrip("%")) + float((tint.get("width") or "").rstrip("%")) == pytest.approx(100)
    assert "still open" in figure.text


@given(st.integers(0, 10**9), st.integers(2, 8))
def test_numbers_beside_a_plot_are_round_and_reach_its_highest(high: int, most: int) -> None:
    ticks = axes.number_ticks(high, most)
    step = ticks[1] - ticks[0]
    assert ticks == list(range(0, ticks[-1] + 1, step))
    assert str(step).rstrip("0") in ("1", "2", "5")
    assert ticks[-1] - step < max(high, 1) <= ticks[-1]
    assert len(ticks) <= most + 1


@given(st.integers(0, 40_000), st.integers(0, 500))
def test_days_below_a_plot_are_few_and_within_it(first: int, length: int) -> None:
    ticks = axes.day_ticks(first, first + length)
    assert ticks == sorted(set(ticks))
    assert len(ticks) <= 6
    assert all(first <= day <= first + length for day in ticks)
    assert ticks or length < 7


def test_weeks_begin_on_mondays() -> None:
    assert [axes.full(axes.monday(TODAY - i)) for i in range(3)] == ["Mon 18 Nov 2013"] * 3
    assert axes.full(axes.monday(TODAY - 3)) == "Mon 11 Nov 2013"
    assert axes.week_of(axes.monday(TODAY)) == "18 Nov to 24 Nov"


def test_bars_are_as_high_as_their_values() -> None:
    drawn = bars([Bar(5, "a", "five"), Bar(0, "b", "none"), Bar(10, "c", "ten")], label="x", ticks=[])
    heights = [e.get("height") for e in elements(drawn, "rect", "bar")]
    assert heights == ["50%", "0%", "100%"]
    assert titles(drawn, "bar") == ["five", "none", "ten"]
    assert [e.text for e in elements(drawn, "text", "value")] == ["5", "10"]


def test_a_figure_stands_beside_its_median() -> None:
    own, median = (e.get("width") for e in elements(beside_median(7, 28, 14, "x"), "rect", "bar"))
    assert (own, median) == ("25%", "100%")


def test_numbers_have_their_noun() -> None:
    assert [count(n, "day") for n in (0, 1, 2_000)] == ["no days", "1 day", "2,000 days"]
