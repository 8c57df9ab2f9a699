"""Three brokers: one of them dies, is silent or has lost its disk, while a worker runs or starts.

The nodes are Kafka 4's, so that every run of the tests has the whole job on that version too.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import stack
from app.kafka.clients import without_silent_brokers
from app.settings import Settings
from stack.kafka import NODES
from stack.server import HOST
from tests.conftest import require_servers
from tests.support.cluster import TIMEOUT_S, Deployment, months_of_rows, replay_rows, until, wait_for_visits
from tools.e2e.chaos.broker_actions import BROKER_ACTIONS, actions_for
from tools.e2e.chaos.fleet import Fleet
from tools.e2e.chaos.replicas import GROUP, TRANSACTION, Replicas

#: version of the three nodes
VERSION = "4.1"
SMALL = {"RISK_BATCH_ROWS": "60", "RISK_REPLICATION": "3"}


@pytest.fixture(scope="module")
def trio(servers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Environment]:
    """Three brokers and a registry for the tests of this file only, which may kill them."""
    require_servers(version=VERSION)
    directory = tmp_path_factory.mktemp("trio")
    yield stack.up(directory, brokers=len(NODES), version=VERSION, owner_pid=os.getpid())
    stack.down(directory)


@pytest.mark.long
@pytest.mark.broker
def test_the_brokers_that_coordinate_a_worker_are_killed(trio: stack.Environment, tmp_path: Path) -> None:
    """The coordinator of its group dies, is replaced with an empty disk; then that of a transactional id dies."""
    deployment = Deployment.new(trio, tmp_path, **SMALL)
    workload = replay_rows(deployment, months_of_rows(students=300, sessions=3_000))
    replicas = Replicas(deployment.settings)
    fleet = Fleet(deployment.variables, tmp_path)
    try:
        wait_for_visits(fleet.start(1), 500)
        first = NODES[replicas.coordinator(deployment.settings.app_id, GROUP) - 1]
        stack.kill(first, trio.directory)
        visits = visits_of(fleet)
        until(lambda: visits_of(fleet), lambda now: now > visits, timeout=TIMEOUT_S)
        stack.wipe(first, trio.directory)
        stack.restart(first, trio.directory)
        until(lambda: (fleet.supervise(), replicas.out_of_sync())[1], lambda missing: not missing, timeout=TIMEOUT_S)
        second = NODES[replicas.coordinator(replicas.claims()[0], TRANSACTION) - 1]
        stack.kill(second, trio.directory)
        until(lambda: idle(fleet), timeout=2 * TIMEOUT_S)
        fleet.running[1].wait_idle(timeout=TIMEOUT_S)
        fleet.stop(1)
    finally:
        fleet.kill_all()
    assert workload.differences(deployment) == []
    assert {(p.topic, len(p.replicas)) for p in replicas.partitions() if len(p.replicas) != 3} == set()


def visits_of(fleet: Fleet) -> int:
    """Return the number of visits that the worker has applied; it is restarted if it has exited."""
    fleet.supervise()
    return int((fleet.running[1].stats() or {"counts": {}})["counts"].get("visits", 0))


def idle(fleet: Fleet) -> bool:
    """Whether the worker has nothing left to do; it is restarted if it has exited."""
    fleet.supervise()
    stats = fleet.running[1].stats()
    return stats is not None and stats["problem"] is None and bool(stats["lag"]) and not any(stats["lag"].values())


@pytest.mark.broker
def test_a_worker_starts_although_a_broker_is_silent(deployment: Deployment) -> None:
    """RISK_BROKER lists a suspended broker too, whose port accepts connections and never answers."""
    deployment.make_source()
    with socket.create_server((HOST, 0)) as silent:
        brokers = f"{HOST}:{silent.getsockname()[1]},{deployment.servers.broker}"
        with deployment.worker(RISK_BROKER=brokers) as worker:
            worker.wait(lambda stats: stats["problem"] is None and bool(stats["lag"]), timeout=TIMEOUT_S)


@pytest.mark.broker
async def test_silent_brokers_are_left_out(cluster: stack.Environment) -> None:
    with socket.create_server((HOST, 0)) as silent, socket.create_server((HOST, 0)) as other:
        first, second = (f"{HOST}:{server.getsockname()[1]}" for server in (silent, other))
        settings = Settings(broker=f"{first},{second},{cluster.broker}")
        assert (await without_silent_brokers(settings)).brokers == [cluster.broker]


def test_three_brokers_have_faults_of_their_own() -> None:
    one, three = actions_for(1), actions_for(3)
    assert "broker" in one
    assert not set(BROKER_ACTIONS) & set(one)
    assert set(three) == set(one) - {"broker"} | set(BROKER_ACTIONS)


def test_half_of_the_logs_are_removed_and_none_of_the_metadata(tmp_path: Path) -> None:
    from tools.e2e.chaos.broker_actions import damage_logs

    for name in ("__cluster_metadata-0", "a-0", "b-0", "b-1", "c-0"):
        (tmp_path / name).mkdir()
    (tmp_path / "meta.properties").touch()
    damage_logs(tmp_path, random.Random(1))
    left = {path.name for path in tmp_path.iterdir()}
    assert {"__cluster_metadata-0", "meta.properties"} <= left
    assert len(left) == 2 + 2
