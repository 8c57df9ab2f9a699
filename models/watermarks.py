"""Observed time as a watermark over the clocks of the source partitions.

Kafka Streams observes the largest timestamp of a partition. Read from several source partitions at
uneven speed, that drops whole stretches of a backlog as late. Here each source partition has a clock,
its largest event time so far; while partitions have a backlog observed time is the smallest clock
among those that do, and when none has, the largest of all. It never goes back.

Worked, two partitions, [ms]:

    both have a backlog, A has told 5 000, B nothing      observed -1
    B tells 3 000                                         observed 3 000
    B is read to its end                                  observed 5 000   (A still has a backlog)
    A is read to its end at 9 000                         observed 9 000   (none has: the largest)

With one partition this is Kafka Streams' running maximum.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from models.grouped import starts
from models.rules import NEVER, Bools, Int64s

#: the smallest clock of no partition
_NONE = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, slots=True)
class Clocks:
    """What one visits partition knows about all source partitions."""

    #: largest event time of each source partition [s] ms
    at: Int64s
    #: whether each has a backlog [s]; one that nobody has spoken for yet counts as having one
    lagging: Bools
    #: observed time [ms]
    observed: int = NEVER

    @classmethod
    def unknown(cls, sources: int) -> Clocks:
        """Nothing is known of any of the source partitions."""
        return cls(np.full(sources, NEVER, np.int64), np.ones(sources, np.bool_))

    def forget_lags(self) -> Clocks:
        """The same clocks, before anybody has spoken for a partition: after a restart or a rebalance."""
        return replace(self, lagging=np.ones(len(self.at), np.bool_))


def observe(clocks: Clocks, source: Int64s, at: Int64s) -> tuple[Int64s, Clocks]:
    """Observed time before each visit (source [n], at [n] ms), and the clocks after them all.

    While visits of a partition are applied it has a backlog by definition: what stands behind them
    in the same frame is still to come.
    """
    stretches = np.flatnonzero(starts(source)).tolist()
    readers = source[stretches].tolist()
    held = set(np.flatnonzero(clocks.lagging).tolist()) | set(readers)
    ended = clocks.at.tolist()
    observed = np.empty(len(at), np.int64)
    # while one partition is read the others' clocks stand still
    for p, (begin, end) in zip(readers, pairwise([*stretches, len(at)]), strict=True):
        climbed = np.maximum(np.maximum.accumulate(at[begin:end]), ended[p])
        slowest = min((ended[other] for other in held if other != p), default=_NONE)
        np.minimum(climbed, slowest, out=observed[begin:end])
        ended[p] = int(climbed[-1])
    after = np.maximum(observed, clocks.observed)
    before = np.empty(len(at), np.int64)
    before[:1] = clocks.observed
    before[1:] = after[:-1]
    ends = np.array(ended, np.int64)
    return before, Clocks(ends, clocks.lagging, int(after[-1]) if len(at) else clocks.observed)


def announce(clocks: Clocks, source: Int64s, clock: Int64s, lagging: Bools) -> Clocks:
    """The clocks after the owner of some source partitions [k] has told their clocks and backlogs."""
    at, lags = clocks.at.copy(), clocks.lagging.copy()
    at[source] = np.maximum(at[source], clock)
    lags[source] = lagging
    seen = int(at[lags].min()) if lags.any() else int(at.max())
    return Clocks(at, lags, max(clocks.observed, seen))
