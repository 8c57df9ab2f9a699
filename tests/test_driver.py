"""What a worker's consumer hands on: after a seek, in order, without a hole, and never what a queue forgets."""

from __future__ import annotations

import asyncio
import dataclasses
import struct
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from faust.types import TP

from app.kafka import reader
from app.kafka.queue import WHOLE
from app.kafka.record_columns import Kept
from app.settings import Settings
from app.topology import declare
from models.chunk import Chunk

APP = Settings(store="memory://")
LOG = TP(APP.source_topic, 0)
CHANGELOG = TP(f"{APP.app_id}-students-changelog", 0)


def chunk(tp: TP, start: int, position: int, *offsets: int) -> Chunk:
    """What was fetched from `start` up to, not with, `position`; records only at `offsets`."""
    nothing = tuple(b"" for _ in offsets)
    return Chunk(tp.topic, tp.partition, offsets, nothing, nothing, start, position, position)


class Consumer:
    """A worker's consumer that was not started: its log is committed up to 10, begins at 3 and ends at 30."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.app: Any = declare(APP)
        self.made: Any = self.app.consumer
        self.handed: list[Any] = []
        self.sought: list[tuple[TP, int]] = []
        fakes = {
            "assignment": lambda: {LOG, CHANGELOG},
            "seek_to_committed": self._answer({LOG: 10}),
            "seek_wait": self._answer(None),
            "earliest_offsets": self._answer({LOG: 3}),
            "highwaters": self._answer({LOG: 30}),
            "callback": self._hand,
            "_seek": self._seek,
        }
        for name, fake in fakes.items():
            patch.setattr(self.made, name, fake)
        patch.setattr(self.app.tables, "_changelogs", {CHANGELOG.topic: self.app.tables["students"]})

    @staticmethod
    def _answer(what: Any) -> Any:
        async def answer(*_: object) -> Any:
            return what

        return answer

    async def _hand(self, message: Any) -> None:
        self.handed.append(message)

    async def _seek(self, tp: TP, offset: int) -> None:
        self.sought.append((tp, offset))

    async def flow(self) -> None:
        """It has sought, the agents have been told, and what is fetched is to be handed on."""
        await self.made.perform_seek()
        self.made._statuses = []
        self.made.resume_partitions({LOG})
        self.made.resume_flow()

    async def fetch(self, patch: pytest.MonkeyPatch, *chunks: Chunk | list[Chunk]) -> list[tuple[int, int]]:
        """Have the consumer's thread give `chunks`, a fetch each; what of the log was handed on: start, position."""
        fetches = [one if isinstance(one, list) else [one] for one in chunks]
        fetcher = SimpleNamespace(should_stop=False)

        async def next_fetch(*_: object) -> Sequence[Chunk]:
            if not fetches:
                fetcher.should_stop = True
                return []
            return fetches.pop(0)

        patch.setattr(self.made._thread, "chunks", next_fetch)
        self.made.resume_partitions({LOG, CHANGELOG})
        self.made.resume_flow()
        await asyncio.wait_for(self.made._drain_messages(fetcher), 10)
        return [(m.value.start, m.value.next_offset) for m in self.handed if m.topic == LOG.topic]


@pytest.fixture
async def consumer(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Consumer]:
    made = Consumer(monkeypatch)
    yield made
    made.made._thread.thread_loop.close()


