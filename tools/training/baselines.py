"""What a standing model is compared with: the totals model, and plain silence."""

from __future__ import annotations

import numpy as np

from models.risk import RiskModel
from models.rules import NEVER
from models.sessions import Sessions
from models.totals import Totals, roll_up
from models.windowing import apply
from tools.training.course_runs import CourseRun
from tools.training.scored import Risks, Scored


def totals_risk(run: CourseRun, model: RiskModel) -> Risks:
    """The score of the totals model of each student at the end of each day [d, m], nan before the first event.

    It changes with a student's events only: that is all that the model sees.
    """
    m, stream_time = len(run.student), np.maximum.accumulate(run.visit_at)
    before = np.append(NEVER, stream_time[:-1])
    totals, sessions, stop, rows = Totals.zero(m), Sessions.none(), 0, []
    for day in range(run.first_day, run.last_day + 1):
        start, stop = stop, int(np.searchsorted(stream_time, run.days.start(day + 1)))
        part = slice(start, stop)
        if stop > start:
            owner = run.visit_owner[part]
            # a student without events on this day has no session that a later event could extend
            open_sessions = sessions.take(np.isin(sessions.owner, owner))
            time = int(stream_time[stop - 1])
            step = apply(open_sessions, owner, run.visit_at[part], before[part], time, emit_every_change=False)
            totals = roll_up(totals, step.changes, emit_every_change=False).totals
            sessions = step.sessions
        risk = model.score(totals.activities, totals.duration, totals.sessions)
        rows.append(np.where(totals.sessions > 0, risk, np.nan))
    return np.array(rows, np.float32)


def silence(scored: Scored) -> Risks:
    """Days without a visit of each student at the end of each day [d, m], nan before the first event."""
    return np.where(scored.silent >= 0, scored.silent, np.nan).astype(np.float32)
