"""The queue between fetcher and agent is bounded by the size of its chunks."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from app.kafka.queue import FULL_BYTES, FULL_WEIGHT, ChunkQueue, QueuedChunk, merge_small
from app.settings import Settings
from app.topology import declare
from models.chunk import Chunk

MAX_SIZE = 4
TP_3 = TP("log", 3)


def event(nbytes: int) -> Any:
    """Create an event of a chunk without records."""
    return event_of(Chunk("log", 0, (), (), (), 0, 0, 0, nbytes=nbytes))


def event_of(chunk: Chunk, generation: int = 0) -> Any:
    """Create an event as it is in an agent's queue."""
    message = SimpleNamespace(tp=TP(chunk.topic, chunk.partition), generation_id=generation)
    return SimpleNamespace(value=QueuedChunk(chunk), message=message)


@pytest.fixture
async def queue() -> ChunkQueue:
    app = declare(Settings(store="memory://"))
    made = app.FlowControlQueue(MAX_SIZE, clear_on_resume=True)
    assert type(made) is ChunkQueue
    app.flow_control.resume()
    return made


@pytest.mark.parametrize(("nbytes", "capacity"), [(FULL_BYTES, 4), (9 * FULL_BYTES, 4), (FULL_BYTES // 2, 7), (0, 25)])
async def test_the_queue_is_bounded_by_the_size_of_its_chunks(queue: ChunkQueue, nbytes: int, capacity: int) -> None:
    count = 0
    while not queue.full():
        queue.put_nowait(event(nbytes))
        count += 1
    assert count == capacity
    for _ in range(count):
        assert queue.qsize() > 0
        queue.get_nowait()
    assert (queue.qsize(), queue.empty(), queue.full()) == (0, True, False)


async def test_faust_pauses_a_partition_for_large_chunks_until_they_are_taken(queue: ChunkQueue) -> None:
    """Faust polls the queue's size: pressure is high from three of four on, and drops at one."""
    calls: list[str] = []
    callbacks = {"on_pressure_high": lambda: calls.append("high"), "on_pressure_drop": lambda: calls.append("drop")}
    for _ in range(FULL_WEIGHT):
        queue.put_nowait_enhanced(event(10), **callbacks)
    assert calls == []
    for _ in range(3):
        queue.put_nowait_enhanced(event(FULL_BYTES), **callbacks)
    assert calls == ["high"]
    for _ in range(FULL_WEIGHT + 3):
        await queue.get()
    assert calls == ["high", "drop"]


async def test_clearing_makes_room(queue: ChunkQueue) -> None:
    while not queue.full():
        queue.put_nowait(event(FULL_BYTES))
    waiting = asyncio.ensure_future(queue.put(event(0)))
    await asyncio.sleep(0)
    queue.clear()
    assert (queue.qsize(), queue.full()) == (0, False)
    await asyncio.gather(waiting, return_exceptions=True)


def records(start: int, *offsets: int, headers: Any = None, nbytes: int = 0) -> Chunk:
    next_offset = (offsets[-1] if offsets else start) + 1
    keys = [b"k%d" % o for o in offsets]
    values = [None if o % 2 else b"v%d" % o for o in offsets]
    return Chunk("log", 3, list(offsets), keys, values, start, next_offset, next_offset + 9, headers, nbytes=nbytes)


def test_merged_chunks_equal_one_fetch_of_both() -> None:
    first, second = records(4, 4, 6, nbytes=30), records(7, 9, headers=[[("h", b"1")]], nbytes=12)
    assert merge_small(first, second) == records(4, 4, 6, 9, headers=[(), (), [("h", b"1")]], nbytes=42)


def test_large_chunks_and_chunks_with_a_hole_between_them_are_not_merged() -> None:
    assert merge_small(records(4, 4), records(6, 6)) is None
    assert merge_small(records(4, 4), records(5, 5, nbytes=FULL_BYTES)) is None
    assert merge_small(records(0, *range(400)), records(400, *range(400, 600))) is None


async def test_a_small_chunk_is_merged_into_the_last_one_of_its_partition(queue: ChunkQueue) -> None:
    """The event stays in the queue, and keeps its place."""
    first, other = event_of(records(4, 4), 7), event(0)
    queue.put_nowait(first)
    queue.put_nowait(other)
    accepted: list[tuple[Chunk, Chunk]] = []

    def accept(chunk: Chunk, merged: Chunk) -> bool:
        accepted.append((chunk, merged))
        return True

    assert queue.merge_last(TP_3, records(5, 6), 7, accept) == records(4, 4, 6)
    assert accepted == [(records(4, 4), records(4, 4, 6))]
    assert first.value.chunk == records(4, 4, 6)
    assert [queue.get_nowait() for _ in range(2)] == [first, other]
    assert queue.qsize() == 0


async def test_nothing_is_merged_across_generations_or_against_the_ledger(queue: ChunkQueue) -> None:
    assert queue.merge_last(TP_3, records(5, 6), 7, lambda *_: True) is None
    waiting = event_of(records(4, 4), 7)
    queue.put_nowait(waiting)
    assert queue.merge_last(TP_3, records(5, 6), 8, lambda *_: True) is None
    assert queue.merge_last(TP_3, records(5, 6), 7, lambda *_: False) is None
    assert waiting.value.chunk == records(4, 4)
