"""Columns of record batches hold the records that aiokafka's iteration returns, or there are none."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED, FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from app.kafka import reader
from app.kafka.record_columns import Batch, Columns, columns
from app.upstream import install
from app.upstream.aiokafka import FetchedBatches, RawMemoryRecords
from tests.support.effort import examples
from tests.support.kafka_batches import CODECS, HEAD, Read, Record, as_aiokafka, batch, packed, record

#: prefix of all values written with one schema
SCHEMA = b"\0\0\0\0\7"
#: limit of zigzag varints of 8 bytes
LONGEST = 1 << 55


def batches(raw: bytes) -> list[Batch]:
    """Split fetched bytes into batches, as the reader does."""
    memory, split = RawMemoryRecords(raw), []
    while memory.has_next():
        parsed = memory.next_batch()
        split.append(Batch(memory.raw_batch(), parsed))
    return split


def rows(found: Columns) -> list[Read]:
    n = len(found.offset)
    assert len(found.keys) == len(found.values) == n
    headers = [()] * n if found.headers is None else [tuple(h) for h in found.headers]
    return list(zip(found.offset.tolist(), found.keys, found.values, headers, strict=True))


def check_columns(raw: bytes) -> bool:
    """Return whether there are columns. Fail if they differ from what aiokafka reads, or if it raises."""
    try:
        wanted = as_aiokafka(raw)
    except Exception:
        try:
            actual = columns(batches(raw))
        except Exception:
            return False
        assert actual is None, "aiokafka refuses what was read here"
        return False
    actual = columns(batches(raw))
    if actual is not None:
        assert rows(actual) == wanted
    return actual is not None


# lengths around those from which a varint in the record takes one more byte
lengths = st.one_of(st.integers(0, 12), st.integers(45, 70), st.integers(8_165, 8_195))
plain = st.builds(lambda n, c: bytes([c]) * n, lengths, st.integers(0, 255))
with_schema = st.builds(
    lambda rest: SCHEMA + rest, st.one_of(plain, st.binary(max_size=12), st.just(SCHEMA), st.just(SCHEMA * 3))
)
keys = st.one_of(st.none(), st.just(b""), st.binary(max_size=6), plain, st.just(SCHEMA))
names = st.text(st.characters(codec="utf-8"), max_size=4)
headers = st.lists(st.tuples(names, st.one_of(st.none(), st.binary(max_size=4), st.just(SCHEMA))), max_size=3)
times = st.one_of(
    st.integers(-5, 200), st.sampled_from([63, 64, 8_191, 8_192, 1 << 31, 1 << 47, -(1 << 54), LONGEST - 1])
)


@st.composite
def logs(draw: st.DrawFn, values: st.SearchStrategy[bytes | None], times: st.SearchStrategy[int] = times) -> bytes:
    """Draw some batches of a few kinds of records in any order; offsets have holes, as after compaction."""
    some_headers = draw(st.sampled_from([st.just([]), st.just([("a", b"1")]), headers]))
    kinds = draw(st.lists(st.tuples(keys, values, some_headers, times), min_size=1, max_size=5))
    step = st.sampled_from([1, 1, 1, 2, 50, 8_000])
    raw, base = b"", draw(st.sampled_from([0, 5, 1 << 40]))
    for count in draw(st.lists(st.sampled_from([0, 1, 3, 40, 130]), min_size=1, max_size=3)):
        random = draw(st.randoms(use_true_random=False))
        width, offset, records = draw(step), 0, []
        for _ in range(count):
            key, value, record_headers, time = random.choice(kinds)
            records.append(Record(offset, key, value, record_headers, time))
            offset += random.randint(1, width)
        raw += packed(records, base=base, compression=draw(st.sampled_from(sorted(CODECS))))
        base += offset + 1
    return raw


@given(st.one_of(logs(st.one_of(st.none(), plain)), logs(with_schema), logs(st.one_of(with_schema, st.none()))))
@settings(max_examples=examples(150))
def test_columns_equal_aiokafkas_records(raw):
    """Nulls, empty strings, headers, holes, distant timestamps, compression and many batches can be read."""
    assert check_columns(raw)
    assert [batch.has_valid_crc() for batch in batches(raw)] == [True] * len(batches(raw))


@given(logs(plain, st.sampled_from([0, LONGEST, -LONGEST - 1, 1 << 62])))
@settings(max_examples=examples(50))
def test_varints_of_more_than_eight_bytes_are_left_to_aiokafka(raw):
    """The columnar reader does not return a number without its upper bits."""
    check_columns(raw)


@given(logs(with_schema), st.data())
@settings(max_examples=examples(150))
def test_damaged_bytes_are_never_read_as_other_records(raw, data):
    """Truncated, a bit flipped, bytes inserted or removed: aiokafka's records or none, and the same checksum result."""
    at = data.draw(st.integers(0, len(raw) - 1))
    damage: Callable[[], bytes] = data.draw(
        st.sampled_from(
            [
                lambda: raw[:at],
                lambda: raw[:at] + bytes([raw[at] ^ 1 << data.draw(st.integers(0, 7))]) + raw[at + 1 :],
                lambda: raw[:at] + SCHEMA + raw[at + 5 :],
                lambda: raw[:at] + raw[at + 1 :],
            ]
        )
    )
    damaged = damage()
    check_columns(damaged)
    check_crcs(damaged)


