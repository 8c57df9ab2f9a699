"""Loading the risk models: those that ship, or one from a file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from app.errors import ConfigError
from models import model_json, risk, standing
from models.model_json import ModelError
from models.risk import RiskModel
from models.rules import GAP_MS
from models.standing import StandingModel

#: the models that ship, by the name that RISK_MODEL may have: the totals model, the standing model without submissions,
#: and the one with them, which is the default
TOTALS, WITHOUT_SUBMISSIONS, DEFAULT = SHIPPED = ("v1", "v2", "v2s")


@dataclass(frozen=True, slots=True)
class Models:
    """The models of a worker."""

    #: scores MOODLE_RISK and MOODLE_LOGS_PREDICTION; None: there is a totals model instead, and no MOODLE_RISK
    standing: StandingModel | None = None
    #: scores MOODLE_LOGS_PREDICTION; None: nobody asked for it. One of the two is there: one number for one student
    totals: RiskModel | None = None
    #: whether `standing` was named, rather than chosen by us
    named: bool = False

    @property
    def predicting(self) -> RiskModel | StandingModel | None:
        """The one that scores MOODLE_LOGS_PREDICTION."""
        return self.totals or self.standing

    def for_log(self, *, with_events: bool) -> Models:
        """The models for a log with or without the column eventname: without it no event is a submission.

        Unless the model was named, the one without submissions then takes its place.
        """
        if with_events or self.named or self.standing is None:
            return self
        return replace(self, standing=_standing(WITHOUT_SUBMISSIONS))


def load_models(setting: str) -> Models | None:
    """Load what RISK_MODEL names, and what belongs to it; None for "none". Raises ConfigError with one line."""
    if setting == "none":
        return None
    model = load(setting or DEFAULT)
    if isinstance(model, RiskModel):
        return Models(totals=model)
    return Models(model, named=bool(setting))


def load_model(setting: str) -> RiskModel | None:
    """Load the totals model that RISK_MODEL names, the shipped one if it names none; None for "none".

    Raises ConfigError with one line.
    """
    if setting == "none":
        return None
    model = load(setting or TOTALS)
    if isinstance(model, StandingModel):
        raise ConfigError(f"RISK_MODEL: {setting} is no totals model")
    return model


def load(name: str) -> RiskModel | StandingModel:
    """Load a model of either kind, by its name or its path. Raises ConfigError with one line."""
    try:
        text = shipped_text(name) if name in SHIPPED else Path(name).read_text("utf-8")
        return from_json(text)
    except FileNotFoundError:
        raise ConfigError(f"RISK_MODEL: {name} is neither a file nor one of {', '.join(SHIPPED)}") from None
    except (OSError, UnicodeDecodeError, ModelError) as error:
        raise ConfigError(f"RISK_MODEL: {name} cannot be used: {error}") from error


def from_json(text: str) -> RiskModel | StandingModel:
    """Read a model of either kind. Raises ModelError."""
    version = model_json.version_of(text)
    if version == standing.VERSION:
        return StandingModel.from_json(text)
    if type(version) is int and version > max(risk.VERSION, standing.VERSION):
        raise ModelError(
            f"version {version} of the layout; this program reads {risk.VERSION} and {standing.VERSION}: "
            "run the version that wrote the model"
        )
    return RiskModel.from_json(text, gap_ms=GAP_MS)


def shipped_text(name: str) -> str:
    """The JSON of a model that ships."""
    return resources.files("app").joinpath("data", f"model-{name}.json").read_text("utf-8")


def _standing(name: str) -> StandingModel:
    model = load(name)
    assert isinstance(model, StandingModel), "shipped under this name"
    return model
