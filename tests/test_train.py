"""Training: the arithmetic on small examples, and reproduction of the shipped artifact."""

from pathlib import Path

import numpy as np
import pytest

from models.risk import FEATURES, RiskModel
from models.rules import GAP_MS
from tools.replay import oulad
from tools.training.fit import fit
from tools.training.landmarks import Landmarks, load_landmarks
from tools.training.metrics import auc, calibration_error
from tools.training.totals import TEST, TRAIN, evaluate, write

SHIPPED = Path(__file__).parents[1] / "app" / "data" / "model-v1.json"


def test_training_reproduces_the_shipped_file(tmp_path: Path) -> None:
    write(tmp_path / "model.json")
    assert (tmp_path / "model.json").read_text() == SHIPPED.read_text()


@pytest.fixture(scope="module")
def other_seed() -> Landmarks:
    """The training examples with other times of day."""
    return load_landmarks(TRAIN, seed=2).scored


def test_another_seed_gives_nearly_the_same_model(other_seed: Landmarks) -> None:
    """The generated times of day have little influence: scores differ by less than 0.02."""
    shipped = RiskModel.from_json(SHIPPED.read_text(), GAP_MS)
    intercept, slope = fit(np.log1p(other_seed.sessions)[:, None], other_seed.unsuccessful)
    sessions = np.arange(1, 300)
    other = 1 / (1 + np.exp(-(intercept + slope * np.log1p(sessions))))
    assert np.abs(other - shipped.score(sessions, sessions, sessions)).max() < 0.02


@pytest.mark.parametrize("feature", ["log1p_duration", "log1p_activities_per_session"])
def test_second_feature_would_get_the_wrong_sign(other_seed: Landmarks, feature: str) -> None:
    """Beside sessions, with this seed, longer or fuller sessions would mean more risk."""
    columns = (other_seed.activities, other_seed.duration, other_seed.sessions)
    totals = [column.astype(np.float64) for column in columns]
    x = np.column_stack([FEATURES[name](*totals) for name in ("log1p_sessions", feature)])
    assert fit(x, other_seed.unsuccessful)[2] > 0


def test_totals_at_a_landmark_include_nothing_later() -> None:
    """Clicks up to and including the landmark's day, of students registered on it."""
    landmarks = load_landmarks(("AAA-2013J",), days=range(14, 29, 7))
    active, enrolments = oulad.load_active_days(), oulad.load_enrolments()
    presentation = oulad.select_presentations(["AAA-2013J"])[0]
    expected = []
    for day in (14, 21, 28):
        until = (active.presentation == oulad.PRESENTATIONS.index(presentation)) & (active.day <= day)
        for row in enrolments.enrolled(presentation, day):
            expected.append(int(active.clicks[until & (active.student == enrolments.student[row])].sum()))
    # clicks in the last seconds of a day may be written, and so counted, after midnight
    assert np.abs(landmarks.activities - expected).max() <= 2
    assert landmarks.activities.sum() == pytest.approx(sum(expected), rel=1e-4)


def test_number_of_landmarks_and_their_base_rate() -> None:
    """BBB 2013J has 26,672 landmarks, 39.7 % of them unsuccessful (counted independently from OULAD)."""
    landmarks = load_landmarks(TEST)
    assert len(landmarks) == 26_672
    assert landmarks.unsuccessful.mean() == pytest.approx(0.3973, abs=1e-4)


def test_fit_of_one_binary_feature_is_its_log_odds() -> None:
    """3 of 4 positive with the feature, 1 of 4 without: intercept ln(1/3), coefficient ln(9)."""
    x = np.array([1.0, 1, 1, 1, 0, 0, 0, 0])[:, None]
    y = np.array([1, 1, 1, 0, 1, 0, 0, 0], np.bool_)
    assert fit(x, y, ridge=0.0) == pytest.approx([np.log(1 / 3), np.log(9)])


def test_ridge_keeps_the_coefficient_of_separable_data_finite() -> None:
    intercept, coefficient = fit(np.array([[-1.0], [1.0]]), np.array([False, True]), ridge=1.0)
    assert intercept == pytest.approx(0)
    assert 0 < coefficient < 2


def test_diverging_fit_is_an_error() -> None:
    x = np.array([[1.0, 1.0], [0.0, 0.0]])
    with pytest.raises((ArithmeticError, np.linalg.LinAlgError)):
        fit(x, np.array([True, False]), ridge=0.0)


@pytest.mark.parametrize(
    ("scores", "area"), [([0.1, 0.2, 0.8, 0.9], 1.0), ([0.9, 0.8, 0.2, 0.1], 0.0), ([0.5] * 4, 0.5)]
)
def test_auc_of_sorted_reversed_and_tied_scores(scores: list[float], area: float) -> None:
    assert auc(np.array([False, False, True, True]), np.array(scores)) == area


def test_calibration_error_is_the_mean_distance_over_bins() -> None:
    """Two scores of 0.2 without a positive are off by 0.2; two of 0.9 with one positive by 0.4."""
    y = np.array([False, False, True, False])
    assert calibration_error(y, np.array([0.2, 0.2, 0.9, 0.9])) == pytest.approx(0.3)


def test_alert_metrics_count_scores_above_the_threshold() -> None:
    """A score of exactly 0.7 is not an alert (KSQL: prediction > 0.7)."""
    shipped = RiskModel.from_json(SHIPPED.read_text(), gap_ms=GAP_MS)
    sessions = np.array([1, 1, 200, 200])
    landmarks = Landmarks(sessions, sessions, sessions, np.array([True, False, True, False]))
    metrics = evaluate(shipped, landmarks)
    assert metrics["flagged_at_0.7"] == 0.5
    assert metrics["precision_at_0.7"] == 0.5
    assert metrics["recall_at_0.7"] == 0.5
