"""Which source partitions have been read to their end, and as of which event time (models/watermarks.py)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

from models.rules import MAX_LEAD_MS, NEVER

#: a partition is confirmed to be read to its end again when event time has advanced by this much [ms]
CONFIRM_EVERY_MS = MAX_LEAD_MS // 4

P = TypeVar("P", bound=Hashable)


class Confirmations(Generic[P]):
    """Compares the ends of partitions, as the broker gave them, with what has been delivered. Mutable."""

    def __init__(self) -> None:
        #: end of partitions as of an event time [ms], to be confirmed when everything before it is delivered
        self._pending: dict[P, tuple[int, int]] = {}
        #: event time as of which each partition was last confirmed [ms]
        self._confirmed: dict[P, int] = {}

    def clear(self) -> None:
        """Forget everything: the partitions are assigned anew."""
        self._pending.clear()
        self._confirmed.clear()

    def note_ends(self, ends: Mapping[P, int], as_of: int) -> None:
        """Remember the ends of partitions; `as_of` [ms] was the newest event time known before they were requested."""
        for partition, end in ends.items():
            if self.is_due(partition, as_of):
                self._pending[partition] = end, as_of

    def is_due(self, partition: P, as_of: int) -> bool:
        """Whether event time has advanced to `as_of` [ms] far enough for another confirmation, and none is pending."""
        due = as_of >= self._confirmed.get(partition, NEVER) + CONFIRM_EVERY_MS
        return due and partition not in self._pending

    def take(self, positions: Mapping[P, int]) -> dict[P, int]:
        """Return the event times as of which partitions have now been delivered to their end [ms].

        positions: the offset up to which each partition has been delivered.
        """
        reached = {p: as_of for p, (end, as_of) in self._pending.items() if positions.get(p, -1) >= end}
        for partition in reached:
            del self._pending[partition]
        self._confirmed |= reached
        return reached
