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

from models.grouped import group_starts
from models.rules import NEVER, Bools, Int64s

#: the smallest clock of no partition
_NONE = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, slots=True)
class Watermarks:
    """What one visits partition knows about all source partitions."""

    #: largest event time of each source partition [s] ms
    at: Int64s
    #: whether each has a backlog [s]; one that nobody has spoken for yet counts as having one
    lagging: Bools
    #: observed time [ms]
    stream_time: int = NEVER

    @classmethod
    def unknown(cls, sources: int) -> Watermarks:
        """Nothing is known of any of the source partitions."""
        return cls(np.full(sources, NEVER, np.int64), np.ones(sources, np.bool_))

    def forget_lags(self) -> Watermarks:
        """The same clocks, before anybody has spoken for a partition: after a restart or a rebalance."""
        return replace(self, lagging=np.ones(len(self.at), np.bool_))


def stream_times(watermarks: Watermarks, source: Int64s, at: Int64s) -> tuple[Int64s, Watermarks]:
    """Observed time before each visit (source [n], at [n] ms), and the clocks after them all.

    While visits of a partition are applied it has a backlog by definition: what stands behind them
    in the same frame is still to come.
    """
    stretches = np.flatnonzero(group_starts(source)).tolist()
    readers = source[stretches].tolist()
    held = set(np.flatnonzero(watermarks.lagging).tolist()) | set(readers)
    ended = watermarks.at.tolist()
    stream_time = np.empty(len(at), np.int64)
    # while one partition is read the others' clocks stand still
    for p, (begin, end) in zip(readers, pairwise([*stretches, len(at)]), strict=True):
        climbed = np.maximum(np.maximum.accumulate(at[begin:end]), ended[p])
        slowest = min((ended[other] for other in held if other != p), default=_NONE)
        np.minimum(climbed, slowest, out=stream_time[begin:end])
        ended[p] = int(climbed[-1])
    after = np.maximum(stream_time, watermarks.stream_time)
    before = np.empty(len(at), np.int64)
    before[:1] = watermarks.stream_time
    before[1:] = after[:-1]
    ends = np.array(ended, np.int64)
    return before, Watermarks(ends, watermarks.lagging, int(after[-1]) if len(at) else watermarks.stream_time)


def announce(watermarks: Watermarks, source: Int64s, watermark: Int64s, lagging: Bools) -> Watermarks:
    """The clocks after the owner of some source partitions [k] has told their clocks and backlogs."""
    at, lags = watermarks.at.copy(), watermarks.lagging.copy()
    at[source] = np.maximum(at[source], watermark)
    lags[source] = lagging
    seen = int(at[lags].min()) if lags.any() else int(at.max())
    return Watermarks(at, lags, max(watermarks.stream_time, seen))
