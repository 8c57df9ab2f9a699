"""The charts of one course, in columns over its students."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from models.assessment import RISK_SCALE
from page.store.course_queries import CourseEntry
from page.store.layout import DAYS
from page.web.charts import axes
from page.web.charts.bars import Bar, bars
from page.web.charts.figure import Figure, count, percent
from page.web.charts.lines import Axis, Line, lines
from page.web.charts.risk_history import Thresholds

#: a student is silent after so many days without a visit
SILENT_DAYS = 7
#: number of bars of the distribution
_BINS = 20
_WEEKS = 12
_NEVER = np.iinfo(np.int64).max

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)  # no slots: the sorted risks are computed once
class CourseColumns:
    """The students of a course."""

    #: risk in 1e-4 of those who have one [r], ascending
    risks: Int64s
    #: bit i: a visit on today - i [n]
    visits: npt.NDArray[np.uint64]
    #: the day on which each is first known [n]
    first: Int64s
    today: int

    @classmethod
    def of(cls, entries: Sequence[CourseEntry], today: int) -> CourseColumns:
        """Return the students' columns; since as_of there was no visit, or else there would be a newer row."""
        risks = np.sort(np.array([e.risk for e in entries if e.risk is not None], np.int64))
        as_of = np.array([e.as_of for e in entries], np.int64)
        bits = np.array([e.visit_days for e in entries], np.int64)
        shift = np.clip(today - as_of, 0, DAYS)
        visits = (bits.astype(np.uint64) << shift.astype(np.uint64)) & np.uint64((1 << DAYS) - 1)
        oldest = np.frexp(visits.astype(np.float64))[1].astype(np.int64)  # number of bits; a float rounds up to 1 more
        oldest -= (visits >> np.maximum(oldest - 1, 0).astype(np.uint64)) == 0
        by_bits = np.where(visits > 0, today - oldest + 1, _NEVER)
        by_rows = np.array([_NEVER if e.first is None else e.first for e in entries], np.int64)
        return cls(risks, visits, np.minimum(by_bits, by_rows), today)

    def flagged(self, threshold: float) -> int:
        """The number of students with a risk of at least `threshold` [0…1]."""
        return len(self.risks) - int(np.searchsorted(self.risks, round(threshold * RISK_SCALE)))

    def expected(self, threshold: float) -> float:
        """How many of these will be lost if the risks are right."""
        return float(self.risks[len(self.risks) - self.flagged(threshold) :].sum()) / RISK_SCALE

    @cached_property
    def silent_shares(self) -> list[tuple[int, int, int]]:
        """Day, number of students who were silent on it, and of those known by then; the oldest first.

        Before the first day that is told the days with a visit reach back less than SILENT_DAYS, or fewer than a tenth
        of the students are known, whose share says nothing: some look into a course weeks before it begins.
        """
        found, fewest = [], max(1, len(self.first) // 10)
        for ago in range(DAYS - SILENT_DAYS, -1, -1):
            day = self.today - ago
            known = self.first <= day
            window = np.uint64(((1 << SILENT_DAYS) - 1) << ago)
            number = int(known.sum())
            if number >= fewest:
                found.append((day, int((known & ((self.visits & window) == 0)).sum()), number))
        return found


def distribution(columns: CourseColumns, thresholds: Thresholds | None) -> Figure:
    """Draw how many students have which risk."""
    step = RISK_SCALE // _BINS
    counts = np.bincount(np.minimum(columns.risks // step, _BINS - 1), minlength=_BINS).tolist()
    drawn, rows = [], []
    for i, number in enumerate(counts):
        name = f"{i * 100 // _BINS} to {(i + 1) * 100 // _BINS}\N{NO-BREAK SPACE}%"
        drawn.append(Bar(number, _band(i / _BINS, thresholds), f"{name}: {count(number, 'student')}"))
        rows.append((name, f"{number:,}"))
    ticks = [(_BINS * i / 4, percent(i / 4)) for i in range(5)]
    n = len(columns.risks)
    if n:
        middle = percent(int(columns.risks[n // 2]) / RISK_SCALE)
        words = f"{count(n, 'student')} with a risk; half of them have {middle} or more."
    else:
        words = "No student has a risk."
    marks, legend = [], [("key bar all", "students")]
    if thresholds is not None:
        high, raised = columns.flagged(thresholds.high), columns.flagged(thresholds.raised)
        words += f" {high:,} are at {percent(thresholds.high)} or above, {raised - high:,} between that and"
        words += f" {percent(thresholds.raised)}."
        marks = [(_BINS * t, "", kind) for t, kind in ((thresholds.raised, "raised"), (thresholds.high, "high"))]
        legend = [
            ("key bar low", f"below {percent(thresholds.raised)}"),
            ("key bar raised", f"raised, from {percent(thresholds.raised)}"),
            ("key bar high", f"high, from {percent(thresholds.high)}"),
        ]
    svg = bars(drawn, label=f"Distribution of the risks. {words}", ticks=ticks, marks=marks)
    return Figure("distribution", "Who has which risk", words, svg, ("Risk", "Students"), rows, legend)


def flags_per_week(days: Sequence[tuple[int, bool]], today: int) -> Figure:
    """Draw how many alerts opened in each week; days: on which alerts have opened (True) or closed."""
    this = axes.monday(today)
    mondays = [this - 7 * i for i in range(_WEEKS - 1, -1, -1)]
    opened = Counter(axes.monday(day) for day, is_opening in days if is_opening)
    closed = Counter(axes.monday(day) for day, is_opening in days if not is_opening)
    drawn = [
        Bar(
            opened[m],
            "high" if m < this else "high partial",
            f"{axes.week_of(m)}: {count(opened[m], 'alert')} opened, {closed[m] or 'none'} closed",
        )
        for m in mondays
    ]
    total = sum(opened[m] for m in mondays)
    words = f"{count(total, 'alert').capitalize()} opened in {_WEEKS} weeks, {opened[this] or 'none'} this week so far."
    rows = [
        (axes.week_of(m) + (" (so far)" if m == this else ""), str(opened[m]), str(closed[m])) for m in mondays[::-1]
    ]
    ticks = [(i + 0.5, axes.short(m)) for i, m in enumerate(mondays) if i % 2]
    svg = bars(drawn, label=f"Alerts opened per week. {words}", ticks=ticks)
    legend = [("key bar high", "opened"), ("key bar high partial", "this week, so far")]
    head = ("Week", "Opened", "Closed")
    return Figure("flags-per-week", "Alerts opened per week", words, svg, head, rows, legend)


def silence(columns: CourseColumns) -> Figure:
    """Draw the share of students without a visit for a week, on each day."""
    shares = columns.silent_shares
    title = f"Silent for {SILENT_DAYS} days or more"
    if not shares:
        return Figure("silence", title, "No visit is known yet.", lines([], *_axes([]), label="Nothing to show."))
    points = [(day, silent / known) for day, silent, known in shares]
    top = max(points, key=lambda point: point[1])
    words = (
        f"{percent(points[-1][1])} of {count(shares[-1][2], 'student')} are silent on {axes.short(points[-1][0])}; "
        f"most were on {axes.short(top[0])}: {percent(top[1])}."
    )
    if len(points) > 7:
        words += f" A week before: {percent(points[-8][1])}."
    svg = lines([Line(points, "own")], *_axes(points), label=f"Share of silent students over time. {words}")
    rows = [(axes.full(day), f"{silent:,}", f"{known:,}", percent(silent / known)) for day, silent, known in shares]
    return Figure("silence", title, words, svg, ("Day", "Silent", "Of", "Share"), rows[::-1])


def at_threshold(columns: CourseColumns, chosen: float, thresholds: Thresholds | None) -> Figure:
    """Draw how many students would be flagged at each threshold; chosen: the one asked about [0…1]."""
    n = len(columns.risks)
    points = [(t / 100, float(columns.flagged(t / 100))) for t in range(0, 101)]
    marks = [] if thresholds is None else [(thresholds.high, "High", "high")]
    marks += [(chosen, "chosen", "chosen")] if thresholds is None or chosen != thresholds.high else []
    number = columns.flagged(chosen)
    words = f"At {percent(chosen)}: {number:,} of {count(n, 'student')}"
    words += f", {percent(number / n)}." if n else "."
    if thresholds is not None and chosen != thresholds.high:
        more = number - columns.flagged(thresholds.high)
        than = f"than at {percent(thresholds.high)}, where the band High begins"
        words += f" That is {abs(more):,} {'more' if more > 0 else 'fewer'} {than}." if more else f" As many {than}."
    if number:
        words += (
            f" If the risks are right, about {columns.expected(chosen):.0f} of these {number:,} will withdraw or fail."
        )
    x, y = Axis.of_shares(), Axis.of_numbers(n)
    svg = lines([Line(points, "own")], x, y, label=f"Students at or above a threshold. {words}", marks=marks)
    rows = [
        (percent(t / 100), f"{f:,}", percent(f / n) if n else "", f"{columns.expected(t / 100):.0f}")
        for t in range(95, 25, -5)
        for f in [columns.flagged(t / 100)]
    ]
    head = ("Threshold", "Students", "Share", "Of whom lost, if the risks are right")
    return Figure("threshold", "How many at another threshold", words, svg, head, rows)


def _axes(points: Sequence[tuple[int, float]]) -> tuple[Axis, Axis]:
    if not points:
        return Axis.of_days(0, 1), Axis.of_shares()
    return Axis.of_days(points[0][0], max(points[-1][0], points[0][0] + 1)), Axis.of_shares(max(s for _, s in points))


def _band(low: float, thresholds: Thresholds | None) -> str:
    """The class of a bar that begins at a risk."""
    if thresholds is None:
        return "all"
    return "high" if low >= thresholds.high - 1e-9 else "raised" if low >= thresholds.raised - 1e-9 else "low"
