"""How far a visits partition has forgotten students: what makes a request to forget harmless when it is read again.

`faust -A app forget` sends its request as a visit batch, so that it has a place among the students' visits: those
before it are forgotten, those after it count anew. After a crash the request may be read again behind visits that have
been applied since and will be dropped as such: a second erasure would lose them. So the offset behind the last request
is part of the partition's state, written in the same transaction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models import state
from models.rules import NEVER
from models.state import StateError

#: layout that this code reads and writes
VERSION = 1
#: key of the record in the table of students; no userid has this text
KEY = b"forgotten"
#: header of the tombstones that are written for a student who is forgotten; its value is stream time [ms] as text
HEADER = "forgotten"


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The last request that a partition has applied."""

    #: offset in the visits topic behind it; requests before it are not applied again
    next_offset: int
    #: stream time when it was applied [ms], NEVER before the first event
    stream_time: int


#: nobody has been forgotten
NOBODY = Forgotten(0, NEVER)


def pack(forgotten: Forgotten) -> bytes:
    """The record: version and checksum (models/state.py), next offset, stream time."""
    return state.pack_words(VERSION, np.array([0, forgotten.next_offset, forgotten.stream_time], np.int64))


def unpack(raw: bytes | None) -> Forgotten:
    """What is in `raw`, NOBODY for None. Raises StateError if it is damaged or of another version."""
    if raw is None:
        return NOBODY
    state.check([raw], VERSION, "a record of the last request to forget")
    if len(raw) != 24:
        raise StateError(f"a record of the last request to forget, of {len(raw)} bytes, is damaged")
    return Forgotten(int.from_bytes(raw[8:16], "little", signed=True), int.from_bytes(raw[16:], "little", signed=True))
