"""The position of a visits partition: the source offsets and watermarks up to which it has applied the log.

It is written with every flush, in the same transaction as the students it belongs to. Visits before it have been
applied: whatever is read or sent twice is dropped here.

A visit batch that could not be read leaves a gap in the ranges of its sender. Therefore the next range of each source
partition after it may begin beyond the position, once: the missing visits are in the dead letters, the rest counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from models import state
from models.rules import NEVER, Bools, Int64s
from models.state import StateError
from models.visit_batch import UNKNOWN_BEGIN, SourceRange, VisitBatch
from models.visits import Visits, concatenate
from models.watermarks import Watermarks, announce, stream_times

#: layout that this code writes; it reads 2 too, which has no column `confirmed`
VERSION = 3
#: words before the columns, and number of columns by layout
_HEAD, _COLUMNS = 4, {2: 3, 3: 4}
#: key of the position in the table of students; no userid has this text
KEY = b"front"
#: key of the only record in the table of alerts: the offset of the next prediction to read
NEXT_OFFSET_KEY = b"position"


@dataclass(frozen=True, slots=True)
class Position:
    """How far each source partition has been applied."""

    #: the next source offset to apply, of each source partition [s]
    offsets: Int64s
    watermarks: Watermarks
    #: whether a corrupt visit batch came after the last range of each source partition [s]
    after_corrupt: Bools
    #: number of students with a state record
    students: int = 0
    #: number of partitions of the visits topic among which the students are divided; 0: not stated
    partitions: int = 0

    @classmethod
    def start(cls, sources: int) -> Position:
        """The position before anything has been applied."""
        return cls(np.zeros(sources, np.int64), Watermarks.unknown(sources), np.zeros(sources, np.bool_))


@dataclass(frozen=True, slots=True)
class Gap:
    """Offsets of a source partition that were lost with a corrupt visit batch."""

    source: int
    #: from `begin` up to, not including, `end`
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class NewVisits:
    """The visits of some batches that have not been applied yet."""

    visits: Visits
    #: stream time before each visit [n] ms
    before: Int64s
    #: the position after these visits
    position: Position
    #: number of visits dropped because they had been applied
    repeated: int
    #: number of ranges dropped because they begin beyond the position: a new owner sends their visits again
    detached: int
    #: the gaps that corrupt visit batches left
    gaps: Sequence[Gap]
    #: source partition of each visit [n]
    source: Int64s
    #: stream time after each visit [n] ms, before what is announced behind the visits of its batch
    after: Int64s
    #: number of visit batches dropped because their students were divided among another number of partitions
    outdated: int = 0


def drop_applied(position: Position, visit_batches: Sequence[VisitBatch]) -> NewVisits:
    """Drop the visits of `visit_batches`, in order, that have been applied already, and advance the position.

    A range must begin at or before the position of its source partition, unless its sender has just taken the
    partition over: it then begins at the committed offset, before which everything has been sent. The first range
    after a corrupt batch may begin anywhere.
    """
    parts: list[Visits] = []
    before_parts: list[Int64s] = []
    after_parts: list[Int64s] = []
    source_parts: list[Int64s] = []
    gaps: list[Gap] = []
    repeated = detached = outdated = 0
    for visit_batch in visit_batches:
        if visit_batch.corrupt:
            position = replace(position, after_corrupt=np.ones_like(position.after_corrupt))
            continue
        if visit_batch.partitions != position.partitions and visit_batch.partitions and position.partitions:
            # its sender did not know that the app has grown; the log has been read again from this position
            outdated += 1
            continue
        position = _widen(position, visit_batch.sources)
        offsets, after_corrupt = position.offsets.copy(), position.after_corrupt.copy()
        accepted: list[tuple[SourceRange, Visits]] = []
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
                old, new = new.take(~fresh), new.take(fresh)
                repeated += len(old) - old.extra_rows
            offsets[piece.source] = max(int(offsets[piece.source]), piece.end)
            accepted.append((piece, new))
        visits = concatenate([v for _, v in accepted])
        source = np.repeat(
            np.array([p.source for p, _ in accepted], np.int64), np.array([len(v) for _, v in accepted], np.int64)
        )
        before, watermarks = _stream_times(position.watermarks, source, visits)
        position = replace(
            position,
            offsets=offsets,
            after_corrupt=after_corrupt,
            watermarks=_announce(watermarks, [p for p, _ in accepted]),
        )
        parts.append(visits)
        before_parts.append(before)
        after = np.empty_like(before)
        after[:-1], after[-1:] = before[1:], watermarks.stream_time
        after_parts.append(after)
        source_parts.append(source)
    columns = (before_parts, source_parts, after_parts)
    before, source, after = (p[0] if len(p) == 1 else np.concatenate([np.empty(0, np.int64), *p]) for p in columns)
    return NewVisits(concatenate(parts), before, position, repeated, detached, gaps, source, after, outdated)


def _stream_times(watermarks: Watermarks, source: Int64s, visits: Visits) -> tuple[Int64s, Watermarks]:
    """Stream time before each of `visits` [n], and the watermarks after them, as if there were no EXTRA rows."""
    extra = visits.extra
    if extra is None:
        return stream_times(watermarks, source, visits.at)
    before, after = stream_times(watermarks, source[~extra], visits.at[~extra])
    # before an EXTRA row, stream time is what it is before the next row that is none
    following: Int64s = np.cumsum(~extra) - ~extra
    return np.append(before, after.stream_time)[following], after


def _announce(watermarks: Watermarks, ranges: Sequence[SourceRange]) -> Watermarks:
    if not ranges:
        return watermarks
    return announce(
        watermarks,
        np.array([p.source for p in ranges], np.int64),
        np.array([p.watermark for p in ranges], np.int64),
        np.array([p.lagging for p in ranges], np.bool_),
        np.array([p.as_of for p in ranges], np.int64),
    )


def _widen(position: Position, sources: int) -> Position:
    """The position after the source topic has grown to `sources` partitions: nothing is known of the new ones."""
    added = sources - len(position.offsets)
    if added <= 0:
        return position
    start, known = Position.start(added), position.watermarks
    return replace(
        position,
        offsets=np.append(position.offsets, start.offsets),
        watermarks=Watermarks(
            np.append(known.at, start.watermarks.at),
            np.append(known.lagging, start.watermarks.lagging),
            np.append(known.confirmed, start.watermarks.confirmed),
            known.stream_time,
        ),
        after_corrupt=np.append(position.after_corrupt, start.after_corrupt),
    )


def set_back(position: Position, latest: int) -> Position:
    """The position with watermarks, confirmations and stream time of at most `latest` [ms]: the way back after an
    event with a wrong time far in the future."""
    known = position.watermarks
    if max(known.newest, known.stream_time) <= latest:
        return position
    at, confirmed = np.minimum(known.at, latest), np.minimum(known.confirmed, latest)
    return replace(position, watermarks=Watermarks(at, known.lagging, confirmed, min(known.stream_time, latest)))


def pack(position: Position) -> bytes:
    """The position as little-endian int64 words: version and checksum (models/state.py), stream time, students,
    partitions, then offsets, watermarks, after_corrupt and confirmed [s]."""
    watermarks = position.watermarks
    head = np.array([0, watermarks.stream_time, position.students, position.partitions], np.int64)
    columns = (position.offsets, watermarks.at, position.after_corrupt, watermarks.confirmed)
    return state.pack_words(VERSION, np.concatenate((head, *columns)))


def unpack(raw: bytes | None, sources: int) -> Position:
    """The position in `raw` (None: nothing applied); every source partition counts as lagging again.

    Raises StateError if it is damaged or of another version.
    """
    if raw is None:
        return Position.start(sources)
    version = min(max(state.version_of(raw), min(_COLUMNS)), VERSION)
    state.check([raw], version, "a position record")
    columns = _COLUMNS[version]
    if len(raw) < 8 * _HEAD or (len(raw) - 8 * _HEAD) % (8 * columns):
        raise StateError(f"a position record of {len(raw)} bytes is damaged")
    words = np.frombuffer(raw, "<i8").astype(np.int64)
    table = words[_HEAD:].reshape(columns, -1)
    known = Watermarks.unknown(table.shape[1])
    # a position of layout 2 knows of no confirmation: the watermarks are the latest event times that were known
    confirmed = table[3] if columns > 3 else np.full_like(table[1], table[1].max(initial=NEVER))
    watermarks = replace(known, at=table[1], confirmed=confirmed, stream_time=int(words[1]))
    return _widen(Position(table[0], watermarks, table[2].astype(np.bool_), int(words[2]), int(words[3])), sources)


def pack_next_offset(offset: int) -> bytes:
    """The offset of the next prediction as a record of the table of alerts: version and checksum, offset."""
    return state.pack_words(state.VERSION, np.array([0, offset], np.int64))


def unpack_next_offset(raw: bytes | None) -> int:
    """The offset in `raw`, 0 for None. Raises StateError if it is damaged or of another version."""
    if raw is None:
        return 0
    state.check([raw], state.VERSION, "a next-offset record")
    if len(raw) != 16:
        raise StateError(f"a next-offset record of {len(raw)} bytes is damaged")
    return int.from_bytes(raw[8:], "little", signed=True)
