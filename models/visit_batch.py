"""Visit batches: ranges of source partitions with their visits, sent to one visits partition as bytes.

Little-endian. One record of the visits topic is one visit batch:

    header    4 B magic "MRV" + version, u4 number of ranges, u4 number of source partitions, u1 flags,
              u3 number of visits partitions (0: not stated)
    ranges    7 x i8 each: source, begin, end, watermark, lagging, number of visits, as of
    columns   student i8 [n], at i8 [n], offset i8 [n]; then, if flagged, null u1 [n]; log id i8 [n];
              course i8 [n] and kind u1 [n]
    forget    if flagged, u4 number of students to forget, i8 each
    headers   if flagged, as lengths and raw bytes (JSON would lose bytes)
    checksum  u4 CRC-32 of everything before it

Versions 2 and 3 are read too: 3 has no courses and kinds and forgets nobody, 2 has no `as of` and no log ids either.

A batch with ranges but no visits announces offsets and watermarks only; one that forgets students has no ranges. Every
later layout begins with magic and version too and ends with its checksum, so that a newer batch is distinguished from a
damaged one.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from models.chunk import Headers
from models.rules import NEVER, Int64s
from models.visits import Visits, concatenate

#: layout that this code writes; it reads 2 and 3 too
VERSION = 4
#: number of words of a range, by layout
_RANGE_WORDS = {2: 6, 3: 7, 4: 7}
#: `begin` of the first range of a sender that has just taken over its partition: it does not cover earlier offsets
UNKNOWN_BEGIN = -1

_HEADER = struct.Struct("<3sBIII")
_CRC, _COUNT = struct.Struct("<I"), struct.Struct("<I")
_MAGIC = b"MRV"
_NULLS, _HEADERS, _LOG_IDS, _KINDS, _FORGET = 1, 2, 4, 8, 16
#: flags that there are, by layout
_FLAGS = {2: 7, 3: 7, 4: 31}
#: more partitions than any topic has
_MAX_SOURCES = 1_000_000


class CorruptVisitBatch(ValueError):
    """A record of the visits topic that is no visit batch, or a damaged one."""


class NewerVisitBatch(Exception):
    """An intact visit batch that only a newer version of this program can read: to skip it would lose its visits."""


@dataclass(frozen=True, slots=True)
class SourceRange:
    """Consecutive offsets of one source partition, with those of their visits that belong to one visits partition."""

    #: source partition
    source: int
    #: the range covers the source offsets from `begin` up to, not including, `end`; or begin is UNKNOWN_BEGIN
    begin: int
    end: int
    #: largest event time of this source partition that the sender has seen up to `end` [ms], -1: none
    watermark: int
    #: whether the source partition holds more records than have been sent
    lagging: bool
    visits: Visits
    #: the newest event time known to the sender before it asked for the end of the source partition, which this range
    #: reaches: what lies behind it was written later (models/watermarks.py) [ms]; NEVER: the range confirms nothing
    as_of: int = NEVER


@dataclass(frozen=True, slots=True)
class VisitBatch:
    """Ranges of source partitions for one visits partition, in the order in which to apply them."""

    #: number of partitions of the source topic that the sender knew of
    sources: int
    ranges: Sequence[SourceRange]
    #: stands for a record that could not be read: its ranges are unknown
    corrupt: bool = False
    #: number of partitions of the visits topic among which its sender divided the students; 0: not stated
    partitions: int = 0
    #: students to forget after these ranges, by userid [f]
    forget: Int64s = field(default_factory=lambda: np.empty(0, np.int64))

    def __len__(self) -> int:
        return sum(len(s.visits) for s in self.ranges)


def encode(visit_batch: VisitBatch) -> bytes:
    """Serialize a visit batch."""
    visits = concatenate([s.visits for s in visit_batch.ranges])
    flags = _NULLS * bool(visits.null.any()) | _HEADERS * (visits.headers is not None)
    flags |= _LOG_IDS * (visits.log_id is not None) | _KINDS * (visits.kind is not None)
    flags |= _FORGET * bool(len(visit_batch.forget))
    ranges = np.array(
        [(s.source, s.begin, s.end, s.watermark, s.lagging, len(s.visits), s.as_of) for s in visit_batch.ranges], "<i8"
    )
    parts = [
        _HEADER.pack(
            _MAGIC, VERSION, len(visit_batch.ranges), visit_batch.sources, visit_batch.partitions << 8 | flags
        ),
        ranges.tobytes(),
        visits.student.astype("<i8", copy=False).tobytes(),
        visits.at.astype("<i8", copy=False).tobytes(),
        visits.offset.astype("<i8", copy=False).tobytes(),
    ]
    if flags & _NULLS:
        parts.append(visits.null.astype(np.uint8).tobytes())
    if visits.log_id is not None:
        parts.append(visits.log_id.astype("<i8", copy=False).tobytes())
    if visits.course is not None and visits.kind is not None:
        parts += (visits.course.astype("<i8", copy=False).tobytes(), visits.kind.tobytes())
    if flags & _FORGET:
        parts += (_COUNT.pack(len(visit_batch.forget)), visit_batch.forget.astype("<i8", copy=False).tobytes())
    if visits.headers is not None:
        parts.append(_encode_headers(visits.headers))
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    parts.append(_CRC.pack(crc))
    return b"".join(parts)


def decode(raw: bytes) -> VisitBatch:
    """Deserialize a visit batch. Raises CorruptVisitBatch, or NewerVisitBatch for one of a newer version."""
    if len(raw) < _HEADER.size + _CRC.size or raw[:3] != _MAGIC:
        raise CorruptVisitBatch("not a visit batch")
    body = memoryview(raw)[: -_CRC.size]
    if _CRC.pack(zlib.crc32(body)) != raw[-_CRC.size :]:
        raise CorruptVisitBatch("a damaged visit batch: wrong checksum")
    if raw[3] > VERSION:
        raise NewerVisitBatch(f"a visit batch of version {raw[3]}, this program reads {VERSION}: upgrade every worker")
    return _decode(body)


def _decode(raw: memoryview) -> VisitBatch:
    _, version, n_ranges, sources, last = _HEADER.unpack_from(raw)
    flags, partitions = last & 0xFF, last >> 8
    words = _RANGE_WORDS.get(version, 0)
    pos = _HEADER.size + 8 * words * n_ranges
    if not words or flags & ~_FLAGS[version] or pos > len(raw) or sources > _MAX_SOURCES:
        raise CorruptVisitBatch("a damaged visit batch")
    table = np.frombuffer(raw, "<i8", words * n_ranges, _HEADER.size).reshape(n_ranges, words).tolist()
    if any(not 0 <= row[5] <= len(raw) or not 0 <= row[0] < sources for row in table):
        raise CorruptVisitBatch("a damaged visit batch")
    reader = _Reader(raw, pos)
    visits = _columns(reader, sum(row[5] for row in table), flags)
    forget = reader.column("<i8", reader.count()) if flags & _FORGET else np.empty(0, np.int64)
    if flags & _HEADERS:
        visits = replace(visits, headers=_decode_headers(bytes(raw[reader.pos :]), len(visits)))
    elif reader.pos != len(raw):
        raise CorruptVisitBatch("a visit batch of the wrong length")
    ranges, first = [], 0
    # a range of layout 2 confirms nothing
    for source, begin, end, watermark, lagging, count, as_of in ((*row, NEVER)[:7] for row in table):
        piece = visits.slice(first, first + count)
        ranges.append(SourceRange(source, begin, end, watermark, bool(lagging), piece, as_of))
        first += count
    return VisitBatch(sources, ranges, partitions=partitions, forget=forget)


@dataclass(slots=True)
class _Reader:
    """Columns one after another. Mutable."""

    raw: memoryview
    #: where the next one begins
    pos: int

    def column(self, dtype: str, n: int) -> npt.NDArray[Any]:
        """The next column [n], in native byte order. Raises CorruptVisitBatch if it is not all there."""
        begin, self.pos = self.pos, self.pos + n * np.dtype(dtype).itemsize
        if self.pos > len(self.raw):
            raise CorruptVisitBatch("a visit batch of the wrong length")
        column = np.frombuffer(self.raw, dtype, n, begin)
        return column.astype(column.dtype.newbyteorder("="), copy=False)

    def count(self) -> int:
        """The next number."""
        return int(self.column("<u4", 1)[0])


def _columns(reader: _Reader, n: int, flags: int) -> Visits:
    student, at, offset = (reader.column("<i8", n) for _ in range(3))
    null = reader.column("u1", n).astype(np.bool_) if flags & _NULLS else np.zeros(n, np.bool_)
    log_id = reader.column("<i8", n) if flags & _LOG_IDS else None
    course, kind = (reader.column("<i8", n), reader.column("u1", n)) if flags & _KINDS else (None, None)
    return Visits(student, null, at, offset, None, log_id, course, kind)


def _encode_headers(headers: Sequence[Headers]) -> bytes:
    out = [b""]
    for record_headers in headers:
        out.append(struct.pack("<I", len(record_headers)))
        for name, value in record_headers:
            text = name.encode("utf-8", "surrogateescape")
            out.append(struct.pack("<Ii", len(text), -1 if value is None else len(value)))
            out += (text, value or b"")
    return b"".join(out)


def _decode_headers(raw: bytes, n: int) -> list[Headers]:
    pos = 0

    def take(size: int) -> bytes:
        nonlocal pos
        if size < 0 or pos + size > len(raw):
            raise CorruptVisitBatch("a visit batch with damaged headers")
        pos += size
        return raw[pos - size : pos]

    headers: list[Headers] = []
    for _ in range(n):
        record_headers: list[tuple[str, bytes | None]] = []
        for _ in range(struct.unpack("<I", take(4))[0]):
            name_size, value_size = struct.unpack("<Ii", take(8))
            name = take(name_size).decode("utf-8", "surrogateescape")
            record_headers.append((name, None if value_size < 0 else take(value_size)))
        headers.append(tuple(record_headers))
    if pos != len(raw):
        raise CorruptVisitBatch("a visit batch with damaged headers")
    return headers
