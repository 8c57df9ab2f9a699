"""What the status of the page learns from a real broker about the workers."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from aiokafka.structs import OffsetAndMetadata, TopicPartition

import stack
from app.kafka.clients import new_consumer
from page.reader import workers
from page.reader.workers import Group, Workers
from tests.support.cluster import Deployment, row, run_async, until

pytestmark = pytest.mark.broker


class Loop:
    """A loop for each coroutine, as far as the page's reader is one."""

    def run(self, coroutine: Coroutine[Any, Any, Any], timeout_s: float | None = None) -> Any:
        """Run a coroutine."""
        return asyncio.run(asyncio.wait_for(coroutine, timeout_s))


def test_the_group_has_members_and_a_backlog(
    cluster: stack.Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_KEPT_S", 0.0)
    monkeypatch.setattr(workers, "_PATIENCE_S", 60.0)
    deployment = Deployment.new(cluster, tmp_path)
    source = deployment.names.source
    deployment.make_source(2)
    for partition in (0, 1):
        deployment.send(source, [row(b"x")] * 5, partition)
    asking = Workers(deployment.settings, Loop())
    # a broker makes the topic of the groups when it is first asked for one
    until(asking.group, lambda group: group == Group((), {source: 10}))

    async def while_one_reads() -> Group:
        group = deployment.settings.app_id
        consumer = new_consumer(deployment.settings, source, group_id=group, enable_auto_commit=False)
        try:
            await consumer.start()
            await consumer.commit({TopicPartition(source, 0): OffsetAndMetadata(2, "")})
            return await asyncio.to_thread(asking.group)
        finally:
            await consumer.stop()

    found = run_async(while_one_reads())
    assert (len(found.hosts), dict(found.lags), found.problem) == (1, {source: 8}, "")
    assert asking.group() == Group((), {source: 8})


def test_a_broker_that_is_away_is_said_to_be(tmp_path: Path, cluster: stack.Environment) -> None:
    deployment = Deployment.new(cluster, tmp_path, RISK_BROKER="127.0.0.1:1")
    assert Workers(deployment.settings, Loop()).group().problem.startswith("Kafka does not say:")
