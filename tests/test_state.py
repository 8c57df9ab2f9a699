"""State records, visit batches and positions: round trips, and refusal of damaged and newer ones."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import position as positions
from models import state
from models.position import Position
from models.sessions import Sessions
from models.totals import Totals
from models.visit_batch import (
    UNKNOWN_BEGIN,
    CorruptVisitBatch,
    NewerVisitBatch,
    SourceRange,
    VisitBatch,
    decode,
    encode,
)
from models.visits import NO_LOG_ID, Visits, concatenate
from models.watermarks import Watermarks

int64 = st.integers(-(2**63), 2**63 - 1)
headers = st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=3)


@st.composite
def students(draw: st.DrawFn) -> tuple[Totals, Sessions]:
    u = draw(st.integers(0, 6))
    columns = [draw(st.lists(int64, min_size=u, max_size=u)) for _ in range(4)]
    owner = sorted(draw(st.lists(st.integers(0, u - 1), max_size=12))) if u else []
    rows = [draw(st.lists(int64, min_size=len(owner), max_size=len(owner))) for _ in range(3)]
    totals = Totals(*(np.array(c, np.int64) for c in columns))
    return totals, Sessions(np.array(owner, np.int64), *(np.array(c, np.int64) for c in rows))


@given(students())
def test_state_round_trip(student):
    """unpack reverses pack: the same totals and sessions."""
    totals, sessions = student
    got_totals, got_sessions = state.unpack(state.pack(totals, sessions))
    for name in ("activities", "seconds", "sessions", "at"):
        assert getattr(got_totals, name).tolist() == getattr(totals, name).tolist()
    for name in ("owner", "start", "end", "count"):
        assert getattr(got_sessions, name).tolist() == getattr(sessions, name).tolist()


@given(st.binary(max_size=200))
def test_bytes_that_are_no_state_record_are_refused(raw):
    """Bytes that do not have this version's shape raise StateError and nothing else."""
    try:
        state.unpack([raw])
    except state.StateError:
        return
    assert len(raw) >= 40
    assert int.from_bytes(raw[:4], "little") == state.VERSION


def test_a_newer_state_record_is_refused_with_a_remedy():
    """It is refused both when it is checked on reading and when it is unpacked."""
    newer = state.pack_words(state.VERSION + 1, np.zeros(5, np.int64))
    for read in (lambda: state.unpack([newer]), lambda: state.check([newer], state.VERSION, "a state record")):
        with pytest.raises(state.NewerState, match="layout version 3, this program reads 2: run the version"):
            read()


@pytest.mark.parametrize("checksummed", [True, False])
@pytest.mark.parametrize("version", [0, 1])
def test_records_of_unknown_versions_are_refused(version, checksummed):
    """Layouts before version 2, the first that was released, are damage like any other, whatever their checksum."""

    def record(*words: int) -> bytes:
        packed = state.pack_words(version, np.array([0, *words], np.int64))
        return packed if checksummed else packed[:4] + bytes(4) + packed[8:]

    student = record(12, 3_600, 2, 99, 10, 20, 5, 70, 99, 7)
    for read in (
        lambda: state.check([student], state.VERSION, "a state record"),
        lambda: state.unpack([student]),
        lambda: positions.unpack(record(500, 12, 0, 7, 8, 400, 600, 0, 0), 2),
        lambda: positions.unpack_next_offset(record(5)),
    ):
        with pytest.raises(state.StateError, match="damaged"):
            read()


@given(students(), st.data())
def test_damage_anywhere_in_a_state_record_is_detected(student, data):
    """One to four changed bytes; the error has the index of the damaged record."""
    records = state.pack(*student)
    if not records:
        return
    i = data.draw(st.integers(0, len(records) - 1))
    raw = bytearray(records[i])
    for at in data.draw(st.sets(st.integers(0, len(raw) - 1), min_size=1, max_size=4)):
        raw[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(state.StateError, match="damaged") as caught:
        state.check([*records[:i], bytes(raw), *records[i:]], state.VERSION, "a state record")
    assert caught.value.index == i


def test_a_change_of_any_single_bit_is_detected():
    """Every one of the 38,720 bits of a record of 200 sessions is tested."""
    rng = np.random.default_rng(3)
    words = rng.integers(0, 2**45, 605)
    raw = state.pack_words(2, words)
    flips = np.frombuffer(raw * (8 * len(raw)), np.uint8).reshape(-1, len(raw)).copy()
    bit = np.arange(len(flips))
    flips[bit, bit // 8] ^= (1 << bit % 8).astype(np.uint8)
    computed = [state.checksum(w, np.zeros(1, np.int64), w[0] & 0xFFFFFFFF)[0] for w in flips.view("<i8")]
    stored = flips.view("<i8")[:, 0] >> 32 & 0xFFFFFFFF
    assert (np.array(computed) != stored).all()


@st.composite
def visit_batches(draw: st.DrawFn) -> VisitBatch:
    sources = draw(st.integers(1, 5))
    with_headers, with_ids, with_kinds = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    ranges = []
    for source in draw(st.lists(st.integers(0, sources - 1), max_size=4)):
        n = draw(st.integers(0, 5))
        columns = [np.array(draw(st.lists(int64, min_size=n, max_size=n)), np.int64) for _ in range(3)]
        null = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)), np.bool_)
        record_headers = [tuple(draw(headers)) for _ in range(n)] if with_headers else None
        log_id = np.array(draw(st.lists(int64, min_size=n, max_size=n)), np.int64) if with_ids else None
        course = np.array(draw(st.lists(int64, min_size=n, max_size=n)), np.int64) if with_kinds else None
        kind = np.array(draw(st.lists(st.integers(0, 7), min_size=n, max_size=n)), np.uint8) if with_kinds else None
        visits = Visits(columns[0], null, columns[1], columns[2], record_headers, log_id, course, kind)
        begin, end = draw(st.sampled_from([UNKNOWN_BEGIN, 0, 7])), draw(st.integers(0, 99))
        ranges.append(SourceRange(source, begin, end, draw(int64), draw(st.booleans()), visits, draw(int64)))
    forget = np.array(draw(st.lists(int64, max_size=3)), np.int64)
    return VisitBatch(sources, ranges, partitions=draw(st.integers(0, 9)), forget=forget)


