"""Workers that are started with the same settings share the partitions, each in a place of its own."""

from __future__ import annotations

import json
import time
from itertools import chain
from pathlib import Path

import pytest

import stack
from tests.support.cluster import TIMEOUT_S, Deployment, months_of_rows, replay_rows
from tests.support.forked_worker import ForkedWorker

pytestmark = pytest.mark.broker


class Machine:
    """A machine on which workers of one app run, all with the same settings. Mutable."""

    def __init__(self, deployment: Deployment) -> None:
        self.data = deployment.directory / "data"
        self._settings = {**deployment.variables, "RISK_DATADIR": str(self.data), "RISK_WEB_PORT": "0"}
        self._logs = deployment.directory
        self.workers: list[ForkedWorker] = []

    def start(self) -> ForkedWorker:
        worker = ForkedWorker(self._settings, self._logs / f"worker-{len(self.workers)}.log").start()
        self.workers.append(worker)
        return worker

    def owned(self) -> list[list[int]]:
        """The partitions of the students that each running worker has."""
        stats = [worker.stats() for worker in self.workers if worker.running]
        return [[] if answer is None else answer["state_partitions"] for answer in stats]

    def shared(self, partitions: int) -> bool:
        """Whether each partition has one worker, and each worker a partition."""
        owned = self.owned()
        return all(owned) and sorted(chain(*owned)) == list(range(partitions))


def wait(machine: Machine, partitions: int) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not machine.shared(partitions):
        assert time.monotonic() < deadline, (machine.owned(), [w.tail() for w in machine.workers])
        time.sleep(0.2)


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.long)])
def test_workers_with_the_same_settings_share_the_partitions_and_are_exact(
    count: int, cluster: stack.Environment, tmp_path: Path
) -> None:
    """One is killed, and started again: it has its place again, with the databases that are there."""
    deployment = Deployment.new(cluster, tmp_path, RISK_BATCH_ROWS="1000")
    workload = replay_rows(deployment, months_of_rows(students=500, days=30, sessions=4_000), partitions=count)
    machine = Machine(deployment)
    try:
        for _ in range(count):
            machine.start()
        wait(machine, partitions=count)
        places = [worker.place for worker in machine.workers]
        assert sorted(places) == list(range(count))
        ports = [worker.port for worker in machine.workers]
        assert len(set(ports)) == count
        killed = machine.workers[1]
        stats = killed.stats()
        assert stats is not None
        assert (stats["place"], stats["web_port"]) == (places[1], ports[1])
        databases = machine.data / str(places[1]) / "v1" / "tables"
        before = {path.name for path in databases.glob("students-*.db")}
        killed.kill()
        assert before
        again = machine.start()
        wait(machine, partitions=count)
        assert again.place == places[1]
        assert f"place {again.place}: state in {machine.data / str(again.place)}, pages at" in again.log.read_text()
        assert before <= {path.name for path in databases.glob("students-*.db")}
        for worker in machine.workers:
            if worker.running:
                worker.wait_idle(timeout=TIMEOUT_S)
        targets = [json.loads(path.read_text())[0]["targets"] for path in machine.data.glob("web-*.json")]
        assert sorted(targets) == sorted([f"127.0.0.1:{w.port}"] for w in machine.workers if w.running)
    finally:
        for worker in machine.workers:
            if worker.running:
                assert worker.stop() == 0, worker.tail()
    assert list(machine.data.glob("web-*")) == []
    assert sorted(path.name for path in machine.data.iterdir()) == ["0", "1", "2"][:count]
    assert workload.differences(deployment) == []
