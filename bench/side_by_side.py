"""Measure what an event costs several workers on one machine together, and one alone.

In turn, one worker and several, for each number of standby copies, share the partitions of a log. Once each has its own
they are suspended until the whole log is written, and then process it. Prints one line of JSON on stdout. Fails if an
end state is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from app.settings import Settings
from bench.environment import SAME_WORK, at_least, stderr_console, temporary_servers
from bench.figures import Run
from bench.job import TIMEOUT_S, Stats, check_outputs, finished
from bench.procfs import cpu_s, peak_mb
from bench.synthetic_log import backlog
from tools.e2e.oracle import expected_tables
from tools.e2e.workers import Worker
from tools.replay.log_rows import LogRows
from tools.replay.progress import replay

#: rows that are in the log before the workers start, so that topic and schema exist
_FIRST = 1_000
#: what lets workers be suspended for as long as the log is written: neither the group nor their watchdogs notice
_SUSPENDED = {"RISK_SESSION_TIMEOUT": "60", "RISK_STALL_TIMEOUT": "600"}
#: interval of requests to each worker, which cost it 1 to 2 ms of CPU [s]
_POLL_S = 0.5


class SideBySide:
    """Workers that were started with the same settings."""

    def __init__(self, variables: Mapping[str, str], workers: int, directory: Path) -> None:
        own = {**variables, **_SUSPENDED, "RISK_DATADIR": str(directory / "data"), "RISK_WEB_PORT": "0"}
        directory.mkdir()
        self._settings = Settings.from_env(variables)
        self._workers = [Worker(own, directory / f"worker-{i}.log", level="warn") for i in range(workers)]

    def measure(self, rows: LogRows, partitions: int, console: Console, *, live: bool = False) -> Run:
        """Let the workers process the log's rows after the first ones. Raises E2EError if they do not.

        live: while they are written, and not only once they all are.
        """
        with ExitStack() as running:
            for worker in self._workers:
                running.enter_context(worker)
            self._wait(lambda stats: is_shared(stats, partitions) and self._finished(stats) >= _FIRST)
            before, began = self._cpu_s(), time.monotonic()
            if not live:
                self._signal(signal.SIGSTOP)
            asyncio.run(replay(self._settings, rows, partitions=partitions, console=console))
            if not live:
                began = time.monotonic()
                self._signal(signal.SIGCONT)
            self._wait(lambda stats: self._finished(stats) >= len(rows))
            took, used = time.monotonic() - began, self._cpu_s() - before
            events = len(rows) - _FIRST
            return Run(events / took, used / events * 1e6, sum(peak_mb(w.process.pid) for w in self._workers))

    def _finished(self, stats: Sequence[Stats]) -> int:
        return finished(added(stats), self._settings)

    def _wait(self, done: Callable[[Sequence[Stats]], bool]) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            stats = [worker.wait(lambda _: True, timeout=60) for worker in self._workers]
            if done(stats):
                return
            if time.monotonic() > deadline:
                self._workers[0].wait(lambda _: False, timeout=0)  # raises E2EError with the last stats
            time.sleep(_POLL_S)

    def _signal(self, number: int) -> None:
        for worker in self._workers:
            worker.process.send_signal(number)

    def _cpu_s(self) -> float:
        return sum(cpu_s(worker.process.pid) for worker in self._workers)


def is_shared(stats: Sequence[Stats], partitions: int) -> bool:
    """Whether all are ready, and have as many partitions of the students as each other, as far as possible."""
    owned = [len(each["state_partitions"]) for each in stats]
    return all(s["problem"] is None for s in stats) and sum(owned) == partitions and max(owned) - min(owned) <= 1


def added(stats: Sequence[Stats]) -> dict[str, Any]:
    """Return the counts of several workers as those of one."""
    numbers: Counter[str] = Counter()
    rows: Counter[str] = Counter()
    for each in stats:
        numbers.update({name: n for name, n in each["counts"].items() if isinstance(n, int)})
        rows.update(each["counts"].get("rows", {}))
    return {"counts": {**numbers, "rows": dict(rows)}}


class Group(NamedTuple):
    """Workers that are measured together."""

    workers: int
    #: RISK_STANDBYS
    standbys: int


def figures(runs: Mapping[Group, Sequence[Run]]) -> dict[str, Any]:
    """Return the JSON fields of the runs by group; ratio: of the best CPU to that of the fewest workers."""
    rows = []
    least = min(run.cpu_us_per_event for run in runs[min(runs)])
    for (workers, standbys), series in sorted(runs.items()):
        cpu = [run.cpu_us_per_event for run in series]
        rows.append(
            {
                "workers": workers,
                "standbys": standbys,
                "cpu_us_per_event": {"best": round(min(cpu), 3), "median": round(statistics.median(cpu), 3)},
                "events_per_s": round(max(run.events_per_s for run in series)),
                "rss_mb": round(max(run.rss_mb for run in series)),
                "ratio": round(min(cpu) / least, 3),
            }
        )
    return {"runs": rows, "exact": not any(run.wrong for series in runs.values() for run in series)}


def main(
    events: int, students: int, partitions: int, workers: int, standbys: Sequence[int], count: int, *, live: bool
) -> int:
    """Measure, print one line of JSON, and return the exit code."""
    console = stderr_console()
    rows = backlog(events, students)
    truth = expected_tables(zip(rows.userid.tolist(), rows.at.tolist(), strict=True))
    runs: dict[Group, list[Run]] = {group: [] for group in (Group(1, 0), *(Group(workers, n) for n in standbys))}
    with temporary_servers("side-by-side") as (servers, directory):
        for i in range(count):
            for group in runs:
                name = f"side{i}-{group.workers}-{group.standbys}"
                variables = {
                    **servers.settings,
                    **SAME_WORK,
                    "RISK_STANDBYS": str(group.standbys),
                    "RISK_APP_ID": name,
                    "RISK_SOURCE_TOPIC": f"{name}.log",
                    "RISK_TOPIC_PREFIX": f"{name}.",
                }
                first = rows.take(slice(0, _FIRST))
                asyncio.run(replay(Settings.from_env(variables), first, partitions=partitions, console=console))
                together = SideBySide(variables, group.workers, directory / name)
                run = together.measure(rows, partitions, console, live=live)
                runs[group].append(replace(run, wrong=check_outputs(variables, truth)))
                console.print(f"{group.workers} workers, {group.standbys} standbys: {runs[group][-1]}", highlight=False)
    log = {"events": len(rows), "students": students, "partitions": partitions, "live": live}
    print(json.dumps({**log, **figures(runs)}))
    return 0 if figures(runs)["exact"] else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser(
        prog="python -m bench.side_by_side", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--events", type=at_least(2 * _FIRST), default=1_000_000, help="number of events")
    parser.add_argument("--students", type=at_least(1), default=5_000, help="number of students")
    parser.add_argument("--partitions", type=at_least(2), default=8, help="partitions of the log")
    parser.add_argument("--workers", type=at_least(2), default=4, help="number of workers beside each other")
    parser.add_argument("--standbys", type=at_least(0), nargs="+", default=[0], help="values of RISK_STANDBYS for them")
    parser.add_argument("--runs", type=at_least(1), default=3, dest="count", metavar="RUNS", help="runs of each")
    parser.add_argument("--live", action="store_true", help="process the rows while they are written")
    sys.exit(main(**vars(parser.parse_args())))
