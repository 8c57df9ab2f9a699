"""The order of a flush's steps, and the state after one of them fails."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from aiokafka.errors import (
    IllegalOperation,
    InvalidProducerIdMapping,
    KafkaError,
    KafkaTimeoutError,
    ProducerFenced,
)

from app.ops.metrics import Metrics
from app.settings import Settings
from app.state.owned import OwnedPartitions
from app.state.partition import Partition
from app.state.transactions import Transactions
from codec.record import NO_HEADERS
from models import activity_records, log_ids, state
from models import position as positions
from models.activity import Activity, Events, add
from models.position import Position
from models.visits import StudentDictionary

STUDENTS = StudentDictionary(np.array([5, 0]), np.array([False, True]), np.array([0, 1]))


class FakeTable:
    """A state table that records its calls."""

    name = "students"
    changelog = "students-changelog"

    def __init__(self, steps: list[Any]) -> None:
        self.steps = steps
        self.records: dict[bytes, bytes] = {}
        self.flushes = Metrics().flushes(self.name)

    def read(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        self.steps.append(("read", *keys))
        return [self.records.get(k) for k in keys]

    def scan(self, partition: int, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        self.steps.append(("scan", prefix))
        yield from sorted((k, v) for k, v in self.records.items() if k.startswith(prefix))

    def write(self, partition: int, records: Mapping[bytes, bytes], offset: int) -> None:
        self.steps.append(("store", offset))
        self.records.update(records)


class FakeProducer:
    """A transactional producer that records its calls, and raises `fail`'s error of a call."""

    def __init__(self, steps: list[Any], fail: dict[str, Exception] | None = None, manager: Any = None) -> None:
        self.steps, self.fail = steps, fail or {}
        self._txn_manager = manager  # aiokafka's transaction manager

    def _step(self, name: str) -> None:
        self.steps.append(name)
        if name in self.fail:
            raise self.fail[name]

    async def send_batch(self, batch: object, topic: str, *, partition: int) -> asyncio.Future[Any]:
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


def partition(
    fail: dict[str, Exception] | None = None, manager: Any = None, member: Sequence[bool] = ()
) -> tuple[Partition, FakeTable, list[Any]]:
    """Create a partition; return it with its table and the list of calls.

    member: what the consumer group's coordinator answers, one after the other, whether this worker is a member.
    """
    steps: list[Any] = []
    table: Any = FakeTable(steps)
    answers = iter(member)

    async def new_producer() -> Any:
        steps.append("start another")
        return FakeProducer(steps)

    async def is_member() -> bool:
        steps.append("ask")
        return next(answers)

    producer: Any = FakeProducer(steps, fail, manager)
    transactions = Transactions(table.name, producer, new_producer, is_member, table.flushes.commit.observe)
    return Partition(3, table, transactions, partitions=4, sources=1), table, steps


async def flush(p: Partition) -> bool:
    rows = {("out", 0): [(1, b"k", b"v", NO_HEADERS)]}
    return await p.flush(rows, {b"5": b"five", b"null": b"none"}, Position.start(1), (STUDENTS, [b"five", b"none"]))


async def test_the_store_is_written_after_the_commit_and_memory_after_the_store():
    """begin, rows, changelog, commit, RocksDB with the last changelog offset; later reads use the cache."""
    p, table, steps = partition()
    assert await flush(p)
    # three records were written to the changelog from offset 100 on: two students and the position
    assert steps == ["begin", "send out", "send students-changelog", "commit", ("store", 102)]
    assert positions.KEY in table.records
    assert list(p.load(STUDENTS)) == [b"five", b"none"]
    assert steps[-1] == ("store", 102)


async def test_log_ids_are_part_of_the_transaction_and_read_from_the_cache_afterwards():
    """The store has their records and the last offset of all."""
    p, table, steps = partition()
    spans = np.array([0, 7])
    assert not p.log_ids(spans).any()
    steps.clear()
    added = log_ids.add(np.array([3, 7 * log_ids.SPAN]), spans, p.log_ids(spans))
    records = dict(zip(log_ids.keys_of(spans), log_ids.pack(added.bitmaps), strict=True))
    steps.clear()
    assert await p.flush({}, {}, Position.start(1), None, records)
    assert steps == ["begin", "send students-changelog", "commit", ("store", 102)]
    assert table.records.keys() == {positions.KEY, b"ids 0", b"ids 7"}
    steps.clear()
    assert (p.log_ids(spans) == added.bitmaps).all()
    assert steps == []
    # a new owner has only the store
    other, table_2, _ = partition()
    table_2.records = table.records
    assert (other.log_ids(spans) == added.bitmaps).all()


async def test_the_cache_of_log_ids_is_bounded(monkeypatch):
    monkeypatch.setattr("app.state.caches.CACHED_LOG_IDS", 3)
    p, _, steps = partition()
    record = state.pack_words(log_ids.VERSION, np.array([0, 1, 1], np.int64))
    for spans in ([1, 2], [3, 4], [5, 6, 7, 8]):
        keys = log_ids.keys_of(np.array(spans))
        assert await p.flush({}, {}, Position.start(1), None, dict.fromkeys(keys, record))
    steps.clear()
    assert p.log_ids(np.arange(1, 9)).any(1).all()
    assert steps == [("read", *log_ids.keys_of(np.arange(1, 9)))]


