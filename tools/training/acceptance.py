"""The figures that the models that ship must reach on students that they were not trained on."""

from __future__ import annotations

import asyncio
import operator
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.model_file import DEFAULT, WITHOUT_SUBMISSIONS, load
from app.settings import Settings
from models.assessment import Band
from models.standing import StandingModel
from tools.replay import oulad
from tools.training import evaluation, inputs, metrics, train
from tools.training.evaluation import DAILY, EVENTS, Compared
from tools.training.looks import DAYS
from tools.training.scored import Scored
from tools.training.served import read_rows, serve

#: figure → how it compares with its limit
LIMITS: Mapping[str, tuple[str, float]] = {
    "v2s_auc": (">=", 0.74),
    "v2_auc": (">=", 0.71),
    "ece": ("<=", 0.04),
    "flagged_day_7": ("<=", 0.05),
    "flagged_day_84": ("<=", 0.15),
    "daily_minus_events_auc": (">=", 0.02),
    "alerts_per_100_students_and_week": ("<=", 3.0),
    "alert_precision": (">=", 0.7),
}
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {">=": operator.ge, "<=": operator.le}


@dataclass(frozen=True)
class Acceptance:
    """What was measured."""

    #: name of `LIMITS` → the figure
    figures: Mapping[str, float]
    #: more of the same, without a limit
    more: Mapping[str, Any]
    seconds: float

    @property
    def missed(self) -> list[str]:
        """The figures that are not reached, with their limits."""
        return [
            f"{name} is {self.figures[name]:.4f}, not {sign} {limit:g}"
            for name, (sign, limit) in LIMITS.items()
            if not _COMPARE[sign](self.figures[name], limit)
        ]

    @property
    def reached(self) -> bool:
        """Whether all figures are reached."""
        return not self.missed

    def as_line(self) -> dict[str, Any]:
        """The result as JSON."""
        rounded = {name: round(value, 4) for name, value in self.figures.items()}
        return {"reached": self.reached, **rounded, **self.more, "seconds": round(self.seconds, 1)}


def measure(say: Callable[[str], object]) -> Acceptance:
    """Run the log of the test presentation through the agents of the worker, once with each model; say: progress."""
    began = time.monotonic()
    data = inputs.load_oulad(train.TEST)
    (run,) = data.runs
    rows = oulad.generate(train.TEST)
    measured = {}
    for name in (DEFAULT, WITHOUT_SUBMISSIONS):
        model = load(name)
        assert isinstance(model, StandingModel), "a standing model ships under this name"
        driver = asyncio.run(serve(rows, model, Settings()))
        measured[name] = _figures(read_rows(driver, run), model)
        say(f"{name}: {len(rows):,} rows of {run.name}, AUC {measured[name]['auc']:.4f}")
    main, without = measured[DEFAULT], measured[WITHOUT_SUBMISSIONS]
    figures = {
        "v2s_auc": main["auc"],
        "v2_auc": without["auc"],
        "ece": max(main["ece"], without["ece"]),
        "flagged_day_7": max(main["flagged_day_7"], without["flagged_day_7"]),
        "flagged_day_84": max(main["flagged_day_84"], without["flagged_day_84"]),
        "daily_minus_events_auc": main["auc"] - main["events_auc"],
        "alerts_per_100_students_and_week": main["alerts"],
        "alert_precision": main["alert_precision"],
    }
    more = {"looks": int(main["looks"]), "v2": {name: round(value, 4) for name, value in without.items()}}
    return Acceptance(figures, {**more, "gone": round(main["gone"], 4)}, time.monotonic() - began)


def _figures(scored: Scored, model: StandingModel) -> dict[str, float]:
    """The figures of the rows of one model: at weekly looks, and of alerts."""
    compared = Compared(scored, {DAILY: scored.risk, EVENTS: scored.by_events})
    looks = evaluation.sample([compared], DAYS)
    y, p = looks.lost, looks.scores[DAILY]
    scores = looks.band != Band.GONE
    alerts = evaluation.alerts([compared], DAYS)
    flagged = {}
    for day in (7, 84):
        part = evaluation.sample([compared], range(day, day + 1))
        high = (part.scores[DAILY] > model.bands.high) & (part.band != Band.GONE)
        flagged[f"flagged_day_{day}"] = float(high.mean())
    return {
        "looks": len(looks),
        "auc": metrics.auc(y, p),
        "events_auc": metrics.auc(y, looks.scores[EVENTS]),
        "auc_without_gone": metrics.auc(y[scores], p[scores]),
        "ece": metrics.calibration_error(y[scores], p[scores]),
        "gone": float((~scores).mean()),
        **flagged,
        "alerts": alerts["per_100_students_and_week"],
        "alert_precision": alerts["precision"] or 0.0,
    }
