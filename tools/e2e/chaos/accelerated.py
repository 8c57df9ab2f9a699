"""Chaos while event time runs much faster than the clock, as during Debezium's first snapshot or a replay at speed.

Days of event time pass before a dead worker is replaced. What its partitions hold is late unless stream time waits
for them (models/watermarks.py). Several workers share the partitions; each fault hits one of them.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import stack
from app.settings import Settings
from tools.e2e.chaos.feeder import Feeder
from tools.e2e.chaos.fleet import Fleet, wait_until
from tools.e2e.chaos.verdict import judge
from tools.e2e.chaos.workload import HOUR, generate_workload
from tools.replay.log_rows import LogRows
from tools.replay.sender import prepare

PARTITIONS = 6
WORKERS = 3
#: upper bound of the delay between a click and its log row [ms] → probability
DELAYS_MS: Mapping[int, float] = {5_000: 0.9, HOUR // 2: 0.07, 4 * HOUR: 0.03}
#: longest time until a worker is ready, and until the rest of the log is read [s]
START_S, REST_S = 90.0, 240.0


@dataclass(frozen=True, slots=True)
class AcceleratedResult:
    """The outcome of a run."""

    seed: int
    kills: int
    #: action → number of times it was run
    faults: dict[str, int]
    events: int
    #: event time in the log [days]
    days: float
    lost: int
    duplicated: int
    exact: bool
    #: number of unexpected exits after which a worker was restarted
    restarts: int
    wall_s: float
    differences: list[str]

    @property
    def failures(self) -> list[str]:
        """One line for each requirement that is not met."""
        return self.differences


class _Faults:
    """Injects faults into a random worker each. Mutable: counts."""

    def __init__(self, fleet: Fleet, rng: random.Random, session_s: float) -> None:
        self._fleet, self._rng, self._session_s = fleet, rng, session_s
        self.done: Counter[str] = Counter()

    def one(self) -> str:
        """Inject one fault; return its name. All workers run afterwards."""
        action = self._rng.choice((self.kill, self.wipe, self.terminate, self.suspend))
        self._fleet.sleep(self._rng.uniform(0.2, 2.0))
        action(self._rng.randrange(1, WORKERS + 1))
        self.done[action.__name__] += 1
        return action.__name__

    def kill(self, number: int) -> None:
        """Kill a worker; restart it at once, or when another one has replaced it."""
        self._fleet.kill(number)
        self._fleet.sleep(self._rng.choice((0.0, self._session_s + 3)))
        self._fleet.start(number)

    def wipe(self, number: int) -> None:
        """Kill a worker and restart it without its local state."""
        self._fleet.kill(number)
        self._fleet.wipe(number)
        self._fleet.start(number)

    def terminate(self, number: int) -> None:
        """Stop a worker with SIGTERM and restart it."""
        self._fleet.stop(number)
        self._fleet.start(number)

    def suspend(self, number: int) -> None:
        """Suspend a worker until another one has, or has not quite, replaced it."""
        self._fleet.suspend(number)
        self._fleet.sleep(self._rng.uniform(0.5, self._session_s + 3))
        self._fleet.resume(number)


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent."""

    #: time in which it is sent [s]
    seconds: float
    #: rows a second
    rate: int
    #: event time that passes in one minute [days]
    days_per_minute: float

    def rows(self, seed: int) -> LogRows:
        """Generate the log."""
        pace_ms = round(self.days_per_minute * 24 * HOUR / 60)
        return generate_workload(seed, round(self.rate * self.seconds), self.seconds, 5_000, DELAYS_MS, pace_ms)


def run_accelerated(
    seed: int, load: Load, session_s: float, directory: Path, report: Callable[[str], object]
) -> AcceleratedResult:
    """Send the load while workers fail, let them read the rest, and compare.

    Raises stack.StackError or E2EError if something does not finish.
    """
    began = time.monotonic()
    report(f"seed {seed}: starting Kafka and the schema registry …")
    servers = stack.up(directory / "stack", owner_pid=os.getpid())
    try:
        session = {"RISK_SESSION_TIMEOUT": f"{session_s:g}"}
        variables = {**servers.settings, **session, "RISK_APP_ID": "chaos", "RISK_MODEL": "v2s"}
        fleet = Fleet(variables, directory)
        try:
            return _run(Settings.from_env(variables), fleet, seed, load, session_s, began, report)
        finally:
            fleet.kill_all()
    finally:
        stack.down(directory / "stack")


def _run(
    settings: Settings,
    fleet: Fleet,
    seed: int,
    load: Load,
    session_s: float,
    began: float,
    report: Callable[[str], object],
) -> AcceleratedResult:
    rows = load.rows(seed)
    asyncio.run(prepare(settings, rows, partitions=PARTITIONS))  # creates the topic and the schemas
    for number in range(1, WORKERS + 1):
        fleet.start(number)
    everything = set(range(PARTITIONS))
    wait_until(lambda: _owned(fleet) == everything, START_S, "the workers do not own all partitions", sleep=fleet.sleep)
    feeder = Feeder(settings, rows, load.seconds, PARTITIONS)
    feeder.start()
    faults = _Faults(fleet, random.Random(seed), session_s)
    while not feeder.done:
        started = time.monotonic()
        name = faults.one()
        report(f"{name:<10} {time.monotonic() - started:5.1f} s, {feeder.sent:,} of {len(rows):,} rows sent")
    report("end of faults: reading the remaining log …")
    for number in range(2, WORKERS + 1):
        fleet.stop(number)
    fleet.running[1].wait_idle(timeout=REST_S)
    fleet.stop(1)
    judged = judge(settings, rows, PARTITIONS)
    return AcceleratedResult(
        seed=seed,
        kills=fleet.kills,
        faults=dict(sorted(faults.done.items())),
        events=judged.expected.events,
        days=round((int(rows.at.max()) - int(rows.at.min())) / (24 * HOUR), 1),
        lost=judged.lost,
        duplicated=judged.duplicated,
        exact=not judged.differences,
        restarts=len(fleet.unexpected_exits),
        wall_s=round(time.monotonic() - began, 1),
        differences=judged.differences,
    )


def _owned(fleet: Fleet) -> set[int]:
    stats = [worker.stats() for worker in fleet.running.values()]
    return {p for s in stats if s is not None and s["problem"] is None for p in s["state_partitions"]}
