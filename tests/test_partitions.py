"""A flush: the order of its steps, and what is left behind when one of them fails."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from aiokafka.errors import KafkaError, KafkaTimeoutError, ProducerFenced

from app.state.partition import OwnedPartitions, Partition
from codec.record import NO_HEADERS
from models import position as positions
from models import state
from models.position import Position
from models.visits import StudentDictionary

WHO = StudentDictionary(np.array([5, 0]), np.array([False, True]), np.array([0, 1]))


class Table:
    """A state table that writes down what it is asked."""

    name = "students"
    changelog = "students-changelog"

    def __init__(self, steps: list[Any]) -> None:
        self.steps = steps
        self.records: dict[bytes, bytes] = {}

    def read(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        self.steps.append(("read", *keys))
        return [self.records.get(k) for k in keys]

    def write(self, partition: int, records: Mapping[bytes, bytes], offset: int) -> None:
        self.steps.append(("store", offset))
        self.records.update(records)


class Batch:
    def __init__(self) -> None:
        self.rows = 0

    def append(self, **_: object) -> object:
        self.rows += 1
        return object()


class Producer:
    """A transactional producer that writes down what it is asked, and fails where it is told to."""

    _txn_manager = None

    def __init__(self, steps: list[Any], fail: dict[str, Exception] | None = None) -> None:
        self.steps, self.fail = steps, fail or {}

    def _step(self, name: str) -> None:
        self.steps.append(name)
        if name in self.fail:
            raise self.fail[name]

    def create_batch(self) -> Batch:
        return Batch()

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> asyncio.Future[Any]:
        self._step(f"send {topic}")
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        done.set_result(SimpleNamespace(offset=100))
        return done

    async def start(self) -> None:
        self._step("start")

    async def begin_transaction(self) -> None:
        self._step("begin")

    async def commit_transaction(self) -> None:
        self._step("commit")

    async def stop(self) -> None:
        self._step("stop")


def partition(fail: dict[str, Exception] | None = None) -> tuple[Partition, Table, list[Any]]:
    steps: list[Any] = []
    table: Any = Table(steps)
    return Partition(3, table, Producer(steps, fail), 1), table, steps


async def flush(p: Partition) -> bool:
    rows = {("out", 0): [(1, b"k", b"v", NO_HEADERS)]}
    return await p.flush(rows, {b"5": b"five", b"null": b"none"}, Position.start(1), (WHO, [b"five", b"none"]))


async def test_the_store_is_written_after_the_commit_and_memory_after_the_store():
    """begin, rows, changelog, commit, RocksDB with the last changelog offset; then reads come from memory."""
    p, table, steps = partition()
    assert await flush(p)
    # three records went to the changelog from offset 100 on: two students and the front
    assert steps == ["begin", "send out", "send students-changelog", "commit", ("store", 102)]
    assert positions.KEY in table.records
    assert list(p.load(WHO)) == [b"five", b"none"]
    assert steps[-1] == ("store", 102)


@pytest.mark.parametrize("step", ["begin", "send out", "send students-changelog", "commit"])
async def test_a_flush_that_fails_raises_and_leaves_store_and_memory_as_they_were(step):
    """Whatever step fails: nothing of it is in RocksDB, in the hot records or in the front."""
    p, table, steps = partition({step: KafkaTimeoutError()})
    with pytest.raises(KafkaTimeoutError):
        await flush(p)
    assert table.records == {}
    assert p.known == 0
    assert p.loaded_position is None
    assert steps[-1] == step


async def test_a_fenced_flush_says_so_and_closes_the_partition():
    """Another worker has taken over: no error, nothing written, no further flush."""
    p, table, steps = partition({"commit": ProducerFenced()})
    assert not await flush(p)
    assert p.closed
    assert table.records == {}
    steps.clear()
    assert not await flush(p)
    assert steps == []


async def test_a_flush_after_the_one_that_was_told_is_fenced_too():
    """aiokafka says "fenced" once; what it says afterwards must not end the worker as an unknown failure would."""
    said: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    said.set_exception(ProducerFenced())
    p, table, _ = partition({"begin": KafkaError("the producer is in a fatal state")})
    p._producer._txn_manager = SimpleNamespace(is_fatal_error=lambda: True, wait_for_transaction_end=lambda: said)
    assert not await flush(p)
    assert p.closed
    assert table.records == {}


async def test_closing_waits_for_the_flush_under_way():
    """A rebalance gives a partition away only when its flush has ended."""
    p, _, steps = partition()
    await asyncio.gather(flush(p), p.close())
    assert steps.index("commit") < steps.index("stop")
    assert not await flush(p)


async def test_looking_at_the_front_does_not_read_it():
    """/stats may ask during recovery, when the store does not have it yet."""
    p, table, steps = partition()
    assert p.loaded_position is None
    assert steps == []
    table.records[positions.KEY] = positions.pack(replace(Position.start(1), offsets=np.array([7])))
    assert p.position.offsets.tolist() == [7]
    assert p.loaded_position is p.position


async def test_a_released_partition_is_nobodys(monkeypatch):
    """After a revocation `get` gives nothing, so that no batch starts; renewing fences first."""
    steps: list[Any] = []
    table: Any = Table(steps)
    monkeypatch.setattr("app.state.partition.new_producer", lambda *_, **__: Producer(steps))
    owned = OwnedPartitions(table, ["127.0.0.1:1"], "t", lambda: 1)
    await owned.renew({3}, 1)
    first = owned.get(3)
    assert first is not None
    assert owned.get(4) is None
    await owned.renew({3}, 2)
    assert first.closed
    assert owned.get(3) not in (None, first)
    await owned.release()
    assert owned.get(3) is None
    assert steps == ["start", "stop", "start", "stop"]


async def test_every_owner_of_a_partition_has_the_same_transactional_id(monkeypatch):
    """That is what fences a worker that was suspended: the next owner's producer has its id."""
    ids: list[str] = []

    def producer(_: Sequence[str], *, transactional_id: str) -> Producer:
        ids.append(transactional_id)
        return Producer([])

    monkeypatch.setattr("app.state.partition.new_producer", producer)
    for _ in range(2):
        table: Any = Table([])
        await OwnedPartitions(table, ["127.0.0.1:1"], "app", lambda: 1).renew({3}, 1)
    assert ids == ["app-3", "app-3"]


@pytest.mark.parametrize(
    ("key", "read"),
    [
        (b"5", lambda p: p.load(WHO)),
        (b"null", lambda p: p.load(WHO)),
        (positions.KEY, lambda p: p.position),
        (positions.NEXT_OFFSET_KEY, lambda p: p.next_offset),
    ],
)
def test_a_record_that_cannot_be_read_is_named_with_what_to_do(key, read):
    """Table, partition, key; a damaged one is not skipped, and a newer one asks for the newer program."""
    for raw, words in (
        (b"123456789", "damaged.*; delete RISK_DATADIR and start again.*another RISK_APP_ID"),
        (state.pack_one_empty()[:-1] + b"\0", "damaged.*; delete RISK_DATADIR"),
        (state.pack_words(9, np.zeros(8, np.int64)), "layout version 9, .*: run the version that wrote it$"),
    ):
        p, table, _ = partition()
        table.records = {b"5": state.pack_one_empty(), b"null": state.pack_one_empty(), key: raw}
        where = rf"table students \(topic students-changelog\) partition 3 key {key.decode()}: a "
        with pytest.raises(state.StateError, match=where + ".*" + words):
            read(p)
