"""The way of fetched chunks into the queues of the agents that read them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from faust.types import TP

from app.kafka.queue import ChunkQueue, QueuedChunk
from app.kafka.source_progress import SourceProgress, tp_of
from app.upstream.faust import new_message
from models.chunk import Chunk

if TYPE_CHECKING:
    from app.kafka.consumer import Consumer


class Delivery:
    """Selects the chunks that are due, merges small ones into those that wait, and puts the others into the queues.

    `generation` is always the one in which the chunks were fetched: those of another one are dropped, and so is
    everything while flow is suspended. They are fetched again after the rebalance.
    """

    def __init__(self, consumer: Consumer, progress: SourceProgress) -> None:
        self._consumer, self._progress = consumer, progress

    async def select(self, generation: int, chunks: Sequence[Chunk]) -> list[QueuedChunk]:
        """Return those of one fetch that are to be put. Seeks back where a partition has a hole."""
        # `has_next` makes an agent wait: it must count only chunks that are delivered
        due = [chunk for chunk in chunks if await self._is_due(chunk, generation)]
        return with_has_next([chunk for chunk in due if not self._merge(chunk, generation)])

    async def put(self, generation: int, chunks: Sequence[QueuedChunk]) -> None:
        """Put chunks into the agents' queues; wait while one is full, until flow is suspended."""
        if all(not queue.full() for queued in chunks for queue in self._queues(tp_of(queued.chunk))):
            await self._put(generation, chunks)  # without the cost of two tasks
        else:
            await self._consumer.wait_first(self._put(generation, chunks), self._consumer.suspend_flow.wait())

    def _is_current(self, generation: int) -> bool:
        return self._consumer.flow_active and self._consumer.app.consumer_generation_id == generation

    async def _is_due(self, chunk: Chunk, generation: int) -> bool:
        """Whether to deliver a chunk that was fetched in `generation`."""
        tp = tp_of(chunk)
        if not self._is_current(generation):
            return False
        return self._consumer.is_changelog(tp) or await self._is_next(tp, chunk)

    async def _is_next(self, tp: TP, chunk: Chunk) -> bool:
        """Whether `chunk` begins where the one before it ended. Seek back if it begins later."""
        consumer, expected = self._consumer, self._progress.next_offsets.get(tp)
        if expected is None or chunk.start < expected:
            return False  # fetched before a seek, and fetched again after it
        if chunk.start > expected:
            earliest = (await consumer.earliest_offsets(tp)).get(tp, 0)
            if earliest <= expected:
                consumer.log.error(
                    "topic %s partition %d: got offset %d instead of %d, reading again",
                    tp.topic, tp.partition, chunk.start, expected,
                )  # fmt: skip
                await consumer.seek(tp, expected)
                return False
            consumer.log.error(
                "topic %s partition %d: offsets %d to %d were deleted by retention before they were read",
                tp.topic, tp.partition, expected, chunk.start - 1,
            )  # fmt: skip
        return True

    def _merge(self, chunk: Chunk, generation: int) -> bool:
        """Merge a small chunk into the one before it if that still waits: an agent's cost is mostly per chunk."""
        tp = tp_of(chunk)
        queues = self._queues(tp)
        if self._consumer.is_changelog(tp) or len(queues) != 1 or not self._is_current(generation):
            return False
        merged = queues[0].merge_last(tp, chunk, generation, partial(self._progress.ledger.replace_last, tp))
        if merged is None:
            return False
        self._progress.advance(tp, merged)
        self._consumer.app.monitor.track_tp_end_offset(tp, merged.end)
        return True

    def _queues(self, tp: TP) -> list[ChunkQueue]:
        """Return the queues of the agents that read a partition, as Faust's Conductor selects them."""
        channels: Any = self._consumer.app.topics
        return [
            channel.queue
            for channel in channels
            if tp.topic in channel.topics and (channel.active_partitions is None or tp in channel.active_partitions)
        ]

    async def _put(self, generation: int, chunks: Sequence[QueuedChunk]) -> None:
        consumer, progress = self._consumer, self._progress
        for queued in chunks:
            if not self._is_current(generation):
                return
            chunk = queued.chunk
            tp = tp_of(chunk)
            if not consumer.is_changelog(tp):
                progress.advance(tp, chunk)
                progress.ledger.delivered(tp, chunk)
            consumer.app.monitor.track_tp_end_offset(tp, chunk.end)
            # recovery waits for the offset before the end: that of a control marker, or of a record that compaction
            # took
            offset = chunk.next_offset - 1
            await consumer.callback(new_message(tp, queued, offset, consumer.app.consumer_generation_id))


def with_has_next(chunks: Sequence[Chunk]) -> list[QueuedChunk]:
    """Order the chunks of one fetch by topic, and set `has_next` for all but the last of each topic."""
    ordered = sorted(chunks, key=lambda chunk: chunk.topic)
    topics = [chunk.topic for chunk in ordered]
    return [QueuedChunk(chunk, topics[i + 1 : i + 2] == [chunk.topic]) for i, chunk in enumerate(ordered)]
