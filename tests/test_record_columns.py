"""Record batches in columns against aiokafka's own iteration: the same records, or none at all."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from app.kafka import reader
from app.kafka.record_columns import Batch, Columns, Kept, columns
from tests.support.effort import examples
from tests.support.kafka_batches import CODECS, HEAD, Read, Record, as_aiokafka, batch, packed, record

#: how all values of a topic begin that one schema wrote
SCHEMA = b"\0\0\0\0\7"
#: a number of up to 8 bytes of 7 bits, with its sign
LONGEST = 1 << 55


def batches(raw: bytes) -> list[Batch]:
    """As the reader takes them."""
    kept, found = Kept(raw), []
    while kept.has_next():
        one = kept.next_batch()
        found.append(Batch(kept.raw_batch(), one))
    return found


def rows(found: Columns) -> list[Read]:
    n = len(found.offset)
    assert len(found.keys) == len(found.values) == n
    headers = [()] * n if found.headers is None else [tuple(one) for one in found.headers]
    return list(zip(found.offset.tolist(), found.keys, found.values, headers, strict=True))


def same_or_none(raw: bytes) -> bool:
    """Whether there are columns; they must be what aiokafka reads, and where it complains there must be none."""
    try:
        wanted = as_aiokafka(raw)
    except Exception:
        try:
            found = columns(batches(raw))
        except Exception:
            return False
        assert found is None, "aiokafka complains of what was read here"
        return False
    found = columns(batches(raw))
    if found is not None:
        assert rows(found) == wanted
    return found is not None


# lengths whose records need one byte more, or one less, for a number
lengths = st.one_of(st.integers(0, 12), st.integers(45, 70), st.integers(8_165, 8_195))
plain = st.builds(lambda n, c: bytes([c]) * n, lengths, st.integers(0, 255))
alike = st.builds(
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
    """Some batches of a few kinds of records in any order; offsets have holes, as compaction leaves them."""
    some_headers = draw(st.sampled_from([st.just([]), st.just([("a", b"1")]), headers]))
    kinds = draw(st.lists(st.tuples(keys, values, some_headers, times), min_size=1, max_size=5))
    step = st.sampled_from([1, 1, 1, 2, 50, 8_000])
    raw, base = b"", draw(st.sampled_from([0, 5, 1 << 40]))
    for count in draw(st.lists(st.sampled_from([0, 1, 3, 40, 130]), min_size=1, max_size=3)):
        random = draw(st.randoms(use_true_random=False))
        width, offset, some = draw(step), 0, []
        for _ in range(count):
            key, value, said, time = random.choice(kinds)
            some.append(Record(offset, key, value, said, time))
            offset += random.randint(1, width)
        raw += packed(some, base=base, compression=draw(st.sampled_from(sorted(CODECS))))
        base += offset + 1
    return raw


@given(st.one_of(logs(st.one_of(st.none(), plain)), logs(alike), logs(st.one_of(alike, st.none()))))
@settings(max_examples=examples(150))
def test_what_a_producer_writes_is_read_as_aiokafka_reads_it(raw):
    """Nulls, empty strings, headers, holes, far times, compression, many batches: all of it in columns."""
    assert same_or_none(raw)
    assert [one.sound() for one in batches(raw)] == [True] * len(batches(raw))


@given(logs(plain, st.sampled_from([0, LONGEST, -LONGEST - 1, 1 << 62])))
@settings(max_examples=examples(50))
def test_numbers_of_more_than_eight_bytes_are_left_to_aiokafka(raw):
    """None, and not a number that has lost its upper bits."""
    same_or_none(raw)


@given(logs(alike), st.data())
@settings(max_examples=examples(150))
def test_what_was_damaged_on_its_way_is_never_read_as_something_else(raw, data):
    """Cut off, a bit flipped, bytes put in or taken out: aiokafka's records or none. And its checksum's judgement."""
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
    same_or_none(damaged)
    same_judgement(damaged)


def same_judgement(raw: bytes) -> None:
    """The checksum fits or not, as aiokafka finds; a batch it cannot even open is no batch here either."""
    memory, wanted = MemoryRecords(raw), []
    try:
        while memory.has_next():
            wanted.append(bool(memory.next_batch().validate_crc()))
    except Exception:
        return
    assert [one.sound() for one in batches(raw)] == wanted


@pytest.mark.parametrize("compression", sorted(CODECS))
@pytest.mark.parametrize("value", [SCHEMA + b"ab", b"xyz", None], ids=["alike", "plain", "tombstone"])
def test_every_single_bit_of_a_small_log_may_flip(value, compression):
    """All of them, with the checksum as it was and made to fit."""
    some = [Record(i, b"k%d" % i, value, [("h", b"v")] if i == 1 else [], i) for i in range(3)]
    raw = packed(some, compression=compression)
    log = bytearray(raw + packed(some, base=3, compression=compression))
    for bit in range(8 * len(log)):
        log[bit // 8] ^= 1 << bit % 8
        same_or_none(bytes(log))
        same_judgement(bytes(log))
        if HEAD - 40 <= bit // 8 < len(raw):  # what the checksum is of
            fit = batch_again(bytes(log[: len(raw)])) + bytes(log[len(raw) :])
            same_or_none(fit)
        log[bit // 8] ^= 1 << bit % 8


def batch_again(raw: bytes) -> bytes:
    """The batch with a checksum that fits."""
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
        "fewer headers than none",
        "a header whose name is shorter than nothing",
        "a header's value that is cut off",
        "a header's name that is no text",
        "bytes behind the headers",
        "no number of headers",
        "fewer records than said",
        "more records than said",
        "two thousand million records",
        "fewer records than none",
        "the last byte is missing",
        "a length below nothing",
        "a length without an end",
        "a length of six bytes",
        "nothing at all",
    ],
)
def test_a_batch_that_is_wrong_in_itself_is_left_to_aiokafka(body, count):
    """Though its checksum fits: whoever wrote it is to blame, and aiokafka says so."""
    raw = batch(body, count)
    assert batches(raw)[0].sound()
    with pytest.raises((CorruptRecordException, UnicodeDecodeError)):
        as_aiokafka(raw)
    assert columns(batches(raw)) is None


def test_a_record_across_two_batches_is_none():
    """Laid end to end the bodies are sound, and the records as many as both batches say."""
    body = b"".join(record(Record(i, b"k", SCHEMA + b"%02d" % i)) for i in range(6))
    size = len(body) // 6
    raw = batch(body[: 3 * size - 2], 3, last=2) + batch(body[3 * size - 2 :], 3, base=3, last=2)
    with pytest.raises((CorruptRecordException, UnicodeDecodeError)):
        as_aiokafka(raw)
    assert columns(batches(raw)) is None


def test_a_codec_nobody_knows_is_left_to_aiokafka():
    """It names what is missing."""
    raw = batch(record(ONE), 1, attributes=5)
    assert columns(batches(raw)) is None


@given(logs(alike), st.integers(0, 300))
@settings(max_examples=examples(50))
def test_a_fetch_may_begin_inside_a_batch(raw, ahead):
    """`since` drops what stands before the offset that was asked for, headers too."""
    wanted = as_aiokafka(raw)
    start = (wanted[0][0] if wanted else 0) + ahead
    found = columns(batches(raw))
    assert found is not None
    assert rows(found.since(start)) == [one for one in wanted if one[0] >= start]


@given(logs(st.one_of(alike, st.none())), st.integers(0, 300))
@settings(max_examples=examples(50))
def test_few_records_are_read_as_many_are(raw, ahead):
    """One by one or in columns: the same chunk."""
    wanted = as_aiokafka(raw)
    start = (wanted[0][0] if wanted else 0) + ahead
    read = []
    for few in (10**9, -1):
        some = batches(raw)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reader, "_FEW", few)
            chunk = reader._chunk(TopicPartition("t", 0), some, sum(b.count for b in some), start, 9, 9)
        n = len(chunk)
        headers = [()] * n if chunk.headers is None else [tuple(one) for one in chunk.headers]
        read.append(list(zip(map(int, chunk.offsets), chunk.keys, chunk.values, headers, strict=True)))
    assert read[0] == read[1] == [one for one in wanted if one[0] >= start]
