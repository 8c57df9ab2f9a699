"""A whole chaos run: servers, a log, a schedule of actions, and the comparison with the oracle."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiokafka import TopicPartition

import stack
from app.kafka import topics
from app.kafka.clients import new_admin, new_consumer
from app.settings import Settings
from models.topic_names import TopicNames
from tools.e2e.chaos import verdict
from tools.e2e.chaos.actions import TAKEOVER_S, Action, Context
from tools.e2e.chaos.broker_actions import actions_for
from tools.e2e.chaos.course_log import ZONE, CourseLog, generate_course_log
from tools.e2e.chaos.feeder import Feeder
from tools.e2e.chaos.fleet import Fleet, wait_until
from tools.e2e.chaos.output_monitor import OutputMonitor
from tools.e2e.chaos.repeater import Repeater
from tools.e2e.chaos.workload import count_late
from tools.replay.log_rows import LogRows

#: partitions of the log, and so of the state
PARTITIONS = 4
#: rows sent a second, by number of brokers; workers are down much of the time, so that some rows are always a backlog
RATES = {1: 1_000, 3: 400}
#: time until the first row is in the topic, and until the first worker has partitions [s]
START_S = 120.0
#: time the workers have for the backlog that is left at the end [s]
REST_S = 300.0
#: topic configuration with segments of one second that are cleaned as soon as possible: the changelog that is read
#: back has been compacted while it was written
COMPACTED = {
    "cleanup.policy": "compact",
    "segment.ms": "1000",
    "min.cleanable.dirty.ratio": "0.01",
    "delete.retention.ms": "100",
    "max.compaction.lag.ms": "1000",
}
#: the same with several brokers: a replica that was away until a tombstone had been dropped keeps the deleted record,
#: and a leader hands it out. As with the default of a day, no broker is away for that long
REPLICATED = COMPACTED | {"delete.retention.ms": "600000"}


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of a chaos run."""

    seed: int
    kills: int
    #: action → number of times it was run
    faults: dict[str, int]
    events: int
    #: events out of order
    late: int
    lost: int
    duplicated: int
    #: rows of MOODLE_RISK, alerts opened and closed, and days scored by ticks
    risks: int
    alerts: int
    ticks: int
    exact: bool
    #: longest time without output, and the action during which it ended [s]
    longest_gap_s: float
    longest_gap_in: str
    #: longest time from the kill of one of two workers until the other owned all partitions and wrote rows, and its
    #: upper bound [s]; 0 if the schedule did not come to that action
    takeover_s: float
    takeover_allowed_s: float
    #: number of unexpected exits after which a worker was restarted
    restarts: int
    #: share of the changelog's offsets that compaction has left
    changelog_left: float
    wall_s: float
    differences: list[str]
    #: action → longest gap [s]
    gaps_s: dict[str, float]

    @property
    def failures(self) -> list[str]:
        """One line for each requirement that is not met."""
        if self.takeover_s <= self.takeover_allowed_s:
            return self.differences
        slow = f"the takeover of a killed worker's partitions took {self.takeover_s:g} s"
        return [*self.differences, f"{slow}, allowed: {self.takeover_allowed_s:g} s"]


def schedule(rng: random.Random, actions: Iterable[str]) -> Iterator[str]:
    """Yield the names of all actions in random order, then again in another order, without end."""
    while True:
        names = list(actions)
        rng.shuffle(names)
        yield from names


def run(
    seed: int,
    seconds: float,
    session_s: float,
    directory: Path,
    report: Callable[[str], object],
    only: Sequence[str] = (),
    brokers: int = 1,
    duplicates: bool = False,
) -> Result:
    """Inject faults for `seconds`, let the workers read the remaining log, and compare everything with the oracle.

    report: called with a line of progress; only: names of the actions of the schedule, if not all; brokers: number
    of Kafka's nodes, with faults of their own for three; duplicates: send rows several times, to workers with
    RISK_DEDUPLICATE=log-id. Raises stack.StackError or E2EError if something does not
    finish.
    """
    began = time.monotonic()
    report(f"seed {seed}: starting Kafka and the schema registry …")
    servers = stack.up(directory / "stack", brokers=brokers, owner_pid=os.getpid())
    try:
        variables = {
            **servers.settings,
            "RISK_APP_ID": "chaos",
            "RISK_SESSION_TIMEOUT": f"{session_s:g}",
            "RISK_BATCH_ROWS": "500",
            "RISK_REPLICATION": str(brokers),
            "RISK_STANDBYS": str(seed % 2),
            "RISK_DEDUPLICATE": "log-id" if duplicates else "off",
            "RISK_MODEL": "v2s",
            "RISK_TIMEZONE": ZONE,
        }
        settings = Settings.from_env(variables)
        log = generate_course_log(seed, round(RATES[brokers] * seconds), seconds)
        actions = {
            name: action for name, action in actions_for(brokers).items() if name in (only or actions_for(brokers))
        }
        fleet = Fleet(variables, directory)
        try:
            return _run(settings, servers, log, fleet, seed, seconds, began, report, actions)
        finally:
            fleet.kill_all()
    finally:
        stack.down(directory / "stack")


