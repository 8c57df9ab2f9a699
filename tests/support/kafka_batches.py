"""Kafka's record batches (message format 2), built byte by byte and read with aiokafka."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from aiokafka import codec
from aiokafka.record.memory_records import MemoryRecords
from crc32c import crc32c

#: the codecs that aiokafka supports here: number in the attributes → compression function
CODECS = {0: bytes, 1: codec.gzip_encode}
CODECS |= {2: codec.snappy_encode} if codec.has_snappy() else {}
CODECS |= {3: codec.lz4_encode} if codec.has_lz4() else {}
CODECS |= {4: codec.zstd_encode} if codec.has_zstd() else {}
#: size of a batch's header [bytes]
HEAD = 61


class Record(NamedTuple):
    """A record; `offset` and `time` are relative to those of its batch."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()
    time: int = 0


#: offset, key, value, headers
Read = tuple[int, "bytes | None", "bytes | None", tuple[tuple[str, "bytes | None"], ...]]


def varint(number: int) -> bytes:
    """Encode a number as a zigzag varint: seven bits a byte, lowest first."""
    rest = 2 * number if number >= 0 else -2 * number - 1
    out = bytearray()
    while rest >= 0x80:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*out, rest])


def text(raw: bytes | None) -> bytes:
    """Encode bytes with their length before them; length -1 for None."""
    return varint(-1) if raw is None else varint(len(raw)) + raw


def headers_of(headers: Sequence[tuple[str, bytes | None]]) -> bytes:
    """Encode headers as at the end of a record."""
    return varint(len(headers)) + b"".join(text(name.encode()) + text(value) for name, value in headers)


def record(r: Record, *, attributes: bytes = b"\0", tail: bytes | None = None) -> bytes:
    """Encode a record with its length before it. tail: bytes in place of the headers."""
    body = attributes + varint(r.time) + varint(r.offset) + text(r.key) + text(r.value)
    body += headers_of(r.headers) if tail is None else tail
    return varint(len(body)) + body


def batch(
    body: bytes, count: int, *, base: int = 0, last: int = 0, attributes: int = 0, crc: int | None = None
) -> bytes:
    """Encode a batch. body: the records, compressed as `attributes` declare; crc: in place of the right checksum."""
    tail = struct.pack(">hiqqqhii", attributes, last, 1_000, 2_000, -1, -1, -1, count) + body
    checksum = crc32c(tail) if crc is None else crc
    return struct.pack(">qiibI", base, 9 + len(tail), -1, 2, checksum) + tail


def packed(records: Sequence[Record], *, base: int = 0, compression: int = 0) -> bytes:
    """Encode a valid batch of `records`."""
    compression = compression if records else 0  # aiokafka cannot decompress snappy's output for empty input
    body = CODECS[compression](b"".join(map(record, records)))
    last = max((r.offset for r in records), default=0)
    return batch(body, len(records), base=base, last=last, attributes=compression)


def as_aiokafka(raw: bytes) -> list[Read]:
    """Read all records of the batches in `raw` with aiokafka. Raises whatever aiokafka raises."""
    memory, records = MemoryRecords(raw), []
    while memory.has_next():
        records += [(r.offset, r.key, r.value, tuple(r.headers)) for r in memory.next_batch()]
    return records
