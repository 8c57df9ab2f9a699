"""The session algebra against KSQL's rules event by event, for any division of a log into batches."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models import state, windowing
from models.rules import GAP_MS, GRACE_MS, SEGMENT_MS
from models.sessions import Sessions, absorb, cut
from models.totals import roll_up
from models.visits import Visits, dictionary_encode
from models.watermarks import Watermarks, stream_times
from tests.support.effort import examples
from tests.support.oracle import Ksql

#: distances at which the rules change their result, and one ms to either side
EDGES = [
    0,
    1,
    GAP_MS - 1,
    GAP_MS,
    GAP_MS + 1,
    GRACE_MS - 1,
    GRACE_MS,
    GRACE_MS + 1,
    SEGMENT_MS,
    86_400_000,
    2 * 86_400_000,
]


@st.composite
def logs(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Logs whose times move forwards and backwards by the distances that matter."""
    at, log = draw(st.sampled_from([0, 1_561_975_200_000])), []
    for _ in range(draw(st.integers(1, 30))):
        step = draw(st.sampled_from(EDGES)) + draw(st.integers(0, 3)) * draw(st.sampled_from([1, 1000, 600_000]))
        at = max(0, at + step * draw(st.sampled_from([1, 1, 1, -1])))
        log.append((draw(st.integers(1, 3)), at))
    return log


@dataclass
class Store:
    """The models over a store of state records, batch by batch."""

    emit_every_change: bool
    watermarks: Watermarks = field(default_factory=lambda: Watermarks.unknown(1))
    records: dict[int, bytes] = field(default_factory=dict)
    late: int = 0
    emitted: list[tuple[int, int, int, int, int]] = field(default_factory=list)

    def apply(self, log: list[tuple[int, int]]) -> None:
        """Apply one batch."""
        student, at = (np.array(column, np.int64) for column in zip(*log, strict=True))
        visits = Visits(student, np.zeros(len(log), np.bool_), at, np.arange(len(log)))
        before, self.watermarks = stream_times(self.watermarks, np.zeros(len(log), np.int64), at)
        students = dictionary_encode(visits)
        keys = students.student.tolist()
        totals, sessions = state.unpack([self.records.get(k) for k in keys])
        windowed = windowing.apply(
            sessions,
            students.indices,
            at,
            before,
            self.watermarks.stream_time,
            emit_every_change=self.emit_every_change,
        )
        rollup = roll_up(totals, windowed.changes, emit_every_change=self.emit_every_change)
        self.records.update(zip(keys, state.pack(rollup.totals, windowed.sessions), strict=True))
        self.late += int(windowed.late.sum())
        written = windowed.changes.take(windowed.changes.written)
        s = written.sessions
        columns = (s.owner, written.delta, s.start, s.end, s.count)
        self.emitted += [(keys[o], *rest) for o, *rest in zip(*(c.tolist() for c in columns), strict=True)]

    def totals(self) -> dict[int, list[int]]:
        """Totals by student: activities, seconds, sessions, at."""
        totals, _ = state.unpack(list(self.records.values()))
        columns = zip(
            *(c.tolist() for c in (totals.activities, totals.seconds, totals.sessions, totals.at)), strict=True
        )
        return {k: list(row) for k, row in zip(self.records, columns, strict=True) if row[2]}

    def table(self) -> dict[tuple[int, int, int], int]:
        """The compacted sessions topic: counts by (student, start, end)."""
        rows: dict[tuple[int, int, int], int] = {}
        for student, delta, start, end, n in self.emitted:
            rows.pop((student, start, end), None)
            if delta > 0:
                rows[student, start, end] = n
        return rows


def oracle(log: list[tuple[int, int]]) -> Ksql:
    ksql = Ksql()
    for student, at in log:
        ksql.visit(student, at)
    return ksql


def compacted(ksql: Ksql) -> dict[tuple[int, int, int], int]:
    reference = Store(emit_every_change=True)
    reference.emitted = ksql.emitted
    return reference.table()


@given(logs(), st.lists(st.integers(1, 8), max_size=30))
@settings(deadline=None, max_examples=examples(180))
def test_every_change_is_ksqls_sequence_for_any_batches(log, sizes):
    """Any division of a log into batches emits the same revisions, in the same order, as event by event."""
    ksql, store = oracle(log), Store(emit_every_change=True)
    for batch in batches_of(log, sizes):
        store.apply(batch)
    assert store.emitted == ksql.emitted
    assert store.late == ksql.late
    assert store.totals() == {k: v for k, v in ksql.totals.items() if v[2]}


