"""Deferred heartbeats change nothing for later visits, and nothing is deferred that others wait for."""

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
    """One fetch: visits as (student, ms since the previous one), and whether the partition holds more."""

    partition: int
    visits: list[tuple[int, int]]
    lagging: bool


#: mostly short, as in a quiet log, sometimes so long that a receiver's watermark becomes stale
BETWEEN = st.one_of(
    st.integers(-2_000, 9_000), st.sampled_from([MAX_STALENESS_MS - 1, MAX_STALENESS_MS, 3 * MAX_STALENESS_MS])
)
FEW = st.lists(st.tuples(st.integers(1, 9), BETWEEN), max_size=4)


@st.composite
def steps(draw: st.DrawFn) -> tuple[int, list[Step]]:
    """The number of partitions, and fetches; the first ones announce every partition, as after a seek."""
    partitions = draw(st.integers(1, 3))
    lags = st.sampled_from([False, False, False, True])
    first = [Step(p, [], draw(lags)) for p in range(partitions)]
    step = st.builds(Step, st.integers(0, partitions - 1), FEW, lags)
    return partitions, [*first, *draw(st.lists(step, max_size=25))]


def rounds(partitions: int, fetches: list[Step], limit: int) -> Iterator[list[list[VisitBatch]]]:
    """The visit batches of each round of a sender that owns all partitions."""
    aligner, router = Aligner(set(range(partitions))), Router(partitions)
    offset, now = [0] * partitions, [100_000] * partitions
    for fetch in fetches:
        p, n = fetch.partition, len(fetch.visits)
        ats = np.cumsum([now[p], *(since for _, since in fetch.visits)])[1:].clip(0)
        now[p] = int(ats[-1]) if n else now[p]
        students = np.array([student for student, _ in fetch.visits], np.int64)
        columns = (students, np.zeros(n, np.bool_), ats, np.arange(offset[p], offset[p] + n))
        offset[p] += n + 1  # including a transaction marker
        aligner.add(p, Visits(*columns), offset[p], fetch.lagging)
        while ranges := aligner.release(limit):
            yield visit_batches(ranges, partitions, router, limit)


@given(steps(), st.integers(1, 6))
@settings(max_examples=examples(120))
def test_deferring_does_not_change_stream_times(log, limit):
    """The same visits in the same order, each at the same stream time; none is detached or repeated."""
    partitions, fetches = log
    coalescer = HeartbeatCoalescer(partitions)
    plain, coalesced = [Position.start(partitions)] * partitions, [Position.start(partitions)] * partitions
    for batches in rounds(partitions, fetches, limit):
        for p, (all_batches, sent) in enumerate(zip(batches, coalescer.coalesce(batches), strict=True)):
            expected, actual = drop_applied(plain[p], all_batches), drop_applied(coalesced[p], sent)
            assert visits_of(actual) == visits_of(expected)
            assert actual.detached == actual.repeated == 0
            assert not actual.gaps
            plain[p], coalesced[p] = expected.position, actual.position


def visits_of(new: NewVisits) -> list[tuple[int, ...]]:
    """Student, time, offset and stream time of each visit."""
    v = new.visits
    return list(zip(v.student.tolist(), v.at.tolist(), v.offset.tolist(), new.before.tolist(), strict=True))


@given(steps(), st.integers(1, 6))
@settings(max_examples=examples(120))
def test_only_ranges_that_can_wait_are_deferred(log, limit):
    """No visits, no new sender, no backlog that begins, goes on or ends, and no watermark that has advanced too far."""
    partitions, fetches = log
    coalescer = HeartbeatCoalescer(partitions)
    positions = [Position.start(partitions)] * partitions
    deferred = [False] * partitions
    for batches in rounds(partitions, fetches, limit):
        for p, (all_batches, sent) in enumerate(zip(batches, coalescer.coalesce(batches), strict=True)):
            if sent:
                # the batches of the round, after one batch of the deferred ranges, if any
                assert list(map(id, sent[deferred[p] :])) == list(map(id, all_batches))
                positions[p], deferred[p] = drop_applied(positions[p], sent).position, False
                continue
            deferred[p] = True
            watermarks = positions[p].watermarks
            for piece in (piece for visit_batch in all_batches for piece in visit_batch.ranges):
                assert not len(piece.visits)
                assert piece.begin != UNKNOWN_BEGIN
                assert not piece.lagging
                assert not watermarks.lagging[piece.source]
                assert piece.watermark < watermarks.at[piece.source] + MAX_STALENESS_MS


