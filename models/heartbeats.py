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
from models.visit_batch import FRESH, Frame, Slice

#: how much older than it is the time may be that a visits partition knows of a source partition without backlog [ms]
MOST_MS = 60_000


@dataclass(slots=True)
class _Told:
    """What one visits partition knows, and what waits for it. Mutable."""

    #: source partition → its clock [ms], and whether it lags, as was last said
    known: dict[int, tuple[int, bool]] = field(default_factory=dict)
    waiting: dict[int, Slice] = field(default_factory=dict)

    def may_wait(self, piece: Slice) -> bool:
        clock, lagging = self.known.get(piece.source, (NEVER, True))
        return not (lagging or piece.lagging or piece.begin == FRESH or piece.clock >= clock + MOST_MS)

    def put_off(self, piece: Slice) -> None:
        before = self.waiting.get(piece.source)
        self.waiting[piece.source] = piece if before is None else replace(piece, begin=before.begin)


class Reserve:
    """What is put off for each of the visits partitions. Mutable: one per assignment."""

    def __init__(self, partitions: int) -> None:
        self._partitions = [_Told() for _ in range(partitions)]

    def pass_on(self, frames: Sequence[Sequence[Frame]]) -> list[list[Frame]]:
        """The frames to send now to each visits partition, in order; `frames` are those of one round."""
        return [self._of(told, some) for told, some in zip(self._partitions, frames, strict=True)]

    def _of(self, told: _Told, frames: Sequence[Frame]) -> list[Frame]:
        if all(not len(f) and all(told.may_wait(piece) for piece in f.slices) for f in frames):
            for frame in frames:
                for piece in frame.slices:
                    told.put_off(piece)
            return []
        out = list(frames)
        if told.waiting:
            out.insert(0, Frame(frames[0].sources, list(told.waiting.values())))
            told.waiting = {}
        for frame in frames:
            told.known.update({piece.source: (piece.clock, piece.lagging) for piece in frame.slices})
        return out
