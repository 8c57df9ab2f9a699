"""Record batches that would unpack to more than fits the memory are refused without unpacking them."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from contextlib import suppress
from pathlib import Path

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kafka.reader import make_chunk
from app.kafka.unpack import GZIP, LZ4, SNAPPY, ZSTD, UnreadableBatch, unpack, unpacked_size
from app.upstream.aiokafka import FetchedBatches
from models.chunk import Chunk, RefusedRange
from tests.support.kafka_batches import CODECS, Record, batch, packed, record
from tests.test_record_columns import batches

MB = 1 << 20
COMPRESSED = sorted(set(CODECS) - {0})


def bomb(compression: int, size: int) -> bytes:
    """Compress `size` zero bytes, in at most 4 MB of memory for the common codecs."""
    if compression == GZIP:
        compressor = zlib.compressobj(9, wbits=31)
        return b"".join(compressor.compress(bytes(MB)) for _ in range(size // MB)) + compressor.flush()
    if compression == SNAPPY:
        # xerial's header and blocks of 64 kB
        block = bytes(cramjam.snappy.compress_raw(bytes(1 << 16)))
        blocks = (struct.pack(">i", len(block)) + block) * (size >> 16)
        return b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1) + blocks
    compressor = cramjam.lz4.Compressor() if compression == LZ4 else cramjam.zstd.Compressor()
    for _ in range(size // MB):
        compressor.compress(bytes(MB))
    return bytes(compressor.finish())


def read(raw: bytes, start: int = 0, limit: int = MB) -> Chunk:
    """Read batches as the worker does."""
    split = batches(raw)
    count = sum(b.count for b in split)
    end = split[-1].offsets[1]
    tp = type("TP", (), {"topic": "log", "partition": 3})()
    return make_chunk(tp, FetchedBatches(split, count, start, end, end), limit)


@given(st.lists(st.binary(max_size=300), max_size=40).map(b"".join), st.integers(1, 400), st.sampled_from(COMPRESSED))
def test_what_is_unpacked_is_what_was_packed(data, times, compression):
    """Whatever its size: below the limit, at it, and above it, where it is refused."""
    data = data * times or b"x"
    body = CODECS[compression](data)
    assert unpacked_size(compression, body) >= len(data)
    for limit in (1 << 28, len(data)):
        assert unpack(compression, body, limit) == data
    with pytest.raises(UnreadableBatch, match="unpacks to more than"):
        unpack(compression, body, len(data) - 1)


@given(st.binary(max_size=80), st.sampled_from(COMPRESSED), st.integers(0, 79), st.integers(0, 255))
def test_damaged_compression_is_refused_or_bounded(data, compression, at, octet):
    """Whatever the bytes are, there is a result within the limit, or the error that sets the batch aside."""
    body = bytearray(CODECS[compression](data * 50 or b"x"))
    body[at % len(body)] = octet
    for raw in (bytes(body), bytes(body[: at + 1]), data):
        with suppress(UnreadableBatch):
            assert len(unpack(compression, raw, 5_000)) <= 5_000


@pytest.mark.parametrize("compression", COMPRESSED)
@pytest.mark.parametrize("few", [True, False], ids=["record by record", "in columns"])
def test_a_batch_that_is_too_large_is_set_aside_and_the_rest_is_read(compression, few):
    """Its offsets are known, also if a fetch begins in its middle; the records around it are all there."""
    n = 3 if few else 40
    good = [Record(i, b"k", b"value %d" % i) for i in range(n)]
    huge = batch(bomb(compression, 2 * MB), 5, base=n, last=4, attributes=compression)
    raw = packed(good) + huge + packed(good, base=n + 5, compression=compression)
    chunk = read(raw)
    assert list(chunk.offsets) == [*range(n), *range(n + 5, 2 * n + 5)]
    assert list(chunk.values) == [b"value %d" % i for i in range(n)] * 2
    (refused,) = chunk.refused
    assert (refused.first, refused.next_offset) == (n, n + 5)
    assert refused.why == f"unpacks to more than {MB} bytes (RISK_MAX_BATCH_BYTES)"
    (refused,) = read(huge, start=n + 2).refused
    assert (refused.first, refused.next_offset) == (n + 2, n + 5)
    assert read(huge, limit=8 * MB).refused[0].why.startswith("damaged"), "zeros are no records"


def test_a_batch_of_too_many_records_is_set_aside():
    """Tiny records need more memory than their bytes."""
    n = MB // 64 + 1
    raw = batch(b"".join(record(Record(i, None, None)) for i in range(n)), n, last=n - 1)
    assert read(raw).refused[0].why == f"has {n} records, too many for {MB} bytes (RISK_MAX_BATCH_BYTES)"
    assert len(read(raw, limit=2 * MB)) == n


def test_a_batch_whose_records_cannot_be_read_is_set_aside():
    """Its checksum is right, so it was written like that, and reading it again does not help."""
    good = packed([Record(0, b"k", b"value")])
    for body, attributes in ((record(Record(0, b"k", b"v"))[:-1], 0), (b"rubbish", ZSTD), (b"rubbish", 5)):
        for count in (1, 30):
            chunk = read(good + batch(body, count, base=1, last=count - 1, attributes=attributes))
            assert list(chunk.values) == [b"value"]
            assert [(r.first, r.next_offset) for r in chunk.refused] == [(1, 1 + count)], (body, count)
            assert "damaged" in chunk.refused[0].why


def test_the_older_message_format_is_bounded_too():
    """Kafka 3 still serves what was written with it: one record that holds a compressed set of records."""
    body = bomb(GZIP, 4 * MB)
    message = struct.pack(">bbqii", 1, GZIP, 0, -1, len(body)) + body
    message = struct.pack(">I", zlib.crc32(message)) + message
    chunk = read(struct.pack(">qi", 7, len(message)) + message)
    assert chunk.refused == (RefusedRange(7, 8, f"unpacks to more than {MB} bytes (RISK_MAX_BATCH_BYTES)"),)


#: reads bombs of 128 MB each with a limit of 4 MB, and prints by how much the peak of the memory has grown [MB]
CHILD = """
import resource, sys
from tests.test_unpack import COMPRESSED, MB, batch, bomb, read
for compression in COMPRESSED:
    body = bomb(compression, 128 * MB)
    assert len(body) < 8 * MB, len(body)
    for count in (1, 100):
        raw = batch(body, count, last=count - 1, attributes=compression)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert len(read(raw, limit=4 * MB).refused) == 1
        print(compression, count, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_memory_stays_bounded():
    """A batch of some kilobytes that would unpack to 128 MB needs some times the limit."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        cwd=Path(__file__).parents[1],
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) == 2 * len(COMPRESSED)
    assert max(int(mb) for *_, mb in lines) < 32, lines
