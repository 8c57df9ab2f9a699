"""Workers that are killed, stopped, suspended and joined in the middle of a backlog: nothing lost, nothing twice.

Every scenario reads the same log with an app of its own, so they run side by side: most of a worker's
start is waiting.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import stack
from app.ops.failpoints import POINTS, VARIABLE
from tests.support.cluster import PATIENCE_S, Place, finish, months, replayed, until
from tools.e2e.chaos import verdict
from tools.e2e.workers import Worker

pytestmark = pytest.mark.broker

Scenario = Callable[[Place], None]
SCENARIOS: dict[str, Scenario] = {}

#: how many scenarios run at a time
AT_ONCE = 4
#: how long a worker may take while other scenarios run
LONG_S = 2 * PATIENCE_S
#: visits in a flush: with few, the backlog lasts, and is interrupted at a great many different places
FLUSH = "400"
#: partitions of one app's streams: log, visits and predictions
PARTITIONS = 4 + 4 + 1


def scenario(play: Scenario) -> Scenario:
    """Have this played by the test below; its docstring is the law."""
    SCENARIOS[play.__name__] = play
    return play


@pytest.fixture(scope="module")
def played(
    request: pytest.FixtureRequest, cluster: stack.Environment, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[list[str]]]]:
    """What differs from the recount after each of the scenarios that were chosen."""
    course = replayed(Place.new(cluster, tmp_path_factory.mktemp("log")), months(students=800, sessions=8_000))

    def play(name: str) -> list[str]:
        directory = tmp_path_factory.mktemp(name)
        place = Place.new(cluster, directory, RISK_SOURCE_TOPIC=course.topic, RISK_BATCH_ROWS=FLUSH)
        SCENARIOS[name](place)
        return course.wrong(place)

    params = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {name: pool.submit(play, name) for name in [p["name"] for p in params if p.get("name") in SCENARIOS]}


def applied(stats: dict[str, Any]) -> int:
    """How many visits a worker has applied since it started."""
    return int(stats["counts"].get("visits", 0))


def behind(stats: dict[str, Any]) -> int:
    """How many records of its partitions a worker has not processed yet, as of its last look."""
    return sum(stats["lag"].values())


def progress(worker: Worker, visits: int) -> dict[str, Any]:
    """Wait until the worker has applied so many visits, while there are more to apply."""
    stats = worker.wait(lambda stats: applied(stats) >= visits, timeout=LONG_S)
    assert behind(stats), "the backlog was over too soon"
    return stats


def one_of_two_dies(at: Place, dies: int) -> None:
    with at.worker(1) as first:
        progress(first, 1_500)
        with at.worker(2) as second:
            progress(second, 1_500)
            doomed, survivor = (first, second) if dies == 1 else (second, first)
            survivor.wait(lambda stats: len(stats["lag"]) < PARTITIONS, timeout=LONG_S)
            doomed.kill()
            survivor.wait(lambda stats: len(stats["lag"]) == PARTITIONS, timeout=LONG_S)
            survivor.wait_idle(timeout=LONG_S)


def stats_of(worker: Worker) -> dict[str, Any]:
    return worker.wait(bool, timeout=PATIENCE_S)


@scenario
def the_first_of_two_killed(at: Place) -> None:
    """Partitions go over to a second worker in mid-backlog, and the rest when the first is killed."""
    one_of_two_dies(at, 1)


@scenario
def the_second_of_two_killed(at: Place) -> None:
    """Partitions go over to a second worker in mid-backlog, and back when it is killed."""
    one_of_two_dies(at, 2)


@scenario
def suspended_while_another_takes_over(at: Place) -> None:
    """A worker that sleeps through its own replacement is fenced when it wakes, and joins in again."""
    with at.worker(1) as first:
        progress(first, 1_500)
        with at.worker(2) as second:
            progress(second, 1_000)
            first.process.send_signal(signal.SIGSTOP)
            taken = second.wait(lambda stats: len(stats["lag"]) == PARTITIONS, timeout=LONG_S)
            progress(second, applied(taken) + 1_500)
            first.process.send_signal(signal.SIGCONT)
            second.wait(lambda stats: len(stats["lag"]) < PARTITIONS, timeout=LONG_S)
            first.wait_idle(timeout=LONG_S)
            second.wait_idle(timeout=LONG_S)


@scenario
def killed_and_its_state_kept(at: Place) -> None:
    """kill -9 anywhere in a backlog; the next worker finds the RocksDB as it was."""
    draw = random.Random(3)
    for _ in range(4):
        with at.worker() as worker:
            progress(worker, draw.randrange(1, 6_000))
            assert worker.kill() == -signal.SIGKILL
    finish(at, timeout=LONG_S)


@scenario
def killed_and_its_state_wiped(at: Place) -> None:
    """kill -9 anywhere in a backlog; the next worker has nothing but the changelog."""
    draw = random.Random(5)
    for _ in range(4):
        with at.worker() as worker:
            progress(worker, draw.randrange(1, 6_000))
            worker.kill()
        shutil.rmtree(at.state())
    finish(at, timeout=LONG_S)


@scenario
def killed_while_it_takes_over(at: Place) -> None:
    """kill -9 at any step of a start, with transactions left open by the one before."""
    for step in (b"Joined group", b"taking over partitions", b"Highwater for active", b"Seek stream partitions"):
        with at.worker() as worker:
            progress(worker, 3_000)
            worker.kill()
        said = len(worker.log.read_bytes())
        with at.worker() as again:
            until(lambda log=again.log, said=said: log.read_bytes()[said:], lambda text, step=step: step in text)
            again.kill()
    finish(at, timeout=LONG_S)


@scenario
def asked_to_stop(at: Place) -> None:
    """SIGTERM anywhere in a backlog ends a worker within 10 s with exit code 0."""
    draw = random.Random(4)
    for _ in range(3):
        with at.worker() as worker:
            progress(worker, draw.randrange(1, 6_000))
            began = time.monotonic()
            assert worker.stop() == 0, worker.tail()
            assert time.monotonic() - began < 10
    finish(at, timeout=LONG_S)


@scenario
def asked_to_stop_while_it_takes_over(at: Place) -> None:
    """SIGTERM at any step of a start ends a worker within 10 s with exit code 0."""
    for step in (b"Joined group", b"taking over partitions", b"Highwater for active", b"Seek stream partitions"):
        with at.worker() as worker:
            until(
                lambda log=worker.log: log.exists() and log.read_bytes(), lambda text, step=step: text and step in text
            )
            began = time.monotonic()
            assert worker.stop() == 0, worker.tail()
            assert time.monotonic() - began < 10
        worker.log.unlink()
    finish(at, timeout=LONG_S)


@scenario
def a_second_worker_ten_seconds_later(at: Place) -> None:
    """Months of backlog shared from the middle on: time is the slowest partition's, whoever reads it.

    State is where its visits are read, and a copy of it where it may have to be taken over.
    """
    small = {"RISK_BATCH_ROWS": "40"}  # so that there is a backlog for both of them
    with at.worker(1, **small) as first:
        first.wait(lambda stats: applied(stats) > 0, timeout=LONG_S)
        time.sleep(10)
        assert behind(stats_of(first)) > 0, "the backlog was over too soon"
        with at.worker(2, **small) as second:
            progress(second, 100)
            until(lambda: [owned(first), owned(second)], shared_out, timeout=LONG_S)
    large = {"RISK_BATCH_ROWS": "40000"}
    with at.worker(1, **large) as first, at.worker(2, **large) as second:
        for worker in (first, second):
            worker.wait_idle(timeout=LONG_S)
        time.sleep(2)  # a copy is behind by a fetch
        assert first.stop() == 0
        second.wait(lambda stats: len(stats["lag"]) == PARTITIONS, timeout=LONG_S)
        assert second.stop() == 0
    tables, _ = asyncio.run(verdict.changelog(at.servers.broker, at.names.students_changelog, 4))
    for number in (1, 2):
        assert verdict.wrong_disk(at.state(number), tables) == []


def shared_out(shares: list[tuple[list[int], list[int]]]) -> bool:
    """Whether each worker has some partitions, and their state, and none is anybody else's."""
    together = all(visits and visits == state for visits, state in shares)
    return together and sorted(p for visits, _ in shares for p in visits) == list(range(4))


