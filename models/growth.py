"""Growing: students divided among N partitions are divided among more, with the position that belongs to them.

Possible while all partitions have applied the same source offsets: then what holds for one student holds for all, in
whichever partition they are. Each student's records move as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from models.murmur2 import partitions_of
from models.position import Position
from models.rules import Int64s
from models.state_keys import student_key
from models.ticks import Ticks
from models.watermarks import Watermarks


def is_even(positions: Sequence[Position]) -> bool:
    """Whether the positions of all partitions state that they are all, and have the same source offsets."""
    stated = all(position.partitions == len(positions) for position in positions)
    return stated and len({tuple(position.offsets.tolist()) for position in positions}) == 1


def are_even(ticks: Sequence[Ticks | None]) -> bool:
    """Whether all partitions have come equally far with their ticks, and none is between its sums and its scores."""
    first = ticks[0]
    return all(one == first for one in ticks) and (first is None or first.scored == first.reached)


def merge_ticks(ticks: Sequence[Ticks | None]) -> Ticks | None:
    """The ticks of each new partition; where the former ones differ, because the risk is off, the furthest."""
    known = [one.reached for one in ticks if one is not None]
    return Ticks(max(known), max(known)) if known else None


def merge(positions: Sequence[Position]) -> Position:
    """The position at which any partition continues if it gets students from all those of `positions`, which are even.

    Where partitions differ, it is because an announcement without visits was on its way to some: the larger watermark
    and stream time hold for all. A confirmation counts only if all have it. The log is read again from these offsets,
    so that no gap is to be expected, and every source partition counts as lagging.
    """
    offsets = positions[0].offsets
    return Position(
        offsets,
        Watermarks(
            np.maximum.reduce([p.watermarks.at for p in positions]),
            np.ones(len(offsets), np.bool_),
            np.minimum.reduce([p.watermarks.confirmed for p in positions]),
            max(p.watermarks.stream_time for p in positions),
        ),
        np.zeros(len(offsets), np.bool_),
    )


def divide(keys: Collection[bytes], partitions: int) -> Int64s:
    """The partition of each key of a record of students [n], 0…`partitions`-1."""
    return partitions_of([student_key(key) for key in keys], partitions)


def with_students(position: Position, students: Int64s) -> list[Position]:
    """The merged position for each new partition, which has so many `students` [partitions]."""
    return [replace(position, students=n, partitions=len(students)) for n in students.tolist()]
