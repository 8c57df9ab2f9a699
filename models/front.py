"""The front: how far one visits partition has applied the log, and what time it is there.

It is written with every flush, in the same transaction as the students it belongs to. Visits that
stand before it have been applied: whatever is read or sent twice falls away here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from models.clocks import Clocks, announce, observe
from models.frame import FRESH, Frame, Slice
from models.rules import Bools, Int64s
from models.state import StateError
from models.visits import Visits, concatenate

#: layout written by this code; an older one is still read, a newer one is refused
VERSION = 1
_HEAD = 4
#: key of the front's record in the table of students: no userid's text
KEY = b"front"


@dataclass(frozen=True, slots=True)
class Front:
    """What has been applied, per source partition."""

    #: everything before this offset of each source partition has been applied [s]
    position: Int64s
    clocks: Clocks
    #: number of students that have a state record
    students: int = 0

    @classmethod
    def start(cls, sources: int) -> Front:
        """Nothing has been applied."""
        return cls(np.zeros(sources, np.int64), Clocks.unknown(sources))


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


def admit(front: Front, frames: Sequence[Frame]) -> Passed:
    """Let pass what `frames`, in order, bring that has not been applied, and move the front.

    A slice must begin at or before the front of its source partition, unless its sender has only
    just taken the partition over: then it begins at what is committed, which has been sent before.
    """
    parts: list[Visits] = []
    befores: list[Int64s] = []
    repeated = detached = 0
    for frame in frames:
        front = _widen(front, frame.sources)
        position = front.position.copy()
        taken: list[tuple[Slice, Visits]] = []
        for piece in frame.slices:
            if piece.begin != FRESH and piece.begin > position[piece.source]:
                detached += 1
                continue
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
        front = replace(front, position=position, clocks=_announce(clocks, [p for p, _ in taken]))
        parts.append(visits)
        befores.append(before)
    before = np.concatenate(befores) if befores else np.empty(0, np.int64)
    return Passed(concatenate(parts), before, front, repeated, detached)


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
    return replace(front, position=np.append(front.position, start.position), clocks=clocks)


def pack(front: Front) -> bytes:
    """The front as little-endian int64 words: version, observed, students, 0, then positions and clocks [s]."""
    head = np.array([VERSION, front.clocks.observed, front.students, 0], np.int64)
    return np.concatenate((head, front.position, front.clocks.at)).astype("<i8").tobytes()


def unpack(raw: bytes | None, sources: int) -> Front:
    """The front in `raw` (None: nothing applied), before anybody has told of a backlog.

    Raises StateError if it is damaged or of a newer version.
    """
    if raw is None:
        return Front.start(sources)
    if len(raw) < 8 * _HEAD or len(raw) % 16:
        raise StateError(f"a front of {len(raw)} bytes is damaged")
    words = np.frombuffer(raw, "<i8").astype(np.int64)
    if words[0] != VERSION:
        raise StateError(
            f"a front has layout version {words[0]}, this program reads up to {VERSION}: run the version that wrote it"
        )
    n = (len(words) - _HEAD) // 2
    clocks = replace(Clocks.unknown(n), at=words[_HEAD + n :], observed=int(words[1]))
    return _widen(Front(words[_HEAD : _HEAD + n], clocks, int(words[2])), sources)
