"""What is put off changes nothing for the visits that come after it, and nothing waits that others wait for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.aligner import Aligner
from models.heartbeats import MAX_STALENESS_MS, HeartbeatCoalescer
from models.position import NewVisits, Position, drop_applied
from models.routing import Router, visit_batches
from models.visit_batch import UNKNOWN_BEGIN, SourceRange, VisitBatch
from models.visits import Visits
from tests.support.effort import examples


@dataclass(frozen=True)
class Step:
    """One fetch: visits as (student, ms since the one before), and whether there is more."""

    partition: int
    visits: list[tuple[int, int]]
    lagging: bool


#: mostly near, as in a quiet log; now and then so far that what a receiver knows is too old
BETWEEN = st.one_of(
    st.integers(-2_000, 9_000), st.sampled_from([MAX_STALENESS_MS - 1, MAX_STALENESS_MS, 3 * MAX_STALENESS_MS])
)
FEW = st.lists(st.tuples(st.integers(1, 9), BETWEEN), max_size=4)


@st.composite
def steps(draw: st.DrawFn) -> tuple[int, list[Step]]:
    """The number of partitions; every one speaks first, as after a seek."""
    partitions = draw(st.integers(1, 3))
    lags = st.sampled_from([False, False, False, True])
    first = [Step(p, [], draw(lags)) for p in range(partitions)]
    step = st.builds(Step, st.integers(0, partitions - 1), FEW, lags)
    return partitions, [*first, *draw(st.lists(step, max_size=25))]


def rounds(partitions: int, fetches: list[Step], limit: int) -> Iterator[list[list[VisitBatch]]]:
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
        while ranges := aligner.release(limit):
            yield visit_batches(ranges, router, limit)


@given(steps(), st.integers(1, 6))
@settings(max_examples=examples(120))
def test_visits_are_judged_as_if_nothing_had_been_put_off(log, limit):
    """Same visits in the same order, each at the same observed time; nothing is detached, nothing comes twice."""
    partitions, fetches = log
    coalescer = HeartbeatCoalescer(partitions)
    plain, thrifty = [Position.start(partitions)] * partitions, [Position.start(partitions)] * partitions
    for some in rounds(partitions, fetches, limit):
        for p, (whole, sent) in enumerate(zip(some, coalescer.coalesce(some), strict=True)):
            wanted, found = drop_applied(plain[p], whole), drop_applied(thrifty[p], sent)
            assert judged(found) == judged(wanted)
            assert found.detached == found.repeated == 0
            assert not found.gaps
            plain[p], thrifty[p] = wanted.position, found.position


def judged(passed: NewVisits) -> list[tuple[int, ...]]:
    v = passed.visits
    return list(zip(v.student.tolist(), v.at.tolist(), v.offset.tolist(), passed.before.tolist(), strict=True))


@given(steps(), st.integers(1, 6))
@settings(max_examples=examples(120))
def test_what_waits_is_nothing_that_its_receiver_must_know_at_once(log, limit):
    """No visits, no new sender, no backlog that begins, goes on or ends, and no watermark that has advanced too far."""
    partitions, fetches = log
    coalescer = HeartbeatCoalescer(partitions)
    positions = [Position.start(partitions)] * partitions
    waits = [False] * partitions
    for some in rounds(partitions, fetches, limit):
        for p, (whole, sent) in enumerate(zip(some, coalescer.coalesce(some), strict=True)):
            if sent:
                # the round as it was, behind one frame of what had waited, if anything has
                assert list(map(id, sent[waits[p] :])) == list(map(id, whole))
                positions[p], waits[p] = drop_applied(positions[p], sent).position, False
                continue
            waits[p] = True
            watermarks = positions[p].watermarks
            for piece in (piece for visit_batch in whole for piece in visit_batch.ranges):
                assert not len(piece.visits)
                assert piece.begin != UNKNOWN_BEGIN
                assert not piece.lagging
                assert not watermarks.lagging[piece.source]
                assert piece.watermark < watermarks.at[piece.source] + MAX_STALENESS_MS


def visit_batch(
    begin: int, position: int, watermark: int, *, lagging: bool = False, student: int | None = None
) -> VisitBatch:
    """News of the one source partition, with or without a visit."""
    some = [] if student is None else [student]
    columns = (np.array(some, np.int64), np.zeros(len(some), np.bool_), np.array([watermark] * len(some), np.int64))
    offset = np.array([position - 1] * len(some), np.int64)
    return VisitBatch(1, [SourceRange(0, begin, position, watermark, lagging, Visits(*columns, offset))])


def told(coalescer: HeartbeatCoalescer, one: VisitBatch) -> list[VisitBatch]:
    """What goes to the one visits partition."""
    (sent,) = coalescer.coalesce([[one]])
    return sent


def test_what_waited_goes_before_the_next_frame_with_visits():
    """As one frame that joins them all: from where the first began up to where the last ended."""
    coalescer = HeartbeatCoalescer(1)
    first, visit = visit_batch(UNKNOWN_BEGIN, 5, 1_000), visit_batch(7, 8, 1_300, student=4)
    assert told(coalescer, first) == [first]
    assert told(coalescer, visit_batch(5, 6, 1_100)) == told(coalescer, visit_batch(6, 7, 1_200)) == []
    waited, then = told(coalescer, visit)
    assert then is visit
    (piece,) = waited.ranges
    assert replace(piece, visits=None) == SourceRange(0, 5, 7, 1_200, False, None)
    passed = drop_applied(Position.start(1), [first, waited, visit])
    assert (passed.visits.offset.tolist(), passed.before.tolist(), passed.detached) == ([7], [1_200], 0)
    assert told(coalescer, visit_batch(8, 9, 1_400)) == []


def test_a_backlog_that_begins_or_ends_is_told_at_once():
    """Others' time stands still for it, or waits for its end."""
    coalescer = HeartbeatCoalescer(1)
    told(coalescer, visit_batch(UNKNOWN_BEGIN, 5, 1_000))
    assert told(coalescer, visit_batch(5, 5, 1_000)) == []
    begins, ends = visit_batch(5, 6, 1_000, lagging=True), visit_batch(6, 7, 1_000)
    assert told(coalescer, begins)[-1:] == [begins]
    assert told(coalescer, ends) == [ends]
    assert told(coalescer, visit_batch(7, 8, 1_000)) == []


def test_a_clock_that_has_moved_on_is_told():
    """At exactly MAX_STALENESS_MS, and not before: counted from what was told last, whatever has waited since."""
    coalescer = HeartbeatCoalescer(1)
    told(coalescer, visit_batch(UNKNOWN_BEGIN, 5, 1_000))
    assert told(coalescer, visit_batch(5, 6, 1_000 + MAX_STALENESS_MS - 1)) == []
    late = visit_batch(6, 7, 1_000 + MAX_STALENESS_MS)
    assert told(coalescer, late)[-1:] == [late]
    assert told(coalescer, visit_batch(7, 8, 1_000 + 2 * MAX_STALENESS_MS - 1)) == []


def test_a_new_sender_is_heard_at_once():
    """It may begin anywhere, which only its first frame says."""
    coalescer = HeartbeatCoalescer(1)
    told(coalescer, visit_batch(UNKNOWN_BEGIN, 5, 1_000))
    again = visit_batch(UNKNOWN_BEGIN, 6, 1_000)
    assert told(coalescer, again) == [again]
