"""A worker's consumer without Kafka: Faust's fetcher, conductor and queues over a fake consumer thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from faust.transport.consumer import Fetcher
from faust.types import TP

from app.faust_app import ChunkSchema
from app.kafka import consumer
from app.kafka.queue import QueuedChunk
from app.settings import Settings
from app.topology import declare
from models.chunk import Chunk

SETTINGS = Settings(store="memory://")
SOURCE, SOURCE_1 = TP(SETTINGS.source_topic, 0), TP(SETTINGS.source_topic, 1)
CHANGELOG = TP(f"{SETTINGS.app_id}-students-changelog", 0)


def chunk(tp: TP, start: int, next_offset: int, *offsets: int) -> Chunk:
    """Create a chunk fetched from `start` up to, but not including, `next_offset`, with records at `offsets`."""
    empty = tuple(b"" for _ in offsets)
    return Chunk(tp.topic, tp.partition, offsets, empty, empty, start, next_offset, next_offset)


class FakeThread:
    """Stands in for the consumer's thread: a source topic that begins at 3, ends at 30 and is committed up to 10.

    Partition 1 begins at 0 and has no commit. `chunks` returns one of `fetches` a call, then nothing.
    """

    def __init__(self) -> None:
        self.thread_loop = asyncio.get_running_loop()
        self.assigned = {SOURCE, CHANGELOG}
        #: number of partitions of every topic
        self.partitions = 2
        self.earliest = {SOURCE: 3, SOURCE_1: 0}
        self.ends = {SOURCE: 30, SOURCE_1: 30}
        self.fetches: list[list[Chunk]] = []
        #: partitions of each call of `chunks`
        self.requested: list[set[TP]] = []
        self.sought: list[tuple[TP, int]] = []
        #: offsets of the last call of `seek_wait`
        self.sought_together: Mapping[TP, int] = {}

    async def chunks(self, partitions: set[TP], max_rows: int, generation: int) -> list[Chunk]:
        self.requested.append(partitions)
        await asyncio.sleep(0)
        return self.fetches.pop(0) if self.fetches else []

    def assignment(self) -> set[TP]:
        return self.assigned

    async def count_partitions(self, topics: set[str]) -> dict[str, int]:
        return {topic: self.partitions for topic in topics}

    async def seek_to_committed(self) -> Mapping[TP, int]:
        return {SOURCE: 10}

    async def seek_wait(self, positions: Mapping[TP, int]) -> None:
        if any(offset is None for offset in positions.values()):
            raise ValueError("Offset must be a positive integer")  # as aiokafka does
        self.sought_together = positions

    def seek(self, tp: TP, offset: int) -> None:
        self.sought.append((tp, offset))

    async def commit(self, offsets: Mapping[TP, int]) -> bool:
        return True

    async def earliest_offsets(self, *tps: TP) -> Mapping[TP, int]:
        return self.earliest

    async def highwaters(self, *tps: TP) -> Mapping[TP, int]:
        return self.ends


class Worker:
    """A consumer over a fake thread. Faust's conductor puts its messages into one queue for all source partitions."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.thread = FakeThread()
        monkeypatch.setattr(consumer, "Thread", lambda *_, **__: self.thread)
        monkeypatch.setattr(consumer.Consumer, "add_dependency", lambda _, service: service)
        self.app: Any = declare(SETTINGS)
        monkeypatch.setattr(type(self.app.tables), "changelog_topics", {CHANGELOG.topic})
        self.consumer: Any = self.app.consumer
        self.app.flow_control.resume()
        self.queue, self.changelog = (self.app.FlowControlQueue(4) for _ in range(2))

    async def assign(self, *sources: TP) -> None:
        """Assign source partitions and the changelog, and seek."""
        self.thread.assigned = {*sources, CHANGELOG}
        source, changelog = (
            self.app.topic(SOURCE.topic, schema=ChunkSchema()),
            self.app.tables["students"].changelog_topic,
        )
        self.app.topics.add(source.clone_using_queue(self.queue))
        self.app.topics.add(changelog.clone_using_queue(self.changelog))
        await self.app.topics.on_partitions_assigned(self.thread.assigned)
        self.consumer.resume_partitions(self.thread.assigned)
        self.consumer.resume_flow()
        await self.consumer.perform_seek()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Run Faust's fetcher, which lets the consumer read and deliver."""
        fetcher = Fetcher(self.app)
        await fetcher.start()
        yield
        assert not fetcher.crashed
        await fetcher.stop()

    async def read(self, *fetches: Chunk | list[Chunk]) -> None:
        """Read until each of `fetches` has been delivered."""
        self.thread.fetches += [[fetch] if isinstance(fetch, Chunk) else fetch for fetch in fetches]
        async with self.reading():
            await until(lambda: not self.thread.fetches)
            requests = len(self.thread.requested)
            await until(lambda: len(self.thread.requested) >= requests + 2)

    def take(self) -> list[QueuedChunk]:
        """Take all chunks of the source topic from the agent's queue."""
        return [self.queue.get_nowait().value for _ in range(len(self.waiting()))]

    def waiting(self) -> list[QueuedChunk]:
        """The chunks in the agent's queue."""
        return [event.value for event in self.events()]

    def events(self) -> list[Any]:
        """The events in the agent's queue."""
        return list(vars(self.queue)["_queue"])


async def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)
