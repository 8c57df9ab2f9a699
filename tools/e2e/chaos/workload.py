"""A random log with everything that makes sessions difficult, whose result the oracle knows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tools.replay.log_rows import LogRows

#: a Monday in October 2013 [epoch ms]
START = 1_381_104_000_000
HOUR = 3_600_000
#: log time sent in one second of the run [ms]. It must not be larger: a partition whose rows arrive 20 s after the
#: others', because the broker was down, must not fall a day behind, or its rows are late and dropped
PACE_MS = HOUR // 2
#: mean number of clicks of a session
MEAN_CLICKS = 8
#: pause between two clicks [ms] → probability: none, short, the longest that joins, the shortest that separates
PAUSES_MS: Mapping[int, float] = {0: 0.05, 1_000: 0.3, 47_000: 0.3, 310_000: 0.25, 900_000: 0.05, 900_001: 0.05}
#: upper bound of the delay between a click and its log row [ms] → probability
DELAYS_MS: Mapping[int, float] = {5_000: 0.93, HOUR // 2: 0.05, 12 * HOUR: 0.02}


def generate_workload(
    seed: int,
    rows: int,
    seconds: float,
    students: int = 1_500,
    delays_ms: Mapping[int, float] = DELAYS_MS,
    pace_ms: int = PACE_MS,
) -> LogRows:
    """Return about `rows` rows of `students` students, in the order of logging, to be sent in `seconds`.

    pace_ms: log time sent in one second.

    With the default delays, late rows bridge sessions that were separate before, but no row is late by a day: every
    row counts.
    """
    rng = np.random.default_rng(seed)
    clicks = rng.geometric(1 / MEAN_CLICKS, max(1, rows // MEAN_CLICKS))
    n = int(clicks.sum())
    begins = np.repeat(START + rng.integers(0, round(seconds * pace_ms), len(clicks)), clicks)
    elapsed = np.cumsum(rng.choice(list(PAUSES_MS), n, p=list(PAUSES_MS.values())))
    at = begins + elapsed - np.repeat(elapsed[np.cumsum(clicks) - clicks], clicks)
    delay = rng.integers(0, rng.choice(list(delays_ms), n, p=list(delays_ms.values())))
    order = np.argsort(at + delay, kind="stable")
    userid = np.repeat(rng.integers(1, students + 1, len(clicks)), clicks)
    names = (r"\core\event\course_viewed",)
    return LogRows(np.arange(1, n + 1), np.zeros(n, np.int64), names, userid[order], at[order])


def count_late(rows: LogRows) -> int:
    """Count the rows that follow a later row of the same student."""
    order = np.lexsort((rows.id, rows.userid))
    userid, at = rows.userid[order], rows.at[order]
    first = np.append(True, userid[1:] != userid[:-1])
    group = np.cumsum(first)
    # a single running maximum over all students: each student's times are shifted above those of all before
    shifted = at + group * (int(at.max()) - int(at.min()) + 1)
    return int((shifted < np.maximum.accumulate(shifted)).sum())
