"""The risk of an entry over time: its steps, the thresholds of the bands, and the alerts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from models.assessment import RISK_SCALE, Band
from page.web.charts import axes, svg
from page.web.charts.axes import Scale
from page.web.charts.figure import Figure, percent

_HEIGHT = 220
#: shortest period that is drawn [days]
_SHORTEST = 14
_NO_RISK = {Band.GONE: "gone silent", Band.UNKNOWN: "too few students to compare with"}


@dataclass(frozen=True, slots=True)
class Point:
    """The last row of a day; risk in 1e-4, None for GONE and UNKNOWN."""

    day: int
    risk: int | None
    band: Band


@dataclass(frozen=True, slots=True)
class Span:
    """An alert: the day on which it opened, the day on which it closed (None: still open), and why it closed."""

    opened: int
    closed: int | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From which risk on a band holds [0…1]."""

    raised: float
    high: float


def risk_history(
    points: Sequence[Point], alerts: Sequence[Span], thresholds: Thresholds | None, today: int, days: int
) -> Figure:
    """Draw the risk over the last `days` at most; thresholds None: those of the model are not known.

    points: in the order of their days; one before the first day that is drawn holds on that day.

    A row is written when something has changed, so the risk of a day without one is that of the day before.
    """
    first = max(min([p.day for p in points] + [today - _SHORTEST]), today - days)
    scale = Scale(first, today + 1)
    percents = Scale(0, 1)
    ticks = [(share, percent(share)) for share in (0, 0.25, 0.5, 0.75, 1)]
    parts = [axes.beside(ticks, percents), axes.days_under(first, today, scale)]
    alerts = [span for span in alerts if span.closed is None or span.closed >= first]
    parts += [_strip(span, scale, today) for span in alerts]
    parts += _gaps(points, scale, today)
    parts += [] if thresholds is None else _bands(thresholds)
    parts.append(_curve(points, scale, today))
    for point in points:
        if point.risk is not None and point.day >= first:
            x, y = scale.share(point.day), 1 - point.risk / RISK_SCALE
            title = f"{axes.full(point.day)}: {percent(point.risk / RISK_SCALE)}"
            parts.append(svg.circle(x, y, 3.5, f"dot {point.band.name.lower()}", title))
    parts += [] if thresholds is None else _names(thresholds)
    words = _words(points, alerts, thresholds)
    legend = [("key line", "risk")]
    if any(point.risk is None for point in points):
        legend.append(("key gap", "no risk: " + " or ".join(sorted({_NO_RISK[p.band] for p in points if p.band > 2}))))
    if alerts:
        legend.append(("key strip", "alert open"))
    return Figure(
        "risk-history",
        "Risk over time",
        words,
        svg.picture(parts, label=f"Risk over time. {words}", height=_HEIGHT),
        ("Day", "Risk", "Band", "Alert"),
        _rows(points, alerts),
        legend,
    )


def _bands(thresholds: Thresholds) -> list[Markup]:
    """Return the lines from which on the risk is raised or high."""
    return [
        svg.line(0, 1 - value, 1, 1 - value, f"threshold {name}")
        for name, value in (("raised", thresholds.raised), ("high", thresholds.high))
    ]


def _names(thresholds: Thresholds) -> list[Markup]:
    """Return the names of these lines, to be drawn last: they have a margin that covers a curve."""
    return [
        svg.text(
            0, 1 - value, f"{name} from {percent(value)}", anchor="start", dx=6, dy=-5, kind=f"threshold-name {name}"
        )
        for name, value in (("raised", thresholds.raised), ("high", thresholds.high))
    ]


def _strip(span: Span, scale: Scale, today: int) -> Markup:
    """Return the period of an alert, as a tint over the whole height with a strip at the bottom."""
    x = scale.share(span.opened)
    width = max(scale.share(today + 1 if span.closed is None else span.closed) - x, 0.004)
    until = "still open" if span.closed is None else f"closed on {axes.full(span.closed)}"
    title = f"alert opened on {axes.full(span.opened)}, {until}"
    return svg.join(
        [svg.rect(x, 0, width, 1, "alert-tint", title), svg.rect(x, 0.97, width, 0.03, "alert-strip", title)]
    )


def _gaps(points: Sequence[Point], scale: Scale, today: int) -> list[Markup]:
    """Return the periods in which there is no risk."""
    parts = []
    for point, end in zip(points, _ends(points, today), strict=True):
        if point.risk is None:
            x = scale.share(point.day)
            title = f"{_NO_RISK.get(point.band, 'no risk')} from {axes.full(point.day)}"
            parts.append(svg.rect(x, 0, scale.share(end) - x, 1, "gap", title))
    return parts


def _curve(points: Sequence[Point], scale: Scale, today: int) -> Markup:
    """Return the risk as steps; a period without risk interrupts them."""
    paths: list[tuple[list[tuple[float, float]], str]] = []
    steps: list[tuple[float, float]] = []
    for point, end in zip(points, _ends(points, today), strict=True):
        if point.risk is None:
            paths.append((steps, "curve risk"))
            steps = []
        else:
            y = 1 - point.risk / RISK_SCALE
            steps += [(scale.share(point.day), y), (scale.share(end), y)]
    return svg.curves([*paths, (steps, "curve risk")])


def _ends(points: Sequence[Point], today: int) -> list[int]:
    """Return until when each point holds: the day of the next one, or the end of today."""
    return [*(p.day for p in points[1:]), max(today + 1, points[-1].day + 1)] if points else []


def _words(points: Sequence[Point], alerts: Sequence[Span], thresholds: Thresholds | None) -> str:
    known = [p for p in points if p.risk is not None]
    if not known:
        return "No risk is known for this period."
    first, last = known[0], known[-1]
    highest = max(known, key=lambda p: p.risk or 0)
    told = [f"{percent((first.risk or 0) / RISK_SCALE)} on {axes.short(first.day)}"]
    if highest not in (first, last):
        told.append(f"highest with {percent((highest.risk or 0) / RISK_SCALE)} on {axes.short(highest.day)}")
    if last is not first:
        told.append(f"{percent((last.risk or 0) / RISK_SCALE)} since {axes.short(last.day)}")
    text = ", ".join(told) + "."
    if points[-1].risk is None:
        text += f" Since {axes.short(points[-1].day)} there is no risk: {_NO_RISK.get(points[-1].band, '')}."
    if alerts:
        number = "One alert" if len(alerts) == 1 else f"{len(alerts)} alerts"
        text += f" {number} in this time, {'the latest ' if len(alerts) > 1 else ''}"
        text += "still open." if alerts[-1].closed is None else f"closed on {axes.short(alerts[-1].closed)}."
    if thresholds is not None:
        text += f" The risk is raised from {percent(thresholds.raised)} and high from {percent(thresholds.high)} on."
    return text


def _rows(points: Sequence[Point], alerts: Sequence[Span]) -> list[tuple[str, str, str, str]]:
    """Return the days on which something has changed, the newest first."""
    events: dict[int, list[str]] = {}
    for span in alerts:
        events.setdefault(span.opened, []).append("opened")
        if span.closed is not None:
            events.setdefault(span.closed, []).append(f"closed: {span.why}" if span.why else "closed")
    by_day = {p.day: p for p in points}
    rows = []
    for day in sorted(by_day.keys() | events.keys(), reverse=True):
        point = by_day.get(day)
        risk = "" if point is None else "none" if point.risk is None else percent(point.risk / RISK_SCALE)
        band = "" if point is None else point.band.name.lower()
        rows.append((axes.full(day), risk, band, ", ".join(events.get(day, []))))
    return rows
