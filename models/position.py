"""The front: how far one visits partition has applied the log, and what time it is there.

It is written with every flush, in the same transaction as the students it belongs to. Visits that
stand before it have been applied: whatever is read or sent twice falls away here.

A frame that could not be read leaves a hole in what its sender told. So after one, each source partition
may once begin behind its front: what is missing is in the dead letters, and the rest counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from models import state
from models.rules import Bools, Int64s
from models.state import StateError
from models.visit_batch import UNKNOWN_BEGIN, SourceRange, VisitBatch
from models.visits import Visits, concatenate
from models.watermarks import Watermarks, announce, stream_times

#: layout that this code reads and writes
VERSION = 2
_HEAD = 4
#: key of the front's record in the table of students: no userid's text
KEY = b"front"
#: key of the one record of the table of alerts: up to where predictions have been read
NEXT_OFFSET_KEY = b"position"


@dataclass(frozen=True, slots=True)
class Position:
    """What has been applied, per source partition."""

    #: everything before this offset of each source partition has been applied [s]
    offsets: Int64s
    watermarks: Watermarks
    #: whether a frame was lost since each source partition was last spoken of [s]
    after_corrupt: Bools
    #: number of students that have a state record
    students: int = 0

    @classmethod
    def start(cls, sources: int) -> Position:
        """Nothing has been applied."""
        return cls(np.zeros(sources, np.int64), Watermarks.unknown(sources), np.zeros(sources, np.bool_))


@dataclass(frozen=True, slots=True)
class Gap:
    """Offsets of a source partition that were in a frame that could not be read."""

    source: int
    #: they are `begin` and up to, not with, `end`
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class NewVisits:
    """What of some frames is new."""

    visits: Visits
    #: observed time before each visit [n] ms
    before: Int64s
    position: Position
    #: visits that had been applied before
    repeated: int
    #: slices that do not join what has been applied: their visits will come again from a new owner
    detached: int
    #: what was stepped over, because a frame could not be read
    gaps: Sequence[Gap]


def drop_applied(position: Position, visit_batches: Sequence[VisitBatch]) -> NewVisits:
    """Let pass what `frames`, in order, bring that has not been applied, and move the front.

    A slice must begin at or before the front of its source partition, unless its sender has only
    just taken the partition over: then it begins at what is committed, which has been sent before.
    The first one after a frame that could not be read may begin anywhere.
    """
    parts: list[Visits] = []
    befores: list[Int64s] = []
    gaps: list[Gap] = []
    repeated = detached = 0
    for visit_batch in visit_batches:
        if visit_batch.corrupt:
            position = replace(position, after_corrupt=np.ones_like(position.after_corrupt))
            continue
        position = _widen(position, visit_batch.sources)
        offsets, after_corrupt = position.offsets.copy(), position.after_corrupt.copy()
        taken: list[tuple[SourceRange, Visits]] = []
        for piece in visit_batch.ranges:
            if piece.begin != UNKNOWN_BEGIN and piece.begin > offsets[piece.source]:
                if not after_corrupt[piece.source]:
                    detached += 1
                    continue
                gaps.append(Gap(piece.source, int(offsets[piece.source]), piece.begin))
            after_corrupt[piece.source] = False
            new = piece.visits
            if len(new) and new.offset[0] < offsets[piece.source]:
                fresh: Bools = new.offset >= offsets[piece.source]
                repeated += len(new) - int(fresh.sum())
                new = new.take(fresh)
            offsets[piece.source] = max(int(offsets[piece.source]), piece.end)
            taken.append((piece, new))
        visits = concatenate([v for _, v in taken])
        source = np.repeat(
            np.array([p.source for p, _ in taken], np.int64), np.array([len(v) for _, v in taken], np.int64)
        )
        before, watermarks = stream_times(position.watermarks, source, visits.at)
        position = replace(
            position,
            offsets=offsets,
            after_corrupt=after_corrupt,
            watermarks=_announce(watermarks, [p for p, _ in taken]),
        )
        parts.append(visits)
        befores.append(before)
    before = np.concatenate(befores) if befores else np.empty(0, np.int64)
    return NewVisits(concatenate(parts), before, position, repeated, detached, gaps)


def _announce(watermarks: Watermarks, ranges: Sequence[SourceRange]) -> Watermarks:
    if not ranges:
        return watermarks
    return announce(
        watermarks,
        np.array([p.source for p in ranges], np.int64),
        np.array([p.watermark for p in ranges], np.int64),
        np.array([p.lagging for p in ranges], np.bool_),
    )


def _widen(position: Position, sources: int) -> Position:
    """The front when the source topic has grown to more partitions: the new ones have not spoken yet."""
    more = sources - len(position.offsets)
    if more <= 0:
        return position
    start = Position.start(more)
    watermarks = Watermarks(
        np.append(position.watermarks.at, start.watermarks.at),
        np.append(position.watermarks.lagging, start.watermarks.lagging),
        position.watermarks.stream_time,
    )
    offsets, after_corrupt = (
        np.append(position.offsets, start.offsets),
        np.append(position.after_corrupt, start.after_corrupt),
    )
    return replace(position, offsets=offsets, watermarks=watermarks, after_corrupt=after_corrupt)


def pack(position: Position) -> bytes:
    """The front as little-endian int64 words: version and checksum (see models/state.py), observed, students, 0,
    then positions, clocks and whether torn [s]."""
    head = np.array([0, position.watermarks.stream_time, position.students, 0], np.int64)
    return state.pack_words(
        VERSION, np.concatenate((head, position.offsets, position.watermarks.at, position.after_corrupt))
    )


def unpack(raw: bytes | None, sources: int) -> Position:
    """The front in `raw` (None: nothing applied), before anybody has told of a backlog.

    Raises StateError if it is damaged or of a newer version.
    """
    if raw is None:
        return Position.start(sources)
    state.check([raw], VERSION, "a front")
    if len(raw) < 8 * _HEAD or (len(raw) - 8 * _HEAD) % (8 * 3):
        raise StateError(f"a front of {len(raw)} bytes is damaged")
    words = np.frombuffer(raw, "<i8").astype(np.int64)
    table = words[_HEAD:].reshape(3, -1)
    watermarks = replace(Watermarks.unknown(table.shape[1]), at=table[1], stream_time=int(words[1]))
    return _widen(Position(table[0], watermarks, table[2].astype(np.bool_), int(words[2])), sources)


def pack_next_offset(offset: int) -> bytes:
    """Where the next prediction stands, as a record of the table of alerts: version and checksum, offset."""
    return state.pack_words(VERSION, np.array([0, offset], np.int64))


def unpack_next_offset(raw: bytes | None) -> int:
    """The offset in `raw`, 0 for None. Raises StateError if it is damaged or of a newer version."""
    if raw is None:
        return 0
    state.check([raw], VERSION, "a position")
    if len(raw) != 16:
        raise StateError(f"a position of {len(raw)} bytes is damaged")
    return int.from_bytes(raw[8:], "little", signed=True)
