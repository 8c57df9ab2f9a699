"""Kafka's record batches (message format 2) in columns: no Python object a record.

The layout is in Kafka's documentation, "Message format"; tests/test_reader.py and test_record_columns.py compare the
result with aiokafka's own iteration. Batches that are not understood here (older formats, varints of more than 8 bytes,
records that do not fit their length) are left to aiokafka, which reads them or raises.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from aiokafka import codec
from aiokafka.record.memory_records import MemoryRecords
from crc32c import crc32c

from app.kafka.record_bounds import guess_bounds, number_at, scan_bounds
from models.binary_column import BinaryColumn
from models.chunk import Headers
from models.rules import Int64s
from models.varints import MORE, PAD, Octets, Words, end_of, length_of, signed, squeeze, words_of

#: bytes of a batch before its records, and where its length, format, attributes, first offset and count stand
_HEAD, _LENGTH, _FORMAT, _ATTRIBUTES, _COUNT = 61, 8, 16, 21, 57
#: bytes before what the length counts
_BEFORE_LENGTH = 12
_CODEC_MASK = 0x07
#: what a number of one byte stands for
_SMALL = signed(np.arange(MORE, dtype=np.uint64))
#: those that can be read here: aiokafka says of the others what is missing
_DECOMPRESS: dict[int, Callable[[bytes], bytes]] = {
    number: decode
    for number, decode, there in (
        (1, codec.gzip_decode, codec.has_gzip),
        (2, codec.snappy_decode, codec.has_snappy),
        (3, codec.lz4_decode, codec.has_lz4),
        (4, codec.zstd_decode, codec.has_zstd),
    )
    if there()
}
#: records that are read together: few enough that their columns stay in the processor's cache
_BLOCK = 16_384


class Kept:
    """aiokafka's MemoryRecords, which keeps the bytes at hand. Mutable: walks from batch to batch."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self._records = MemoryRecords(raw)
        self._end = 0

    def has_next(self) -> bool:
        """Whether there is another batch."""
        return bool(self._records.has_next())

    def size_in_bytes(self) -> int:
        """Bytes of all batches."""
        return int(self._records.size_in_bytes())

    def next_batch(self) -> Any:
        """The next batch, as aiokafka has it; its bytes are `raw_batch`."""
        self._begin = self._end
        (length,) = struct.unpack_from(">i", self.raw, self._begin + _LENGTH)
        self._end += _BEFORE_LENGTH + length
        return self._records.next_batch()

    def raw_batch(self) -> memoryview:
        """The bytes of the batch that came last; its checksum stands before its attributes."""
        return memoryview(self.raw)[self._begin : self._end]


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch of records that count."""

    #: as it was fetched
    raw: memoryview
    #: aiokafka's view of it, which can be iterated once
    iterator: Any

    def sound(self) -> bool:
        """Whether the checksum fits."""
        if self.raw[_FORMAT] != 2:
            return bool(self.iterator.validate_crc())
        return crc32c(self.raw[_ATTRIBUTES:]) == int.from_bytes(self.raw[_ATTRIBUTES - 4 : _ATTRIBUTES], "big")

    @property
    def count(self) -> int:
        """Number of records; 1 for an older format, where a batch is a record or a compressed set of them."""
        return int.from_bytes(self.raw[_COUNT:_HEAD], "big") if self.raw[_FORMAT] == 2 else 1

    def body(self) -> bytes | memoryview | None:
        """The records' bytes; None where the format is another one, or damaged, or the codec is not there."""
        if self.raw[_FORMAT] != 2 or len(self.raw) < _HEAD:
            return None
        compression = self.raw[_ATTRIBUTES + 1] & _CODEC_MASK
        body = self.raw[_HEAD:]
        if not compression:
            return body
        decompress = _DECOMPRESS.get(compression)
        return None if decompress is None else decompress(bytes(body))


@dataclass(frozen=True, slots=True)
class Columns:
    """The records of some batches."""

    #: [n]
    offset: Int64s
    keys: BinaryColumn
    values: BinaryColumn
    #: [n], or None where no record has any
    headers: Sequence[Headers] | None

    def since(self, offset: int) -> Columns:
        """The records from `offset` on: a batch may begin before what was asked for."""
        first = int(np.searchsorted(self.offset, offset))
        if not first:
            return self
        rest = np.arange(first, len(self.offset))
        headers = None if self.headers is None else self.headers[first:]
        return Columns(self.offset[first:], self.keys.take(rest), self.values.take(rest), headers)