def owned(worker: Worker) -> tuple[list[int], list[int]]:
    """The partitions of visits that a worker reads, and those whose state it has."""
    stats = worker.wait(lambda stats: stats["problem"] is None, timeout=LONG_S)
    visits = [int(name.rpartition("-")[2]) for name in stats["lag"] if "-visits-" in name]
    return visits, stats["state_partitions"]


def killed_at(point: str, at: Place) -> None:
    """kill -9 at one place of a flush, again and again, RocksDB kept and wiped in turn."""
    draw = random.Random(point)
    for wiped in (False, True, False):
        count = 1 if point == "owned" else draw.randrange(1, 30)
        with at.worker(**{VARIABLE: f"kill@{point}:{count}"}) as worker:
            assert worker.process.wait(LONG_S) == -signal.SIGKILL, worker.tail()
        if wiped:
            shutil.rmtree(at.state())
    finish(at, timeout=LONG_S)


for point in POINTS:
    SCENARIOS[f"killed_at_{point}"] = partial(killed_at, point)


@scenario
def suspended_between_sending_and_committing(at: Place) -> None:
    """A worker that sleeps with its rows sent is fenced before it can commit them."""
    with at.worker(1, **{VARIABLE: "stop@sent:20"}) as first:
        stopped(first)
        with at.worker(2) as second:
            progress(second, 1_000)
            first.process.send_signal(signal.SIGCONT)
            second.wait_idle(timeout=LONG_S)


def stopped(worker: Worker) -> None:
    """Wait until the process has stopped itself."""
    status = Path(f"/proc/{worker.process.pid}/status")
    until(status.read_text, lambda text: "State:\tT" in text, timeout=LONG_S)


@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_is_lost_and_nothing_comes_twice(name: str, played: dict[str, Future[list[str]]]) -> None:
    """Whatever happens to workers in a backlog: sessions, totals, predictions and alarms are those of a recount."""
    assert played[name].result() == []
