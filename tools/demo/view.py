"""The demo's picture of a running worker, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tools.demo.stats import Tally

#: students shown one by one
SHOWN = 10
_NOTE = "These are predictions, not facts. Students and days are real (OULAD, CC-BY 4.0); clock times are drawn."


def picture(
    title: str, tally: Tally, stats: Mapping[str, Any] | None, rate: float, committed: int | None, note: str
) -> RenderableType:
    """The whole picture; `rate`: events a second now, `stats`: the worker's /stats, None while it starts;
    `committed`: rows the database has, None without one."""
    if stats is None:
        return Panel(Text("the worker is starting …"), title=title)
    return Panel(
        Group(_figures(tally, stats, rate, committed), _students(tally), Text(f"{_NOTE} {note}", style="dim")),
        title=title,
    )


def line(tally: Tally, stats: Mapping[str, Any] | None, rate: float, committed: int | None) -> str:
    """The same in one line, where there is no terminal."""
    if stats is None:
        return "the worker is starting …"
    risky, lag = tally.in_risk, _lag(stats, committed)
    return (
        f"{_day(tally.now)}  {stats['counts'].get('events', 0):>9,} events  {rate:>7,.0f}/s  lag {lag:>6,}  "
        f"{sum(tally.sessions.values()):>7,} sessions  {len(risky):>4} of {len(tally.risk)} students in risk, "
        f"{_percent(tally.share_lost(risky))} of them withdrew or failed"
    )


def _figures(tally: Tally, stats: Mapping[str, Any], rate: float, committed: int | None) -> Table:
    risky = tally.in_risk
    grid = Table.grid(padding=(0, 3))
    rows = [
        ("course time", _day(tally.now), "students in risk now", f"[bold red]{len(risky)}[/] of {len(tally.risk)}"),
        (
            "events",
            f"{stats['counts'].get('events', 0):,}",
            "of them withdrew or failed",
            _percent(tally.share_lost(risky)),
        ),
        ("events a second", f"{rate:,.0f}", "of all students", _percent(tally.share_lost(list(tally.risk)))),
        ("lag", f"{_lag(stats, committed):,}", "sessions", f"{sum(tally.sessions.values()):,}"),
    ]
    for left, a, right, b in rows:
        grid.add_row(f"[dim]{left}[/]", a, f"[dim]{right}[/]", b)
    return grid


def _students(tally: Tally) -> Table:
    table = Table(title="Who to contact first", title_justify="left", expand=True)
    for name in ("student", "risk", "in risk since", "sessions", "events", "in the end (known today)"):
        table.add_column(name, justify="left" if name.startswith("in") else "right")
    for student in tally.in_risk[:SHOWN]:
        risk = tally.risk[student]
        bar = "█" * round(risk * 10)
        end = {True: "[red]withdrew or failed[/]", False: "[green]passed[/]", None: "?"}[tally.lost.get(student)]
        sessions, events = tally.sessions.get(student, 0), tally.activities.get(student, 0)
        table.add_row(str(student), f"{bar} {risk:.2f}", _day(tally.since[student]), str(sessions), str(events), end)
    return table


def _lag(stats: Mapping[str, Any], committed: int | None) -> int:
    """Rows that were written and are not counted yet: behind the database where there is one, else behind Kafka."""
    if committed is None:
        return int(sum(stats["lag"].values()))
    return max(0, committed - int(stats["counts"].get("events", 0)))


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M") if ms else "-"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"
