"""Faust's queue between fetcher and agent, bounded by what the chunks in it weigh instead of by their number.

Faust stops fetching a partition when its agent's queue is nearly full. Four chunks are much when each is a whole fetch
of a backlog; they are nothing when each holds a few events, and a partition that is stopped for them stands still for
longer than they take.
"""

from __future__ import annotations

from typing import Any

from faust.types import TP
from mode.utils.queues import ThrowableQueue

from models.chunk import Chunk

#: bytes from which on a chunk counts as one; a fetch of a partition brings eight times as many at most
WHOLE = 1 << 18
#: parts of one; the least that a chunk counts is one part
PARTS = 8
#: most records of chunks that are put together: it is done one by one
_MOST_ROWS = 256


class ChunkQueue(ThrowableQueue[Any]):
    """Room for `maxsize` large chunks, or six times as many small ones. Mutable, as queues are."""

    _weight = 0

    def _put(self, item: Any) -> None:
        self._weight += weight(item)
        super()._put(item)

    def _get(self) -> Any:
        item = super()._get()
        self._weight -= weight(item)
        return item

    def last_of(self, tp: TP) -> Any:
        """The event of a partition that was put in last and is still in it; None if there is none."""
        held: Any = self
        return next((event for event in reversed(held._queue) if event.message.tp == tp), None)

    def clear(self) -> None:
        """Forget everything in it."""
        super().clear()
        self._weight = 0

    def qsize(self) -> int:
        """What is in it, in whole chunks, rounded up: 0 only if it is empty."""
        return -(-self._weight // PARTS)


def merge_small(waiting: Chunk, later: Chunk) -> Chunk | None:
    """Both as one, where that takes no more room than one; None where it would, or they do not join."""
    nbytes = waiting.nbytes + later.nbytes
    small = nbytes < WHOLE // PARTS and len(waiting) + len(later) <= _MOST_ROWS
    return waiting.concat(later) if small and waiting.next_offset == later.start else None


def weight(item: Any) -> int:
    """How much room an event of a chunk takes, 1…PARTS; what is no event takes the least."""
    nbytes = getattr(getattr(item, "value", None), "nbytes", 0)
    return max(1, min(PARTS, nbytes * PARTS // WHOLE))
