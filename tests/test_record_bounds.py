"""Where records begin: what is seen at once is what a walk from one to the next finds, or nothing."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.kafka.record_bounds import guess_bounds, scan_bounds
from app.kafka.record_columns import Batch, Kept, columns
from models.varints import PAD
from tests.support.effort import examples
from tests.support.kafka_batches import Record, as_aiokafka, packed, record

SCHEMA = b"\0\0\0\0\7"
#: a value as large as this makes a record of 63, 64, 8191 or 8192 bytes, whose length takes one byte more or less
EDGES = [n for edge in (63, 64, 8_191, 8_192) for n in range(edge - 12, edge - 4)]


def laid(bodies: list[list[bytes]]) -> tuple[bytes, np.ndarray, list[int], list[int]]:
    """Records of some batches end to end: buffer, bounds of the bodies, counts, and where each record begins."""
    sizes = [len(one) for body in bodies for one in body]
    places = list(accumulate((sum(map(len, body)) for body in bodies), initial=0))
    buffer = b"".join(one for body in bodies for one in body) + PAD
    return buffer, np.array(places, np.int64), list(map(len, bodies)), list(accumulate(sizes, initial=0))


def found(bounds: np.ndarray | None) -> list[int] | None:
    return None if bounds is None else bounds.tolist()


@pytest.mark.parametrize("n", EDGES)
def test_records_of_one_schema_are_seen_at_once(n):
    """Whatever their length, up to what two bytes can say; from there on they are walked."""
    value = SCHEMA + b"x" * (n - 5)
    some = [record(Record(i, key, value)) for i, key in enumerate([b"", b"k", None] * 3)]
    buffer, bodies, counts, true = laid([some[:4], some[4:]])
    length = max(len(one) - (1 if len(one) <= 64 else 2 if len(one) <= 8_193 else 3) for one in some)
    assert found(scan_bounds(buffer, bodies, counts)) == true
    assert found(guess_bounds(buffer, bodies, counts)) == (true if length <= 8_191 else None)


tails = st.sampled_from([b"", SCHEMA, b"\xff" + SCHEMA, b"\x7f\xff" + SCHEMA, b"\x0a" + SCHEMA + b"\0", b"\xff\xff"])
values = st.one_of(
    st.builds(lambda a, b: SCHEMA + a + b, st.binary(max_size=3), tails),
    st.builds(lambda n: SCHEMA + b"y" * n, st.sampled_from(EDGES)),
    st.sampled_from([None, b"", b"\0\0\0\0\6"]),
)
said = st.sampled_from([[], [], [], [("a", b"1")], [("a", SCHEMA)], [("", None)]])
records = st.builds(Record, st.integers(0, 9), st.sampled_from([None, b"", SCHEMA, b"k"]), values, said)


@given(st.lists(st.lists(records, min_size=1, max_size=4), min_size=1, max_size=3))
@settings(max_examples=examples(250))
def test_what_is_seen_at_once_is_what_is_walked(log):
    """Values of one schema, others, none, headers, and everything that repeats the schema's bytes."""
    buffer, bodies, counts, true = laid([[record(r) for r in body] for body in log])
    assert found(scan_bounds(buffer, bodies, counts)) == true
    assert found(guess_bounds(buffer, bodies, counts)) in (None, true)


@given(st.lists(st.lists(records, min_size=1, max_size=4), min_size=1, max_size=3), st.data())
@settings(max_examples=examples(250))
def test_what_is_damaged_is_seen_as_it_is_walked(log, data):
    """A flipped bit, bodies that end elsewhere, other counts: the same places or none."""
    buffer, bodies, counts, _ = laid([[record(r) for r in body] for body in log])
    damaged = bytearray(buffer)
    damaged[data.draw(st.integers(0, int(bodies[-1]) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    which = data.draw(st.integers(0, len(counts) - 1))
    counts[which] += data.draw(st.sampled_from([0, 0, 1, -1]))
    inner = bodies.copy()
    inner[which] = max(0, inner[which] + (data.draw(st.sampled_from([0, 0, -1, 2])) if which else 0))
    for raw, places in ((bytes(damaged), bodies), (buffer, inner)):
        assert found(guess_bounds(raw, places, counts)) in (None, found(scan_bounds(raw, places, counts)))


def misleading(*inside: bytes) -> list[Record]:
    """As many places that look like a value's beginning as there are records, but not one a record."""
    first, *others = [Record(i, b"k", SCHEMA + b"ab") for i in range(30)]
    return [first, Record(30, b"k", SCHEMA + b"".join(inside)), *(Record(31, b"k", None) for _ in inside), *others]


MISLEADING = {
    "a value that holds another's beginning, and a tombstone": misleading(b"\x0e" + SCHEMA + b"ab"),
    "lengths that lead out of the buffer": misleading(b"\xff\x7f" + SCHEMA, b"\xff\xff" + SCHEMA),
    "lengths that lead back": misleading(b"\0" + SCHEMA, SCHEMA),
    "headers behind a value": [
        Record(0, b"k", SCHEMA + b"ab"),
        *(Record(i, b"k", SCHEMA + b"ab", [("a", b"1")]) for i in range(1, 30)),
        Record(30, b"k", SCHEMA + b"ab"),
    ],
    "keys that begin as values do": [Record(0, b"k", SCHEMA), Record(1, SCHEMA, None), Record(2, b"k", SCHEMA)] * 10,
}


@pytest.mark.parametrize("some", MISLEADING.values(), ids=MISLEADING)
def test_bytes_that_mislead_the_guess_are_found_out(some):
    """There are as many places as records, so only the proof tells; the records are read all the same."""
    buffer, bodies, counts, true = laid([[record(r) for r in some]])
    assert buffer.count(SCHEMA) == len(some)
    assert guess_bounds(buffer, bodies, counts) is None
    assert found(scan_bounds(buffer, bodies, counts)) == true
    raw = packed(some)
    kept = Kept(raw)
    read = columns([Batch(kept.raw_batch(), one) for one in [kept.next_batch()]])
    assert read is not None
    assert [(o, k, v) for o, k, v, _ in as_aiokafka(raw)] == list(
        zip(read.offset.tolist(), read.keys, read.values, strict=True)
    )


@pytest.mark.parametrize("buffer", [b"", b"\0", b"\2\0", b"\x80" * 30, b"\x0c\0\0\0\1\1"])
def test_bytes_that_are_no_records_are_not_seen(buffer):
    """Not even the first value's place can be told."""
    assert guess_bounds(buffer + PAD, np.array([0, len(buffer)]), [1]) is None
