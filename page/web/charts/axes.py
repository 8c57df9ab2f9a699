"""Axes: from values to shares of the plot, and the labels beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache

from markupsafe import Markup

from page.web.charts import svg

#: steps between the labels of an axis of days [days]
_DAY_STEPS = (1, 2, 7, 14, 28, 56, 112, 224)
#: largest number of labels of an axis of days
_MAX_DAYS = 6
#: 1970-01-01 was a Thursday: days of this remainder are Mondays
_MONDAY = 4


@dataclass(frozen=True, slots=True)
class Scale:
    """The range of an axis."""

    low: float
    high: float

    def share(self, value: float) -> float:
        """Return where a value is between the ends of the axis [0…1]; beyond them, at the end."""
        if self.high <= self.low:
            return 0.0
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))


def date_of(day: int) -> date:
    """Return the date of a day (days since 1970-01-01); of one that has none, the nearest."""
    ordinal = min(max(day + date(1970, 1, 1).toordinal(), 1), date.max.toordinal())
    return date.fromordinal(ordinal)


@lru_cache(4096)
def short(day: int) -> str:
    """Return a day as `3 Feb`."""
    found = date_of(day)
    return f"{found.day} {found:%b}"


@lru_cache(4096)
def full(day: int) -> str:
    """Return a day as `Mon 3 Feb 2026`."""
    found = date_of(day)
    return f"{found:%a} {found.day} {found:%b} {found.year}"


def monday(day: int) -> int:
    """Return the Monday of a day's week."""
    return day - (day - _MONDAY) % 7


def day_ticks(first: int, last: int) -> list[int]:
    """Return the days between two that get a label: Mondays, where not every or every second day has one."""
    step = next((s for s in _DAY_STEPS if (last - first) // s < _MAX_DAYS), _DAY_STEPS[-1])
    start = last if step < 7 else monday(last)
    return [day for day in range(start, first - 1, -step)][::-1]


def number_ticks(high: int, most: int = 5) -> list[int]:
    """Return about `most` round numbers from 0 on; the last is `high` or more."""
    step = next(
        unit * 10**power for power in range(18) for unit in (1, 2, 5) if unit * 10**power * most >= max(high, 1)
    )
    return list(range(0, -(-max(high, 1) // step) * step + 1, step))


def under(ticks: Sequence[tuple[float, str]], scale: Scale, *, grid: bool = True) -> Markup:
    """Return the labels below a plot; in a narrow one every second is left out by the style sheet.

    grid: with a line across the plot for each.
    """
    parts = []
    for i, (value, label) in enumerate(reversed(ticks)):
        x, minor = scale.share(value), " minor" if i % 2 else ""
        parts += [svg.line(x, 0, x, 1, f"grid{minor}")] if grid else []
        parts.append(svg.text(x, 1, label, dy=18, kind=f"tick{minor}"))
    return svg.join(parts)


def beside(ticks: Sequence[tuple[float, str]], scale: Scale) -> Markup:
    """Return the labels to the left of a plot, and lines across it; the lowest value is at the bottom."""
    parts = []
    for value, label in ticks:
        y = 1 - scale.share(value)
        parts += [svg.line(0, y, 1, y, "grid"), svg.text(0, y, label, anchor="end", dx=-8, dy=4, kind="tick")]
    return svg.join(parts)


def mark(x: float, name: str, kind: str, dy: float = -6) -> Markup:
    """Return a vertical line with its name above; dy: how far below the upper end of the plot the name is [px]."""
    return svg.join(
        [svg.line(x, 0, x, 1, f"threshold {kind}"), svg.text(x, 0, name, dy=dy, kind=f"threshold-name {kind}")]
    )


def days_under(first: int, last: int, scale: Scale) -> Markup:
    """Return the labels of an axis of days."""
    return under([(day, short(day)) for day in day_ticks(first, last)], scale)


@lru_cache(4096)
def week_of(day: int) -> str:
    """Return a week as `3 Feb to 9 Feb`, from the day of its Monday."""
    start = date_of(day)
    end = start + timedelta(days=6)
    return f"{start.day} {start:%b} to {end.day} {end:%b}"
