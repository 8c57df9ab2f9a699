"""Where each record of some batches begins: guessed all at once and proven, or walked from one to the next."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from models.rules import Int64s
from models.varints import MORE, PAD

#: most bytes of a record's length
_WIDEST = 5
#: how many bytes of all values must be alike for their places to be seen at once: those of a schema's id
_ALIKE = 5


def guess_bounds(buffer: bytes, bodies: Int64s, counts: Sequence[int]) -> Int64s | None:
    """Where each record begins, and the last one ends [n + 1]: guessed all at once, then proven; None if it fails.

    The guess: all values begin with the same few bytes, as they do where each begins with a schema's id, and nothing
    comes after a value. The proof: each record is as long as it says if it ends where the next one begins.
    """
    octets, end = np.frombuffer(buffer, np.uint8), int(bodies[-1])
    value = _first_value(buffer)
    if value is None:
        return None
    found = np.flatnonzero(octets[value + _ALIKE - 1 : end] == octets[value + _ALIKE - 1]) + value
    for i in range(_ALIKE - 1):
        found = found[octets[found + i] == octets[value + i]]
    if len(found) != sum(counts):
        return None
    near, far = octets[found - 1].astype(np.int64), octets[found - 2].astype(np.int64)
    size = np.where(far >= MORE, far & 0x7F | near << 7, near) >> 1
    bounds = np.concatenate((bodies[:1], found + size + 1))
    begin, stop = bounds[:-1], bounds[1:]
    if bounds.max() > end or (bounds[np.cumsum([0, *counts])] != bodies).any():
        return None
    near, far = octets[begin].astype(np.int64), octets[begin + 1].astype(np.int64)
    long = near >= MORE
    size = np.where(long, near & 0x7F | far << 7, near)
    proven = (size & 1 == 0) & ((far < MORE) | ~long) & (begin + 1 + long + (size >> 1) == stop)
    return bounds if proven.all() else None


def _first_value(buffer: bytes) -> int | None:
    """Where the first record's value begins; None if it has none of some length."""
    try:
        _, at = number_at(buffer, 0)
        _, at = number_at(buffer, at + 1)
        _, at = number_at(buffer, at)
        size, at = number_at(buffer, at)
        size, at = number_at(buffer, at + max(size, 0))
    except IndexError:
        return None
    return at if size >= _ALIKE and at + size < len(buffer) - len(PAD) else None


def scan_bounds(buffer: bytes, bodies: Int64s, counts: Sequence[int]) -> Int64s | None:
    """The same, a record at a time: where one begins is known only when the one before has been looked at.

    None if the records of a batch are not as many as it says, end to end.
    """
    bounds: list[int] = []
    for (begin, end), count in zip(pairwise(bodies.tolist()), counts, strict=True):
        some = _record_starts(buffer, begin, end)
        if some is None or len(some) != count:
            return None
        bounds += some
    return np.array([*bounds, bodies[-1]], np.int64)


def _record_starts(buffer: bytes, at: int, end: int) -> list[int] | None:
    """Where each record between `at` and `end` begins; the one loop over records in Python."""
    starts: list[int] = []
    add = starts.append
    while at < end:
        add(at)
        size = buffer[at]
        if size < MORE:
            at += 1
        else:
            more = buffer[at + 1]
            size = size & 0x7F | (more & 0x7F) << 7
            width = 2
            while more >= MORE:
                more = buffer[at + width]
                size |= (more & 0x7F) << 7 * width
                width += 1
                if width > _WIDEST:
                    return None
            at += width
        if size & 1:
            return None
        at += size >> 1
    return starts if at == end else None


def number_at(buffer: bytes, at: int) -> tuple[int, int]:
    """One zigzag number, and the place behind it. Raises IndexError where the buffer ends."""
    zigzag = shift = 0
    while True:
        octet = buffer[at]
        at += 1
        zigzag |= (octet & 0x7F) << shift
        if octet < MORE:
            return (zigzag >> 1) ^ -(zigzag & 1), at
        shift += 7
