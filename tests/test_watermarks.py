"""Observed time: one source partition behaves as KSQL's, several as one log read in order."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.watermarks import Watermarks, announce, stream_times

times = st.lists(st.integers(0, 50), max_size=20)


def array(values: list[int]) -> np.ndarray:
    return np.array(values, np.int64)


@given(times)
def test_one_partition_observes_the_running_maximum(ats):
    """Kafka Streams' rule: before each visit, the largest time so far; -1 at the start."""
    before, watermarks = stream_times(Watermarks.unknown(1), array([0] * len(ats)), array(ats))
    assert before.tolist() == [max([-1, *ats[:i]]) for i in range(len(ats))]
    assert watermarks.stream_time == max([-1, *ats])


@given(times, st.integers(0, 20))
def test_cutting_a_log_anywhere_observes_the_same(ats, at):
    """Two batches observe what one does."""
    whole, end = stream_times(Watermarks.unknown(1), array([0] * len(ats)), array(ats))
    first, middle = stream_times(Watermarks.unknown(1), array([0] * len(ats[:at])), array(ats[:at]))
    second, last = stream_times(middle, array([0] * len(ats[at:])), array(ats[at:]))
    assert [*first.tolist(), *second.tolist()] == whole.tolist()
    assert last.stream_time == end.stream_time


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 50), st.booleans()), max_size=30))
def test_observed_time_never_goes_back_and_never_passes_a_backlog(told):
    """Whatever is announced: monotone, and not beyond any partition that had a backlog all along."""
    watermarks = Watermarks.unknown(3)
    for source, watermark, lagging in told:
        was = watermarks
        watermarks = announce(watermarks, array([source]), array([watermark]), np.array([lagging]))
        assert watermarks.stream_time >= was.stream_time
        behind = watermarks.at[watermarks.lagging]
        if len(behind):
            assert watermarks.stream_time <= max(was.stream_time, int(behind.min()))


def test_the_worked_example_of_the_module():
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


def test_a_partition_nobody_has_spoken_for_holds_time_back():
    """After a restart nothing is late until every partition's owner has told where it stands."""
    c = announce(Watermarks.unknown(2), array([0]), array([9_000]), np.array([False]))
    assert c.stream_time == -1
    assert announce(c, array([1]), array([-1]), np.array([False])).stream_time == 9_000


def test_visits_of_a_partition_that_was_read_to_its_end_are_not_late_among_themselves():
    """A frame that holds a whole backlog and says "no more" is applied in its own time."""
    c = announce(Watermarks.unknown(2), array([0, 1]), array([100, -1]), np.array([False, False]))
    before, after = stream_times(c, array([1, 1, 1]), array([5, 200, 300]))
    assert before.tolist() == [100, 100, 200]
    assert after.stream_time == 300
