"""Local days, one at a time."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

#: time after the end of a day until which its rows are awaited [ms]
GRACE_MS = 24 * 3_600_000
_EPOCH = date(1970, 1, 1).toordinal()
#: no day begins within one of these [ms]
_QUARTER_MS = 900_000
#: how far before the midnight of UTC a day may begin somewhere, at least
_EARLIEST = timedelta(hours=16)


class Calendar:
    """The days of one time zone, by their number since 1970-01-01."""

    def __init__(self, zone: str) -> None:
        """zone: of the IANA database."""
        self._zone = ZoneInfo(zone)
        self.start = cache(self._start)
        self.table_day = cache(self._table_day)
        self._day_of_quarter = cache(self._day_of)

    def day_of(self, at: int) -> int:
        """Return the day of the moment `at` [epoch ms]."""
        return self._day_of_quarter(at // _QUARTER_MS * _QUARTER_MS)

    def _day_of(self, at: int) -> int:
        moment = datetime.fromtimestamp(at // 1000, UTC).astimezone(self._zone)
        return moment.date().toordinal() - _EPOCH

    def _start(self, day: int) -> int:
        """Return the first millisecond of a day, found by looking at each minute."""
        moment = datetime.combine(date.fromordinal(day + _EPOCH), datetime.min.time(), UTC) - _EARLIEST
        while moment.astimezone(self._zone).date().toordinal() - _EPOCH < day:
            moment += timedelta(minutes=1)
        return round(moment.timestamp()) * 1000

    def tick_at(self, day: int) -> int:
        """Return the stream time from which a day is final [epoch ms]: its end and 24 h."""
        return self.start(day + 1) + GRACE_MS

    def last_tick(self, at: int) -> int:
        """Return the latest day that is final at stream time `at` [epoch ms]."""
        day = self.day_of(at)
        while self.tick_at(day) > at:
            day -= 1
        return day

    def _table_day(self, day: int) -> int:
        """Return the day whose cohort sums the events of a day are measured against."""
        return self.last_tick(self.start(day))

    @staticmethod
    def text(day: int) -> str:
        """Return a day as in the rows, such as 2013-11-25."""
        return date.fromordinal(day + _EPOCH).isoformat()

    @staticmethod
    def parse(text: str) -> int:
        """Return the day of such a text."""
        return date.fromisoformat(text).toordinal() - _EPOCH
