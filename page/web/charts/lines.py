"""Charts of lines over numbers or days, and dots with an interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from page.web.charts import axes, svg
from page.web.charts.axes import Scale

_HEIGHT = 220
#: height of a row with an interval [px]
_ROW = 26


@dataclass(frozen=True, slots=True)
class Line:
    """A line: its points, the classes of its colour and stroke, and whether each point is a dot."""

    points: Sequence[tuple[float, float]]
    kind: str
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """The range of an axis and its labels."""

    scale: Scale
    ticks: Sequence[tuple[float, str]]

    @classmethod
    def of_days(cls, first: int, last: int) -> Axis:
        """Return an axis of days."""
        return cls(Scale(first, last), [(day, axes.short(day)) for day in axes.day_ticks(first, last)])

    @classmethod
    def of_numbers(cls, high: int) -> Axis:
        """Return an axis from 0 to a round number that is not below `high`."""
        numbers = axes.number_ticks(high, 4)
        return cls(Scale(0, numbers[-1]), [(n, f"{n:,}") for n in numbers])

    @classmethod
    def of_shares(cls, high: float = 1.0) -> Axis:
        """Return an axis of shares from 0, in percent, to a round one that is not below `high`."""
        top = next((t for t in (0.1, 0.2, 0.4, 0.6, 0.8) if high <= t), 1.0)
        return cls(Scale(0, top), [(top * i / 4, f"{100 * top * i / 4:g}\N{NO-BREAK SPACE}%") for i in range(5)])


def lines(
    drawn: Sequence[Line], x: Axis, y: Axis, *, label: str, marks: Sequence[tuple[float, str, str]] = ()
) -> Markup:
    """Draw lines; label: the text alternative; marks: vertical lines with a name and classes."""
    parts = [axes.beside(y.ticks, y.scale), axes.under(x.ticks, x.scale)]
    placed = [([(x.scale.share(a), 1 - y.scale.share(b)) for a, b in line.points], line) for line in drawn]
    parts.append(svg.curves([(points, f"curve {line.kind}") for points, line in placed]))
    for points, line in placed:
        parts += [svg.circle(a, b, 3.5, f"dot {line.kind}") for a, b in points if line.dots]
    for i, (value, name, kind) in enumerate(marks):  # one name above the other, so that neither covers it
        parts.append(axes.mark(x.scale.share(value), name, kind, dy=-6 - 13 * i))
    return svg.picture(parts, label=label, height=_HEIGHT)


def intervals(rows: Sequence[tuple[str, float, float, float]], x: Axis, *, label: str) -> Markup:
    """Draw a dot and its interval for each row: name, value, low, high."""
    parts = [axes.under(x.ticks, x.scale)]
    for i, (name, value, low, high) in enumerate(rows):
        y = (i + 0.5) / len(rows)
        parts.append(svg.text(0, y, name, anchor="end", dx=-8, dy=4, kind="tick"))
        parts.append(svg.line(x.scale.share(low), y, x.scale.share(high), y, "interval"))
        parts.append(svg.circle(x.scale.share(value), y, 4, "dot own"))
    return svg.picture(parts, label=label, height=_ROW * len(rows), kind="plot named")
