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

"Read to its end" becomes stale: if the owner of a partition dies, nobody says that the partition has a backlog now.
Where event time runs as fast as the clock that is harmless. During a snapshot or a replay at speed, days of event time
pass before there is a new owner. Therefore an owner says as of which event time it has read to the end: it asked for
the end offset when the newest event time of all partitions was N, so everything behind that end is newer. Stream time
passes N by at most MAX_LEAD_MS, half of the grace, until the owner, or a new one, confirms a later N. Owners do so
whenever N has advanced by a part of that (app/kafka/end_polls.py), so idle partitions do not hold stream time.

With one partition this is Kafka Streams' running maximum.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from models.grouped import group_starts
from models.rules import MAX_LEAD_MS, NEVER, Bools, Int64s

#: the minimum over no watermarks
_NO_LIMIT = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, slots=True)
class Watermarks:
    """The state of all source partitions as announced to one visits partition."""

    #: largest event time of each source partition [s] ms
    at: Int64s
    #: whether each has a backlog [s]; True for one that has not been announced yet
    lagging: Bools
    #: the newest event time as of which each source partition is known to have been read to its end [s] ms
    confirmed: Int64s
    #: stream time [ms]
    stream_time: int = NEVER

    @classmethod
    def unknown(cls, sources: int) -> Watermarks:
        """The state before any source partition has been announced."""
        never = np.full(sources, NEVER, np.int64)
        return cls(never, np.ones(sources, np.bool_), never)

    @property
    def newest(self) -> int:
        """The largest event time of any source partition [ms]."""
        return int(self.at.max(initial=NEVER))

    @property
    def limits(self) -> Int64s:
        """How far each source partition lets stream time advance [s] ms."""
        lead = np.minimum(self.confirmed, _NO_LIMIT - MAX_LEAD_MS) + MAX_LEAD_MS
        return np.where(self.lagging, self.at, np.maximum(self.at, lead))


def stream_times(watermarks: Watermarks, source: Int64s, at: Int64s) -> tuple[Int64s, Watermarks]:
    """Stream time before each visit (source [n], at [n] ms), and the watermarks after all of them.

    Every partition in `source` counts as lagging: while some of its visits are applied, later ones of the same batch
    are still to come.
    """
    starts = np.flatnonzero(group_starts(source)).tolist()
    partitions = source[starts].tolist()
    latest = watermarks.at.copy()
    lagging = watermarks.lagging.copy()
    lagging[partitions] = True
    limits = replace(watermarks, lagging=lagging).limits
    stream_time = np.empty(len(at), np.int64)
    # while visits of one partition are applied, the watermarks of the others do not change
    for p, (begin, end) in zip(partitions, pairwise([*starts, len(at)]), strict=True):
        watermark = np.maximum(np.maximum.accumulate(at[begin:end]), latest[p])
        limits[p] = _NO_LIMIT
        np.minimum(watermark, limits.min(), out=stream_time[begin:end])
        latest[p] = limits[p] = watermark[-1]
    after = np.maximum(stream_time, watermarks.stream_time)
    before = np.empty(len(at), np.int64)
    before[:1] = watermarks.stream_time
    before[1:] = after[:-1]
    last = int(after[-1]) if len(at) else watermarks.stream_time
    return before, replace(watermarks, at=latest, stream_time=last)


def announce(watermarks: Watermarks, source: Int64s, watermark: Int64s, lagging: Bools, as_of: Int64s) -> Watermarks:
    """The state after the reader of some source partitions [k] has announced their watermarks and backlogs.

    as_of: the event time as of which each has been read to its end [k] ms, NEVER for no confirmation. It holds for
    ever, so that an announcement which arrives late, of an owner that was suspended, does no harm.
    """
    at, all_lagging, confirmed = watermarks.at.copy(), watermarks.lagging.copy(), watermarks.confirmed.copy()
    at[source] = np.maximum(at[source], watermark)
    all_lagging[source] = lagging
    confirmed[source] = np.maximum(confirmed[source], as_of)
    after = Watermarks(at, all_lagging, confirmed, watermarks.stream_time)
    return replace(after, stream_time=max(watermarks.stream_time, min(after.newest, int(after.limits.min()))))
