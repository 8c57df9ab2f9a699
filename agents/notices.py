"""Log lines about single visits: the first ones of each minute one by one, then their number."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

log = logging.getLogger(__name__)

#: number of notices that are logged individually in each interval
FIRST = 5
#: length of an interval [s]
INTERVAL_S = 60.0


def hours(ms: int) -> str:
    """Format a duration [ms] for a log line."""
    return f"{ms / 3_600_000:.1f} h"


class Notices:
    """Limits the log lines of one kind. Mutable: counts."""

    def __init__(self, what: str) -> None:
        """what: names the visits in the summary line, e.g. "visits were late"."""
        self._what = what
        self._said = self._more = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, number: int, line: Callable[[int], str]) -> None:
        """Log or count `number` notices; `line` returns the text of the i-th. Needs a running event loop."""
        if not number:
            return
        individually = min(number, FIRST - self._said)
        for i in range(individually):
            log.warning("%s", line(i))
        self._said += individually
        self._more += number - individually
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(INTERVAL_S, self._end_interval)

    def _end_interval(self) -> None:
        if self._more:
            log.warning("%d more %s in the last %d s", self._more, self._what, INTERVAL_S)
        self._said = self._more = 0
        self._timer = None
