"""What a standing model says of each student at the end of each day, by the rules that the worker applies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from models import cohorts
from models.activity import Activity
from models.alerts import advance
from models.assessment import Assessment, Band, Code, assess, explain, figures_for, is_news
from models.cohorts import Cohorts
from models.rules import Bools, Float64s, Int64s
from models.standing import StandingModel
from tools.training.course_runs import CourseRun, walk
from tools.training.looks import tick

#: a cell for each day and student [d, m]
Risks: TypeAlias = npt.NDArray[np.float32]
Codes: TypeAlias = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Scored:
    """The students [m] of a course run at the end of each of its days [d], from the first."""

    run: CourseRun
    #: the probability by the tick of the day before [d, m], whatever the band; nan: not seen yet, or too few peers
    risk: Risks
    #: the risk published last [d, m]; nan for GONE and UNKNOWN
    published: Risks
    #: the risk that would have been published last if there were events only [d, m]
    by_events: Risks
    #: the band published last [d, m], values of Band; -1: none
    band: Codes
    #: whether an alert is open [d, m]
    alert: Bools
    #: days since the last visit as of the day before [d, m], -1: not seen yet
    silent: Codes
    #: alerts opened: day of the look, counted from the first, and index of the student [a]
    opened_day: Int64s
    opened: Int64s
    #: whether VISITS, and whether SUBMISSIONS, is a reason for the risk of the tick [d, m]
    visits_reason: Bools
    submissions_reason: Bools

    def at(self, day: int) -> int:
        """The row of a local day."""
        return day - self.run.first_day


def score(run: CourseRun, model: StandingModel, *, budget: int = 0) -> Scored:
    """Score a course run day by day, as a worker does that gets the log at its pace."""
    d, m, rule = run.last_day - run.first_day + 1, len(run.student), model.cohort
    risk, published, by_events = (np.full((d, m), np.nan, np.float32) for _ in range(3))
    band, silent = np.full((d, m), -1, np.int8), np.full((d, m), -1, np.int8)
    alert, visits_reason, submissions_reason = (np.zeros((d, m), np.bool_) for _ in range(3))
    opened: list[Int64s] = []
    opened_day: list[Int64s] = []
    # before the first tick, there are no peers
    tables = {run.first_day - 2: cohorts.tabulate(Cohorts.none(), rule)}
    kept = Activity.none()
    for i, (day, added) in enumerate(walk(run, run.last_day, forget_days=rule.forget_days)):
        if i:
            for cells in (published, by_events, band):
                cells[i] = cells[i - 1]
        # `walk` knows the days; risk, band and alerts of the entries are ours
        activity = _with_alerts(added.activity, kept)
        before = tables.pop(day - 2)
        if len(added.activity):
            rows = np.flatnonzero(added.changed)
            entries = activity.take(rows)
            newest = entries.newest
            figures = figures_for(model, entries, newest)
            assessment = assess(model, entries, figures, cohorts.peers(before, entries.course, entries.first), newest)
            owner = entries.owner
            published[i, owner], band[i, owner] = assessment.risk, assessment.band
            by_events[i, owner] = assessment.risk
        table, figures = tick(activity, day - 1, rule, model.half_life_days)
        tables[day - 1] = table
        assessment = assess(model, activity, figures, cohorts.peers(table, activity.course, activity.first), day - 1)
        advanced = advance(model, activity, assessment, day - 1, students=run.student, budget=budget)
        activity, owner = advanced.activity, activity.owner
        news = figures.seen & is_news(model, activity, assessment)
        # an entry with a visit on this day stays as of this day
        final = figures.seen & (activity.newest < day)
        final &= news | advanced.opened | advanced.closed | (activity.newest == day - 1)
        kept = replace(
            activity,
            tick_risk=np.where(news, assessment.units, activity.tick_risk),
            tick_band=np.where(news, assessment.band, activity.tick_band),
        )
        published[i, owner[final]], band[i, owner[final]] = assessment.risk[final], assessment.band[final]
        known = figures.seen & (assessment.peers.n >= rule.minimum)
        risk[i, owner[known]] = _probability(model, assessment)[known]
        silent[i, owner[figures.seen]] = figures.silent[figures.seen]
        alert[i, owner] = activity.alert
        opened.append(owner[advanced.opened])
        opened_day.append(np.full(int(advanced.opened.sum()), i))
        codes = explain(model, assessment).code
        visits_reason[i, owner] = (codes == Code.VISITS).any(1)
        submissions_reason[i, owner] = (codes == Code.SUBMISSIONS).any(1)
    return Scored(
        run, risk, published, by_events, band, alert, silent,
        np.concatenate(opened_day), np.concatenate(opened), visits_reason, submissions_reason,
    )  # fmt: skip


def _with_alerts(activity: Activity, kept: Activity) -> Activity:
    """The entries of `activity` with what was published of them, and their alerts, as in `kept`.

    There is one entry for each student, and none is lost.
    """
    index = np.searchsorted(activity.owner, kept.owner)
    columns = {}
    for name in ("above", "below", "alert", "opened", "tick_risk", "tick_band"):
        column = getattr(activity, name).copy()
        column[index] = getattr(kept, name)
        columns[name] = column
    return replace(activity, **columns)


def _probability(model: StandingModel, assessment: Assessment) -> Float64s:
    """The probability by the model, also of students in the band GONE [m]."""
    logit = model.intercept + model.base_shift + assessment.visits_weight + assessment.submissions_weight
    probability: Float64s = 0.5 * (1.0 + np.tanh(0.5 * logit))
    return np.where(assessment.band == Band.GONE, probability, np.nan_to_num(assessment.risk, nan=np.nan))
