"""What is put off changes nothing for the visits that come after it, and nothing waits that others wait for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.aligner import Aligner
from models.heartbeats import MOST_MS, Reserve
from models.position import Front, Passed, admit
from models.routing import Router, frames
from models.visit_batch import FRESH, Frame, Slice
from models.visits import Visits


@dataclass(frozen=True)
class Step:
    """One fetch: visits as (student, ms since the one before), and whether there is more."""

    partition: int
    visits: list[tuple[int, int]]
    lagging: bool


#: mostly near, as in a quiet log; now and then so far that what a receiver knows is too old
BETWEEN = st.one_of(st.integers(-2_000, 9_000), st.sampled_from([MOST_MS - 1, MOST_MS, 3 * MOST_MS]))
FEW = st.lists(st.tuples(st.integers(1, 9), BETWEEN), max_size=4)


@st.composite
def steps(draw: st.DrawFn) -> tuple[int, list[Step]]:
    """The number of partitions; every one speaks first, as after a seek."""
    partitions = draw(st.integers(1, 3))
    lags = st.sampled_from([False, False, False, True])
    first = [Step(p, [], draw(lags)) for p in range(partitions)]
    step = st.builds(Step, st.integers(0, partitions - 1), FEW, lags)
    return partitions, [*first, *draw(st.lists(step, max_size=25))]


def rounds(partitions: int, fetches: list[Step], limit: int) -> Iterator[list[list[Frame]]]:
    """What one sender that owns all partitions would send, round after round."""
    aligner, router = Aligner(set(range(partitions))), Router(partitions)
    offset, now = [0] * partitions, [100_000] * partitions
    for fetch in fetches:
        p, n = fetch.partition, len(fetch.visits)
        ats = np.cumsum([now[p], *(since for _, since in fetch.visits)])[1:].clip(0)
        now[p] = int(ats[-1]) if n else now[p]
        students = np.array([student for student, _ in fetch.visits], np.int64)
        columns = (students, np.zeros(n, np.bool_), ats, np.arange(offset[p], offset[p] + n))
        offset[p] += n + 1  # and a marker of a transaction
        aligner.add(p, Visits(*columns), offset[p], fetch.lagging)
        while slices := aligner.round(limit):
            yield frames(slices, router, limit)


@given(steps(), st.integers(1, 6))
@settings(max_examples=120)
def test_visits_are_judged_as_if_nothing_had_been_put_off(log, limit):
    """Same visits in the same order, each at the same observed time; nothing is detached, nothing comes twice."""
    partitions, fetches = log
    reserve = Reserve(partitions)
    plain, thrifty = [Front.start(partitions)] * partitions, [Front.start(partitions)] * partitions
    for some in rounds(partitions, fetches, limit):
        for p, (whole, sent) in enumerate(zip(some, reserve.pass_on(some), strict=True)):
            wanted, found = admit(plain[p], whole), admit(thrifty[p], sent)
            assert judged(found) == judged(wanted)
            assert found.detached == found.repeated == 0
            assert not found.gaps
            plain[p], thrifty[p] = wanted.front, found.front


def judged(passed: Passed) -> list[tuple[int, ...]]:
    v = passed.visits
    return list(zip(v.student.tolist(), v.at.tolist(), v.offset.tolist(), passed.before.tolist(), strict=True))


@given(steps(), st.integers(1, 6))
@settings(max_examples=120)
def test_what_waits_is_nothing_that_its_receiver_must_know_at_once(log, limit):
    """No visits, no new sender, no backlog that begins, goes on or ends, and no clock that has moved on by MOST_MS."""
    partitions, fetches = log
    reserve = Reserve(partitions)
    fronts = [Front.start(partitions)] * partitions
    waits = [False] * partitions
    for some in rounds(partitions, fetches, limit):
        for p, (whole, sent) in enumerate(zip(some, reserve.pass_on(some), strict=True)):
            if sent:
                # the round as it was, behind one frame of what had waited, if anything has
                assert list(map(id, sent[waits[p] :])) == list(map(id, whole))
                fronts[p], waits[p] = admit(fronts[p], sent).front, False
                continue
            waits[p] = True
            clocks = fronts[p].clocks
            for piece in (piece for frame in whole for piece in frame.slices):
                assert not len(piece.visits)
                assert piece.begin != FRESH
                assert not piece.lagging
                assert not clocks.lagging[piece.source]
                assert piece.clock < clocks.at[piece.source] + MOST_MS


def frame(begin: int, position: int, clock: int, *, lagging: bool = False, student: int | None = None) -> Frame:
    """News of the one source partition, with or without a visit."""
    some = [] if student is None else [student]
    columns = (np.array(some, np.int64), np.zeros(len(some), np.bool_), np.array([clock] * len(some), np.int64))
    offset = np.array([position - 1] * len(some), np.int64)
    return Frame(1, [Slice(0, begin, position, clock, lagging, Visits(*columns, offset))])


def told(reserve: Reserve, one: Frame) -> list[Frame]:
    """What goes to the one visits partition."""
    (sent,) = reserve.pass_on([[one]])
    return sent


def test_what_waited_goes_before_the_next_frame_with_visits():
    """As one frame that joins them all: from where the first began up to where the last ended."""
    reserve = Reserve(1)
    first, visit = frame(FRESH, 5, 1_000), frame(7, 8, 1_300, student=4)
    assert told(reserve, first) == [first]
    assert told(reserve, frame(5, 6, 1_100)) == told(reserve, frame(6, 7, 1_200)) == []
    waited, then = told(reserve, visit)
    assert then is visit
    (piece,) = waited.slices
    assert replace(piece, visits=None) == Slice(0, 5, 7, 1_200, False, None)
    passed = admit(Front.start(1), [first, waited, visit])
    assert (passed.visits.offset.tolist(), passed.before.tolist(), passed.detached) == ([7], [1_200], 0)
    assert told(reserve, frame(8, 9, 1_400)) == []


def test_a_backlog_that_begins_or_ends_is_told_at_once():
    """Others' time stands still for it, or waits for its end."""
    reserve = Reserve(1)
    told(reserve, frame(FRESH, 5, 1_000))
    assert told(reserve, frame(5, 5, 1_000)) == []
    begins, ends = frame(5, 6, 1_000, lagging=True), frame(6, 7, 1_000)
    assert told(reserve, begins)[-1:] == [begins]
    assert told(reserve, ends) == [ends]
    assert told(reserve, frame(7, 8, 1_000)) == []


def test_a_clock_that_has_moved_on_is_told():
    """At exactly MOST_MS, and not before: counted from what was told last, whatever has waited since."""
    reserve = Reserve(1)
    told(reserve, frame(FRESH, 5, 1_000))
    assert told(reserve, frame(5, 6, 1_000 + MOST_MS - 1)) == []
    late = frame(6, 7, 1_000 + MOST_MS)
    assert told(reserve, late)[-1:] == [late]
    assert told(reserve, frame(7, 8, 1_000 + 2 * MOST_MS - 1)) == []


def test_a_new_sender_is_heard_at_once():
    """It may begin anywhere, which only its first frame says."""
    reserve = Reserve(1)
    told(reserve, frame(FRESH, 5, 1_000))
    again = frame(FRESH, 6, 1_000)
    assert told(reserve, again) == [again]
