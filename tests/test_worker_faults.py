"""A broker that dies, a disk that is damaged, a changelog that is compacted, each while a worker runs.

They have a broker of their own, which the last scenario kills. All scenarios read the same log, each with its own
deployment; those that leave the broker alone run concurrently, since most of their time is waiting.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

import stack
from app.kafka import topics
from tests.support.cluster import (
    TIMEOUT_S,
    Deployment,
    months_of_rows,
    replay_rows,
    run_async,
    run_to_end,
    until,
    wait_for_visits,
)
from tests.support.scenarios import Scenarios
from tools.e2e.chaos.actions import damage_file
from tools.e2e.chaos.fleet import Fleet
from tools.e2e.chaos.run import COMPACTED
from tools.e2e.chaos.verdict import disk_differences, read_changelog
from tools.e2e.workers import is_idle

pytestmark = pytest.mark.broker

SCENARIOS = Scenarios()
#: registers a scenario for the test at the end of this file
scenario = SCENARIOS.register
#: the scenario that kills the broker
LAST = "the_broker_is_killed_in_mid_stream"

#: partitions of the log, and so of the state
PARTITIONS = 4
#: length of an outage of Kafka that no worker gives up on [s]
SHORT_OUTAGE_S = 15.0
#: RISK_STALL_TIMEOUT in the scenario of a long outage [s]
STALL_S = 10
#: few visits in a flush, so that the backlog lasts; or many
SMALL, LARGE = {"RISK_BATCH_ROWS": "60"}, {"RISK_BATCH_ROWS": "40000"}


@pytest.fixture(scope="module")
def own_cluster(servers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Environment]:
    """A broker that may be killed, and whose log cleaner runs every second."""
    directory = tmp_path_factory.mktemp("faults")
    environment = stack.up(directory, owner_pid=os.getpid())

    async def speed_up_cleaner() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=environment.broker)
        await admin.start()
        try:
            backoff = ConfigResource(ConfigResourceType.BROKER, "1", {"log.cleaner.backoff.ms": "1000"})
            await admin.alter_configs([backoff])
        finally:
            await admin.close()

    run_async(speed_up_cleaner())
    yield environment
    stack.down(directory)


@pytest.fixture(scope="module")
def results(
    request: pytest.FixtureRequest, own_cluster: stack.Environment, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[list[str]]]]:
    """The differences from the oracle after each selected scenario."""
    rows = months_of_rows(students=400, sessions=6_000)
    workload = replay_rows(Deployment.new(own_cluster, tmp_path_factory.mktemp("log")), rows, PARTITIONS)

    def play(name: str) -> list[str]:
        deployment = Deployment.new(own_cluster, tmp_path_factory.mktemp(name), RISK_SOURCE_TOPIC=workload.topic)
        SCENARIOS[name](deployment)
        return workload.differences(deployment)

    selected = SCENARIOS.selected(request)
    with ThreadPoolExecutor(len(SCENARIOS)) as pool:
        results = {name: pool.submit(play, name) for name in selected if name != LAST}
        if LAST in selected:
            results[LAST] = pool.submit(lambda: (wait(results.values()), play(LAST))[1])
        yield results


def supervise_to_end(fleet: Fleet) -> None:
    """Wait until everything is processed, restarting the worker when it exits, and stop it."""

    def idle() -> bool:
        fleet.supervise()
        return is_idle(fleet.running[1].stats() or {"problem": "?"})

    until(idle)
    fleet.running[1].wait_idle(timeout=TIMEOUT_S)
    fleet.stop(1)


def assert_disk_matches_changelog(deployment: Deployment) -> None:
    """The worker's RocksDB holds what the changelog does."""
    changelog = read_changelog(deployment.settings, PARTITIONS)
    tables, _ = asyncio.run(changelog)
    assert disk_differences(deployment.state(), tables) == []


