"""A copy of a partition's records of activity in memory: reading and checking them was a third of the CPU of a tick."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from models import activity_records
from models.activity_records import Packed

#: most students of a partition that are copied [80 B each with one course, 48 more with each further one]; as
#: many may have changed since the last scan, and are there twice
COPIED = 300_000
#: number of records written since the last scan from which on they are packed too
_UPDATES = 50_000


class ActivityCopy:
    """All records of a partition, if they are few enough and have been read once. Mutable; no part of the state."""

    def __init__(self) -> None:
        self._blocks: list[Packed] | None = None
        #: records written since the last scan: the latest by student, None: deleted; and those before them, in order
        self._updates: dict[int, bytes | None] = {}
        self._packed: list[Packed] = []

    def update(self, records: Mapping[int, bytes | None]) -> None:
        """Take over records that have been written."""
        if self._blocks is None:
            return
        self._updates.update(records)
        if len(self._updates) > _UPDATES:
            self._pack_updates()
        if sum(map(len, self._packed)) > COPIED:
            self._forget()

    def scan(self, stored: Iterable[Packed], students: int) -> Iterator[Packed]:
        """Yield all records by ascending student, about so many at a time; no update in the meantime.

        stored: reads them, so many at a time, where there is no copy.
        """
        if self._blocks is None:
            source: Iterable[Packed] = stored
        else:
            self._pack_updates()
            source = _merged(self._blocks, self._packed)
        blocks, number = [], 0
        for block in source:
            for part in block.parts(2 * students):
                number += len(part)
                if number <= COPIED:
                    blocks.append(part)
                yield part
        self._forget()
        if number <= COPIED:
            self._blocks = blocks

    def _pack_updates(self) -> None:
        self._packed.append(activity_records.join_by_student(self._updates))
        self._updates = {}

    def _forget(self) -> None:
        self._blocks, self._updates, self._packed = None, {}, []


def _merged(blocks: Sequence[Packed], updates: Sequence[Packed]) -> Iterator[Packed]:
    """Blocks with the records of `updates`, each in the block that reaches as far; made one at a time."""
    left = list(updates)
    for i, block in enumerate(blocks or [Packed.none()], 1):
        merged = block
        for j, update in enumerate(left):
            mine, left[j] = update.up_to(int(block.students[-1])) if i < len(blocks) else (update, update)
            merged = merged.updated(mine)
        merged = merged.dense()
        if len(merged):
            yield merged