def _run(
    settings: Settings,
    servers: stack.Environment,
    log: CourseLog,
    fleet: Fleet,
    seed: int,
    seconds: float,
    began: float,
    report: Callable[[str], object],
    actions: Mapping[str, Action],
) -> Result:
    names, rows = settings.topic_names, log.rows
    asyncio.run(_create_changelog(settings, names))
    feeder = Feeder(settings, rows, seconds, PARTITIONS, log.stretches)
    monitor = OutputMonitor(settings, names.agg, lambda: feeder.done)
    repeater = Repeater(settings, rows, seed, PARTITIONS, feeder) if settings.deduplicates else None
    feeder.start()
    wait_until(lambda: feeder.sent > 0, START_S, "the source topic has no row")
    rng, session_s = random.Random(seed), settings.session_timeout_s
    context = Context(
        fleet, monitor, servers, rng, session_s, PARTITIONS, settings, seconds, all_sent=lambda: feeder.done
    )
    fleet.start(1)
    first = fleet.running[1]
    wait_until(lambda: bool((first.stats() or {"lag": None})["lag"]), START_S, "the first worker has not started")
    monitor.start()
    if repeater is not None:
        repeater.start()
    context.wait_for_output()
    monitor.enabled.set()
    faults = _inject(context, seconds, report, actions)
    monitor.action = "the rest"
    report("end of faults: reading the remaining log …")
    feeder.unthrottle()
    while not feeder.done or (repeater is not None and repeater.is_alive()):
        fleet.sleep(0.2)
    monitor.enabled.clear()
    fleet.running[1].wait_idle(timeout=REST_S)
    fleet.stop(1)
    monitor.stop()
    monitor.join()
    return _evaluate(settings, names, rows, context, faults, seed, began)


def _inject(
    context: Context, seconds: float, report: Callable[[str], object], actions: Mapping[str, Action]
) -> Counter[str]:
    faults: Counter[str] = Counter()
    deadline = time.monotonic() + seconds
    for name in schedule(context.rng, actions):
        if time.monotonic() >= deadline:
            break
        began, context.monitor.action = time.monotonic(), name
        actions[name](context)
        context.wait_for_output()
        faults[name] += 1
        report(f"{name:<22} {time.monotonic() - began:5.1f} s, longest gap {context.monitor.gaps[name]:4.1f} s")
    return faults


def _evaluate(
    settings: Settings,
    names: TopicNames,
    rows: LogRows,
    context: Context,
    faults: Counter[str],
    seed: int,
    began: float,
) -> Result:
    fleet, gaps = context.fleet, context.monitor.gaps
    judged = verdict.judge(settings, rows, PARTITIONS)
    differences = judged.differences + verdict.disk_differences(fleet.data(1), judged.tables)
    if settings.deduplicates:
        differences += verdict.log_id_differences(rows.id.tolist(), judged.tables)
    written = asyncio.run(_count_offsets(settings, names.students_changelog))
    longest = max(gaps, key=gaps.__getitem__)
    return Result(
        seed=seed,
        kills=fleet.kills,
        faults=dict(sorted(faults.items())),
        events=judged.expected.events,
        late=count_late(rows),
        lost=judged.lost,
        duplicated=judged.duplicated,
        risks=judged.risk.rows,
        alerts=judged.risk.alerts,
        ticks=judged.risk.ticks,
        exact=not differences,
        longest_gap_s=round(gaps[longest], 1),
        longest_gap_in=longest,
        takeover_s=round(context.takeover_s, 1),
        takeover_allowed_s=context.session_s + TAKEOVER_S,
        restarts=len(fleet.unexpected_exits),
        changelog_left=round(judged.records / max(1, written), 3),
        wall_s=round(time.monotonic() - began, 1),
        differences=differences,
        gaps_s={name: round(gap, 1) for name, gap in sorted(gaps.items())},
    )


async def _create_changelog(settings: Settings, names: TopicNames) -> None:
    """Create the changelog before the app does, with a configuration that compacts it during the run."""
    configs = COMPACTED if settings.replication == 1 else REPLICATED
    changelog = topics.Topic(names.students_changelog, PARTITIONS, configs)
    admin = new_admin(settings)
    await admin.start()
    try:
        await topics.declare(admin, [changelog], settings.replication)
    finally:
        await admin.close()


async def _count_offsets(settings: Settings, topic: str) -> int:
    """Sum the end offsets of a topic's partitions: records, compacted away or not, and transaction markers."""
    async with new_consumer(settings, isolation_level="read_uncommitted") as consumer:
        return sum((await consumer.end_offsets([TopicPartition(topic, p) for p in range(PARTITIONS)])).values())