@given(logs(), st.lists(st.integers(1, 8), max_size=30))
@settings(deadline=None, max_examples=examples(180))
def test_net_changes_lead_to_the_same_tables_for_any_batches(log, sizes):
    """Any division of a log into batches gives the same final state as event by event."""
    ksql, store = oracle(log), Store(emit_every_change=False)
    for batch in batches_of(log, sizes):
        store.apply(batch)
    assert store.table() == compacted(ksql)
    assert store.late == ksql.late
    assert store.totals() == {k: v for k, v in ksql.totals.items() if v[2]}


@given(logs(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=examples(100))
def test_order_does_not_matter_within_the_grace(log, random):
    """Visits within the grace of one another give the same sessions in any order."""
    base = log[0][1]
    log = [(student, base + abs(at - base) % (GRACE_MS // 2)) for student, at in log]
    shuffled = list(log)
    random.shuffle(shuffled)
    tables = []
    for order in (log, shuffled):
        store = Store(emit_every_change=False)
        store.apply(order)
        assert store.late == 0
        tables.append((store.table(), {k: v[:3] for k, v in store.totals().items()}))
    assert tables[0] == tables[1]


@given(logs(), st.lists(st.integers(1, 8), max_size=30))
@settings(deadline=None, max_examples=examples(100))
def test_totals_equal_those_of_the_sessions_topic(log, sizes):
    """Incremental totals equal those counted from the compacted sessions topic."""
    store = Store(emit_every_change=False)
    for batch in batches_of(log, sizes):
        store.apply(batch)
    counted: dict[int, list[int]] = {}
    for (student, start, end), n in store.table().items():
        t = counted.setdefault(student, [0, 0, 0])
        t[0] += n
        t[1] += (end - start) // 1000
        t[2] += 1
    assert {k: v[:3] for k, v in store.totals().items()} == counted


def batches_of(log: list[tuple[int, int]], sizes: list[int]) -> list[list[tuple[int, int]]]:
    """The log in batches of these sizes; the rest is the last batch."""
    batches, at = [], 0
    for size in sizes:
        batches.append(log[at : at + size])
        at += size
    return [b for b in [*batches, log[at:]] if b]


def visits(*ats: int, student: int = 1) -> list[tuple[int, int]]:
    return [(student, at) for at in ats]


def sessions_of(log: list[tuple[int, int]]) -> dict[tuple[int, int, int], int]:
    store = Store(emit_every_change=False)
    store.apply(log)
    return store.table()


def test_visits_exactly_the_gap_apart_join():
    """SessionWindows: the gap is inclusive."""
    assert sessions_of(visits(0, GAP_MS)) == {(1, 0, GAP_MS): 2}


def test_visits_one_ms_more_than_the_gap_apart_do_not_join():
    """SessionWindows: one ms past the gap is another session."""
    assert sessions_of(visits(0, GAP_MS + 1)) == {(1, 0, 0): 1, (1, GAP_MS + 1, GAP_MS + 1): 1}


def test_a_visit_merges_two_sessions():
    """A visit within the gap of two sessions merges them."""
    assert sessions_of(visits(0, 2 * GAP_MS, GAP_MS)) == {(1, 0, 2 * GAP_MS): 3}


def test_a_visit_exactly_at_the_grace_is_kept_and_one_ms_earlier_refused():
    """A late visit is refused if its session ends before stream time less the grace."""
    now = 200_000_000
    kept, refused = visits(now - GRACE_MS, student=2), visits(now - GRACE_MS - 1, student=3)
    assert set(sessions_of(visits(now) + kept + refused)) == {(1, now, now), (2, now - GRACE_MS, now - GRACE_MS)}


def test_a_late_visit_sees_only_earlier_visits():
    """A late visit is refused unless an earlier visit has made a session within the grace for it to join."""
    now = 500_000_000
    edge = now - GRACE_MS
    joined, late = (2, edge + 10), (2, edge - GAP_MS + 20)
    assert (2, edge - GAP_MS + 20, edge + 10) in sessions_of([(1, now), joined, late])
    assert (2, edge + 10, edge + 10) in sessions_of([(1, now), late, joined])


def test_absorbing_nothing_changes_nothing():
    """No sessions are the neutral element of `absorb`."""
    sessions = cut(np.array([0, 0, 1]), np.array([5, 10_000_000, 7])).sessions
    merge = absorb(sessions, Sessions.none())
    assert not merge.touched.any()
    assert merge.sessions.start.tolist() == sessions.start.tolist()


def test_a_long_run_of_one_student_is_one_session():
    """A hundred thousand visits, one per second."""
    at = np.arange(100_000, dtype=np.int64) * 1000
    store = Store(emit_every_change=False)
    store.apply([(1, t) for t in at.tolist()])
    assert store.table() == {(1, 0, 99_999_000): 100_000}
