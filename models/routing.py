"""Route visits to visits partitions by student, and build the visit batches of a round for each partition."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from models import headers
from models.factorize import argsort_codes, factorize
from models.murmur2 import keys_of, partitions_of
from models.rules import NEVER, Int64s
from models.visit_batch import SourceRange, VisitBatch
from models.visits import Visits, dictionary_encode

#: maximum size of the visits of a batch [bytes]: the broker's limit for a record batch is 1 MiB
MAX_BATCH_BYTES = 900_000
#: size of a visit without headers in a batch [bytes]; of its log id, and of its course and kind, if there are any
_VISIT_BYTES, _LOG_ID_BYTES, _KIND_BYTES = 24 + 1 + 4, 8, 8 + 1
#: partitions of students below this are cached, at 4 B each: Moodle numbers its users from 1 on
_CACHED = 1 << 22
_UNKNOWN = -1


class Router:
    """Computes the visits partition of each student once. Mutable: caches them."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        #: partition of each student from 0 on, _UNKNOWN if not computed yet
        self._cache = np.full(0, _UNKNOWN, np.int32)

    def route(self, visits: Visits) -> Int64s:
        """The partition of each visit [n]: Kafka's murmur2 of the student's key, modulo the partitions."""
        student = visits.student
        if not len(student) or student.min() < 0 or student.max() >= _CACHED or visits.null.any():
            students = dictionary_encode(visits)
            return partitions_of(keys_of(students.student, students.null), self.partitions)[students.indices]
        self._grow(int(student.max()) + 1)
        route = self._cache[student]
        unknown = route == _UNKNOWN
        if unknown.any():
            new, _ = factorize(student[unknown])
            self._cache[new] = partitions_of(keys_of(new, np.zeros(len(new), np.bool_)), self.partitions)
            route = self._cache[student]
        return route.astype(np.int64)

    def _grow(self, size: int) -> None:
        old = len(self._cache)
        if size > old:
            added = np.full(max(size, 2 * old) - old, _UNKNOWN, np.int32)
            self._cache = np.concatenate((self._cache, added))


def visit_batches(ranges: Sequence[SourceRange], sources: int, router: Router, max_rows: int) -> list[list[VisitBatch]]:
    """The visit batches of a round for each visits partition; sources: number of partitions of the source topic.

    Every partition gets the offsets and watermarks of all ranges, and the visits whose student hashes to it. No
    batch has more than `max_rows` visits, or of those with headers more than fit in MAX_BATCH_BYTES.
    """
    by_partition = [_partition(s.visits, router) for s in ranges]
    empty = VisitBatch(sources, (), partitions=router.partitions)
    return [
        list(_split([replace(s, visits=v[p]) for s, v in zip(ranges, by_partition, strict=True)], empty, max_rows))
        for p in range(router.partitions)
    ]


def _partition(visits: Visits, router: Router) -> list[Visits]:
    """The visits of each visits partition, in their order."""
    count = router.partitions
    if count == 1 or not len(visits):
        return [visits] * count
    route = router.route(visits)
    ordered = visits.take(argsort_codes(route, count))
    bounds = np.cumsum(np.bincount(route, minlength=count)).tolist()
    return [ordered.slice(begin, end) for begin, end in pairwise([0, *bounds])]


def _split(ranges: list[SourceRange], empty: VisitBatch, max_rows: int) -> Iterator[VisitBatch]:
    """Visit batches within the limits; every piece of a divided range but the last one is marked lagging."""
    batch: list[SourceRange] = []
    rows, nbytes = max_rows, MAX_BATCH_BYTES
    for piece in ranges:
        rest = piece
        while (fitting := _fitting(rest.visits, rows, nbytes)) < len(rest.visits):
            if fitting:
                first, rest = cut(rest, fitting)
                batch.append(first)
            yield replace(empty, ranges=batch)
            batch, rows, nbytes = [], max_rows, MAX_BATCH_BYTES
        batch.append(rest)
        rows -= len(rest.visits)
        nbytes -= (
            len(rest.visits) * _size(rest.visits) if rest.visits.headers is None else int(_sizes(rest.visits).sum())
        )
    yield replace(empty, ranges=batch)


def _fitting(visits: Visits, rows: int, nbytes: int) -> int:
    """The number of visits, from the first on, for which a batch with room for `rows` and `nbytes` has room.

    An EXTRA row is not separated from the row that it follows, whose offset it has.
    """
    if visits.headers is None:
        fitting = max(0, min(len(visits), rows, nbytes // _size(visits)))
    else:
        within = np.cumsum(_sizes(visits.slice(0, rows)))
        fitting = int(np.searchsorted(within, nbytes, side="right"))
    splits = 0 < fitting < len(visits) and visits.offset[fitting] == visits.offset[fitting - 1]
    return fitting + splits


def _sizes(visits: Visits) -> Int64s:
    """Size of each visit in a batch [n] bytes."""
    size = _size(visits)
    if visits.headers is None:
        return np.full(len(visits), size)
    return np.fromiter((size + headers.size(h) for h in visits.headers), np.int64, len(visits))


def _size(visits: Visits) -> int:
    """Size of each visit in a batch, without headers [bytes]."""
    return _VISIT_BYTES + _LOG_ID_BYTES * (visits.log_id is not None) + _KIND_BYTES * (visits.kind is not None)


def cut(piece: SourceRange, rows: int) -> tuple[SourceRange, SourceRange]:
    """The range with its first `rows` visits, at least one, and the rest; the first one is marked lagging."""
    head, tail = piece.visits.slice(0, rows), piece.visits.slice(rows, len(piece.visits))
    boundary = int(tail.offset[0])
    watermark = int(np.max(head.event_time))
    first = replace(piece, end=boundary, watermark=watermark, lagging=True, visits=head, as_of=NEVER)
    return first, replace(piece, begin=boundary, visits=tail)
