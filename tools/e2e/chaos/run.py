"""The whole trial: servers, a log, a schedule of deeds, and the verdict."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

import stack
from app.kafka import topics
from app.settings import Settings
from models.topic_names import TopicNames
from tools.e2e.chaos import verdict
from tools.e2e.chaos.actions import DEEDS, TAKEOVER_S, Deed, Trial
from tools.e2e.chaos.feeder import Feeding
from tools.e2e.chaos.fleet import Fleet
from tools.e2e.chaos.output_monitor import Watch
from tools.e2e.chaos.workload import course, late
from tools.e2e.oracle import recount
from tools.e2e.workers import TrialError
from tools.replay.log_rows import LogRows

#: partitions of the log, and so of the state
PARTITIONS = 4
#: rows a second: some of it is always a backlog, for workers are away much of the time
RATE = 1_000
#: segments of a second, cleaned as soon as they can be: what is read back has been compacted while it was written
COMPACTED = {
    "cleanup.policy": "compact",
    "segment.ms": "1000",
    "min.cleanable.dirty.ratio": "0.01",
    "delete.retention.ms": "100",
    "max.compaction.lag.ms": "1000",
}


@dataclass(frozen=True, slots=True)
class Result:
    """What a trial found."""

    seed: int
    kills: int
    #: deed → how often
    faults: dict[str, int]
    events: int
    #: of them out of order
    late: int
    lost: int
    duplicated: int
    exact: bool
    #: the longest time in which nothing came out, and in which deed [s]
    longest_gap_s: float
    longest_gap_in: str
    #: the longest time from the kill of one of two workers until the other had all partitions and rows came out, and
    #: how long it may be at most [s]; 0 where that deed did not come
    takeover_s: float
    takeover_allowed_s: float
    #: how often a worker ended by itself and was started again
    restarts: int
    #: records of the changelog that compaction has left of all that were written
    changelog_left: float
    wall_s: float
    differences: list[str]
    #: deed → longest gap [s]
    gaps_s: dict[str, float]

    @property
    def shortcomings(self) -> list[str]:
        """What is not as it must be, a line each."""
        slow = f"a killed worker's partitions were taken over after {self.takeover_s:g} s, "
        late = [slow + f"allowed: {self.takeover_allowed_s:g} s"] if self.takeover_s > self.takeover_allowed_s else []
        return [*self.differences, *late]


def schedule(draw: random.Random) -> Iterator[str]:
    """Every deed once, in an order of its own, and again in another one."""
    while True:
        names = list(DEEDS)
        draw.shuffle(names)
        yield from names


def run(
    seed: int, seconds: float, session_s: float, directory: Path, say: Callable[[str], object], only: str = ""
) -> Result:
    """Break things for `seconds`, then let the rest be read, and compare everything with the truth.

    only: one deed over and over instead of a schedule. Raises stack.StackError or TrialError where something does
    not come to its end.
    """
    began = time.monotonic()
    say(f"seed {seed}: starting Kafka and the registry …")
    servers = stack.up(directory / "stack", owner_pid=os.getpid())
    try:
        variables = {
            **servers.settings,
            "RISK_APP_ID": "chaos",
            "RISK_SESSION_TIMEOUT": f"{session_s:g}",
            "RISK_BATCH_ROWS": "500",
        }
        settings = Settings.from_env(variables)
        rows = course(seed, round(RATE * seconds), seconds)
        fleet = Fleet(variables, directory)
        try:
            return _tried(settings, servers, rows, fleet, seed, seconds, began, say, only)
        finally:
            fleet.end()
    finally:
        stack.down(directory / "stack")


def _tried(
    settings: Settings,
    servers: stack.Environment,
    rows: LogRows,
    fleet: Fleet,
    seed: int,
    seconds: float,
    began: float,
    say: Callable[[str], object],
    only: str,
) -> Result:
    names = settings.topic_names
    asyncio.run(_declare(settings, names))
    feeding = Feeding(settings, rows, seconds, PARTITIONS)
    watch = Watch(settings.broker, names.agg)
    feeding.start()
    _wait(lambda: feeding.sent > 0, 30.0, "the log has no row")
    draw, session_s = random.Random(seed), settings.session_timeout_s
    trial = Trial(fleet, watch, servers, draw, session_s, PARTITIONS, sent=lambda: feeding.over)
    fleet.start(1)
    _wait(lambda: bool((fleet.running[1].stats() or {"lag": None})["lag"]), 60.0, "the first worker does not start")
    watch.start()
    trial.wait_for_rows()
    watch.looking.set()
    faults = _break(trial, seconds, say, only)
    watch.deed = "the rest"
    say("no more faults: reading the rest …")
    feeding.hurry()
    while not feeding.over:
        fleet.pause(0.2)
    watch.looking.clear()
    fleet.running[1].wait_idle(timeout=120.0)
    fleet.stop(1)
    watch.over()
    watch.join()
    return _judge(settings, names, rows, trial, faults, seed, began)


def _break(trial: Trial, seconds: float, say: Callable[[str], object], only: str) -> Counter[str]:
    faults: Counter[str] = Counter()
    until = time.monotonic() + seconds
    for name in schedule(trial.draw):
        if only and name != only:
            continue
        if time.monotonic() >= until:
            break
        began, trial.watch.deed = time.monotonic(), name
        _do(DEEDS[name], trial)
        faults[name] += 1
        say(f"{name:<16} {time.monotonic() - began:5.1f} s, longest gap {trial.watch.gaps[name]:4.1f} s")
    return faults


def _do(deed: Deed, trial: Trial) -> None:
    deed(trial)
    trial.wait_for_rows()


def _judge(
    settings: Settings,
    names: TopicNames,
    rows: LogRows,
    trial: Trial,
    faults: Counter[str],
    seed: int,
    began: float,
) -> Result:
    fleet, watch = trial.fleet, trial.watch
    truth = recount(zip(rows.userid.tolist(), rows.at.tolist(), strict=True))
    outputs = asyncio.run(verdict.outputs(settings.broker, names, settings.topic_prefix))
    tables, count = asyncio.run(verdict.changelog(settings.broker, names.students_changelog, PARTITIONS))
    wrong = verdict.wrong_rows(truth, outputs) + verdict.wrong_state(truth, tables)
    wrong += verdict.wrong_disk(fleet.data(1), tables)
    written = asyncio.run(_written(settings.broker, names.students_changelog))
    lost, twice = verdict.balance(truth, outputs)
    longest = max(watch.gaps, key=watch.gaps.__getitem__)
    return Result(
        seed=seed,
        kills=fleet.kills,
        faults=dict(sorted(faults.items())),
        events=truth.events,
        late=late(rows),
        lost=lost,
        duplicated=twice,
        exact=not wrong,
        longest_gap_s=round(watch.gaps[longest], 1),
        longest_gap_in=longest,
        takeover_s=round(trial.takeover_s, 1),
        takeover_allowed_s=trial.session_s + TAKEOVER_S,
        restarts=len(fleet.gave_up),
        changelog_left=round(count / max(1, written), 3),
        wall_s=round(time.monotonic() - began, 1),
        differences=wrong,
        gaps_s={name: round(gap, 1) for name, gap in sorted(watch.gaps.items())},
    )


async def _declare(settings: Settings, names: TopicNames) -> None:
    """Make the changelog before the app does, so that it is compacted all the while."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.broker)
    await admin.start()
    try:
        await topics.declare(admin, [topics.Topic(names.students_changelog, PARTITIONS, COMPACTED)], 1)
    finally:
        await admin.close()


async def _written(broker: str, topic: str) -> int:
    """Offsets given out in all partitions of a topic: records, compacted away or not, and transactions' markers."""
    async with AIOKafkaConsumer(bootstrap_servers=broker) as consumer:
        return sum((await consumer.end_offsets([TopicPartition(topic, p) for p in range(PARTITIONS)])).values())


def _wait(done: Callable[[], bool], seconds: float, problem: str) -> None:
    give_up = time.monotonic() + seconds
    while not done():
        if time.monotonic() > give_up:
            raise TrialError(f"{problem} after {seconds:g} s")
        time.sleep(0.1)
