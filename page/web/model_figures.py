"""The plots of a model card, drawn from the figures of its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from page.web.charts.axes import Scale
from page.web.charts.figure import Figure, percent
from page.web.charts.lines import Axis, Line, intervals, lines

#: the score of the model itself, among those it is compared with
_DAILY = "daily"
#: days before a withdrawal that the table names
_LEADS = (1, 7, 14, 28, 56)


def quality(report: Mapping[str, Any]) -> list[Figure]:
    """Return the plots of how good a model is."""
    figures = [_reliability(report["calibration"][_DAILY]), _precision(report["by_day"]), _flagged(report["by_day"])]
    if report["leads"]["withdrawn"]:
        figures.append(_leads(report["leads"]))
    return figures


def groups(report: Mapping[str, Any]) -> list[Figure]:
    """Return the plots of how groups of students fare; none if groups were not given."""
    rows = report["fairness"]
    if not rows:
        return []
    return [
        _groups("found", "Of those later lost, flagged", rows, "tpr", "Higher is better: more of those who need it."),
        _groups("false-alarms", "Of the others, flagged all the same", rows, "fpr", "Lower is better."),
    ]


def _reliability(bins: Sequence[Mapping[str, Any]]) -> Figure:
    points = [(float(b["mean"]), float(b["lost"])) for b in bins]
    svg = lines(
        [Line([(0, 0), (1, 1)], "ideal"), Line(points, "own", dots=True)],
        Axis.of_shares(),
        Axis.of_shares(),
        label="Risk and what came of it: " + ", ".join(f"{percent(x)} → {percent(y)}" for x, y in points),
    )
    high = points[-1]
    words = (
        "Across: the risk. Upwards: how many of those students were later lost. On the dashed line both are the same. "
        f"Of students with a risk of about {percent(high[0])}, {percent(high[1])} were lost."
    )
    rows = [(percent(b["mean"]), percent(b["lost"]), f"{b['looks']:,}") for b in bins]
    head = ("Risk (mean)", "Later lost", "Looks")
    legend = [("key line own", "this model"), ("key line ideal", "if every risk were exact")]
    return Figure("reliability", "Can the percentages be believed?", words, svg, head, rows, legend)


def _precision(by_day: Sequence[Mapping[str, Any]]) -> Figure:
    known = [
        (r["day"], r["flagged"]["alert"]["precision"]) for r in by_day if r["flagged"]["alert"]["precision"] is not None
    ]
    base = [(r["day"], r["base_rate"]) for r in by_day]
    words = (
        "Of the students with an open alert on a day of the course, the share who later withdrew or failed; dashed: "
        "the share among all students."
    )
    svg = lines(
        [Line(base, "ideal"), Line(known, "own", dots=True)],
        _course_days(by_day),
        Axis.of_shares(),
        label=words,
    )
    rows = [
        (f"{r['day']}", _share(r["flagged"]["alert"]["precision"]), percent(r["base_rate"]), f"{r['students']:,}")
        for r in by_day
    ]
    legend = [("key line own", "with an open alert"), ("key line ideal", "all students")]
    head = ("Day of the course", "With an alert", "All", "Students")
    return Figure("precision", "How often an alert is right", words, svg, head, rows, legend)


def _flagged(by_day: Sequence[Mapping[str, Any]]) -> Figure:
    names = (("alert", "own", "alert open"), ("HIGH", "high", "band High"), ("GONE", "gone", "band Gone"))
    drawn = [Line([(r["day"], r["flagged"][name]["share"]) for r in by_day], kind) for name, kind, _ in names]
    high = max(y for line in drawn for _, y in line.points)
    words = "The share of students with an open alert, in the band High, and in the band Gone, by day of the course."
    svg = lines(drawn, _course_days(by_day), Axis.of_shares(high), label=words)
    rows = [(f"{r['day']}", *(_share(r["flagged"][name]["share"]) for name, _, _ in names)) for r in by_day]
    legend = [(f"key line {kind}", text) for _, kind, text in names]
    head = ("Day of the course", *(text[:1].upper() + text[1:] for _, _, text in names))
    return Figure("flagged", "How many are flagged", words, svg, head, rows, legend)


def _leads(leads: Mapping[str, Any]) -> Figure:
    curve = leads["scores"][_DAILY]["curve"]
    last = len(curve) - 1
    words = (
        f"Of {leads['withdrawn']:,} students who withdrew, the share who had one of the highest risks so many days "
        f"before ({percent(leads['share_flagged'])} of all students and days have one): {percent(curve[1])} on the day "
        f"before, {percent(curve[min(28, last)])} four weeks before."
    )
    x = Axis(Scale(0, last), [(day, str(day)) for day in range(0, last + 1, 14)])
    svg = lines([Line(list(enumerate(curve)), "own")], x, Axis.of_shares(max(curve)), label=words)
    rows = [(str(day), percent(curve[day])) for day in _LEADS if day <= last]
    return Figure("leads", "How early", words, svg, ("Days before the withdrawal", "Flagged"), rows)


def _groups(name: str, title: str, rows: Sequence[Mapping[str, Any]], rate: str, hint: str) -> Figure:
    known = [(f"{r['attribute']} {r['group']}", r[rate]) for r in rows if r[rate] is not None]
    cells = [(label, r["value"], r["low"], r["high"]) for label, r in known]
    axis = Axis.of_shares(max(high for *_, high in cells))
    words = f"{title}: dots, with intervals in which the true value is likely to be (95 %). {hint}"
    table = [(label, percent(v, 1), f"{percent(low, 1)} to {percent(high, 1)}") for label, v, low, high in cells]
    return Figure(name, title, words, intervals(cells, axis, label=words), ("Group", "Share", "95 %"), table)


def _course_days(by_day: Sequence[Mapping[str, Any]]) -> Axis:
    first, last = by_day[0]["day"], by_day[-1]["day"]
    step = max(7, (last - first) // 5 // 7 * 7)
    return Axis(Scale(first, max(last, first + 1)), [(day, f"day {day}") for day in range(first, last + 1, step)])


def _share(value: float | None) -> str:
    return "none" if value is None else percent(value)
