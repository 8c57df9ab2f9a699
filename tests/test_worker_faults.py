"""A broker that dies, a disk that is damaged, a changelog that is compacted: all of it live.

On a broker of their own, which is killed at last. Every test reads the same log with an app of its own; those
that leave the broker alone run side by side, for most of it is waiting.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

import stack
from app.kafka import topics
from tests.support import cluster as live
from tests.support.cluster import PATIENCE_S, Place, finish, months, replayed, until, working
from tools.e2e.chaos import verdict
from tools.e2e.chaos.actions import spoil
from tools.e2e.chaos.fleet import Fleet
from tools.e2e.chaos.run import COMPACTED
from tools.e2e.workers import is_idle

pytestmark = pytest.mark.broker

Scenario = Callable[[Place], None]
SCENARIOS: dict[str, Scenario] = {}
#: the one that kills the broker
LAST = "the_broker_is_killed_in_mid_stream"

#: partitions of the log, and so of the state
PARTITIONS = 4
#: an outage of Kafka that ends no worker [s]
SOON_S = 15.0
#: a worker's patience with a Kafka that is away for longer [s]
STALL_S = 10
#: visits in a flush: the backlog lasts
SMALL, LARGE = {"RISK_BATCH_ROWS": "60"}, {"RISK_BATCH_ROWS": "40000"}


@pytest.fixture(scope="module")
def own(servers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Environment]:
    """A broker that may be killed, and that looks every second what there is to compact."""
    directory = tmp_path_factory.mktemp("faults")
    environment = stack.up(directory, owner_pid=os.getpid())

    async def hasten() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=environment.broker)
        await admin.start()
        try:
            every = ConfigResource(ConfigResourceType.BROKER, "1", {"log.cleaner.backoff.ms": "1000"})
            await admin.alter_configs([every])
        finally:
            await admin.close()

    live.run(hasten())
    yield environment
    stack.down(directory)


@pytest.fixture(scope="module")
def played(
    request: pytest.FixtureRequest, own: stack.Environment, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[list[str]]]]:
    """What differs from the recount after each of the scenarios that were chosen."""
    course = replayed(Place.new(own, tmp_path_factory.mktemp("log")), months(students=400, sessions=6_000), PARTITIONS)

    def play(name: str) -> list[str]:
        place = Place.new(own, tmp_path_factory.mktemp(name), RISK_SOURCE_TOPIC=course.topic)
        SCENARIOS[name](place)
        return course.wrong(place)

    chosen = [item.callspec.params.get("name") for item in request.session.items if hasattr(item, "callspec")]
    with ThreadPoolExecutor(len(SCENARIOS)) as together:
        results = {name: together.submit(play, name) for name in SCENARIOS if name in chosen and name != LAST}
        if LAST in chosen:
            results[LAST] = together.submit(lambda: (wait(results.values()), play(LAST))[1])
        yield results


def scenario(play: Scenario) -> Scenario:
    """Have this played by the test below; its docstring is the law."""
    SCENARIOS[play.__name__] = play
    return play


def supervised(fleet: Fleet) -> None:
    """Wait until everything is processed, by workers that are started again when they give up."""

    def idle() -> bool:
        fleet.supervise()
        return is_idle(fleet.running[1].stats() or {"problem": "?"})

    until(idle)
    fleet.running[1].wait_idle(timeout=PATIENCE_S)
    fleet.stop(1)


def copies_are_right(place: Place, number: int = 1) -> None:
    """A worker's RocksDB holds what the changelog does."""
    tables, _ = asyncio.run(verdict.changelog(place.servers.broker, place.names.students_changelog, PARTITIONS))
    assert verdict.wrong_disk(place.state(number), tables) == []