def check_crcs(raw: bytes) -> None:
    """Fail if a checksum is valid here and not for aiokafka, or the reverse. Bytes that it cannot parse are skipped."""
    memory, wanted = MemoryRecords(raw), []
    try:
        while memory.has_next():
            wanted.append(bool(memory.next_batch().validate_crc()))
    except Exception:
        return
    assert [batch.has_valid_crc() for batch in batches(raw)] == wanted


@pytest.mark.parametrize("compression", sorted(CODECS))
@pytest.mark.parametrize("value", [SCHEMA + b"ab", b"xyz", None], ids=["alike", "plain", "tombstone"])
def test_any_bit_of_a_small_log_may_flip(value, compression):
    """Every bit is flipped in turn, with the old checksum and with a valid one."""
    records = [Record(i, b"k%d" % i, value, [("h", b"v")] if i == 1 else [], i) for i in range(3)]
    raw = packed(records, compression=compression)
    log = bytearray(raw + packed(records, base=3, compression=compression))
    for bit in range(8 * len(log)):
        log[bit // 8] ^= 1 << bit % 8
        check_columns(bytes(log))
        check_crcs(bytes(log))
        if HEAD - 40 <= bit // 8 < len(raw):  # covered by the checksum
            check_columns(with_valid_crc(bytes(log[: len(raw)])) + bytes(log[len(raw) :]))
        log[bit // 8] ^= 1 << bit % 8


def with_valid_crc(raw: bytes) -> bytes:
    """Replace the batch's checksum by a valid one."""
    attributes, last, *_, count = struct.unpack_from(">hiqqqhii", raw, 21)
    return batch(raw[HEAD:], count, last=last, attributes=attributes)


ONE = Record(0, b"k", b"value")


@pytest.mark.parametrize(
    ("body", "count"),
    [
        (record(ONE, tail=b"\1"), 1),
        (record(ONE, tail=b"\2\1\0"), 1),
        (record(ONE, tail=b"\2\2a\4b"), 1),
        (record(ONE, tail=b"\2\2\xff\2b"), 1),
        (record(ONE, tail=b"\0\0"), 1),
        (record(ONE, tail=b""), 1),
        (record(ONE), 2),
        (record(ONE) * 2, 1),
        (record(ONE), (1 << 31) - 1),
        (record(ONE), -1),
        (record(ONE)[:-1], 1),
        (b"\1" + record(ONE), 1),
        (b"\xff" * 12, 1),
        (b"\xff" * 5 + b"\1" + record(ONE), 1),
        (b"", 1),
    ],
    ids=[
        "a negative number of headers",
        "a header name of negative length",
        "a truncated header value",
        "a header name that is not UTF-8",
        "bytes after the headers",
        "no number of headers",
        "fewer records than the count",
        "more records than the count",
        "a count of two billion",
        "a negative count",
        "the last byte is missing",
        "a negative length",
        "a length that does not end",
        "a length of six bytes",
        "no bytes",
    ],
)
def test_a_malformed_batch_with_a_valid_checksum_is_left_to_aiokafka(body, count):
    """Its producer is at fault, and aiokafka raises."""
    raw = batch(body, count)
    assert batches(raw)[0].has_valid_crc()
    with pytest.raises((CorruptRecordException, UnicodeDecodeError)):
        as_aiokafka(raw)
    assert columns(batches(raw)) is None


def test_a_record_that_spans_two_batches_is_refused():
    """Concatenated, the bodies are valid, and the number of records is the sum of both counts."""
    body = b"".join(record(Record(i, b"k", SCHEMA + b"%02d" % i)) for i in range(6))
    size = len(body) // 6
    raw = batch(body[: 3 * size - 2], 3, last=2) + batch(body[3 * size - 2 :], 3, base=3, last=2)
    with pytest.raises((CorruptRecordException, UnicodeDecodeError)):
        as_aiokafka(raw)
    assert columns(batches(raw)) is None


def test_an_unknown_codec_is_left_to_aiokafka():
    """aiokafka's error names the codec."""
    raw = batch(record(ONE), 1, attributes=5)
    assert columns(batches(raw)) is None


@given(logs(with_schema), st.integers(0, 300))
@settings(max_examples=examples(50))
def test_since_drops_the_records_before_the_fetched_offset(raw, ahead):
    """Their headers are dropped too."""
    wanted = as_aiokafka(raw)
    start = (wanted[0][0] if wanted else 0) + ahead
    actual = columns(batches(raw))
    assert actual is not None
    assert rows(actual.since(start)) == [r for r in wanted if r[0] >= start]


@given(logs(st.one_of(with_schema, st.none())), st.integers(0, 300))
@settings(max_examples=examples(50))
def test_few_records_give_the_same_chunk_as_many(raw, ahead):
    """A chunk is the same whether its records are read one by one or in columns."""
    wanted = as_aiokafka(raw)
    start = (wanted[0][0] if wanted else 0) + ahead
    read = []
    for few in (10**9, -1):
        raw_batches = batches(raw)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reader, "FEW_RECORDS", few)
            chunk = reader.make_chunk(
                TopicPartition("t", 0), FetchedBatches(raw_batches, sum(b.count for b in raw_batches), start, 9, 9)
            )
        n = len(chunk)
        headers = [()] * n if chunk.headers is None else [tuple(h) for h in chunk.headers]
        read.append(list(zip(map(int, chunk.offsets), chunk.keys, chunk.values, headers, strict=True)))
    assert read[0] == read[1] == [r for r in wanted if r[0] >= start]


@pytest.mark.parametrize("count", [2, 30], ids=["read one by one", "read in columns"])
async def test_the_position_moves_behind_the_batch_and_not_behind_its_last_record(count):
    """Compaction removes the last records of a batch and keeps the batch's end, behind which the next one begins."""
    offsets = [5, *range(7, 6 + count)]
    body = b"".join(record(Record(offset - 5, None, b"value")) for offset in offsets)
    end = offsets[-1] + 3
    raw = batch(body, len(offsets), base=5, last=end - 1 - 5)
    tp = TopicPartition("t", 0)
    records = PartitionRecords(tp, RawMemoryRecords(raw), [], 6, None, None, True, READ_UNCOMMITTED)
    consumed: list[int] = []
    state = SimpleNamespace(paused=False, position=6, highwater=90, consumed_to=consumed.append)
    assignment = SimpleNamespace(active=True, state_value=lambda _: state)
    fetched = FetchResult(tp, assignment=assignment, partition_records=records, backoff=0)
    subscriptions = SimpleNamespace(fetch_context=nullcontext, reassignment_in_progress=False)
    fetcher = SimpleNamespace(
        _subscriptions=subscriptions,
        _closed=False,
        _records={tp: fetched},
        _wait_consume_future=None,
        _notify=lambda _: None,
    )
    (chunk,) = await reader.read_chunks(SimpleNamespace(_fetcher=fetcher), {tp}, 0, 1000)
    assert list(chunk.offsets) == offsets[1:]  # 5 is before the fetched offset
    assert (consumed, chunk.start, chunk.next_offset, chunk.end) == ([end], 6, end, 90)


#: attributes of a batch: transactional, and a control batch
TRANSACTIONAL, CONTROL = 0x10, 0x20
#: the keys of control records: version 0, and the type
ABORT, COMMIT = b"\0\0\0\0", b"\0\0\0\1"


@pytest.mark.parametrize("marker", [ABORT, COMMIT, None])
def test_a_marker_that_compaction_has_removed_is_skipped(marker: bytes | None) -> None:
    """Compaction keeps the last batch of a producer although its marker is gone. What comes behind it is read."""
    install()
    markers = [] if marker is None else [record(Record(0, marker, b"\0\0\0\0\0\0"))]
    raw = batch(b"".join(markers), len(markers), attributes=TRANSACTIONAL | CONTROL) + packed(
        [Record(0, b"k", b"v")], base=1
    )
    position = PartitionRecords(TopicPartition("t", 0), MemoryRecords(raw), [], 0, None, None, True, READ_COMMITTED)
    assert [(r.offset, r.key) for r in position] == [(1, b"k")]


def test_an_abort_marker_ends_an_aborted_transaction() -> None:
    """What the same producer has written before is skipped, and what it writes afterwards is read."""
    install()
    aborted = batch(record(Record(0, b"k", b"v")), 1, attributes=TRANSACTIONAL)
    ended = batch(record(Record(0, ABORT, b"\0\0\0\0\0\0")), 1, base=1, attributes=TRANSACTIONAL | CONTROL)
    later = batch(record(Record(0, b"l", b"w")), 1, base=2, attributes=TRANSACTIONAL)
    raw = aborted + ended + later
    position = PartitionRecords(
        TopicPartition("t", 0), MemoryRecords(raw), [(-1, 0)], 0, None, None, True, READ_COMMITTED
    )
    assert [(r.offset, r.key) for r in position] == [(2, b"l")]
