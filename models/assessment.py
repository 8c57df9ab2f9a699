"""Assessments: the risk of entries, the band it is in, and the reasons for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

from models.activity import NONE, Activity
from models.cohorts import MAX_SUBMISSIONS, Peers
from models.day_bits import COUNTED_DAYS
from models.figures import Figures, figures
from models.rules import Bools, Float64s, Int64s
from models.standing import ACT, SILENT, SUBMISSIONS, StandingModel

#: risks are in steps of 1e-4: more would be noise
RISK_SCALE = 10_000


class Band(IntEnum):
    """What the risk means. Stored: the numbers do not change."""

    LOW = 0
    RAISED = 1
    HIGH = 2
    #: silent for long while the peers are not: has probably left; no risk
    GONE = 3
    #: too few peers: no risk
    UNKNOWN = 4


class Code(IntEnum):
    """What a reason is about."""

    VISITS = 0
    SUBMISSIONS = 1
    GONE = 2


class Figure(IntEnum):
    """The figure that a reason names."""

    DAYS_SILENT = 0
    ACTIVE_DAYS_14 = 1
    ACTIVE_DAYS_28 = 2
    SUBMISSIONS = 3


@dataclass(frozen=True, slots=True)
class Assessment:
    """Assessments of entries as of a day."""

    #: risk [m], a multiple of 1e-4; nan for GONE and UNKNOWN
    risk: Float64s
    #: [m], values of Band
    band: Int64s
    #: what act and silence together, and submissions, add to the logit [m]
    visits_weight: Float64s
    submissions_weight: Float64s
    figures: Figures
    peers: Peers

    def __len__(self) -> int:
        return len(self.risk)

    @property
    def units(self) -> Int64s:
        """The risk in 1e-4 [m], NONE where there is none."""
        none = np.isnan(self.risk)
        units: Int64s = np.rint(np.where(none, 0.0, self.risk) * RISK_SCALE).astype(np.int64)
        units[none] = NONE
        return units

    def take(self, rows: Int64s | Bools) -> Assessment:
        """The assessments of the entries at `rows` (indices or a mask)."""
        return Assessment(
            self.risk[rows],
            self.band[rows],
            self.visits_weight[rows],
            self.submissions_weight[rows],
            self.figures.take(rows),
            self.peers.take(rows),
        )


@dataclass(frozen=True, slots=True)
class Reasons:
    """Up to two reasons for each of m entries, the weightiest first; NONE where there is none."""

    #: [m, 2], values of Code
    code: Int64s
    #: [m, 2], values of Figure
    figure: Int64s
    #: the entry's figure, and its median among the peers [m, 2]
    own: Int64s
    median: Int64s
    #: what it adds to the logit [m, 2]; nan for GONE
    weight: Float64s


def assess(model: StandingModel, activity: Activity, figures: Figures, peers: Peers, day: int | Int64s) -> Assessment:
    """Assess each entry [m] as of `day` (one, or one of each entry [m])."""
    silent = np.log1p(figures.silent)
    visits = model.coefficient(ACT) * (figures.act - peers.act)
    visits += model.coefficient(SILENT) * (silent - peers.log1p_silent)
    submissions = model.coefficient(SUBMISSIONS) * (figures.submissions - peers.submissions)
    logit = model.intercept + model.base_shift + visits + submissions
    # the logistic function in a form that overflows for no logit
    units = np.rint(RISK_SCALE * 0.5 * (1.0 + np.tanh(0.5 * logit)))
    risk = units / RISK_SCALE
    bands = model.bands
    band = (risk >= bands.raised).astype(np.int64) + ((risk >= bands.high) & is_settled(model, activity, day))
    unknown = ~figures.seen | (peers.n < model.cohort.minimum)
    gone = (figures.silent >= model.gone.silent_days) & (peers.median_silent <= model.gone.median_days) & ~unknown
    band[gone], band[unknown] = Band.GONE, Band.UNKNOWN
    risk[gone | unknown] = np.nan
    return Assessment(risk, band, visits, submissions, figures, peers)


def figures_for(model: StandingModel, activity: Activity, day: int | Int64s) -> Figures:
    """The figures of each entry [m] that `model` needs, as of `day` (one, or one of each entry [m])."""
    return figures(activity, day, half_life_days=model.half_life_days, forget_days=model.cohort.forget_days)


def is_settled(model: StandingModel, activity: Activity, day: int | Int64s) -> Bools:
    """Whether `day` is late enough after the first day of each entry [m] for HIGH and for an alert."""
    return day - activity.first >= model.bands.high_after_days


def unassessed(m: int) -> Assessment:
    """An assessment without risk and reasons of each of m entries, such as those that are forgotten."""
    zero, nothing = np.zeros(m, np.int64), np.zeros(m, np.float64)
    never = np.zeros(m, np.uint64)
    figures = Figures(nothing, zero, zero, zero, zero, np.zeros(m, np.bool_), never, never)
    unknown = np.full(m, Band.UNKNOWN, np.int64)
    return Assessment(np.full(m, np.nan), unknown, nothing, nothing, figures, Peers.of_nobody(m))


def is_news(model: StandingModel, activity: Activity, assessment: Assessment) -> Bools:
    """Whether a tick has news of each entry [m]: another band than the last tick that had, or a risk that has moved."""
    units = assessment.units
    moved = np.abs(units - activity.tick_risk) >= round(RISK_SCALE * model.publish_change)
    news: Bools = (assessment.band != activity.tick_band) | (moved & (units != NONE) & (activity.tick_risk != NONE))
    return news


def publish(activity: Activity, assessment: Assessment, rows: Int64s | Bools) -> Activity:
    """The activity [m] after the assessments [m] at `rows` (indices or a mask) have been published."""
    risk, band = activity.risk.copy(), activity.band.copy()
    risk[rows], band[rows] = assessment.units[rows], assessment.band[rows]
    return replace(activity, risk=risk, band=band)


def explain(model: StandingModel, assessment: Assessment) -> Reasons:
    """The reasons for each assessment [m].

    A reason adds more to the logit than the model's threshold, and names a figure that is worse than the median of the
    peers: silence if it is long, else the active days, else silence of any length.
    """
    own, peers, m = assessment.figures, assessment.peers, len(assessment)
    is_silent = own.silent > peers.median_silent
    conditions = (
        is_silent & (own.silent >= model.reasons.silent_days),
        own.active_14 < peers.median_14,
        own.active_28 < peers.median_28,
        is_silent,
    )
    named = (Figure.DAYS_SILENT, Figure.ACTIVE_DAYS_14, Figure.ACTIVE_DAYS_28, Figure.DAYS_SILENT)
    figure = np.select(conditions, named, NONE).astype(np.int64)
    scored = ~np.isnan(assessment.risk)
    visits = scored & (figure != NONE) & (assessment.visits_weight > model.reasons.weight)
    gone = assessment.band == Band.GONE
    figure[gone] = Figure.DAYS_SILENT
    submissions = scored & (assessment.submissions_weight > model.reasons.weight)
    submissions &= np.minimum(own.submissions, MAX_SUBMISSIONS) < peers.median_submissions
    code = np.where(gone, Code.GONE, np.where(visits, Code.VISITS, NONE))
    owns = np.choose(np.maximum(figure, 0), (own.silent, own.active_14, own.active_28))
    medians = np.choose(np.maximum(figure, 0), (peers.median_silent, peers.median_14, peers.median_28))
    first = (code, figure, owns, medians, np.where(gone, np.nan, assessment.visits_weight))
    second = (
        np.where(submissions, Code.SUBMISSIONS, NONE),
        np.full(m, Figure.SUBMISSIONS),
        own.submissions,
        peers.median_submissions,
        assessment.submissions_weight,
    )
    swap = submissions & ((code == NONE) | (assessment.submissions_weight > assessment.visits_weight))
    columns = [
        np.stack((np.where(swap, b, a), np.where(swap, a, b)), axis=1) for a, b in zip(first, second, strict=True)
    ]
    return Reasons(*columns)


def sentence(code: int, figure: int, own: int, median: int) -> str:
    """A reason in English."""
    if figure == Figure.DAYS_SILENT:
        text = f"no visit for {_count(own, 'day')}{' or more' if own == COUNTED_DAYS else ''}"
        if code == Code.GONE:
            return f"{text}: check whether still enrolled"
    elif figure == Figure.SUBMISSIONS:
        text = f"{_count(own, 'submission')} so far"
    else:
        text = f"active on {own} of the last {14 if figure == Figure.ACTIVE_DAYS_14 else 28} days"
    return f"{text}; the median of the course is {median}"


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number in (0, 1) else 's'}"
