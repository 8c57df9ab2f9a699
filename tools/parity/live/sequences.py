"""Two sequences of changes against each other: the same, one further than the other, thinned out, or different."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from models.rules import Bools, Int64s
from tools.parity.live.content import TOMBSTONE, Trail

#: same: record for record. behind: what the shorter one has is the beginning of the other (per key, where
#: only that is compared). thin: per key, one has some of the other's rows in their order, with the last
#: one: as KSQL with a cache, or a compacted topic. order: the same per key, otherwise interleaved
Relation = Literal["same", "behind", "thin", "order", "differs"]
Side = Literal["here", "there", "both"]
#: partition and offset of a record
Place: TypeAlias = tuple[int, int]
#: rows shown before the one that differs, and after
BEFORE, AFTER = 2, 1


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two sequences part: what to show of either."""

    #: number of the row, from 1; within its key, where only that is compared
    row: int
    #: the same on both sides
    before: list[Place]
    #: the row that differs and what follows it; nothing where a side has ended
    here: list[Place]
    there: list[Place]
    #: whether the values of the row are equal, and only its timestamp or headers differ
    only_stamp: bool


@dataclass(frozen=True, slots=True)
class Compared:
    """How two sequences differ."""

    relation: Relation
    #: whether the order across keys was compared, or each key for itself
    whole: bool
    #: which one is behind or thin
    side: Side = "both"
    #: where `differs` or `order` begins
    first: Difference | None = None


def compare(here: Mapping[int, Trail], there: Mapping[int, Trail], *, whole: bool) -> Compared:
    """Compare the trails (by partition) of two topics by key, value, timestamp and headers.

    whole: the order across keys counts; both must have one partition then.
    """
    a, b = _Joined.of(here), _Joined.of(there)
    if not whole:
        return _by_key(a, b)
    n = min(len(a), len(b))
    other = np.flatnonzero((a.keys[:n] != b.keys[:n]) | a.differs(np.arange(n), b, np.arange(n)))
    if not len(other):
        if len(a) == len(b):
            return Compared("same", True)
        return Compared("behind", True, "here" if len(a) < len(b) else "there")
    by_key = _by_key(a, b)
    if by_key.relation in ("thin", "behind") and by_key.side != "both":
        return Compared("thin", True, by_key.side)  # a key's last rows are left out, and other keys' follow
    at = int(other[0])
    first = _difference(a, b, np.arange(len(a)), np.arange(len(b)), at)
    return Compared("order" if by_key.relation == "same" else "differs", True, first=first)


@dataclass(frozen=True, slots=True)
class _Joined:
    """Trails one after another: keys, values, stamps, partitions, offsets [n]."""

    keys: Int64s
    values: Int64s
    stamps: Int64s
    partitions: Int64s
    offsets: Int64s

    @classmethod
    def of(cls, trails: Mapping[int, Trail]) -> _Joined:
        parts = sorted(trails.items())

        def column(of: Callable[[Trail], array[int]]) -> Int64s:
            return np.concatenate([np.empty(0, np.int64), *(np.array(of(t), np.int64) for _, t in parts)])

        return cls(
            keys=column(lambda t: t.keys),
            values=column(lambda t: t.values),
            stamps=column(lambda t: t.stamps),
            partitions=np.repeat(np.array([p for p, _ in parts], np.int64), [len(t) for _, t in parts]),
            offsets=column(lambda t: t.offsets),
        )

    def __len__(self) -> int:
        return len(self.keys)

    def differs(self, mine: Int64s, other: _Joined, its: Int64s) -> Bools:
        """Whether value, timestamp or headers of rows `mine` differ from those of `its` of the other [n]."""
        differ: Bools = (self.values[mine] != other.values[its]) | (self.stamps[mine] != other.stamps[its])
        return differ

    def places(self, rows: Int64s) -> list[Place]:
        return list(zip(self.partitions[rows].tolist(), self.offsets[rows].tolist(), strict=True))


