"""Local days: which calendar day an event belongs to, and when the scoring of a day is due.

A day is a number: days since 1970-01-01 on the wall clock of one time zone, whatever the clock changes do. A tick is
the scoring as of a day; it is due when every event of the day must have arrived.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import TypeVar

import numpy as np

from models.factorize import factorize
from models.rules import Int64s

DAY_MS = 86_400_000
#: how far behind stream time an event may be and still count for the risk [ms]; a day is scored so long after its end
MAX_BEHIND_MS = 86_400_000
#: days that have a date with all their neighbours; events beyond count as of the first or the last of them
FIRST_DAY, LAST_DAY = date(1, 1, 4).toordinal() - date(1970, 1, 1).toordinal(), date(9999, 12, 28).toordinal() - 719_163
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CACHED_DAYS = 10_000
#: days of which so many follow one another are looked up by their distance from the first
_FEW = 64
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _UtcDay:
    """The offsets of the wall clock from UTC within one day of UTC."""

    #: offset [ms] before `change`
    before: int
    #: when the offset changes [ms], the end of the day if it does not
    change: int
    #: offset [ms] from `change` on
    after: int


@dataclass(frozen=True, slots=True)
class LocalDays:
    """Day numbers on the wall clock of `zone`. Caches what it has found out about days."""

    zone: tzinfo
    _offsets: dict[int, _UtcDay] = field(default_factory=dict, compare=False, repr=False)
    _ticks: dict[int, int] = field(default_factory=dict, compare=False, repr=False)
    _tables: dict[int, int] = field(default_factory=dict, compare=False, repr=False)

    def of(self, at: Int64s) -> Int64s:
        """The day of each time `at` [n] ms."""
        at = np.clip(at, FIRST_DAY * DAY_MS, LAST_DAY * DAY_MS)
        utc_days, index = _few(at // DAY_MS)
        offsets = [self._utc_day(day) for day in utc_days.tolist()]
        before, change, after = (
            np.array([getattr(o, name) for o in offsets], np.int64) for name in ("before", "change", "after")
        )
        if (before == after).all():
            local: Int64s = at + before[index]
        else:
            local = at + np.where(at < change[index], before[index], after[index])
        days: Int64s = local // DAY_MS
        return days

    def start(self, day: int) -> int:
        """The first ms of a day, or of the next one that exists: a zone that crosses the date line skips a day."""
        midnight = day * DAY_MS
        for utc_day in range(day - 2, day + 3):
            offsets, low = self._utc_day(utc_day), utc_day * DAY_MS
            for begin, end, offset in (
                (low, offsets.change, offsets.before),
                (offsets.change, low + DAY_MS, offsets.after),
            ):
                first = max(begin, midnight - offset)
                if first < end:
                    return first
        raise AssertionError("no offset from UTC reaches two days")

    @staticmethod
    def date(day: int) -> str:
        """The date of a day as YYYY-MM-DD."""
        return (date(1970, 1, 1) + timedelta(days=day)).isoformat()

    def tick_at(self, day: int) -> int:
        """The stream time [ms] from which on `day` is scored."""
        return _cached(self._ticks, day, lambda: self.start(day + 1) + MAX_BEHIND_MS)

    def last_tick(self, at: int) -> int:
        """The latest day whose tick is due at stream time `at` [ms]."""
        at = min(max(at, FIRST_DAY * DAY_MS), LAST_DAY * DAY_MS)
        day = int(self.of(np.array([at - MAX_BEHIND_MS], np.int64))[0])
        while self.tick_at(day) > at and day > FIRST_DAY:
            day -= 1
        while self.tick_at(day + 1) <= at and day < LAST_DAY:
            day += 1
        return day

    def table_day(self, day: int) -> int:
        """The day of the cohort table against which events of `day` are scored: the last one due when it begins."""
        return _cached(self._tables, day, lambda: self.last_tick(self.start(day)))

    def last_ticks(self, at: Int64s) -> Int64s:
        """The latest day whose tick is due at each stream time `at` [n] ms."""
        near, _ = factorize(self.of(at - MAX_BEHIND_MS))
        # that is the day before, but for zones that have skipped a day
        days, _ = factorize(np.clip(near[:, None] + np.arange(-2, 2), FIRST_DAY, LAST_DAY).reshape(-1))
        due = np.array([self.tick_at(day) for day in days.tolist()], np.int64)
        return days[np.maximum(np.searchsorted(due, at, side="right") - 1, 0)]

    def table_days(self, day: Int64s) -> Int64s:
        """The days of the cohort tables against which events of each `day` [n] are scored."""
        days, index = _few(day)
        return np.array([self.table_day(d) for d in days.tolist()], np.int64)[index]

    def _utc_day(self, day: int) -> _UtcDay:
        return _cached(self._offsets, day, lambda: self._find_offsets(day))

    def _find_offsets(self, day: int) -> _UtcDay:
        """Bisect for the change; no zone has two within a day of UTC."""
        low, high = day * DAY_MS, (day + 1) * DAY_MS
        before, after, end = self._offset(low), self._offset(high), high
        if before == after:
            return _UtcDay(before, end, after)
        while high - low > 1:
            middle = (low + high) // 2
            if self._offset(middle) == before:
                low = middle
            else:
                high = middle
        return _UtcDay(before, high, after)

    def _offset(self, at: int) -> int:
        offset = (_EPOCH + timedelta(milliseconds=at)).astimezone(self.zone).utcoffset()
        assert offset is not None
        return offset // timedelta(milliseconds=1)


def _few(days: Int64s) -> tuple[Int64s, Int64s]:
    """Few days, ascending, that include all `days` [n], and the index of each among them [n]."""
    if len(days) and (high := int(days.max())) - (low := int(days.min())) < _FEW:
        return np.arange(low, high + 1), days - low
    return factorize(days)


def _cached(known: dict[int, T], day: int, find: Callable[[], T]) -> T:
    """What is known of a day, or else found."""
    if day not in known:
        if len(known) >= _CACHED_DAYS:
            known.clear()
        known[day] = find()
    return known[day]
