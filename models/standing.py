"""The standing model: a student's risk from how their activity stands among their peers', read from JSON.

    logit = intercept + base_shift + Σ coefficient_k · (figure_k - mean of figure_k among the peers)
    risk  = 1 / (1 + exp(-logit))

The artefact has all thresholds of the scoring too: peers, bands, alerts, reasons. It is identified by the SHA-256 of
its canonical JSON, of layout version 2; version 1 is the totals model (models/risk.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, TypeVar

from models import model_json
from models.day_bits import COUNTED_DAYS, WINDOW
from models.model_json import ModelError

#: the layout of the JSON this code reads and writes
VERSION = 2
ACT, SILENT, SUBMISSIONS = "act", "log1p_silent", "submissions"
#: the features that a model may use, and the sign that a coefficient must have (or be 0)
FEATURES: Mapping[str, int] = {ACT: -1, SILENT: 1, SUBMISSIONS: -1}

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class CohortRule:
    """Who a student's peers are."""

    #: how far the weeks of the first day may lie apart [weeks]
    weeks: int = 4
    #: with fewer peers the whole course is taken, and with fewer in the course there is no score
    minimum: int = 20
    #: an entry is forgotten after more silent days than this
    forget_days: int = 120


@dataclass(frozen=True, slots=True)
class BandRule:
    """From which risk on a band holds."""

    raised: float = 0.5
    high: float = 0.7
    #: number of days after the first day of a student before which there is no HIGH, and no alert
    high_after_days: int = 14


@dataclass(frozen=True, slots=True)
class GoneRule:
    """Who has probably left already: silent for long while the peers are not."""

    #: silent for so many days or more …
    silent_days: int = 28
    #: … while the peers' median is at most this [days]
    median_days: int = 7


@dataclass(frozen=True, slots=True)
class AlertRule:
    """When an alert is opened and closed."""

    #: it opens after `ticks` ticks in a row with a risk of `on` or more
    on: float = 0.7
    #: it closes after `ticks` ticks in a row with a risk below `off`
    off: float = 0.6
    ticks: int = 3


@dataclass(frozen=True, slots=True)
class ReasonRule:
    """Which reasons are given."""

    #: a reason adds more than this to the logit
    weight: float = 0.15
    #: silence is named rather than the number of active days from so many days on
    silent_days: int = 7


@dataclass(frozen=True, kw_only=True)  # no slots: the hash is computed once
class StandingModel:
    """A trained model."""

    #: names of `FEATURES`
    features: tuple[str, ...]
    #: per day of a figure, one for each feature
    coefficients: tuple[float, ...]
    intercept: float
    #: added to the intercept: log odds of the label here minus those in the training data
    base_shift: float
    #: after how many days an active day counts half
    half_life_days: float
    cohort: CohortRule
    bands: BandRule
    gone: GoneRule
    alerts: AlertRule
    reasons: ReasonRule
    #: a tick publishes a risk that has moved by so much
    publish_change: float
    #: the events that were submissions in the training data
    submission_events: tuple[str, ...]
    #: IANA name of the time zone of the days in the training data
    timezone: str
    #: the event whose probability the risk is
    label: str
    #: the origin of the training data
    data: Mapping[str, Any]
    #: figures of the model on data it was not trained on
    metrics: Mapping[str, Any]

    def __post_init__(self) -> None:
        _validate(self)

    @classmethod
    def from_json(cls, text: str) -> StandingModel:
        """Read a model that `to_json` wrote.

        Raises ModelError if the text is no such model, has been altered, or has another layout version.
        """
        values = model_json.read(text, VERSION)
        try:
            rules = {name: _rule(kind, values.pop(name)) for name, kind in _RULES.items()}
            return cls(**rules, **{name: model_json.frozen(value) for name, value in values.items()})
        except (TypeError, KeyError, AttributeError, OverflowError) as error:
            raise ModelError(f"not a standing model: {error}") from error

    def to_json(self) -> str:
        """The model and its hash as indented JSON with sorted keys: equal models have equal texts."""
        return model_json.write(self._fields())

    @cached_property
    def sha256(self) -> str:
        """Hash of the canonical JSON of all fields."""
        return model_json.sha256(self._fields())

    @cached_property
    def id(self) -> str:
        """Names the model in every row that it made: v2s with submissions, v2 without."""
        return f"{'v2s' if SUBMISSIONS in self.features else 'v2'}-{self.sha256[:12]}"

    def coefficient(self, feature: str) -> float:
        """The coefficient of `feature`, 0 if the model does not use it."""
        return self.coefficients[self.features.index(feature)] if feature in self.features else 0.0

    def _fields(self) -> dict[str, Any]:
        return {**asdict(self), "version": VERSION}


