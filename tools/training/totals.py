"""Train the totals model on OULAD and write its artifact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from models.predictions import THRESHOLD
from models.risk import FEATURES, RiskModel
from models.rules import GAP_MS
from tools.training.fit import fit
from tools.training.landmarks import DAYS, Landmarks, load_landmarks
from tools.training.metrics import auc, brier, calibration_error

TRAIN = ("AAA-2013J", "BBB-2013B")
TEST = ("BBB-2013J",)
#: the only one of `FEATURES` whose coefficient hardly depends on the generated times of day. Beside it, duration and
#: activities per session get coefficients near 0, with a sign that depends on the seed, and add nothing to the AUC
SELECTED_FEATURES = ("log1p_sessions",)
#: decimals kept of fitted numbers, so that the rounding of another processor gives the same file
DECIMALS = 6


def train(seed: int = 1) -> RiskModel:
    """Train the model with `SELECTED_FEATURES`; the same seed gives the same model. Takes several seconds.

    Raises ArithmeticError if a coefficient has the wrong sign: such a model would give wrong reasons.
    """
    landmarks = load_landmarks(TRAIN, seed=seed).scored
    columns = (landmarks.activities, landmarks.duration, landmarks.sessions)
    totals = [column.astype(np.float64) for column in columns]
    x = np.column_stack([FEATURES[name](*totals) for name in SELECTED_FEATURES])
    center, scale = x.mean(axis=0).round(DECIMALS), x.std(axis=0).round(DECIMALS)
    intercept, *coefficients = fit((x - center) / scale, landmarks.unsuccessful).round(DECIMALS).tolist()
    if max(coefficients) >= 0:
        signs = dict(zip(SELECTED_FEATURES, coefficients, strict=True))
        raise ArithmeticError(f"a coefficient is not negative, so more activity would mean more risk: {signs}")
    model = RiskModel(
        features=SELECTED_FEATURES,
        center=tuple(center.tolist()),
        scale=tuple(scale.tolist()),
        coefficients=tuple(coefficients),
        intercept=intercept,
        session_gap_ms=GAP_MS,
        label="Withdrawn or Fail at the end of the presentation",
        data=_data_description(landmarks, seed),
        metrics={},
    )
    return replace(model, metrics=_metrics(model, seed))


def write(path: Path, seed: int = 1) -> RiskModel:
    """Train the model and write its artifact; the same seed gives the same bytes."""
    model = train(seed)
    path.write_text(model.to_json(), encoding="utf-8")
    return model


def evaluate(model: RiskModel, landmarks: Landmarks) -> dict[str, float]:
    """Return the model's metrics on `landmarks`; those "at 0.7" are about alerts, scores above `THRESHOLD`."""
    p = model.score(landmarks.activities, landmarks.duration, landmarks.sessions)
    y, alert = landmarks.unsuccessful, p > THRESHOLD
    metrics = {
        "auc": auc(y, p),
        "brier": brier(y, p),
        "ece": calibration_error(y, p),
        "base_rate": float(y.mean()),
        "mean_score": float(p.mean()),
        "flagged_at_0.7": float(alert.mean()),
        "precision_at_0.7": float(y[alert].mean()) if alert.any() else 0.0,
        "recall_at_0.7": float(alert[y].mean()),
    }
    return {"landmarks": len(landmarks), **{name: round(value, 4) for name, value in metrics.items()}}


def _data_description(landmarks: Landmarks, seed: int) -> dict[str, Any]:
    return {
        "source": "Open University Learning Analytics Dataset, CC-BY 4.0, doi:10.1038/sdata.2017.171",
        "clock": f"drawn inside each day with seed {seed}: sessions are not measured (PROVENANCE.md)",
        "population": "students registered at the landmark who had at least one event",
        "landmarks": f"end of every 7th day from {DAYS[0]} to {DAYS[-1]}",
        "train": list(TRAIN),
        "train_landmarks": len(landmarks),
        "train_base_rate": round(float(landmarks.unsuccessful.mean()), 4),
        "test": list(TEST),
    }


def _metrics(model: RiskModel, seed: int) -> dict[str, Any]:
    """Evaluate on the test presentations: all landmarks, also with students who get no score, and day 7 alone."""
    landmarks = load_landmarks(TEST, seed=seed)
    day_7 = load_landmarks(TEST, seed=seed, days=range(7, 8))
    return {
        "scored": evaluate(model, landmarks.scored),
        "registered": evaluate(model, landmarks),
        "day_7": evaluate(model, day_7.scored),
    }
