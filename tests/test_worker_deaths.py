"""Workers that are killed, stopped, suspended and joined during a backlog: no event is lost or counted twice.

All scenarios read the same log, each with its own deployment, and run concurrently: starting a worker is mostly
waiting.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import stack
from app.ops.failpoints import POINTS, VARIABLE
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
from tools.e2e.chaos.verdict import disk_differences, read_changelog
from tools.e2e.workers import Worker
from tools.replay.log_rows import LogRows
from tools.replay.sender import prepare, produce

pytestmark = pytest.mark.broker

SCENARIOS = Scenarios()
#: registers a scenario for the test at the end of this file
scenario = SCENARIOS.register

#: number of scenarios that run concurrently
CONCURRENCY = 4
#: upper bound for everything a scenario waits for while others run [s]
LONG_S = 2 * TIMEOUT_S
#: visits in a flush: with few, the backlog lasts, and is interrupted at many different positions
BATCH_ROWS = "400"
#: partitions of one deployment's streams: log, visits and predictions
PARTITIONS = 4 + 4 + 1
#: log messages of a starting worker, in order
START_MESSAGES = (b"Joined group", b"taking over partitions", b"Highwater for active", b"Seek stream partitions")


@pytest.fixture(scope="module")
def results(
    request: pytest.FixtureRequest, cluster: stack.Environment, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[list[str]]]]:
    """The differences from the oracle after each selected scenario."""
    workload = replay_rows(Deployment.new(cluster, tmp_path_factory.mktemp("log")), log_rows())

    def play(name: str) -> list[str]:
        settings = {"RISK_SOURCE_TOPIC": workload.topic, "RISK_BATCH_ROWS": BATCH_ROWS}
        deployment = Deployment.new(cluster, tmp_path_factory.mktemp(name), **settings)
        SCENARIOS[name](deployment)
        return workload.differences(deployment)

    with ThreadPoolExecutor(CONCURRENCY) as pool:
        yield {name: pool.submit(play, name) for name in SCENARIOS.selected(request)}


def log_rows() -> LogRows:
    """Return the log that all scenarios read."""
    return months_of_rows(students=800, sessions=8_000)


def visits_of(stats: dict[str, Any]) -> int:
    """Return the number of visits a worker has applied since it started."""
    return int(stats["counts"].get("visits", 0))


def wait_for_partitions(worker: Worker, done: Callable[[int], bool]) -> dict[str, Any]:
    """Wait until `done` accepts the number of partitions assigned to a worker. Return its /stats."""
    return worker.wait(lambda stats: done(len(stats["lag"])), timeout=LONG_S)


def wait_for_all_partitions(worker: Worker) -> dict[str, Any]:
    """Wait until a worker has all partitions. Return its /stats."""
    return wait_for_partitions(worker, lambda n: n == PARTITIONS)


def stop_in_time(worker: Worker) -> None:
    """Stop a worker with SIGTERM: it must exit with 0 within 10 s."""
    began = time.monotonic()
    assert worker.stop() == 0, worker.tail()
    assert time.monotonic() - began < 10


def kill_one_of_two(deployment: Deployment, doomed: int) -> None:
    with deployment.worker(1) as first:
        wait_for_visits(first, 1_500, timeout=LONG_S)
        with deployment.worker(2) as second:
            wait_for_visits(second, 1_500, timeout=LONG_S)
            killed, survivor = (first, second) if doomed == 1 else (second, first)
            wait_for_partitions(survivor, lambda n: n < PARTITIONS)
            killed.kill()
            wait_for_all_partitions(survivor)
            survivor.wait_idle(timeout=LONG_S)


@scenario
def the_first_of_two_killed(deployment: Deployment) -> None:
    """Partitions move to a second worker during a backlog, and the rest of them when the first is killed."""
    kill_one_of_two(deployment, 1)


@scenario
def the_second_of_two_killed(deployment: Deployment) -> None:
    """Partitions move to a second worker during a backlog, and back when it is killed."""
    kill_one_of_two(deployment, 2)


@scenario
def suspended_while_another_takes_over(deployment: Deployment) -> None:
    """A worker suspended until it has been replaced is fenced when it resumes, and rejoins the group."""
    with deployment.worker(1) as first:
        wait_for_visits(first, 1_500, timeout=LONG_S)
        with deployment.worker(2) as second:
            wait_for_visits(second, 1_000, timeout=LONG_S)
            first.process.send_signal(signal.SIGSTOP)
            stats = wait_for_all_partitions(second)
            wait_for_visits(second, visits_of(stats) + 1_500, timeout=LONG_S)
            first.process.send_signal(signal.SIGCONT)
            wait_for_partitions(second, lambda n: n < PARTITIONS)
            first.wait_idle(timeout=LONG_S)
            second.wait_idle(timeout=LONG_S)


@scenario
def killed_and_its_state_kept(deployment: Deployment) -> None:
    """SIGKILL at random moments of a backlog; the next worker finds the RocksDB as the kill left it."""
    rng = random.Random(3)
    for _ in range(4):
        with deployment.worker() as worker:
            wait_for_visits(worker, rng.randrange(1, 6_000), timeout=LONG_S)
            assert worker.kill() == -signal.SIGKILL
    run_to_end(deployment, timeout=LONG_S)


@scenario
def killed_and_its_state_wiped(deployment: Deployment) -> None:
    """SIGKILL at random moments of a backlog; the next worker has only the changelog."""
    rng = random.Random(5)
    for _ in range(4):
        with deployment.worker() as worker:
            wait_for_visits(worker, rng.randrange(1, 6_000), timeout=LONG_S)
            worker.kill()
        shutil.rmtree(deployment.state())
    run_to_end(deployment, timeout=LONG_S)


@scenario
def killed_while_it_takes_over(deployment: Deployment) -> None:
    """SIGKILL at each step of a start, with transactions left open by the previous worker."""
    for message in START_MESSAGES:
        with deployment.worker() as worker:
            wait_for_visits(worker, 3_000, timeout=LONG_S)
            worker.kill()
        begin = len(worker.log.read_bytes())
        with deployment.worker() as again:
            until(partial(read_from, again.log, begin), partial(contains, message))
            again.kill()
    run_to_end(deployment, timeout=LONG_S)


@scenario
def asked_to_stop(deployment: Deployment) -> None:
    """SIGTERM at random moments of a backlog ends a worker within 10 s with exit code 0."""
    rng = random.Random(4)
    for _ in range(3):
        with deployment.worker() as worker:
            wait_for_visits(worker, rng.randrange(1, 6_000), timeout=LONG_S)
            stop_in_time(worker)
    run_to_end(deployment, timeout=LONG_S)


@scenario
def asked_to_stop_while_it_takes_over(deployment: Deployment) -> None:
    """SIGTERM at each step of a start ends a worker within 10 s with exit code 0."""
    for message in START_MESSAGES:
        with deployment.worker() as worker:
            until(partial(read_from, worker.log, 0), partial(contains, message))
            stop_in_time(worker)
        worker.log.unlink()
    run_to_end(deployment, timeout=LONG_S)


def read_from(log: Path, begin: int) -> bytes:
    """Return the content of a log from a byte on; empty if there is no log yet."""
    return log.read_bytes()[begin:] if log.exists() else b""


def contains(message: bytes, text: bytes) -> bool:
    return message in text


@scenario
def a_second_worker_ten_seconds_later(deployment: Deployment) -> None:
    """A backlog of months is shared from the middle on; time is the slowest partition's, whichever worker reads it.

    State is where its visits are read, and a copy of it on the worker that may have to take it over.
    """
    small = {"RISK_BATCH_ROWS": "40"}  # so that the backlog lasts for both workers
    with deployment.worker(1, **small) as first:
        first.wait(lambda stats: visits_of(stats) > 0, timeout=LONG_S)
        time.sleep(10)
        assert sum(first.wait(bool, timeout=TIMEOUT_S)["lag"].values()), "no backlog is left"
        with deployment.worker(2, **small) as second:
            wait_for_visits(second, 100, timeout=LONG_S)
            until(lambda: [owned(first), owned(second)], is_shared, timeout=LONG_S)
    large = {"RISK_BATCH_ROWS": "40000", "RISK_STANDBYS": "1"}
    with deployment.worker(1, **large) as first, deployment.worker(2, **large) as second:
        for worker in (first, second):
            worker.wait_idle(timeout=LONG_S)
        time.sleep(2)  # a standby copy is behind by one fetch
        assert first.stop() == 0
        wait_for_all_partitions(second)
        assert second.stop() == 0
    tables, _ = asyncio.run(read_changelog(deployment.settings, 4))
    for number in (1, 2):
        assert disk_differences(deployment.state(number), tables) == []


def is_shared(shares: list[tuple[list[int], list[int]]]) -> bool:
    """Whether each worker has some partitions, with their state, and each partition has one owner."""
    consistent = all(visits and visits == state for visits, state in shares)
    return consistent and sorted(p for visits, _ in shares for p in visits) == list(range(4))


def owned(worker: Worker) -> tuple[list[int], list[int]]:
    """Return the partitions of visits that a worker reads, and those whose state it has."""
    stats = worker.wait(lambda stats: stats["problem"] is None, timeout=LONG_S)
    visits = [int(name.rpartition("-")[2]) for name in stats["lag"] if "-visits-" in name]
    return visits, stats["state_partitions"]


def killed_at(point: str, deployment: Deployment) -> None:
    """SIGKILL at one failpoint of a flush, three times, with RocksDB kept and wiped in turn."""
    rng = random.Random(point)
    for wiped in (False, True, False):
        count = 1 if point == "owned" else rng.randrange(1, 30)
        with deployment.worker(**{VARIABLE: f"kill@{point}:{count}"}) as worker:
            assert worker.process.wait(LONG_S) == -signal.SIGKILL, worker.tail()
        if wiped:
            shutil.rmtree(deployment.state())
    run_to_end(deployment, timeout=LONG_S)


@scenario
def killed_while_a_log_is_read_that_is_sent_twice(deployment: Deployment) -> None:
    """SIGKILL at points of a flush, in both copies of the log: with RISK_DEDUPLICATE=log-id each row counts once."""
    own = {"RISK_SOURCE_TOPIC": f"{deployment.settings.app_id}.twice", "RISK_DEDUPLICATE": "log-id"}
    deployment = replace(deployment, variables={**deployment.variables, **own})

    async def send() -> None:
        plan = await prepare(deployment.settings, log_rows(), partitions=4)
        for _ in range(2):
            await produce(plan)

    run_async(send())
    rng = random.Random(6)
    for i, point in enumerate(("sent", "committed", "written", "sent")):
        with deployment.worker(**{VARIABLE: f"kill@{point}:{rng.randrange(20, 90)}"}) as worker:
            assert worker.process.wait(LONG_S) == -signal.SIGKILL, worker.tail()
        if i == 1:
            shutil.rmtree(deployment.state())
    run_to_end(deployment, timeout=LONG_S)


#: the failpoints of a tick, which these workers have none of: tests/test_risk_live.py has them
TICK_POINTS = ("summed", "scored")

for point in (p for p in POINTS if p not in TICK_POINTS):
    SCENARIOS[f"killed_at_{point}"] = partial(killed_at, point)


@scenario
def suspended_between_sending_and_committing(deployment: Deployment) -> None:
    """A worker suspended with its rows sent is fenced before it can commit them."""
    with deployment.worker(1, **{VARIABLE: "stop@sent:20"}) as first:
        wait_for_suspension(first)
        with deployment.worker(2) as second:
            wait_for_visits(second, 1_000, timeout=LONG_S)
            first.process.send_signal(signal.SIGCONT)
            second.wait_idle(timeout=LONG_S)


def wait_for_suspension(worker: Worker) -> None:
    """Wait until the failpoint has suspended the process."""
    status = Path(f"/proc/{worker.process.pid}/status")
    until(status.read_text, lambda text: "State:\tT" in text, timeout=LONG_S)


#: those of which others are in part: `make test` has little time, and chaos kills at these points too
LONG = (
    "the_second_of_two_killed",
    "a_second_worker_ten_seconds_later",
    "killed_while_it_takes_over",
    "killed_at_begun",
    "killed_at_committed",
    "killed_at_processed",
    "killed_at_sent",
    "killed_while_a_log_is_read_that_is_sent_twice",
)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] if name in LONG else []) for name in SCENARIOS]
)
def test_nothing_is_lost_and_nothing_comes_twice(name: str, results: dict[str, Future[list[str]]]) -> None:
    """The output topics match the oracle after each scenario of faults in workers during a backlog."""
    assert results[name].result() == []
