"""Ticks: when they begin, what is stored of them, and the early events that wait for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.kafka.cohort_sums import CohortSums
from app.settings import Settings
from codec.moodle_log import LogDecoder
from models import cohort_keys, early_events, ticks
from models.activity import Events
from models.cohort_records import encode
from models.cohorts import Cohorts
from models.days import LocalDays
from models.early_events import EarlyEvents
from models.position import Position, drop_applied
from models.rules import NEVER, Int64s
from models.state import NewerState, StateError, pack_words
from models.ticks import Ticks
from models.visit_batch import UNKNOWN_BEGIN, SourceRange, VisitBatch
from models.visit_batch import encode as encode_visits
from models.visits import Visits
from models.watermarks import Watermarks, announce
from tests.support.effort import examples
from tests.support.standing import standing_model
from tools.test_driver import TopologyTestDriver

DAYS = LocalDays(ZoneInfo("UTC"))
DAY_MS = 86_400_000


def visit_range(at: Sequence[int], begin: int = UNKNOWN_BEGIN) -> SourceRange:
    """Visits of source partition 0, at offsets from `begin` on."""
    offset = max(begin, 0) + np.arange(len(at))
    times = np.array(at, np.int64)
    visits = Visits(np.ones(len(at), np.int64), np.zeros(len(at), np.bool_), times, offset)
    watermark = int(times.max(initial=NEVER))
    return SourceRange(0, begin, max(begin, 0) + len(at), watermark, False, visits, as_of=watermark)


def test_the_first_tick_comes_before_the_first_visit() -> None:
    """Stream time may begin later: with the slowest source partition."""
    at = DAYS.tick_at(100)
    batches = [VisitBatch(2, [visit_range([at + 5, at])])]
    assert ticks.first(DAYS, NEVER, batches) == Ticks(100, 100)
    assert ticks.first(DAYS, NEVER, [VisitBatch(2, [visit_range([at - 1])])]) == Ticks(99, 99)
    assert ticks.first(DAYS, NEVER) is None
    after = drop_applied(Position.start(1), [VisitBatch(1, [visit_range([at])])]).position
    assert ticks.first(DAYS, after.watermarks.stream_time) == Ticks(100, 100)


def test_empty_source_partitions_do_not_begin_the_ticks() -> None:
    """They let stream time come to the noon of 1970-01-01: thousands of ticks would run before the first event."""
    empty = announce(
        Watermarks.unknown(2), np.array([0, 1]), np.array([10**12, NEVER]), np.array([False, False]),
        np.array([10**12, NEVER]),
    )  # fmt: skip
    assert NEVER < empty.stream_time < 86_400_000
    assert ticks.first(DAYS, empty.stream_time) is None
    at = DAYS.tick_at(100)
    assert ticks.first(DAYS, empty.stream_time, [VisitBatch(2, [visit_range([at])])]) == Ticks(100, 100)


async def test_the_heartbeat_that_begins_stream_time_begins_the_ticks() -> None:
    """Others wait for the sums of this partition, and in a quiet log no other heartbeat comes."""
    at = DAYS.tick_at(100)
    heartbeat = VisitBatch(1, [replace(visit_range([]), watermark=at, as_of=at)])
    decoder = LogDecoder(None)  # type: ignore[arg-type]
    async with TopologyTestDriver(Settings(app_id="test"), decoder, standing=standing_model()) as driver:
        await driver.feed(driver.names.visits, [None], [encode_visits(heartbeat)])
        assert driver.students(0).ticks == Ticks(100, 100)
        assert [(row.key, row.value) for row in driver.topics[driver.names.cohorts]] == [
            (cohort_keys.reached_key(0), b"100")
        ]


def test_ticks_are_stored() -> None:
    assert ticks.unpack(None) is None
    assert ticks.unpack(ticks.pack(Ticks(16_000, -3))) == Ticks(16_000, -3)
    damaged = bytearray(ticks.pack(Ticks(1, 2)))
    damaged[9] ^= 1
    with pytest.raises(StateError):
        ticks.unpack(bytes(damaged))
    with pytest.raises(StateError):
        ticks.unpack(pack_words(ticks.VERSION, np.zeros(2, np.int64)))
    with pytest.raises(NewerState):
        ticks.unpack(pack_words(ticks.VERSION + 1, np.zeros(3, np.int64)))


def early(rows: Sequence[tuple[int, int, int, bool, int, int]]) -> EarlyEvents:
    """Owner, course, day, whether it is a submission, event time, tick."""
    owner, course, day, submission, at, tick = np.array(rows, np.int64).reshape(-1, 6).T
    return EarlyEvents(Events(owner, course, day, submission.astype(np.bool_)), at, tick)


def listed(events: EarlyEvents) -> list[tuple[int, ...]]:
    kinds = events.events
    columns: list[Int64s] = [kinds.owner, kinds.course, kinds.day, kinds.submission.astype(np.int64), events.at]
    return [tuple(row) for row in np.stack([*columns, events.tick], axis=1).tolist()]


EVENTS = st.tuples(
    st.integers(0, 3), st.sampled_from([0, 5, 2**40]), st.integers(-5, 5), st.booleans(), st.integers(0, 2**50),
    st.integers(-9, 30_000),
)  # fmt: skip


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(EVENTS), st.integers(0, 9))
def test_early_events_are_stored(rows: list[tuple[int, int, int, bool, int, int]], cut: int) -> None:
    """In the order of arrival, the first of equal ones, whatever comes together."""
    stored: list[bytes | None] = [None] * 4
    for part in (rows[:cut], rows[cut:]):
        arrived = early(sorted(part, key=lambda row: row[0]))
        stored = early_events.pack(early_events.join(early_events.unpack(stored), arrived), 4)
    assert [record is None for record in stored] == [not any(row[0] == owner for row in rows) for owner in range(4)]
    first: dict[tuple[int, ...], tuple[int, ...]] = {}
    for row in sorted(rows, key=lambda row: row[0]):
        first.setdefault(row[:4], row)
    assert listed(early_events.unpack(stored)) == list(first.values())


def test_a_damaged_record_of_early_events_is_refused() -> None:
    (record,) = early_events.pack(early([(0, 5, 16_000, True, 7, 15_998)]), 1)
    assert record is not None
    with pytest.raises(StateError):
        early_events.unpack([record[:-1] + b"\7"])
    with pytest.raises(StateError):
        early_events.unpack([pack_words(early_events.VERSION, np.zeros(2, np.int64))])
    keys = early_events.keys_of(np.array([7, 2**40]))
    assert early_events.students_of(keys).tolist() == [7, 2**40]
    assert all(map(early_events.is_key, keys))
    assert not any(map(early_events.is_key, (b"7", b"front", b"ticks", b"ids 12345")))


def sums(course: int, entries: int) -> Cohorts:
    """One cohort of a course."""
    none = Cohorts.none()
    table, counts = np.zeros((1, 4), np.int64), np.zeros((1, none.counts.shape[1]), np.int32)
    table[0, 0] = entries
    return Cohorts(np.array([course]), np.array([2_300]), table, counts, none.waiting)


async def test_sums_are_complete_when_all_partitions_have_reached_the_day() -> None:
    """They are followed by the day that is reached; those of other partitions and earlier days do not count."""
    followed = CohortSums(Settings(), 2)
    for partition, course in ((0, 5), (1, 5)):
        for i, piece in enumerate(encode(sums(course, 3 + partition))):
            followed.apply(cohort_keys.sums_key(100, partition, i), piece)
    assert not followed.are_complete(100)
    followed.apply(cohort_keys.reached_key(0), b"100")
    followed.apply(cohort_keys.reached_key(1), b"99")
    assert not followed.are_complete(100)
    followed.apply(cohort_keys.reached_key(1), b"101")
    assert followed.are_complete(100)
    assert not followed.are_complete(101)
    tables = await followed.tables([99, 100])
    assert tables[100].sums[:, 0].tolist() == [7]
    assert not len(tables[99])


def test_sums_are_removed_when_all_partitions_have_scored_their_days() -> None:
    """A partition writes sums only when it has scored those before: what it had reached, everybody may forget."""
    followed = CohortSums(Settings(), 2)
    for day in (90, 99, 100):
        for partition in (0, 1):
            followed.apply(cohort_keys.sums_key(day, partition, 0), b"sums")
    for partition, day in ((0, 100), (1, 90), (0, 132), (1, 90)):
        followed.apply(cohort_keys.reached_key(partition), b"%d" % day)
    assert followed.outdated(0) == []  # of partition 1 it is not known
    followed.apply(cohort_keys.reached_key(1), b"98")
    assert followed.outdated(0) == []  # partition 1 has scored day 90, and may need those before
    followed.apply(cohort_keys.reached_key(1), b"120")
    assert followed.outdated(0) == [cohort_keys.sums_key(90, 0, 0)]
    followed.apply(cohort_keys.sums_key(90, 0, 0), None)
    assert followed.outdated(0) == []
    assert followed.outdated(1) == [cohort_keys.sums_key(90, 1, 0)]


async def test_a_wait_for_sums_ends_soon_for_the_caller_to_look_again() -> None:
    followed = CohortSums(Settings(), 1)
    assert not await followed.wait(100)
    followed.apply(cohort_keys.reached_key(0), b"100")
    assert await followed.wait(100)
