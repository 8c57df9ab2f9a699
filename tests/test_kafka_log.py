"""How the agents' log hands visit batches to its producer."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from app.kafka.log import KafkaLog
from app.settings import Settings


class Producer:
    """Takes record batches, and says that they are written."""

    #: it is not transactional
    _txn_manager = SimpleNamespace(transactional_id=None)

    def __init__(self) -> None:
        #: partition and number of records of each record batch
        self.sent: list[tuple[int, int]] = []

    async def send_batch(self, batch: Any, topic: str, partition: int) -> asyncio.Future[Any]:
        self.sent.append((partition, batch.record_count()))
        answer = asyncio.get_running_loop().create_future()
        answer.set_result(SimpleNamespace(offset=0))
        return answer


async def record_batches(visit_batches: list[list[bytes]]) -> list[tuple[int, int]]:
    log = KafkaLog(Settings(), cast("Any", None), cast("Any", None))
    producer = log._producer = cast("Any", Producer())  # noqa: SLF001
    await log.send_visits(visit_batches)
    return cast("list[tuple[int, int]]", producer.sent)


async def test_visit_batches_of_a_partition_share_a_record_batch():
    """A second one would be another request, and come as a chunk of its own: a deferred heartbeat is mostly there."""
    assert await record_batches([[b"heartbeat", b"visits"], [], [b"visits"]]) == [(0, 2), (2, 1)]


async def test_large_visit_batches_do_not_share_one():
    assert await record_batches([[b"." * 900_000, b"." * 900_000]]) == [(0, 1), (0, 1)]
