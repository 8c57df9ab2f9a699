"""A copy of a partition's records of activity in memory, for its ticks: reading them all from RocksDB costs as much CPU
as scoring them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from models import activity_records
from models.activity_records import Packed

#: most students of a partition that are copied [72 to 80 B each with one course, 48 more with each further one]
COPIED = 300_000
#: most records that are held beside the copy until the next tick merges them
_UPDATES = 50_000


class ActivityCopy:
    """All records of a partition, if they are few enough and have been read once. Mutable; no part of the state."""

    def __init__(self) -> None:
        self._blocks: list[Packed] | None = None
        #: records written since the last scan by student, None: deleted
        self._updates: dict[int, bytes | None] = {}

    def update(self, records: Mapping[int, bytes | None]) -> None:
        """Take over records that have been written."""
        if self._blocks is None:
            return
        self._updates.update(records)
        if len(self._updates) > _UPDATES:
            self._blocks = _merged(self._blocks, self._updates)
            self._updates = {}

    def scan(self, stored: Iterable[Packed], students: int) -> Iterator[Packed]:
        """Yield all records by ascending student, about so many at a time; no update in the meantime.

        stored: reads them, so many at a time, where there is no copy.
        """
        if self._blocks is None:
            blocks, number = [], 0
            for block in stored:
                number += len(block)
                if number <= COPIED:
                    blocks.append(block)
                yield block
            self._blocks = blocks if number <= COPIED else None
            return
        if self._updates:
            self._blocks, self._updates = _merged(self._blocks, self._updates), {}
        blocks = [part for block in self._blocks for part in block.parts(2 * students)]
        self._blocks = blocks if sum(map(len, blocks)) <= COPIED else None
        yield from blocks


def _merged(blocks: list[Packed], updates: Mapping[int, bytes | None]) -> list[Packed]:
    """Blocks with the records of the students in `updates`, each in the block that reaches as far."""
    students = np.fromiter(updates, np.int64, len(updates))
    order = np.argsort(students)
    records = list(updates.values())
    new = activity_records.join(students[order], [records[i] for i in order.tolist()])
    merged = []
    for i, block in enumerate(blocks or [Packed.none()], 1):
        mine, new = new.up_to(int(block.students[-1])) if i < len(blocks) else (new, new)
        merged.append(block.updated(mine).dense() if len(mine) else block)
    return [block for block in merged if len(block)]