@scenario
def the_broker_is_killed_in_mid_stream(deployment: Deployment) -> None:
    """A worker survives a short outage of Kafka; in a long one it gives up, even when idle, and can be restarted."""
    fleet, agg = Fleet({**deployment.variables, **SMALL}, deployment.directory), deployment.names.agg
    try:
        wait_for_visits(fleet.start(1), 1_000)
        stack.kill("kafka", deployment.servers.directory)
        killed = time.monotonic()
        stack.restart("kafka", deployment.servers.directory)
        outage_s, end = time.monotonic() - killed, deployment.ends(agg)
        until(lambda: (fleet.supervise(), deployment.ends(agg))[1], lambda now: now != end)
        assert not fleet.unexpected_exits or outage_s > SHORT_OUTAGE_S, fleet.unexpected_exits
    finally:
        fleet.kill_all()
    with deployment.worker(**LARGE, RISK_STALL_TIMEOUT=str(STALL_S)) as worker:
        worker.wait_idle(timeout=TIMEOUT_S)
        stack.kill("kafka", deployment.servers.directory)
        until(lambda: worker.running, lambda running: not running)
        text = worker.log.read_text()
    assert (
        f"moodle-risk: gave up: no progress for {STALL_S + 1} s: Kafka has not answered with the topics' end offsets"
        in text
    )
    stack.restart("kafka", deployment.servers.directory)
    run_to_end(deployment)


@scenario
def the_changelog_is_compacted_under_a_running_worker(deployment: Deployment) -> None:
    """Records are compacted away while others are written; after any number of kills the state is still complete."""
    deployment.declare(topics.Topic(deployment.names.students_changelog, PARTITIONS, COMPACTED))
    for _ in range(2):
        with deployment.worker(**SMALL) as worker:
            wait_for_visits(worker, 500)
            wait_for_compaction(deployment)
            wait_for_visits(worker)
            worker.kill()
        shutil.rmtree(deployment.state())
    run_to_end(deployment)
    assert_disk_matches_changelog(deployment)


def wait_for_compaction(deployment: Deployment) -> None:
    """Wait until half of the records that are in the changelog now have been compacted away."""
    before = changelog_offsets(deployment)
    until(lambda: len(changelog_offsets(deployment) & before) / len(before), lambda left: left < 0.5)


def changelog_offsets(deployment: Deployment) -> set[tuple[int, int]]:
    """Return (partition, offset) of each record in the students' changelog."""

    async def read() -> set[tuple[int, int]]:
        tps = [TopicPartition(deployment.names.students_changelog, p) for p in range(PARTITIONS)]
        broker = deployment.servers.broker
        async with AIOKafkaConsumer(bootstrap_servers=broker, auto_offset_reset="earliest") as consumer:
            consumer.assign(tps)
            ends, seen = await consumer.end_offsets(tps), set()
            while any([await consumer.position(tp) < ends[tp] for tp in tps]):
                for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                    seen |= {(tp.partition, record.offset) for record in records}
            return seen

    return run_async(read())


@scenario
def a_damaged_disk_is_rebuilt(deployment: Deployment) -> None:
    """Damage of any kind after a kill is logged, and repaired from the changelog within at most two restarts."""
    for visits in (3_000, 500):  # the second start turns the write-ahead log into a table file
        with deployment.worker(**SMALL) as worker:
            wait_for_visits(worker, visits)
            worker.kill()
    (without_current, removed, overwritten, random_damage) = databases(deployment)
    (without_current / "CURRENT").unlink()
    shutil.rmtree(removed)
    for file in overwritten.glob("*.sst"):
        file.write_bytes(b"\x7frubbish" * 20)
    rng = random.Random(11)
    for file in rng.sample(sorted(path for path in random_damage.iterdir() if path.is_file()), 2):
        damage_file(file, rng)
    fleet = Fleet({**deployment.variables, **LARGE}, deployment.directory)
    try:
        fleet.start(1)
        supervise_to_end(fleet)
    finally:
        fleet.kill_all()
    text = (deployment.directory / "worker-1.log").read_text()
    for path in (without_current, overwritten):
        assert f"removing {path}, to be rebuilt from the changelog: " in text
    assert len(fleet.unexpected_exits) <= 2, fleet.unexpected_exits
    assert_disk_matches_changelog(deployment)


def databases(deployment: Deployment) -> list[Path]:
    """Return the directories of the students' databases, by partition."""
    paths = sorted(deployment.state().rglob("students-*.db"))
    assert len(paths) == PARTITIONS
    return paths


@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_is_lost_and_nothing_comes_twice(name: str, results: dict[str, Future[list[str]]]) -> None:
    """The output topics match the oracle after each scenario of faults in servers."""
    assert results[name].result() == []
