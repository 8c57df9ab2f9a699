"""Which offsets may be committed: the processed prefix of what was delivered, and nothing past a hole."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

from models.chunk import Chunk

P = TypeVar("P", bound=Hashable)


class Ledger(Generic[P]):
    """Per partition the chunks delivered and not committed yet, in the order of delivery. Mutable.

    A chunk counts as processed only when `processed` says so, and the committed offset is the end of
    the processed prefix: whatever was delivered and never processed holds everything behind it back.
    """

    def __init__(self) -> None:
        self._open: dict[P, deque[list[object]]] = {}
        self._done: dict[P, int] = {}

    def delivered(self, partition: P, chunk: Chunk) -> None:
        """Write down that `chunk` is about to be handed to an agent."""
        self._open.setdefault(partition, deque()).append([chunk, False])

    def replace_last(self, partition: P, chunk: Chunk, whole: Chunk) -> bool:
        """Hand on `whole` instead of `chunk`, which is its beginning. False if that is not the last one delivered."""
        waiting = self._open.get(partition)
        if not waiting or waiting[-1][0] is not chunk:
            return False
        waiting[-1][0] = whole
        return True

    def processed(self, partition: P, chunk: Chunk) -> None:
        """Everything that follows from `chunk` is safe. Unknown chunks (from before a seek) are ignored."""
        waiting = self._open.get(partition)
        if waiting is None:
            return
        for entry in waiting:
            if entry[0] is chunk:
                entry[1] = True
                break
        while waiting and waiting[0][1]:
            first = waiting.popleft()[0]
            assert isinstance(first, Chunk)
            self._done[partition] = first.next_offset

    def committable(self) -> dict[P, int]:
        """The next offset of each partition that may be committed."""
        return dict(self._done)

    def done(self, partition: P, begun: int) -> int:
        """The offset behind the processed prefix; `begun` where nothing has been processed yet."""
        return self._done.get(partition, begun)

    def waiting(self, partition: P) -> int:
        """Number of chunks delivered and not processed."""
        return len(self._open.get(partition, ()))

    def clear(self) -> None:
        """After a seek or a revocation nothing that was delivered counts any more."""
        self._open.clear()
        self._done.clear()
