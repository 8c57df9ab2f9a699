"""Group deliveries that have already arrived, so that they cost one flush or one round instead of many.

It never waits for a fetch: a group ends with the first arrival that has no other behind it.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Arrival(Generic[T]):
    """A value to be grouped."""

    value: T
    #: number of rows it adds to a group
    rows: int
    #: the consumer group's generation in which it was fetched
    generation: int
    #: whether another arrival is certain to follow at once
    has_next: bool


async def gather(arrivals: AsyncIterable[Arrival[T]], limit: int, *, may_exceed: bool) -> AsyncIterator[list[T]]:
    """Yield groups of arrivals of one generation.

    A group is complete when nothing more has arrived, or when it has `limit` rows; may_exceed: whether the
    arrival that takes it past the limit still belongs to it. An incomplete group of an earlier generation is
    dropped: the current owners of those partitions read it again.
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
