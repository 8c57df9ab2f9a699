"""Decompression of record batches that cannot exhaust the memory: a megabyte of zstd may unpack to gigabytes.

The size of what comes out is bounded without unpacking, from what the format declares: exactly for gzip and snappy,
from above for lz4 and zstd, whose frames consist of blocks of limited size. Only if that bound exceeds the limit is the
batch unpacked into a buffer of the limit's size. Formats: RFC 1952, RFC 8878, and those of snappy, of its Java library
("xerial") and of lz4's frames.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from gzip import BadGzipFile

import cramjam  # which aiokafka[snappy,lz4,zstd] installs
from aiokafka import codec

CODECS = GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
#: zlib's argument for gzip's format; the most that the format can compress; size that is unpacked without more ado
_GZIP_WBITS, _GZIP_RATIO, _GZIP_SMALL = 31, 1032, 1 << 14
_XERIAL, _XERIAL_HEADER = b"\x82SNAPPY\0", 16
_LZ4_MAGIC, _ZSTD_MAGIC = 0x184D2204, 0xFD2FB528
#: the most that any codec can compress (zstd: a block in four bytes), and up to which size that is a useful bound
_HIGHEST_RATIO, _SMALL = 1 << 15, 1 << 12
#: maximum size of a block of zstd [bytes]
_ZSTD_BLOCK = 1 << 17


#: errors of decompressors for damaged input
DAMAGED = (zlib.error, EOFError, BadGzipFile, cramjam.DecompressionError)


class UnreadableBatch(Exception):
    """A record batch that cannot be unpacked, or that would need too much memory; the message says which."""


def unpacked_size(compression: int, body: bytes | memoryview) -> int:
    """Return an upper bound of the size of the unpacked `body` [bytes]. Raises UnreadableBatch if there is none."""
    bound = _BOUNDS.get(compression)
    if bound is None:
        return len(body)
    try:
        return bound(body)
    except (IndexError, struct.error, cramjam.DecompressionError) as error:
        raise UnreadableBatch(f"damaged compression ({error})") from error


def largest_size(compression: int, body: bytes | memoryview) -> int:
    """Return an upper bound that costs little for a small body, and does not trust what a gzip file declares."""
    if compression == GZIP:
        return _GZIP_RATIO * len(body)
    if compression != SNAPPY and len(body) <= _SMALL:  # snappy allocates what is declared
        return _HIGHEST_RATIO * len(body)
    return unpacked_size(compression, body)


def unpack(compression: int, body: bytes, limit: int) -> bytes:
    """Return the unpacked `body`. Raises UnreadableBatch if it has more than `limit` bytes, or cannot be unpacked."""
    size = unpacked_size(compression, body)
    try:
        if compression == GZIP and (len(body) > _GZIP_SMALL or size > limit):
            return b"".join(_gunzip(body, size, limit))
        if size <= limit:
            return bytes(_DECODERS[compression](body))
        if compression == SNAPPY:
            raise _too_large(limit)
        buffer = bytearray(limit)  # the system provides only those pages that are written
        return bytes(memoryview(buffer)[: _INTO[compression](body, buffer)])
    except (*DAMAGED, struct.error) as error:
        if size > limit and "write whole buffer" in str(error):
            raise _too_large(limit) from error
        raise UnreadableBatch(f"damaged compression ({error})") from error


def _too_large(limit: int) -> UnreadableBatch:
    return UnreadableBatch(f"unpacks to more than {limit} bytes (RISK_MAX_BATCH_BYTES)")


def _gunzip(body: bytes, size: int, limit: int) -> Iterator[bytes]:
    """Yield the members of a gzip file."""
    left = min(size, limit)
    while body:
        member = zlib.decompressobj(_GZIP_WBITS)
        part = member.decompress(body, left + 1)
        left -= len(part)
        if left < 0:
            raise _too_large(limit) if size > limit else UnreadableBatch("damaged compression (larger than declared)")
        if not member.eof:
            raise UnreadableBatch("damaged compression (cut off)")
        yield part
        body = member.unused_data.lstrip(b"\0")


def _gzip_size(body: bytes | memoryview) -> int:
    declared: int = struct.unpack_from("<I", body, len(body) - 4)[0]
    # the last of several members may be small
    return declared if declared >= len(body) else _GZIP_RATIO * len(body)


def _snappy_size(body: bytes | memoryview) -> int:
    if bytes(body[: len(_XERIAL)]) != _XERIAL:
        return int(cramjam.snappy.decompress_raw_len(body))
    size, at = 0, _XERIAL_HEADER
    while at < len(body):
        (length,) = struct.unpack_from(">i", body, at)
        if length < 0:
            raise UnreadableBatch("damaged compression (negative length)")
        size += cramjam.snappy.decompress_raw_len(body[at + 4 : at + 4 + length])
        at += 4 + length
    return size


def _lz4_size(body: bytes | memoryview) -> int:
    size = at = 0
    while at < len(body):
        magic, flags, block = struct.unpack_from("<IBB", body, at)
        if magic != _LZ4_MAGIC:
            raise UnreadableBatch("damaged compression (no lz4 frame)")
        largest = 1 << 8 + 2 * (block >> 4 & 7)
        checksum = 4 * (flags >> 4 & 1)
        at += 7 + 8 * (flags >> 3 & 1) + 4 * (flags & 1)
        (length,) = struct.unpack_from("<I", body, at)
        while length:
            stored = length & 0x7FFFFFFF
            size += stored if length >> 31 else min(largest, 255 * stored)
            at += 4 + stored + checksum
            (length,) = struct.unpack_from("<I", body, at)
        at += 4 + 4 * (flags >> 2 & 1)
    return size


def _zstd_size(body: bytes | memoryview) -> int:
    size = at = 0
    while at < len(body):
        (magic,) = struct.unpack_from("<I", body, at)
        if magic != _ZSTD_MAGIC:
            raise UnreadableBatch("damaged compression (no zstd frame)")
        flags = body[at + 4]
        single = flags >> 5 & 1
        content_size = (single, 2, 4, 8)[flags >> 6]
        at += 5 + (1 - single) + (0, 1, 2, 4)[flags & 3] + content_size
        last = 0
        while not last:
            header = body[at] | body[at + 1] << 8 | body[at + 2] << 16
            last, kind, length = header & 1, header >> 1 & 3, header >> 3
            size += _ZSTD_BLOCK if kind == 2 else length
            at += 3 + (1 if kind == 1 else length)
        at += 4 * (flags >> 2 & 1)
    return size


_BOUNDS: dict[int, Callable[[bytes | memoryview], int]] = {
    GZIP: _gzip_size,
    SNAPPY: _snappy_size,
    LZ4: _lz4_size,
    ZSTD: _zstd_size,
}
_DECODERS: dict[int, Callable[[bytes], bytes]] = {
    GZIP: codec.gzip_decode,
    SNAPPY: codec.snappy_decode,
    LZ4: codec.lz4_decode,
    ZSTD: codec.zstd_decode,
}
_INTO: dict[int, Callable[[bytes, bytearray], int]] = {
    LZ4: cramjam.lz4.decompress_into,
    ZSTD: cramjam.zstd.decompress_into,
}