_RULES: Mapping[str, Any] = {
    "cohort": CohortRule,
    "bands": BandRule,
    "gone": GoneRule,
    "alerts": AlertRule,
    "reasons": ReasonRule,
}


def _rule(kind: Any, values: Mapping[str, Any]) -> Any:
    """A rule from JSON that has all of its fields: the defaults are for new models only."""
    missing = {f.name for f in fields(kind)} - set(values)
    if missing:
        raise TypeError(f"{', '.join(sorted(missing))} is missing")
    return kind(**values)


def _validate(model: StandingModel) -> None:
    unknown = sorted(set(model.features) - set(FEATURES))
    if unknown:
        raise ModelError(f"unknown feature {', '.join(unknown)}; known are {', '.join(FEATURES)}")
    if not len(model.features) == len(set(model.features)) == len(model.coefficients) > 0:
        raise ModelError("features and coefficients differ in length, or a feature is repeated")
    rules = [getattr(getattr(model, name), f.name) for name, kind in _RULES.items() for f in fields(kind)]
    numbers = (*model.coefficients, model.intercept, model.base_shift, model.half_life_days, model.publish_change)
    for number in (*numbers, *rules):
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            raise ModelError(f"{number!r} is no finite number")
    for feature, coefficient in zip(model.features, model.coefficients, strict=True):
        if coefficient * FEATURES[feature] < 0:
            raise ModelError(f"the coefficient of {feature} has the wrong sign: {coefficient}")
    for name, kind in _RULES.items():
        for f in fields(kind):
            if f.type == "int" and type(getattr(getattr(model, name), f.name)) is not int:
                raise ModelError(f"{name}.{f.name} is no integer")
    for name in ("timezone", "label"):
        if not isinstance(getattr(model, name), str):
            raise ModelError(f"{name} is no text")
    for name in ("data", "metrics"):
        if not isinstance(getattr(model, name), Mapping):
            raise ModelError(f"{name} is no object")
    events = model.submission_events
    if not isinstance(events, tuple) or not all(isinstance(event, str) for event in events):
        raise ModelError("submission_events are no list of text")
    cohort, alerts, bands = model.cohort, model.alerts, model.bands
    for valid, text in (
        (model.half_life_days > 0, "half_life_days is not above 0"),
        (0 <= cohort.weeks <= 1_000 and cohort.minimum >= 1, "cohort: weeks below 0 or above 1000, or minimum below 1"),
        (cohort.forget_days >= WINDOW, f"cohort: forget_days is below {WINDOW}, the days that an entry remembers"),
        (0 <= bands.raised <= bands.high <= 1, "bands: not 0 <= raised <= high <= 1"),
        (bands.high_after_days >= 0, "bands: high_after_days is below 0"),
        (0 < model.gone.silent_days <= COUNTED_DAYS, f"gone: silent_days is not in 1…{COUNTED_DAYS}"),
        (0 <= alerts.off <= alerts.on <= 1, "alerts: not 0 <= off <= on <= 1"),
        (1 <= alerts.ticks <= 1_000, "alerts: ticks is not in 1…1000"),
        (0 < model.publish_change <= 1, "publish_change is not above 0, or above 1"),
    ):
        if not valid:
            raise ModelError(text)
