"""EXTRA rows on their way to the students' partitions: KSQL's visits are what they are without them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.aligner import Aligner
from models.heartbeats import HeartbeatCoalescer
from models.position import NewVisits, Position, drop_applied, pack
from models.routing import MAX_BATCH_BYTES, Router, visit_batches
from models.rules import NEVER
from models.visit_batch import SourceRange, VisitBatch, decode, encode
from models.visits import COUNTED, EXTRA, SUBMISSION, Visits

#: one fetch of a source partition: the partition, its visits, whether it has a backlog
Fetch = tuple[int, Visits, bool]


@st.composite
def fetches(draw: st.DrawFn) -> list[Fetch]:
    """Fetches of up to three source partitions; about a third of the rows are followed by an EXTRA row."""
    offset = [0, 0, 0]
    out = []
    for source in draw(st.lists(st.integers(0, 2), min_size=1, max_size=8)):
        rows: list[tuple[int, int, int, int]] = []
        for student, minutes, other in draw(
            st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3_000), st.integers(-18, 9)), max_size=12)
        ):
            offset[source] += 1
            rows.append((student, minutes * 60_000, offset[source], COUNTED))
            if other >= 0:
                rows.append((other, minutes * 60_000, offset[source], EXTRA | COUNTED | SUBMISSION))
        student_, at, offsets, kind = np.array(rows, np.int64).reshape(-1, 4).T.copy()
        course, null = 10 * student_ + offsets, np.zeros(len(rows), np.bool_)
        visits = Visits(student_, null, at, offsets, None, None, course, kind.astype(np.uint8))
        out.append((source, visits, draw(st.booleans())))
    return out


def ksql(visits: Visits) -> Visits:
    """The visits that there would be with RISK_MODEL=none."""
    kept = visits if visits.extra is None else visits.take(~visits.extra)
    return replace(kept, course=None, kind=None)


class Partitions:
    """Three visits partitions that one sender, with or without a coalescer, sends to."""

    def __init__(self, *, coalesces: bool) -> None:
        self._aligner, self._router = Aligner({0, 1, 2}), Router(3)
        self._coalescer = HeartbeatCoalescer(3) if coalesces else None
        self._end = [0, 0, 0]
        self.positions = [Position.start(3)] * 3
        self.applied: list[list[NewVisits]] = [[], [], []]

    def send(self, fetch: Fetch, limit: int, max_rows: int, *, twice: bool = False) -> None:
        """Release what a fetch allows to release; twice: every batch is delivered again after the next one.

        The last batch always is delivered twice.
        """
        source, visits, lagging = fetch
        self._end[source] = int(visits.offset[-1]) + 1 if len(visits) else self._end[source]
        self._aligner.add(source, visits, self._end[source], lagging)
        while ranges := self._aligner.release(limit):
            batches = visit_batches(ranges, 3, self._router, max_rows)
            if self._coalescer is not None:
                batches = self._coalescer.coalesce(batches)
            for partition, sent in enumerate(batches):
                order = [b for pair in pairwise(sent) for b in (*pair, *pair)] if twice else sent
                self._apply(partition, [decode(encode(batch)) for batch in [*order, *sent[-1:]]])

    def _apply(self, partition: int, batches: Sequence[VisitBatch]) -> None:
        new = drop_applied(self.positions[partition], batches)
        self.positions[partition] = new.position
        self.applied[partition].append(new)

    def columns(self, partition: int, *, extra: bool = False) -> list[list[int]]:
        """source, student, at, offset and stream time before each visit of a partition; extra: of EXTRA rows."""
        rows = []
        for new in self.applied[partition]:
            columns = (new.source, new.visits.student, new.visits.at, new.visits.offset, new.before)
            is_extra = np.zeros(len(new.visits), np.bool_) if new.visits.extra is None else new.visits.extra
            rows += [list(row) for row in zip(*(c[is_extra == extra].tolist() for c in columns), strict=True)]
        return rows


def kinds(visits: Visits) -> list[int]:
    return [] if visits.kind is None else visits.kind.tolist()


@given(fetches(), st.booleans())
@settings(deadline=None)
def test_the_visits_of_ksql_and_their_stream_times_do_not_change(log: list[Fetch], coalesces: bool) -> None:
    """Byte for byte the same visits and positions in each partition, whatever rows are added to others'."""
    on, off = Partitions(coalesces=coalesces), Partitions(coalesces=coalesces)
    for source, visits, lagging in log:
        on.send((source, visits, lagging), 10**6, 10**6)
        off.send((source, ksql(visits), lagging), 10**6, 10**6)
    for p in range(3):
        assert on.columns(p) == off.columns(p)
        if not coalesces:  # otherwise a batch with an EXTRA row takes deferred ranges with it
            assert [n.repeated for n in on.applied[p]] == [n.repeated for n in off.applied[p]]
            assert pack(on.positions[p]) == pack(off.positions[p])


