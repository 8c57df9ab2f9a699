"""A standing model written by hand: the coefficients of the study, and the default rules."""

from __future__ import annotations

from typing import Any

from models.standing import (
    ACT,
    SILENT,
    SUBMISSIONS,
    AlertRule,
    BandRule,
    CohortRule,
    GoneRule,
    ReasonRule,
    StandingModel,
)


def standing_model(*, submissions: bool = True, **changes: Any) -> StandingModel:
    """A model of visits and submissions, or of visits alone; `changes` replace fields."""
    fields: dict[str, Any] = {
        "features": (ACT, SILENT, SUBMISSIONS) if submissions else (ACT, SILENT),
        "coefficients": (-0.866, 0.047, -1.313) if submissions else (-1.101, 0.145),
        "intercept": -0.269 if submissions else -0.409,
        "base_shift": 0.0,
        "half_life_days": 14.0,
        "cohort": CohortRule(),
        "bands": BandRule(),
        "gone": GoneRule(),
        "alerts": AlertRule(),
        "reasons": ReasonRule(),
        "publish_change": 0.05,
        "submission_events": (r"\mod_assign\event\assessable_submitted", r"\mod_quiz\event\attempt_submitted"),
        "timezone": "UTC",
        "label": "withdrawn or failed",
        "data": {"origin": "written by hand"},
        "metrics": {},
    }
    return StandingModel(**{**fields, **changes})