def columns(batches: Sequence[Batch]) -> Columns | None:
    """The records of `batches`, in order; None if something is not understood."""
    bodies = [batch.body() for batch in batches]
    known = [body for body in bodies if body is not None]
    if len(known) < len(bodies):
        return None
    buffer = b"".join([*known, PAD])
    places = np.cumsum([0, *map(len, known)])
    counts = [batch.count for batch in batches]
    bounds = guess_bounds(buffer, places, counts)
    if bounds is None:
        bounds = scan_bounds(buffer, places, counts)
    if bounds is None:  # so a count may be anything: nothing that large may be made
        return None
    first = np.array([int.from_bytes(batch.raw[:8], "big", signed=True) for batch in batches], np.int64)
    return _read(buffer, bounds, np.repeat(first, counts))


def _read(buffer: bytes, bounds: Int64s, base: Int64s) -> Columns | None:
    """The columns of the records that begin at `bounds` [n + 1]; `base` [n]: first offset of each one's batch."""
    n = len(base)
    offset, tail = np.empty(n, np.int64), np.empty(n, np.int64)
    strings = np.empty((4, n), np.int64)  # key start, key stop, value start, value stop
    octets, words = np.frombuffer(buffer, np.uint8), words_of(buffer)
    for low in range(0, n, _BLOCK):
        s = slice(low, low + _BLOCK)
        if not _walk(octets, words, bounds[low : low + _BLOCK + 1], offset[s], strings[:, s], tail[s]):
            return None
    headers: list[Headers] | None = None
    counts = octets[tail]
    if counts.any():
        headers = _all_headers(buffer, tail, bounds[1:])
        if headers is None:
            return None
    elif (tail + 1 != bounds[1:]).any():
        return None
    offset += base
    return Columns(
        offset, BinaryColumn(buffer, strings[0], strings[1]), BinaryColumn(buffer, strings[2], strings[3]), headers
    )


def _walk(octets: Octets, words: Words, bounds: Int64s, offset: Int64s, strings: Int64s, tail: Int64s) -> bool:
    """Fill one block's columns; False if a record is not understood. `tail`: where its headers begin."""
    last = len(words) - 1
    stop = bounds[1:]
    pos = np.minimum(_behind(octets, words, bounds[:-1]), last)  # the record's length
    if octets[pos].max(initial=0) >= MORE:  # attributes, which say nothing yet; aiokafka takes them for a number
        return False
    pos = _behind(octets, words, pos + 1)  # its time
    offset[:], pos = _number(octets, words, np.minimum(pos, last))
    fits = True
    for start, end in ((0, 1), (2, 3)):
        length, pos = _number(octets, words, np.minimum(pos, last))
        strings[start], strings[end] = pos, pos + length
        fits = fits and bool((length >= -1).all())
        pos = pos + np.maximum(length, 0)
        fits = fits and bool((pos < stop).all())
    tail[:] = np.minimum(pos, last)
    return fits


def _behind(octets: Octets, words: Words, pos: Int64s) -> Int64s:
    """The place behind the number at each place [n]; one of more than 8 bytes has no end."""
    if octets[pos].max(initial=0) < MORE:  # one byte each, as most have
        return pos + 1
    width = length_of(end_of(words[pos]))
    width[width == 0] = len(words)
    return pos + width


def _number(octets: Octets, words: Words, pos: Int64s) -> tuple[Int64s, Int64s]:
    """The number at each place [n], and the place behind it."""
    octet = octets[pos]
    if octet.max(initial=0) < MORE:
        return _SMALL[octet], pos + 1
    word = words[pos]
    end = end_of(word)
    width = length_of(end)
    number = signed(squeeze(word, end, int(width.max(initial=0))))
    width[width == 0] = len(words)
    return number, pos + width


def _all_headers(buffer: bytes, start: Int64s, stop: Int64s) -> list[Headers] | None:
    """The headers of every record [n]; None if one's do not fit. Many have the same, which are read once."""
    known: dict[bytes, Headers] = {}
    found: list[Headers] = []
    for at, end in zip(start.tolist(), stop.tolist(), strict=True):
        raw = buffer[at:end]
        headers = known.get(raw)
        if headers is None:
            headers = _headers(buffer, at, end)
            if headers is None:
                return None
            known[raw] = headers
        found.append(headers)
    return found


def _headers(buffer: bytes, at: int, end: int) -> Headers | None:
    """The headers of the record whose bytes end at `end`; None if they do not fit."""
    found: list[tuple[str, bytes | None]] = []
    try:
        count, at = number_at(buffer, at)
        if count < 0:
            return None
        for _ in range(count):
            size, at = number_at(buffer, at)
            if size < 0:
                return None
            name = buffer[at : at + size].decode()
            at += size
            size, at = number_at(buffer, at)
            found.append((name, None if size < 0 else buffer[at : at + size]))
            at += max(size, 0)
            if at > end:
                return None
    except (IndexError, UnicodeDecodeError):
        return None
    return found if at == end else None