@scenario
def the_broker_is_killed_in_mid_stream(at: Place) -> None:
    """A worker lives on if it is back soon; else it gives up, even with nothing to do, and is started again."""
    fleet = Fleet({**at.variables, **SMALL}, at.directory)
    try:
        working(fleet.start(1), 1_000)
        stack.kill("kafka", at.servers.directory)
        killed = time.monotonic()
        stack.restart("kafka", at.servers.directory)
        away_s, end = time.monotonic() - killed, at.ends(at.names.agg)
        until(lambda: (fleet.supervise(), at.ends(at.names.agg))[1], lambda now: now != end)
        assert not fleet.gave_up or away_s > SOON_S, fleet.gave_up
    finally:
        fleet.end()
    with at.worker(**LARGE, RISK_STALL_TIMEOUT=str(STALL_S)) as worker:
        worker.wait_idle(timeout=PATIENCE_S)
        stack.kill("kafka", at.servers.directory)
        until(lambda: worker.running, lambda running: not running)
        said = worker.log.read_text()
    assert (
        f"moodle-risk: gave up: no progress for {STALL_S + 1} s: Kafka has not answered with the topics' end offsets"
        in said
    )
    stack.restart("kafka", at.servers.directory)
    finish(at)


@scenario
def the_changelog_is_compacted_under_a_running_worker(at: Place) -> None:
    """Records go while others are written; whoever reads what is left, after any number of kills, has all of it."""
    at.declare(topics.Topic(at.names.students_changelog, PARTITIONS, COMPACTED))
    for _ in range(2):
        with at.worker(**SMALL) as worker:
            working(worker, 500)
            here = offsets(at)
            until(lambda here=here: len(offsets(at) & here) / len(here), lambda left: left < 0.5)
            working(worker)
            worker.kill()
        shutil.rmtree(at.state())
    finish(at)
    copies_are_right(at)


def offsets(place: Place) -> set[tuple[int, int]]:
    """Where there is a record in the students' changelog: partition, offset."""

    async def found() -> set[tuple[int, int]]:
        tps = [TopicPartition(place.names.students_changelog, p) for p in range(PARTITIONS)]
        async with AIOKafkaConsumer(bootstrap_servers=place.servers.broker, auto_offset_reset="earliest") as consumer:
            consumer.assign(tps)
            ends, seen = await consumer.end_offsets(tps), set()
            while any([await consumer.position(tp) < ends[tp] for tp in tps]):
                for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                    seen |= {(tp.partition, record.offset) for record in records}
            return seen

    return live.run(found())


@scenario
def a_damaged_disk_is_rebuilt(at: Place) -> None:
    """Whatever is spoilt after a kill: said in the log, a start or two, and everything is as if nothing had been."""
    for visits in (3_000, 500):  # the second start turns the write-ahead log into a table file
        with at.worker(**SMALL) as worker:
            working(worker, visits)
            worker.kill()
    (no_current, gone, rubbish, anything) = databases(at)
    (no_current / "CURRENT").unlink()
    shutil.rmtree(gone)
    for file in rubbish.glob("*.sst"):
        file.write_bytes(b"\x7frubbish" * 20)
    draw = random.Random(11)
    for file in draw.sample(sorted(one for one in anything.iterdir() if one.is_file()), 2):
        spoil(file, draw)
    fleet = Fleet({**at.variables, **LARGE}, at.directory)
    try:
        fleet.start(1)
        supervised(fleet)
    finally:
        fleet.end()
    said = (at.directory / "worker-1.log").read_text()
    for path in (no_current, rubbish):
        assert f"removing {path}, to be rebuilt from the changelog: " in said
    assert len(fleet.gave_up) <= 2, fleet.gave_up
    copies_are_right(at)


def databases(place: Place) -> list[Path]:
    """The students' databases, by partition."""
    found = sorted(place.state().rglob("students-*.db"))
    assert len(found) == PARTITIONS
    return found


@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_is_lost_and_nothing_comes_twice(name: str, played: dict[str, Future[list[str]]]) -> None:
    """Whatever happens: sessions, totals, predictions and alarms are those of a recount."""
    assert played[name].result() == []
