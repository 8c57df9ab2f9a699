"""Training: its arithmetic on cases one can check by hand, and the shipped artifact made again."""

from pathlib import Path

import numpy as np
import pytest

from models.risk import FEATURES, RiskModel
from models.rules import GAP_MS
from tools.replay import oulad
from tools.training import train

SHIPPED = Path(__file__).parents[1] / "app" / "data" / "model.json"


def test_training_again_gives_the_shipped_file(tmp_path: Path) -> None:
    train.write(tmp_path / "model.json")
    assert (tmp_path / "model.json").read_text() == SHIPPED.read_text()


@pytest.fixture(scope="module")
def other_clock() -> train.Landmarks:
    """The training students again, their clocks drawn anew."""
    return train.landmarks(train.TRAIN, seed=2).scored


def test_another_clock_gives_nearly_the_same_model(other_clock: train.Landmarks) -> None:
    """The drawn clock decides little: scores differ by less than two points."""
    shipped = RiskModel.from_json(SHIPPED.read_text(), GAP_MS)
    intercept, slope = train.fit(np.log1p(other_clock.sessions)[:, None], other_clock.lost)
    ladder = np.arange(1, 300)
    other = 1 / (1 + np.exp(-(intercept + slope * np.log1p(ladder))))
    assert np.abs(other - shipped.score(ladder, ladder, ladder)).max() < 0.02


@pytest.mark.parametrize("feature", ["log1p_duration", "log1p_activities_per_session"])
def test_why_no_second_feature(other_clock: train.Landmarks, feature: str) -> None:
    """Beside sessions, with this clock it would say that longer or fuller sessions are riskier."""
    columns = (other_clock.activities, other_clock.duration, other_clock.sessions)
    totals = [column.astype(np.float64) for column in columns]
    x = np.column_stack([FEATURES[name](*totals) for name in ("log1p_sessions", feature)])
    assert train.fit(x, other_clock.lost)[2] > 0


def test_totals_at_a_landmark_are_those_of_the_days_before() -> None:
    """Clicks up to and with the landmark's day, of students registered then: nothing later."""
    looks = train.landmarks(("AAA-2013J",), days=range(14, 29, 7))
    days, known = oulad.days(), oulad.outcomes()
    here = oulad.named(["AAA-2013J"])[0]
    expected = []
    for day in (14, 21, 28):
        until = (days.presentation == oulad.PRESENTATIONS.index(here)) & (days.day <= day)
        for row in known.enrolled(here, day):
            expected.append(int(days.clicks[until & (days.student == known.student[row])].sum()))
    # a click in the day's last seconds may be written, and so counted, after midnight
    assert np.abs(looks.activities - expected).max() <= 2
    assert looks.activities.sum() == pytest.approx(sum(expected), rel=1e-4)


def test_landmarks_are_those_of_the_weekly_table() -> None:
    """26 672 looks at BBB 2013J, 39.7 % of them lost in the end (counted independently from OULAD)."""
    looks = train.landmarks(train.TEST)
    assert len(looks) == 26_672
    assert looks.lost.mean() == pytest.approx(0.3973, abs=1e-4)


def test_the_fit_of_one_yes_or_no_feature_is_its_log_odds() -> None:
    """3 of 4 lost with the feature, 1 of 4 without: intercept ln(1/3), coefficient ln(9)."""
    x = np.array([1.0, 1, 1, 1, 0, 0, 0, 0])[:, None]
    y = np.array([1, 1, 1, 0, 1, 0, 0, 0], np.bool_)
    assert train.fit(x, y, ridge=0.0) == pytest.approx([np.log(1 / 3), np.log(9)])


def test_a_ridge_makes_a_separable_case_finite() -> None:
    intercept, coefficient = train.fit(np.array([[-1.0], [1.0]]), np.array([False, True]), ridge=1.0)
    assert intercept == pytest.approx(0)
    assert 0 < coefficient < 2


def test_a_fit_that_runs_away_is_an_error() -> None:
    x = np.array([[1.0, 1.0], [0.0, 0.0]])
    with pytest.raises((ArithmeticError, np.linalg.LinAlgError)):
        train.fit(x, np.array([True, False]), ridge=0.0)


@pytest.mark.parametrize(
    ("scores", "area"), [([0.1, 0.2, 0.8, 0.9], 1.0), ([0.9, 0.8, 0.2, 0.1], 0.0), ([0.5] * 4, 0.5)]
)
def test_auc_of_sorted_reversed_and_tied_scores(scores: list[float], area: float) -> None:
    assert train.auc(np.array([False, False, True, True]), np.array(scores)) == area


def test_calibration_error_is_the_mean_distance_over_bins() -> None:
    """Two scores of 0.2 with no loss: off by 0.2; two of 0.9 with one: off by 0.4."""
    y = np.array([False, False, True, False])
    assert train.calibration_error(y, np.array([0.2, 0.2, 0.9, 0.9])) == pytest.approx(0.3)


def test_alert_figures_count_scores_above_the_threshold() -> None:
    """Exactly 0.7 is no alert (KSQL: prediction > 0.7)."""
    shipped = RiskModel.from_json(SHIPPED.read_text(), gap_ms=GAP_MS)
    sessions = np.array([1, 1, 200, 200])
    looks = train.Landmarks(sessions, sessions, sessions, np.array([True, False, True, False]))
    figures = train.evaluate(shipped, looks)
    assert figures["flagged_at_0.7"] == 0.5
    assert figures["precision_at_0.7"] == 0.5
    assert figures["recall_at_0.7"] == 0.5
