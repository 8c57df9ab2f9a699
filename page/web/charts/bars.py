"""Charts of bars: a distribution, numbers per week or day, and a figure beside a median."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from page.web.charts import axes, svg
from page.web.charts.axes import Scale

_HEIGHT = 200
#: of what is left between two bars [share of a bar's place]
_SPACE = 0.12
#: from so many bars on they carry no numbers
_CROWDED = 20


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar: its value, the classes of its colour, and what a pointer that rests on it is told."""

    value: int
    kind: str
    title: str


def bars(
    drawn: Sequence[Bar],
    *,
    label: str,
    ticks: Sequence[tuple[float, str]],
    marks: Sequence[tuple[float, str, str]] = (),
) -> Markup:
    """Draw bars side by side.

    label: the text alternative; ticks: of the x axis, from 0 (left of the first bar) to the number of bars; marks:
    vertical lines with a name and classes.
    """
    high = max((bar.value for bar in drawn), default=0)
    numbers = axes.number_ticks(high, 4)
    y_scale, x_scale = Scale(0, numbers[-1]), Scale(0, len(drawn))
    parts = [axes.beside([(n, f"{n:,}") for n in numbers], y_scale), axes.under(ticks, x_scale, grid=False)]
    place = 1 / max(len(drawn), 1)
    for i, bar in enumerate(drawn):
        height = y_scale.share(bar.value)
        x, width = (i + _SPACE / 2) * place, (1 - _SPACE) * place
        parts.append(svg.rect(x, 1 - height, width, height, f"bar {bar.kind}", bar.title))
        if bar.value and len(drawn) < _CROWDED:
            parts.append(svg.text(x + width / 2, 1 - height, f"{bar.value:,}", dy=-5, kind="value"))
    parts += [axes.mark(x_scale.share(value), name, kind) for value, name, kind in marks]
    return svg.picture(parts, label=label, height=_HEIGHT)


def beside_median(own: int, median: int, most: int, label: str) -> Markup:
    """Draw a figure of a student above the median of those compared with; most: the length of the axis."""
    scale = Scale(0, max(most, own, median, 1))
    parts = []
    for i, (name, value, kind) in enumerate((("student", own, "own"), ("median", median, "median"))):
        y = 0.5 * i + 0.04
        parts.append(svg.rect(0, y, 1, 0.42, "track"))
        parts.append(svg.rect(0, y, max(scale.share(value), 0.006), 0.42, f"bar {kind}"))
        parts.append(svg.text(0, y + 0.21, name, anchor="end", dx=-8, dy=4, kind="tick"))
        parts.append(svg.text(1, y + 0.21, str(value), anchor="start", dx=8, dy=4, kind="value"))
    return svg.picture(parts, label=label, height=48, kind="plot compare")