@given(fetches(), st.integers(1, 9), st.integers(1, 4))
@settings(deadline=None)
def test_every_extra_row_is_applied_once(log: list[Fetch], limit: int, max_rows: int) -> None:
    """However batches are cut, and whatever is delivered again."""
    partitions = Partitions(coalesces=False)
    for fetch in log:
        partitions.send(fetch, limit, max_rows, twice=True)
    for source in range(3):  # what waits for a slower partition
        partitions.send((source, Visits.none(), False), limit, max_rows, twice=True)
    for extra in (False, True):
        wanted = sorted(
            (source, student, at, offset)
            for source, v, _ in log
            for student, at, offset, kind in zip(
                v.student.tolist(), v.at.tolist(), v.offset.tolist(), kinds(v), strict=True
            )
            if (kind & EXTRA != 0) == extra
        )
        assert sorted(tuple(row[:4]) for p in range(3) for row in partitions.columns(p, extra=extra)) == wanted


def test_a_batch_of_visits_with_all_columns_fits_its_limit() -> None:
    """The columns of the risk and log ids count."""
    n = 40_000
    column = np.arange(n)
    visits = Visits(column, np.zeros(n, np.bool_), column, column, None, column, column, np.ones(n, np.uint8))
    visits.null[0] = True
    (batches,) = visit_batches([SourceRange(0, 0, n, n, False, visits)], 1, Router(1), n)
    assert len(batches) == 3
    assert max(len(encode(batch)) for batch in batches) <= MAX_BATCH_BYTES + 100
    plain = replace(visits, course=None, kind=None, log_id=None)
    (batches,) = visit_batches([SourceRange(0, 0, n, n, False, plain)], 1, Router(1), 20_000)
    assert len(batches) == 2


def test_stream_time_before_an_extra_row_is_that_before_the_next_row() -> None:
    """Also at the end, and in a partition to which no other row of that source goes."""
    kind = np.array([EXTRA, COUNTED, EXTRA, COUNTED, EXTRA], np.uint8)
    column = np.array([7, 5, 5, 9, 9])
    visits = Visits(column, np.zeros(5, np.bool_), column, column, None, None, column, kind)
    other = Visits.none()
    start = [SourceRange(0, -1, 1, 3, False, other), SourceRange(1, -1, 1, 4, False, other)]
    position = drop_applied(Position.start(2), [VisitBatch(2, start)]).position
    new = drop_applied(position, [VisitBatch(2, [SourceRange(0, 1, 10, 9, False, visits)])])
    assert new.before.tolist() == [4, 4, 5, 5, 9]
    alone = visits.take(np.array([0]))
    new = drop_applied(position, [VisitBatch(2, [SourceRange(0, 1, 10, 3, False, alone)])])
    assert (new.before.tolist(), pack(new.position)) == (
        [4],
        pack(drop_applied(position, [VisitBatch(2, [SourceRange(0, 1, 10, 3, False, other)])]).position),
    )


def test_a_divided_range_announces_no_time_of_an_extra_row() -> None:
    """Whoever gets a piece of a range with EXTRA rows only has seen no event of it."""
    kind, column = np.array([EXTRA, COUNTED], np.uint8), np.array([9, 3])
    visits = Visits(column, np.zeros(2, np.bool_), column, np.array([1, 2]), None, None, column, kind)
    (batches,) = visit_batches([SourceRange(0, 1, 3, 9, False, visits)], 1, Router(1), 1)
    assert [(piece.end, piece.watermark) for batch in batches for piece in batch.ranges] == [(2, NEVER), (3, 9)]
