"""Bounds of the records in some batches: guessed for all at once and proven, or scanned one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from models.rules import Int64s
from models.varints import MORE, PAD

#: maximum size of a record's length field [bytes]
_MAX_LENGTH_SIZE = 5
#: size of the prefix that all values must share for the guess [bytes]: the Confluent wire format's magic byte and
#: schema id
_PREFIX = 5


def guess_bounds(buffer: bytes, bodies: Int64s, counts: Sequence[int]) -> Int64s | None:
    """Return the beginning of each record and the end of the last [n + 1], or None if the guess proves wrong.

    `bodies`: bounds of the batches' records in `buffer` [b + 1]; `counts`: records of each batch [b].
    The guess: all values begin with the same prefix, as they do if one schema wrote them, and all headers, if any, have
    the size of the first record's.
    The proof: each record, by its own length field, ends where the next one begins.
    """
    octets, end = np.frombuffer(buffer, np.uint8), int(bodies[-1])
    found = _first_value(buffer)
    if found is None:
        return None
    first, headers = found
    values = np.flatnonzero(octets[first + _PREFIX - 1 : end] == octets[first + _PREFIX - 1]) + first
    for i in range(_PREFIX - 1):
        values = values[octets[values + i] == octets[first + i]]
    if len(values) != sum(counts):
        return None
    near, far = octets[values - 1].astype(np.int64), octets[values - 2].astype(np.int64)
    size = np.where(far >= MORE, far & 0x7F | near << 7, near) >> 1
    bounds = np.concatenate((bodies[:1], values + size + headers))
    begin, stop = bounds[:-1], bounds[1:]
    if bounds.max() > end or (bounds[np.cumsum([0, *counts])] != bodies).any():
        return None
    near, far = octets[begin].astype(np.int64), octets[begin + 1].astype(np.int64)
    long = near >= MORE
    size = np.where(long, near & 0x7F | far << 7, near)
    proven = (size & 1 == 0) & ((far < MORE) | ~long) & (begin + 1 + long + (size >> 1) == stop)
    return bounds if proven.all() else None


def _first_value(buffer: bytes) -> tuple[int, int] | None:
    """Return the position of the first record's value and the size of its headers; None if the value is too short."""
    try:
        length, begin = read_varint(buffer, 0)
        _, at = read_varint(buffer, begin + 1)
        _, at = read_varint(buffer, at)
        size, at = read_varint(buffer, at)
        size, at = read_varint(buffer, at + max(size, 0))
    except IndexError:
        return None
    headers = begin + length - at - size
    return (at, headers) if size >= _PREFIX and headers > 0 and at + size < len(buffer) - len(PAD) else None


def scan_bounds(buffer: bytes, bodies: Int64s, counts: Sequence[int]) -> Int64s | None:
    """Return the same as `guess_bounds`, from each record's length field to the next record.

    None if a batch does not consist of exactly its count of records.
    """
    bounds: list[int] = []
    for (begin, end), count in zip(pairwise(bodies.tolist()), counts, strict=True):
        starts = _record_starts(buffer, begin, end, count)
        if starts is None:
            return None
        bounds += starts
    return np.array([*bounds, bodies[-1]], np.int64)


def _record_starts(buffer: bytes, at: int, end: int, count: int) -> list[int] | None:
    """Return the beginning of each of the `count` records between `at` and `end`; the only Python loop over records."""
    starts: list[int] = []
    add = starts.append
    for _ in range(count):
        if at >= end:
            return None
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
                if width > _MAX_LENGTH_SIZE:
                    return None
            at += width
        if size & 1:
            return None
        at += size >> 1
    return starts if at == end else None


def read_varint(buffer: bytes, at: int) -> tuple[int, int]:
    """Return the zigzag varint at `at`, and the position behind it. Raises IndexError at the end of the buffer."""
    zigzag = shift = 0
    while True:
        octet = buffer[at]
        at += 1
        zigzag |= (octet & 0x7F) << shift
        if octet < MORE:
            return (zigzag >> 1) ^ -(zigzag & 1), at
        shift += 7
