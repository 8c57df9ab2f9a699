"""Faust's queue between fetcher and agent, bounded by the size of its chunks instead of their number.

Faust stops fetching a partition when its agent's queue is nearly full. Four chunks are many if each is a whole fetch
of a backlog. They are few if each holds some events: the partition would pause for longer than they take.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from faust.types import TP
from mode.utils.queues import ThrowableQueue

from models.chunk import Chunk

#: size from which a chunk has the full weight [bytes]; a fetch of a partition is at most eight times as large
FULL_BYTES = 1 << 18
#: weight of a chunk of FULL_BYTES or more; the minimum is 1
FULL_WEIGHT = 8
#: most records of merged chunks: they are copied one by one
_MAX_MERGED = 512


@dataclass(slots=True)
class QueuedChunk:
    """The value of a Faust message: a chunk on its way to an agent. Mutable: it grows while it waits."""

    chunk: Chunk
    #: whether the same fetch has brought another chunk of this topic, which is delivered next
    has_next: bool = False


class ChunkQueue(ThrowableQueue[Any]):
    """Room for `maxsize` large chunks, or about six times as many small ones. Mutable, as queues are."""

    _weight = 0

    def _put(self, item: Any) -> None:
        self._weight += weight(item)
        super()._put(item)

    def _get(self) -> Any:
        item = super()._get()
        self._weight -= weight(item)
        return item

    def merge_last(self, tp: TP, chunk: Chunk, generation: int, accept: Callable[[Chunk, Chunk], bool]) -> Chunk | None:
        """Append a small chunk to the last one of its partition in the queue, if both are of `generation`.

        `accept` is called with the chunk in the queue and the merged one, and may refuse. Returns the merged chunk,
        None if there is none.
        """
        event = next((event for event in reversed(self._queue) if event.message.tp == tp), None)  # type: ignore[attr-defined]
        if event is None or event.message.generation_id != generation:
            return None
        merged = merge_small(event.value.chunk, chunk)
        if merged is None or not accept(event.value.chunk, merged):
            return None
        event.value.chunk = merged
        return merged

    def clear(self) -> None:
        """Remove everything."""
        super().clear()
        self._weight = 0

    def qsize(self) -> int:
        """Return the total weight in large chunks, rounded up: 0 only if the queue is empty."""
        return -(-self._weight // FULL_WEIGHT)


def merge_small(first: Chunk, second: Chunk) -> Chunk | None:
    """Concatenate two adjacent small chunks if the result still has the minimum weight, else None."""
    nbytes = first.nbytes + second.nbytes
    small = nbytes < FULL_BYTES // FULL_WEIGHT and len(first) + len(second) <= _MAX_MERGED
    return first.concat(second) if small and first.next_offset == second.start else None


def weight(item: Any) -> int:
    """Return the weight of an event of a chunk, 1…FULL_WEIGHT; 1 for anything else."""
    nbytes = item.value.chunk.nbytes if isinstance(getattr(item, "value", None), QueuedChunk) else 0
    return max(1, min(FULL_WEIGHT, nbytes * FULL_WEIGHT // FULL_BYTES))
