"""The days with a visit or a submission, as a calendar: a column for each week."""

from __future__ import annotations

from functools import lru_cache

from markupsafe import Markup

from page.store.layout import DAYS
from page.web.charts import axes, svg
from page.web.charts.figure import Figure, count

#: size of a day and of the gap to the next [px]
_CELL, _GAP = 24, 4
_LEFT, _TOP = 40, 22
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def calendar(visits: int, submissions: int, today: int, first: int | None) -> Figure:
    """Draw the last DAYS days.

    visits, submissions: bit i stands for today - i; first: the day on which the student is first known, before which
    nothing can be said; None: not known.
    """
    days = range(today - DAYS + 1, today + 1)
    start = axes.monday(days[0])
    weeks = (axes.monday(today) - start) // 7 + 1
    parts = [
        tag for i in range(0, 7, 2) for tag in [_label(_LEFT - 8, _TOP + i * (_CELL + _GAP) + 17, _WEEKDAYS[i], "end")]
    ]
    parts += _months(start, weeks, days[0])
    for day in days:
        seen, handed_in = bool(visits >> (today - day) & 1), bool(submissions >> (today - day) & 1)
        parts.append(_cell(day, start, seen, handed_in, first is not None and day < first, day == today))
    words = _words(visits, submissions, today, first)
    width = _LEFT + weeks * (_CELL + _GAP)
    height = _TOP + 7 * (_CELL + _GAP)
    picture = svg.tag(
        "svg",
        *parts,
        class_="calendar",
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
        role="img",
        aria_label=f"The last {DAYS} days. {words}",
    )
    legend = [("key visit", "visit"), ("key submission", "submission"), ("key quiet", "neither")]
    if first is not None and first > days[0]:
        legend.append(("key before", "before the first visit"))
    rows = _rows(visits, submissions, today, start, weeks)
    head = ("Week", "Days with a visit", "Days with a submission")
    return Figure("calendar", f"The last {DAYS} days", words, picture, head, rows, legend)


@lru_cache(4096)  # the pages of all students show the same days
def _cell(day: int, start: int, seen: bool, handed_in: bool, before: bool, is_today: bool) -> Markup:
    week, weekday = divmod(day - start, 7)
    x, y = _LEFT + week * (_CELL + _GAP), _TOP + weekday * (_CELL + _GAP)
    done = "visit and submission" if seen and handed_in else "submission" if handed_in else "visit" if seen else ""
    told = done or ("before the first visit" if before else "neither visit nor submission")
    kind = "submission" if handed_in else "visit" if seen else "before" if before else "quiet"
    kind += " today" if is_today else ""
    title = svg.tag("title", f"{axes.full(day)}{' (today)' if is_today else ''}: {told}")
    parts = [svg.tag("rect", title, x=x, y=y, width=_CELL, height=_CELL, rx=4, class_=f"day {kind}")]
    if handed_in:  # a tick, so that it is not told by the colour alone
        mark = f"M{x + 6} {y + 12.5}l4.5 4.5 8-9"
        parts.append(svg.tag("path", d=mark, class_="mark"))
    elif seen:
        parts.append(svg.tag("circle", cx=x + _CELL / 2, cy=y + _CELL / 2, r=4, class_="mark-visit"))
    return svg.join(parts)


def _label(x: float, y: float, content: str, anchor: str) -> Markup:
    return svg.tag("text", content, x=x, y=y, text_anchor=anchor, class_="tick")


def _months(start: int, weeks: int, first: int) -> list[Markup]:
    """Return the name of each month above its first week; the first is left out where the second would cover it."""
    named: list[tuple[int, str]] = []
    for week in range(weeks):
        name = f"{axes.date_of(max(start + 7 * week, first)):%b}"
        if not named or named[-1][1] != name:
            named.append((week, name))
    if len(named) > 1 and named[1][0] - named[0][0] < 2:
        named.pop(0)
    return [_label(_LEFT + week * (_CELL + _GAP), _TOP - 8, name, "start") for week, name in named]


def _words(visits: int, submissions: int, today: int, first: int | None) -> str:
    text = f"{count(visits.bit_count(), 'day')} with a visit, {submissions.bit_count() or 'none'} with a submission."
    if visits:
        ago = (visits & -visits).bit_length() - 1
        when = "today" if ago == 0 else "yesterday" if ago == 1 else f"{ago} days ago, on {axes.full(today - ago)}"
        text += f" The last visit was {when}."
    if first is not None and first > today - DAYS + 1:
        text += f" The first was on {axes.full(first)}."
    return text[:1].upper() + text[1:]


def _rows(visits: int, submissions: int, today: int, start: int, weeks: int) -> list[tuple[str, str, str]]:
    """Return the weeks, the newest first."""

    def names(bits: int, monday: int) -> str:
        days = (monday + i for i in range(7) if monday + i <= today and bits >> (today - monday - i) & 1)
        return ", ".join(f"{axes.date_of(day):%a}" for day in days) or "none"

    mondays = [start + 7 * week for week in range(weeks)][::-1]
    return [(axes.week_of(monday), names(visits, monday), names(submissions, monday)) for monday in mondays]
