"""Train the risk model on OULAD: what totals say, week by week, about students still registered.

The landmarks come out of the replayed log and the app's own session algebra, because a model served
on 15-minute sessions must be trained on them. End-of-course totals would be leakage: whoever has left
early has small ones. Students without a single event have no roll-up row and so no score: they are
left out of training, and counted in the metrics named "registered".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.predictions import THRESHOLD
from models.risk import FEATURES, RiskModel
from models.rules import GAP_MS, NEVER, Bools, Float64s, Int64s
from models.sessions import Sessions
from models.totals import Totals, roll_up
from models.windowing import apply
from tools.replay import oulad

TRAIN = ("AAA-2013J", "BBB-2013B")
TEST = ("BBB-2013J",)
#: days at whose end the students are looked at
DAYS = range(14, 113, 7)
#: the one of `FEATURES` that says the same whatever clock is drawn. Beside it duration and activities per
#: session get coefficients near 0, of either sign depending on the seed, and add nothing to the AUC
CHOSEN = ("log1p_sessions",)
#: penalty on squared coefficients of standardised features: only enough to make the fit unique
RIDGE = 1.0
#: decimals kept of what is fitted, so that another processor's rounding gives the same file
DECIMALS = 6


@dataclass(frozen=True)
class Landmarks:
    """n looks at a student: totals so far, and how it ended."""

    activities: Int64s
    #: mean length of the sessions [n] s
    duration: Int64s
    sessions: Int64s
    #: whether the enrolment ended in Withdrawn or Fail [n]
    lost: Bools

    def __len__(self) -> int:
        return len(self.lost)

    def take(self, rows: Bools) -> Landmarks:
        """The looks at `rows`."""
        return Landmarks(self.activities[rows], self.duration[rows], self.sessions[rows], self.lost[rows])

    @property
    def scored(self) -> Landmarks:
        """Those of students who have totals at all."""
        return self.take(self.sessions > 0)


def landmarks(names: tuple[str, ...], *, seed: int = 1, days: range = DAYS) -> Landmarks:
    """Looks at all students registered at the end of `days`, in each of these presentations on its own."""
    parts = [look for one in oulad.named(names) for look in _looks(one, seed, days)]
    return Landmarks(*(np.concatenate([vars(part)[column] for part in parts]) for column in vars(parts[0])))


def _looks(presentation: oulad.Presentation, seed: int, days: range) -> list[Landmarks]:
    """The looks at one presentation's students, a part for each day."""
    rows = oulad.generate([str(presentation)], seed=seed, last_day=days[-1])
    student, code = np.unique(rows.userid, return_inverse=True)
    known = oulad.outcomes()
    before = np.append(NEVER, rows.written[:-1])
    totals, sessions, start, looks = Totals.zero(len(student)), Sessions.none(), 0, []
    for day in days:
        stop = int(np.searchsorted(rows.written, presentation.midnight(day + 1)))
        part = slice(start, stop)
        # whoever comes not within this week has no session by its end that a visit could still reach
        mine = sessions.take(np.isin(sessions.owner, code[part]))
        step = apply(
            mine, code[part], rows.at[part], before[part], int(rows.written[stop - 1]), emit_every_change=False
        )
        totals, sessions, start = roll_up(totals, step.changes, emit_every_change=False).totals, step.sessions, stop
        enrolled = known.enrolled(presentation, day)
        row = np.minimum(np.searchsorted(student, known.student[enrolled]), len(student) - 1)
        seen = student[row] == known.student[enrolled]
        columns = (totals.activities, totals.duration, totals.sessions)
        activities, duration, count = (np.where(seen, column[row], 0) for column in columns)
        looks.append(Landmarks(activities, duration, count, known.lost[enrolled]))
    return looks


def fit(x: Float64s, y: Bools, ridge: float = RIDGE) -> Float64s:
    """Logistic regression by Newton's method: intercept and coefficients [1 + k].

    x [n, k]: standardised features; the penalty ridge/2 · Σ coefficient² leaves the intercept alone.
    """
    design = np.column_stack((np.ones(len(x)), x))
    penalty = np.diag([0.0, *[ridge] * x.shape[1]])
    beta = np.zeros(design.shape[1])
    for _ in range(50):
        p = 0.5 * (1.0 + np.tanh(0.5 * (design @ beta)))
        slope = design.T @ (y - p) - penalty @ beta
        curve = (design.T * (p * (1.0 - p))) @ design + penalty
        step = np.linalg.solve(curve, slope)
        beta += step
        if np.abs(step).max() < 1e-12:
            return beta
    raise ArithmeticError("the fit does not converge")


