"""Cohort records: the sums of one partition and day, in pieces that fit a Kafka record, as little-endian 64-bit words.

    word 0        version of this layout in the low half, checksum in the high half (models/state.py)
    word 1        index of the piece in the low half, number of pieces in the high half
    words 2…5     numbers of cohorts, of cells, of entries in line for an alert, and of courses with alerts
    then          columns of the cohorts: course, week, number of cells, four sums
                  cells: bin in the high half, count in the low half
                  entries in line: course, rank; courses with alerts: course, number opened within the week

A cell is a bin of a cohort's histograms that is not 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from models import state
from models.cohorts import BINS, Cohorts, Waiting
from models.rules import Int64s
from models.state import StateError

#: layout that this code reads and writes
VERSION = 1
#: size of a piece, which the last cohort in it may exceed by its cells, at most BINS words [bytes]
MAX_PIECE = 500_000
#: words before the columns, and of a cohort besides its cells
_HEAD, _GROUP = 6, 7


def encode(cohorts: Cohorts) -> list[bytes]:
    """The cohorts as one or more records of about MAX_PIECE bytes at most."""
    present = cohorts.counts != 0
    cells = present.sum(1)
    waiting = cohorts.waiting
    # rows of three kinds, one after another; a piece has the rows that begin in its stretch of words
    size = np.concatenate((cells + _GROUP, np.full(len(waiting.course) + len(waiting.opened), 2)))
    piece = (np.cumsum(size) - size) // (MAX_PIECE // 8)
    total = int(piece[-1]) + 1 if len(piece) else 1
    kinds = np.cumsum([0, len(cohorts), len(waiting.course), len(waiting.opened)])
    bounds = np.searchsorted(piece, np.arange(total + 1))
    records = []
    for i, (low, high) in enumerate(pairwise(bounds)):
        g, w, o = (slice(*(np.clip((low, high), begin, end) - begin).tolist()) for begin, end in pairwise(kinds))
        cell_bin, cell_count = np.nonzero(present[g])[1], cohorts.counts[g][present[g]].astype(np.int64)
        columns = (cohorts.course[g], cohorts.week[g], cells[g], *cohorts.sums[g].T, cell_bin << 32 | cell_count)
        ranks = (waiting.course[w], waiting.rank[w], waiting.opened_course[o], waiting.opened[o])
        head = [0, total << 32 | i, g.stop - g.start, len(cell_bin), w.stop - w.start, o.stop - o.start]
        records.append(state.pack_words(VERSION, np.concatenate((np.array(head, np.int64), *columns, *ranks))))
    return records


def pieces_of(record: bytes) -> int:
    """The number of records into which the cohorts of `record` were encoded."""
    return int.from_bytes(record[12:16], "little")


def decode(pieces: Sequence[bytes]) -> Cohorts:
    """The cohorts from all records that `encode` made of them, in any order.

    Raises StateError for a record that is damaged or missing, NewerState for one of a newer version.
    """
    state.check(pieces, VERSION, "a cohort record")
    parts: dict[int, list[Int64s]] = {}
    for piece in pieces:
        words = np.frombuffer(piece, "<i8").astype(np.int64, copy=False)
        if len(words) < _HEAD or words[2:_HEAD].min() < 0:
            raise StateError(f"a cohort record of {len(piece)} bytes is damaged")
        g, c, w, o = words[2:_HEAD].tolist()
        lengths = [g] * _GROUP + [c, w, w, o, o]
        if len(words) != _HEAD + sum(lengths):
            raise StateError(f"a cohort record of {len(piece)} bytes is damaged")
        parts[int(words[1]) & 0xFFFF_FFFF] = np.split(words[_HEAD:], np.cumsum(lengths)[:-1])
    if not pieces or set(parts) != set(range(pieces_of(pieces[0]))):
        raise StateError(f"cohort records are missing: there are {sorted(parts)}")
    columns = [np.concatenate(column) for column in zip(*(parts[i] for i in sorted(parts)), strict=True)]
    course, week, cells, *sums = columns[:_GROUP]
    cell, *ranks = columns[_GROUP:]
    counts = np.zeros((len(course), BINS), np.int32)
    if cells.sum() != len(cell) or (len(cell) and not 0 <= (cell >> 32).min() <= (cell >> 32).max() < BINS):
        raise StateError("a cohort record is damaged: its cells do not fit its cohorts")
    counts[np.repeat(np.arange(len(course)), cells), cell >> 32] = cell & 0xFFFF_FFFF
    return Cohorts(course, week, np.stack(sums, axis=1), counts, Waiting(*ranks))
