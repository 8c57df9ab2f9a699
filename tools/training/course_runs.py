"""Course runs: the counted events of one course, and what became of its students."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from models import activity as activities
from models.activity import Activity, Added, Events
from models.days import LocalDays
from models.rules import Bools, Int64s
from tools.training.counted_log import CountedLog
from tools.training.outcomes import FAR, Outcomes

#: without a start, landmarks are counted from the first day with so many students
STARTING_STUDENTS = 20


@dataclass(frozen=True)
class CourseRun:
    """A course with n counted events, of m students."""

    course: int
    name: str
    #: ascending [m]; also students without an outcome, who are peers too
    student: Int64s
    #: index of each event's student [n], in arrival order
    owner: Int64s
    #: local day of each event [n]
    day: Int64s
    submission: Bools
    #: stream time at each event [n] ms
    stream_time: Int64s
    #: all rows of these students in the course, counted or not: index of the student, and event time [v]
    visit_owner: Int64s
    visit_at: Int64s
    #: whether each student ended withdrawn or failed; not for those without an outcome [m]
    lost: Bools
    #: whether each student has an outcome [m]
    known: Bools
    #: first and last day of the enrolment [m]
    registered: Int64s
    last: Int64s
    #: whether each student withdrew on a known day [m]
    withdrawn: Bools
    #: day 0 of the landmarks
    start: int
    days: LocalDays
    #: number of outcomes of students without any counted event
    never_seen: int

    @cached_property
    def first_day(self) -> int:
        """The first day with an event."""
        return int(self.day.min())

    @cached_property
    def last_day(self) -> int:
        """The last day with an event."""
        return int(self.day.max())

    @property
    def has_submissions(self) -> bool:
        """Whether any event is a submission."""
        return bool(self.submission.any())

    def enrolled(self, day: int) -> Bools:
        """Which students have an outcome and are enrolled at the end of `day` [m]."""
        return self.known & (self.registered <= day) & (self.last >= day)

    def landmarks(self, days: range) -> list[int]:
        """The days of weekly looks: `days` after the start, as far as the log goes."""
        return [self.start + day for day in days if self.start + day <= self.last_day]


def cut(log: CountedLog, outcomes: Outcomes, days: LocalDays) -> list[CourseRun]:
    """Cut the log into the courses that have outcomes and events."""
    counts, submissions, stream_time = log.counts, log.submissions, log.stream_time
    is_visit, day = log.visits, days.of(log.at)
    by_course = np.argsort(log.course, kind="stable")
    ordered = log.course[by_course]
    runs = []
    for course in outcomes.courses:
        here = by_course[np.searchsorted(ordered, course) : np.searchsorted(ordered, course, side="right")]
        rows = here[counts[here]]
        if not len(rows):
            continue
        student, owner = np.unique(log.student[rows], return_inverse=True)
        of = outcomes.of_course(course)
        index = np.searchsorted(student, of.student)
        seen = (index < len(student)) & (student[np.minimum(index, len(student) - 1)] == of.student)
        index, of_seen = index[seen], of.take(seen)
        visits = here[is_visit[here]]
        visits = visits[np.isin(log.student[visits], student)]

        def spread(values: Int64s, otherwise: int, index: Int64s = index, m: int = len(student)) -> Int64s:
            column = np.full(m, otherwise, np.int64)
            column[index] = values
            return column

        runs.append(
            CourseRun(
                course=course,
                name=outcomes.name(course),
                student=student,
                owner=owner,
                day=day[rows],
                submission=submissions[rows],
                stream_time=stream_time[rows],
                visit_owner=np.searchsorted(student, log.student[visits]),
                visit_at=log.at[visits],
                lost=spread(of_seen.lost.astype(np.int64), 0) > 0,
                known=spread(np.ones(len(index), np.int64), 0) > 0,
                registered=spread(of_seen.registered, FAR),
                last=spread(of_seen.last, -FAR),
                withdrawn=spread(of_seen.withdrawn.astype(np.int64), 0) > 0,
                start=outcomes.start.get(course, _first_busy_day(owner, day[rows])),
                days=days,
                never_seen=int((~seen).sum()),
            )
        )
    return runs


def _first_busy_day(owner: Int64s, day: Int64s) -> int:
    """The first day on which STARTING_STUDENTS are active; if there is none, the first day."""
    low = int(day.min())
    pairs = np.unique((day - low) * (int(owner.max()) + 1) + owner) // (int(owner.max()) + 1)
    busy = np.flatnonzero(np.bincount(pairs) >= STARTING_STUDENTS)
    return low + (int(busy[0]) if len(busy) else 0)


def walk(run: CourseRun, last_day: int, *, forget_days: int) -> Iterator[tuple[int, Added]]:
    """Yield each day from the first to `last_day`, and the activity after all events up to its end by stream time."""
    activity, stop = Activity.none(), 0
    for day in range(run.first_day, last_day + 1):
        start, stop = stop, int(np.searchsorted(run.stream_time, run.days.start(day + 1)))
        part = slice(start, stop)
        course = np.full(stop - start, run.course, np.int64)
        events = Events(run.owner[part], course, run.day[part], run.submission[part])
        added = activities.add(activity, events, forget_days=forget_days)
        activity = added.activity
        yield day, added
