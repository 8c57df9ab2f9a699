"""Guessed bounds of records are those that the scan finds, or there are none."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.kafka.record_bounds import guess_bounds, scan_bounds
from app.kafka.record_columns import Batch, columns
from app.upstream.aiokafka import RawMemoryRecords
from models.varints import PAD
from tests.support.effort import examples
from tests.support.kafka_batches import Record, as_aiokafka, packed, record

SCHEMA = b"\0\0\0\0\7"
#: sizes of values around records of 63, 64, 8191 and 8192 bytes, from which the length field takes one more byte
EDGES = [n for edge in (63, 64, 8_191, 8_192) for n in range(edge - 12, edge - 4)]


def concatenate(bodies: list[list[bytes]]) -> tuple[bytes, np.ndarray, list[int], list[int]]:
    """Concatenate the records of some batches; return the buffer, the bodies' bounds, counts and records' bounds."""
    sizes = [len(record) for body in bodies for record in body]
    body_bounds = list(accumulate((sum(map(len, body)) for body in bodies), initial=0))
    buffer = b"".join(record for body in bodies for record in body) + PAD
    return buffer, np.array(body_bounds, np.int64), list(map(len, bodies)), list(accumulate(sizes, initial=0))


def listed(bounds: np.ndarray | None) -> list[int] | None:
    return None if bounds is None else bounds.tolist()


@pytest.mark.parametrize("n", EDGES)
def test_bounds_of_one_schemas_records_are_guessed(n):
    """Up to the lengths that fit into two bytes; longer records are scanned."""
    value = SCHEMA + b"x" * (n - 5)
    records = [record(Record(i, key, value)) for i, key in enumerate([b"", b"k", None] * 3)]
    buffer, bodies, counts, true = concatenate([records[:4], records[4:]])
    length = max(len(r) - (1 if len(r) <= 64 else 2 if len(r) <= 8_193 else 3) for r in records)
    assert listed(scan_bounds(buffer, bodies, counts)) == true
    assert listed(guess_bounds(buffer, bodies, counts)) == (true if length <= 8_191 else None)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 11, 12, 13, 70])
def test_bounds_of_one_writers_records_with_headers_are_guessed(size: int) -> None:
    """As predictions have them: the model's name on each; all are read at once, unless one differs in a byte."""
    same = [("m", b"x" * size)]
    log = [Record(i, b"%d" % (i % 7 * 1_000), SCHEMA + b"x" * (i % 5), same) for i in range(20)]
    buffer, bodies, counts, true = concatenate([[record(r) for r in log[:9]], [record(r) for r in log[9:]]])
    assert listed(guess_bounds(buffer, bodies, counts)) == true
    for at in range(size):
        other = Record(5, b"k", SCHEMA, [("m", b"x" * at + b"y" + b"x" * (size - at - 1))])
        raw = packed([*log[:5], other, *log[6:]])
        memory = RawMemoryRecords(raw)
        parsed = memory.next_batch()
        read = columns([Batch(memory.raw_batch(), parsed)])
        assert read is not None
        assert list(map(tuple, read.headers or ())) == [headers for *_, headers in as_aiokafka(raw)]


tails = st.sampled_from([b"", SCHEMA, b"\xff" + SCHEMA, b"\x7f\xff" + SCHEMA, b"\x0a" + SCHEMA + b"\0", b"\xff\xff"])
values = st.one_of(
    st.builds(lambda a, b: SCHEMA + a + b, st.binary(max_size=3), tails),
    st.builds(lambda n: SCHEMA + b"y" * n, st.sampled_from(EDGES)),
    st.sampled_from([None, b"", b"\0\0\0\0\6"]),
)
headers = st.sampled_from([[], [], [], [("a", b"1")], [("a", SCHEMA)], [("", None)]])
records = st.builds(Record, st.integers(0, 9), st.sampled_from([None, b"", SCHEMA, b"k"]), values, headers)


