"""Stream time from the watermarks of several source partitions.

In Kafka Streams, stream time is the largest timestamp of a partition so far. With several source partitions that are
read at uneven speed, that would drop whole parts of a backlog as late. Therefore each source partition has a
watermark, its largest event time so far; while any partition has a backlog, stream time is the smallest watermark of
those that have one, otherwise the largest of all. It never decreases.

Example with two partitions, [ms]:

    both have a backlog, A announces 5 000, B nothing     stream time -1
    B announces 3 000                                     stream time 3 000
    B is read to its end                                  stream time 5 000   (A still has a backlog)
    A is read to its end at 9 000                         stream time 9 000   (none has: the largest)

With one partition this is Kafka Streams' running maximum.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from models.grouped import group_starts
from models.rules import NEVER, Bools, Int64s

#: the minimum over no watermarks
_NO_LIMIT = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, slots=True)
class Watermarks:
    """The state of all source partitions as announced to one visits partition."""

    #: largest event time of each source partition [s] ms
    at: Int64s
    #: whether each has a backlog [s]; True for one that has not been announced yet
    lagging: Bools
    #: stream time [ms]
    stream_time: int = NEVER

    @classmethod
    def unknown(cls, sources: int) -> Watermarks:
        """The state before any source partition has been announced."""
        return cls(np.full(sources, NEVER, np.int64), np.ones(sources, np.bool_))


def stream_times(watermarks: Watermarks, source: Int64s, at: Int64s) -> tuple[Int64s, Watermarks]:
    """Stream time before each visit (source [n], at [n] ms), and the watermarks after all of them.

    Every partition in `source` counts as lagging: while some of its visits are applied, later ones of the same batch
    are still to come.
    """
    starts = np.flatnonzero(group_starts(source)).tolist()
    partitions = source[starts].tolist()
    lagging = set(np.flatnonzero(watermarks.lagging).tolist()) | set(partitions)
    latest = watermarks.at.tolist()
    stream_time = np.empty(len(at), np.int64)
    # while visits of one partition are applied, the watermarks of the others do not change
    for p, (begin, end) in zip(partitions, pairwise([*starts, len(at)]), strict=True):
        watermark = np.maximum(np.maximum.accumulate(at[begin:end]), latest[p])
        slowest = min((latest[other] for other in lagging if other != p), default=_NO_LIMIT)
        np.minimum(watermark, slowest, out=stream_time[begin:end])
        latest[p] = int(watermark[-1])
    after = np.maximum(stream_time, watermarks.stream_time)
    before = np.empty(len(at), np.int64)
    before[:1] = watermarks.stream_time
    before[1:] = after[:-1]
    last = int(after[-1]) if len(at) else watermarks.stream_time
    return before, Watermarks(np.array(latest, np.int64), watermarks.lagging, last)


def announce(watermarks: Watermarks, source: Int64s, watermark: Int64s, lagging: Bools) -> Watermarks:
    """The state after the reader of some source partitions [k] has announced their watermarks and backlogs."""
    at, all_lagging = watermarks.at.copy(), watermarks.lagging.copy()
    at[source] = np.maximum(at[source], watermark)
    all_lagging[source] = lagging
    stream_time = int(at[all_lagging].min()) if all_lagging.any() else int(at.max())
    return Watermarks(at, all_lagging, max(watermarks.stream_time, stream_time))
