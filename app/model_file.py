"""Loading the risk model: the shipped artifact, a file, or none."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from app.errors import ConfigError
from models.risk import ModelError, RiskModel
from models.rules import GAP_MS


def load_model(setting: str) -> RiskModel | None:
    """Load the model that RISK_MODEL names; None for "none". Raises ConfigError with one line."""
    if setting == "none":
        return None
    try:
        text = Path(setting).read_text("utf-8") if setting else _shipped()
        return RiskModel.from_json(text, gap_ms=GAP_MS)
    except (OSError, UnicodeDecodeError, ModelError) as error:
        raise ConfigError(f"RISK_MODEL: {setting or 'the shipped model'} cannot be used: {error}") from error


def _shipped() -> str:
    return resources.files("app").joinpath("data/model.json").read_text("utf-8")
