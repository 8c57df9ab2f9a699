"""`python -m bench.risk`: what the risk costs on top of the job without it, while a backlog is caught up.

Workers read the same log in turn: with RISK_MODEL=v1, which switches the risk off, and with v2s. The log is synthetic,
or with --presentation that of real students. CPU is that of the whole process from readiness until all is written and
scored. Prints one line of JSON: the best runs, and the ratio of the best [1].
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from app.settings import Settings
from bench.environment import at_least, own_settings, stderr_console, temporary_servers
from bench.procfs import cpu_s, peak_mb
from bench.synthetic_log import backlog
from tools.e2e.workers import Worker
from tools.replay import oulad
from tools.replay.log_rows import LogRows
from tools.replay.progress import replay

#: timeout of one run [s]
_TIMEOUT_S = 600.0
#: without the risk, and with it
_WITHOUT, _WITH = "v1", "v2s"


def run(variables: Mapping[str, str], log: Path, events: int) -> dict[str, float]:
    """Let a new worker process the log; return its figures."""
    with Worker(variables, log, level="warn") as worker:
        worker.wait(lambda stats: stats["problem"] is None, timeout=60)
        pid, began = worker.process.pid, time.monotonic()
        cpu = cpu_s(pid)
        counts = worker.wait_idle(timeout=_TIMEOUT_S, events=events)["counts"]
        return {
            "cpu_s": round(cpu_s(pid) - cpu, 2),
            "wall_s": round(time.monotonic() - began, 1),
            "rss_mb": round(peak_mb(pid)),
            "flushes": counts["flushes"],
            "ticks": counts.get("ticks", 0),
            "scored": counts.get("scored", 0),
        }


def measure(rows: LogRows, runs: int, partitions: int, console: Console) -> dict[str, list[dict[str, float]]]:
    """Let workers without and with the risk read the rows in turn; return the figures of each run."""
    results: dict[str, list[dict[str, float]]] = {_WITHOUT: [], _WITH: []}
    with temporary_servers("risk") as (servers, directory):
        source = {**servers.settings, "RISK_SOURCE_TOPIC": "risk.log"}
        asyncio.run(replay(Settings.from_env(source), rows, partitions=partitions, console=console))
        for turn in range(runs):
            for model, figures in results.items():
                name = f"risk-{model}-{turn}"
                variables = {**source, **own_settings(name, directory), "RISK_MODEL": model}
                figures.append(run(variables, directory / f"{name}.log", len(rows)))
                console.print(f"{model}: {figures[-1]}", highlight=False)
    return results


def main() -> int:
    """Measure, print one line of JSON, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.risk", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    number = parser.add_argument
    number("--events", type=at_least(8), default=1_000_000, help="approximate number of events of the synthetic log")
    number("--students", type=at_least(1), default=5_000, help="students of the synthetic log")
    number("--days", type=at_least(1), default=125, help="days of the synthetic log")
    number("--presentation", action="append", help="instead, replay these students, MODULE-PRESENTATION")
    number("--partitions", type=at_least(1), default=4, help="partitions of the source topic")
    number("--runs", type=at_least(1), default=2, help="runs of each worker")
    arguments = parser.parse_args()
    if arguments.presentation:
        rows = oulad.generate(arguments.presentation)
    else:
        rows = backlog(arguments.events, arguments.students, days=arguments.days)
    results = measure(rows, arguments.runs, arguments.partitions, stderr_console())
    best = {model: min(figures, key=lambda run: run["cpu_s"]) for model, figures in results.items()}
    ratio = round(best[_WITH]["cpu_s"] / best[_WITHOUT]["cpu_s"], 2)
    print(json.dumps({"events": len(rows), **best, "ratio": ratio}))
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