def auc(y: Bools, p: Float64s) -> float:
    """Area under the ROC curve: the chance that a lost student scores higher; ties count half."""
    _, rank, size = np.unique(p, return_inverse=True, return_counts=True)
    middle = np.cumsum(size) - (size - 1) / 2
    positive, negative = int(y.sum()), int((~y).sum())
    return float((middle[rank][y].sum() - positive * (positive + 1) / 2) / (positive * negative))


def calibration_error(y: Bools, p: Float64s, bins: int = 10) -> float:
    """Expected calibration error: mean distance of score and outcome over bins of equal width."""
    place = np.minimum((p * bins).astype(np.int64), bins - 1)
    return float(np.abs(np.bincount(place, p - y, bins)).sum() / len(y))


def evaluate(model: RiskModel, looks: Landmarks) -> dict[str, float]:
    """How the model does on `looks`; the figures "at" 0.7 are those of alerts above `THRESHOLD`."""
    p, y = model.score(looks.activities, looks.duration, looks.sessions), looks.lost
    alert = p > THRESHOLD
    figures = {
        "auc": auc(y, p),
        "brier": float(np.mean((p - y) ** 2)),
        "ece": calibration_error(y, p),
        "base_rate": float(y.mean()),
        "mean_score": float(p.mean()),
        "flagged_at_0.7": float(alert.mean()),
        "precision_at_0.7": float(y[alert].mean()) if alert.any() else 0.0,
        "recall_at_0.7": float(alert[y].mean()),
    }
    return {"landmarks": len(looks), **{name: round(value, 4) for name, value in figures.items()}}


def train(seed: int = 1) -> RiskModel:
    """The model of `CHOSEN` features; the same for the same seed. Takes some seconds.

    Raises ArithmeticError where a coefficient has the wrong sign: such a model gives wrong reasons.
    """
    looks = landmarks(TRAIN, seed=seed).scored
    totals = [column.astype(np.float64) for column in (looks.activities, looks.duration, looks.sessions)]
    x = np.column_stack([FEATURES[name](*totals) for name in CHOSEN])
    center, scale = x.mean(axis=0).round(DECIMALS), x.std(axis=0).round(DECIMALS)
    intercept, *coefficients = fit((x - center) / scale, looks.lost).round(DECIMALS).tolist()
    if max(coefficients) >= 0:
        raise ArithmeticError(f"more would be riskier: {dict(zip(CHOSEN, coefficients, strict=True))}")
    model = RiskModel(
        features=CHOSEN,
        center=tuple(center.tolist()),
        scale=tuple(scale.tolist()),
        coefficients=tuple(coefficients),
        intercept=intercept,
        session_gap_ms=GAP_MS,
        label="Withdrawn or Fail at the end of the presentation",
        data=_description(looks, seed),
        metrics={},
    )
    return replace(model, metrics=_metrics(model, seed))


def _description(looks: Landmarks, seed: int) -> dict[str, Any]:
    return {
        "source": "Open University Learning Analytics Dataset, CC-BY 4.0, doi:10.1038/sdata.2017.171",
        "clock": f"drawn inside each day with seed {seed}: sessions are not measured (PROVENANCE.md)",
        "population": "students registered at the landmark who had at least one event",
        "landmarks": f"end of every 7th day from {DAYS[0]} to {DAYS[-1]}",
        "train": list(TRAIN),
        "train_landmarks": len(looks),
        "train_base_rate": round(float(looks.lost.mean()), 4),
        "test": list(TEST),
    }


def _metrics(model: RiskModel, seed: int) -> dict[str, Any]:
    """Figures on the test presentations: all weeks; with the unseen, who get no score; day 7 alone."""
    later = landmarks(TEST, seed=seed)
    return {
        "scored": evaluate(model, later.scored),
        "registered": evaluate(model, later),
        "day_7": evaluate(model, landmarks(TEST, seed=seed, days=range(7, 8)).scored),
    }


def write(path: Path, seed: int = 1) -> RiskModel:
    """Train and write the artifact; running it again writes the same bytes."""
    model = train(seed)
    path.write_text(model.to_json(), encoding="utf-8")
    return model
