"""One session of measuring: the servers' logs, the rounds, and what comes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

import stack
from app.settings import Settings
from bench import reading
from bench.figures import Latency, Ratio, Run, Series
from bench.job import whole_job
from bench.latency import Load, through_the_app, through_the_floor
from bench.log import backlog
from bench.plain_faust_job import usual_job
from tools.e2e.oracle import ExpectedTables, expected_tables
from tools.replay.log_rows import LogRows
from tools.replay.progress import replay

#: the things that are measured, as the table names them
LABELS: Mapping[str, str] = {
    "read": "read and decode: aiokafka's getmany, no Faust",
    "read-default-gc": "the same, with Python's default collector",
    "read-batches": "the same, through the app's batch reader",
    "job": "the whole job (batch), exactly once",
    "job-changes": "the whole job (changes), exactly once",
    "usual": "the usual Faust way, at least once",
}


@dataclass(frozen=True)
class Plan:
    """What is asked for."""

    events: int
    #: one log of `events` each
    students: Sequence[int]
    partitions: int
    runs: int
    #: events of the log's beginning for RISK_EMIT=changes and for the usual way; 0: not measured
    changes: int
    usual: int
    #: counted seconds 0: latency is not measured
    load: Load
    #: whether reading is also measured with Python's default collector
    default_gc: bool = True


@dataclass
class Report:
    """What a session found. Mutable: grows as it goes on."""

    series: list[Series] = field(default_factory=list)
    latencies: list[Latency] = field(default_factory=list)

    def of(self, key: str, students: int | None = None) -> Series:
        """The series of that key, of the first log or of the one of so many students. Raises KeyError."""
        for one in self.series:
            if one.key == key and students in (None, one.students):
                return one
        raise KeyError(key)

    def ratio(self, students: int | None = None, read: str = "read") -> Ratio:
        """The whole job's CPU over that of reading."""
        return Ratio.of(self.of("job", students), self.of(read, students))

    @property
    def exact(self) -> bool:
        """Whether every end state the app left was exact, and every event of the live load was answered."""
        ours = [one.exact for one in self.series if one.key.startswith("job")]
        return all(ours) and not any(one.unseen for one in self.latencies)


class Session:
    """Measures on servers that run."""

    def __init__(self, servers: stack.Environment, directory: Path, console: Console, tag: str = "bench") -> None:
        """tag: of the topics and groups, nobody else's on these servers; directory: for state and logs."""
        self._directory, self._console, self._tag = directory, console, tag
        self._common = servers.settings
        self.report = Report()

    def run(self, plan: Plan) -> Report:
        """All of it."""
        first, *others = plan.students
        rows = backlog(plan.events, first)
        self.rounds(rows, first, plan, plan.runs, default_gc=plan.default_gc)
        self.smaller(rows, first, plan)
        for students in others:
            # the first log is the one that is quoted; of the others it must be known that they are no worse
            self.rounds(backlog(plan.events, students), students, plan, -(-plan.runs // 2), default_gc=False)
        if plan.load.seconds:
            self.live(plan.load)
        return self.report

    def rounds(self, rows: LogRows, students: int, plan: Plan, count: int, *, default_gc: bool) -> None:
        """Reading and the whole job, one after another, `count` times."""
        source, truth = self._written(f"log-{students}", rows, plan.partitions)
        runs: dict[str, list[Run]] = {}
        for i in range(count):
            for key, way, rested in (
                ("read-batches", "batches", True),
                ("read-default-gc", "getmany", False),
                ("read", "getmany", True),
            ):
                if rested or default_gc:
                    log = self._directory / "reading.log"
                    one = reading.measure(source, truth.events, plan.partitions, way, log, rested=rested)
                    runs.setdefault(key, []).append(self._said(key, one))
            # right after the reading it is held against
            one = whole_job(*self._place(source, f"job-{students}-{i}"), truth)
            runs.setdefault("job", []).append(self._said("job", one))
        self._keep(runs, truth, students)

    def smaller(self, rows: LogRows, students: int, plan: Plan) -> None:
        """What is too slow for the whole log, on its beginning."""
        for key, events in (("job-changes", plan.changes), ("usual", plan.usual)):
            if events:
                source, truth = self._written(key, rows.take(slice(0, events)), plan.partitions)
                variables, log = self._place({**source, "RISK_EMIT": "changes"}, key)
                if key == "usual":
                    one = usual_job(variables, log, truth, plan.partitions)
                else:
                    one = whole_job(variables, log, truth)
                self._keep({key: [self._said(key, one)]}, truth, students)

    def live(self, load: Load) -> None:
        """Latency, of the app and of the floor, one after the other."""
        for name, through in (("floor", through_the_floor), ("app", through_the_app)):
            source = {**self._common, "RISK_SOURCE_TOPIC": f"{self._tag}.live-{name}"}
            variables, _ = self._place(source, f"live-{name}")
            found = through(variables, load, self._directory)
            self._console.print(f"latency, {found.label}: p50 {found.p50_ms:.1f} ms, p99 {found.p99_ms:.1f} ms")
            self.report.latencies.append(found)

    def _written(self, name: str, rows: LogRows, partitions: int) -> tuple[dict[str, str], ExpectedTables]:
        """Settings of a source topic of its own that holds the rows, and what must come of it."""
        source = {**self._common, "RISK_SOURCE_TOPIC": f"{self._tag}.{name}"}
        asyncio.run(replay(Settings.from_env(source), rows, partitions=partitions, console=self._console))
        return source, expected_tables(zip(rows.userid.tolist(), rows.at.tolist(), strict=True))

    def _place(self, source: Mapping[str, str], name: str) -> tuple[dict[str, str], Path]:
        """Settings of a worker that nobody has run yet, and its log."""
        own = {
            "RISK_APP_ID": f"{self._tag}-{name}",
            "RISK_TOPIC_PREFIX": f"{self._tag}-{name}.",
            "RISK_DATADIR": str(self._directory / f"{self._tag}-{name}"),
        }
        return {**source, **own}, self._directory / f"{self._tag}-{name}.log"

    def _said(self, key: str, run: Run) -> Run:
        self._console.print(f"{LABELS[key]}: {run}", highlight=False)
        for line in run.wrong or ():
            self._console.print(f"  {line}", highlight=False, markup=False)
        return run

    def _keep(self, runs: Mapping[str, Sequence[Run]], truth: ExpectedTables, students: int) -> None:
        for key in LABELS:
            if key in runs:
                self.report.series.append(Series(key, LABELS[key], truth.events, students, tuple(runs[key])))
