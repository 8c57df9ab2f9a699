"""Frames without visits that need not be sent at once.

A frame tells every visits partition how far the source is and what time it is there. Where nothing lags, that matters
to a visits partition only when it has visits to judge: so what has no visits for it waits, joined into one frame, and
goes before the next one that has. It does not wait where something is new that others may be held back by: a sender
who has only just taken over, a backlog that begins or ends, or a clock that has moved on by MOST_MS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from models.rules import NEVER
from models.visit_batch import UNKNOWN_BEGIN, SourceRange, VisitBatch

#: how much older than it is the time may be that a visits partition knows of a source partition without backlog [ms]
MOST_MS = 60_000


@dataclass(slots=True)
class _Receiver:
    """What one visits partition knows, and what waits for it. Mutable."""

    #: source partition → its clock [ms], and whether it lags, as was last said
    known: dict[int, tuple[int, bool]] = field(default_factory=dict)
    waiting: dict[int, SourceRange] = field(default_factory=dict)

    def may_wait(self, piece: SourceRange) -> bool:
        watermark, lagging = self.known.get(piece.source, (NEVER, True))
        return not (lagging or piece.lagging or piece.begin == UNKNOWN_BEGIN or piece.watermark >= watermark + MOST_MS)

    def defer(self, piece: SourceRange) -> None:
        before = self.waiting.get(piece.source)
        self.waiting[piece.source] = piece if before is None else replace(piece, begin=before.begin)


class HeartbeatCoalescer:
    """What is put off for each of the visits partitions. Mutable: one per assignment."""

    def __init__(self, partitions: int) -> None:
        self._partitions = [_Receiver() for _ in range(partitions)]

    def coalesce(self, visit_batches: Sequence[Sequence[VisitBatch]]) -> list[list[VisitBatch]]:
        """The frames to send now to each visits partition, in order; `frames` are those of one round."""
        return [self._of(receiver, some) for receiver, some in zip(self._partitions, visit_batches, strict=True)]

    def _of(self, receiver: _Receiver, visit_batches: Sequence[VisitBatch]) -> list[VisitBatch]:
        if all(not len(f) and all(receiver.may_wait(piece) for piece in f.ranges) for f in visit_batches):
            for visit_batch in visit_batches:
                for piece in visit_batch.ranges:
                    receiver.defer(piece)
            return []
        out = list(visit_batches)
        if receiver.waiting:
            out.insert(0, VisitBatch(visit_batches[0].sources, list(receiver.waiting.values())))
            receiver.waiting = {}
        for visit_batch in visit_batches:
            receiver.known.update({piece.source: (piece.watermark, piece.lagging) for piece in visit_batch.ranges})
        return out
