"""A log of months in courses, for the risk: a history, then the workload of a run in stretches with silence between.

The stretches are short and full, as `generate_workload` makes them. In the silence, which is days for everybody, as in
the holidays, event time passes: all its ticks are due with the next row. A stretch is sent when the one before has
arrived as a whole: a row from before the silence would be late after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from models.rules import Bools, Int64s
from tools.e2e.chaos.workload import HOUR, PACE_MS, START, generate_workload
from tools.e2e.risk_oracle.log import Counting, Key
from tools.e2e.risk_oracle.rows import log_rows
from tools.replay.log_rows import LogRows, Texts

DAY = 24 * HOUR
#: time zone of the students' days: its clocks change on 27 October 2013, a week of event time into the run
ZONE = "Europe/Berlin"
#: length of the history, whose first students are forgotten during the run, and number of its rows
HISTORY_DAYS, HISTORY_ROWS = 126, 60_000
#: number of students; the first one is the guest, who is ignored
STUDENTS = 500
#: length of a stretch [s]
STRETCH_S = 12.0
#: days of silence between stretches, in turn
SILENCES = (1, 3, 1, 2, 14, 1)
#: silences that no student ends [days]
_NO_RETURN = range(105, 150)
#: share of the generated rows of which the student is active
_ACTIVE = 0.33
COURSES = (5, 6, 7)
NAMES = (
    r"\core\event\course_viewed",
    r"\mod_assign\event\assessable_submitted",
    r"\mod_quiz\event\attempt_submitted",
)
ORIGINS = ("web", "ws", "cli")


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rows that are sent together."""

    #: index of the row behind the last one
    stop: int
    #: time in which they are sent [s]; 0: at once
    seconds: float


@dataclass(frozen=True, slots=True)
class CourseLog:
    """The rows, and how they are sent."""

    rows: LogRows
    stretches: Sequence[Stretch]


def generate_course_log(seed: int, rows: int, seconds: float, *, history_rows: int = HISTORY_ROWS) -> CourseLog:
    """Return a history and about `rows` rows to be sent in `seconds`; no row is late by a day."""
    rng = np.random.default_rng(seed)
    history = generate_workload(seed + 1, history_rows, 1.0, STUDENTS, {5_000: 1.0}, HISTORY_DAYS * DAY)
    live = generate_workload(seed, round(rows / _ACTIVE), seconds, STUDENTS)
    number = np.minimum((live.at - START) // round(STRETCH_S * PACE_MS), round(seconds / STRETCH_S))
    order = np.argsort(number, kind="stable")  # rows that were logged late stay in their stretch
    live, number = live.take(order), number[order]
    silence = np.cumsum([0, *(SILENCES[i % len(SILENCES)] for i in range(int(number.max(initial=0))))]) * DAY
    at = np.concatenate((history.at - (HISTORY_DAYS + 1) * DAY, live.at + silence[number]))
    userid = np.concatenate((history.userid, live.userid))
    part = np.concatenate((np.full(len(history), -1), number))
    kept = _is_active(rng, userid, (at - START) // DAY)
    at, userid, part = at[kept], userid[kept], part[kept]
    log = _with_columns(rng, userid, at)
    left = _without_returns(log)
    log, part = replace(log.take(left), id=np.arange(1, len(left) + 1)), part[left]
    stops = np.flatnonzero(np.append(part[1:] != part[:-1], True)) + 1
    stretches = [Stretch(int(stop), 0.0 if part[stop - 1] < 0 else STRETCH_S) for stop in stops.tolist()]
    return CourseLog(log, stretches)


def _is_active(rng: np.random.Generator, userid: Int64s, day: Int64s) -> Bools:
    """Whether each row is one of a day on which its student is active: some seldom are, and a third stops one day."""
    share = rng.beta(1.2, 1.2, STUDENTS + 1)
    first = -HISTORY_DAYS - 1
    stops = np.where(rng.random(STUDENTS + 1) < 0.35, rng.integers(first, 30, STUDENTS + 1), 10_000)
    stops[2:12] = first + 3
    # a student comes or does not come on a whole day
    drawn = ((userid * 0x9E3779B1 + day * 0x85EBCA6B) % 100_003) / 100_003
    active: Bools = (drawn < share[userid]) & (day <= stops[userid])
    return active


def _without_returns(rows: LogRows) -> Int64s:
    """Return the indices of the rows but those of students who come back about when they are forgotten.

    Whether an entry is forgotten then, or goes on, depends on the order in which the partitions of the log are read.
    """
    counting, newest, kept = Counting(NAMES[1:]), dict[Key, int](), []
    for i, row in enumerate(log_rows(rows)):
        keys = [key for key, _ in counting.marks(row)]
        silences = [row.at - newest.get(key, row.at) for key in keys]
        if not any(_NO_RETURN.start * DAY < silence < _NO_RETURN.stop * DAY for silence in silences):
            newest.update((key, max(row.at, newest.get(key, row.at))) for key in keys)
            kept.append(i)
    return np.array(kept, np.int64)


def _with_columns(rng: np.random.Generator, userid: Int64s, at: Int64s) -> LogRows:
    """The rows with all columns: submissions, some handed in by others, and a few rows that do not count."""
    n = len(at)

    def rarely(share: float) -> Bools:
        return rng.random(n) < share

    event = np.where(rarely(0.03), rng.integers(1, len(NAMES), n), 0)
    course = np.array(COURSES)[(userid + rarely(0.3)) % len(COURSES)]
    related = np.where(rarely(0.5), userid, rng.integers(2, STUDENTS + 1, n))
    nulls = {
        "courseid": rarely(0.02),
        "relateduserid": (event == 0) | rarely(0.7),
        "realuserid": ~rarely(0.01),
    }
    more = {"courseid": course, "relateduserid": related, "anonymous": rarely(0.01).astype(np.int64),
            "realuserid": np.full(n, 2)}  # fmt: skip
    more = {name: np.where(nulls[name], 0, column) if name in nulls else column for name, column in more.items()}
    origin = np.where(rarely(0.1), rng.integers(1, len(ORIGINS), n), 0)
    rows = LogRows(np.arange(1, n + 1), event, NAMES, userid, at, nulls, more)
    return replace(rows, origin=Texts(origin, ORIGINS))