def contents(visit_batch: VisitBatch) -> list[object]:
    """A visit batch as comparable values."""
    out: list[object] = [visit_batch.sources, visit_batch.partitions, visit_batch.forget.tolist()]
    with_kinds = any(s.visits.kind is not None for s in visit_batch.ranges)
    for s in visit_batch.ranges:
        v = s.visits
        out.append((s.source, s.begin, s.end, s.watermark, s.lagging, s.as_of))
        out.append([c.tolist() for c in (v.student, v.null, v.at, v.offset)])
        out.append([NO_LOG_ID] * len(v) if v.log_id is None else v.log_id.tolist())
        out.append(None if v.kind is None else v.kind.tolist())
        out.append(None if v.course is None else v.course.tolist())
        assert with_kinds == (v.kind is not None)
        # None and empty headers of every visit are equivalent
        out.append([list(h) for h in v.headers] if v.headers is not None else [[] for _ in range(len(v))])
    return out


@given(visit_batches())
def test_visit_batch_round_trip(visit_batch):
    """decode reverses encode: the same ranges and visits."""
    assert contents(decode(encode(visit_batch))) == contents(visit_batch)


@given(visit_batches(), st.data())
def test_a_damaged_visit_batch_is_refused(visit_batch, data):
    """A changed or truncated one raises CorruptVisitBatch and nothing else."""
    raw = bytearray(encode(visit_batch))
    if raw and data.draw(st.booleans()):
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    else:
        raw = raw[: data.draw(st.integers(0, len(raw) - 1))]
    with pytest.raises(CorruptVisitBatch):
        decode(bytes(raw))


def test_a_visit_batch_of_layout_2_is_read():
    """Its ranges have six words: they confirm nothing."""
    header = struct.pack("<3sBIII", b"MRV", 2, 2, 3, 0)
    ranges = np.array([(0, 5, 7, 100, 0, 1), (2, UNKNOWN_BEGIN, 9, 90, 1, 1)], "<i8").tobytes()
    raw = header + ranges + np.array([4, 5, 100, 90, 6, 8], "<i8").tobytes()
    first, second = decode(raw + zlib.crc32(raw).to_bytes(4, "little")).ranges
    assert (first.source, first.end, first.watermark, first.lagging, first.as_of) == (0, 7, 100, False, -1)
    assert (second.source, second.end, second.watermark, second.lagging, second.as_of) == (2, 9, 90, True, -1)
    assert [v.visits.student.tolist() for v in (first, second)] == [[4], [5]]
    assert [v.visits.offset.tolist() for v in (first, second)] == [[6], [8]]


def test_a_visit_batch_of_layout_3_is_read():
    """It says nothing of courses and kinds; its flags end with log ids."""
    header = struct.pack("<3sBIII", b"MRV", 3, 1, 3, 2 << 8 | 4)
    ranges = np.array([(1, 5, 7, 100, 0, 1, 90)], "<i8").tobytes()
    raw = header + ranges + np.array([4, 100, 6, 77], "<i8").tobytes()
    visit_batch = decode(raw + zlib.crc32(raw).to_bytes(4, "little"))
    (piece,) = visit_batch.ranges
    assert (visit_batch.sources, visit_batch.partitions, piece.as_of) == (3, 2, 90)
    assert (piece.visits.student.tolist(), piece.visits.log_id.tolist()) == ([4], [77])
    assert (piece.visits.course, piece.visits.kind, len(visit_batch.forget)) == (None, None, 0)
    flagged = raw.replace(header, struct.pack("<3sBIII", b"MRV", 3, 1, 3, 2 << 8 | 8 | 4)) + bytes(9)
    with pytest.raises(CorruptVisitBatch):
        decode(flagged + zlib.crc32(flagged).to_bytes(4, "little"))


