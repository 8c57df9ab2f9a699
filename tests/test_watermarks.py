"""Stream time: one source partition behaves as in KSQL, several like one log that is read in order."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.watermarks import Watermarks, announce, stream_times

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


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 50), st.booleans()), max_size=30))
def test_stream_time_never_decreases_and_never_passes_a_backlog(announcements):
    """After any announcements it is monotonic, and not beyond the watermark of any lagging partition."""
    watermarks = Watermarks.unknown(3)
    for source, watermark, lagging in announcements:
        previous = watermarks
        watermarks = announce(watermarks, array([source]), array([watermark]), np.array([lagging]))
        assert watermarks.stream_time >= previous.stream_time
        lagging_at = watermarks.at[watermarks.lagging]
        if len(lagging_at):
            assert watermarks.stream_time <= max(previous.stream_time, int(lagging_at.min()))


def test_the_example_in_the_module_docstring():
    """models/watermarks.py, line by line."""
    c = Watermarks.unknown(2)
    c = announce(c, array([0]), array([5_000]), np.array([True]))
    assert c.stream_time == -1
    c = announce(c, array([1]), array([3_000]), np.array([True]))
    assert c.stream_time == 3_000
    c = announce(c, array([1]), array([3_000]), np.array([False]))
    assert c.stream_time == 5_000
    c = announce(c, array([0]), array([9_000]), np.array([False]))
    assert c.stream_time == 9_000


def test_an_unannounced_partition_holds_stream_time_back():
    """After a restart no visit is late until the owners of all partitions have announced their watermarks."""
    c = announce(Watermarks.unknown(2), array([0]), array([9_000]), np.array([False]))
    assert c.stream_time == -1
    assert announce(c, array([1]), array([-1]), np.array([False])).stream_time == 9_000


def test_visits_of_a_partition_without_backlog_are_applied_in_their_own_time():
    """A visit batch with a whole backlog, not marked lagging: its first visits are not late because of its last."""
    c = announce(Watermarks.unknown(2), array([0, 1]), array([100, -1]), np.array([False, False]))
    before, after = stream_times(c, array([1, 1, 1]), array([5, 200, 300]))
    assert before.tolist() == [100, 100, 200]
    assert after.stream_time == 300