async def test_activity_is_read_once_and_then_as_it_was_written():
    p, _, steps = partition()
    for student, day, students in ((7, 16_000, [7]), (9, 16_005, [7, 9]), (7, 16_009, [7, 9])):
        events = Events(*(np.array([n]) for n in (0, 5, day)), np.array([False]))
        (record,) = activity_records.pack(add(Activity.none(), events, forget_days=120).activity, np.array([-1]))
        assert await p.flush({}, {}, activity={student: record})
        (block,) = p.scan_activity(10)
        assert block.students.tolist() == students
        assert day in block.unpack()[0].newest.tolist()
    assert steps.count(("scan", activity_records.PREFIX)) == 1


@pytest.mark.parametrize("step", ["begin", "send out", "send students-changelog", "commit"])
async def test_a_flush_that_fails_raises_and_changes_neither_store_nor_memory(step):
    """Whichever step fails: nothing is in RocksDB, in the cache or in the position."""
    p, table, steps = partition({step: KafkaTimeoutError()})
    with pytest.raises(KafkaTimeoutError):
        await flush(p)
    assert table.records == {}
    assert p.known == 0
    assert p.loaded_position is None
    assert steps[-1] == step


async def test_a_fenced_flush_returns_false_and_closes_the_partition():
    """Another worker has taken over: no error, nothing written, no further flush."""
    p, table, steps = partition({"commit": ProducerFenced()})
    assert not await flush(p)
    assert p.closed
    assert table.records == {}
    steps.clear()
    assert not await flush(p)
    assert steps == []


async def test_a_flush_is_fenced_even_if_aiokafka_raises_another_error():
    """aiokafka raises ProducerFenced once; its later errors must not end the worker as unknown failures would."""
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    ended.set_exception(ProducerFenced())
    manager = SimpleNamespace(is_fatal_error=lambda: True, wait_for_transaction_end=lambda: ended, transactional_id="t")
    p, table, _ = partition({"begin": KafkaError("the producer is in a fatal state")}, manager)
    assert not await flush(p)
    assert p.closed
    assert table.records == {}


def forgotten() -> KafkaError:
    """aiokafka's error for a transactional id that Kafka has forgotten."""
    error = KafkaError("Unexpected error during batch delivery")
    error.__cause__ = InvalidProducerIdMapping()
    return error


async def test_a_forgotten_producer_is_started_again():
    """After a week of rest: the same flush is committed by a new producer, once, between two questions."""
    p, table, steps = partition({"send students-changelog": forgotten()}, member=[True, True])
    assert await flush(p)
    restart = ["ask", "start another", "stop", "ask"]
    flushed = ["begin", "send out", "send students-changelog"]
    assert steps == [*flushed, *restart, *flushed, "commit", ("store", 102)]
    assert positions.KEY in table.records
    assert not p.closed


async def test_a_producer_is_forgotten_whatever_aiokafka_raises():
    """A call after the failure is refused without the cause, which only the transaction has."""
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    ended.set_exception(forgotten())
    manager = SimpleNamespace(is_fatal_error=lambda: True, wait_for_transaction_end=lambda: ended, transactional_id="t")
    p, _, steps = partition({"send out": IllegalOperation("not in transaction")}, manager, member=[True, True])
    assert await flush(p)
    assert steps[-2:] == ["commit", ("store", 102)]


@pytest.mark.parametrize(
    ("member", "restart"), [([False], ["ask"]), ([True, False], ["ask", "start another", "stop", "ask"])]
)
async def test_a_forgotten_producer_of_a_former_owner_writes_nothing(member, restart):
    """A worker that was suspended for a week: somebody else owns the partition, and Kafka cannot tell it.

    It must not start a producer, which would fence the owner; and if it has, it must not write what may be there.
    """
    p, table, steps = partition({"send out": forgotten()}, member=member)
    assert not await flush(p)
    assert steps == ["begin", "send out", *restart]
    assert p.closed
    assert table.records == {}


async def test_closing_waits_for_the_flush_in_progress():
    """A rebalance gives a partition up only when its flush has ended."""
    p, _, steps = partition()

    async def close() -> None:
        await p.close()
        steps.append("closed")

    await asyncio.gather(flush(p), close())
    assert steps.index(("store", 102)) < steps.index("closed")
    assert not await flush(p)


async def test_loaded_position_does_not_read_the_store():
    """/stats may be requested during recovery, when the store does not have the position yet."""
    p, table, steps = partition()
    assert p.loaded_position is None
    assert steps == []
    table.records[positions.KEY] = positions.pack(replace(Position.start(1), offsets=np.array([7])))
    assert p.position.offsets.tolist() == [7]
    assert p.loaded_position is p.position


