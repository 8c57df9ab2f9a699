"""Figures of a score against what became of the students."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.rules import Bools, Float64s, Int64s

#: resamples of a bootstrap, and its seed
RESAMPLES, SEED = 400, 14
#: bins of a calibration curve
BINS = 10


def auc(y: Bools, p: Float64s) -> float:
    """Return the area under the ROC curve: the probability that a positive scores higher; ties count half."""
    return weighted_auc(y, p, np.ones(len(y)))


def weighted_auc(y: Bools, p: Float64s, weight: Float64s) -> float:
    """Return the area under the ROC curve of looks with weights [n]; nan if all outcomes are the same."""
    _, rank = np.unique(p, return_inverse=True)
    positive, negative = (np.bincount(rank, weight * which) for which in (y, ~y))
    below = np.cumsum(negative) - negative / 2
    total = positive.sum() * negative.sum()
    return float((positive * below).sum() / total) if total else float("nan")


def calibration_error(y: Bools, p: Float64s) -> float:
    """Return the expected calibration error: mean distance of score and outcome over bins of equal width."""
    return weighted_calibration_error(y, p, np.ones(len(y)))


def weighted_calibration_error(y: Bools, p: Float64s, weight: Float64s) -> float:
    """Return the expected calibration error of looks with weights [n]."""
    bin_index = np.minimum((p * BINS).astype(np.int64), BINS - 1)
    return float(np.abs(np.bincount(bin_index, weight * (p - y), BINS)).sum() / weight.sum())


def brier(y: Bools, p: Float64s) -> float:
    """Return the mean squared distance of score and outcome."""
    return float(np.mean((p - y) ** 2))


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


def bootstrap(figure: Callable[[Bools, Float64s, Float64s], float], y: Bools, p: Float64s, student: Int64s) -> Interval:
    """Return `figure(y, p, weight)` with its interval over students drawn with replacement.

    Looks at the same student are not independent.
    """
    _, index = np.unique(student, return_inverse=True)
    random, n = np.random.default_rng(SEED), int(index.max()) + 1
    values = [
        figure(y, p, np.bincount(random.integers(0, n, n), minlength=n)[index].astype(np.float64))
        for _ in range(RESAMPLES)
    ]
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return Interval(figure(y, p, np.ones(len(y))), float(low), float(high))


def difference(y: Bools, p: Float64s, other: Float64s, student: Int64s) -> Interval:
    """Return the AUC of `p` minus that of `other`, with its interval over students."""

    def figure(y: Bools, both: Float64s, weight: Float64s) -> float:
        return weighted_auc(y, both[:, 0], weight) - weighted_auc(y, both[:, 1], weight)

    return bootstrap(figure, y, np.column_stack((p, other)), student)


def top(y: Bools, p: Float64s, day: Int64s, share: float) -> tuple[float, float]:
    """Return precision and recall of the `share` of each day's looks with the highest scores.

    Of looks with equal scores at the limit, the first in order are taken.
    """
    chosen = np.zeros(len(y), np.bool_)
    for d in np.unique(day).tolist():
        rows = np.flatnonzero(day == d)
        chosen[rows[np.argsort(-p[rows], kind="stable")[: round(share * len(rows))]]] = True
    return float(y[chosen].mean()), float(chosen[y].mean())


def roc(y: Bools, p: Float64s) -> tuple[Float64s, Float64s]:
    """Return the false and true positive rates at each threshold, from the highest."""
    positive, negative = _cumulative(y, p)
    return np.append(0.0, negative / negative[-1]), np.append(0.0, positive / positive[-1])


def precision_recall(y: Bools, p: Float64s) -> tuple[Float64s, Float64s]:
    """Return recall and precision at each threshold, from the highest."""
    positive, negative = _cumulative(y, p)
    return positive / positive[-1], positive / (positive + negative)


def _cumulative(y: Bools, p: Float64s) -> tuple[Float64s, Float64s]:
    values, rank = np.unique(-p, return_inverse=True)
    n = len(values)
    return np.cumsum(np.bincount(rank, y, n)), np.cumsum(np.bincount(rank, ~y, n))


def reliability(y: Bools, p: Float64s) -> list[tuple[float, float, int]]:
    """Return mean score, share of positives and number of looks of each bin that has any."""
    index = np.minimum((p * BINS).astype(np.int64), BINS - 1)
    return [
        (float(p[index == b].mean()), float(y[index == b].mean()), int((index == b).sum()))
        for b in range(BINS)
        if (index == b).any()
    ]
