"""The demo's view of a running worker: a panel for a terminal, a line for a pipe, a picture for a document."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from io import StringIO
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tools.demo.stats import Stats

#: number of students listed
LISTED = 8
#: width of a picture [characters]
PICTURE_WIDTH = 120
#: width of the reasons on a narrow terminal [characters]
REASONS_WIDTH = 14
#: bands in the order in which they are counted
BANDS = ("HIGH", "RAISED", "LOW", "GONE", "UNKNOWN")
_NOTE = "These are predictions, not facts. Students and days are real (OULAD, CC-BY 4.0); times of day are random."
_STARTING = "the worker is starting …"
_FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace"


def panel(
    title: str, stats: Stats, worker: Mapping[str, Any] | None, rate: float, committed: int | None, note: str
) -> RenderableType:
    """Return the view for a terminal.

    worker: its /stats, None while it starts; rate: events a second at the moment; committed: rows in the database,
    None if there is no database; note: last sentence of the view.
    """
    if worker is None:
        return Panel(Text(_STARTING), title=title)
    footer = Text(f"{_NOTE} {note}", style="dim")
    return Panel(Group(_figures(stats, worker, rate, committed), _students(stats), footer), title=title)


def line(stats: Stats, worker: Mapping[str, Any] | None, rate: float, committed: int | None) -> str:
    """Return the same in one line."""
    if worker is None:
        return _STARTING
    at_risk, alerted = stats.in_risk, stats.alerted
    return (
        f"{_time(stats.now)}  {worker['counts'].get('events', 0):>9,} events  {rate:>7,.0f}/s  "
        f"lag {lag(worker, committed):>6,}  {sum(stats.sessions.values()):>7,} sessions  "
        f"{len(at_risk):>4} of {len(stats.students)} students at risk, "
        f"{_percent(stats.share_lost(at_risk))} of them withdrew or failed; {len(alerted)} alerts open, "
        f"{_percent(stats.share_lost(alerted))}"
    )


def picture(view: RenderableType, title: str) -> str:
    """Render a view as SVG, in the reader's own monospace font: the file refers to nothing outside itself."""
    console = Console(record=True, width=PICTURE_WIDTH, file=StringIO(), force_terminal=True, color_system="truecolor")
    console.print(view)
    svg = console.export_svg(title=title)
    return re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL).replace("Fira Code, monospace", _FONTS)


def lag(worker: Mapping[str, Any], committed: int | None) -> int:
    """Return the number of rows written but not processed yet: behind the database if there is one, else behind Kafka.

    worker: its /stats; committed: rows in the database.
    """
    if committed is None:
        return int(sum(worker["lag"].values()))
    return max(0, committed - int(worker["counts"].get("events", 0)))


def _figures(stats: Stats, worker: Mapping[str, Any], rate: float, committed: int | None) -> Table:
    at_risk, alerted, events = stats.in_risk, stats.alerted, worker["counts"].get("events", 0)
    grid = Table.grid(padding=(0, 3))
    students, lost = stats.students, "[dim]of them withdrew or failed[/]"
    bands = Counter(row.band for row in stats.risk.values())
    rows = [
        ("course time", _time(stats.now), "open alerts", f"[bold red]{len(alerted)}[/] of {len(students)} students"),
        ("events", f"{events:,}", lost, _percent(stats.share_lost(alerted))),
        ("events a second", f"{rate:,.0f}", "alerts opened, closed", f"{stats.opened}, {stats.closed}"),
        ("lag", f"{lag(worker, committed):,}", "prediction above 0.7", f"{len(at_risk)} students"),
        ("sessions", f"{sum(stats.sessions.values()):,}", lost, _percent(stats.share_lost(at_risk))),
        ("bands", _bands(bands), "of all students", _percent(stats.share_lost(students))),
    ]
    for left_label, left, right_label, right in rows:
        grid.add_row(f"[dim]{left_label}[/]", left, f"[dim]{right_label}[/]", right)
    return grid


def _bands(bands: Mapping[str, int]) -> str:
    return "  ".join(f"{bands[name]} {name}" for name in BANDS if bands[name]) or "-"


def _students(stats: Stats) -> Table:
    rows = stats.contact_first(LISTED)
    with_course = len({row.course for row in rows}) > 1
    table = Table(
        title="Who to contact first, and why (with the outcome, as known today)",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("student", justify="right", no_wrap=True)
    if with_course:
        table.add_column("course", justify="right", no_wrap=True)
    for name, width in (("risk", 12), ("alert since", 11)):
        table.add_column(name, min_width=width, no_wrap=True)
    table.add_column("reasons", min_width=REASONS_WIDTH)
    table.add_column("sessions", justify="right")
    table.add_column("outcome", min_width=8)
    for row in rows:
        course = [str(row.course)] if with_course else []
        risk = row.band if row.risk is None else f"{row.risk:.2f} {row.band}"
        known = stats.lost.get(row.student)
        outcome = {True: "[red]withdrew or failed[/]", False: "[green]passed[/]", None: "?"}[known]
        sessions = str(stats.sessions.get(row.student, 0))
        reasons = "\n".join(reason.replace("the median of the course is", "median") for reason in row.reasons)
        table.add_row(str(row.student), *course, risk, row.since or "-", reasons or "-", sessions, outcome)
    return table


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M") if ms else "-"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"
