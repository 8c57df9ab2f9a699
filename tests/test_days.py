"""Local days: against the standard library's calendar, over clock changes and at the ends of the range."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.days import DAY_MS, FIRST_DAY, LAST_DAY, MAX_BEHIND_MS, LocalDays
from tests.support.effort import examples

#: clock changes of an hour, at midnight, of half an hour, a minute after midnight; a day that was skipped; none
ZONES = [
    *("Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "America/St_Johns", "Pacific/Apia", "UTC"),
    *("Africa/Casablanca", "Asia/Kathmandu"),
]
DAYS = {name: LocalDays(ZoneInfo(name)) for name in ZONES}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
times = st.integers(-(2**41), 2**43) | st.builds(
    lambda hour, ms: hour * 3_600_000 + ms, st.integers(0, 600_000), st.sampled_from([-1, 0, 1, 59_999, 60_000])
)


def calendar_day(zone: str, at: int) -> int:
    local = (EPOCH + timedelta(milliseconds=at)).astimezone(ZoneInfo(zone))
    return (local.date() - date(1970, 1, 1)).days


@pytest.mark.parametrize("zone", ZONES)
@settings(max_examples=examples(300), deadline=None)
@given(at=st.lists(times, min_size=1, max_size=20))
def test_a_day_is_the_date_on_the_wall_clock(zone: str, at: list[int]) -> None:
    """All times of a batch at once, whatever the clock changes between them."""
    assert DAYS[zone].of(np.array(at, np.int64)).tolist() == [calendar_day(zone, ms) for ms in at]


@pytest.mark.parametrize("zone", ZONES)
@settings(max_examples=examples(300), deadline=None)
@given(day=st.integers(-20_000, 60_000) | st.integers(12_000, 16_000))
def test_a_day_starts_at_its_first_ms(zone: str, day: int) -> None:
    """The ms before belongs to an earlier day; a day that was skipped starts with the next one."""
    start = DAYS[zone].start(day)
    assert calendar_day(zone, start - 1) < day <= calendar_day(zone, start)
    assert calendar_day(zone, start) == day or (zone, DAYS[zone].date(day)) == ("Pacific/Apia", "2011-12-30")


def test_a_day_that_begins_twice() -> None:
    """In St John's the clock went back at 00:01: for a minute it was Sunday, then Saturday again."""
    days = DAYS["America/St_Johns"]
    sunday = days.of(np.array([int(datetime(2009, 11, 1, 12, tzinfo=UTC).timestamp()) * 1000]))[0]
    start = days.start(int(sunday))
    assert days.of(start + np.array([-1, 0, 59_999, 60_000, 3_600_000])).tolist() == [
        sunday - 1, sunday, sunday, sunday - 1, sunday,
    ]  # fmt: skip


@pytest.mark.parametrize("zone", ZONES)
@settings(max_examples=examples(200), deadline=None)
@given(at=times, day=st.integers(12_000, 16_000))
def test_ticks(zone: str, at: int, day: int) -> None:
    """A tick is due a day after the end of its day; the last one due, and the one due when a day begins."""
    days = DAYS[zone]
    assert days.tick_at(day) == days.start(day + 1) + MAX_BEHIND_MS
    last = days.last_tick(at)
    assert days.tick_at(last) <= at < days.tick_at(last + 1)
    assert days.last_tick(days.tick_at(day)) - day in (0, 1)  # 1: the day after was skipped
    assert days.last_tick(days.tick_at(day) - 1) < day
    assert days.table_day(day) == days.last_tick(days.start(day))
    assert 2 <= day - days.table_day(day) <= 3


def test_times_without_a_date_count_as_of_the_ends_of_the_range() -> None:
    """An event time may be any 64-bit number."""
    at = np.array([-(2**63), FIRST_DAY * DAY_MS - 1, LAST_DAY * DAY_MS + DAY_MS * 10, 2**63 - 1])
    assert DAYS["UTC"].of(at).tolist() == [FIRST_DAY, FIRST_DAY, LAST_DAY, LAST_DAY]
    for days in DAYS.values():
        assert days.last_tick(2**63 - 1) <= LAST_DAY
        assert days.last_tick(-(2**63)) >= FIRST_DAY - 3
        assert days.date(int(days.of(at)[-1]))


def test_dates() -> None:
    assert [LocalDays.date(day) for day in (0, -1, 16_034)] == ["1970-01-01", "1969-12-31", "2013-11-25"]
    assert DAYS["Europe/Berlin"].of(np.empty(0, np.int64)).tolist() == []
