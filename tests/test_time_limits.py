"""Events ahead of the clock, late visits and stream time away from the clock are named; a way back exists."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import numpy as np
import pytest

from agents import notices
from agents.ahead import NOTABLE_MS, AheadOfClock
from agents.notices import FIRST, Notices
from app.ops.cautions import MANY, Cautions, stream_time_ahead_ms
from app.ops.metrics import Metrics
from models.chunk import Chunk
from models.decoded import DecodedChunk
from models.position import Position, set_back
from models.rules import GRACE_MS
from models.watermarks import Watermarks

NOW = 1_790_000_000_000
HOUR = 3_600_000


def decoded(*at: int) -> DecodedChunk:
    n = len(at)
    return DecodedChunk(np.arange(n), np.ones(n, np.int64), np.zeros(n, np.bool_), np.array(at, np.int64), [], 0, 0)


def chunk(n: int) -> Chunk:
    return Chunk("log", 2, [10 + 2 * i for i in range(n)], [None] * n, [None] * n, 10, 10 + 2 * n, 10 + 2 * n)


def position(at: int, stream_time: int) -> Position:
    watermarks = Watermarks(np.array([at, 5]), np.zeros(2, np.bool_), np.array([at, at]), stream_time)
    return Position(np.array([1, 1]), watermarks, np.zeros(2, np.bool_), 3)


async def test_an_event_ahead_of_the_clock_is_taken_and_named_unless_a_limit_is_set(caplog) -> None:
    """As in KSQL it counts; topic, partition and offset are those of the record."""
    metrics = Metrics()
    ahead = AheadOfClock(metrics, 0, lambda: NOW)
    events = decoded(NOW, NOW + NOTABLE_MS, NOW + 8_760 * HOUR)
    assert ahead.apply(events, chunk(3)) is events
    (line,) = caplog.messages
    assert line.startswith("topic log partition 2 offset 14: timecreated is 8760.0 h ahead of the clock; ")
    assert "RISK_MAX_AHEAD" in line
    assert metrics["ahead"] == 1


async def test_events_beyond_the_limit_are_rejected_with_the_reason() -> None:
    """Exactly at the limit an event is taken."""
    ahead = AheadOfClock(Metrics(), 2 * HOUR, lambda: NOW)
    left = ahead.apply(decoded(NOW + 3 * HOUR, NOW, NOW + 2 * HOUR, NOW + 2 * HOUR + 1), chunk(4))
    assert left.at.tolist() == [NOW, NOW + 2 * HOUR]
    assert left.row.tolist() == [1, 2]
    assert [(r.index, r.reason) for r in left.rejects] == [(0, "ahead-of-clock"), (3, "ahead-of-clock")]
    assert left.rejects[0].detail == "timecreated is 3.0 h ahead of the clock, see RISK_MAX_AHEAD"
    nothing = decoded()
    assert ahead.apply(nothing, chunk(0)) is nothing


async def test_the_first_notices_are_logged_and_the_rest_is_counted(caplog, monkeypatch) -> None:
    """The next interval starts anew."""
    monkeypatch.setattr(notices, "INTERVAL_S", 0.05)
    kind = Notices("visits were late")
    kind.add(3, lambda i: f"visit {i}")
    kind.add(FIRST + 4, lambda i: f"later {i}")
    assert caplog.messages == ["visit 0", "visit 1", "visit 2", "later 0", "later 1"]
    caplog.clear()
    await asyncio.sleep(0.1)
    assert caplog.messages == [f"{FIRST + 2} more visits were late in the last 0 s"]
    caplog.clear()
    kind.add(1, lambda i: f"again {i}")
    await asyncio.sleep(0.1)
    assert caplog.messages == ["again 0"]
    assert caplog.records[0].levelno == logging.WARNING


def test_health_cautions_against_many_late_visits() -> None:
    """Few of many are normal."""
    metrics = Metrics()
    cautions = Cautions(metrics)
    assert cautions.lines([], NOW) == []
    cautions.sample()
    metrics.add("visits", 1_000)
    metrics.add("late", MANY - 1)
    cautions.sample()
    assert cautions.lines([], NOW) == []
    metrics.add("late", 1)
    cautions.sample()
    (line,) = cautions.lines([], NOW)
    assert line == "10 of 1000 visits in the last 60 s were late and do not count"
    for _ in range(61):
        cautions.sample()
    assert cautions.lines([], NOW) == []


def test_health_says_how_far_stream_time_is_from_the_clock() -> None:
    normal, future = position(NOW, NOW), position(NOW + 48 * HOUR, NOW + 48 * HOUR)
    held = position(NOW, NOW - GRACE_MS - 1)
    cautions = Cautions(Metrics())
    assert cautions.lines([normal], NOW) == []
    assert cautions.lines([normal, future], NOW) == [
        "stream time is 48.0 h ahead of the clock: an event has a wrong time, see RISK_MAX_AHEAD"
    ]
    assert cautions.lines([held], NOW) == [
        "stream time is 23.8 h behind the newest event: a source partition has a backlog"
    ]
    assert stream_time_ahead_ms([], NOW) is None
    assert stream_time_ahead_ms([position(-1, -1)], NOW) is None
    assert stream_time_ahead_ms([normal, held], NOW + 5) == -5


def test_stream_time_can_be_set_back() -> None:
    """Offsets and students stay: nothing is counted twice."""
    future = position(NOW + 8_760 * HOUR, NOW + 8_760 * HOUR)
    back = set_back(future, NOW)
    assert back.watermarks.at.tolist() == [NOW, 5]
    assert back.watermarks.confirmed.tolist() == [NOW, NOW]
    assert back.watermarks.stream_time == NOW
    assert (back.offsets.tolist(), back.students) == (future.offsets.tolist(), future.students)
    assert set_back(back, NOW) is back
    ahead_only = replace(back, watermarks=replace(back.watermarks, stream_time=NOW + 1))
    assert set_back(ahead_only, NOW).watermarks.stream_time == NOW


@pytest.mark.parametrize("stream_time", [NOW, -1])
def test_a_position_within_the_limit_is_left_alone(stream_time: int) -> None:
    within = position(NOW, stream_time)
    assert set_back(within, NOW) is within
