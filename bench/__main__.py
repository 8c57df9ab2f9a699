"""`python -m bench`: starts servers, writes one backlog, measures; ends by itself, JSON last."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

import stack
from app.replaying.progress import replay
from app.settings import Settings
from app.trial.recount import recount
from bench.log import backlog
from bench.measure import Run, read_alone, whole_job


async def main(events: int, students: int, partitions: int, runs: int) -> int:
    """Measure, print a table and one line of JSON; 1 unless every run was exact."""
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="moodle-risk-bench-") as name:
        directory = Path(name)
        servers = stack.up(directory / "stack", owner_pid=os.getpid())
        try:
            common = {"RISK_BROKER": servers.broker, "RISK_SCHEMA_REGISTRY": servers.registry}
            settings = Settings.from_env(common)
            rows = backlog(events, students)
            console.print(f"writing {len(rows):,} events of {students:,} students, {partitions} partitions …")
            await replay(settings, rows, partitions=partitions, console=console)
            truth = recount(zip(rows.userid.tolist(), rows.at.tolist(), strict=True))
            reads, jobs = [], []
            for i in range(runs):
                reads.append(await read_alone(settings, truth.events, partitions))
                console.print(f"read alone {i + 1}: {reads[-1]}")
                own = {
                    "RISK_APP_ID": f"bench{i}",
                    "RISK_TOPIC_PREFIX": f"bench{i}.",
                    "RISK_DATADIR": str(directory / f"d{i}"),
                }
                jobs.append(await whole_job(common | own, truth, directory / f"worker{i}.log"))
                console.print(f"whole job  {i + 1}: {jobs[-1]}")
        finally:
            stack.down(directory / "stack")
    _table(console, reads, jobs)
    best = min(jobs, key=lambda r: r.cpu_us_per_event)
    read = min(r.cpu_us_per_event for r in reads)
    exact = all(r.exact for r in jobs)
    figures = {
        "events": truth.events,
        "cpu_us_per_event": round(best.cpu_us_per_event, 2),
        "read_cpu_us_per_event": round(read, 2),
        "ratio": round(best.cpu_us_per_event / read, 2),
        "events_per_s": round(max(r.events_per_s for r in jobs)),
        "rss_mb": round(max(r.rss_mb for r in jobs)),
        "exact": exact,
    }
    print(json.dumps(figures))
    return 0 if exact else 1


def _table(console: Console, reads: list[Run], jobs: list[Run]) -> None:
    table = Table("", "events/s best", "median", "CPU µs/event best", "median", "peak MB", "exact")
    for name, runs in (("read and decode (aiokafka, no Faust)", reads), ("the whole job (batch)", jobs)):
        rates, cpus = [r.events_per_s for r in runs], [r.cpu_us_per_event for r in runs]
        table.add_row(
            name,
            f"{max(rates):,.0f}",
            f"{statistics.median(rates):,.0f}",
            f"{min(cpus):.2f}",
            f"{statistics.median(cpus):.2f}",
            f"{max(r.rss_mb for r in runs):.0f}" if runs[0].rss_mb else "",
            "yes" if all(r.exact for r in runs) else "NO",
        )
    console.print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000, help="default %(default)s")
    parser.add_argument("--students", type=int, default=5_000, help="default %(default)s")
    parser.add_argument("--partitions", type=int, default=4, help="default %(default)s")
    parser.add_argument("--runs", type=int, default=3, help="default %(default)s")
    given = parser.parse_args()
    sys.exit(asyncio.run(main(given.events, given.students, given.partitions, given.runs)))
