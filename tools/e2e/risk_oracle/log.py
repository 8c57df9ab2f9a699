"""From the rows of Moodle's log to the days on which a student visited a course or handed something in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tools.e2e.risk_oracle.days import GRACE_MS, Calendar

#: student, course
Key = tuple[int, int]


class LogRow(NamedTuple):
    """The columns of mdl_logstore_standard_log that matter; None: null, or the log has no such column."""

    id: int
    userid: int | None
    courseid: int | None
    eventname: str | None
    relateduserid: int | None
    realuserid: int | None
    anonymous: int | None
    origin: str | None
    #: timecreated [epoch ms]
    at: int


@dataclass(frozen=True, slots=True)
class Counting:
    """Which rows count, and for whom."""

    submission_events: Collection[str]
    ignored_users: Collection[int] = (1,)
    per_course: bool = True

    def marks(self, row: LogRow, *, refused: bool = False) -> Iterator[tuple[Key, bool]]:
        """Yield (student, course) of each visit in a row, and whether it is a submission.

        refused: whether KSQL refuses the visit as late, which is that of the row's own user.
        """
        if row.realuserid is not None or row.anonymous or row.origin not in (None, "web", "ws"):
            return
        course = max(row.courseid or 0, 0) if self.per_course else 0
        submission = row.eventname in self.submission_events
        for_other = submission and (row.relateduserid or 0) > 0 and row.relateduserid != row.userid
        if self._is_student(row.userid) and not refused:
            yield (row.userid or 0, course), submission and not for_other
        if for_other and self._is_student(row.relateduserid):
            yield (row.relateduserid or 0, course), True

    def _is_student(self, user: int | None) -> bool:
        return user is not None and user > 0 and user not in self.ignored_users


class Mark(NamedTuple):
    """A day bit that was set."""

    #: index of the row that set it
    row: int
    day: int
    submission: bool


@dataclass(slots=True)
class Spell:
    """What is kept of a (student, course) from its first day, or its first after a long silence. Mutable."""

    #: index of the row with which it begins
    begin: int
    visits: set[int] = field(default_factory=set)
    submissions: set[int] = field(default_factory=set)
    #: the bits in the order in which they were set
    marks: list[Mark] = field(default_factory=list)
    #: the first and the newest day with a visit
    first: int = 10**9
    newest: int = -(10**9)

    def add(self, index: int, day: int, submission: bool) -> None:
        """Set the bits of an event."""
        if day not in self.visits:
            self.visits.add(day)
            self.first, self.newest = min(self.first, day), max(self.newest, day)
            self.marks.append(Mark(index, day, False))
        if submission and day not in self.submissions:
            self.submissions.add(day)
            self.marks.append(Mark(index, day, True))


@dataclass(frozen=True, slots=True)
class History:
    """The days of all students, and when which tick was due."""

    spells: Mapping[Key, Sequence[Spell]]
    #: day → index of the row before which its tick comes; the number of rows, if it comes behind them
    cuts: Mapping[int, int]


def read(
    rows: Sequence[LogRow],
    counting: Counting,
    calendar: Calendar,
    forget_days: int,
    *,
    refused: Collection[int] = (),
) -> History:
    """Read the rows in the order of arrival; refused: indices of those that KSQL refuses as late.

    Stream time is the largest time so far. A row more than 24 h behind it sets no bit.
    """
    spells: defaultdict[Key, list[Spell]] = defaultdict(list)
    cuts: dict[int, int] = {}
    stream_time = last = None
    for i, row in enumerate(rows):
        if stream_time is None or row.at > stream_time:
            stream_time = row.at
            if last is None:
                last = calendar.last_tick(stream_time)
            while calendar.tick_at(last + 1) <= stream_time:
                last += 1
                cuts[last] = i
        if row.at < stream_time - GRACE_MS:
            continue
        day = calendar.day_of(row.at)
        for key, submission in counting.marks(row, refused=i in refused):
            mine = spells[key]
            if not mine or day - mine[-1].newest > forget_days:
                mine.append(Spell(i))
            mine[-1].add(i, day, submission)
    return History(dict(spells), cuts)
