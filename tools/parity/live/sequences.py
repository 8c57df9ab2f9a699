"""Compare two sequences of changes: equal, one ahead of the other, one a subset of the other, or different."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from models.grouped import cumcount
from models.rules import Bools, Int64s
from tools.parity.live.content import TOMBSTONE, Fingerprints

#: same: equal record for record
#: behind: the shorter one is a prefix of the other (per key, where only that is compared)
#: subset: per key, one has some of the other's rows in the same order, including the last one, as KSQL with a
#:     cache writes them, or as a compacted topic keeps them
#: order: the same per key, but interleaved differently
#: differs: none of these
Relation = Literal["same", "behind", "subset", "order", "differs"]
Side = Literal["here", "there", "both"]
#: partition and offset of a record
Location: TypeAlias = tuple[int, int]
#: number of rows shown before the first difference, and after it
BEFORE, AFTER = 2, 1


@dataclass(frozen=True, slots=True)
class FirstDifference:
    """The first difference of two sequences, and the rows around it."""

    #: number of the row, from 1; within its key, where only that is compared
    row: int
    #: rows before it, equal on both sides
    before: list[Location]
    #: the differing row and those after it; empty where the side's sequence has ended
    here: list[Location]
    there: list[Location]
    #: whether the rows have the same key and value, and differ only in timestamp or headers
    only_stamp: bool


@dataclass(frozen=True, slots=True)
class SequenceComparison:
    """How two sequences differ."""

    relation: Relation
    #: whether the order across keys was compared too, not only that within each key
    total_order: bool
    #: the side that is behind or a subset
    side: Side = "both"
    #: the first difference, for `differs` and `order`
    first: FirstDifference | None = None


def compare_sequences(
    here: Mapping[int, Fingerprints], there: Mapping[int, Fingerprints], *, total_order: bool
) -> SequenceComparison:
    """Compare the records of two topics (by partition) by key, value, timestamp and headers.

    total_order: compare the order across keys too; both topics must have one partition then.
    """
    a, b = _Records.concatenate(here), _Records.concatenate(there)
    if not total_order:
        return _compare_by_key(a, b)
    n = min(len(a), len(b))
    unequal = np.flatnonzero((a.keys[:n] != b.keys[:n]) | a.differs(np.arange(n), b, np.arange(n)))
    if not len(unequal):
        if len(a) == len(b):
            return SequenceComparison("same", True)
        return SequenceComparison("behind", True, "here" if len(a) < len(b) else "there")
    by_key = _compare_by_key(a, b)
    if by_key.relation in ("subset", "behind") and by_key.side != "both":
        return SequenceComparison("subset", True, by_key.side)  # behind per key, with rows of other keys after the gap
    first = _first_difference(a, b, np.arange(len(a)), np.arange(len(b)), int(unequal[0]))
    return SequenceComparison("order" if by_key.relation == "same" else "differs", True, first=first)


@dataclass(frozen=True, slots=True)
class _Records:
    """The records of all partitions, concatenated: keys, values, stamps, partitions, offsets [n]."""

    keys: Int64s
    values: Int64s
    stamps: Int64s
    partitions: Int64s
    offsets: Int64s

    @classmethod
    def concatenate(cls, partitions: Mapping[int, Fingerprints]) -> _Records:
        parts = sorted(partitions.items())

        def column(of: Callable[[Fingerprints], array[int]]) -> Int64s:
            return np.concatenate([np.empty(0, np.int64), *(np.array(of(f), np.int64) for _, f in parts)])

        return cls(
            keys=column(lambda f: f.keys),
            values=column(lambda f: f.values),
            stamps=column(lambda f: f.stamps),
            partitions=np.repeat(np.array([p for p, _ in parts], np.int64), [len(f) for _, f in parts]),
            offsets=column(lambda f: f.offsets),
        )

    def __len__(self) -> int:
        return len(self.keys)

    def differs(self, rows: Int64s, other: _Records, other_rows: Int64s) -> Bools:
        """Return whether value, timestamp or headers of `rows` differ from those of `other_rows` [n]."""
        differ: Bools = (self.values[rows] != other.values[other_rows]) | (
            self.stamps[rows] != other.stamps[other_rows]
        )
        return differ

    def locations(self, rows: Int64s) -> list[Location]:
        return list(zip(self.partitions[rows].tolist(), self.offsets[rows].tolist(), strict=True))


def _first_difference(a: _Records, b: _Records, a_rows: Int64s, b_rows: Int64s, at: int) -> FirstDifference:
    """Return the first difference. a_rows [n], b_rows [m]: the compared rows, in order; at: its index in both."""
    both = at < len(a_rows) and at < len(b_rows)
    return FirstDifference(
        row=at + 1,
        before=a.locations(a_rows[max(0, at - BEFORE) : at]),
        here=a.locations(a_rows[at : at + 1 + AFTER]),
        there=b.locations(b_rows[at : at + 1 + AFTER]),
        only_stamp=both
        and bool(a.keys[a_rows[at]] == b.keys[b_rows[at]])
        and bool(a.values[a_rows[at]] == b.values[b_rows[at]]),
    )


class _RowsByKey:
    """The rows of each key, in order; keys are numbered from 0."""

    def __init__(self, keys: Int64s, key_count: int) -> None:
        self._order = np.argsort(keys, kind="stable")
        self.counts: Int64s = np.bincount(keys, minlength=key_count).astype(np.int64)
        self._starts = np.cumsum(self.counts) - self.counts

    def rows(self, key: int) -> Int64s:
        start = self._starts[key]
        return self._order[start : start + self.counts[key]]

    def nth(self, key: Int64s, rank: Int64s) -> Int64s:
        """Return the row of each key [n] at each rank [n]."""
        rows: Int64s = self._order[self._starts[key] + rank]
        return rows


def _compare_by_key(a: _Records, b: _Records) -> SequenceComparison:
    distinct, key_index = np.unique(np.concatenate((a.keys, b.keys)), return_inverse=True)
    a_rows, b_rows = _RowsByKey(key_index[: len(a)], len(distinct)), _RowsByKey(key_index[len(a) :], len(distinct))
    shared = np.minimum(a_rows.counts, b_rows.counts)
    key = np.repeat(np.arange(len(distinct)), shared)
    rank = cumcount(key)
    unequal = a.differs(a_rows.nth(key, rank), b, b_rows.nth(key, rank))
    differing, first = np.unique(key[unequal], return_index=True)
    fewer_here, fewer_there = (np.flatnonzero(x.counts < y.counts) for x, y in ((a_rows, b_rows), (b_rows, a_rows)))
    if not len(differing):
        return _compare_prefixes(fewer_here, fewer_there, (a, a_rows), (b, b_rows))
    keys = differing.tolist()
    subset_here = [_is_subsequence(a.values[a_rows.rows(k)], b.values[b_rows.rows(k)]) for k in keys]
    subset_there = [_is_subsequence(b.values[b_rows.rows(k)], a.values[a_rows.rows(k)]) for k in keys]
    # a side is a subset only if it is one for every key
    if all(subset_there) and not np.setdiff1d(fewer_here, differing).size:
        return SequenceComparison("subset", False, "there")
    if all(subset_here) and not np.setdiff1d(fewer_there, differing).size:
        return SequenceComparison("subset", False, "here")
    # of the keys that no subset explains, if any, show the one whose rows differ first here
    unexplained = np.flatnonzero(~(np.array(subset_here) | np.array(subset_there))).tolist()
    ranks = rank[unequal][first]
    shown = min(unexplained or range(len(keys)), key=lambda i: int(a_rows.rows(keys[i])[ranks[i]]))
    k = keys[shown]
    difference = _first_difference(a, b, a_rows.rows(k), b_rows.rows(k), int(ranks[shown]))
    return SequenceComparison("differs", False, first=difference)


def _compare_prefixes(
    fewer_here: Int64s, fewer_there: Int64s, here: tuple[_Records, _RowsByKey], there: tuple[_Records, _RowsByKey]
) -> SequenceComparison:
    """Compare sides where each key's rows on one side are a prefix of those on the other."""
    if not len(fewer_here) and not len(fewer_there):
        return SequenceComparison("same", False)
    if len(fewer_here) and len(fewer_there):
        return SequenceComparison("behind", False, "both")
    side: Side = "here" if len(fewer_here) else "there"
    keys, (_, short_rows), (long, long_rows) = (
        (fewer_here, here, there) if side == "here" else (fewer_there, there, here)
    )
    # a key that was created and deleted between two flushes of a cache leaves no row at all
    deleted = long.values[long_rows.nth(keys, long_rows.counts[keys] - 1)] == TOMBSTONE
    cached = (short_rows.counts[keys] == 0) & deleted
    return SequenceComparison("subset" if cached.all() else "behind", False, side)


def _is_subsequence(short: Int64s, long: Int64s) -> bool:
    """Return whether `short` is `long` with at least one row left out."""
    rest = iter(long.tolist())
    return len(short) < len(long) and all(value in rest for value in short.tolist())
