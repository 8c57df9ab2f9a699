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
from models.visit_batch import FRESH, Frame, Slice
from models.visits import Visits, concatenate
from models.watermarks import Clocks, announce, observe

#: layout written by this code; an older one is still read, a newer one is refused
VERSION = 2
_HEAD = 4
#: key of the front's record in the table of students: no userid's text
KEY = b"front"
#: key of the one record of the table of alerts: up to where predictions have been read
POSITION = b"position"


@dataclass(frozen=True, slots=True)
class Front:
    """What has been applied, per source partition."""

    #: everything before this offset of each source partition has been applied [s]
    position: Int64s
    clocks: Clocks
    #: whether a frame was lost since each source partition was last spoken of [s]
    torn: Bools
    #: number of students that have a state record
    students: int = 0

    @classmethod
    def start(cls, sources: int) -> Front:
        """Nothing has been applied."""
        return cls(np.zeros(sources, np.int64), Clocks.unknown(sources), np.zeros(sources, np.bool_))


@dataclass(frozen=True, slots=True)
class Gap:
    """Offsets of a source partition that were in a frame that could not be read."""

    source: int
    #: they are `begin` and up to, not with, `end`
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Passed:
    """What of some frames is new."""

    visits: Visits
    #: observed time before each visit [n] ms
    before: Int64s
    front: Front
    #: visits that had been applied before
    repeated: int
    #: slices that do not join what has been applied: their visits will come again from a new owner
    detached: int
    #: what was stepped over, because a frame could not be read
    gaps: Sequence[Gap]


def admit(front: Front, frames: Sequence[Frame]) -> Passed:
    """Let pass what `frames`, in order, bring that has not been applied, and move the front.

    A slice must begin at or before the front of its source partition, unless its sender has only
    just taken the partition over: then it begins at what is committed, which has been sent before.
    The first one after a frame that could not be read may begin anywhere.
    """
    parts: list[Visits] = []
    befores: list[Int64s] = []
    gaps: list[Gap] = []
    repeated = detached = 0
    for frame in frames:
        if frame.torn:
            front = replace(front, torn=np.ones_like(front.torn))
            continue
        front = _widen(front, frame.sources)
        position, torn = front.position.copy(), front.torn.copy()
        taken: list[tuple[Slice, Visits]] = []
        for piece in frame.slices:
            if piece.begin != FRESH and piece.begin > position[piece.source]:
                if not torn[piece.source]:
                    detached += 1
                    continue
                gaps.append(Gap(piece.source, int(position[piece.source]), piece.begin))
            torn[piece.source] = False
            new = piece.visits
            if len(new) and new.offset[0] < position[piece.source]:
                fresh: Bools = new.offset >= position[piece.source]
                repeated += len(new) - int(fresh.sum())
                new = new.take(fresh)
            position[piece.source] = max(int(position[piece.source]), piece.position)
            taken.append((piece, new))
        visits = concatenate([v for _, v in taken])
        source = np.repeat(
            np.array([p.source for p, _ in taken], np.int64), np.array([len(v) for _, v in taken], np.int64)
        )
        before, clocks = observe(front.clocks, source, visits.at)
        front = replace(front, position=position, torn=torn, clocks=_announce(clocks, [p for p, _ in taken]))
        parts.append(visits)
        befores.append(before)
    before = np.concatenate(befores) if befores else np.empty(0, np.int64)
    return Passed(concatenate(parts), before, front, repeated, detached, gaps)


def _announce(clocks: Clocks, slices: Sequence[Slice]) -> Clocks:
    if not slices:
        return clocks
    return announce(
        clocks,
        np.array([p.source for p in slices], np.int64),
        np.array([p.clock for p in slices], np.int64),
        np.array([p.lagging for p in slices], np.bool_),
    )


def _widen(front: Front, sources: int) -> Front:
    """The front when the source topic has grown to more partitions: the new ones have not spoken yet."""
    more = sources - len(front.position)
    if more <= 0:
        return front
    start = Front.start(more)
    clocks = Clocks(
        np.append(front.clocks.at, start.clocks.at),
        np.append(front.clocks.lagging, start.clocks.lagging),
        front.clocks.observed,
    )
    position, torn = np.append(front.position, start.position), np.append(front.torn, start.torn)
    return replace(front, position=position, clocks=clocks, torn=torn)


def pack(front: Front) -> bytes:
    """The front as little-endian int64 words: version and checksum (see models/state.py), observed, students, 0,
    then positions, clocks and whether torn [s]. Version 1 had no checksum and ended with the clocks."""
    head = np.array([0, front.clocks.observed, front.students, 0], np.int64)
    return state.seal(VERSION, np.concatenate((head, front.position, front.clocks.at, front.torn)))


def unpack(raw: bytes | None, sources: int) -> Front:
    """The front in `raw` (None: nothing applied), before anybody has told of a backlog.

    Raises StateError if it is damaged or of a newer version.
    """
    if raw is None:
        return Front.start(sources)
    columns = 2 if state.check([raw], VERSION, "a front")[0] == 1 else 3
    if len(raw) < 8 * _HEAD or (len(raw) - 8 * _HEAD) % (8 * columns):
        raise StateError(f"a front of {len(raw)} bytes is damaged")
    words = np.frombuffer(raw, "<i8").astype(np.int64)
    table = words[_HEAD:].reshape(columns, -1)
    n = table.shape[1]
    clocks = replace(Clocks.unknown(n), at=table[1], observed=int(words[1]))
    torn = table[2].astype(np.bool_) if columns > 2 else np.zeros(n, np.bool_)
    return _widen(Front(table[0], clocks, torn, int(words[2])), sources)


def pack_position(position: int) -> bytes:
    """Where the next prediction stands, as a record of the table of alerts: version and checksum, offset."""
    return state.seal(VERSION, np.array([0, position], np.int64))


def unpack_position(raw: bytes | None) -> int:
    """The offset in `raw`, 0 for None. Raises StateError if it is damaged or of a newer version."""
    if raw is None:
        return 0
    if raw.isdigit() and len(raw) < 20:  # version 1
        return int(raw)
    state.check([raw], VERSION, "a position")
    if len(raw) != 16:
        raise StateError(f"a position of {len(raw)} bytes is damaged")
    return int.from_bytes(raw[8:], "little", signed=True)
