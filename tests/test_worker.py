"""A worker as a user starts it, on a real broker: exact, and quiet when there is nothing to do."""

from __future__ import annotations

import pytest

from tests.support import cluster as live

pytestmark = pytest.mark.broker


def reading(place: live.Place, course: live.Course, **variables: str) -> live.Place:
    """The place, with the course for its source topic."""
    return live.Place.new(place.servers, place.directory, RISK_SOURCE_TOPIC=course.topic, **variables)


def test_months_over_four_partitions_are_exact(place: live.Place, course: live.Course) -> None:
    """A backlog over several partitions gives exactly the sessions of the time-ordered log, with few tombstones."""
    assert len(course.rows) > 200_000
    at = reading(place, course)
    with at.worker(forked=False) as worker:
        stats = worker.wait_idle(timeout=live.PATIENCE_S, events=len(course.rows))
    assert stats["counts"]["visits"] == len(course.rows)
    assert "late" not in stats["counts"]
    assert course.wrong(at) == []
    sessions = at.read(at.names.sessions)
    tombstones = sum(record.value is None for record in sessions)
    assert tombstones <= 0.02 * len(course.truth.sessions)
    print(stats["counts"], tombstones)