def visit_batch(
    begin: int, end: int, watermark: int, *, lagging: bool = False, student: int | None = None
) -> VisitBatch:
    """A batch for one source partition, with or without a visit."""
    students = [] if student is None else [student]
    n = len(students)
    columns = (np.array(students, np.int64), np.zeros(n, np.bool_), np.array([watermark] * n, np.int64))
    offset = np.array([end - 1] * n, np.int64)
    return VisitBatch(1, [SourceRange(0, begin, end, watermark, lagging, Visits(*columns, offset))])


def coalesce(coalescer: HeartbeatCoalescer, batch: VisitBatch) -> list[VisitBatch]:
    """The batches that are sent to the only visits partition."""
    (sent,) = coalescer.coalesce([[batch]])
    return sent


def test_deferred_ranges_are_sent_before_the_next_visits():
    """Merged into one range, from the beginning of the first to the end of the last."""
    coalescer = HeartbeatCoalescer(1)
    first, visit = visit_batch(UNKNOWN_BEGIN, 5, 1_000), visit_batch(7, 8, 1_300, student=4)
    assert coalesce(coalescer, first) == [first]
    assert coalesce(coalescer, visit_batch(5, 6, 1_100)) == coalesce(coalescer, visit_batch(6, 7, 1_200)) == []
    merged, last = coalesce(coalescer, visit)
    assert last is visit
    (piece,) = merged.ranges
    assert replace(piece, visits=None) == SourceRange(0, 5, 7, 1_200, False, None)
    new = drop_applied(Position.start(1), [first, merged, visit])
    assert (new.visits.offset.tolist(), new.before.tolist(), new.detached) == ([7], [1_200], 0)
    assert coalesce(coalescer, visit_batch(8, 9, 1_400)) == []


def test_a_backlog_that_begins_or_ends_is_sent_at_once():
    """It stops the stream time of other partitions, or lets it continue."""
    coalescer = HeartbeatCoalescer(1)
    coalesce(coalescer, visit_batch(UNKNOWN_BEGIN, 5, 1_000))
    assert coalesce(coalescer, visit_batch(5, 5, 1_000)) == []
    begins, ends = visit_batch(5, 6, 1_000, lagging=True), visit_batch(6, 7, 1_000)
    assert coalesce(coalescer, begins)[-1:] == [begins]
    assert coalesce(coalescer, ends) == [ends]
    assert coalesce(coalescer, visit_batch(7, 8, 1_000)) == []


def test_a_watermark_that_has_advanced_is_sent():
    """At exactly MAX_STALENESS_MS after the last one sent, whatever has been deferred since."""
    coalescer = HeartbeatCoalescer(1)
    coalesce(coalescer, visit_batch(UNKNOWN_BEGIN, 5, 1_000))
    assert coalesce(coalescer, visit_batch(5, 6, 1_000 + MAX_STALENESS_MS - 1)) == []
    due = visit_batch(6, 7, 1_000 + MAX_STALENESS_MS)
    assert coalesce(coalescer, due)[-1:] == [due]
    assert coalesce(coalescer, visit_batch(7, 8, 1_000 + 2 * MAX_STALENESS_MS - 1)) == []


def test_the_first_range_of_a_new_sender_is_sent_at_once():
    """It may begin at any offset, and only this range is marked with UNKNOWN_BEGIN."""
    coalescer = HeartbeatCoalescer(1)
    coalesce(coalescer, visit_batch(UNKNOWN_BEGIN, 5, 1_000))
    again = visit_batch(UNKNOWN_BEGIN, 6, 1_000)
    assert coalesce(coalescer, again) == [again]


def test_a_watermark_that_passes_a_tick_is_sent_at_once():
    """Compared with the last one sent, whatever has been deferred since; without ticks it is deferred."""
    for last_tick, deferred in ((lambda at: at // 10_000, 0), (None, 3)):
        coalescer = HeartbeatCoalescer(1, last_tick)
        coalesce(coalescer, visit_batch(UNKNOWN_BEGIN, 5, 9_000))
        assert coalesce(coalescer, visit_batch(5, 6, 9_999)) == []
        first, second = visit_batch(6, 7, 10_000), visit_batch(7, 8, 30_000)
        sent = [coalesce(coalescer, batch)[-1:] for batch in (first, second)]
        assert sent == [[first], [second]][deferred:] + [[]] * min(deferred, 2)
        assert coalesce(coalescer, visit_batch(8, 9, 39_999)) == []