def test_visits_whose_kind_is_not_known_do_not_count():
    """After an upgrade, visit batches of layout 3 and 4 are applied together."""
    column, null = np.arange(2), np.zeros(2, np.bool_)
    old, new = Visits(column, null, column, column), Visits(column, null, column, column, None, None, column, null + 1)
    both = concatenate([old, new])
    assert both.kind.tolist() == [0, 0, 1, 1]
    assert both.course.tolist() == [0, 0, 0, 1]
    assert both.extra is None


def test_a_newer_visit_batch_is_refused_with_a_remedy():
    """It is not mistaken for a damaged one, which would be skipped."""
    raw = bytearray(encode(VisitBatch(1, []))[:-4])
    raw[3] += 1
    with pytest.raises(NewerVisitBatch, match="upgrade"):
        decode(bytes(raw) + zlib.crc32(raw).to_bytes(4, "little"))
    with pytest.raises(CorruptVisitBatch, match="checksum"):
        decode(bytes(raw) + bytes(4))


@pytest.mark.parametrize("version", [0, 1])
def test_visit_batches_of_unknown_versions_are_refused(version):
    """They are refused with or without a valid checksum; version 2 is the first that is released."""
    raw = bytearray(encode(VisitBatch(1, []))[:-4])
    raw[3] = version
    for older in (bytes(raw), bytes(raw) + zlib.crc32(raw).to_bytes(4, "little")):
        with pytest.raises(CorruptVisitBatch):
            decode(older)


@given(st.lists(st.tuples(st.integers(0, 2**62), int64, int64), min_size=1, max_size=5), int64)
def test_position_round_trip(sources, stream_time):
    """Offsets, watermarks, confirmations and stream time are kept; what was known of backlogs is not."""
    offsets, watermark, confirmed = (np.array(c, np.int64) for c in zip(*sources, strict=True))
    after_corrupt = offsets % 2 == 0
    watermarks = Watermarks(watermark, np.zeros(len(sources), np.bool_), confirmed, stream_time)
    position = Position(offsets, watermarks, after_corrupt, students=12)
    got = positions.unpack(positions.pack(position), len(sources))
    assert got.offsets.tolist() == offsets.tolist()
    assert got.watermarks.at.tolist() == watermark.tolist()
    assert got.watermarks.confirmed.tolist() == confirmed.tolist()
    assert got.watermarks.stream_time == stream_time
    assert got.students == 12
    assert got.after_corrupt.tolist() == after_corrupt.tolist()
    assert got.watermarks.lagging.all()


def test_a_position_of_layout_2_is_read():
    """Its last column is `after_corrupt`; each partition counts as confirmed at the newest time it knew."""
    words = np.array([0, 500, 12, 0, 7, 8, 400, 600, 0, 1], np.int64)
    got = positions.unpack(state.pack_words(2, words), 2)
    assert (got.offsets.tolist(), got.watermarks.at.tolist(), got.students) == ([7, 8], [400, 600], 12)
    assert (got.watermarks.stream_time, got.after_corrupt.tolist()) == (500, [False, True])
    assert got.watermarks.confirmed.tolist() == [600, 600]


def test_a_newer_or_damaged_position_is_refused():
    """A position is refused with any byte damaged."""
    with pytest.raises(state.StateError, match="damaged"):
        positions.unpack(b"12345", 1)
    with pytest.raises(state.NewerState, match="a position record has layout version 9"):
        positions.unpack(state.pack_words(9, np.zeros(7, np.int64)), 1)
    intact = positions.pack(Position.start(2))
    for at in range(len(intact)):
        with pytest.raises(state.StateError, match=r"a position record .*damaged"):
            positions.unpack(intact[:at] + bytes([intact[at] ^ 64]) + intact[at + 1 :], 2)


def test_the_position_widens_with_the_source_topic():
    """A partition that was added starts with nothing applied and an unknown watermark."""
    before = Position(
        np.array([7, 8]),
        Watermarks(np.array([400, 600]), np.zeros(2, np.bool_), np.array([450, 600]), 500),
        np.zeros(2, np.bool_),
        12,
    )
    got = positions.unpack(positions.pack(before), 3)
    assert (got.offsets.tolist(), got.watermarks.at.tolist()) == ([7, 8, 0], [400, 600, -1])
    assert got.watermarks.confirmed.tolist() == [450, 600, -1]
    assert (got.watermarks.stream_time, got.students, got.after_corrupt.tolist()) == (500, 12, [False] * 3)


def test_next_offset_round_trip():
    """A damaged or newer record is refused, and so is the text of a number."""
    assert [positions.unpack_next_offset(raw) for raw in (None, positions.pack_next_offset(2**40))] == [0, 2**40]
    for damaged in (
        b"",
        b"0",
        b"123",
        b"12345678",
        b"12x",
        b"-1",
        b"9" * 40,
        positions.pack_next_offset(5)[:-1],
        bytes(16),
    ):
        with pytest.raises(state.StateError, match=r"a next-offset record .*damaged"):
            positions.unpack_next_offset(damaged)
    with pytest.raises(state.NewerState, match="a next-offset record has layout version 3"):
        positions.unpack_next_offset(state.pack_words(3, np.zeros(2, np.int64)))
