"""The queue between fetcher and agent: bounded by what is in it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from app.kafka.queue import PARTS, WHOLE, ChunkQueue, merge_small
from app.settings import Settings
from app.topology import declare
from models.chunk import Chunk

MOST = 4


def event(octets: int) -> Any:
    """What an agent's queue holds: an event of a chunk."""
    return SimpleNamespace(value=Chunk("log", 0, (), (), (), 0, 0, 0, octets=octets))


@pytest.fixture
async def queue() -> ChunkQueue:
    app = declare(Settings(store="memory://"))
    made = app.FlowControlQueue(MOST, clear_on_resume=True)
    assert type(made) is ChunkQueue
    app.flow_control.resume()
    return made


@pytest.mark.parametrize(("octets", "fit"), [(WHOLE, 4), (9 * WHOLE, 4), (WHOLE // 2, 7), (0, 25)])
async def test_there_is_room_for_few_large_chunks_or_many_small_ones(queue: ChunkQueue, octets: int, fit: int) -> None:
    held = 0
    while not queue.full():
        queue.put_nowait(event(octets))
        held += 1
    assert held == fit
    for _ in range(held):
        assert queue.qsize() > 0
        queue.get_nowait()
    assert (queue.qsize(), queue.empty(), queue.full()) == (0, True, False)


async def test_faust_stops_a_partition_for_large_chunks_and_goes_on_when_they_are_gone(queue: ChunkQueue) -> None:
    """Its measure is the queue's size: high at three of four, low again at one."""
    said: list[str] = []
    tell = {"on_pressure_high": lambda: said.append("high"), "on_pressure_drop": lambda: said.append("low")}
    for _ in range(PARTS):
        queue.put_nowait_enhanced(event(10), **tell)
    assert said == []
    for _ in range(3):
        queue.put_nowait_enhanced(event(WHOLE), **tell)
    assert said == ["high"]
    for _ in range(PARTS + 3):
        await queue.get()
    assert said == ["high", "low"]


async def test_what_is_forgotten_makes_room(queue: ChunkQueue) -> None:
    while not queue.full():
        queue.put_nowait(event(WHOLE))
    waiting = asyncio.ensure_future(queue.put(event(0)))
    await asyncio.sleep(0)
    queue.clear()
    assert (queue.qsize(), queue.full()) == (0, False)
    await asyncio.gather(waiting, return_exceptions=True)


def records(start: int, *offsets: int, headers: Any = None, octets: int = 0) -> Chunk:
    next_offset = (offsets[-1] if offsets else start) + 1
    keys = [b"k%d" % o for o in offsets]
    values = [None if o % 2 else b"v%d" % o for o in offsets]
    return Chunk("log", 3, list(offsets), keys, values, start, next_offset, next_offset + 9, headers, octets=octets)


def test_together_is_what_one_fetch_would_have_brought() -> None:
    first, later = records(4, 4, 6, octets=30), records(7, 9, headers=[[("h", b"1")]], octets=12)
    both = merge_small(first, later)
    assert both == records(4, 4, 6, 9, headers=[(), (), [("h", b"1")]], octets=42)


def test_large_chunks_and_those_apart_stay_apart() -> None:
    assert merge_small(records(4, 4), records(6, 6)) is None
    assert merge_small(records(4, 4), records(5, 5, octets=WHOLE)) is None
    assert merge_small(records(0, *range(200)), records(200, *range(200, 300))) is None
