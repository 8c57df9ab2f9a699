"""The risk model: a logistic regression over roll-up totals, read from JSON and validated.

    x_k   = (feature_k(activities, duration, sessions) - center_k) / scale_k
    score = 1 / (1 + exp(-(intercept + Σ coefficient_k · x_k)))

The score is the probability of the model's label, calibrated on its training data. A model is valid only for the
session gap it was trained with (a longer gap makes fewer and longer sessions), so the gap is part of it. A model is
identified by its content: the SHA-256 of its canonical JSON.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from models import model_json
from models.model_json import ModelError
from models.rules import Float64s, Int64s

#: a feature as a function of (activities, duration, sessions), each [n] and not negative
Feature = Callable[[Float64s, Float64s, Float64s], Float64s]

#: the layout of the JSON this code reads and writes
VERSION = 1

#: the features a model may use. Sessions and activities are correlated (.96): a feature of activities alone, beside
#: sessions, would get the wrong sign. Half of all sessions last 0 s: log1p, never a division by durations
FEATURES: Mapping[str, Feature] = {
    "log1p_sessions": lambda activities, duration, sessions: np.log1p(sessions),
    "log1p_duration": lambda activities, duration, sessions: np.log1p(duration),
    "log1p_activities_per_session": lambda activities, duration, sessions: np.log1p(
        activities / np.maximum(sessions, 1)
    ),
}


@dataclass(frozen=True)
class RiskModel:
    """A trained model. All tuples have one entry per feature."""

    #: names of `FEATURES`
    features: tuple[str, ...]
    #: subtracted from each feature
    center: tuple[float, ...]
    #: divisor of each centered feature, > 0
    scale: tuple[float, ...]
    coefficients: tuple[float, ...]
    intercept: float
    #: silence that closes a session in the training data [ms]
    session_gap_ms: int
    #: the event whose probability the score is
    label: str
    #: the origin of the training data
    data: Mapping[str, Any]
    #: figures of the model on data it was not trained on
    metrics: Mapping[str, Any]

    def __post_init__(self) -> None:
        unknown = sorted(set(self.features) - set(FEATURES))
        if unknown:
            raise ModelError(f"unknown feature {', '.join(unknown)}; known are {', '.join(FEATURES)}")
        sizes = {len(self.features), len(self.center), len(self.scale), len(self.coefficients)}
        if sizes != {len(set(self.features))} or not self.features:
            raise ModelError("features, center, scale and coefficients differ in length, or a feature is repeated")
        numbers = (*self.center, *self.scale, *self.coefficients, self.intercept)
        if not all(map(math.isfinite, numbers)) or min(self.scale) <= 0:
            raise ModelError("a number is not finite, or a scale is not above 0")

    @classmethod
    def from_json(cls, text: str, gap_ms: int) -> RiskModel:
        """Read a model that `to_json` wrote, for sessions with a gap of `gap_ms`.

        Raises ModelError if the text is no model, has been altered, has another layout version or another gap, or
        names an unknown feature.
        """
        fields = model_json.read(text, VERSION)
        try:
            model = cls(**{name: model_json.frozen(value) for name, value in fields.items()})
        except (TypeError, OverflowError) as error:
            raise ModelError(f"not a risk model: {error}") from error
        if model.session_gap_ms != gap_ms:
            raise ModelError(
                f"trained on sessions with a gap of {model.session_gap_ms} ms, not {gap_ms} ms: train it again"
            )
        return model

    def to_json(self) -> str:
        """The model and its hash as indented JSON with sorted keys: equal models have equal texts."""
        return model_json.write(self._fields())

    @property
    def sha256(self) -> str:
        """Hash of the canonical JSON of all fields."""
        return model_json.sha256(self._fields())

    def score(self, activities: Int64s, duration: Int64s, sessions: Int64s) -> Float64s:
        """Risk of each student [n], 0 … 1.

        activities [n]: number of events; duration [n] s: mean length of the sessions; sessions [n]: their number.
        A student's score does not depend on the other rows.
        """
        totals = [np.maximum(column, 0).astype(np.float64) for column in (activities, duration, sessions)]
        logit = np.full(len(sessions), self.intercept)
        for name, center, scale, coefficient in zip(
            self.features, self.center, self.scale, self.coefficients, strict=True
        ):
            logit += coefficient * ((FEATURES[name](*totals) - center) / scale)
        # the logistic function in a form that overflows for no logit
        risk: Float64s = 0.5 * (1.0 + np.tanh(0.5 * logit))
        return risk

    def _fields(self) -> dict[str, Any]:
        return {**vars(self), "version": VERSION}