@given(st.lists(st.lists(records, min_size=1, max_size=4), min_size=1, max_size=3))
@settings(max_examples=examples(250))
def test_guessed_bounds_are_the_scanned_ones(log):
    """Values of one schema, other values, nulls, headers, and all that repeats the schema's prefix."""
    buffer, bodies, counts, true = concatenate([[record(r) for r in body] for body in log])
    assert listed(scan_bounds(buffer, bodies, counts)) == true
    assert listed(guess_bounds(buffer, bodies, counts)) in (None, true)


@given(st.lists(st.lists(records, min_size=1, max_size=4), min_size=1, max_size=3), st.data())
@settings(max_examples=examples(250))
def test_guessed_bounds_of_damaged_records_are_the_scanned_ones(log, data):
    """A flipped bit, other bounds of the bodies, other counts: the same bounds or none."""
    buffer, bodies, counts, _ = concatenate([[record(r) for r in body] for body in log])
    damaged = bytearray(buffer)
    damaged[data.draw(st.integers(0, int(bodies[-1]) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    which = data.draw(st.integers(0, len(counts) - 1))
    counts[which] += data.draw(st.sampled_from([0, 0, 1, -1]))
    inner = bodies.copy()
    inner[which] = max(0, inner[which] + (data.draw(st.sampled_from([0, 0, -1, 2])) if which else 0))
    for raw, body_bounds in ((bytes(damaged), bodies), (buffer, inner)):
        assert listed(guess_bounds(raw, body_bounds, counts)) in (None, listed(scan_bounds(raw, body_bounds, counts)))


def misleading(*inside: bytes) -> list[Record]:
    """Build as many prefixes as records, but not one per record."""
    first, *others = [Record(i, b"k", SCHEMA + b"ab") for i in range(30)]
    return [first, Record(30, b"k", SCHEMA + b"".join(inside)), *(Record(31, b"k", None) for _ in inside), *others]


MISLEADING = {
    "a value that contains a prefix, and a tombstone": misleading(b"\x0e" + SCHEMA + b"ab"),
    "lengths that point beyond the buffer": misleading(b"\xff\x7f" + SCHEMA, b"\xff\xff" + SCHEMA),
    "lengths that point back": misleading(b"\0" + SCHEMA, SCHEMA),
    "headers after a value": [
        Record(0, b"k", SCHEMA + b"ab"),
        *(Record(i, b"k", SCHEMA + b"ab", [("a", b"1")]) for i in range(1, 30)),
        Record(30, b"k", SCHEMA + b"ab"),
    ],
    "keys that begin with the prefix": [Record(0, b"k", SCHEMA), Record(1, SCHEMA, None), Record(2, b"k", SCHEMA)] * 10,
}


@pytest.mark.parametrize("records", MISLEADING.values(), ids=MISLEADING)
def test_a_misled_guess_is_refused(records):
    """The number of prefixes equals that of the records, so only the proof can tell; the scan reads the records."""
    buffer, bodies, counts, true = concatenate([[record(r) for r in records]])
    assert buffer.count(SCHEMA) == len(records)
    assert guess_bounds(buffer, bodies, counts) is None
    assert listed(scan_bounds(buffer, bodies, counts)) == true
    raw = packed(records)
    memory = RawMemoryRecords(raw)
    parsed = memory.next_batch()
    read = columns([Batch(memory.raw_batch(), parsed)])
    assert read is not None
    assert [(o, k, v) for o, k, v, _ in as_aiokafka(raw)] == list(
        zip(read.offset.tolist(), read.keys, read.values, strict=True)
    )


@pytest.mark.parametrize("buffer", [b"", b"\0", b"\2\0", b"\x80" * 30, b"\x0c\0\0\0\1\1"])
def test_bytes_without_a_first_value_are_not_guessed(buffer):
    """The first record cannot be parsed."""
    assert guess_bounds(buffer + PAD, np.array([0, len(buffer)]), [1]) is None
