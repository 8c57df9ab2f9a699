"""The models whose thresholds the page knows: that of RISK_MODEL, and those that ship."""

from __future__ import annotations

from functools import cache

from app.errors import ConfigError
from app.model_file import SHIPPED, load
from models.standing import StandingModel
from page.web.charts.risk_history import Thresholds


@cache
def known_models(setting: str) -> dict[str, StandingModel]:
    """Return the standing models by their ids; setting: RISK_MODEL. One that cannot be read is left out."""
    found = {}
    for name in (*SHIPPED, setting):
        if name in ("", "none"):
            continue
        try:
            model = load(name)
        except ConfigError:  # another machine's path: the worker says so where it matters
            continue
        if isinstance(model, StandingModel):
            found[model.id] = model
    return found


def thresholds_of(setting: str, model: str) -> Thresholds | None:
    """Return the thresholds of the model with an id; None: they are not known."""
    found = known_models(setting).get(model)
    return None if found is None else Thresholds(found.bands.raised, found.bands.high)
