"""Sending to a real broker."""

from __future__ import annotations

import pytest
from aiokafka.admin import NewPartitions

from app.kafka.clients import new_admin, new_producer
from app.kafka.producer import last_offset, send_rows, wait_for_partitions
from codec.record import NO_HEADERS
from tests.support.cluster import TIMEOUT_S, Deployment, run_async

pytestmark = pytest.mark.broker


def test_rows_for_partitions_that_were_made_a_moment_before(deployment: Deployment) -> None:
    """A client keeps the number of partitions that it was told; `grow` sends to new ones."""
    deployment.make_source(1)
    topic = deployment.names.source

    async def send() -> int:
        admin, producer = new_admin(deployment.settings), new_producer(deployment.settings)
        await admin.start()
        await producer.start()
        try:
            assert await producer.partitions_for(topic) == {0}
            await admin.create_partitions({topic: NewPartitions(3)})
            await wait_for_partitions(producer, topic, 3, TIMEOUT_S)
            return await last_offset(await send_rows(producer, topic, 2, [(0, b"k", b"v", NO_HEADERS)]))
        finally:
            await producer.stop()
            await admin.close()

    assert run_async(send()) == 0
