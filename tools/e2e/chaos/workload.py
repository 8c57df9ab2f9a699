"""A log whose truth is known, with everything in it that makes sessions hard."""

from __future__ import annotations

import numpy as np

from tools.replay.log_rows import LogRows

#: a Monday in October 2013 [epoch ms]
START = 1_381_104_000_000
HOUR = 3_600_000
#: how much of the log's time one second of the trial is [ms]. No more: a partition whose rows arrive 20 s after the
#: others', because the broker was away, must not be a day late, or its rows are late by rule
PACE_MS = HOUR // 2
#: clicks of a session, on average
SIZE = 8
#: silences inside what may be one session: at once, quick, just what joins, just what parts [ms]
GAPS, CHANCES = (0, 1_000, 47_000, 310_000, 900_000, 900_001), (0.05, 0.3, 0.3, 0.25, 0.05, 0.05)
#: how much later than it happened a click is logged, at most [ms], and for what share of them
DELAYS, SHARES = (5_000, HOUR // 2, 12 * HOUR), (0.93, 0.05, 0.02)


def course(seed: int, rows: int, seconds: float, students: int = 1_500) -> LogRows:
    """About `rows` rows of `students` students, by the time they were logged; they are to be sent in `seconds`.

    Late rows split sessions that they join again when they come (bridges), but none is late by a day:
    every row counts.
    """
    rng = np.random.default_rng(seed)
    size = rng.geometric(1 / SIZE, max(1, rows // SIZE))
    n = int(size.sum())
    begins = np.repeat(START + rng.integers(0, round(seconds * PACE_MS), len(size)), size)
    past = np.cumsum(rng.choice(GAPS, n, p=CHANCES))
    at = begins + past - np.repeat(past[np.cumsum(size) - size], size)
    delay = rng.integers(0, rng.choice(DELAYS, n, p=SHARES))
    order = np.argsort(at + delay, kind="stable")
    userid = np.repeat(rng.integers(1, students + 1, len(size)), size)
    names = (r"\core\event\course_viewed",)
    return LogRows(np.arange(1, n + 1), np.zeros(n, np.int64), names, userid[order], at[order])


def late(rows: LogRows) -> int:
    """How many rows come after a later one of the same student."""
    order = np.lexsort((rows.id, rows.userid))
    userid, at = rows.userid[order], rows.at[order]
    first = np.append(True, userid[1:] != userid[:-1])
    group = np.cumsum(first)
    # one running maximum over all students: each student's times are lifted above those of all before
    lifted = at + group * (int(at.max()) - int(at.min()) + 1)
    return int((lifted < np.maximum.accumulate(lifted)).sum())
