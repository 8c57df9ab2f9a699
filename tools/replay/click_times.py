"""The clock inside a day, drawn: OULAD knows how often a student clicked on a day, not when.

Every draw is a hash of (seed, presentation, student, day, click), so one student's day is the same
whatever else is generated, on every platform and with every version of numpy. Distributions are
quantile tables of whole seconds; their figures were measured on real Moodle logs (sessions a day,
events a session, gaps, hours).
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
#: silence between two drawn sessions [s]: one more than what would join them
APART_S = GAP_MS // 1000 + 1
#: chance that a click after a day's first begins a new session. With OULAD's clicks 42, 22, 13, 8 % of days
#: have 1, 2, 3, 4 sessions (real logs: 38, 23, 15, 9); a session has a median of 5 events (6), p90 15 (22)
NEW_SESSION = 0.1
#: on a busy day that chance shrinks so that this many sessions more than one are expected …
MORE_SESSIONS = 10
#: … and never more than this many in all: they must fit a day
MOST_SESSIONS = 40
#: time inside sessions on one day [s]; a day with more is drawn faster
MOST_ACTIVE_S = 14 * 3600
#: events by hour of day [%], 0 h first: busy from 9 to 17 h, next to nothing from 1 to 4 h
HOURS = (1.3, 0.45, 0.3, 0.25, 0.3, 0.6, 1.6, 3.2, 5.2, *[6.8] * 9, 5.3, 5.2, 5.0, 4.4, 3.2, 2.1)

_BITS = 12
_QUANTILES = 1 << _BITS


def mix(words: Words) -> Words:
    """A 64-bit hash of each word (the finalizer of splitmix64)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def after(state: Words, more: Int64s) -> Words:
    """The hash state that follows `state` and the numbers `more`."""
    return mix(state ^ ((more.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)))


def bits(words: Words, at: int) -> Int64s:
    """Twelve of each word's bits, from bit `at` upwards: 0 … 4095."""
    return ((words >> np.uint64(at)) & np.uint64(_QUANTILES - 1)).astype(np.int64)


def _gap_table() -> Int64s:
    """Quantiles of the time between two clicks of a session [4096] s: 70 % a few seconds, else
    lognormal(4.6, 1.1), cut at what still joins."""
    quick = round(0.7 * _QUANTILES)
    brief = [-4.0 * math.log(1 - (i + 0.5) / quick) for i in range(quick)]
    slow = NormalDist(4.6, 1.1)
    rest = _QUANTILES - quick
    cut = slow.cdf(math.log(GAP_MS // 1000 - 1))
    long = [math.exp(slow.inv_cdf(cut * (i + 0.5) / rest)) for i in range(rest)]
    return np.array(brief + long).astype(np.int64)


def _hour_table() -> Int64s:
    """Quantiles of the second of the day [65536] s."""
    share = np.cumsum([0.0, *HOURS])
    quantile = (np.arange(1 << 16) + 0.5) / (1 << 16) * share[-1]
    table: Int64s = np.interp(quantile, share, np.arange(25) * 3600.0).astype(np.int64)
    return table


@dataclass(frozen=True)
class Clicks:
    """Clicks with their drawn times: n = the sum of all days' clicks, grouped by day, in time order."""

    #: which row of the table of days [n]
    day: Int64s
    #: seconds since that day's midnight [n]
    second: Int64s
    #: whether the click begins a session [n]
    opens: Bools
    #: random bits of each click not used here [n]: the lowest 40
    word: Words


def draw(days: Words, clicks: Int64s) -> Clicks:
    """Times for `clicks` [d] ≥ 1 clicks on each of d days, whose hash states are `days` [d]."""
    day = np.repeat(np.arange(len(clicks)), clicks)
    nth = np.arange(len(day)) - np.repeat(np.cumsum(clicks) - clicks, clicks)
    word = after(days[day], nth)
    chance = np.minimum(NEW_SESSION, MORE_SESSIONS / np.maximum(clicks, 1)) * _QUANTILES
    opens = (bits(word, 52) < chance.astype(np.int64)[day]) | (nth == 0)
    opens &= grouped_cumsum(day, opens.astype(np.int64)) <= MOST_SESSIONS
    step = np.where(opens, 0, _gap_table()[bits(word, 40)])
    session = np.cumsum(opens) - 1
    into = grouped_cumsum(session, step)
    busy = np.bincount(day, step, len(clicks)).astype(np.int64)
    into = into * np.minimum(busy, MOST_ACTIVE_S)[day] // np.maximum(busy, 1)[day]
    begin = _begin(days, day[opens], into[group_ends(session)])
    return Clicks(day, begin[session] + into, opens, word)


def _begin(days: Words, day: Int64s, lasts: Int64s) -> Int64s:
    """When each of s sessions begins [s] s, given its `day` [s] (non-decreasing) and length `lasts` [s] s.

    The day's free time is cut at drawn hours, in order, and the sessions are put into the cuts: they
    stay inside the day and too far apart to join.
    """
    nth = cumcount(day)
    taken = lasts + APART_S
    used = np.bincount(day, taken, len(days)).astype(np.int64)[day] - APART_S
    hour = _hour_table()[(after(days[day], -1 - nth) >> np.uint64(48)).astype(np.int64)]
    hour = np.sort(day * DAY_S + hour) - day * DAY_S
    return hour * (DAY_S - used) // DAY_S + grouped_cumsum(day, taken) - taken
