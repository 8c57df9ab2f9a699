"""The demo's view of a running worker: a panel for a terminal, a line for a pipe, a picture for a document."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from io import StringIO
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tools.demo.stats import Stats

#: number of students listed
LISTED = 10
#: width of a picture [characters]
PICTURE_WIDTH = 110
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
    at_risk = stats.in_risk
    return (
        f"{_time(stats.now)}  {worker['counts'].get('events', 0):>9,} events  {rate:>7,.0f}/s  "
        f"lag {lag(worker, committed):>6,}  {sum(stats.sessions.values()):>7,} sessions  "
        f"{len(at_risk):>4} of {len(stats.risk)} students at risk, "
        f"{_percent(stats.share_lost(at_risk))} of them withdrew or failed"
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
    at_risk, events = stats.in_risk, worker["counts"].get("events", 0)
    grid = Table.grid(padding=(0, 3))
    rows = [
        ("course time", _time(stats.now), "students at risk now", f"[bold red]{len(at_risk)}[/] of {len(stats.risk)}"),
        ("events", f"{events:,}", "of them withdrew or failed", _percent(stats.share_lost(at_risk))),
        ("events a second", f"{rate:,.0f}", "of all students", _percent(stats.share_lost(list(stats.risk)))),
        ("lag", f"{lag(worker, committed):,}", "sessions", f"{sum(stats.sessions.values()):,}"),
    ]
    for left_label, left, right_label, right in rows:
        grid.add_row(f"[dim]{left_label}[/]", left, f"[dim]{right_label}[/]", right)
    return grid


def _students(stats: Stats) -> Table:
    table = Table(title="Who to contact first", title_justify="left", expand=True)
    for name in ("student", "risk", "at risk since", "sessions", "events", "outcome (known today)"):
        table.add_column(name, justify="left" if name.startswith(("at", "outcome")) else "right")
    for student in stats.in_risk[:LISTED]:
        risk = stats.risk[student]
        bar = "█" * round(risk * 10)
        outcome = {True: "[red]withdrew or failed[/]", False: "[green]passed[/]", None: "?"}[stats.lost.get(student)]
        sessions, events = stats.sessions.get(student, 0), stats.activities.get(student, 0)
        since = _time(stats.since[student])
        table.add_row(str(student), f"{bar} {risk:.2f}", since, str(sessions), str(events), outcome)
    return table


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M") if ms else "-"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"
