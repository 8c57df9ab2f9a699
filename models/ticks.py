"""Ticks: the daily scoring of all students of a visits partition, in step with stream time.

The tick of day D is due when stream time reaches the end of D plus 24 h (models/days.py): rows that are later than
that set no day bits, so what is known of the days up to D is final. A partition divides its visit batches before the
row that takes stream time there. First it writes the sums of its own students ("reached D"); once all partitions have,
it scores them ("scored D").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from models import state
from models.days import LocalDays
from models.position import Position, drop_applied
from models.routing import cut
from models.rules import MAX_LEAD_MS, NEVER
from models.state import StateError
from models.visit_batch import VisitBatch

#: layout that this code reads and writes
VERSION = 1
#: key of the record in the table of students; no userid has this text
KEY = b"ticks"


@dataclass(frozen=True, slots=True)
class Ticks:
    """How far a visits partition has come."""

    #: the last day of which its sums are written
    reached: int
    #: the last day as of which its students are scored
    scored: int


def pack(ticks: Ticks) -> bytes:
    """The record: version and checksum (models/state.py), day reached, day scored."""
    return state.pack_words(VERSION, np.array([0, ticks.reached, ticks.scored], np.int64))


def unpack(raw: bytes | None) -> Ticks | None:
    """The ticks in `raw`, None for None. Raises StateError if it is damaged or of another version."""
    if raw is None:
        return None
    state.check([raw], VERSION, "a ticks record")
    if len(raw) != 24:
        raise StateError(f"a ticks record of {len(raw)} bytes is damaged")
    return Ticks(int.from_bytes(raw[8:16], "little", signed=True), int.from_bytes(raw[16:], "little", signed=True))


@dataclass(frozen=True, slots=True)
class Divided:
    """Visit batches, divided where a tick is due."""

    #: what comes before it
    before: Sequence[VisitBatch]
    #: what comes after it, the row that made it due first
    after: Sequence[VisitBatch]
    #: stream time at which ticks are due between the two [ms]; NEVER: none is due, and `after` is empty
    due_at: int


def divide(position: Position, visit_batches: Sequence[VisitBatch], tick_at: int) -> Divided:
    """Divide visit batches, which are applied at `position`, before the row that takes stream time to `tick_at` [ms].

    If no row does, but an announcement behind the rows, the tick is due behind its batch.
    """
    if drop_applied(position, visit_batches).position.watermarks.stream_time < tick_at:
        return Divided(visit_batches, (), NEVER)
    for i, visit_batch in enumerate(visit_batches):
        new = drop_applied(position, [visit_batch])
        if len(new.after) and new.after[-1] >= tick_at:
            row = int(np.argmax(new.after >= tick_at))
            head, tail = _divide(visit_batch, int(new.source[row]), int(new.visits.offset[row]))
            return Divided([*visit_batches[:i], head], [tail, *visit_batches[i + 1 :]], int(new.after[row]))
        position = new.position
        if position.watermarks.stream_time >= tick_at:
            return Divided(visit_batches[: i + 1], visit_batches[i + 1 :], position.watermarks.stream_time)
    raise AssertionError("stream time reaches the tick with all batches together, and with none of them")


def _divide(visit_batch: VisitBatch, source: int, offset: int) -> tuple[VisitBatch, VisitBatch]:
    """The batch up to the row at `offset` of a source partition, and from it on."""
    for k, piece in enumerate(visit_batch.ranges):
        if piece.source != source or not len(piece.visits) or piece.visits.offset[-1] < offset:
            continue
        row = int(np.searchsorted(piece.visits.offset, offset))
        first, rest = cut(piece, row) if row else (None, piece)
        head = [*visit_batch.ranges[:k], *([] if first is None else [first])]
        return replace(visit_batch, ranges=head), replace(visit_batch, ranges=[rest, *visit_batch.ranges[k + 1 :]])
    raise AssertionError("the row is in the batch")


def first(days: LocalDays, position: Position, visit_batches: Sequence[VisitBatch]) -> Ticks | None:
    """The ticks of a partition that has none: those before its first visit count as done.

    None: neither has stream time begun, nor is there a visit.
    """
    since = position.watermarks.stream_time
    if since <= NEVER + MAX_LEAD_MS:  # no event: source partitions that were empty let it come so far
        times = [piece.visits.at.min() for batch in visit_batches for piece in batch.ranges if len(piece.visits)]
        since = int(min(times, default=NEVER))
    if since == NEVER:
        return None
    day = days.last_tick(since)
    return Ticks(day, day)
