"""The offsets that may be committed: the processed prefix of the chunks delivered."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

from models.chunk import Chunk

P = TypeVar("P", bound=Hashable)


class Ledger(Generic[P]):
    """Per partition the chunks delivered and not yet committable, in the order of delivery. Mutable.

    A chunk counts as processed only after a call of `processed`, and the committable offset is the end of
    the processed prefix: a chunk that was delivered and is never processed blocks everything behind it.
    """

    def __init__(self) -> None:
        self._open: dict[P, deque[list[object]]] = {}
        self._done: dict[P, int] = {}

    def delivered(self, partition: P, chunk: Chunk) -> None:
        """Record that `chunk` is about to be delivered to an agent."""
        self._open.setdefault(partition, deque()).append([chunk, False])

    def replace_last(self, partition: P, chunk: Chunk, merged: Chunk) -> bool:
        """Replace `chunk` by `merged`, which begins with it. Returns False if `chunk` was not delivered last."""
        entries = self._open.get(partition)
        if not entries or entries[-1][0] is not chunk:
            return False
        entries[-1][0] = merged
        return True

    def processed(self, partition: P, chunk: Chunk) -> None:
        """Record that all output of `chunk` is durable. Ignores unknown chunks, which were delivered before a seek."""
        entries = self._open.get(partition)
        if entries is None:
            return
        for entry in entries:
            if entry[0] is chunk:
                entry[1] = True
                break
        while entries and entries[0][1]:
            first = entries.popleft()[0]
            assert isinstance(first, Chunk)
            self._done[partition] = first.next_offset

    def committable(self) -> dict[P, int]:
        """Return the next offset of each partition that may be committed."""
        return dict(self._done)

    def done(self, partition: P, start: int) -> int:
        """Return the offset behind the processed prefix; `start` if nothing has been processed yet."""
        return self._done.get(partition, start)

    def waiting(self, partition: P) -> int:
        """Return the number of chunks in the ledger: delivered, and not in the processed prefix."""
        return len(self._open.get(partition, ()))

    def clear(self) -> None:
        """Forget everything, after a seek or a revocation."""
        self._open.clear()
        self._done.clear()
