"""Ticks: the daily scoring of all students of a visits partition, in step with stream time.

The tick of day D is due when stream time reaches the end of D plus 24 h (models/days.py): rows that are later than
that set no day bits, so what is known of the days up to D is final. It comes before the row that takes stream time
there: that row, and those behind it, wait as early events (models/early_events.py). First a partition writes the sums
of its own students ("reached D"); once all partitions have, it scores them ("scored D"). Ticks that are due together
run together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models import state
from models.days import LocalDays
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


def first(days: LocalDays, stream_time: int, visit_batches: Sequence[VisitBatch] = ()) -> Ticks | None:
    """The ticks of a partition that has none: those before its first visit count as done.

    None: neither has stream time [ms] begun, nor is there a visit.
    """
    since = stream_time
    if since <= NEVER + MAX_LEAD_MS:  # no event: source partitions that were empty let it come so far
        times = [piece.visits.at.min() for batch in visit_batches for piece in batch.ranges if len(piece.visits)]
        since = int(min(times, default=NEVER))
    if since == NEVER:
        return None
    day = days.last_tick(since)
    return Ticks(day, day)
