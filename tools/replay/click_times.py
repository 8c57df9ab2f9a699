"""Random times of day for clicks: OULAD records how often a student clicked on a day, but not when.

Every random number is a hash of (seed, presentation, student, day, click). So a student's day does not depend
on what else is generated, nor on the platform or the version of numpy. Distributions are quantile tables of
whole seconds; their parameters were measured on real Moodle logs (sessions per day, events per session, gaps,
hours).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from models.grouped import cumcount, group_ends, grouped_cumsum
from models.rules import GAP_MS, Bools, Int64s

Words = npt.NDArray[np.uint64]

DAY_S = 86_400
#: minimum gap between two generated sessions [s]: one more than the gap that joins sessions
MIN_GAP_S = GAP_MS // 1000 + 1
#: probability that a click after a day's first one begins a new session. With OULAD's clicks 42, 22, 13, 8 % of days
#: have 1, 2, 3, 4 sessions (real logs: 38, 23, 15, 9); a session has a median of 5 events (6), p90 15 (22)
NEW_SESSION_PROBABILITY = 0.1
#: on a busy day the probability is reduced so that the expected number of sessions after the first is this …
MAX_EXPECTED_SESSIONS = 10
#: … and the total number never exceeds this: sessions must fit into a day
MAX_SESSIONS = 40
#: maximum time inside sessions on one day [s]; gaps are scaled down on days with more
MAX_ACTIVE_S = 14 * 3600
#: share of events by hour of day, from 0 h [%]: busy from 9 to 17 h, almost none from 1 to 4 h
HOURLY_SHARE = (1.3, 0.45, 0.3, 0.25, 0.3, 0.6, 1.6, 3.2, 5.2, *[6.8] * 9, 5.3, 5.2, 5.0, 4.4, 3.2, 2.1)

_BITS = 12
_QUANTILES = 1 << _BITS


def _splitmix64(words: Words) -> Words:
    """Return a 64-bit hash of each word (the finalizer of splitmix64)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def combine(state: Words, numbers: Int64s) -> Words:
    """Return the hash state after adding `numbers` to `state`."""
    return _splitmix64(state ^ ((numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)))


def bits(words: Words, at: int) -> Int64s:
    """Return twelve bits of each word, from bit `at` upwards: 0 … 4095."""
    return ((words >> np.uint64(at)) & np.uint64(_QUANTILES - 1)).astype(np.int64)


def _gap_table() -> Int64s:
    """Return quantiles of the time between two clicks of a session [4096] s.

    70 % are exponential with a mean of 4 s, the rest lognormal(4.6, 1.1), truncated at the session gap.
    """
    quick = round(0.7 * _QUANTILES)
    brief = [-4.0 * math.log(1 - (i + 0.5) / quick) for i in range(quick)]
    slow = NormalDist(4.6, 1.1)
    rest = _QUANTILES - quick
    cut = slow.cdf(math.log(GAP_MS // 1000 - 1))
    long = [math.exp(slow.inv_cdf(cut * (i + 0.5) / rest)) for i in range(rest)]
    return np.array(brief + long).astype(np.int64)


def _second_of_day_table() -> Int64s:
    """Return quantiles of the second of the day [65536] s."""
    share = np.cumsum([0.0, *HOURLY_SHARE])
    quantile = (np.arange(1 << 16) + 0.5) / (1 << 16) * share[-1]
    table: Int64s = np.interp(quantile, share, np.arange(25) * 3600.0).astype(np.int64)
    return table


@dataclass(frozen=True)
class ClickTimes:
    """Generated times of n clicks: n = the sum of all days' clicks, grouped by day, in time order."""

    #: index of the click's day [n]
    day: Int64s
    #: seconds since that day's midnight [n]
    second: Int64s
    #: whether the click begins a session [n]
    opens: Bools
    #: random bits of each click [n]; the lowest 40 are not used here
    word: Words


def draw(days: Words, clicks: Int64s) -> ClickTimes:
    """Generate times for `clicks` [d] ≥ 1 clicks on each of d days with hash states `days` [d]."""
    day = np.repeat(np.arange(len(clicks)), clicks)
    nth = cumcount(day)
    word = combine(days[day], nth)
    probability = np.minimum(NEW_SESSION_PROBABILITY, MAX_EXPECTED_SESSIONS / np.maximum(clicks, 1)) * _QUANTILES
    opens = (bits(word, 52) < probability.astype(np.int64)[day]) | (nth == 0)
    opens &= grouped_cumsum(day, opens.astype(np.int64)) <= MAX_SESSIONS
    step = np.where(opens, 0, _gap_table()[bits(word, 40)])
    session = np.cumsum(opens) - 1
    since_begin = grouped_cumsum(session, step)
    active = np.bincount(day, step, len(clicks)).astype(np.int64)
    since_begin = since_begin * np.minimum(active, MAX_ACTIVE_S)[day] // np.maximum(active, 1)[day]
    begin = _session_begins(days, day[opens], since_begin[group_ends(session)])
    return ClickTimes(day, begin[session] + since_begin, opens, word)


def _session_begins(days: Words, day: Int64s, duration: Int64s) -> Int64s:
    """Return the start of each of s sessions [s] s, given its `day` [s] (non-decreasing) and `duration` [s] s.

    The day's free time is divided at random hours, in order, and the sessions are placed at the divisions. So
    they stay within the day, and too far apart to be joined.
    """
    nth = cumcount(day)
    taken = duration + MIN_GAP_S
    used = np.bincount(day, taken, len(days)).astype(np.int64)[day] - MIN_GAP_S
    second = _second_of_day_table()[(combine(days[day], -1 - nth) >> np.uint64(48)).astype(np.int64)]
    second = np.sort(day * DAY_S + second) - day * DAY_S
    return second * (DAY_S - used) // DAY_S + grouped_cumsum(day, taken) - taken
