"""Padded byte columns against plain Python, and encoded record batches against aiokafka's reader."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given, settings
from hypothesis import strategies as st

from app.upstream.aiokafka import EncodedBatchBuilder
from codec import record_batch
from codec.record_batch import OutputColumns, batches, changelog_rows
from models.padded_bytes import (
    PaddedBytes,
    TextTable,
    big_endian,
    compress,
    decimals,
    literal,
    pad,
    row_lengths,
    split,
    take,
    varints,
)
from tests.support.effort import examples
from tests.support.kafka_batches import varint

LOWEST, HIGHEST = -(2**63), 2**63 - 1
#: numbers at which a decimal or a varint becomes one byte longer
EDGES = [e for i in range(1, 20) for e in (10**i - 1, 10**i, -(10**i)) if LOWEST <= e <= HIGHEST]
EDGES += [e for i in range(6, 63, 7) for e in ((1 << i) - 1, 1 << i, -(1 << i), -(1 << i) - 1)]
NUMBERS = st.one_of(st.sampled_from([0, 1, -1, LOWEST, LOWEST + 1, HIGHEST, *EDGES]), st.integers(LOWEST, HIGHEST))
#: often of one size, so that whole columns have one width too
COLUMNS = st.one_of(
    st.lists(NUMBERS, max_size=30), st.lists(st.integers(0, 9_999), max_size=30), st.lists(NUMBERS, max_size=1)
)


def array(numbers: Sequence[int]) -> np.ndarray:
    return np.array(numbers, np.int64)


def texts(*pieces: PaddedBytes) -> list[bytes]:
    """The rows made of `pieces`, after checks of their lengths."""
    rows = split(pieces)
    assert b"".join(rows) == compress(pieces)
    assert row_lengths(pieces).tolist() == list(map(len, rows))
    assert {len(piece) for piece in pieces} == {len(rows)}
    return rows


@given(COLUMNS)
def test_decimals(numbers):
    """Numbers of every size and sign in one column."""
    assert texts(decimals(array(numbers))) == [b"%d" % number for number in numbers]


@given(COLUMNS)
def test_varints(numbers):
    """Zigzag, seven bits per byte, as in Kafka and Avro."""
    assert texts(varints(array(numbers))) == [varint(number) for number in numbers]


@given(st.integers(1, 3).flatmap(lambda k: st.lists(st.tuples(*[NUMBERS] * k), min_size=1, max_size=20)))
def test_big_endian(rows):
    """Several columns side by side."""
    columns = [array(column) for column in zip(*rows, strict=True)]
    assert texts(big_endian(*columns)) == [b"".join(x.to_bytes(8, "big", signed=True) for x in row) for row in rows]


TEXTS = st.lists(st.binary(max_size=6), min_size=1, max_size=5)


@given(TEXTS, st.data())
def test_take(values, data):
    """Texts of one length or of several, including empty ones."""
    index = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=20))
    assert texts(take(values, array(index))) == [values[i] for i in index]


@pytest.mark.parametrize("text", [b"", b"x", b'{"A":'])
@pytest.mark.parametrize("n", [0, 1, 3])
def test_literal(text, n):
    """The same text in every row, also for no rows."""
    assert texts(literal(text, n)) == [text] * n


def piece_of(kind: str, random: Any, n: int) -> tuple[PaddedBytes, list[bytes]]:
    """A piece of n rows, and the expected bytes of each row."""
    numbers = [random.choice([0, 7, -3, 10 ** random.randrange(19), LOWEST, HIGHEST]) for _ in range(n)]
    if kind == "decimals":
        return decimals(array(numbers)), [b"%d" % x for x in numbers]
    if kind == "varints":
        return varints(array(numbers)), [varint(x) for x in numbers]
    if kind == "big":
        return big_endian(array(numbers)), [x.to_bytes(8, "big", signed=True) for x in numbers]
    if kind == "literal":
        return literal(b"-", n), [b"-"] * n
    values, index = [b"", b"a", b"null"], [random.randrange(3) for _ in range(n)]
    return take(values, array(index)), [values[i] for i in index]


KINDS = st.lists(st.sampled_from(["decimals", "varints", "big", "take", "literal"]), min_size=1, max_size=4)


@st.composite
def columns(draw: st.DrawFn) -> tuple[list[PaddedBytes], list[bytes]]:
    """Pieces of the same rows, and the expected bytes of each row."""
    n = draw(st.sampled_from([0, 1, 2, 7, 1_024, 1_030]))
    pieces, rows = [], [b""] * n
    random = draw(st.randoms(use_true_random=False))
    for kind in draw(KINDS):
        piece, expected = piece_of(kind, random, n)
        for _ in range(random.choice([0, 0, 1, 2])):
            condition = [random.random() < 0.6 for _ in range(n)]
            piece = piece.where(np.array(condition, np.bool_))
            expected = [x if keep else b"" for x, keep in zip(expected, condition, strict=True)]
        pieces.append(piece)
        rows = [a + b for a, b in zip(rows, expected, strict=True)]
    return pieces, rows


@given(st.lists(st.binary(max_size=9), max_size=30))
def test_pad(values):
    """Texts of any length, including empty ones."""
    assert texts(pad(values)) == values


@given(st.dictionaries(st.binary(max_size=5), st.binary(min_size=1, max_size=40), min_size=1, max_size=30))
def test_rows_are_equal_one_by_one_and_in_columns(records):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_batch, "MAX_PADDING", 1000)
        patch.setattr(record_batch, "ROW_WISE_MAX", 0)
        in_columns = changelog_rows(records, 7)
        assert isinstance(in_columns, OutputColumns)
        patch.setattr(record_batch, "ROW_WISE_MAX", 30)
        one_by_one = changelog_rows(records, 7)
        assert isinstance(one_by_one, list)
    assert list(in_columns) == one_by_one == [(7, key, record, []) for key, record in records.items()]


def test_one_long_record_prevents_padded_columns():
    records = {b"%d" % i: b"short" for i in range(record_batch.ROW_WISE_MAX + 1)}
    assert isinstance(changelog_rows(records, 7), OutputColumns)
    assert isinstance(changelog_rows({**records, b"long": bytes(10_000)}, 7), list)


@given(columns(), st.data())
@settings(max_examples=examples(150))
def test_compress(pieces_and_rows, data):
    """Any combination of pieces, empty in some rows, in more rows than are compressed together."""
    pieces, rows = pieces_and_rows
    assert texts(*pieces) == rows
    low = data.draw(st.integers(0, len(rows)))
    part = slice(low, low + data.draw(st.integers(0, 5)))
    assert texts(*(piece.take(part) for piece in pieces)) == rows[part]
    index = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=5)) if rows else []
    assert texts(*(piece.take(array(index)) for piece in pieces)) == [rows[i] for i in index]


# -- record batches

TIMES = st.one_of(st.integers(0, 2_000), st.sampled_from([2**41, 2**41 + 9]), st.integers(-1, 2**62))
HEADERS = st.lists(
    st.tuples(st.text(st.characters(codec="utf-8"), max_size=3), st.none() | st.binary(max_size=3)), max_size=2
)


@given(
    st.lists(st.tuples(TIMES, NUMBERS, st.sampled_from([b"", b"0.5", b"long" * 30]), st.booleans()), max_size=40),
    st.booleans(),
    HEADERS,
    st.sampled_from([400, 1_000, 960_000]),
    st.booleans(),
)
def test_aiokafka_reads_encoded_batches(rows, tombstones, headers, max_size, transactional):
    """It reads the rows that `list` gives: timestamps, keys, values, tombstones and the shared headers."""
    at, numbers = array([t for t, _, _, _ in rows]), array([x for _, x, _, _ in rows])
    n, distinct = len(rows), sorted({text for _, _, text, _ in rows})
    risks = take(distinct, array([distinct.index(text) for _, _, text, _ in rows]))
    has_value = np.array([t for _, _, _, t in rows], np.bool_) if tombstones else None
    columns = OutputColumns(
        at, (decimals(numbers), big_endian(at)), (literal(b"[", n), decimals(numbers), risks), has_value, headers
    )
    expected = [
        (t, b"%d" % x + t.to_bytes(8, "big", signed=True), b"[%d%b" % (x, text) if keep or not tombstones else None)
        for t, x, text, keep in rows
    ]
    assert [tuple(row) for row in columns] == [(*row, headers) for row in expected]
    assert len(columns) == n
    read, counts = [], []
    for batch in batches(columns, max_size):
        assert len(batch.records) <= max_size
        packed = EncodedBatchBuilder(batch, transactional=transactional)
        raw = packed.encode(7, 1, 5)
        assert (len(raw), packed.record_count()) == (packed.size(), batch.count)
        memory = MemoryRecords(raw)
        read_batch = memory.next_batch()
        assert read_batch.validate_crc()
        assert (read_batch.producer_id, read_batch.producer_epoch, read_batch.base_sequence) == (7, 1, 5)
        assert (read_batch.is_transactional, read_batch.is_control_batch) == (transactional, False)
        assert read_batch.base_offset == 0
        records = list(read_batch)
        assert not memory.has_next()
        assert [r.offset for r in records] == list(range(batch.count)) == list(range(read_batch.next_offset))
        assert read_batch.max_timestamp == max(r.timestamp for r in records)
        read += [(r.timestamp, r.key, r.value, list(r.headers)) for r in records]
        counts.append(batch.count)
    assert read == [tuple(row) for row in columns]
    assert all(a == counts[0] for a, _ in pairwise(counts))  # all batches but the last are full


def test_a_row_larger_than_a_batch_is_refused():
    """The error names both sizes."""
    columns = OutputColumns(array([1]), (literal(b"k", 1),), (literal(b"v" * 100, 1),))
    with pytest.raises(ValueError, match="does not fit a batch of 100"):
        list(batches(columns, 100))


def test_a_table_makes_each_text_once() -> None:
    made: list[int] = []

    def make(number: int) -> bytes:
        made.append(number)
        return b"%d" % number

    table = TextTable(1_200, 4, make)
    for numbers in ([7, 1_199, 7, 10], [10, 7], [7], [42, 42], []):
        piece = table.take(np.array(numbers, np.int64))
        assert split([piece]) == [b"%d" % number for number in numbers]
    assert sorted(made) == [7, 10, 42, 1_199]
