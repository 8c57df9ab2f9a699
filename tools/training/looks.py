"""Weekly looks: the figures of each student at the end of a day, as a tick has them, and what became of the student.

A tick of day D is due a day after its end, so at the end of a day the latest tick is that of the day before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np

from models import cohorts
from models.activity import Activity
from models.cohorts import CohortTable, Peers
from models.figures import Figures
from models.figures import figures as figures_of
from models.rules import Bools, Float64s, Int64s
from models.standing import ACT, SILENT, SUBMISSIONS, CohortRule
from tools.training.course_runs import CourseRun, walk

#: days after the start of a course at whose end there is a look
DAYS = range(14, 113, 7)


@dataclass(frozen=True)
class Looks:
    """n looks at students who are enrolled, have an outcome, and have enough peers."""

    #: index of the course run [n]
    run: Int64s
    student: Int64s
    #: days since the start of the course [n]
    day: Int64s
    #: figures minus their means among the peers [n]
    act: Float64s
    log1p_silent: Float64s
    submissions: Float64s
    #: days since the last visit [n]
    silent: Int64s
    #: whether the student ended withdrawn or failed [n]
    lost: Bools

    def __len__(self) -> int:
        return len(self.run)

    def take(self, rows: Int64s | Bools) -> Looks:
        """The looks at `rows`."""
        return Looks(*(getattr(self, f.name)[rows] for f in fields(self)))

    def matrix(self, features: Sequence[str]) -> Float64s:
        """The columns of `features` [n, k]."""
        columns = {ACT: self.act, SILENT: self.log1p_silent, SUBMISSIONS: self.submissions}
        return np.column_stack([columns[name] for name in features])

    @property
    def students(self) -> Int64s:
        """One number for each student in a run [n]."""
        return np.unique(np.column_stack((self.run, self.student)), axis=0, return_inverse=True)[1].reshape(-1)


def take_looks(
    runs: Sequence[CourseRun], rule: CohortRule, half_life_days: float, days: range = DAYS
) -> tuple[Looks, int]:
    """Return the looks at all `runs`, and the number of those without a score, for lack of peers."""
    parts, without = [], 0
    for i, run in enumerate(runs):
        for day, figures, peers, activity in ticks_at(run, run.landmarks(days), rule, half_life_days):
            owner = activity.owner
            asked = figures.seen & run.enrolled(day)[owner]
            scored = asked & (peers.n >= rule.minimum)
            without += int(asked.sum() - scored.sum())
            columns = (
                np.full(len(owner), i),
                run.student[owner],
                np.full(len(owner), day - run.start),
                figures.act - peers.act,
                np.log1p(figures.silent) - peers.log1p_silent,
                figures.submissions - peers.submissions,
                figures.silent,
                run.lost[owner],
            )
            parts.append([column[scored] for column in columns])
    if not parts:
        none = np.empty(0)
        parts = [[none.astype(np.int64)] * 3 + [none] * 3 + [none.astype(np.int64), none.astype(np.bool_)]]
    return Looks(*(np.concatenate(column) for column in zip(*parts, strict=True))), without


def ticks_at(
    run: CourseRun, wanted: Sequence[int], rule: CohortRule, half_life_days: float
) -> Iterator[tuple[int, Figures, Peers, Activity]]:
    """Yield, for each of the days `wanted`, figures and peers of the tick of the day before."""
    if not wanted:
        return
    days = set(wanted)
    for day, added in walk(run, max(days), forget_days=rule.forget_days):
        if day in days:
            table, figures = tick(added.activity, day - 1, rule, half_life_days)
            peers = cohorts.peers(table, added.activity.course, added.activity.first)
            yield day, figures, peers, added.activity


def tick(activity: Activity, day: int, rule: CohortRule, half_life_days: float) -> tuple[CohortTable, Figures]:
    """Return the cohorts and the figures as of `day`."""
    figures = figures_of(activity, day, half_life_days=half_life_days, forget_days=rule.forget_days)
    return cohorts.tabulate(cohorts.of(activity.course, activity.first, figures), rule), figures
