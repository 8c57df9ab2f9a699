"""A measuring session: writes logs to the servers and measures the programs on them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

import stack
from app.settings import Settings
from bench import reading
from bench.environment import SAME_WORK, own_settings
from bench.figures import Latency, Ratio, Run, Series
from bench.job import whole_job
from bench.latency import Load, measure, running_app, running_bare_loop
from bench.plain_faust_job import plain_faust_job
from bench.synthetic_log import backlog
from tools.e2e.oracle import ExpectedTables, expected_tables
from tools.replay.log_rows import LogRows
from tools.replay.progress import replay

#: labels of the measured programs by key
LABELS: Mapping[str, str] = {
    "read": "read and decode: aiokafka's getmany, no Faust",
    "read-default-gc": "the same, with Python's default collector",
    "read-batches": "the same, through the app's batch reader",
    "job": "the whole job (batch), exactly once",
    "job-changes": "the whole job (changes), exactly once",
    "usual": "the same job in plain Faust, at least once",
}


@dataclass(frozen=True)
class Plan:
    """What to measure."""

    events: int
    #: one log of `events` events for each number of students
    students: Sequence[int]
    partitions: int
    #: runs on the first log
    runs: int
    #: events from the start of the log for RISK_EMIT=changes and for plain Faust; 0: not measured
    changes: int
    plain_faust: int
    #: if its `seconds` are 0, latency is not measured
    load: Load
    #: also measure reading with Python's default settings of the garbage collector
    default_gc: bool = True


@dataclass
class Report:
    """Results of a session. Mutable: filled while it runs."""

    series: list[Series] = field(default_factory=list)
    latencies: list[Latency] = field(default_factory=list)

    def of(self, key: str, students: int | None = None) -> Series:
        """Return the series of `key` on the first log, or on the one with `students`. Raises KeyError."""
        for series in self.series:
            if series.key == key and students in (None, series.students):
                return series
        raise KeyError(key)

    def ratio(self, students: int | None = None, read: str = "read") -> Ratio:
        """Return the whole job's CPU divided by that of reading."""
        return Ratio.of(self.of("job", students), self.of(read, students))

    @property
    def exact(self) -> bool:
        """Whether every end state of the app was exact and every event of the live load had a prediction."""
        exact = [series.exact for series in self.series if series.key.startswith("job")]
        return all(exact) and not any(latency.unseen for latency in self.latencies)


class Session:
    """Measures on running servers."""

    def __init__(self, servers: stack.Environment, directory: Path, console: Console, tag: str = "bench") -> None:
        """directory: for state and logs; tag: prefix of topics and groups, unique on these servers."""
        self._directory, self._console, self._tag = directory, console, tag
        self._common = {**servers.settings, **SAME_WORK}
        self.report = Report()

    def run(self, plan: Plan) -> Report:
        """Carry out the plan."""
        first, *others = plan.students
        rows = backlog(plan.events, first)
        self.run_rounds(rows, first, plan, plan.runs, default_gc=plan.default_gc)
        self.run_prefixes(rows, first, plan)
        for students in others:
            # only the first log's figures are quoted: fewer runs suffice for the others
            self.run_rounds(backlog(plan.events, students), students, plan, -(-plan.runs // 2), default_gc=False)
        if plan.load.seconds:
            self.run_latency(plan.load)
        return self.report

    def run_rounds(self, rows: LogRows, students: int, plan: Plan, count: int, *, default_gc: bool) -> None:
        """Measure reading and the whole job in turn, `count` times."""
        source, truth = self._write_log(f"log-{students}", rows, plan.partitions)
        runs: dict[str, list[Run]] = {}
        for i in range(count):
            for key, reader, tuned_gc in (
                ("read-batches", "batches", True),
                ("read-default-gc", "getmany", False),
                ("read", "getmany", True),
            ):
                if tuned_gc or default_gc:
                    log = self._directory / "reading.log"
                    result = reading.measure(source, truth.events, plan.partitions, reader, log, tuned_gc=tuned_gc)
                    runs.setdefault(key, []).append(self._print(key, result))
            # right after the reading to which it is compared
            result = whole_job(*self._worker_settings(source, f"job-{students}-{i}"), truth)
            runs.setdefault("job", []).append(self._print("job", result))
        self._add(runs, truth, students)

    def run_prefixes(self, rows: LogRows, students: int, plan: Plan) -> None:
        """Measure the slow programs on the start of the log."""
        for key, events in (("job-changes", plan.changes), ("usual", plan.plain_faust)):
            if events:
                source, truth = self._write_log(key, rows.take(slice(0, events)), plan.partitions)
                variables, log = self._worker_settings({**source, "RISK_EMIT": "changes"}, key)
                if key == "usual":
                    result = plain_faust_job(variables, log, truth, plan.partitions)
                else:
                    result = whole_job(variables, log, truth)
                self._add({key: [self._print(key, result)]}, truth, students)

    def run_latency(self, load: Load) -> None:
        """Measure the latency of the bare loop, then of the app."""
        for name, running in (("bare-loop", running_bare_loop), ("app", running_app)):
            source = {**self._common, "RISK_SOURCE_TOPIC": f"{self._tag}.live-{name}"}
            variables, _ = self._worker_settings(source, f"live-{name}")
            with running(variables, load.partitions, self._directory) as target:
                latency = measure(target, load, self._directory)
            self._console.print(f"latency, {latency.label}: p50 {latency.p50_ms:.1f} ms, p99 {latency.p99_ms:.1f} ms")
            self.report.latencies.append(latency)

    def _write_log(self, name: str, rows: LogRows, partitions: int) -> tuple[dict[str, str], ExpectedTables]:
        """Write the rows to a new source topic; return its settings and the expected output."""
        source = {**self._common, "RISK_SOURCE_TOPIC": f"{self._tag}.{name}"}
        asyncio.run(replay(Settings.from_env(source), rows, partitions=partitions, console=self._console))
        return source, expected_tables(zip(rows.userid.tolist(), rows.at.tolist(), strict=True))

    def _worker_settings(self, source: Mapping[str, str], name: str) -> tuple[dict[str, str], Path]:
        """Return the settings of a new worker, and its log file."""
        own_name = f"{self._tag}-{name}"
        return {**source, **own_settings(own_name, self._directory)}, self._directory / f"{own_name}.log"

    def _print(self, key: str, run: Run) -> Run:
        self._console.print(f"{LABELS[key]}: {run}", highlight=False)
        for line in run.wrong or ():
            self._console.print(f"  {line}", highlight=False, markup=False)
        return run

    def _add(self, runs: Mapping[str, Sequence[Run]], truth: ExpectedTables, students: int) -> None:
        for key in LABELS:
            if key in runs:
                self.report.series.append(Series(key, LABELS[key], truth.events, students, tuple(runs[key])))
