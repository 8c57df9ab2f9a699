"""Cohorts: sums of figures by (course, week of the first day), and the peers against which an entry is measured.

All sums are integers, so they add up to the same in any order and over any division into partitions. They also carry,
per course, what the weekly budget of alerts needs: the number of alerts opened within the week, and the entries first
in line for one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from models.day_bits import COUNTED_DAYS
from models.factorize import factorize, factorize_pairs
from models.figures import Figures
from models.grouped import group_starts
from models.numbers import PairNumbers
from models.rules import Bools, Float64s, Int64s
from models.standing import CohortRule

#: sums of act and log1p(silent) are in 1e-4
SUM_SCALE = 10_000
#: histograms, side by side: days silent, active days among 14 and among 28, submissions (the last bin: or more)
SILENT, ACTIVE_14, ACTIVE_28, SUBMISSIONS = (
    slice(0, COUNTED_DAYS + 1),
    slice(COUNTED_DAYS + 1, COUNTED_DAYS + 16),
    slice(COUNTED_DAYS + 16, COUNTED_DAYS + 45),
    slice(COUNTED_DAYS + 45, COUNTED_DAYS + 78),
)
_HISTOGRAMS = (SILENT, ACTIVE_14, ACTIVE_28, SUBMISSIONS)
BINS = SUBMISSIONS.stop
MAX_SUBMISSIONS = SUBMISSIONS.stop - SUBMISSIONS.start - 1
#: round(1e4 · log1p(days)) of 0…COUNTED_DAYS
_LOG1P_DAYS = np.rint(SUM_SCALE * np.log1p(np.arange(COUNTED_DAYS + 1))).astype(np.int64)
#: groups whose peers are looked up together, to bound memory
_BLOCK = 2_048
#: number of cohorts for which there is room in the beginning
_FEWEST = 64


@dataclass(frozen=True, slots=True)
class Waiting:
    """Entries in line for an alert under a weekly budget, ascending by course, and per course first in line first."""

    #: [w]
    course: Int64s
    #: the higher, the earlier [w]; see models.alerts.waiting
    rank: Int64s
    #: courses with alerts opened within the week before the tick, ascending [o]
    opened_course: Int64s
    #: their number [o]
    opened: Int64s

    @classmethod
    def none(cls) -> Waiting:
        return cls(*(np.empty(0, np.int64) for _ in range(4)))


@dataclass(frozen=True, slots=True)
class Cohorts:
    """Sums over cohorts, ascending by (course, week)."""

    #: [g]
    course: Int64s
    #: week of the first day, first // 7 [g]
    week: Int64s
    #: number of entries, and sums of act and log1p(days silent) in 1e-4, and of submissions [g, 4]
    sums: Int64s
    #: number of entries by figure [g, BINS]
    counts: NDArray[np.int32]
    waiting: Waiting

    @classmethod
    def none(cls) -> Cohorts:
        none = np.empty(0, np.int64)
        return cls(none, none, np.empty((0, 4), np.int64), np.empty((0, BINS), np.int32), Waiting.none())

    def __len__(self) -> int:
        return len(self.course)


@dataclass(frozen=True, slots=True)
class Peers:
    """What each entry is measured against."""

    #: number of peers [m]; with less than the rule's minimum there is no score
    n: Int64s
    #: means of act, of log1p(days silent) and of submissions [m], 0 without peers
    act: Float64s
    log1p_silent: Float64s
    submissions: Float64s
    #: lower medians [m] of days silent, active days among 14 and 28, and submissions (MAX_SUBMISSIONS or more)
    median_silent: Int64s
    median_14: Int64s
    median_28: Int64s
    median_submissions: Int64s

    @classmethod
    def of_nobody(cls, m: int) -> Peers:
        """No peers for each of m entries."""
        zero, mean = np.zeros(m, np.int64), np.zeros(m, np.float64)
        return cls(zero, mean, mean, mean, zero, zero, zero, zero)

    def __len__(self) -> int:
        return len(self.n)

    def take(self, rows: Int64s | Bools) -> Peers:
        """The peers of the entries at `rows` (indices or a mask)."""
        return Peers(*(getattr(self, f.name)[rows] for f in fields(self)))


@dataclass(frozen=True, slots=True)
class CohortTable:
    """Cohorts of a day, ready for looking up peers."""

    cohorts: Cohorts
    rule: CohortRule
    #: sums of all cohorts before each [g + 1, 4], and numbers of their entries up to each bin [g + 1, BINS]
    sums_before: Int64s
    counts_before: NDArray[np.int32]
    #: the distinct courses, ascending [c]
    courses: Int64s
    #: the first week of any cohort, and the number of weeks from it to the last one
    first_week: int
    weeks: int
    #: index of the course * weeks + week - first_week of each cohort, ascending [g]
    keys: Int64s
    #: peers of the entries of each cohort [g]
    peers: Peers
    #: index of each cohort, by course and week
    pairs: PairNumbers


class CohortSums:
    """Sums the figures of entries as of some days, in a time that hardly depends on the number of cohorts. Mutable."""

    def __init__(self, days: int = 1, budget: int = 0) -> None:
        """days: how many; budget: see `add`."""
        self._budget, self._waiting = budget, [Waiting.none()] * days
        self._pairs = PairNumbers()
        #: of each day and cohort, for some more than there are
        self._sums, self._counts = np.zeros((days, 0, 4), np.int64), np.zeros((days, 0, BINS), np.int32)

    def __len__(self) -> int:
        """The number of cohorts."""
        return len(self._pairs)

    def add(
        self, course: Int64s, first: Int64s, figures: Figures, waiting: Waiting | None = None, day: int | Int64s = 0
    ) -> None:
        """Add the entries [m] that are seen; course, first [m]: as in models.activity.Activity.

        day: the index of the day of all figures, or of each [m]; waiting: of that one day.
        """
        if waiting is not None and isinstance(day, int):
            self._waiting[day] = merge([self._waiting[day], waiting], self._budget)
        if not figures.seen.all():
            seen = np.flatnonzero(figures.seen)
            figures, course, first = figures.take(seen), course[seen], first[seen]
            day = day if isinstance(day, int) else day[seen]
        number = self._pairs.of(course, first // 7)
        if (more := len(self._pairs) - self._sums.shape[1]) > 0:
            more = max(more, self._sums.shape[1], _FEWEST)
            self._sums, self._counts = (
                np.concatenate((sums, np.zeros((len(sums), more, sums.shape[2]), sums.dtype)), axis=1)
                for sums in (self._sums, self._counts)
            )
        row = day * self._sums.shape[1] + number
        act = np.rint(SUM_SCALE * figures.act).astype(np.int64)
        sums, counts = self._sums.reshape(-1), self._counts.reshape(-1)
        for i, column in enumerate((np.int64(1), act, _LOG1P_DAYS[figures.silent], figures.submissions)):
            np.add.at(sums, 4 * row + i, column)
        one = np.int32(1)  # of the type of the counts: otherwise it takes fifty times as long
        row *= BINS
        submissions = np.minimum(figures.submissions, MAX_SUBMISSIONS)
        figure = (figures.silent, figures.active_14, figures.active_28, submissions)
        for bins, column in zip(_HISTOGRAMS, figure, strict=True):
            np.add.at(counts, row + bins.start + column, one)

    def cohorts(self, day: int = 0) -> Cohorts:
        """The sums so far of the day with this index."""
        present = np.flatnonzero(self._sums[day, : len(self), 0])
        course, week = (values[present] for values in self._pairs.values)
        order = np.lexsort((week, course))
        rows = present[order]
        return Cohorts(course[order], week[order], self._sums[day, rows], self._counts[day, rows], self._waiting[day])


def of(course: Int64s, first: Int64s, figures: Figures, waiting: Waiting | None = None) -> Cohorts:
    """The sums over the entries [m] that are seen; see CohortSums.add."""
    sums = CohortSums()
    sums.add(course, first, figures)
    return replace(sums.cohorts(), waiting=waiting or Waiting.none())


def add(parts: Sequence[Cohorts], budget: int = 0) -> Cohorts:
    """The sums over all `parts`, one at least; budget: of new alerts per course and week, 0 if there is none."""
    course, week, group = factorize_pairs(
        np.concatenate([p.course for p in parts]), np.concatenate([p.week for p in parts])
    )
    sums, counts = np.zeros((len(course), 4), np.int64), np.zeros((len(course), BINS), np.int32)
    begin = 0
    for part in parts:
        rows = group[begin : begin + len(part)]  # distinct within a part
        sums[rows] += part.sums
        counts[rows] += part.counts
        begin += len(part)
    return Cohorts(course, week, sums, counts, merge([p.waiting for p in parts], budget))


def merge(parts: Sequence[Waiting], budget: int) -> Waiting:
    """All entries in line, of each course the first `budget` of them."""
    if not any(len(p.course) + len(p.opened) for p in parts):
        return Waiting.none()  # as always without a budget
    course, rank = (np.concatenate([getattr(p, name) for p in parts]) for name in ("course", "rank"))
    order = np.lexsort((-rank, course))
    course, rank = course[order], rank[order]
    starts = group_starts(course)
    place = np.arange(len(course)) - np.flatnonzero(starts)[np.cumsum(starts) - 1] if len(course) else course
    kept = place < budget
    opened_course, opened = (np.concatenate([getattr(p, name) for p in parts]) for name in ("opened_course", "opened"))
    distinct, index = np.unique(opened_course, return_inverse=True)
    total = np.zeros(len(distinct), np.int64)
    np.add.at(total, index, opened)
    return Waiting(course[kept], rank[kept], distinct, total)


def tabulate(cohorts: Cohorts, rule: CohortRule) -> CohortTable:
    """Prepare `cohorts` for `peers`."""
    g = len(cohorts)
    sums, counts = np.zeros((g + 1, 4), np.int64), np.zeros((g + 1, BINS), np.int32)
    np.cumsum(cohorts.sums, axis=0, out=sums[1:])
    for bins in _HISTOGRAMS:
        np.cumsum(cohorts.counts[:, bins], axis=1, out=counts[1:, bins])
    np.cumsum(counts, axis=0, out=counts)
    courses, code = factorize(cohorts.course)
    first_week = int(cohorts.week.min(initial=0))
    weeks = int(cohorts.week.max(initial=0)) - first_week + 1
    keys = code * weeks + (cohorts.week - first_week)
    none = Peers.of_nobody(0)
    pairs = PairNumbers()
    pairs.of(cohorts.course, cohorts.week)  # ascending, so that their numbers are their indices
    table = CohortTable(cohorts, rule, sums, counts, courses, first_week, weeks, keys, none, pairs)
    return replace(table, peers=_look_up(table, cohorts.course, cohorts.week))


def peers(table: CohortTable, course: Int64s, first: Int64s) -> Peers:
    """The peers of entries by `course` [m] and `first` day [m]."""
    week = first // 7
    own = table.pairs.find(course, week)
    if (own >= 0).all():
        return table.peers.take(own)
    course, week, index = factorize_pairs(course, week)
    return _look_up(table, course, week).take(index)


def _look_up(table: CohortTable, course: Int64s, week: Int64s) -> Peers:
    """The peers of `course` [q] and `week` [q]."""
    blocks = [slice(low, low + _BLOCK) for low in range(0, len(course), _BLOCK)]
    parts = [Peers.of_nobody(0), *(_look_up_block(table, course[block], week[block]) for block in blocks)]
    return Peers(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Peers)))


def _look_up_block(table: CohortTable, course: Int64s, week: Int64s) -> Peers:
    rule, sums, counts = table.rule, table.sums_before, table.counts_before
    code, known = _find_courses(table, course)
    low, high = _find_cohorts(table, code, week - rule.weeks), _find_cohorts(table, code, week + rule.weeks + 1)
    few = sums[high, 0] - sums[low, 0] < rule.minimum
    low = np.where(few, np.searchsorted(table.keys, code * table.weeks), low)
    high = np.where(few, np.searchsorted(table.keys, (code + 1) * table.weeks), high)
    n, act, silent, submissions = ((sums[high] - sums[low]) * known[:, None]).T
    up_to, half = counts[high] - counts[low], ((n + 1) // 2).astype(np.int32)[:, None]
    medians = [np.count_nonzero(up_to[:, bins] < half, axis=1) for bins in _HISTOGRAMS]
    size = np.maximum(n, 1)
    return Peers(n, act / (SUM_SCALE * size), silent / (SUM_SCALE * size), submissions / size, *medians)


def _find_courses(table: CohortTable, course: Int64s) -> tuple[Int64s, Bools]:
    """The index of each of `course` [q] among those of the table, and whether it is one of them [q]."""
    if not len(table.courses):
        return np.zeros(len(course), np.int64), np.zeros(len(course), np.bool_)
    code = np.minimum(np.searchsorted(table.courses, course), len(table.courses) - 1)
    return code, table.courses[code] == course


def _find_cohorts(table: CohortTable, code: Int64s, week: Int64s) -> Int64s:
    """The index of the first cohort of the course `code` [q] that is not before `week` [q], or of the next course."""
    return np.searchsorted(table.keys, code * table.weeks + np.clip(week - table.first_week, 0, table.weeks))
