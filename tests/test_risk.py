"""The risk model: validation and scores."""

import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from importlib import resources
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.model_json import ModelError
from models.risk import FEATURES, RiskModel
from models.rules import GAP_MS

SHIPPED = resources.files("app").joinpath("data", "model-v1.json").read_text(encoding="utf-8")

MODEL = RiskModel(
    features=("log1p_sessions", "log1p_duration"),
    center=(0.0, 0.0),
    scale=(1.0, 2.0),
    coefficients=(-1.0, -0.5),
    intercept=2.0,
    session_gap_ms=GAP_MS,
    label="lost",
    data={"source": "none", "train": ["a"]},
    metrics={"auc": 0.5},
)

counts = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=50)


def rehashed(change: Callable[[dict[str, Any]], object]) -> str:
    """The model's JSON after `change`, with a matching hash."""
    fields = json.loads(MODEL.to_json())
    change(fields)
    del fields["sha256"]
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return json.dumps({**fields, "sha256": sha256(canonical.encode()).hexdigest()})


def test_json_round_trip() -> None:
    again = RiskModel.from_json(MODEL.to_json(), gap_ms=GAP_MS)
    assert again == MODEL
    assert again.sha256 == MODEL.sha256
    assert again.to_json() == MODEL.to_json()


def test_the_formula() -> None:
    """intercept + Σ coefficient · (feature - center) / scale, through the logistic function."""
    risk = MODEL.score(np.array([5]), np.array([100]), np.array([3]))
    logit = 2.0 - 1.0 * np.log1p(3) - 0.5 * np.log1p(100) / 2.0
    assert risk == pytest.approx(1 / (1 + np.exp(-logit)))


@pytest.mark.parametrize(("column", "value"), [("intercept", 1.9), ("label", "passed"), ("metrics", {"auc": 0.9})])
def test_an_altered_file_is_refused(column: str, value: object) -> None:
    fields = json.loads(MODEL.to_json())
    with pytest.raises(ModelError, match="has been altered"):
        RiskModel.from_json(json.dumps({**fields, column: value}), gap_ms=GAP_MS)


def test_whitespace_and_key_order_do_not_matter() -> None:
    fields = json.loads(MODEL.to_json())
    text = json.dumps(dict(reversed(fields.items())))
    assert RiskModel.from_json(text, gap_ms=GAP_MS) == MODEL


def test_another_gap_is_refused() -> None:
    with pytest.raises(ModelError, match="a gap of 900000 ms, not 3600000 ms"):
        RiskModel.from_json(MODEL.to_json(), gap_ms=3_600_000)


def test_another_version_is_refused() -> None:
    with pytest.raises(ModelError, match="version 2 "):
        RiskModel.from_json(rehashed(lambda fields: fields.update(version=2)), gap_ms=GAP_MS)


def test_an_unknown_feature_is_refused() -> None:
    text = rehashed(lambda fields: fields.update(features=["log1p_sessions", "age"]))
    with pytest.raises(ModelError, match="unknown feature age"):
        RiskModel.from_json(text, gap_ms=GAP_MS)


@pytest.mark.parametrize(
    "change",
    [
        {"center": [0.0]},
        {"features": ["log1p_sessions", "log1p_sessions"]},
        {"features": [], "center": [], "scale": [], "coefficients": []},
        {"scale": [1.0, 0.0]},
        {"coefficients": ["-1", "-1"]},
        {"features": [["log1p_sessions"], 1]},
        {"intercept": None},
        {"surplus": 1},
    ],
)
def test_an_invalid_model_with_a_matching_hash_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        RiskModel.from_json(rehashed(lambda fields: fields.update(change)), gap_ms=GAP_MS)


@pytest.mark.parametrize("text", ["", "[]", "1", "{}", "null", '{"version": 1}', '{"intercept": NaN}'])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(ModelError, match="not a risk model"):
        RiskModel.from_json(text, gap_ms=GAP_MS)


def test_non_finite_numbers_are_refused() -> None:
    with pytest.raises(ModelError, match="not finite"):
        replace(MODEL, intercept=float("nan"))


@given(counts, counts, counts)
def test_every_score_is_a_probability(activities: list[int], seconds: list[int], sessions: list[int]) -> None:
    """For any totals: sums may wrap, counts may be zero or negative."""
    columns = (activities, seconds, sessions)
    n = min(map(len, columns))
    risk = MODEL.score(*(np.array(column[:n], np.int64) for column in columns))
    assert ((risk >= 0) & (risk <= 1)).all()


@given(counts)
def test_a_students_score_does_not_depend_on_the_batch(sessions: list[int]) -> None:
    """Bit for bit the same, alone or among others."""
    column = np.array(sessions, np.int64)
    whole = MODEL.score(column, column, column)
    alone = [MODEL.score(row, row, row)[0] for row in np.split(column, len(column))]
    assert whole.tolist() == alone


def test_the_shipped_model() -> None:
    model = RiskModel.from_json(SHIPPED, gap_ms=GAP_MS)
    assert model.to_json() == SHIPPED
    assert model.metrics["scored"]["auc"] > 0.68
    assert model.metrics["registered"]["auc"] > 0.70
    assert model.metrics["scored"]["ece"] < 0.10


@pytest.mark.parametrize("column", ["activities", "duration", "sessions"])
def test_more_is_never_riskier(column: str) -> None:
    """The shipped model: a larger total, with the others equal, never raises the risk."""
    model = RiskModel.from_json(SHIPPED, gap_ms=GAP_MS)
    values = np.unique(np.geomspace(1, 100_000, 200).astype(np.int64))
    fixed = {name: np.full(len(values), 40) for name in ("activities", "duration", "sessions")}
    assert (np.diff(model.score(**{**fixed, column: values})) <= 0).all()


def test_more_sessions_are_safer() -> None:
    model = RiskModel.from_json(SHIPPED, gap_ms=GAP_MS)
    sessions = np.array([1, 7, 30, 200])
    risk = model.score(sessions * 10, np.full(4, 300), sessions)
    assert (np.diff(risk) < -0.1).all()


def test_every_known_feature_takes_students_without_sessions() -> None:
    zero = np.zeros(1)
    assert all(feature(zero, zero, zero) == 0 for feature in FEATURES.values())
