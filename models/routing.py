"""Which visits partition a student belongs to, and a round of slices as frames for each of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from models.frame import Frame, Slice
from models.murmur2 import keys_of, partitions_of
from models.rules import Int64s
from models.visits import Visits, roster


def frames(slices: Sequence[Slice], partitions: int, max_rows: int) -> list[list[Frame]]:
    """The frames of a round for each of the visits partitions, which are as many as source partitions.

    Every partition gets the slices' clocks and positions, and those visits whose student hashes to it.
    No frame has more than `max_rows` visits.
    """
    routes = [_route(s.visits, partitions) for s in slices]
    out = []
    for p in range(partitions):
        mine = [
            replace(s, visits=s.visits if route is None else s.visits.take(route == p))
            for s, route in zip(slices, routes, strict=True)
        ]
        out.append(list(_split(mine, partitions, max_rows)))
    return out


def _route(visits: Visits, partitions: int) -> Int64s | None:
    if partitions == 1 or not len(visits):
        return None
    students = roster(visits)
    return partitions_of(keys_of(students.student, students.null), partitions)[students.code]


def _split(slices: list[Slice], sources: int, max_rows: int) -> Iterator[Frame]:
    """Cut a frame that is too large: all but the last piece of a slice say that more is to come."""
    now: list[Slice] = []
    room = max_rows
    for piece in slices:
        rest = piece
        while len(rest.visits) > room:
            if room:
                first, rest = _cut(rest, room)
                now.append(first)
            yield Frame(sources, now)
            now, room = [], max_rows
        now.append(rest)
        room -= len(rest.visits)
    yield Frame(sources, now)


def _cut(piece: Slice, rows: int) -> tuple[Slice, Slice]:
    head, tail = piece.visits.slice(0, rows), piece.visits.slice(rows, len(piece.visits))
    seam = int(tail.offset[0])
    first = replace(piece, position=seam, clock=int(np.max(head.at)), lagging=True, visits=head)
    return first, replace(piece, begin=seam, visits=tail)
