"""Stream time: one source partition behaves as in KSQL, several like one log that is read in order."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.rules import GRACE_MS, MAX_LEAD_MS
from models.watermarks import Watermarks, announce, stream_times

#: the announcement confirms nothing
NOTHING = np.array([-1])

times = st.lists(st.integers(0, 50), max_size=20)


def array(values: list[int]) -> np.ndarray:
    return np.array(values, np.int64)


@given(times)
def test_stream_time_of_one_partition_is_the_running_maximum(ats):
    """As in Kafka Streams: before each visit the largest time so far, -1 at the start."""
    before, watermarks = stream_times(Watermarks.unknown(1), array([0] * len(ats)), array(ats))
    assert before.tolist() == [max([-1, *ats[:i]]) for i in range(len(ats))]
    assert watermarks.stream_time == max([-1, *ats])


@given(times, st.integers(0, 20))
def test_stream_time_does_not_depend_on_batch_boundaries(ats, at):
    """Two batches give the same stream times as one."""
    whole, end = stream_times(Watermarks.unknown(1), array([0] * len(ats)), array(ats))
    first, middle = stream_times(Watermarks.unknown(1), array([0] * len(ats[:at])), array(ats[:at]))
    second, last = stream_times(middle, array([0] * len(ats[at:])), array(ats[at:]))
    assert [*first.tolist(), *second.tolist()] == whole.tolist()
    assert last.stream_time == end.stream_time


#: event times some of which are further apart than stream time may lead
far = st.integers(0, 6).map(lambda n: n * MAX_LEAD_MS // 2)


@given(st.lists(st.tuples(st.integers(0, 2), far, st.booleans(), far), max_size=30))
def test_stream_time_never_decreases_and_never_passes_a_limit(announcements):
    """After any announcements it is monotonic, and not beyond the watermark of any lagging partition, nor further
    beyond what any other was confirmed to have been read to than it may lead."""
    watermarks = Watermarks.unknown(3)
    newest = confirmed = [-1, -1, -1]
    for source, watermark, lagging, as_of in announcements:
        previous = watermarks
        watermarks = announce(watermarks, array([source]), array([watermark]), np.array([lagging]), array([as_of]))
        newest = [max(w, watermark) if p == source else w for p, w in enumerate(newest)]
        confirmed = [max(c, as_of) if p == source else c for p, c in enumerate(confirmed)]
        limits = [newest[p] if watermarks.lagging[p] else max(newest[p], confirmed[p] + MAX_LEAD_MS) for p in range(3)]
        assert watermarks.stream_time == max(previous.stream_time, min(*limits, max(newest)))


def test_a_partition_whose_owner_is_silent_holds_stream_time():
    """Nobody says that it has a backlog. What it holds is newer than its last confirmation, so that nothing is late."""
    day = 2 * MAX_LEAD_MS
    c = announce(Watermarks.unknown(2), array([0, 1]), array([day, day]), np.array([False, False]), array([day, day]))
    assert c.stream_time == day
    c = announce(c, array([0]), array([9 * day]), np.array([False]), array([9 * day]))
    assert c.stream_time == day + MAX_LEAD_MS
    before, c = stream_times(c, array([0, 0]), array([9 * day, 9 * day + 5]))
    assert before.tolist() == [day + MAX_LEAD_MS] * 2
    # the new owner finds rows that were written since
    c = announce(c, array([1]), array([-1]), np.array([True]), NOTHING)
    before, c = stream_times(c, array([1, 1]), array([day, 9 * day]))
    assert (before <= day + GRACE_MS).all()
    c = announce(c, array([1]), array([9 * day]), np.array([False]), array([9 * day]))
    assert c.stream_time == 9 * day + 5


def test_an_idle_partition_that_is_confirmed_does_not_hold_stream_time():
    """It has had no row for 100 days."""
    c = announce(Watermarks.unknown(2), array([0, 1]), array([0, 0]), np.array([False, False]), array([0, 0]))
    step = MAX_LEAD_MS // 2
    for now in range(step, 200 * step, step):
        c = announce(c, array([0]), array([now]), np.array([False]), NOTHING)
        assert c.stream_time == now
        c = announce(c, array([1]), array([-1]), np.array([False]), array([now]))


def test_an_announcement_that_arrives_late_confirms_nothing_new():
    """A suspended owner, which continues after it has been replaced, says what was true before."""
    day = 2 * MAX_LEAD_MS
    c = announce(Watermarks.unknown(2), array([0, 1]), array([day, day]), np.array([False, False]), array([day, day]))
    c = announce(c, array([0]), array([9 * day]), np.array([False]), array([9 * day]))
    c = announce(c, array([1]), array([day]), np.array([False]), array([day]))
    assert c.stream_time == day + MAX_LEAD_MS


def test_the_example_in_the_module_docstring():
    """models/watermarks.py, line by line."""
    c = Watermarks.unknown(2)
    c = announce(c, array([0]), array([5_000]), np.array([True]), NOTHING)
    assert c.stream_time == -1
    c = announce(c, array([1]), array([3_000]), np.array([True]), NOTHING)
    assert c.stream_time == 3_000
    c = announce(c, array([1]), array([3_000]), np.array([False]), NOTHING)
    assert c.stream_time == 5_000
    c = announce(c, array([0]), array([9_000]), np.array([False]), NOTHING)
    assert c.stream_time == 9_000


def test_an_unannounced_partition_holds_stream_time_back():
    """After a restart no visit is late until the owners of all partitions have announced their watermarks."""
    c = announce(Watermarks.unknown(2), array([0]), array([9_000]), np.array([False]), NOTHING)
    assert c.stream_time == -1
    assert announce(c, array([1]), array([-1]), np.array([False]), NOTHING).stream_time == 9_000


def test_visits_of_a_partition_without_backlog_are_applied_in_their_own_time():
    """A visit batch with a whole backlog, not marked lagging: its first visits are not late because of its last."""
    c = announce(Watermarks.unknown(2), array([0, 1]), array([100, -1]), np.array([False, False]), array([-1, -1]))
    before, after = stream_times(c, array([1, 1, 1]), array([5, 200, 300]))
    assert before.tolist() == [100, 100, 200]
    assert after.stream_time == 300
