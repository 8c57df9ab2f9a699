"""Draining: the worker that `faust -A app grow` starts, which makes positions and ticks of all visits partitions even.

A worker that was killed may have sent visits to some of the visits partitions only, and one that stopped leaves
heartbeats unsent. The draining worker applies what the visits topic holds, reads the source topic up to the furthest
position that any visits partition has, sends everything it reads to all of them at once, and ends.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal

from faust.types import TP

from app.kafka.consumer import Consumer
from app.state.owned import OwnedPartitions
from models import growth
from models.ticks import Ticks

log = logging.getLogger(__name__)

#: tells a worker to drain: the process id of the command that waits for it
VARIABLE = "MOODLE_RISK_DRAIN"
#: interval of the checks [s], and how many must agree: a fetch that is on its way arrives in less
_INTERVAL_S, _CHECKS = 0.1, 10
#: checks in which another worker may own partitions: it should not run
_CHECKS_SHARED = 50


class Drain:
    """Decides what a draining worker reads, and when it ends."""

    def __init__(
        self, source: str, students: OwnedPartitions, partitions: int, parent: int, *, with_ticks: bool = False
    ) -> None:
        """partitions: among which the students are divided; parent: process without which it ends too; with_ticks:
        whether there are ticks."""
        self._source, self._students, self._partitions, self._parent = source, students, partitions, parent
        self._with_ticks = with_ticks
        self._consumer: Consumer | None = None

    def attach(self, consumer: Consumer) -> None:
        """Read as little of the source topic as possible."""
        self._consumer = consumer
        consumer.may_fetch = self._may_fetch

    def _may_fetch(self, tp: TP) -> bool:
        """Whether a visits partition has applied more of this source partition than this worker has read."""
        if tp.topic != self._source or self._consumer is None:
            return True
        furthest = max((row[tp.partition] for row in self._offsets() if tp.partition < len(row)), default=0)
        return furthest > self._consumer.next_offset(tp)

    def _offsets(self) -> list[list[int]]:
        """The position of each visits partition that has been read."""
        owned = [p for p in self._students.all() if p.number < self._partitions]
        return [p.loaded_position.offsets.tolist() for p in owned if p.loaded_position is not None]

    async def run(self) -> None:
        """End the worker when all positions are those up to which the source topic has been read."""
        agreed = shared = 0
        while agreed < _CHECKS and shared < _CHECKS_SHARED and os.getppid() == self._parent:
            await asyncio.sleep(_INTERVAL_S)
            agreed = agreed + 1 if self._is_drained() else 0
            shared = shared + 1 if self._is_shared() else 0
        if agreed < _CHECKS:
            log.error("not drained: %s", "another worker has joined" if shared else "the command waits no more")
        os.kill(os.getpid(), signal.SIGTERM)

    def _is_shared(self) -> bool:
        """Whether this worker has partitions, but not all of them."""
        assert self._consumer is not None, "attached before it runs"
        owned = {p.number for p in self._students.all()}
        return bool(self._consumer.partitions(self._source)) and not owned.issuperset(range(self._partitions))

    def _is_drained(self) -> bool:
        assert self._consumer is not None, "attached before it runs"
        sources = self._consumer.partitions(self._source)
        read = [self._consumer.next_offset(TP(self._source, number)) for number in range(sources)]
        return bool(sources) and self._offsets() == [read] * self._partitions and growth.are_even(self._ticks())

    def _ticks(self) -> list[Ticks | None]:
        """How far each visits partition has come with its ticks, if these are of any use: the risk may be off."""
        owned = [p for p in self._students.all() if p.number < self._partitions and p.loaded_position is not None]
        return [p.ticks for p in owned] if self._with_ticks else [None]
