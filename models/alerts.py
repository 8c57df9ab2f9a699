"""Alerts: opened after some ticks in a row with a high risk, closed after as many with a low one, or when gone.

With a weekly budget, an entry that is due for an alert waits in line: the highest risk first. The line of a tick is
that of all partitions as it stood before the tick, so the outcome is the same over any division into partitions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

from models.activity import Activity
from models.assessment import Assessment, Band, is_settled
from models.cohorts import Waiting, merge
from models.figures import Figures
from models.grouped import group_starts
from models.rules import Bools, Int64s
from models.standing import StandingModel

#: length of the week of a budget [days], the tick's day included
_WEEK = 7


class Why(IntEnum):
    """Why an alert was opened or closed."""

    RISK = 0
    GONE = 1
    FORGOTTEN = 2
    ERASED = 3


@dataclass(frozen=True, slots=True)
class Advanced:
    """The effect of a tick on alerts."""

    activity: Activity
    #: whose alert was opened, and whose was closed [m]
    opened: Bools
    closed: Bools
    #: why [m], values of Why; of no meaning where nothing was opened or closed
    why: Int64s


def advance(
    model: StandingModel,
    activity: Activity,
    assessment: Assessment,
    day: int,
    *,
    students: Int64s,
    waiting: Waiting | None = None,
    budget: int = 0,
) -> Advanced:
    """Advance the alerts of the entries [m] by the tick of `day`.

    assessment [m]: as of `day`; students [u]: ids of the owners; waiting: of all partitions, from the cohorts of this
    tick; budget: of new alerts per course and week, 0: no limit. Entries that do not exist as of `day` stay as they
    are. A tick without a risk breaks a row.
    """
    rule, seen = model.alerts, assessment.figures.seen
    with np.errstate(invalid="ignore"):
        high = (assessment.risk >= rule.on) & is_settled(model, activity, day)
        low = assessment.risk < rule.off
    gone = assessment.band == Band.GONE
    # no further than needed: records that do not change are not written
    above = np.where(high, np.minimum(activity.above + 1, rule.ticks), 0)
    below = np.where(low & activity.alert, np.minimum(activity.below + 1, rule.ticks), 0)
    opened = seen & ~activity.alert & (above >= rule.ticks)
    if budget:
        opened &= _admitted(activity, students, waiting or Waiting.none(), budget)
    closed = seen & activity.alert & (gone | (below >= rule.ticks))
    advanced = replace(
        activity,
        above=np.where(seen, above, activity.above),
        below=np.where(seen, below, activity.below),
        alert=(activity.alert | opened) & ~closed,
        opened=np.where(opened, day, activity.opened),
    )
    return Advanced(advanced, opened, closed, np.where(gone, Why.GONE, Why.RISK).astype(np.int64))


def waiting(
    model: StandingModel, activity: Activity, figures: Figures, day: int, *, students: Int64s, budget: int
) -> Waiting:
    """The entries [m] in line for an alert before the tick of `day`, and the number of alerts opened in its week.

    In line is an entry without an alert that has been high on all the ticks before that it needs. First is the highest
    risk as of the latest tick that had news of it; equal ones are in the order of a hash of the student.
    """
    if not budget:
        return Waiting.none()
    rows = np.flatnonzero(figures.seen & ~activity.alert & (activity.above >= model.alerts.ticks - 1))
    opened = activity.course[figures.seen & (activity.opened > day - _WEEK)]
    line = activity.take(rows)
    ones = np.ones(len(opened), np.int64)
    return merge([Waiting(line.course, _rank(line, students), opened, ones)], budget)


def _rank(activity: Activity, students: Int64s) -> Int64s:
    """The place in line of each entry [m]: the risk, then 16 bits of a hash of the student."""
    hashed = (students[activity.owner].astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(48)
    return np.maximum(activity.tick_risk, 0) << 16 | hashed.astype(np.int64)


def _admitted(activity: Activity, students: Int64s, waiting: Waiting, budget: int) -> Bools:
    """Whether each entry [m] is in line early enough for what is left of the budget of its course."""
    rank = _rank(activity, students)
    courses = waiting.course[group_starts(waiting.course)]
    if not len(courses):
        return np.zeros(len(activity), np.bool_)
    starts = np.flatnonzero(group_starts(waiting.course))
    size = np.diff(np.append(starts, len(waiting.course)))
    left = np.full(len(courses), budget, np.int64)
    known = np.isin(courses, waiting.opened_course)
    left[known] -= waiting.opened[np.searchsorted(waiting.opened_course, courses[known])]
    left = np.clip(left, 0, size)
    lowest = np.where(left > 0, waiting.rank[starts + np.maximum(left, 1) - 1], np.iinfo(np.int64).max)
    index = np.minimum(np.searchsorted(courses, activity.course), len(courses) - 1)
    admitted: Bools = (courses[index] == activity.course) & (rank >= lowest[index])
    return admitted
