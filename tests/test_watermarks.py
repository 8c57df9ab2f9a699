"""Observed time: one source partition behaves as KSQL's, several as one log read in order."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.watermarks import Clocks, announce, observe

times = st.lists(st.integers(0, 50), max_size=20)


def array(values: list[int]) -> np.ndarray:
    return np.array(values, np.int64)


@given(times)
def test_one_partition_observes_the_running_maximum(ats):
    """Kafka Streams' rule: before each visit, the largest time so far; -1 at the start."""
    before, clocks = observe(Clocks.unknown(1), array([0] * len(ats)), array(ats))
    assert before.tolist() == [max([-1, *ats[:i]]) for i in range(len(ats))]
    assert clocks.observed == max([-1, *ats])


@given(times, st.integers(0, 20))
def test_cutting_a_log_anywhere_observes_the_same(ats, at):
    """Two batches observe what one does."""
    whole, end = observe(Clocks.unknown(1), array([0] * len(ats)), array(ats))
    first, middle = observe(Clocks.unknown(1), array([0] * len(ats[:at])), array(ats[:at]))
    second, last = observe(middle, array([0] * len(ats[at:])), array(ats[at:]))
    assert [*first.tolist(), *second.tolist()] == whole.tolist()
    assert last.observed == end.observed


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 50), st.booleans()), max_size=30))
def test_observed_time_never_goes_back_and_never_passes_a_backlog(told):
    """Whatever is announced: monotone, and not beyond any partition that had a backlog all along."""
    clocks = Clocks.unknown(3)
    for source, clock, lagging in told:
        was = clocks
        clocks = announce(clocks, array([source]), array([clock]), np.array([lagging]))
        assert clocks.observed >= was.observed
        behind = clocks.at[clocks.lagging]
        if len(behind):
            assert clocks.observed <= max(was.observed, int(behind.min()))


def test_the_worked_example_of_the_module():
    """models/watermarks.py, line by line."""
    c = Clocks.unknown(2)
    c = announce(c, array([0]), array([5_000]), np.array([True]))
    assert c.observed == -1
    c = announce(c, array([1]), array([3_000]), np.array([True]))
    assert c.observed == 3_000
    c = announce(c, array([1]), array([3_000]), np.array([False]))
    assert c.observed == 5_000
    c = announce(c, array([0]), array([9_000]), np.array([False]))
    assert c.observed == 9_000


def test_a_partition_nobody_has_spoken_for_holds_time_back():
    """After a restart nothing is late until every partition's owner has told where it stands."""
    c = announce(Clocks.unknown(2), array([0]), array([9_000]), np.array([False]))
    assert c.observed == -1
    assert announce(c, array([1]), array([-1]), np.array([False])).observed == 9_000


def test_visits_of_a_partition_that_was_read_to_its_end_are_not_late_among_themselves():
    """A frame that holds a whole backlog and says "no more" is applied in its own time."""
    c = announce(Clocks.unknown(2), array([0, 1]), array([100, -1]), np.array([False, False]))
    before, after = observe(c, array([1, 1, 1]), array([5, 200, 300]))
    assert before.tolist() == [100, 100, 200]
    assert after.observed == 300
