"""Running sums and maxima that start anew with every group: the two scans all columns here need."""

from __future__ import annotations

import numpy as np

from models.rules import Bools, Int64s


def group_starts(group: Int64s) -> Bools:
    """Whether each row [n] is the first of its group; `group` [n] holds equal values side by side."""
    first = np.empty(len(group), np.bool_)
    if len(group):
        first[0] = True
        np.not_equal(group[1:], group[:-1], out=first[1:])
    return first


def group_ends(group: Int64s) -> Bools:
    """Whether each row [n] is the last of its group."""
    last = np.empty(len(group), np.bool_)
    if len(group):
        last[-1] = True
        np.not_equal(group[1:], group[:-1], out=last[:-1])
    return last


def grouped_cumsum(group: Int64s, values: Int64s) -> Int64s:
    """Sum of `values` [n] from the start of each group up to and with each row; wraps at 64 bits."""
    if not len(group):
        return values.astype(np.int64)
    total = np.cumsum(values, dtype=np.int64)
    first = np.flatnonzero(group_starts(group))
    before = np.zeros(len(first), np.int64)
    before[1:] = total[first[1:] - 1]
    return total - np.repeat(before, np.diff(np.append(first, len(group))))


def grouped_cummax(group: Int64s, values: Int64s) -> Int64s:
    """Largest of `values` [n] from the start of each group up to and with each row.

    `group` must be non-decreasing and not negative. Group and value share one 64-bit word; where the
    values' range is too large for that, ranks stand in for them.
    """
    if not len(group):
        return values
    low = int(values.min())
    span = int(values.max()) - low + 1
    if span * (int(group[-1]) + 1) < 1 << 63:
        floor = group * span - low
        return np.maximum.accumulate(floor + values) - floor
    ladder, rank = np.unique(values, return_inverse=True)
    step = len(ladder)
    climbed = np.maximum.accumulate(group * step + rank)
    return ladder[climbed - group * step]


def cumcount(group: Int64s) -> Int64s:
    """How many rows of its own group stand before each row [n]; `group` need not be sorted."""
    order = np.argsort(group, kind="stable")
    counted = np.empty(len(group), np.int64)
    counted[order] = grouped_cumsum(group[order], np.ones(len(group), np.int64)) - 1
    return counted
