"""Reading several source partitions in time order: what is ahead of the slowest backlog waits.

A backlog is fetched a chunk per partition at a time, at uneven speed. The watermark (clocks.py) makes
that correct; the aligner makes it efficient: visits that a slower partition may still precede are held,
so that sessions are not made in pieces and merged afterwards.

Each round releases, of every partition, the visits up to the clock of the slowest partition that has a
backlog. Without a backlog nothing is held.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from models.rules import NEVER, Int64s
from models.visit_batch import UNKNOWN_BEGIN, SourceRange
from models.visits import Visits, concatenate

#: nothing is behind: everything may go
_NO_HORIZON = int(np.iinfo(np.int64).max)


@dataclass(slots=True)
class _Buffered:
    """One fetched piece of a source partition, or what is left of it."""

    visits: Visits
    #: the partition's clock as of each visit [n] ms: non-decreasing
    watermark: Int64s
    #: the source offset behind this piece
    end: int

    def ripe(self, horizon: int) -> int:
        """How many of the visits no slower partition may still precede."""
        return int(np.searchsorted(self.watermark, horizon, side="right"))


@dataclass(slots=True)
class _Source:
    """One source partition, as its reader sees it."""

    lagging: bool = True
    #: the largest event time fetched, and the largest released [ms]
    fetched: int = NEVER
    released: int = NEVER
    #: the source offset up to which everything is released; FRESH: nothing yet
    end: int = UNKNOWN_BEGIN
    buffered: deque[_Buffered] = field(default_factory=deque)
    #: what was last told of this partition: (position, clock, lagging)
    announced: tuple[int, int, bool] | None = None

    @property
    def rows(self) -> int:
        return sum(len(h.visits) for h in self.buffered)


class Aligner:
    """Holds the visits of the source partitions one reader owns. Mutable: one per assignment."""

    def __init__(self, partitions: set[int]) -> None:
        self._sources = {p: _Source() for p in sorted(partitions)}

    def buffered(self, partition: int) -> int:
        """Number of visits of a source partition that wait for slower ones."""
        return self._sources[partition].rows

    def released_to(self, partition: int) -> int:
        """The offset of a source partition up to which everything has been released."""
        return self._sources[partition].end

    def add(self, partition: int, visits: Visits, end: int, lagging: bool) -> None:
        """Take what was fetched of a source partition, up to its offset `position`; maybe no visits.

        lagging: whether the partition held more than this when it was fetched.
        """
        source = self._sources[partition]
        watermark = np.maximum(np.maximum.accumulate(visits.at) if len(visits) else visits.at, source.fetched)
        source.buffered.append(_Buffered(visits, watermark, end))
        source.fetched = int(watermark[-1]) if len(watermark) else source.fetched
        source.lagging = lagging

    def release(self, limit: int) -> list[SourceRange]:
        """The slices that may go now: of every partition at most one, and only where there is news.

        limit: about how many visits at most, the earliest first; call again until nothing comes.
        """
        behind = [s.fetched for s in self._sources.values() if s.lagging]
        horizon = min(behind, default=_NO_HORIZON)
        ripe = [h.watermark[: h.ripe(horizon)] for s in self._sources.values() for h in s.buffered]
        if sum(map(len, ripe)) > limit:
            horizon = int(np.partition(np.concatenate(ripe), limit - 1)[limit - 1])
        ranges = [self._release_source(p, s, horizon) for p, s in self._sources.items()]
        return [s for s in ranges if s is not None]

    def _release_source(self, partition: int, source: _Source, horizon: int) -> SourceRange | None:
        begin, parts = source.end, []
        while source.buffered:
            piece = source.buffered[0]
            n = len(piece.visits)
            cut = piece.ripe(horizon)
            if cut:
                parts.append(piece.visits.slice(0, cut))
                source.released = int(piece.watermark[cut - 1])
            if cut < n:
                rest = piece.visits.slice(cut, n)
                source.end = int(rest.offset[0])
                source.buffered[0] = _Buffered(rest, piece.watermark[cut:], piece.end)
                break
            source.end = piece.end
            source.buffered.popleft()
        # what is held here is a backlog for everybody else, whatever the partition's end says
        lagging = source.lagging or bool(source.buffered)
        news = (source.end, source.released, lagging)
        if not parts and news == source.announced:
            return None
        source.announced = news
        return SourceRange(partition, begin, source.end, source.released, lagging, concatenate(parts))
