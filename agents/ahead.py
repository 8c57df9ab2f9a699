"""Events whose time is ahead of the clock: named in a warning, or set aside (RISK_MAX_AHEAD).

One such event moves stream time, and what follows is late. KSQL takes it; therefore it is taken unless a limit is set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from agents.notices import Notices, hours
from agents.ports import Metrics
from models.chunk import Chunk
from models.decoded import DecodedChunk, RejectedRecord
from models.rules import Bools

#: an event, or stream time, further ahead than this is named [ms]: clocks differ by less
NOTABLE_MS = 3_600_000
REASON = "ahead-of-clock"


class AheadOfClock:
    """Compares event times with the clock. Mutable: limits its log lines."""

    def __init__(self, metrics: Metrics, max_ahead_ms: int, clock_ms: Callable[[], int]) -> None:
        """max_ahead_ms: events further ahead are rejected, 0 for none; clock_ms: the time [epoch ms]."""
        self._metrics, self._max_ahead_ms, self._clock_ms = metrics, max_ahead_ms, clock_ms
        self._notices = Notices("events were ahead of the clock")

    def apply(self, decoded: DecodedChunk, chunk: Chunk) -> DecodedChunk:
        """Return the decoded chunk without the events that are too far ahead, which it rejects instead."""
        if not len(decoded):
            return decoded
        now = self._clock_ms()
        newest = int(decoded.at.max())
        if self._max_ahead_ms and newest > now + self._max_ahead_ms:
            return self._reject(decoded, now, decoded.at > now + self._max_ahead_ms)
        if newest > now + NOTABLE_MS:
            self._name(decoded, chunk, now)
        return decoded

    def _reject(self, decoded: DecodedChunk, now: int, ahead: Bools) -> DecodedChunk:
        rejects = [
            RejectedRecord(index, REASON, f"timecreated is {hours(at - now)} ahead of the clock, see RISK_MAX_AHEAD")
            for index, at in zip(decoded.row[ahead].tolist(), decoded.at[ahead].tolist(), strict=True)
        ]
        return replace(
            decoded.take(~ahead), rejects=sorted([*decoded.rejects, *rejects], key=lambda reject: reject.index)
        )

    def _name(self, decoded: DecodedChunk, chunk: Chunk, now: int) -> None:
        ahead = np.flatnonzero(decoded.at > now + NOTABLE_MS)
        self._metrics.add("ahead", len(ahead))

        def line(i: int) -> str:
            offset, at = int(chunk.offsets[int(decoded.row[ahead[i]])]), int(decoded.at[ahead[i]])
            return (
                f"topic {chunk.topic} partition {chunk.partition} offset {offset}: timecreated is {hours(at - now)} "
                "ahead of the clock; visits more than a day before the latest are late: set RISK_MAX_AHEAD to set such "
                "events aside"
            )

        self._notices.add(len(ahead), line)
