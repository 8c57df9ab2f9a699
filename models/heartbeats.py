"""Coalesce visit batches without visits (heartbeats) instead of sending each of them at once.

A visit batch tells every visits partition the offsets and watermarks of the source partitions. If no source partition
lags, a visits partition needs them only when it has visits to judge: so ranges without visits for it are deferred,
merged into one batch, and sent before the next batch with visits. Ranges that other partitions may be waiting for are
not deferred: those of a sender that has just taken over, a backlog that begins or ends, a partition confirmed to be
read to its end (models/watermarks.py), a watermark that has advanced by MAX_STALENESS_MS, and one that has passed a
tick, for which a visits partition may be waiting to score its students.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TypeAlias

from models.rules import NEVER
from models.visit_batch import UNKNOWN_BEGIN, SourceRange, VisitBatch

#: maximum staleness of the watermark of a source partition without backlog in a visits partition [ms]
MAX_STALENESS_MS = 60_000
#: number of times whose ticks are cached
_CACHED = 256

#: time [ms] → number of the latest tick until then
LastTick: TypeAlias = Callable[[int], int]


@dataclass(slots=True)
class _Receiver:
    """The watermarks announced to one visits partition, and the ranges deferred for it. Mutable."""

    #: source partition → its watermark [ms], whether it lags, and its `as_of` [ms], as last sent
    known: dict[int, tuple[int, bool, int]] = field(default_factory=dict)
    #: source partition → its deferred ranges, merged into one
    deferred: dict[int, SourceRange] = field(default_factory=dict)

    def may_defer(self, piece: SourceRange, last_tick: LastTick | None) -> bool:
        """Whether nobody may be waiting for a range without visits."""
        watermark, lagging, as_of = self.known.get(piece.source, (NEVER, True, NEVER))
        stale = piece.watermark >= watermark + MAX_STALENESS_MS or piece.as_of > as_of
        if lagging or piece.lagging or piece.begin == UNKNOWN_BEGIN or stale:
            return False
        return last_tick is None or last_tick(piece.watermark) == last_tick(watermark)

    def defer(self, piece: SourceRange) -> None:
        """Keep a range until the next batch, merged with the deferred one before it."""
        earlier = self.deferred.get(piece.source)
        self.deferred[piece.source] = piece if earlier is None else replace(piece, begin=earlier.begin)


class HeartbeatCoalescer:
    """Defers heartbeats for each of the visits partitions. Mutable: one per assignment."""

    def __init__(self, partitions: int, last_tick: LastTick | None = None) -> None:
        """partitions: of the visits topic; last_tick: the number of the latest tick at a time [ms], None: no ticks."""
        self._receivers = [_Receiver() for _ in range(partitions)]
        # all receivers are told the same watermarks
        self._last_tick = None if last_tick is None else lru_cache(_CACHED)(last_tick)

    def coalesce(self, visit_batches: Sequence[Sequence[VisitBatch]]) -> list[list[VisitBatch]]:
        """The batches to send now to each visits partition, in order; `visit_batches` are those of one round."""
        return [
            _coalesce(receiver, batches, self._last_tick)
            for receiver, batches in zip(self._receivers, visit_batches, strict=True)
        ]


def _coalesce(receiver: _Receiver, visit_batches: Sequence[VisitBatch], last_tick: LastTick | None) -> list[VisitBatch]:
    ranges = [piece for visit_batch in visit_batches for piece in visit_batch.ranges]
    if not any(map(len, visit_batches)) and all(receiver.may_defer(piece, last_tick) for piece in ranges):
        for piece in ranges:
            receiver.defer(piece)
        return []
    out = list(visit_batches)
    if receiver.deferred:
        out.insert(0, replace(visit_batches[0], ranges=list(receiver.deferred.values())))
        receiver.deferred = {}
    receiver.known.update({piece.source: (piece.watermark, piece.lagging, piece.as_of) for piece in ranges})
    return out