async def test_after_a_seek_the_agents_are_told_where_the_log_stands(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await consumer.made.perform_seek()
    assert await consumer.fetch(monkeypatch, chunk(LOG, 10, 12, 10, 11)) == [(10, 10), (10, 12)]


async def test_what_was_fetched_before_a_seek_is_not_handed_on(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes again: taken twice it would be counted twice but for the front."""
    await consumer.made.perform_seek()
    fetched = (chunk(LOG, 5, 11, 5, 10), chunk(LOG, 10, 12, 10, 11))
    assert await consumer.fetch(monkeypatch, *fetched) == [(10, 10), (10, 12)]
    assert consumer.sought == []


async def test_with_nothing_to_read_a_worker_waits_for_kafka_to_say_so(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a broker that is away is noticed by a worker that has read everything, too."""
    monkeypatch.setattr(consumer.made, "highwaters", consumer._answer({LOG: 10}))
    await consumer.made.perform_seek()
    waits, mark = consumer.made.waiting()
    assert waits == "Kafka has not said where the topics end"
    consumer.made.looks += 1
    assert consumer.made.waiting() != (waits, mark)


async def test_over_a_hole_the_log_is_read_again(consumer: Consumer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The records are there (the log begins at 3), so they must be read."""
    await consumer.made.perform_seek()
    fetched = (chunk(LOG, 10, 12, 10, 11), chunk(LOG, 15, 16, 15), chunk(LOG, 12, 16, 12, 15))
    assert await consumer.fetch(monkeypatch, *fetched) == [(10, 10), (10, 12), (12, 16)]
    assert consumer.sought == [(LOG, 12)]


async def test_nobody_waits_for_a_chunk_that_is_not_handed_on(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is `followed` waits to be taken along: a chunk from before a seek never comes, and a log may be quiet."""
    await consumer.made.perform_seek()
    await consumer.fetch(monkeypatch)
    consumer.handed.clear()
    other = TP(LOG.topic, 1)
    await consumer.fetch(monkeypatch, [chunk(LOG, 10, 12, 10, 11), chunk(other, 3, 5, 3)])
    assert [(m.partition, m.value.next_offset, m.value.followed) for m in consumer.handed] == [(0, 12, False)]
    monkeypatch.setitem(consumer.made._expected, other, 3)
    await consumer.fetch(monkeypatch, [chunk(LOG, 12, 13, 12), chunk(other, 3, 5, 3)])
    assert [(m.partition, m.value.followed) for m in consumer.handed[1:]] == [(0, True), (1, False)]


async def test_before_the_seek_of_this_generation_nothing_of_the_log_is_asked_for(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another generation sought says nothing about what is committed now."""
    await consumer.made.perform_seek()
    consumer.app.consumer_generation_id += 1
    asked: list[set[TP]] = []
    consumer.made.resume_partitions({LOG, CHANGELOG})

    async def chunks(wanted: set[TP], _: int) -> Sequence[Chunk]:
        asked.append(wanted)
        return []

    monkeypatch.setattr(consumer.made._thread, "chunks", chunks)
    await consumer.made._next_chunks()
    assert asked == [{CHANGELOG}]


async def test_the_next_fetch_is_made_while_chunks_are_waited_for(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent whose queue is full must not keep the consumer's thread from its work."""
    await consumer.flow()
    room, asked = asyncio.Event(), 0
    monkeypatch.setattr(consumer.made, "_has_room", lambda tp: False)

    async def chunks(*_: object) -> Sequence[Chunk]:
        nonlocal asked
        asked += 1
        return [chunk(LOG, 9 + asked, 10 + asked, 9 + asked)]

    async def hand(message: Any) -> None:
        await room.wait()
        await consumer._hand(message)

    monkeypatch.setattr(consumer.made._thread, "chunks", chunks)
    monkeypatch.setattr(consumer.made, "callback", hand)
    fetcher = SimpleNamespace(should_stop=False)
    draining = asyncio.ensure_future(consumer.made._drain_messages(fetcher))
    await asyncio.sleep(0.01)
    assert (asked, consumer.handed) == (2, [])
    fetcher.should_stop = True
    room.set()
    await asyncio.wait_for(draining, 10)
    assert [m.value.start for m in consumer.handed] == [10]
    assert consumer.made._ahead is None


async def test_what_waits_for_room_is_dropped_when_flow_is_suspended(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rebalance must not wait for an agent whose queue is full."""
    await consumer.flow()
    monkeypatch.setattr(consumer.made, "_has_room", lambda tp: False)
    monkeypatch.setattr(consumer.made, "callback", lambda message: asyncio.Event().wait())
    generation = consumer.app.consumer_generation_id
    delivering = asyncio.ensure_future(consumer.made._deliver(generation, [chunk(LOG, 10, 12, 10, 11)]))
    await asyncio.sleep(0.01)
    assert not delivering.done()
    consumer.made.stop_flow()
    await asyncio.wait_for(delivering, 1)


async def test_after_a_hole_nothing_is_fetched_before_the_seek(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was under way already would stand behind the hole again, and have it sought again, and so on."""
    await consumer.flow()
    asked: list[int] = []

    async def chunks(*_: object) -> Sequence[Chunk]:
        asked.append(len(consumer.sought))
        return [chunk(LOG, 15, 16, 15)]

    monkeypatch.setattr(consumer.made._thread, "chunks", chunks)
    assert await consumer.made._next_chunks() == (consumer.app.consumer_generation_id, [])
    await asyncio.sleep(0.01)
    assert asked == [0, 1]
    consumer.made._ahead.cancel()


async def test_a_changelog_chunk_ends_where_its_last_marker_stands(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faust waits until the offset before the end has come: a transaction's marker, or what compaction took."""
    await consumer.fetch(monkeypatch, chunk(CHANGELOG, 0, 9, 2, 4))
    assert [m.offset for m in consumer.handed] == [8]


async def test_flow_that_was_not_suspended_is_resumed_without_clearing_a_queue() -> None:
    """Seen as a backlog of which one fetch was never processed: Faust resumes twice, and clears what came between."""
    app = declare(APP)
    queue: Any = app.FlowControlQueue(maxsize=4, clear_on_resume=True)
    app.flow_control.resume()
    queue.put_nowait("a chunk")
    app.flow_control.resume()
    assert queue.qsize() == 1
    app.flow_control.suspend()
    app.flow_control.resume()
    assert queue.qsize() == 0


async def test_former_owners_are_fenced_before_the_changelog_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recovery begins when every table's `on_rebalance` has returned: by then the producers have started."""
    app: Any = declare(APP)
    students = app.tables["students"]
    monkeypatch.setattr(app.assignor, "assigned_actives", lambda: {CHANGELOG, TP("other-changelog", 3)})
    steps: list[str] = []

    async def own(partitions: set[int], generation: int) -> None:
        steps.append(f"fencing {partitions} of generation {generation}")
        await asyncio.sleep(0)
        steps.append("fenced")

    students.on_owned = own
    await students.on_rebalance({CHANGELOG}, set(), {CHANGELOG}, 7)
    assert steps == ["fencing {0} of generation 7", "fenced"]


@pytest.mark.parametrize("left", [2, 30], ids=["read one by one", "read in columns"])
def test_a_batch_ends_where_the_broker_says_and_not_at_its_last_record(left: int) -> None:
    """Compaction takes the last records of a batch and leaves the batch's end: the next one begins behind that."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1 << 20)
    offsets = [5, *range(7, 6 + left)]
    end = offsets[-1] + 3
    for offset in offsets:
        builder.append(offset - 5, 0, None, b"value", [])
    raw = builder.build()
    struct.pack_into(">q", raw, 0, 5)
    struct.pack_into(">i", raw, 23, end - 1 - 5)  # the last offset, of a record that is gone
    held: Any = SimpleNamespace(
        _records=Kept(bytes(raw)), _check_crcs=False, _isolation_level=0, _records_iterator=None, next_fetch_offset=6
    )
    fetched: Any = SimpleNamespace(
        _partition_records=held,
        _assignment=SimpleNamespace(state_value=lambda _: SimpleNamespace(highwater=90)),
        _update_position=lambda: None,
    )
    chunk = reader._drain(fetched, LOG, 1000)
    assert chunk is not None
    assert list(chunk.offsets) == offsets[1:]  # 5 stands before what was asked for
    assert (held.next_fetch_offset, chunk.start, chunk.next_offset, chunk.end) == (end, 6, end, 90)


def agents_queue(consumer: Consumer, patch: pytest.MonkeyPatch, *tps: TP) -> list[Any]:
    """Give the partitions one agent with a queue, into which what is handed on goes; what the queue holds."""
    queue = consumer.app.FlowControlQueue(4)
    consumer.app.flow_control.resume()
    for tp in tps:
        patch.setitem(consumer.app.topics._tp_index, tp, [SimpleNamespace(queue=queue)])
    held: list[Any] = queue._queue

    async def hand(message: Any) -> None:
        queue.put_nowait(consumer.app.create_event(None, message.value, None, message))

    patch.setattr(consumer.made, "callback", hand)
    return held


async def test_small_chunks_wait_for_their_agent_as_one(consumer: Consumer, monkeypatch: pytest.MonkeyPatch) -> None:
    other = TP(LOG.topic, 1)
    held = agents_queue(consumer, monkeypatch, LOG, other)
    await consumer.flow()
    monkeypatch.setitem(consumer.made._expected, other, 0)
    await consumer.fetch(
        monkeypatch,
        [chunk(LOG, 10, 12, 10, 11), chunk(other, 0, 1, 0)],
        [chunk(LOG, 12, 14, 13), chunk(other, 1, 2, 1)],
        [chunk(LOG, 14, 16)],
    )
    assert [(e.value.partition, e.value.start, e.value.next_offset, e.value.offsets) for e in held] == [
        (0, 10, 16, [10, 11, 13]),
        (1, 0, 2, [0, 1]),
    ]
    assert all(e.message.value is e.value for e in held)
    # the whole of it counts as processed at once, and only then
    assert consumer.made._ledger.waiting(LOG) == 1
    consumer.made.processed(held[0].value)
    assert consumer.made._ledger.committable() == {LOG: 16}


async def test_who_has_company_still_has_it_when_a_chunk_was_put_to_another(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`followed` promises a chunk behind it in the queue: one that went into an earlier event does not come."""
    other = TP(LOG.topic, 1)
    held = agents_queue(consumer, monkeypatch, LOG, other)
    await consumer.flow()
    monkeypatch.setitem(consumer.made._expected, other, 0)
    await consumer.fetch(monkeypatch, [chunk(other, 0, 1, 0)], [chunk(LOG, 10, 12, 10, 11), chunk(other, 1, 2, 1)])
    assert [(e.value.partition, e.value.followed) for e in held] == [(1, False), (0, False)]


@pytest.mark.parametrize("why", ["large", "taken", "other generation", "after a hole"])
async def test_chunks_that_are_not_put_together(why: str, consumer: Consumer, monkeypatch: pytest.MonkeyPatch) -> None:
    held = agents_queue(consumer, monkeypatch, LOG)
    await consumer.flow()
    await consumer.fetch(monkeypatch, chunk(LOG, 10, 12, 10, 11))
    later = chunk(LOG, 12, 13, 12)
    if why == "large":
        later = dataclasses.replace(later, octets=WHOLE)
    elif why == "taken":
        held.clear()
    elif why == "other generation":
        held[0].message.generation_id -= 1
    else:
        later = chunk(LOG, 13, 14, 13)
        monkeypatch.setattr(consumer.made, "earliest_offsets", consumer._answer({LOG: 13}))
    before = len(held)
    await consumer.fetch(monkeypatch, later)
    assert [e.value.next_offset for e in held][before:] == [later.next_offset]
