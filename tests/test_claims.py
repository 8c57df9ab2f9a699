"""Claims on a real broker: who writes a partition is known to its next owner, and only members can claim."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.errors import ProducerFenced

from app.kafka.clients import new_producer
from app.kafka.group_offsets import claim_of, metadata_of
from app.settings import Settings
from tests.support.cluster import SCHEMA, START, TIMEOUT_S, Deployment, Worker, run_async, until, visit

PARTITIONS = 4


def test_a_claim_is_part_of_the_metadata_of_an_offset() -> None:
    settings = Settings(time_unit="s")
    assert claim_of(metadata_of(settings, "app-5")) == "app-5"
    assert claim_of(metadata_of(settings)) is None
    assert claim_of(None) is None
    assert metadata_of(settings, "app-5").startswith(metadata_of(settings))


def send(deployment: Deployment, schema: int, students: range, at: int) -> None:
    """Send a visit of each student."""
    deployment.send(deployment.names.source, [visit(schema, student, START + at) for student in students])


def applied(worker: Worker) -> int:
    """Return the number of visits that a worker has applied."""
    return int((worker.stats() or {"counts": {}})["counts"].get("visits", 0))


def owns(worker: Worker, count: int) -> Any:
    """Wait until a worker owns so many partitions."""
    return worker.wait(lambda s: s["problem"] is None and len(s["state_partitions"]) == count, timeout=TIMEOUT_S)


@pytest.mark.broker
def test_a_worker_that_keeps_some_partitions_is_not_fenced_by_who_takes_the_others(deployment: Deployment) -> None:
    """Each worker writes all its partitions under one id, which is another one after a rebalance."""
    deployment.make_source(PARTITIONS)
    schema = deployment.register(SCHEMA)
    with deployment.worker(1) as first:
        owns(first, PARTITIONS)
        alone = deployment.claims()
        assert sorted(alone) == list(range(PARTITIONS))
        assert len(set(alone.values())) == 1
        send(deployment, schema, range(20), 0)
        until(lambda: applied(first), lambda n: n == 20)
        # offsets have been committed since, and the claims with them
        first.wait_idle(timeout=TIMEOUT_S)
        assert deployment.claims() == alone
        with deployment.worker(2) as second:
            owns(first, PARTITIONS // 2)
            owns(second, PARTITIONS // 2)
            shared = deployment.claims()
            assert len(set(shared.values())) == 2
            assert not set(shared.values()) & set(alone.values())
            send(deployment, schema, range(20), 1_000)
            until(lambda: applied(first) + applied(second), lambda n: n == 40)
            assert second.stop() == 0
        assert first.stop() == 0
    for worker in (first, second):
        assert "taken over" not in worker.log.read_text()


@pytest.mark.broker
def test_a_worker_of_an_earlier_version_is_fenced(deployment: Deployment) -> None:
    """It made no claim, and wrote each partition under an id of its own."""
    deployment.make_source(1)

    async def begin() -> Any:
        producer = new_producer(deployment.settings, transactional_id=f"{deployment.settings.app_id}-0")
        await producer.start()
        await producer.begin_transaction()
        await producer.send(deployment.names.source, b"", partition=0)
        await producer.flush()
        return producer

    async def run() -> None:
        former = await begin()
        with deployment.worker() as worker:
            owns(worker, 1)
            with pytest.raises(ProducerFenced):
                await former.commit_transaction()
            assert worker.stop() == 0
        await former.stop()

    run_async(run())