def _difference(a: _Joined, b: _Joined, mine: Int64s, its: Int64s, at: int) -> Difference:
    """mine, its: the rows compared, in order [n], [m]; at: the position that differs."""
    both = at < len(mine) and at < len(its)
    return Difference(
        row=at + 1,
        before=a.places(mine[max(0, at - BEFORE) : at]),
        here=a.places(mine[at : at + 1 + AFTER]),
        there=b.places(its[at : at + 1 + AFTER]),
        only_stamp=both and bool(a.keys[mine[at]] == b.keys[its[at]]) and bool(a.values[mine[at]] == b.values[its[at]]),
    )


class _Grouped:
    """The rows of each key, in order: `rows(k)` of key number k."""

    def __init__(self, numbers: Int64s, keys: int) -> None:
        self._order = np.argsort(numbers, kind="stable")
        self.counts: Int64s = np.bincount(numbers, minlength=keys).astype(np.int64)
        self._starts = np.cumsum(self.counts) - self.counts

    def rows(self, key: int) -> Int64s:
        start = self._starts[key]
        return self._order[start : start + self.counts[key]]

    def nth(self, key: Int64s, rank: Int64s) -> Int64s:
        """The row of each key [n] at each rank [n]."""
        rows: Int64s = self._order[self._starts[key] + rank]
        return rows


def _by_key(a: _Joined, b: _Joined) -> Compared:
    distinct, number = np.unique(np.concatenate((a.keys, b.keys)), return_inverse=True)
    mine, its = _Grouped(number[: len(a)], len(distinct)), _Grouped(number[len(a) :], len(distinct))
    shared = np.minimum(mine.counts, its.counts)
    key = np.repeat(np.arange(len(distinct)), shared)
    rank = np.arange(len(key)) - np.repeat(np.cumsum(shared) - shared, shared)
    other = a.differs(mine.nth(key, rank), b, its.nth(key, rank))
    parted, place = np.unique(key[other], return_index=True)
    less_here, less_there = (np.flatnonzero(x.counts < y.counts) for x, y in ((mine, its), (its, mine)))
    if not len(parted):
        return _unparted(less_here, less_there, (a, mine), (b, its))
    keys = parted.tolist()
    thin_here = [_is_part(a.values[mine.rows(k)], b.values[its.rows(k)]) for k in keys]
    thin_there = [_is_part(b.values[its.rows(k)], a.values[mine.rows(k)]) for k in keys]
    # one side is thinned out if it is so at every key
    if all(thin_there) and not np.setdiff1d(less_here, parted).size:
        return Compared("thin", False, "there")
    if all(thin_here) and not np.setdiff1d(less_there, parted).size:
        return Compared("thin", False, "here")
    telling = np.flatnonzero(~(np.array(thin_here) | np.array(thin_there)))
    chosen = telling.tolist() or range(len(keys))
    ranks = rank[other][place]
    one = min(chosen, key=lambda i: int(mine.rows(keys[i])[ranks[i]]))
    k = keys[one]
    return Compared("differs", False, first=_difference(a, b, mine.rows(k), its.rows(k), int(ranks[one])))


def _unparted(
    less_here: Int64s, less_there: Int64s, here: tuple[_Joined, _Grouped], there: tuple[_Joined, _Grouped]
) -> Compared:
    """What is to say where every key's rows are the beginning of the other side's."""
    if not len(less_here) and not len(less_there):
        return Compared("same", False)
    if len(less_here) and len(less_there):
        return Compared("behind", False, "both")
    side: Side = "here" if len(less_here) else "there"
    keys, short, long = (less_here, here, there) if side == "here" else (less_there, there, here)
    # a key that came and went between two looks of a cache leaves no row at all
    done = (short[1].counts[keys] == 0) & (long[0].values[long[1].nth(keys, long[1].counts[keys] - 1)] == TOMBSTONE)
    return Compared("thin" if done.all() else "behind", False, side)


def _is_part(less: Int64s, more: Int64s) -> bool:
    """Whether `less` is `more` with rows left out (none, some or all)."""
    rest = iter(more.tolist())
    return len(less) < len(more) and all(value in rest for value in less.tolist())
