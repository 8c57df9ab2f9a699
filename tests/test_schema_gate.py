"""A source partition waits for a writer's schema alone: the others go on, and nothing changes its order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agents.ports import Delivery
from agents.schema_gate import SchemaGate
from app.errors import ConfigError
from codec.avro_schema import Json
from codec.moodle_log import LogDecoder, Plans
from models.chunk import Chunk
from tests.test_moodle_log import PLAIN, plain


class Registry:
    """Knows schema 1; others when the test sets them."""

    def __init__(self) -> None:
        self.known: dict[int, asyncio.Future[Json]] = {}

    async def schema(self, schema_id: int) -> Json:
        if schema_id == 1:
            schema: Json = PLAIN
            return schema
        return await self.known.setdefault(schema_id, asyncio.get_running_loop().create_future())


class Pauses:
    """A log that remembers what each paused partition waits for."""

    def __init__(self) -> None:
        self.waits_for: dict[int, str] = {}

    def pause(self, topic: str, partition: int, waits_for: str = "") -> None:
        self.waits_for[partition] = waits_for


class Gate:
    """A gate, its registry, and what has come out of it: (partition, start, whether it waits)."""

    def __init__(self) -> None:
        self.registry, self.log = Registry(), Pauses()
        log: Any = self.log
        self.gate = SchemaGate(log, "log", LogDecoder(self.registry))
        self.queue: asyncio.Queue[Delivery | None] = asyncio.Queue()
        self.out: list[tuple[int, int, bool]] = []
        self.has_next: list[bool] = []
        self.plans: list[Plans] = []
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async for delivery, plans in self.gate.passed(self._deliveries()):
            self.out.append((delivery.chunk.partition, delivery.chunk.start, plans is None))
            self.has_next.append(delivery.has_next)
            self.plans.append(plans or {})

    async def _deliveries(self) -> AsyncIterator[Delivery]:
        while (delivery := await self.queue.get()) is not None:
            yield delivery

    def send(self, partition: int, start: int, *schema_ids: int, generation: int = 1, has_next: bool = False) -> None:
        values = [plain(7, 1, i) for i in schema_ids]
        n = len(values)
        chunk = Chunk("log", partition, range(start, start + n), [None] * n, values, start, start + n, start + n)
        self.queue.put_nowait(Delivery(chunk, generation, frozenset({0, 1}), has_next))

    async def until(self, n: int) -> list[tuple[int, int, bool]]:
        """Wait until n deliveries have come out, and return them."""
        async with asyncio.timeout(10):
            while len(self.out) < n and not self.task.done():
                await asyncio.sleep(0.01)
        assert len(self.out) == n
        return self.out


async def test_other_partitions_go_on_and_each_keeps_its_order() -> None:
    gate = Gate()
    gate.send(1, 0, 1)
    gate.send(0, 0, 2)
    gate.send(0, 1, 1)
    gate.send(1, 1, 1)
    assert await gate.until(4) == [(1, 0, False), (0, 0, True), (0, 1, True), (1, 1, False)]
    assert gate.gate.is_waiting(0)
    assert "schema id 2" in gate.log.waits_for[0]
    gate.registry.known[2].set_result(PLAIN)
    assert (await gate.until(6))[4:] == [(0, 0, False), (0, 1, False)]
    assert not gate.gate.is_waiting(0)
    gate.queue.put_nowait(None)
    await gate.task


async def test_a_delivery_that_waits_lets_nothing_wait_for_it() -> None:
    """What was said to follow at once has come, as a delivery that waits; later nothing follows the one that waited."""
    gate = Gate()
    gate.send(1, 0, 1, has_next=True)
    gate.send(0, 0, 2, has_next=True)
    gate.send(1, 1, 1)
    await gate.until(3)
    gate.registry.known[2].set_result(PLAIN)
    await gate.until(4)
    assert gate.has_next == [True, True, False, False]
    gate.queue.put_nowait(None)
    await gate.task


async def test_a_schema_that_comes_at_once_costs_no_wait() -> None:
    gate = Gate()
    gate.registry.known[2] = asyncio.get_running_loop().create_future()
    gate.registry.known[2].set_result(PLAIN)
    gate.send(0, 0, 2)
    assert await gate.until(1) == [(0, 0, False)]
    assert not gate.log.waits_for
    gate.queue.put_nowait(None)
    await gate.task


async def test_what_waits_is_dropped_with_its_generation() -> None:
    """After a rebalance it is delivered again to its owner, possibly another worker."""
    gate = Gate()
    gate.send(0, 0, 2)
    await gate.until(1)
    gate.send(1, 5, 1, generation=2)
    assert (await gate.until(2))[1:] == [(1, 5, False)]
    assert not gate.gate.is_waiting(0)
    gate.queue.put_nowait(None)
    await gate.task


async def test_the_end_of_the_deliveries_waits_for_what_waits() -> None:
    gate = Gate()
    gate.send(0, 0, 2)
    gate.queue.put_nowait(None)
    await gate.until(1)
    gate.registry.known[2].set_result(None)
    await gate.task
    assert gate.out == [(0, 0, True), (0, 0, False)]
    assert list(gate.plans[1]) == [2]


async def test_refused_access_ends_the_agent() -> None:
    gate = Gate()
    gate.send(0, 0, 2)
    await gate.until(1)
    gate.registry.known[2].set_exception(ConfigError("HTTP 401"))
    with pytest.raises(ConfigError):
        await gate.task
