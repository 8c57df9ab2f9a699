"""The frame: what one round of source slices says to one visits partition, as bytes.

Little-endian. One record of the visits topic is one frame:

    header    4 B magic "MRV" + version, u4 number of slices, u4 source partitions in all, u4 flags
    slices    6 x i8 each: source, begin, position, clock, lagging, number of visits
    columns   student i8 [n], at i8 [n], offset i8 [n]; then, if flagged, null u1 [n];
              then, if flagged, headers: JSON would lose bytes, so lengths and raw bytes
    checksum  u4 CRC-32 of everything before it

A frame with slices but no visits tells clocks and positions only. Every later layout begins with
magic and version too and ends with its checksum: so damage is told from a newer version.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.chunk import Headers
from models.visits import Visits, concatenate

#: layout that this code reads and writes
VERSION = 2
#: `begin` of a slice whose sender has just taken its partition over: it says nothing about what was before
UNKNOWN_BEGIN = -1

_HEADER = struct.Struct("<3sBIII")
_CRC = struct.Struct("<I")
_MAGIC = b"MRV"
_NULLS, _HEADERS = 1, 2
#: more partitions than any topic has
_MOST_SOURCES = 1_000_000


class CorruptVisitBatch(ValueError):
    """A record of the visits topic that is no frame, or a damaged one."""


class NewerVisitBatch(Exception):
    """A sound frame that only a newer version of this program can read: to skip it would lose its visits."""


@dataclass(frozen=True, slots=True)
class SourceRange:
    """Consecutive events of one source partition, as far as they concern one visits partition."""

    #: source partition
    source: int
    #: the source offsets from `begin` up to `position` have been looked at; FRESH: from wherever it starts
    begin: int
    end: int
    #: the largest event time the sender has seen in this source partition up to `position` [ms], -1: none
    watermark: int
    #: whether the source partition holds more than has been sent
    lagging: bool
    visits: Visits


@dataclass(frozen=True, slots=True)
class VisitBatch:
    """Slices of source partitions for one visits partition, in the order they are to be applied."""

    #: number of source partitions of the topic
    sources: int
    ranges: Sequence[SourceRange]
    #: stands for a record that could not be read: nobody knows what of which source partitions was in it
    corrupt: bool = False

    def __len__(self) -> int:
        return sum(len(s.visits) for s in self.ranges)


def encode(visit_batch: VisitBatch) -> bytes:
    """The frame's bytes."""
    visits = concatenate([s.visits for s in visit_batch.ranges])
    flags = _NULLS * bool(visits.null.any()) | _HEADERS * (visits.headers is not None)
    ranges = np.array(
        [(s.source, s.begin, s.end, s.watermark, s.lagging, len(s.visits)) for s in visit_batch.ranges], "<i8"
    )
    parts = [
        _HEADER.pack(_MAGIC, VERSION, len(visit_batch.ranges), visit_batch.sources, flags),
        ranges.tobytes(),
        visits.student.astype("<i8", copy=False).tobytes(),
        visits.at.astype("<i8", copy=False).tobytes(),
        visits.offset.astype("<i8", copy=False).tobytes(),
    ]
    if flags & _NULLS:
        parts.append(visits.null.astype(np.uint8).tobytes())
    if visits.headers is not None:
        parts.append(_encode_headers(visits.headers))
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    parts.append(_CRC.pack(crc))
    return b"".join(parts)


def decode(raw: bytes) -> VisitBatch:
    """The frame in `raw`. Raises FrameError if it is none or is damaged, NewerFrame if it is of a newer version."""
    if len(raw) < _HEADER.size + _CRC.size or raw[:3] != _MAGIC:
        raise CorruptVisitBatch("not a frame of visits")
    body = memoryview(raw)[: -_CRC.size]
    if _CRC.pack(zlib.crc32(body)) != raw[-_CRC.size :]:
        raise CorruptVisitBatch("a damaged frame: its checksum does not fit")
    if raw[3] > VERSION:
        raise NewerVisitBatch(f"a frame of version {raw[3]}, this program reads up to {VERSION}: upgrade every worker")
    return _decode(body)


def _decode(raw: memoryview) -> VisitBatch:
    _, version, n_slices, sources, flags = _HEADER.unpack_from(raw)
    at = _HEADER.size + 48 * n_slices
    if version != VERSION or flags > (_NULLS | _HEADERS) or at > len(raw) or sources > _MOST_SOURCES:
        raise CorruptVisitBatch("a damaged frame")
    table = np.frombuffer(raw, "<i8", 6 * n_slices, _HEADER.size).reshape(n_slices, 6).tolist()
    if any(not 0 <= count <= len(raw) or not 0 <= source < sources for source, *_, count in table):
        raise CorruptVisitBatch("a damaged frame")
    n = sum(count for *_, count in table)
    body = 24 * n + (n if flags & _NULLS else 0)
    if len(raw) < at + body or (not flags & _HEADERS and len(raw) != at + body):
        raise CorruptVisitBatch("a frame of the wrong length")
    visits = _columns(
        raw, at, n, bool(flags & _NULLS), _decode_headers(bytes(raw[at + body :]), n) if flags & _HEADERS else None
    )
    ranges, row = [], 0
    for source, begin, end, watermark, lagging, count in table:
        ranges.append(SourceRange(source, begin, end, watermark, bool(lagging), visits.slice(row, row + count)))
        row += count
    return VisitBatch(sources, ranges)


def _columns(raw: memoryview, at: int, n: int, nulls: bool, headers: list[Headers] | None) -> Visits:
    column = np.frombuffer(raw, "<i8", 3 * n, at).astype(np.int64, copy=False)
    null = np.frombuffer(raw, np.uint8, n, at + 24 * n).astype(np.bool_) if nulls else np.zeros(n, np.bool_)
    return Visits(column[:n], null, column[n : 2 * n], column[2 * n :], headers)


def _encode_headers(headers: Sequence[Headers]) -> bytes:
    out = [b""]
    for one in headers:
        out.append(struct.pack("<I", len(one)))
        for name, value in one:
            text = name.encode("utf-8", "surrogateescape")
            out.append(struct.pack("<Ii", len(text), -1 if value is None else len(value)))
            out += (text, value or b"")
    return b"".join(out)


def _decode_headers(raw: bytes, n: int) -> list[Headers]:
    at = 0

    def take(size: int) -> bytes:
        nonlocal at
        if size < 0 or at + size > len(raw):
            raise CorruptVisitBatch("a frame with damaged headers")
        at += size
        return raw[at - size : at]

    headers: list[Headers] = []
    for _ in range(n):
        one: list[tuple[str, bytes | None]] = []
        for _ in range(struct.unpack("<I", take(4))[0]):
            name, value = struct.unpack("<Ii", take(8))
            text = take(name).decode("utf-8", "surrogateescape")
            one.append((text, None if value < 0 else take(value)))
        headers.append(tuple(one))
    if at != len(raw):
        raise CorruptVisitBatch("a frame with damaged headers")
    return headers
