"""Strings in columns against plain Python, and tables as record batches against aiokafka's reading of them."""

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
from codec import record_batch as tables
from codec.record_batch import OutputColumns, batches, changelog_rows
from models.padded_bytes import (
    PaddedBytes,
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
#: where a decimal or a varint takes one more character
EDGES = [e for i in range(1, 20) for e in (10**i - 1, 10**i, -(10**i)) if LOWEST <= e <= HIGHEST]
EDGES += [e for i in range(6, 63, 7) for e in ((1 << i) - 1, 1 << i, -(1 << i), -(1 << i) - 1)]
NUMBERS = st.one_of(st.sampled_from([0, 1, -1, LOWEST, LOWEST + 1, HIGHEST, *EDGES]), st.integers(LOWEST, HIGHEST))
#: mostly alike, so that whole columns have one width too
COLUMNS = st.one_of(
    st.lists(NUMBERS, max_size=30), st.lists(st.integers(0, 9_999), max_size=30), st.lists(NUMBERS, max_size=1)
)


def array(numbers: Sequence[int]) -> np.ndarray:
    return np.array(numbers, np.int64)


def texts(*pieces: PaddedBytes) -> list[bytes]:
    """The rows of some pieces, and what they say of themselves."""
    rows = split(pieces)
    assert b"".join(rows) == compress(pieces)
    assert row_lengths(pieces).tolist() == list(map(len, rows))
    assert {len(piece) for piece in pieces} == {len(rows)}
    return rows


@given(COLUMNS)
def test_decimals_are_the_numbers_texts(numbers):
    """Of every size and sign in one column."""
    assert texts(decimals(array(numbers))) == [b"%d" % number for number in numbers]


@given(COLUMNS)
def test_varints_are_zigzag_seven_bits_a_byte(numbers):
    """As Kafka and Avro have them."""
    assert texts(varints(array(numbers))) == [varint(number) for number in numbers]


@given(st.integers(1, 3).flatmap(lambda k: st.lists(st.tuples(*[NUMBERS] * k), min_size=1, max_size=20)))
def test_big_endian_is_eight_bytes_a_number(rows):
    """Several columns side by side."""
    columns = [array(column) for column in zip(*rows, strict=True)]
    assert texts(big_endian(*columns)) == [b"".join(x.to_bytes(8, "big", signed=True) for x in row) for row in rows]


TEXTS = st.lists(st.binary(max_size=6), min_size=1, max_size=5)


@given(TEXTS, st.data())
def test_chosen_is_the_text_that_is_pointed_to(some, data):
    """Of one length or of several, empty ones too."""
    index = data.draw(st.lists(st.integers(0, len(some) - 1), max_size=20))
    assert texts(take(some, array(index))) == [some[i] for i in index]


@pytest.mark.parametrize("text", [b"", b"x", b'{"A":'])
@pytest.mark.parametrize("n", [0, 1, 3])
def test_literal_is_the_same_in_every_row(text, n):
    """No rows as well."""
    assert texts(literal(text, n)) == [text] * n


def piece_of(kind: str, random: Any, n: int) -> tuple[PaddedBytes, list[bytes]]:
    """One piece of n rows, and what it says row by row."""
    numbers = [random.choice([0, 7, -3, 10 ** random.randrange(19), LOWEST, HIGHEST]) for _ in range(n)]
    if kind == "decimals":
        return decimals(array(numbers)), [b"%d" % x for x in numbers]
    if kind == "varints":
        return varints(array(numbers)), [varint(x) for x in numbers]
    if kind == "big":
        return big_endian(array(numbers)), [x.to_bytes(8, "big", signed=True) for x in numbers]
    if kind == "literal":
        return literal(b"-", n), [b"-"] * n
    some, index = [b"", b"a", b"null"], [random.randrange(3) for _ in range(n)]
    return take(some, array(index)), [some[i] for i in index]


KINDS = st.lists(st.sampled_from(["decimals", "varints", "big", "chosen", "literal"]), min_size=1, max_size=4)


@st.composite
def columns(draw: st.DrawFn) -> tuple[list[PaddedBytes], list[bytes]]:
    """Pieces of the same rows, and what they say row by row."""
    n = draw(st.sampled_from([0, 1, 2, 7, 1_024, 1_030]))
    pieces, rows = [], [b""] * n
    random = draw(st.randoms(use_true_random=False))
    for kind in draw(KINDS):
        piece, said = piece_of(kind, random, n)
        for _ in range(random.choice([0, 0, 1, 2])):
            there = [random.random() < 0.6 for _ in range(n)]
            piece = piece.where(np.array(there, np.bool_))
            said = [x if here else b"" for x, here in zip(said, there, strict=True)]
        pieces.append(piece)
        rows = [a + b for a, b in zip(rows, said, strict=True)]
    return pieces, rows


@given(st.lists(st.binary(max_size=9), max_size=30))
def test_ragged_is_each_text(some):
    """Empty ones too."""
    assert texts(pad(some)) == some


@given(st.dictionaries(st.binary(max_size=5), st.binary(min_size=1, max_size=40), min_size=1, max_size=30))
def test_records_are_the_same_rows_one_by_one_and_in_columns(records):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "MAX_PADDING", 1000)
        patch.setattr(tables, "FEW", 0)
        in_columns = changelog_rows(records, 7)
        assert isinstance(in_columns, OutputColumns)
        patch.setattr(tables, "FEW", 30)
        one_by_one = changelog_rows(records, 7)
        assert isinstance(one_by_one, list)
    assert list(in_columns) == one_by_one == [(7, key, record, []) for key, record in records.items()]


