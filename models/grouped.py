"""Cumulative sums, maxima and counts within groups of rows, like pandas' GroupBy."""

from __future__ import annotations

import numpy as np

from models.rules import Bools, Int64s


def group_starts(group: Int64s) -> Bools:
    """Whether each row [n] is the first of its group; equal values of `group` [n] are adjacent."""
    first = np.empty(len(group), np.bool_)
    if len(group):
        first[0] = True
        np.not_equal(group[1:], group[:-1], out=first[1:])
    return first


def group_ends(group: Int64s) -> Bools:
    """Whether each row [n] is the last of its group; equal values of `group` [n] are adjacent."""
    last = np.empty(len(group), np.bool_)
    if len(group):
        last[-1] = True
        np.not_equal(group[1:], group[:-1], out=last[:-1])
    return last


def last_rows(first: Int64s, n: int) -> Int64s:
    """The last row of each group of n rows, whose first rows are `first` [g], ascending."""
    last = np.empty_like(first)
    last[:-1] = first[1:] - 1
    last[-1:] = n - 1
    return last


def grouped_cumsum(group: Int64s, values: Int64s) -> Int64s:
    """Cumulative sum of `values` [n] within each group, each row included; wraps at 64 bits.

    values: of one column [n], or of several [k, n].
    """
    if not len(group):
        return values.astype(np.int64)
    total = values.cumsum(axis=-1, dtype=np.int64)
    first = group_starts(group).nonzero()[0]
    before = np.zeros((*values.shape[:-1], len(first)), np.int64)
    before[..., 1:] = total[..., first[1:] - 1]
    total -= before.repeat(last_rows(first, len(group)) - first + 1, axis=-1)
    return total


def grouped_cummax(group: Int64s, values: Int64s) -> Int64s:
    """Cumulative maximum of `values` [n] within each group, each row included.

    `group` must be non-decreasing and not negative. Group and value share a 64-bit word; if the range of the
    values is too large for that, their ranks are used instead.
    """
    if not len(group):
        return values
    low = int(values.min())
    span = int(values.max()) - low + 1
    if span * (int(group[-1]) + 1) < 1 << 63:
        floor = group * span - low
        return np.maximum.accumulate(floor + values) - floor
    distinct, rank = np.unique(values, return_inverse=True)
    floor = group * len(distinct)
    return distinct[np.maximum.accumulate(floor + rank) - floor]


def cumcount(group: Int64s) -> Int64s:
    """Number of earlier rows in the same group, for each row [n]; `group` need not be sorted."""
    order = np.argsort(group, kind="stable")
    count = np.empty(len(group), np.int64)
    count[order] = grouped_cumsum(group[order], np.ones(len(group), np.int64)) - 1
    return count
