"""What the records of a chunk of the Moodle log say: visits, and what is none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.chunk import Chunk
from models.rules import MAX_AT, Bools, Int64s
from models.visits import Visits

#: below this a timecreated is a plausible time in s (up to the year 5138), from it on one in ms (since 1973)
_SECONDS_BELOW = 100_000_000_000


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that has no effect; KSQL logs such a one and goes on."""

    #: which record of the chunk
    index: int
    #: bad-magic, truncated, malformed, unknown-schema, unreadable-schema, type-mismatch,
    #: negative-time or time-too-large
    reason: str
    #: one line for a person
    detail: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """The visits of a chunk, in its order, and its other records."""

    #: which record of the chunk each visit is, ascending [n]
    row: Int64s
    #: userid, 0 where it is null [n]
    student: Int64s
    #: whether userid is null: KSQL groups these under the key "null" [n]
    null: Bools
    #: event time [n] ms
    at: Int64s
    #: ascending by index
    rejects: list[Reject]
    #: records without a value, which have no effect
    tombstones: int
    #: visits whose timecreated does not look like the unit it is said to have
    suspicious: int

    def __len__(self) -> int:
        return len(self.row)

    def visits(self, chunk: Chunk) -> Visits:
        """The visits with the offsets and headers of the `chunk` they come from."""
        offset = np.asarray(chunk.offsets, np.int64)
        headers = chunk.headers
        if len(self.row) < len(offset):
            offset = offset[self.row]
            headers = None if headers is None else [headers[i] for i in self.row.tolist()]
        return Visits(self.student, self.null, self.at, offset, headers)


@dataclass(frozen=True, slots=True)
class Part:
    """Some records of a chunk, timecreated as it stands."""

    row: Int64s
    student: Int64s
    null: Bools
    at: Int64s


def decoded(parts: list[Part], rejects: list[Reject], tombstones: int, unit_ms: int) -> Decoded:
    """Put `parts` in order and timecreated, counted in `unit_ms` (1 or 1000), into ms.

    A negative time is refused as KSQL refuses it. So is one within a gap of 2**63 or above, which
    would kill KSQL's query.
    """
    whole = parts[0] if len(parts) == 1 else _in_order(parts)
    at = whole.at
    most = MAX_AT // unit_ms
    if len(at) and (at.min() < 0 or at.max() > most):
        good = (at >= 0) & (at <= most)
        bad = np.flatnonzero(~good)
        times = zip(whole.row[bad].tolist(), at[bad].tolist(), strict=True)
        rejects = rejects + [_refuse(index, time, unit_ms) for index, time in times]
        whole = Part(whole.row[good], whole.student[good], whole.null[good], at[good])
        at = whole.at
    if unit_ms == 1:
        odd = (at > 0) & (at < _SECONDS_BELOW)
    else:
        odd = at >= _SECONDS_BELOW
        at = at * unit_ms
    rejects = sorted(rejects, key=lambda reject: reject.index)
    return Decoded(whole.row, whole.student, whole.null, at, rejects, tombstones, int(np.count_nonzero(odd)))


def _in_order(parts: list[Part]) -> Part:
    if not parts:
        empty = np.empty(0, np.int64)
        return Part(empty, empty, np.empty(0, np.bool_), empty)
    row = np.concatenate([part.row for part in parts])
    order = np.argsort(row)
    return Part(
        row[order],
        np.concatenate([part.student for part in parts])[order],
        np.concatenate([part.null for part in parts])[order],
        np.concatenate([part.at for part in parts])[order],
    )


def _refuse(index: int, time: int, unit_ms: int) -> Reject:
    unit = "ms" if unit_ms == 1 else "s"
    if time < 0:
        return Reject(index, "negative-time", f"timecreated is {time} {unit}")
    return Reject(index, "time-too-large", f"timecreated is {time} {unit}: more than {MAX_AT} ms")
