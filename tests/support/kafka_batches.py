"""Kafka's record batches (message format 2) made by hand, byte by byte, and read as aiokafka reads them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from aiokafka import codec
from aiokafka.record.memory_records import MemoryRecords
from crc32c import crc32c

#: the codecs that aiokafka has here: number in the attributes → what compresses
CODECS = {0: bytes, 1: codec.gzip_encode}
CODECS |= {2: codec.snappy_encode} if codec.has_snappy() else {}
CODECS |= {3: codec.lz4_encode} if codec.has_lz4() else {}
CODECS |= {4: codec.zstd_encode} if codec.has_zstd() else {}
#: bytes of a batch before its records
HEAD = 61


class Record(NamedTuple):
    """What stands in a batch; `offset` and `time` count from the batch's."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()
    time: int = 0


#: offset, key, value, headers
Read = tuple[int, "bytes | None", "bytes | None", tuple[tuple[str, "bytes | None"], ...]]


def varint(number: int) -> bytes:
    """Zigzag, seven bits a byte, the lowest first."""
    rest = 2 * number if number >= 0 else -2 * number - 1
    out = bytearray()
    while rest >= 0x80:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*out, rest])


def text(raw: bytes | None) -> bytes:
    """A string with its length before it; -1 for none."""
    return varint(-1) if raw is None else varint(len(raw)) + raw


def headers_of(headers: Sequence[tuple[str, bytes | None]]) -> bytes:
    """Headers as they stand at a record's end."""
    return varint(len(headers)) + b"".join(text(name.encode()) + text(value) for name, value in headers)


def record(r: Record, *, attributes: bytes = b"\0", tail: bytes | None = None) -> bytes:
    """A record with its length before it; `tail`: what stands there instead of its headers."""
    body = attributes + varint(r.time) + varint(r.offset) + text(r.key) + text(r.value)
    body += headers_of(r.headers) if tail is None else tail
    return varint(len(body)) + body


def batch(
    body: bytes, count: int, *, base: int = 0, last: int = 0, attributes: int = 0, crc: int | None = None
) -> bytes:
    """A batch of records; `body` is compressed already if `attributes` say so."""
    tail = struct.pack(">hiqqqhii", attributes, last, 1_000, 2_000, -1, -1, -1, count) + body
    checksum = crc32c(tail) if crc is None else crc
    return struct.pack(">qiibI", base, 9 + len(tail), -1, 2, checksum) + tail


def packed(records: Sequence[Record], *, base: int = 0, compression: int = 0) -> bytes:
    """A sound batch of `records`."""
    compression = compression if records else 0  # aiokafka cannot read back what snappy makes of nothing
    body = CODECS[compression](b"".join(map(record, records)))
    last = max((r.offset for r in records), default=0)
    return batch(body, len(records), base=base, last=last, attributes=compression)


def as_aiokafka(raw: bytes) -> list[Read]:
    """All records of some batches, as aiokafka iterates them. Raises what it raises."""
    memory, found = MemoryRecords(raw), []
    while memory.has_next():
        found += [(r.offset, r.key, r.value, tuple(r.headers)) for r in memory.next_batch()]
    return found
