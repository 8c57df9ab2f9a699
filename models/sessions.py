"""Sessions and their only operation: `absorb` intervals with counts.

A visit is an interval of length 0 with count 1; a run of visits is a longer one. `absorb` takes both, so "every
change" and "one change per batch" are the same algebra.

Example, gap 900 000 ms, one student (Kafka Streams SessionWindows: the gap is inclusive):

    visit at 1 000 000            -> [1 000 000, 1 000 000] x1     a new session
    visit at 1 900 000            -> [1 000 000, 1 900 000] x2     exactly the gap joins
    visit at 2 800 001            -> [2 800 001, 2 800 001] x1     one ms more does not
    visit at 2 000 000            -> [1 000 000, 2 800 001] x4     within the gap of both: they merge
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.factorize import argsort_codes, argsort_pairs
from models.grouped import group_starts, grouped_cummax, last_rows
from models.rules import GAP_MS, Bools, Int64s


@dataclass(frozen=True, slots=True)
class Sessions:
    """Closed intervals with counts, in columns.

    Sorted by (owner, start); intervals of one owner are more than the gap apart.
    """

    #: the student's index in the batch, 0…u-1 [m]
    owner: Int64s
    #: first event time [m] ms
    start: Int64s
    #: last event time [m] ms
    end: Int64s
    #: number of visits [m]
    count: Int64s

    @classmethod
    def none(cls) -> Sessions:
        """No sessions."""
        empty = np.empty(0, np.int64)
        return cls(empty, empty, empty, empty)

    def __len__(self) -> int:
        return len(self.owner)

    def take(self, rows: Int64s | Bools) -> Sessions:
        """The sessions at `rows` (indices or a mask)."""
        return Sessions(self.owner[rows], self.start[rows], self.end[rows], self.count[rows])

    @property
    def seconds(self) -> Int64s:
        """KSQL's DURATION [m] s: (end - start) / 1000, truncated."""
        return (self.end - self.start) // 1000


def of(owner: Int64s, at: Int64s) -> Sessions:
    """Visits as sessions of length 0, one per visit [n], in the given order."""
    return Sessions(owner, at, at, np.ones(len(at), np.int64))


@dataclass(frozen=True, slots=True)
class Runs:
    """Visits of each owner, divided where more than the gap is between two of them."""

    sessions: Sessions
    #: the run of each visit: a row of `sessions` [n]
    run: Int64s


def cut(owner: Int64s, at: Int64s) -> Runs:
    """Divide visits (owner [n], at [n] ms, in any order) into runs with gaps of at most 15 minutes."""
    order = argsort_codes(owner, int(owner.max(initial=0)) + 1)
    sorted_owner, sorted_at = owner[order], at[order]
    first = group_starts(sorted_owner)
    if (sorted_at[1:] < sorted_at[:-1])[~first[1:]].any():
        # few runs in time order, one of each source partition, which numpy's stable sort only has to merge
        order = np.argsort(at, kind="stable")
        order = order[argsort_codes(owner[order], int(owner.max()) + 1)]
        sorted_at = at[order]
    first[1:] |= sorted_at[1:] - sorted_at[:-1] > GAP_MS
    head = first.nonzero()[0]
    tail = last_rows(head, len(order))
    run = np.empty(len(order), np.int64)
    run[order] = first.cumsum() - 1
    return Runs(Sessions(sorted_owner[head], sorted_at[head], sorted_at[tail], tail - head + 1), run)


@dataclass(frozen=True, slots=True)
class Merge:
    """The result of `absorb` for m sessions and k arrivals."""

    #: the resulting sessions [g]
    sessions: Sessions
    #: whether each contains an arrival [g]
    touched: Bools
    #: the resulting session of each earlier session: a row of `sessions` [m]
    of_session: Int64s
    #: the resulting session of each arrival: a row of `sessions` [k]
    of_arrival: Int64s


def absorb(sessions: Sessions, arrivals: Sessions) -> Merge:
    """Merge each arrival with all sessions of its owner within the gap.

    Both arguments are sorted by (owner, start), and within each of them intervals of one owner are more than the gap
    apart. The result does not depend on the order in which the arrivals occurred.
    """
    m = len(sessions)
    owner = np.concatenate((sessions.owner, arrivals.owner))
    start = np.concatenate((sessions.start, arrivals.start))
    order = argsort_pairs(owner, start)
    owner, start = owner[order], start[order]
    end = np.concatenate((sessions.end, arrivals.end))[order]
    reach = grouped_cummax(owner, end)
    first = group_starts(owner)
    first[1:] |= start[1:] - GAP_MS > reach[:-1]
    head = first.nonzero()[0]
    group = np.empty(len(order), np.int64)
    group[order] = first.cumsum() - 1
    tail = last_rows(head, len(order))
    count = np.concatenate((sessions.count, arrivals.count))[order]
    merged = Sessions(owner[head], start[head], reach[tail], np.add.reduceat(count, head))
    touched = np.zeros(len(head), np.bool_)
    touched[group[m:]] = True
    return Merge(merged, touched, group[:m], group[m:])
