"""Kafka's record batches (message format 2) as columns, without a Python object per record.

The layout is in Kafka's documentation, "Message format"; tests/test_reader.py and test_record_columns.py compare the
result with aiokafka's own iteration. Batches that cannot be read here (older formats, varints of more than 8 bytes,
records that do not fit their length) are left to aiokafka, which reads them or raises.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from crc32c import crc32c

from app.kafka.record_bounds import guess_bounds, read_varint, scan_bounds
from app.kafka.unpack import CODECS, DAMAGED, UnreadableBatch, largest_size, unpack, unpacked_size
from models.binary_column import BinaryColumn
from models.chunk import Headers
from models.rules import Int64s
from models.varints import MORE, PAD, Octets, Words, end_of, length_of, signed, squeeze, words_of

#: size of a batch's header [bytes], and positions of its format, attributes and record count
_HEADER, _FORMAT, _ATTRIBUTES, _COUNT = 61, 16, 21, 57
#: the same of the older formats, which hold one record or one compressed set of records
_OLD_ATTRIBUTES, _OLD_KEY = 17, {0: 18, 1: 26}
_CODEC_MASK = 0x07
#: value of each varint of one byte
_SMALL = signed(np.arange(MORE, dtype=np.uint64))
#: memory that the columns need for a record, whatever its size [bytes]
_RECORD_BYTES = 64
#: records read at a time: few enough for their columns to stay in the processor's cache
_BLOCK = 16_384


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch of records to be read: no control batch, not aborted."""

    #: bytes as fetched
    raw: memoryview
    #: the batch as aiokafka parses it; can be iterated once
    iterator: Any

    def has_valid_crc(self) -> bool:
        """Whether the checksum matches the bytes."""
        if self.raw[_FORMAT] != 2:
            return bool(self.iterator.validate_crc())
        return crc32c(self.raw[_ATTRIBUTES:]) == int.from_bytes(self.raw[_ATTRIBUTES - 4 : _ATTRIBUTES], "big")

    @property
    def count(self) -> int:
        """Number of records; 1 for an older format, whose batch is one record or one compressed set of records."""
        return int.from_bytes(self.raw[_COUNT:_HEADER], "big") if self.raw[_FORMAT] == 2 else 1

    @property
    def offsets(self) -> tuple[int, int]:
        """The first offset, and the one behind the last."""
        return int.from_bytes(self.raw[:8], "big", signed=True), int(self.iterator.next_offset)

    @property
    def unpacked_size(self) -> int:
        """An upper bound of the records' size, unpacked [bytes]; 0 if they cannot be unpacked."""
        try:
            return unpacked_size(*self._packed())
        except UnreadableBatch:
            return 0

    def records(self, start: int, limit: int) -> list[Any]:
        """Return the records from offset `start` on, as aiokafka reads them.

        Raises UnreadableBatch for more than `limit` bytes, or if they cannot be read.
        """
        compression, body = self._packed()
        # aiokafka does not limit what it unpacks, and gzip's declared size may be wrong
        if compression in CODECS and largest_size(compression, body) > limit:
            unpack(compression, bytes(body), limit)
        try:
            return [record for record in self.iterator if record.offset >= start]
        except (CorruptRecordException, UnsupportedCodecError, UnicodeDecodeError, *DAMAGED) as error:
            raise UnreadableBatch(f"damaged ({error})") from error

    def body(self, limit: int) -> bytes | memoryview | None:
        """Return the unpacked records; None for another format, a damaged header or an unknown codec.

        Raises UnreadableBatch for more than `limit` bytes.
        """
        if self.raw[_FORMAT] != 2 or len(self.raw) < _HEADER:
            return None
        if self.count * _RECORD_BYTES > limit:
            raise UnreadableBatch(f"has {self.count} records, too many for {limit} bytes (RISK_MAX_BATCH_BYTES)")
        compression, body = self._packed()
        if compression not in CODECS:
            return body if not compression else None
        return unpack(compression, bytes(body), limit)

    def _packed(self) -> tuple[int, memoryview]:
        """Return the number of the codec, 0 for none, and the bytes that it has compressed."""
        raw = self.raw
        if raw[_FORMAT] == 2:
            return (raw[_ATTRIBUTES + 1] & _CODEC_MASK if len(raw) >= _HEADER else 0), raw[_HEADER:]
        key = _OLD_KEY.get(raw[_FORMAT], len(raw))
        value = key + 4 + max(0, int.from_bytes(raw[key : key + 4], "big", signed=True))
        return raw[_OLD_ATTRIBUTES] & _CODEC_MASK, raw[value + 4 :]


@dataclass(frozen=True, slots=True)
class Columns:
    """The records of some batches."""

    #: offset of each record [n]
    offset: Int64s
    #: key and value bytes of each record [n]
    keys: BinaryColumn
    values: BinaryColumn
    #: headers of each record [n], or None if no record has any
    headers: Sequence[Headers] | None

    def since(self, offset: int) -> Columns:
        """Return the records from `offset` on: a batch may begin before the offset that was fetched."""
        first = int(np.searchsorted(self.offset, offset))
        if not first:
            return self
        rest = np.arange(first, len(self.offset))
        headers = None if self.headers is None else self.headers[first:]
        return Columns(self.offset[first:], self.keys.take(rest), self.values.take(rest), headers)


