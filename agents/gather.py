"""Group what has already arrived, so that it costs one flush or one round instead of many.

Nothing is waited for that has not been fetched: a group ends with the first arrival behind which nothing waits.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Arrival(Generic[T]):
    """Something to be grouped."""

    value: T
    #: what it adds to the size of a group
    rows: int
    #: the consumer group's generation it was fetched in
    generation: int
    #: whether another arrival surely follows at once
    has_next: bool


async def gather(arrivals: AsyncIterable[Arrival[T]], limit: int, *, may_exceed: bool) -> AsyncIterator[list[T]]:
    """Yield groups of arrivals of one generation.

    A group is complete when nothing more has arrived, or when it has `limit` rows; may_exceed: whether the
    arrival that takes it past the limit still belongs to it. What an earlier generation left incomplete is
    dropped: whoever owns those partitions now reads it again.
    """
    group: list[T] = []
    rows, generation = 0, -1
    async for arrival in arrivals:
        if arrival.generation != generation:
            group, rows, generation = [], 0, arrival.generation
        if group and not may_exceed and rows + arrival.rows > limit:
            yield group
            group, rows = [], 0
        group.append(arrival.value)
        rows += arrival.rows
        if arrival.has_next and rows < limit:
            continue
        yield group
        group, rows = [], 0
