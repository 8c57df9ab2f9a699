"""Results of `python -m bench.rates` as tables, as JSON and in docs/benchmarks.md."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from bench import report
from bench.figures import LiveCost
from bench.request_counts import NAMES

#: the lines of docs/benchmarks.md between which `save` writes
BEGIN, END = "<!-- python -m bench.rates --save writes this -->", "<!-- end of bench.rates -->"
#: columns of the table
_COLUMNS = ("events/s", "program", "linger ms", "CPU", "broker", "requests/s", "p50 ms", "p99 ms")


def tables(costs: Sequence[LiveCost]) -> list[Table]:
    """Return tables of cost and latency, and of requests by API, for each number of partitions."""
    counts = dict.fromkeys(cost.partitions for cost in costs)
    groups = [[cost for cost in costs if cost.partitions == partitions] for partitions in counts]
    return [table for group in groups for table in (_costs(group), _requests(group))]


def _costs(costs: Sequence[LiveCost]) -> Table:
    # delay: of the load against its schedule, 99th percentile
    title = f"{_partitions(costs)}: CPU of a core; of the broker what the program adds to the load"
    table = Table(title=title)
    for column in (*_COLUMNS, "CPU/bare", "p50/bare", "all CPU", "delay ms", "unseen"):
        table.add_column(column, justify="left" if column == "program" else "right", no_wrap=True)
    rate = None
    for cost in costs:
        if rate not in (None, cost.rate):
            table.add_section()
        rate = cost.rate
        late = f"{cost.latency.load_late_ms:.1f}" if cost.latency else ""
        tail = [f"{cost.usage.machine_share:.0%}", late, str(cost.unseen)]
        table.add_row(*_cells(cost), *_ratios(cost, costs), *tail)
    return table


def _requests(costs: Sequence[LiveCost]) -> Table:
    table = Table(title=f"{_partitions(costs)}: requests to Kafka per second")
    names = [name for name in (*NAMES.values(), "others") if any(name in cost.usage.requests for cost in costs)]
    for column in (*_COLUMNS[:3], *names):
        table.add_column(column, justify="left" if column == "program" else "right", no_wrap=True)
    for cost in costs:
        table.add_row(*_cells(cost)[:3], *(f"{cost.usage.requests.get(name, 0):.1f}" for name in names))
    return table


def _partitions(costs: Sequence[LiveCost]) -> str:
    """Return the number of partitions, which is the same for all of `costs`."""
    number = costs[0].partitions
    return f"{number} partition{'s' if number > 1 else ''}"


def document(costs: Sequence[LiveCost]) -> dict[str, Any]:
    """Return all results, for docs/rates.json."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": report.machine(),
        "versions": report.versions(),
        "rates": [cost.as_dict() for cost in costs],
    }


def save(costs: Sequence[LiveCost], directory: Path) -> None:
    """Write rates.json, and the tables in benchmarks.md. Raises ValueError if it lacks BEGIN or END."""
    text = json.dumps(document(costs), indent=1, ensure_ascii=False) + "\n"
    (directory / "rates.json").write_text(text, encoding="utf-8")
    page = directory / "benchmarks.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(f"{BEGIN}\n")
    _, end, after = rest.partition(f"{END}\n")
    if not end:
        raise ValueError(f"{page} lacks the lines {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n{markdown(costs)}{END}\n{after}", encoding="utf-8")


def markdown(costs: Sequence[LiveCost]) -> str:
    """Return a table for each number of partitions."""
    lines = []
    for partitions in dict.fromkeys(cost.partitions for cost in costs):
        group = [cost for cost in costs if cost.partitions == partitions]
        lines += ["", f"{_partitions(group)}:", "", _line(_COLUMNS), _line(["---"] * len(_COLUMNS))]
        lines += [_line(_cells(cost)) for cost in group]
    return "".join(f"{line}\n" for line in [*lines, ""])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(cost: LiveCost) -> list[str]:
    """Return the cells of _COLUMNS."""
    usage, latency = cost.usage, cost.latency
    times = [f"{x:.0f}" if x >= 10 else f"{x:.1f}" for x in (latency.p50_ms, latency.p99_ms)] if latency else ["", ""]
    return [
        f"{cost.rate:,.0f}" if cost.rate else "idle",
        cost.program,
        "" if cost.linger_ms is None else str(cost.linger_ms),
        f"{usage.cpu_share:.1%}",
        f"{usage.broker_share:.1%}",
        f"{sum(usage.requests.values()):,.0f}",
        *times,
    ]


def _ratios(cost: LiveCost, costs: Sequence[LiveCost]) -> list[str]:
    """Return CPU and p50 as multiples of the bare loop's at the same rate, "" where it was not measured."""
    for bare in costs:
        if bare.key == "floor" != cost.key and (bare.partitions, bare.rate) == (cost.partitions, cost.rate):
            cpu = f"{cost.usage.cpu_share / bare.usage.cpu_share:.2f}"
            if cost.latency is None or bare.latency is None:
                return [cpu, ""]
            return [cpu, f"{cost.latency.p50_ms / bare.latency.p50_ms:.2f}"]
    return ["", ""]
