"""Train a standing model, and evaluate it on students that it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from app.errors import ConfigError
from app.model_file import WITHOUT_SUBMISSIONS, load
from models.rules import Int64s
from models.standing import CohortRule, StandingModel
from tools.training.baselines import silence, totals_risk
from tools.training.course_runs import CourseRun
from tools.training.evaluation import DAILY, EVENTS, SILENCE, V1, Compared
from tools.training.inputs import Input
from tools.training.looks import DAYS, Looks, take_looks
from tools.training.scored import Scored, score
from tools.training.standing import (
    HALF_LIFE_DAYS,
    WITH_SUBMISSIONS,
    WITHOUT,
    Origin,
    choose,
    fit_standing,
    folds,
)

#: of the shipped students: those that the shipped models were trained on, and those that they are evaluated on
TRAIN, TEST, SECOND_TEST = ("AAA-2013J", "BBB-2013B"), ("BBB-2013J",), ("AAA-2014J",)
FOLDS = 5


@dataclass(frozen=True)
class Trained:
    """A model, and course runs scored by models that were not trained on their students."""

    model: StandingModel
    compared: Sequence[Compared]
    #: one line each: how it was fitted, and how it was split
    fitted: str
    split: str


def train(data: Input, base: StandingModel, *, features: Sequence[str], test: Sequence[str], days: range) -> Trained:
    """Train on all runs but those of `test`; without any, on all of them, and evaluate by splitting.

    base: the model whose slopes are kept if there are too few outcomes. Raises ConfigError if nothing can be fitted.
    """
    if test:
        tested = data.named(test)
        runs = [run for run in data.runs if run not in tested]
        if not runs:
            raise ConfigError(f"--test {' '.join(test)}: no course is left to train on")
        model, fitted = _fit(data, runs, base, features, days)
        return Trained(model, [compare(run, model) for run in tested], fitted, f"tested on {_names(tested)}")
    model, fitted = _fit(data, data.runs, base, features, days)
    if len(data.runs) > 1:
        compared = [_left_out(data, run, base, features, days) for run in data.runs]
        return Trained(model, compared, fitted, f"each of {len(data.runs)} courses scored by a model of the others")
    run = data.runs[0]
    scored = _cross_validated(data, run, base, features, days)
    return Trained(model, [compare_with(scored)], fitted, f"{FOLDS} folds by student, in one course")


def _fit(
    data: Input, runs: Sequence[CourseRun], base: StandingModel, features: Sequence[str], days: range
) -> tuple[StandingModel, str]:
    looks, _ = take_looks(runs, base.cohort, HALF_LIFE_DAYS, days)
    if not len(looks):
        raise ConfigError(f"no student is enrolled, with enough peers, on any look in the days {days[0]} to {days[-1]}")
    return choose(looks, features, base, _origin(data, runs, looks, days))


def _left_out(data: Input, run: CourseRun, base: StandingModel, features: Sequence[str], days: range) -> Compared:
    others = [other for other in data.runs if other is not run]
    return compare(run, _fit(data, others, base, features, days)[0])


def _cross_validated(data: Input, run: CourseRun, base: StandingModel, features: Sequence[str], days: range) -> Scored:
    """The run, each student scored by a model of the students in other folds."""
    looks, _ = take_looks([run], base.cohort, HALF_LIFE_DAYS, days)
    fold, parts = folds(looks), []
    for k in range(FOLDS):
        part = looks.take(fold != k)
        model, _ = choose(part, features, base, _origin(data, [run], part, days))
        parts.append(score(run, model))
    students = replace(looks, student=run.student)
    return _columns(parts, folds(students, FOLDS))


def _columns(parts: Sequence[Scored], fold: Int64s) -> Scored:
    """The columns of students in fold k from `parts[k]`."""
    changed: dict[str, Any] = {}
    for name in (
        "risk", "published", "by_events", "band", "alert", "silent", "visits_reason", "submissions_reason"
    ):  # fmt: skip
        cells = getattr(parts[0], name).copy()
        for k, part in enumerate(parts):
            cells[:, fold == k] = getattr(part, name)[:, fold == k]
        changed[name] = cells
    own = [fold[part.opened] == k for k, part in enumerate(parts)]
    for name in ("opened_day", "opened"):
        changed[name] = np.concatenate([getattr(p, name)[rows] for p, rows in zip(parts, own, strict=True)])
    return replace(parts[0], **changed)


def compare(run: CourseRun, model: StandingModel, budget: int = 0) -> Compared:
    """Score a run by `model`, and by what it is compared with."""
    return compare_with(score(run, model, budget=budget))


def compare_with(scored: Scored) -> Compared:
    """Score the run of `scored` by what a model is compared with: its events alone, the totals model, and silence."""
    totals = load("v1")
    assert not isinstance(totals, StandingModel), "v1 is the totals model"
    return Compared(
        scored,
        {
            DAILY: scored.risk,
            EVENTS: scored.by_events,
            V1: totals_risk(scored.run, totals),
            SILENCE: silence(scored),
        },
    )


def train_shipped(data: Input, name: str) -> StandingModel:
    """Train a model that ships, on `TRAIN`; metrics are added later."""
    features = WITHOUT if name == WITHOUT_SUBMISSIONS else WITH_SUBMISSIONS
    runs = data.named(TRAIN)
    looks, _ = take_looks(runs, CohortRule(), HALF_LIFE_DAYS)
    return fit_standing(looks, features, _origin(data, runs, looks, DAYS))


def _origin(data: Input, runs: Sequence[CourseRun], looks: Looks, days: range) -> Origin:
    return Origin(
        data.submission_events,
        data.timezone,
        {
            "source": data.description,
            "population": "students enrolled at the look who had at least one event in the course, and enough peers",
            "looks": f"end of every 7th day from {days[0]} to {days[-1]}, by the tick of the day before",
            "courses": [run.name for run in runs],
            "students": len(np.unique(looks.students)),
            "train_looks": len(looks),
            "train_base_rate": round(float(looks.lost.mean()), 4),
        },
    )


def _names(runs: Sequence[CourseRun]) -> str:
    return ", ".join(run.name for run in runs)
