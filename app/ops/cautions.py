"""What /health says besides whether the worker works: stream time away from the clock, many late visits."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from agents.ahead import NOTABLE_MS
from agents.notices import hours
from app.ops.metrics import Metrics
from models.position import Position
from models.rules import GRACE_MS, NEVER

#: window in which late visits are counted [s]
WINDOW_S = 60
#: late visits are many from this share of the visits on, and at least this number in the window
MANY_SHARE, MANY = 0.01, 10


class Cautions:
    """Cautions for the operator. Mutable: call `sample` once a second."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._samples: deque[tuple[int, int]] = deque(maxlen=WINDOW_S + 1)
        self.sample()  # what happens before the first second is over counts

    def sample(self) -> None:
        """Record the counters of visits and late visits."""
        self._samples.append((self._metrics["visits"], self._metrics["late"]))

    def lines(self, positions: Iterable[Position], now_ms: int) -> list[str]:
        """Return one line for each caution; positions: of the owned partitions; now_ms: the time [epoch ms]."""
        positions = list(positions)
        found = []
        visits, late = (last - first for first, last in zip(self._samples[0], self._samples[-1], strict=True))
        if late >= MANY and late >= MANY_SHARE * visits:
            found.append(f"{late} of {visits} visits in the last {WINDOW_S} s were late and do not count")
        ahead = stream_time_ahead_ms(positions, now_ms)
        if ahead is not None and ahead > NOTABLE_MS:
            found.append(
                f"stream time is {hours(ahead)} ahead of the clock: an event has a wrong time, see RISK_MAX_AHEAD"
            )
        held = max((p.watermarks.newest - p.watermarks.stream_time for p in positions), default=0)
        if held > GRACE_MS:
            found.append(f"stream time is {hours(held)} behind the newest event: a source partition has a backlog")
        return found


def stream_time_ahead_ms(positions: Iterable[Position], now_ms: int) -> int | None:
    """Return how far the most advanced stream time is ahead of the clock [ms]; None before the first event."""
    latest = max((p.watermarks.stream_time for p in positions), default=NEVER)
    return None if latest == NEVER else latest - now_ms
