"""Flushes that come together share a transaction, its commit and its failure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import InvalidProducerIdMapping, KafkaError, KafkaTimeoutError

from app.state.transactions import Transactions
from app.state.writes import Writes
from codec.record import NO_HEADERS


class Producer:
    """A transactional producer that records its calls; `fail`: the error of the next call of each name."""

    def __init__(self, rig: Rig, fail: dict[str, Exception] | None = None) -> None:
        self.rig, self.fail = rig, fail or {}
        self._txn_manager = None

    async def _step(self, name: str) -> None:
        self.rig.steps.append(name)
        await asyncio.sleep(0)
        if name in self.fail:
            raise self.fail.pop(name)

    async def begin_transaction(self) -> None:
        await self._step("begin")

    async def commit_transaction(self) -> None:
        await self._step("commit")

    async def stop(self) -> None:
        await self._step("stop")

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> asyncio.Future[Any]:
        self.rig.steps.append(f"{topic} {batch.record_count()}")
        return asyncio.ensure_future(self.rig.answer(topic))


class Rig:
    """Transactions, what happens in them, and a broker that answers at once, or when it is let."""

    def __init__(self, fail: dict[str, Exception] | None = None, pause_s: float = 0.0) -> None:
        self.steps: list[str] = []
        self.commits: list[float] = []
        producer: Any = Producer(self, fail)
        self.transactions = Transactions(
            "students", producer, self.start, self.is_member, self.commits.append, pause_s=pause_s
        )
        self.gates: dict[str, asyncio.Event] = {}
        self.offsets: dict[str, int] = {}
        self.errors: dict[str, Exception] = {}

    async def start(self) -> Any:
        self.steps.append("start")
        return Producer(self)

    async def is_member(self) -> bool:
        return True

    async def answer(self, topic: str) -> Any:
        """Answer a record batch."""
        if topic in self.gates:
            await self.gates[topic].wait()
        if topic in self.errors:
            raise self.errors[topic]
        return SimpleNamespace(offset=self.offsets.get(topic, 0))

    def flush(
        self, name: str, offset: int, *, waits: bool = False, error: Exception | None = None, records: int = 1
    ) -> Any:
        """Begin a flush of an output and of the changelog `name`; waits: until its gate is opened."""
        self.offsets[name] = offset
        if waits:
            self.gates[name] = asyncio.Event()
        if error is not None:
            self.errors[name] = error
        rows = [(1, name.encode(), b"v", NO_HEADERS)]
        writes = Writes([(("out", 0), rows)], (name, 0), [{b"%d" % n: b"v" for n in range(records)}])
        return asyncio.ensure_future(self.transactions.run(writes))

    async def until(self, done: Callable[[], bool]) -> None:
        """Wait for something to happen."""
        async with asyncio.timeout(5):
            while not done():
                await asyncio.sleep(0)

    async def until_step(self, step: str) -> None:
        """Wait for a step."""
        await self.until(lambda: step in self.steps)


async def test_flushes_that_begin_together_share_one_transaction_and_its_batches() -> None:
    """Each gets its own offset, after the one commit. A partition that both write gets one batch."""
    rig = Rig()
    assert await asyncio.gather(rig.flush("a", 7), rig.flush("b", 9, records=2)) == [7, 10]
    assert rig.steps == ["begin", "out 2", "a 1", "b 2", "commit"]
    assert len(rig.commits) == 1


async def test_a_large_flush_is_sent_alone() -> None:
    """Its rows need not be joined with those of others, in the same transaction."""
    rig = Rig(pause_s=10.0)
    assert await asyncio.gather(rig.flush("a", 7, records=1_000), rig.flush("b", 9)) == [1_006, 9]
    assert sorted(rig.steps[1:-1]) == ["a 1000", "b 1", "out 1", "out 1"]
    assert rig.steps.count("commit") == 1


async def test_the_first_of_small_flushes_waits_for_the_others() -> None:
    """They come a few milliseconds later, as their visits do."""
    rig = Rig(pause_s=0.05)
    first = rig.flush("a", 1)
    await asyncio.sleep(0.005)
    assert rig.steps == []
    assert await asyncio.gather(first, rig.flush("b", 2)) == [1, 2]
    assert rig.steps == ["begin", "out 2", "a 1", "b 1", "commit"]


async def test_a_flush_joins_until_all_have_sent() -> None:
    """One that comes while another is still sending does not wait for the next transaction."""
    rig = Rig()
    first = rig.flush("a", 1, waits=True)
    await rig.until_step("a 1")
    second = rig.flush("b", 2)
    await rig.until_step("b 1")
    assert "commit" not in rig.steps
    rig.gates["a"].set()
    assert await asyncio.gather(first, second) == [1, 2]
    assert rig.steps.count("commit") == 1


async def test_a_flush_that_comes_during_a_commit_waits_for_the_next_transaction() -> None:
    rig = Rig()
    first = rig.flush("a", 1)
    await rig.until_step("commit")
    second = rig.flush("b", 2)
    assert await asyncio.gather(first, second) == [1, 2]
    assert rig.steps == ["begin", "out 1", "a 1", "commit", "begin", "out 1", "b 1", "commit"]


async def test_an_error_of_one_flush_fails_all_that_share_its_transaction() -> None:
    """Nothing is committed, and nobody waits for ever."""
    rig = Rig()
    results = await asyncio.gather(
        rig.flush("a", 1), rig.flush("b", 2, error=KafkaTimeoutError()), return_exceptions=True
    )
    assert [type(each) for each in results] == [KafkaTimeoutError, KafkaTimeoutError]
    assert "commit" not in rig.steps


async def test_a_commit_that_fails_fails_all() -> None:
    rig = Rig({"commit": KafkaTimeoutError()})
    results = await asyncio.gather(rig.flush("a", 1), rig.flush("b", 2), return_exceptions=True)
    assert [type(each) for each in results] == [KafkaTimeoutError, KafkaTimeoutError]


async def test_after_a_long_rest_all_flushes_are_sent_again_with_a_new_producer() -> None:
    """Kafka has forgotten the id: each flush is called again, once, in the same transaction."""
    forgotten = KafkaError("Unexpected error during batch delivery")
    forgotten.__cause__ = InvalidProducerIdMapping()
    rig = Rig({"commit": forgotten})
    assert await asyncio.gather(rig.flush("a", 1), rig.flush("b", 2)) == [1, 2]
    again = ["begin", "out 2", "a 1", "b 1", "commit"]
    assert rig.steps == [*again, "start", "stop", *again]


async def test_a_flush_that_is_cancelled_does_not_end_the_transaction_of_the_others() -> None:
    """Stopping waits for it, so that nothing is written after the partitions have been given up."""
    rig = Rig()
    cancelled, other = rig.flush("a", 1, waits=True), rig.flush("b", 2)
    await rig.until_step("b 1")
    cancelled.cancel()
    stopping = asyncio.ensure_future(rig.transactions.stop())
    await rig.until(cancelled.cancelled)
    assert not other.done()
    rig.gates["a"].set()
    await stopping
    assert await other == 2
    assert rig.steps[-2:] == ["commit", "stop"]


async def test_stopping_without_a_transaction_stops_the_producer() -> None:
    rig = Rig()
    await rig.transactions.stop()
    assert rig.steps == ["stop"]


@pytest.mark.parametrize("members", [[False], [True, False]])
async def test_a_former_owner_starts_no_producer_that_was_forgotten(members: list[bool]) -> None:
    """Asked before and after: the group says that somebody else owns the partitions by now."""
    forgotten = KafkaError("Unexpected error during batch delivery")
    forgotten.__cause__ = InvalidProducerIdMapping()
    rig, answers = Rig({"commit": forgotten}), iter(members)

    async def is_member() -> bool:
        return next(answers)

    producer: Any = Producer(rig, {"commit": forgotten})
    rig.transactions = Transactions("students", producer, rig.start, is_member, rig.commits.append)
    flush = rig.flush("a", 1)
    with pytest.raises(KafkaError) as caught:
        await flush
    assert rig.transactions.is_fenced(caught.value)
    assert rig.steps.count("commit") == 1
    assert ("start" in rig.steps) == (len(members) == 2)