def test_one_long_record_does_not_make_every_row_as_long():
    records = {b"%d" % i: b"short" for i in range(tables.FEW + 1)}
    assert isinstance(changelog_rows(records, 7), OutputColumns)
    assert isinstance(changelog_rows({**records, b"long": bytes(10_000)}, 7), list)


@given(columns(), st.data())
@settings(max_examples=examples(150))
def test_pieces_are_closed_up_row_by_row(made, data):
    """Whatever is beside whatever, left out of some rows or not, in more rows than are closed up at once."""
    pieces, rows = made
    assert texts(*pieces) == rows
    low = data.draw(st.integers(0, len(rows)))
    some = slice(low, low + data.draw(st.integers(0, 5)))
    assert texts(*(piece.take(some) for piece in pieces)) == rows[some]
    picked = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=5)) if rows else []
    assert texts(*(piece.take(array(picked)) for piece in pieces)) == [rows[i] for i in picked]


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
def test_a_table_is_written_as_its_rows_are(rows, tombstones, headers, most, transactional):
    """aiokafka reads back what `list` gives: times, keys, values, tombstones and the headers all rows share."""
    at, numbers = array([t for t, _, _, _ in rows]), array([x for _, x, _, _ in rows])
    n, some = len(rows), sorted({text for _, _, text, _ in rows})
    risks = take(some, array([some.index(text) for _, _, text, _ in rows]))
    there = np.array([t for _, _, _, t in rows], np.bool_) if tombstones else None
    table = OutputColumns(
        at, (decimals(numbers), big_endian(at)), (literal(b"[", n), decimals(numbers), risks), there, headers
    )
    wanted = [
        (t, b"%d" % x + t.to_bytes(8, "big", signed=True), b"[%d%b" % (x, text) if here or not tombstones else None)
        for t, x, text, here in rows
    ]
    assert [tuple(row) for row in table] == [(*row, headers) for row in wanted]
    assert len(table) == n
    read, counts = [], []
    for batch in batches(table, most):
        assert len(batch.records) <= most
        packed = EncodedBatchBuilder(batch, transactional=transactional)
        raw = packed.encode(7, 1, 5)
        assert (len(raw), packed.record_count()) == (packed.size(), batch.count)
        memory = MemoryRecords(raw)
        one = memory.next_batch()
        assert one.validate_crc()
        assert (one.producer_id, one.producer_epoch, one.base_sequence) == (7, 1, 5)
        assert (one.is_transactional, one.is_control_batch, one.base_offset) == (transactional, False, 0)
        got = list(one)
        assert not memory.has_next()
        assert [r.offset for r in got] == list(range(batch.count)) == list(range(one.next_offset))
        assert one.max_timestamp == max(r.timestamp for r in got)
        read += [(r.timestamp, r.key, r.value, list(r.headers)) for r in got]
        counts.append(batch.count)
    assert read == [tuple(row) for row in table]
    assert all(a == counts[0] for a, _ in pairwise(counts))  # all but the last are full


def test_a_row_that_fits_no_batch_is_refused():
    """With how large it is, and before anything is sent."""
    table = OutputColumns(array([1]), (literal(b"k", 1),), (literal(b"v" * 100, 1),))
    with pytest.raises(ValueError, match="does not fit a batch of 100"):
        list(batches(table, 100))
