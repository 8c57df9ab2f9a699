"""Training examples: each student's totals at weekly landmarks, and the final result.

The totals are computed from the replayed log with the app's own session algebra, because a model that is
served on 15-minute sessions must be trained on them. End-of-course totals would be leakage: students who
left early have small ones. Students without any event have no roll-up row, and so no score: they are left
out of training, and included in the metrics named "registered".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.rules import NEVER, Bools, Int64s
from models.sessions import Sessions
from models.totals import Totals, roll_up
from models.windowing import apply
from tools.replay import oulad

#: days at whose end the totals are taken
DAYS = range(14, 113, 7)


@dataclass(frozen=True)
class Landmarks:
    """n examples: a student's totals up to a landmark day, and the final result."""

    activities: Int64s
    #: mean length of the sessions [n] s
    duration: Int64s
    sessions: Int64s
    #: whether the enrolment ended in Withdrawn or Fail [n]
    unsuccessful: Bools

    def __len__(self) -> int:
        return len(self.unsuccessful)

    def take(self, rows: Bools) -> Landmarks:
        """Return the examples at `rows`."""
        return Landmarks(self.activities[rows], self.duration[rows], self.sessions[rows], self.unsuccessful[rows])

    @property
    def scored(self) -> Landmarks:
        """The examples of students with at least one session."""
        return self.take(self.sessions > 0)


def load_landmarks(names: tuple[str, ...], *, seed: int = 1, days: range = DAYS) -> Landmarks:
    """Return the examples of all students registered at the end of each of `days`, in each presentation."""
    parts = [
        part
        for presentation in oulad.select_presentations(names)
        for part in _of_presentation(presentation, seed, days)
    ]
    return Landmarks(*(np.concatenate([vars(part)[column] for part in parts]) for column in vars(parts[0])))


def _of_presentation(presentation: oulad.Presentation, seed: int, days: range) -> list[Landmarks]:
    """Return the examples of one presentation, a part for each day."""
    rows = oulad.generate([str(presentation)], seed=seed, last_day=days[-1], submissions=False)
    student, index = np.unique(rows.userid, return_inverse=True)
    enrolments = oulad.load_enrolments()
    before = np.append(NEVER, rows.written[:-1])
    totals, sessions, start, parts = Totals.zero(len(student)), Sessions.none(), 0, []
    for day in days:
        stop = int(np.searchsorted(rows.written, presentation.midnight(day + 1)))
        part = slice(start, stop)
        # a student without events in this week has no session that a later event could extend
        open_sessions = sessions.take(np.isin(sessions.owner, index[part]))
        step = apply(
            open_sessions,
            index[part],
            rows.at[part],
            before[part],
            int(rows.written[stop - 1]),
            emit_every_change=False,
        )
        totals, sessions, start = roll_up(totals, step.changes, emit_every_change=False).totals, step.sessions, stop
        enrolled = enrolments.enrolled(presentation, day)
        row = np.minimum(np.searchsorted(student, enrolments.student[enrolled]), len(student) - 1)
        has_events = student[row] == enrolments.student[enrolled]
        columns = (totals.activities, totals.duration, totals.sessions)
        activities, duration, count = (np.where(has_events, column[row], 0) for column in columns)
        parts.append(Landmarks(activities, duration, count, enrolments.unsuccessful[enrolled]))
    return parts
