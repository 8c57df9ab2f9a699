"""State records, frames and fronts survive a round trip; damaged or newer ones are refused, never misread."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import front as fronts
from models import state
from models.clocks import Clocks
from models.frame import FRESH, Frame, FrameError, Slice, decode, encode
from models.front import Front
from models.sessions import Sessions
from models.totals import Totals
from models.visits import Visits

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
def test_a_student_survives_packing(student):
    """pack, then unpack: the same totals and sessions."""
    totals, sessions = student
    got_totals, got_sessions = state.unpack(state.pack(totals, sessions))
    for name in ("activities", "seconds", "sessions", "at"):
        assert getattr(got_totals, name).tolist() == getattr(totals, name).tolist()
    for name in ("owner", "start", "end", "count"):
        assert getattr(got_sessions, name).tolist() == getattr(sessions, name).tolist()


@given(st.binary(max_size=200))
def test_bytes_that_are_no_state_are_refused(raw):
    """Anything that is not of this version's shape raises, and nothing else happens."""
    try:
        state.unpack([raw])
    except state.StateError:
        return
    assert len(raw) >= 40
    assert int.from_bytes(raw[:8], "little") == state.VERSION


def test_a_newer_state_says_what_to_do():
    """A record of a newer layout is refused with a message."""
    newer = (state.VERSION + 1).to_bytes(8, "little") + bytes(32)
    with pytest.raises(state.StateError, match="layout version 2"):
        state.unpack([newer])


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    sources = draw(st.integers(1, 5))
    with_headers = draw(st.booleans())
    slices = []
    for source in draw(st.lists(st.integers(0, sources - 1), max_size=4)):
        n = draw(st.integers(0, 5))
        columns = [np.array(draw(st.lists(int64, min_size=n, max_size=n)), np.int64) for _ in range(3)]
        null = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)), np.bool_)
        some = [tuple(draw(headers)) for _ in range(n)] if with_headers else None
        visits = Visits(columns[0], null, columns[1], columns[2], some)
        begin = draw(st.sampled_from([FRESH, 0, 7]))
        slices.append(Slice(source, begin, draw(st.integers(0, 99)), draw(int64), draw(st.booleans()), visits))
    return Frame(sources, slices)


def seen(frame: Frame) -> list[object]:
    out: list[object] = [frame.sources]
    for s in frame.slices:
        v = s.visits
        out.append((s.source, s.begin, s.position, s.clock, s.lagging))
        out.append([c.tolist() for c in (v.student, v.null, v.at, v.offset)])
        # no headers and no headers anywhere are the same
        out.append([list(h) for h in v.headers] if v.headers is not None else [[] for _ in range(len(v))])
    return out


@given(frames())
def test_a_frame_survives_the_wire(frame):
    """encode, then decode: the same slices and visits."""
    assert seen(decode(encode(frame))) == seen(frame)


@given(frames(), st.data())
def test_a_damaged_frame_is_refused_or_still_a_frame(frame, data):
    """A changed or cut frame raises FrameError, or decodes; it never raises anything else."""
    raw = bytearray(encode(frame))
    if raw and data.draw(st.booleans()):
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    else:
        raw = raw[: data.draw(st.integers(0, len(raw)))]
    with contextlib.suppress(FrameError):
        decode(bytes(raw))


def test_a_newer_frame_says_what_to_do():
    """A frame of a newer version is refused with a message."""
    raw = bytearray(encode(Frame(1, [])))
    raw[3] += 1
    with pytest.raises(FrameError, match="upgrade"):
        decode(bytes(raw))


@given(st.lists(st.tuples(st.integers(0, 2**62), int64), min_size=1, max_size=5), int64)
def test_a_front_survives_packing(sources, observed):
    """Positions, clocks and observed time survive; what was known of backlogs does not."""
    position, clock = (np.array(c, np.int64) for c in zip(*sources, strict=True))
    front = Front(position, Clocks(clock, np.zeros(len(sources), np.bool_), observed), students=12)
    got = fronts.unpack(fronts.pack(front), len(sources))
    assert got.position.tolist() == position.tolist()
    assert got.clocks.at.tolist() == clock.tolist()
    assert got.clocks.observed == observed
    assert got.students == 12
    assert got.clocks.lagging.all()


def test_a_front_of_a_newer_version_or_a_damaged_one_is_refused():
    """A front is never guessed at."""
    with pytest.raises(state.StateError, match="damaged"):
        fronts.unpack(b"12345", 1)
    with pytest.raises(state.StateError, match="layout version 9"):
        fronts.unpack(np.array([9, 0, 0, 0, 0, 0], "<i8").tobytes(), 1)
