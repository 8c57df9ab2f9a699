"""Which visits partition a student belongs to, and a round of slices as frames for each of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from models.factorize import argsort_codes, factorize
from models.murmur2 import keys_of, partitions_of
from models.rules import Int64s
from models.visit_batch import SourceRange, VisitBatch
from models.visits import Visits, dictionary_encode

#: students below this are remembered, at 4 B each: Moodle numbers its users from 1 on
_REMEMBERED = 1 << 22
_UNKNOWN = -1


class Router:
    """The visits partition of each student, worked out once. Mutable: remembers the students it has met."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        #: partition of each student from 0 on, as far as anybody has asked
        self._known = np.full(0, _UNKNOWN, np.int32)

    def route(self, visits: Visits) -> Int64s:
        """The partition of each visit [n]: Kafka's murmur2 of the student's key, modulo the partitions."""
        student = visits.student
        if not len(student) or student.min() < 0 or student.max() >= _REMEMBERED or visits.null.any():
            who = dictionary_encode(visits)
            return partitions_of(keys_of(who.student, who.null), self.partitions)[who.indices]
        self._reach(int(student.max()))
        found = self._known[student]
        unknown = found == _UNKNOWN
        if unknown.any():
            some, _ = factorize(student[unknown])
            self._known[some] = partitions_of(keys_of(some, np.zeros(len(some), np.bool_)), self.partitions)
            found = self._known[student]
        return found.astype(np.int64)

    def _reach(self, student: int) -> None:
        if student >= len(self._known):
            more = np.full(max(student + 1, 2 * len(self._known)) - len(self._known), _UNKNOWN, np.int32)
            self._known = np.concatenate((self._known, more))


def visit_batches(ranges: Sequence[SourceRange], router: Router, max_rows: int) -> list[list[VisitBatch]]:
    """The frames of a round for each of the visits partitions, which are as many as source partitions.

    Every partition gets the slices' clocks and positions, and those visits whose student hashes to it.
    No frame has more than `max_rows` visits.
    """
    parted = [_part(s.visits, router) for s in ranges]
    return [
        list(_split([replace(s, visits=parts[p]) for s, parts in zip(ranges, parted, strict=True)], router, max_rows))
        for p in range(router.partitions)
    ]


def _part(visits: Visits, router: Router) -> list[Visits]:
    """The visits of each partition, in their order."""
    count = router.partitions
    if count == 1 or not len(visits):
        return [visits] * count
    route = router.route(visits)
    ordered = visits.take(argsort_codes(route, count))
    bounds = np.cumsum(np.bincount(route, minlength=count)).tolist()
    return [ordered.slice(begin, end) for begin, end in pairwise([0, *bounds])]


def _split(ranges: list[SourceRange], router: Router, max_rows: int) -> Iterator[VisitBatch]:
    """Cut a frame that is too large: all but the last piece of a slice say that more is to come."""
    now: list[SourceRange] = []
    room = max_rows
    for piece in ranges:
        rest = piece
        while len(rest.visits) > room:
            if room:
                first, rest = _cut(rest, room)
                now.append(first)
            yield VisitBatch(router.partitions, now)
            now, room = [], max_rows
        now.append(rest)
        room -= len(rest.visits)
    yield VisitBatch(router.partitions, now)


def _cut(piece: SourceRange, rows: int) -> tuple[SourceRange, SourceRange]:
    head, tail = piece.visits.slice(0, rows), piece.visits.slice(rows, len(piece.visits))
    seam = int(tail.offset[0])
    first = replace(piece, end=seam, watermark=int(np.max(head.at)), lagging=True, visits=head)
    return first, replace(piece, begin=seam, visits=tail)
