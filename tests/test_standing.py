"""The standing model: its JSON, its identity, and what is refused."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Any

import pytest

from models import model_json
from models.model_json import ModelError
from models.standing import AlertRule, BandRule, CohortRule, GoneRule, StandingModel
from tests.support.standing import standing_model


def test_it_is_read_as_written() -> None:
    """Equal models have equal texts and ids."""
    for model in (standing_model(), standing_model(submissions=False)):
        text = model.to_json()
        assert StandingModel.from_json(text) == model
        assert StandingModel.from_json(text).to_json() == text
        assert json.loads(text)["sha256"] == model.sha256
        assert model_json.version_of(text) == 2


def test_the_id_names_kind_and_content() -> None:
    model = standing_model()
    assert model.id == f"v2s-{model.sha256[:12]}"
    assert standing_model(submissions=False).id.startswith("v2-")
    assert standing_model(intercept=-0.27).id != model.id


def test_coefficients_by_name() -> None:
    assert standing_model().coefficient("submissions") == -1.313
    assert standing_model(submissions=False).coefficient("submissions") == 0.0


def altered(**changes: Any) -> str:
    """The JSON of a model with other fields, and the right hash."""
    values = {f.name: getattr(standing_model(), f.name) for f in fields(StandingModel)}
    rules = {name: asdict(value) for name, value in values.items() if hasattr(value, "__dataclass_fields__")}
    for name, value in changes.items():
        if name in rules and isinstance(value, dict):
            changes[name] = {**rules[name], **value}
    return model_json.write({**values, **rules, "version": 2, **changes})


def test_the_hash_guards_the_content() -> None:
    text = standing_model().to_json()
    assert altered() == text
    with pytest.raises(ModelError, match="has been altered"):
        StandingModel.from_json(text.replace("0.047", "0.147"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 1}, "version 1 of the layout; this program reads 2: train it again"),
        ({"version": 3}, "this program reads 2: run the version that wrote the model"),
        ({"features": ["act", "age"], "coefficients": [-1.0, 1.0]}, "unknown feature age; known are act, log1p_silent"),
        ({"features": ["act", "act"], "coefficients": [-1.0, -1.0]}, "a feature is repeated"),
        ({"features": [], "coefficients": []}, "differ in length"),
        ({"coefficients": [-1.0, 0.0]}, "differ in length"),
        ({"coefficients": [1.0, 0.0, 0.0]}, "the coefficient of act has the wrong sign: 1.0"),
        ({"coefficients": [-1.0, -0.1, 0.0]}, "the coefficient of log1p_silent has the wrong sign"),
        ({"coefficients": [-1.0, "x", 0.0]}, "'x' is no finite number"),
        ({"intercept": True}, "True is no finite number"),
        ({"intercept": None}, "None is no finite number"),
        ({"half_life_days": 0}, "half_life_days is not above 0"),
        ({"publish_change": 0}, "publish_change is not above 0"),
        ({"cohort": {"weeks": 4, "minimum": 20, "forget_days": 63}}, "forget_days is below 64"),
        ({"cohort": {"weeks": 4.0, "minimum": 20, "forget_days": 120}}, "cohort.weeks is no integer"),
        ({"cohort": {"weeks": 4, "minimum": 0}}, "minimum below 1"),
        ({"cohort": {"weeks": -1, "minimum": 1}}, "weeks below 0"),
        ({"cohort": {"months": 4}}, "not a standing model"),
        ({"cohort": [4, 20]}, "not a standing model"),
        ({"bands": {"raised": 0.8, "high": 0.7}}, "not 0 <= raised <= high <= 1"),
        ({"bands": {"high_after_days": -1}}, "high_after_days is below 0"),
        ({"gone": {"silent_days": 61}}, "silent_days is not in 1…60"),
        ({"alerts": {"on": 0.5, "off": 0.6}}, "not 0 <= off <= on <= 1"),
        ({"alerts": {"ticks": 0}}, "ticks is not in 1…1000"),
        ({"reasons": {"weight": "a"}}, "'a' is no finite number"),
        ({"submission_events": "x"}, "submission_events are no list of text"),
        ({"timezone": 1}, "timezone is no text"),
        ({"more": 1}, "not a standing model"),
        ({"data": [1]}, "data is no object"),
    ],
)
def test_models_that_must_not_be_used_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        StandingModel.from_json(altered(**changes))


@pytest.mark.parametrize("text", ["", "[]", "1", "null", '{"a": NaN}', "[" * 100_000, '{"version": 2}', "{}"])
def test_texts_that_are_no_model_are_refused(text: str) -> None:
    with pytest.raises(ModelError, match="not a risk model"):
        StandingModel.from_json(text)


def test_every_missing_field_is_refused() -> None:
    """Also those of the rules: no threshold is in the code."""
    values = json.loads(altered())
    del values["sha256"]
    for name, value in values.items():
        rest = {key: other for key, other in values.items() if key != name}
        with pytest.raises(ModelError):
            StandingModel.from_json(model_json.write(rest))
        if name in ("cohort", "bands", "gone", "alerts", "reasons"):
            for inner in value:
                rule = {key: other for key, other in value.items() if key != inner}
                with pytest.raises(ModelError, match=f"{inner} is missing"):
                    StandingModel.from_json(model_json.write({**values, name: rule}))


def test_the_claimed_version_of_no_model() -> None:
    for text in ("", "[]", "{}"):
        with pytest.raises(ModelError, match="not a risk model"):
            model_json.version_of(text)


def test_default_rules_are_those_of_the_study() -> None:
    assert (CohortRule().weeks, CohortRule().minimum, CohortRule().forget_days) == (4, 20, 120)
    assert (BandRule().raised, BandRule().high, BandRule().high_after_days) == (0.5, 0.7, 14)
    assert (GoneRule().silent_days, GoneRule().median_days) == (28, 7)
    assert (AlertRule().on, AlertRule().off, AlertRule().ticks) == (0.7, 0.6, 3)
