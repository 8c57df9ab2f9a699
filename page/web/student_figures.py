"""What the page of one student shows beyond its rows: charts, alerts as periods, a few figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.assessment import Band
from page.store.layout import DAYS
from page.store.queries import Entry
from page.store.student_queries import AlertRow, HistoryRow, SessionRow
from page.web.charts import axes
from page.web.charts.bars import Bar, bars
from page.web.charts.calendar import calendar
from page.web.charts.figure import Figure, count
from page.web.charts.risk_history import Point, Span, Thresholds, risk_history

_MASK = (1 << DAYS) - 1
#: number of weeks in the chart of sessions, and of days
_WEEKS = 9
SESSION_DAYS = 7 * _WEEKS
_WEEK_MS = 7 * 86_400_000
_MINUTE_MS = 60_000
_CLOSED = {
    "risk": "the risk stayed low",
    "gone": "silent for so long that the enrolment should be checked",
    "forgotten": "silent for too long",
    "erased": "erased on request",
}


@dataclass(frozen=True, slots=True)
class Days:
    """The days of an entry as of `today`: bit i of visits and submissions stands for today - i."""

    today: int
    visits: int
    submissions: int
    #: the day on which the student is first known in the course; None: not known
    first: int | None

    @classmethod
    def of(cls, entry: Entry, history: Sequence[HistoryRow], today: int) -> Days:
        """Return the days of an entry. A visit writes a row, so since as_of there was none."""
        today = max(today, entry.as_of)
        shift = today - entry.as_of
        visits, submissions = ((bits << shift) & _MASK for bits in (entry.visit_days, entry.submission_days))
        known = [history[0].day] if history else []
        known += [today - visits.bit_length() + 1] if visits else []
        return cls(today, visits, submissions, min(known, default=None))

    @property
    def single_visit(self) -> bool:
        """Whether there was one visit so far, and no more."""
        return self.visits.bit_count() == 1 and self.first == self.today - self.visits.bit_length() + 1

    def visits_of(self, days: int) -> int:
        """The number of days with a visit among the last `days`."""
        return (self.visits & ((1 << days) - 1)).bit_count()

    @property
    def calendar(self) -> Figure:
        """The chart of these days."""
        return calendar(self.visits, self.submissions, self.today, self.first)


def periods(rows: Sequence[AlertRow]) -> list[Span]:
    """Return the alerts, from what was said when they opened and closed, in that order."""
    found: dict[int, Span] = {}
    for row in rows:
        closed = None if row.is_opening else row.day
        found[row.opened] = Span(row.opened, closed, "" if row.is_opening else _CLOSED.get(row.why, ""))
    return [found[opened] for opened in sorted(found)]


def history_figure(
    history: Sequence[HistoryRow], spans: Sequence[Span], thresholds: Thresholds | None, today: int, days: int
) -> Figure:
    """Draw the risk over the last `days`."""
    points = [Point(row.day, row.risk, Band(row.band)) for row in history]
    return risk_history(points, spans, thresholds, today, days)


def sessions_figure(sessions: Sequence[SessionRow], now: int, today: int) -> Figure:
    """Draw the number of sessions in each of the last weeks; now: the time at the end of `today` [epoch ms]."""
    weeks = [[s for s in sessions if now - (i + 1) * _WEEK_MS <= s.end < now - i * _WEEK_MS] for i in range(_WEEKS)]
    weeks.reverse()
    starts = [today - 7 * (_WEEKS - i) + 1 for i in range(_WEEKS)]
    names = [f"{axes.short(start)} to {axes.short(start + 6)}" for start in starts]
    minutes = [round(sum(s.end - s.start for s in week) / _MINUTE_MS) for week in weeks]
    drawn = [
        Bar(len(week), "own", f"{name}: {count(len(week), 'session')}, {count(m, 'minute')}")
        for week, name, m in zip(weeks, names, minutes, strict=True)
    ]
    number, total = sum(map(len, weeks)), sum(minutes)
    words = f"No sessions in {_WEEKS} weeks."
    if number:
        length = count(total, "minute") if total else "less than a minute"
        words = f"{count(number, 'session')} in {_WEEKS} weeks, {length} in all; "
        words += f"{len(weeks[-1]) or 'none'} in the last 7 days."
    ticks = [(i + 0.5, axes.short(start)) for i, start in enumerate(starts) if i % 2 == 0]
    rows = [(n, str(len(w)), f"{m:,}") for n, w, m in zip(names, weeks, minutes, strict=True)][::-1]
    picture = bars(drawn, label=f"Sessions per week. {words}", ticks=ticks)
    return Figure("sessions", "Sessions per week", words, picture, ("Week", "Sessions", "Minutes"), rows)
