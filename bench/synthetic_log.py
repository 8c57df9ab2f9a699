"""Synthetic log rows for benchmarks, where only the numbers of events and students matter."""

from __future__ import annotations

import numpy as np

from tools.replay.log_rows import LogRows

#: 1 July 2019, the start of the demo's rows [epoch ms]
_START_MS = 1_561_975_200_000
_DAY_MS = 86_400_000


def backlog(events: int, students: int, *, days: int = 125, seed: int = 1) -> LogRows:
    """Return about `events` visits in sessions of eight on average, in time order, with ids 1…n."""
    rng = np.random.default_rng(seed)
    size = rng.geometric(1 / 8, events // 8)
    session = np.repeat(np.arange(len(size)), size)
    gap = np.cumsum(rng.integers(1_000, 200_000, len(session)))
    first = np.flatnonzero(np.diff(session, prepend=-1))
    since_start = gap - np.repeat(gap[first], size)
    start = _START_MS + rng.integers(0, days * _DAY_MS, len(size))
    at = start[session] + since_start
    order = np.argsort(at, kind="stable")
    student = rng.integers(1, students + 1, len(size))[session]
    event = np.zeros(len(order), np.int64)
    return LogRows(np.arange(1, len(order) + 1), event, ("\\core\\event\\course_viewed",), student[order], at[order])