class FakeClaims:
    """The claims on partitions of a group with one member."""

    def __init__(self, steps: list[Any], *, is_member: bool = True, made: dict[int, str] | None = None) -> None:
        self.steps, self.member, self.made = steps, is_member, made or {}

    async def read(self, numbers: Collection[int]) -> dict[int, str]:
        self.steps.append("read claims")
        return {n: self.made[n] for n in numbers if n in self.made}

    async def make(self, numbers: Collection[int], transactional_id: str) -> bool:
        self.steps.append("claim")
        if self.member:
            self.made.update(dict.fromkeys(numbers, transactional_id))
        return self.member

    async def is_member(self) -> bool:
        """Whether this worker is a member of the group."""
        raise AssertionError("nobody asks while the transactional id is known")


def take_over(monkeypatch: pytest.MonkeyPatch, steps: list[Any], claims: Any) -> OwnedPartitions:
    """Create the owned partitions of a table, whose producers record their ids and calls."""

    def producer(_: Settings, *, transactional_id: str) -> FakeProducer:
        steps.append(transactional_id)
        return FakeProducer(steps)

    for module in ("app.state.owned", "app.kafka.claims"):
        monkeypatch.setattr(f"{module}.new_producer", producer)
    table: Any = FakeTable(steps)
    return OwnedPartitions(table, Settings(), "app", claims)


async def test_a_released_partition_is_not_owned(monkeypatch):
    """After a revocation `get` returns None, so that no batch starts."""
    steps: list[Any] = []
    claims = FakeClaims(steps)
    owned = take_over(monkeypatch, steps, claims)
    await owned.renew({3}, 1)
    first, claimed = owned.get(3), claims.made[3]
    assert first is not None
    assert owned.get(4) is None
    await owned.renew({3}, 2)
    assert first.closed
    assert owned.get(3) not in (None, first)
    await owned.release()
    assert owned.get(3) is None
    fencing = [
        *("read claims", "app-3", "start", "stop", "claim", claimed, "start", "stop"),
        *("read claims", claimed, "start", "stop", "claim", claims.made[3], "start", "stop"),
    ]
    assert steps == fencing


async def test_all_partitions_have_one_producer_whose_id_is_new_in_each_generation(monkeypatch):
    """Fencing it must stop what the worker did before the rebalance, and not what it does afterwards."""
    claims = FakeClaims([])
    owned = take_over(monkeypatch, [], claims)
    await owned.renew({3, 5}, 1)
    (former,) = set(claims.made.values())
    await owned.renew({5}, 2)
    assert former.startswith("app-")
    assert claims.made[3] == former
    assert claims.made[5] != former


async def test_former_owners_are_fenced_before_their_partitions_are_claimed(monkeypatch):
    """Whoever reads a claim fences its id alone: the id before it must be fenced by then.

    Of an earlier version, and of `faust -A app grow`, there is no claim, but it is known with which ids they write.
    """
    steps: list[Any] = []
    claims = FakeClaims(steps, made={0: "app-dead", 1: "app-dead", 2: "app-suspended"})
    owned = take_over(monkeypatch, steps, claims)
    await owned.renew({0, 1, 2, 3}, 1)
    fenced = steps[: steps.index("claim")]
    assert sorted(step for step in fenced if step.startswith("app-")) == ["app-0", "app-3", "app-dead", "app-suspended"]
    assert fenced.count("stop") == 4
    assert owned.get(3) is not None


async def test_a_worker_that_is_no_member_any_more_owns_nothing(monkeypatch):
    """Suspended within a takeover: the broker refuses its claim, so nobody would know of it."""
    steps: list[Any] = []
    owned = take_over(monkeypatch, steps, FakeClaims(steps, is_member=False))
    await owned.renew({3}, 1)
    assert owned.get(3) is None
    assert steps == ["read claims", "app-3", "start", "stop", "claim"]
    await owned.release()


@pytest.mark.parametrize(
    ("key", "read"),
    [
        (b"5", lambda p: p.load(STUDENTS)),
        (b"null", lambda p: p.load(STUDENTS)),
        (positions.KEY, lambda p: p.position),
        (positions.NEXT_OFFSET_KEY, lambda p: p.next_offset),
        (b"ids 7", lambda p: p.log_ids(np.array([3, 7]))),
    ],
)
def test_the_error_of_an_unreadable_record_has_its_place_and_a_remedy(key, read):
    """The error names table and partition, not the key, which may be a student's id.

    A damaged record is not skipped; a newer one needs an upgrade.
    """
    for raw, message in (
        (b"123456789", "damaged.*; delete RISK_DATADIR and start again.*another RISK_APP_ID"),
        (state.empty_record()[:-1] + b"\0", "damaged.*; delete RISK_DATADIR"),
        (state.pack_words(9, np.zeros(8, np.int64)), "layout version 9, .*: run the version that wrote it$"),
    ):
        p, table, _ = partition()
        table.records = {b"5": state.empty_record(), b"null": state.empty_record(), key: raw}
        where = r"table students \(topic students-changelog\) partition 3: a "
        with pytest.raises(state.StateError, match=where + ".*" + message):
            read(p)
