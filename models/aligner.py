"""Watermark alignment: read several source partitions in time order.

A backlog is fetched one chunk of one partition at a time, at uneven speed. The watermarks (watermarks.py) make the
result correct in any order; alignment makes it cheap: visits that a slower partition may still precede are
buffered, so that sessions are not built in pieces and merged later.

Each round releases, from every partition, the visits up to the watermark of the slowest partition with a backlog.
Without a backlog nothing is buffered.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from models.rules import NEVER, Int64s
from models.visit_batch import UNKNOWN_BEGIN, SourceRange
from models.visits import Visits, concatenate

#: no partition has a backlog: everything is released
_NO_HORIZON = int(np.iinfo(np.int64).max)


@dataclass(slots=True)
class _Buffered:
    """The visits of one fetch of a source partition that have not been released."""

    visits: Visits
    #: the partition's watermark after each visit [n] ms: non-decreasing
    watermark: Int64s
    #: the source offset after this fetch
    end: int
    #: see SourceRange.as_of
    as_of: int

    def count_until(self, horizon: int) -> int:
        """Number of visits whose watermark is at most `horizon` [ms]."""
        return int(np.searchsorted(self.watermark, horizon, side="right"))


@dataclass(slots=True)
class _Source:
    """Mutable state of one source partition."""

    lagging: bool = True
    #: whether the others need not wait for its visits, which may take long
    held: bool = False
    #: the largest event time fetched, and the largest released [ms]
    fetched: int = NEVER
    released: int = NEVER
    #: the source offset up to which everything is released; UNKNOWN_BEGIN: nothing yet
    end: int = UNKNOWN_BEGIN
    #: the latest event time as of which everything up to `end` was the whole partition [ms]
    as_of: int = NEVER
    buffered: deque[_Buffered] = field(default_factory=deque)
    #: the last announcement of this partition in a source range: (end, watermark, lagging, as_of)
    announced: tuple[int, int, bool, int] | None = None

    @property
    def buffered_rows(self) -> int:
        """Number of its visits that have not been released."""
        return sum(len(piece.visits) for piece in self.buffered)


class Aligner:
    """Buffers the visits of the source partitions that one reader owns. Mutable: one per assignment."""

    def __init__(self, partitions: set[int]) -> None:
        self._sources = {p: _Source() for p in sorted(partitions)}

    def buffered(self, partition: int) -> int:
        """Number of visits of a source partition that wait for slower partitions."""
        return self._sources[partition].buffered_rows

    def released_to(self, partition: int) -> int:
        """The offset of a source partition up to which everything is released."""
        return self._sources[partition].end

    def add(self, partition: int, visits: Visits, end: int, lagging: bool, as_of: int = NEVER) -> None:
        """Add the visits, possibly none, that were fetched from a source partition up to its offset `end`.

        lagging: whether the partition held more than this when it was fetched; as_of: see SourceRange.
        """
        source = self._sources[partition]
        watermark = np.maximum(np.maximum.accumulate(visits.at) if len(visits) else visits.at, source.fetched)
        source.buffered.append(_Buffered(visits, watermark, end, as_of))
        source.fetched = int(watermark[-1]) if len(watermark) else source.fetched
        source.lagging, source.held = lagging, False

    def hold(self, partition: int) -> None:
        """Until its next visits come, which may take long: a source partition has a backlog, but nothing waits for it.

        That keeps stream time where it is, so that its visits are not late when they come.
        """
        source = self._sources[partition]
        source.lagging = source.held = True

    def release(self, limit: int, *, hold_back: bool = True) -> list[SourceRange]:
        """Release visits: at most one range of each partition, none for a partition with nothing new.

        limit: approximate maximum number of visits, the earliest first; call again until the result is empty.
        hold_back: whether visits that slower partitions may precede stay buffered.
        """
        slower = (s.fetched for s in self._sources.values() if s.lagging and hold_back and not s.held)
        horizon = min(slower, default=_NO_HORIZON)
        due = [piece.watermark[: piece.count_until(horizon)] for s in self._sources.values() for piece in s.buffered]
        if sum(map(len, due)) > limit:
            horizon = int(np.partition(np.concatenate(due), limit - 1)[limit - 1])
        ranges = [self._release_source(p, s, horizon) for p, s in self._sources.items()]
        return [s for s in ranges if s is not None]

    def _release_source(self, partition: int, source: _Source, horizon: int) -> SourceRange | None:
        begin, parts = source.end, []
        while source.buffered:
            piece = source.buffered[0]
            n = len(piece.visits)
            cut = piece.count_until(horizon)
            if cut:
                parts.append(piece.visits.slice(0, cut))
                source.released = int(piece.watermark[cut - 1])
            if cut < n:
                rest = piece.visits.slice(cut, n)
                source.end = int(rest.offset[0])
                source.buffered[0] = _Buffered(rest, piece.watermark[cut:], piece.end, piece.as_of)
                break
            source.end = piece.end
            source.as_of = max(source.as_of, piece.as_of)
            source.buffered.popleft()
        # buffered visits are a backlog for the receivers, even if the partition has been read to its end
        lagging = source.lagging or bool(source.buffered)
        announcement = (source.end, source.released, lagging, source.as_of)
        if not parts and announcement == source.announced:
            return None
        source.announced = announcement
        return SourceRange(partition, begin, source.end, source.released, lagging, concatenate(parts), source.as_of)
