"""Evaluation of a risk model."""

from __future__ import annotations

import numpy as np

from models.predictions import THRESHOLD
from models.risk import RiskModel
from models.rules import Bools, Float64s
from tools.training.landmarks import Landmarks


def auc(y: Bools, p: Float64s) -> float:
    """Return the area under the ROC curve: the probability that a positive scores higher; ties count half."""
    _, rank, size = np.unique(p, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(size) - (size - 1) / 2
    positive, negative = int(y.sum()), int((~y).sum())
    return float((mean_rank[rank][y].sum() - positive * (positive + 1) / 2) / (positive * negative))


def calibration_error(y: Bools, p: Float64s, bins: int = 10) -> float:
    """Return the expected calibration error: mean distance of score and outcome over bins of equal width."""
    bin_index = np.minimum((p * bins).astype(np.int64), bins - 1)
    return float(np.abs(np.bincount(bin_index, p - y, bins)).sum() / len(y))


def evaluate(model: RiskModel, landmarks: Landmarks) -> dict[str, float]:
    """Return the model's metrics on `landmarks`; those "at 0.7" are about alerts, scores above `THRESHOLD`."""
    p = model.score(landmarks.activities, landmarks.duration, landmarks.sessions)
    y, alert = landmarks.unsuccessful, p > THRESHOLD
    metrics = {
        "auc": auc(y, p),
        "brier": float(np.mean((p - y) ** 2)),
        "ece": calibration_error(y, p),
        "base_rate": float(y.mean()),
        "mean_score": float(p.mean()),
        "flagged_at_0.7": float(alert.mean()),
        "precision_at_0.7": float(y[alert].mean()) if alert.any() else 0.0,
        "recall_at_0.7": float(alert[y].mean()),
    }
    return {"landmarks": len(landmarks), **{name: round(value, 4) for name, value in metrics.items()}}