def columns(batches: Sequence[Batch], all_bodies: Sequence[bytes | memoryview | None] | None = None) -> Columns | None:
    """Return the records of `batches`, in order; None if any of them cannot be read here.

    all_bodies: what `Batch.body` has returned for each; None: nobody has asked yet.
    """
    if all_bodies is None:
        all_bodies = [batch.body(sys.maxsize) for batch in batches]
    bodies = [body for body in all_bodies if body is not None]
    if len(bodies) < len(all_bodies):
        return None
    buffer = b"".join([*bodies, PAD])
    body_bounds = np.cumsum([0, *map(len, bodies)])
    counts = [batch.count for batch in batches]
    bounds = guess_bounds(buffer, body_bounds, counts)
    if bounds is None:
        bounds = scan_bounds(buffer, body_bounds, counts)
    if bounds is None:  # before allocating anything by `counts`, which may be any number in a damaged batch
        return None
    first = np.array([int.from_bytes(batch.raw[:8], "big", signed=True) for batch in batches], np.int64)
    return _read(buffer, bounds, np.repeat(first, counts))


def _read(buffer: bytes, bounds: Int64s, base: Int64s) -> Columns | None:
    """Return the columns of the records between `bounds` [n + 1]; `base` [n]: first offset of each record's batch."""
    n = len(base)
    offset, tail = np.empty(n, np.int64), np.empty(n, np.int64)
    strings = np.empty((4, n), np.int64)  # key start, key stop, value start, value stop
    octets, words = np.frombuffer(buffer, np.uint8), words_of(buffer)
    for low in range(0, n, _BLOCK):
        s = slice(low, low + _BLOCK)
        if not _read_block(octets, words, bounds[low : low + _BLOCK + 1], offset[s], strings[:, s], tail[s]):
            return None
    headers: list[Headers] | None = None
    counts = octets[tail]
    if counts.any():
        headers = _same_headers(buffer, words, tail, bounds[1:]) or _headers_column(buffer, tail, bounds[1:])
        if headers is None:
            return None
    elif (tail + 1 != bounds[1:]).any():
        return None
    offset += base
    return Columns(
        offset, BinaryColumn(buffer, strings[0], strings[1]), BinaryColumn(buffer, strings[2], strings[3]), headers
    )


def _read_block(octets: Octets, words: Words, bounds: Int64s, offset: Int64s, strings: Int64s, tail: Int64s) -> bool:
    """Fill the columns of one block; False if a record cannot be read. `tail`: position of each record's headers."""
    last = len(words) - 1
    stop = bounds[1:]
    pos = np.minimum(_skip_varint(octets, words, bounds[:-1]), last)  # skips the record's length
    if octets[pos].max(initial=0) >= MORE:  # attributes: unused by Kafka so far; aiokafka reads them as a varint
        return False
    pos = _skip_varint(octets, words, pos + 1)  # skips the timestamp
    offset[:], pos = _read_varint(octets, words, np.minimum(pos, last))
    fits = True
    for start, end in ((0, 1), (2, 3)):
        length, pos = _read_varint(octets, words, np.minimum(pos, last))
        strings[start], strings[end] = pos, pos + length
        fits = fits and bool((length >= -1).all())
        pos = pos + np.maximum(length, 0)
        fits = fits and bool((pos < stop).all())
    tail[:] = np.minimum(pos, last)
    return fits


def _skip_varint(octets: Octets, words: Words, pos: Int64s) -> Int64s:
    """Return the position behind the varint at each position [n]; beyond the buffer for one of more than 8 bytes."""
    if octets[pos].max(initial=0) < MORE:  # the common case: one byte each
        return pos + 1
    width = length_of(end_of(words[pos]))
    width[width == 0] = len(words)
    return pos + width


def _read_varint(octets: Octets, words: Words, pos: Int64s) -> tuple[Int64s, Int64s]:
    """Return the value of the zigzag varint at each position [n], and the position behind it."""
    octet = octets[pos]
    if octet.max(initial=0) < MORE:
        return _SMALL[octet], pos + 1
    word = words[pos]
    end = end_of(word)
    width = length_of(end)
    number = signed(squeeze(word, end, int(width.max(initial=0))))
    width[width == 0] = len(words)
    return number, pos + width


def _same_headers(buffer: bytes, words: Words, start: Int64s, stop: Int64s) -> list[Headers] | None:
    """Return the headers of every record [n] if all have the same bytes, as those of one writer have; else None."""
    size = int(stop[0] - start[0])
    if (stop - start != size).any():
        return None
    # whole words, the last of which may overlap the one before; of a short one only its bytes
    mask = np.uint64((1 << 8 * min(size, 8)) - 1)
    for at in [*range(0, size - 8, 8), max(size - 8, 0)]:
        word = words[start + at] & mask
        if (word != word[0]).any():
            return None
    headers = _headers(buffer, int(start[0]), int(stop[0]))
    return None if headers is None else [headers] * len(start)


def _headers_column(buffer: bytes, start: Int64s, stop: Int64s) -> list[Headers] | None:
    """Return the headers of every record [n]; None if any do not fit. Equal bytes are parsed once."""
    parsed: dict[bytes, Headers] = {}
    column: list[Headers] = []
    for at, end in zip(start.tolist(), stop.tolist(), strict=True):
        raw = buffer[at:end]
        headers = parsed.get(raw)
        if headers is None:
            headers = _headers(buffer, at, end)
            if headers is None:
                return None
            parsed[raw] = headers
        column.append(headers)
    return column


def _headers(buffer: bytes, at: int, end: int) -> Headers | None:
    """Return the headers between `at` and `end`, the record's end; None if they do not fit."""
    headers: list[tuple[str, bytes | None]] = []
    try:
        count, at = read_varint(buffer, at)
        if count < 0:
            return None
        for _ in range(count):
            size, at = read_varint(buffer, at)
            if size < 0:
                return None
            name = buffer[at : at + size].decode()
            at += size
            size, at = read_varint(buffer, at)
            headers.append((name, None if size < 0 else buffer[at : at + size]))
            at += max(size, 0)
            if at > end:
                return None
    except (IndexError, UnicodeDecodeError):
        return None
    return headers if at == end else None
