"""Training of the standing model: what the worker knows of each student, fitted to what became of the student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from app.errors import ConfigError
from models.rules import Bools, Float64s, Int64s
from models.standing import (
    ACT,
    FEATURES,
    SILENT,
    SUBMISSIONS,
    AlertRule,
    BandRule,
    CohortRule,
    GoneRule,
    ReasonRule,
    StandingModel,
)
from tools.training.fit import fit
from tools.training.looks import Looks

#: features of the model with submissions, and of the one without
WITH_SUBMISSIONS, WITHOUT = (ACT, SILENT, SUBMISSIONS), (ACT, SILENT)
#: after how many days an active day counts half: 10 … 90 days rank as well
HALF_LIFE_DAYS = 14.0
#: below so many outcomes the slopes of another model are kept, and its level is fitted
MIN_OUTCOMES = 200
#: below so many students of either outcome too
MIN_OF_EITHER = 50
#: decimals kept of fitted numbers, so that the rounding of another processor gives the same file
DECIMALS = 6
PUBLISH_CHANGE = 0.05
LABEL = "withdrawn or failed at the end of the course"


@dataclass(frozen=True)
class Origin:
    """What the artefact says of its training data."""

    submission_events: tuple[str, ...]
    timezone: str
    data: Mapping[str, Any]


def fit_standing(looks: Looks, features: Sequence[str], origin: Origin) -> StandingModel:
    """Fit a model with these features.

    A coefficient with the wrong sign is set to 0, and the others are fitted again: such a model would give wrong
    reasons. Raises ArithmeticError if the fit does not converge.
    """
    used = list(features)
    while True:
        intercept, slopes = _fit(looks, used)
        wrong = [name for name, slope in zip(used, slopes, strict=True) if slope * FEATURES[name] <= 0]
        if not wrong or len(used) == 1:
            break
        used = [name for name in used if name not in wrong]
        if not used:
            used = [features[0]]
    coefficients = dict(zip(used, slopes, strict=True))
    coefficients = {name: value for name, value in coefficients.items() if value * FEATURES[name] > 0}
    return StandingModel(
        features=tuple(features),
        coefficients=tuple(coefficients.get(name, 0.0) for name in features),
        intercept=intercept,
        base_shift=0.0,
        half_life_days=HALF_LIFE_DAYS,
        cohort=CohortRule(),
        bands=BandRule(),
        gone=GoneRule(),
        alerts=AlertRule(),
        reasons=ReasonRule(),
        publish_change=PUBLISH_CHANGE,
        submission_events=origin.submission_events if SUBMISSIONS in features else (),
        timezone=origin.timezone,
        label=LABEL,
        data=dict(origin.data),
        metrics={},
    )


def _fit(looks: Looks, features: Sequence[str]) -> tuple[float, list[float]]:
    """Return the intercept, and a coefficient for each feature."""
    x = looks.matrix(features)
    scale = x.std(axis=0)
    scale[scale == 0] = 1.0
    intercept, *slopes = fit(x / scale, looks.lost).tolist()
    return round(intercept, DECIMALS), [round(s / c, DECIMALS) for s, c in zip(slopes, scale.tolist(), strict=True)]


def fit_level(model: StandingModel, looks: Looks) -> StandingModel:
    """Keep everything of `model` but its level: the base shift is fitted."""
    logit = looks.matrix(model.features) @ np.array(model.coefficients) + model.intercept
    return replace(model, base_shift=round(_shift(logit, looks.lost), DECIMALS))


def _shift(logit: Float64s, lost: Bools) -> float:
    """What to add to `logit` [n] so that its probabilities add up to the number of lost."""
    shift = 0.0
    for _ in range(100):
        p = 0.5 * (1.0 + np.tanh(0.5 * (logit + shift)))
        step = float((lost - p).sum() / (p * (1.0 - p)).sum())
        shift += float(np.clip(step, -2.0, 2.0))
        if abs(step) < 1e-10:
            return shift
    raise ArithmeticError("the level does not converge")


def base_shift(rate: float, trained_rate: float) -> float:
    """The difference of two rates in log odds."""
    return float(np.log(rate / (1 - rate)) - np.log(trained_rate / (1 - trained_rate)))


def choose(looks: Looks, features: Sequence[str], base: StandingModel, origin: Origin) -> tuple[StandingModel, str]:
    """Fit a model, as much of it as the number of outcomes allows; return it and one line that says how.

    base: a model whose slopes are kept if there are too few outcomes. Raises ConfigError if nothing can be fitted.
    """
    students, first = np.unique(looks.students, return_index=True)
    lost = looks.lost[first]
    n, positive = len(students), int(lost.sum())
    counts = f"{n} students with outcomes, {positive} of them withdrawn or failed"
    if not 0 < positive < n:
        raise ConfigError(f"{counts}: both kinds of outcomes are needed to fit anything")
    try:
        if n >= MIN_OUTCOMES and min(positive, n - positive) >= MIN_OF_EITHER:
            return fit_standing(looks, features, origin), f"{counts}: all coefficients were fitted"
        fitted = replace(fit_level(base, looks), data=dict(origin.data), metrics={}, timezone=origin.timezone)
    except ArithmeticError as error:
        raise ConfigError(f"{counts}: {error}") from error
    needed = f"{MIN_OUTCOMES} students and {MIN_OF_EITHER} of either outcome are needed for more"
    return fitted, f"{counts}: the slopes of {base.id} were kept and the level was fitted; {needed}"


def probability(model: StandingModel, looks: Looks) -> Float64s:
    """The risk of each look [n]."""
    logit = looks.matrix(model.features) @ np.array(model.coefficients) + model.intercept + model.base_shift
    risk: Float64s = 0.5 * (1.0 + np.tanh(0.5 * logit))
    return risk


def folds(looks: Looks, count: int = 5) -> Int64s:
    """The fold of each look [n]: all looks at a student are in one. Splits by a hash of the student."""
    hashed = looks.student.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return ((hashed >> np.uint64(40)) % np.uint64(count)).astype(np.int64)
