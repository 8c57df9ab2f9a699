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
from models.visit_batch import FRESH, Slice
from models.visits import Visits, concatenate

#: nothing is behind: everything may go
_NO_HORIZON = int(np.iinfo(np.int64).max)


@dataclass(slots=True)
class _Held:
    """One fetched piece of a source partition, or what is left of it."""

    visits: Visits
    #: the partition's clock as of each visit [n] ms: non-decreasing
    clock: Int64s
    #: the source offset behind this piece
    position: int

    def ripe(self, horizon: int) -> int:
        """How many of the visits no slower partition may still precede."""
        return int(np.searchsorted(self.clock, horizon, side="right"))


@dataclass(slots=True)
class _Source:
    """One source partition, as its reader sees it."""

    lagging: bool = True
    #: the largest event time fetched, and the largest released [ms]
    fetched: int = NEVER
    released: int = NEVER
    #: the source offset up to which everything is released; FRESH: nothing yet
    position: int = FRESH
    held: deque[_Held] = field(default_factory=deque)
    #: what was last told of this partition: (position, clock, lagging)
    told: tuple[int, int, bool] | None = None

    @property
    def rows(self) -> int:
        return sum(len(h.visits) for h in self.held)


class Aligner:
    """Holds the visits of the source partitions one reader owns. Mutable: one per assignment."""

    def __init__(self, partitions: set[int]) -> None:
        self._sources = {p: _Source() for p in sorted(partitions)}

    def held(self, partition: int) -> int:
        """Number of visits of a source partition that wait for slower ones."""
        return self._sources[partition].rows

    def position(self, partition: int) -> int:
        """The offset of a source partition up to which everything has been released."""
        return self._sources[partition].position

    def add(self, partition: int, visits: Visits, position: int, lagging: bool) -> None:
        """Take what was fetched of a source partition, up to its offset `position`; maybe no visits.

        lagging: whether the partition held more than this when it was fetched.
        """
        source = self._sources[partition]
        clock = np.maximum(np.maximum.accumulate(visits.at) if len(visits) else visits.at, source.fetched)
        source.held.append(_Held(visits, clock, position))
        source.fetched = int(clock[-1]) if len(clock) else source.fetched
        source.lagging = lagging

    def round(self, limit: int) -> list[Slice]:
        """The slices that may go now: of every partition at most one, and only where there is news.

        limit: about how many visits at most, the earliest first; call again until nothing comes.
        """
        behind = [s.fetched for s in self._sources.values() if s.lagging]
        horizon = min(behind, default=_NO_HORIZON)
        ripe = [h.clock[: h.ripe(horizon)] for s in self._sources.values() for h in s.held]
        if sum(map(len, ripe)) > limit:
            horizon = int(np.partition(np.concatenate(ripe), limit - 1)[limit - 1])
        slices = [self._release(p, s, horizon) for p, s in self._sources.items()]
        return [s for s in slices if s is not None]

    def _release(self, partition: int, source: _Source, horizon: int) -> Slice | None:
        begin, parts = source.position, []
        while source.held:
            piece = source.held[0]
            n = len(piece.visits)
            cut = piece.ripe(horizon)
            if cut:
                parts.append(piece.visits.slice(0, cut))
                source.released = int(piece.clock[cut - 1])
            if cut < n:
                rest = piece.visits.slice(cut, n)
                source.position = int(rest.offset[0])
                source.held[0] = _Held(rest, piece.clock[cut:], piece.position)
                break
            source.position = piece.position
            source.held.popleft()
        # what is held here is a backlog for everybody else, whatever the partition's end says
        lagging = source.lagging or bool(source.held)
        news = (source.position, source.released, lagging)
        if not parts and news == source.told:
            return None
        source.told = news
        return Slice(partition, begin, source.position, source.released, lagging, concatenate(parts))
