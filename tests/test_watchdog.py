"""A worker that makes no progress logs why and exits; one that works, is idle or was suspended does not."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import pytest

import stack
from app.kafka import topics
from app.kafka.claims import fence
from app.ops.failpoints import VARIABLE
from app.ops.watchdog import StallDetector, Status, Watchdog
from tests.support.cluster import RETAINED, SCHEMA, START, TIMEOUT_S, Deployment, run_async, visit

CHECKS = 5


def end_of(reports: Iterable[Status | None], checks: int = CHECKS) -> tuple[int, str] | None:
    """Return at which check a worker with these reports must end, and why; None if it need not.

    reports: what the event loop reports before each check; None: nothing.
    """
    detector, count, last = StallDetector(checks), 0, Status("starting")
    for at, report in enumerate(reports):
        if report is not None:
            count, last = count + 1, report
        if (reason := detector.check(count, last)) is not None:
            return at, reason
    return None


def test_occasional_progress_is_enough() -> None:
    assert end_of(Status("12 records wait", i // CHECKS) for i in range(200)) is None


def test_an_idle_worker_is_not_stalled() -> None:
    assert end_of([Status(None)] * 200) is None


def test_work_without_progress_is_a_stall() -> None:
    end = end_of([Status(None), *[Status("12 records wait", 7)] * 20])
    assert end == (CHECKS + 2, "no progress for 6 s: 12 records wait")


def test_each_step_restarts_the_count() -> None:
    reports = [*[Status("a", 1)] * CHECKS, *[Status("a", 2)] * CHECKS, *[Status("b", 2)] * CHECKS]
    assert end_of(reports) is None


def test_a_blocked_event_loop_is_detected_even_if_it_was_idle() -> None:
    end = end_of([Status(None), *[None] * 20])
    assert end == (CHECKS + 1, "the event loop has been blocked for 6 s")


def test_a_worker_that_does_not_stop_in_time_is_ended() -> None:
    end = end_of([Status("stopping", i, stopping=True) for i in range(30)], checks=60)
    assert end is not None
    assert end[1] == "asked to stop, and still running after 11 s"


def test_the_thread_runs_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.ops.watchdog.INTERVAL_S", 0.01)
    reasons: list[str] = []
    stalled = Watchdog(0.05, end=reasons.append)
    stalled.start()
    stalled.join(5)
    assert len(reasons) == 1
    stopped = Watchdog(0.05, end=reasons.append)
    stopped.start()
    stopped.close()
    stopped.join(5)
    assert len(reasons) == 1


#: failpoint at which a worker gets stuck → beginning of its last line
STUCK = {
    "hang@sent:2": "no progress for {s} s: ",
    "hang@framed:1": "no progress for {s} s: 300 records of topic {source} partition 0 wait",
    "block@written:2": "the event loop has been blocked for {s} s",
    "hang@owned:1": "no progress for {s} s: waiting for ",
}
STALL_S = 9


def deploy(deployment: Deployment) -> Deployment:
    """Create the source topic with 300 events."""
    schema = deployment.make_source()
    deployment.send(deployment.names.source, [visit(schema, n, START + n * 1000) for n in range(300)])
    return deployment


@pytest.fixture(scope="module")
def results(cluster: stack.Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[str]]]:
    """Exit code and last line of a worker by failpoint. They run concurrently, since all of it is waiting."""

    def run(fault: str) -> str:
        deployment = deploy(Deployment.new(cluster, tmp_path_factory.mktemp("stuck"), RISK_BATCH_ROWS="100"))
        with deployment.worker(RISK_STALL_TIMEOUT=str(STALL_S), **{VARIABLE: fault}) as worker:
            code = worker.process.wait(2 * TIMEOUT_S)
        return f"{code} {worker.tail(1).replace(deployment.names.source, '{source}')}"

    with ThreadPoolExecutor(len(STUCK)) as pool:
        yield {fault: pool.submit(run, fault) for fault in STUCK}


@pytest.mark.broker
@pytest.mark.parametrize("fault", STUCK)
def test_a_worker_that_is_stuck_ends_itself(results: dict[str, Future[str]], fault: str) -> None:
    """Wherever it is stuck, it exits with 1 and one clear last line."""
    expected = STUCK[fault].format(s=STALL_S + 1, source="{source}")
    assert results[fault].result().startswith(f"1 moodle-risk: gave up: {expected}")


@pytest.mark.broker
def test_a_partition_that_nobody_can_write_ends_the_worker(deployment: Deployment) -> None:
    """The worker's producer is fenced and no other worker has come.

    The broker does that by itself when it could not be reached for the length of the transaction's timeout.
    """
    deployment.declare(topics.Topic(deployment.names.source, 2, RETAINED))
    schema = deployment.register(SCHEMA)

    with deployment.worker(RISK_STALL_TIMEOUT="5") as worker:
        worker.wait(lambda stats: stats["problem"] is None and bool(stats["lag"]), timeout=TIMEOUT_S)
        run_async(fence(deployment.settings, deployment.claims().values()))
        for n in range(round(TIMEOUT_S)):
            if not worker.running:
                break
            # students of both partitions of visits; the source's partitions share one clock
            rows = [visit(schema, student, START + n * 1000) for student in range(20)]
            for partition in range(2):
                deployment.send(deployment.names.source, rows, partition)
            time.sleep(0.5)
        assert worker.process.wait(1) == 1, worker.tail()
    changelog = deployment.names.students_changelog
    expected = f"{changelog}-0, {changelog}-1 taken over, and the group does not rebalance"
    assert worker.tail(1) == f"moodle-risk: gave up: no progress for 6 s: {expected}"


@pytest.mark.broker
def test_a_spare_worker_may_stay_idle(deployment: Deployment) -> None:
    """With more workers than partitions, one without any partition keeps running."""
    deploy(deployment)
    with ExitStack() as running:
        workers = [running.enter_context(deployment.worker(n, RISK_STALL_TIMEOUT="5")) for n in range(1, 6)]
        for worker in workers:
            worker.wait(lambda stats: stats["problem"] is None, timeout=TIMEOUT_S)
        assert [w for w in workers if not (w.stats() or {}).get("lag")]
        time.sleep(8)
        assert all(worker.running for worker in workers)
