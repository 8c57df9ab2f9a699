"""The risk model as a value: a logistic regression over roll-up totals, read from JSON and checked.

    x_k   = (feature_k(activities, duration, sessions) - center_k) / scale_k
    score = 1 / (1 + exp(-(intercept + Σ coefficient_k · x_k)))

The score is the chance of the model's label, calibrated on its training data. A model is good only
for the session gap it was trained with (a longer gap makes fewer and longer sessions), so the gap is
part of it. Its name is its content: the SHA-256 of its canonical JSON.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from models.rules import Int64s

Float64s = npt.NDArray[np.float64]
#: feature of (activities, duration, sessions), each [n] and not below 0
Feature = Callable[[Float64s, Float64s, Float64s], Float64s]

#: the layout of the JSON this code reads and writes
VERSION = 1

#: what a model may use. Sessions and activities go together (correlation .96), so no feature of activities
#: alone: beside sessions it would get the wrong sign. Half of all sessions last 0 s: log1p, never a division
FEATURES: Mapping[str, Feature] = {
    "log1p_sessions": lambda activities, duration, sessions: np.log1p(sessions),
    "log1p_duration": lambda activities, duration, sessions: np.log1p(duration),
    "log1p_activities_per_session": lambda activities, duration, sessions: np.log1p(
        activities / np.maximum(sessions, 1)
    ),
}


class ModelError(ValueError):
    """A risk model that must not be used; the text says why."""


@dataclass(frozen=True)
class RiskModel:
    """A trained model. All tuples have one entry a feature."""

    #: names out of `FEATURES`
    features: tuple[str, ...]
    #: subtracted from each feature
    center: tuple[float, ...]
    #: each feature is divided by this, > 0
    scale: tuple[float, ...]
    coefficients: tuple[float, ...]
    intercept: float
    #: silence that closes a session in the training data [ms]
    session_gap_ms: int
    #: what the score is the chance of
    label: str
    #: where the training data come from
    data: Mapping[str, Any]
    #: how the model does on data it has not seen
    metrics: Mapping[str, Any]

    def __post_init__(self) -> None:
        unknown = sorted(set(self.features) - set(FEATURES))
        if unknown:
            raise ModelError(f"unknown feature {', '.join(unknown)}; known are {', '.join(FEATURES)}")
        sizes = {len(self.features), len(self.center), len(self.scale), len(self.coefficients)}
        if sizes != {len(set(self.features))} or not self.features:
            raise ModelError("features, center, scale and coefficients differ in length, or a feature is twice")
        numbers = (*self.center, *self.scale, *self.coefficients, self.intercept)
        if not all(map(math.isfinite, numbers)) or min(self.scale) <= 0:
            raise ModelError("a number is not finite, or a scale is not above 0")

    @classmethod
    def from_json(cls, text: str, gap_ms: int) -> RiskModel:
        """Read what `to_json` wrote, for sessions that `gap_ms` of silence close.

        Raises ModelError where the text is not a model, has been altered, is of another layout or
        of another gap, or names a feature this code does not know.
        """
        try:
            fields = json.loads(text, parse_constant=_refuse)
            claimed, version = fields.pop("sha256"), fields.pop("version")
        except RecursionError:
            raise ModelError("not a risk model: nested too deep") from None
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise ModelError(f"not a risk model: {error!r}") from error
        if version != VERSION:
            newer = "run the version of it that wrote the model" if _is_newer(version) else "train anew"
            raise ModelError(f"version {version!r} of the layout; this program reads {VERSION}: {newer}")
        if claimed != _sha256({**fields, "version": version}):
            raise ModelError("the sha256 does not fit the content: the file has been altered")
        try:
            model = cls(**{name: _frozen(value) for name, value in fields.items()})
        except (TypeError, OverflowError) as error:
            raise ModelError(f"not a risk model: {error}") from error
        if model.session_gap_ms != gap_ms:
            raise ModelError(
                f"trained on sessions with a gap of {model.session_gap_ms} ms, not {gap_ms} ms: train anew"
            )
        return model

    def to_json(self) -> str:
        """The model with its hash, as readable JSON: sorted keys, the same text for the same model."""
        return json.dumps({**self._fields(), "sha256": self.sha256}, indent=1, sort_keys=True) + "\n"

    @property
    def sha256(self) -> str:
        """Hash of the canonical JSON of everything in the model."""
        return _sha256(self._fields())

    def score(self, activities: Int64s, duration: Int64s, sessions: Int64s) -> Float64s:
        """Risk of each student [n], 0 … 1.

        activities [n]: events; duration [n] s: mean length of the sessions; sessions [n]: their number.
        The scores of a row do not depend on the rows beside it.
        """
        totals = [np.maximum(column, 0).astype(np.float64) for column in (activities, duration, sessions)]
        logit = np.full(len(sessions), self.intercept)
        for name, center, scale, coefficient in zip(
            self.features, self.center, self.scale, self.coefficients, strict=True
        ):
            logit += coefficient * ((FEATURES[name](*totals) - center) / scale)
        # the logistic function, written so that no logit overflows
        risk: Float64s = 0.5 * (1.0 + np.tanh(0.5 * logit))
        return risk

    def _fields(self) -> dict[str, Any]:
        return {**vars(self), "version": VERSION}


def _sha256(fields: Mapping[str, Any]) -> str:
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _is_newer(version: object) -> bool:
    return type(version) is int and version > VERSION


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")
