"""Figures of activity as of a day: what the risk is computed from, and what reasons name."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np

from models.activity import Activity
from models.day_bits import COUNTED_DAYS, ONE, Words, popcount, shift_left, shift_right
from models.rules import Bools, Float64s, Int64s

_COUNTED = np.uint64((1 << COUNTED_DAYS) - 1)


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of entries as of a day."""

    #: log1p of the decayed number of active days [m]
    act: Float64s
    #: days since the last visit [m], 0…COUNTED_DAYS
    silent: Int64s
    #: number of days with a submission [m]
    submissions: Int64s
    #: number of active days among the last 14 and the last 28 [m]
    active_14: Int64s
    active_28: Int64s
    #: whether the entry exists as of the day: it has begun, and is not forgotten [m]
    seen: Bools
    #: days with a visit, and with a submission [m]: bit i is the i-th day before, COUNTED_DAYS of them
    visit_days: Words
    submission_days: Words

    def __len__(self) -> int:
        return len(self.act)

    def take(self, rows: Int64s | Bools) -> Figures:
        """The figures of the entries at `rows` (indices or a mask)."""
        return Figures(*(getattr(self, f.name)[rows] for f in fields(self)))


def figures(activity: Activity, day: int | Int64s, *, half_life_days: float, forget_days: int) -> Figures:
    """Figures of each entry [m] as of `day` (one, or one of each entry [m]); later days are not seen.

    half_life_days: after how many days an active day counts half; forget_days: after how many silent days an entry
    no longer exists.
    """
    behind = activity.newest - day
    visits, submitted = (
        shift_left(words, -behind) | shift_right(words, behind) for words in (activity.visits, activity.submissions)
    )
    decayed = np.zeros(len(activity), np.int64)
    for quarter, weights in enumerate(_weights(half_life_days)):
        decayed += weights.take(((visits >> np.uint64(16 * quarter)) & np.uint64(0xFFFF)).view(np.int64))
    # the bits below the lowest one are as many as the days since
    silent = popcount((visits & (~visits + ONE)) - ONE)
    submissions = activity.older + popcount(shift_right(activity.submissions, np.maximum(behind, 0)))
    return Figures(
        act=np.log1p(decayed / 2**20),
        silent=np.minimum(silent, COUNTED_DAYS),
        submissions=submissions,
        active_14=popcount(visits & np.uint64(2**14 - 1)),
        active_28=popcount(visits & np.uint64(2**28 - 1)),
        seen=(activity.first <= day) & ~is_forgotten(activity, day, forget_days),
        visit_days=visits & _COUNTED,
        submission_days=submitted & _COUNTED,
    )


def is_forgotten(activity: Activity, day: int | Int64s, forget_days: int) -> Bools:
    """Whether each entry [m] has been silent for more than `forget_days` as of `day`."""
    return day - activity.newest > forget_days


def weight_of_day(age: int, half_life_days: float) -> int:
    """The weight of an active day `age` days ago, in 2**-20."""
    return round(2**20 * 2 ** (-age / half_life_days)) if age < COUNTED_DAYS else 0


@lru_cache(maxsize=8)
def _weights(half_life_days: float) -> list[Int64s]:
    """The sum of the weights of the days of each quarter of a word [4][2**16]."""
    tables = []
    for quarter in range(4):
        table = np.zeros(1, np.int64)
        for bit in range(16):
            table = np.append(table, table + weight_of_day(16 * quarter + bit, half_life_days))
        tables.append(table)
    return tables
