"""Assessments and reasons, against the formulas of one entry in plain Python."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.activity import NONE, Activity, Events, add
from models.assessment import (
    Assessment,
    Band,
    Code,
    Figure,
    assess,
    explain,
    is_news,
    publish,
    sentence,
    unassessed,
)
from models.cohorts import Peers
from models.figures import Figures
from models.standing import StandingModel
from tests.support.effort import examples
from tests.support.standing import standing_model

V2S, V2 = standing_model(base_shift=0.1), standing_model(submissions=False)
FIRST = 16_000

figure_of = {
    "act": st.floats(0, 3.1),
    "silent": st.integers(0, 60),
    "submissions": st.integers(0, 40),
    "active_14": st.integers(0, 14),
    "active_28": st.integers(0, 28),
    "seen": st.booleans() | st.just(True),
}
peer_of = {
    "n": st.integers(0, 40),
    "act": st.floats(0, 3.1),
    "log1p_silent": st.floats(0, 4.2),
    "submissions": st.floats(0, 10),
    "median_silent": st.integers(0, 60),
    "median_14": st.integers(0, 14),
    "median_28": st.integers(0, 28),
    "median_submissions": st.integers(0, 32),
}
entries = st.tuples(st.fixed_dictionaries(figure_of), st.fixed_dictionaries(peer_of), st.integers(0, 200))


def columns(kind: type, rows: list[dict[str, Any]]) -> Any:
    return kind(*(np.array([row.get(f.name, 0) for row in rows], row_type(f.name)) for f in fields(kind)))


def row_type(name: str) -> Any:
    """The type of days, which no assessment depends on; any that fits of the other figures."""
    return np.uint64 if name.endswith("_days") else None


def activity_of(days: int) -> Activity:
    """Entries whose first day is FIRST."""
    zero = np.zeros(days, np.int64)
    events = Events(np.arange(days), zero, zero + FIRST, zero > 0)
    return add(Activity.none(), events, forget_days=120).activity


def assessed(model: StandingModel, rows: list[tuple[dict[str, Any], dict[str, Any], int]]) -> Assessment:
    figures, peers = columns(Figures, [f for f, _, _ in rows]), columns(Peers, [p for _, p, _ in rows])
    day = np.array([FIRST + age for _, _, age in rows])
    return assess(model, activity_of(len(rows)), figures, peers, day)


@settings(max_examples=examples(500), deadline=None)
@given(st.sampled_from([V2S, V2]), st.lists(entries, min_size=1, max_size=6))
def test_risk_band_and_reasons(model: StandingModel, rows: list[Any]) -> None:
    """Of each entry as if it were alone."""
    assessment = assessed(model, rows)
    reasons = explain(model, assessment)
    for i, (figures, peers, age) in enumerate(rows):
        visits = model.coefficient("act") * (figures["act"] - peers["act"])
        visits += model.coefficient("log1p_silent") * (math.log1p(figures["silent"]) - peers["log1p_silent"])
        submissions = model.coefficient("submissions") * (figures["submissions"] - peers["submissions"])
        risk = 1 / (1 + math.exp(-(model.intercept + model.base_shift + visits + submissions)))
        band = Band.HIGH if risk >= 0.7 and age >= 14 else Band.RAISED if risk >= 0.5 else Band.LOW
        if not figures["seen"] or peers["n"] < 20:
            band = Band.UNKNOWN
        elif figures["silent"] >= 28 and peers["median_silent"] <= 7:
            band = Band.GONE
        assert assessment.band[i] == band or min(abs(risk - 0.5), abs(risk - 0.7)) < 1e-4
        if band in (Band.GONE, Band.UNKNOWN):
            assert math.isnan(assessment.risk[i])
            assert assessment.units[i] == NONE
        else:
            assert assessment.risk[i] == pytest.approx(risk, abs=5.1e-5)
            assert assessment.risk[i] == round(float(assessment.risk[i]), 4) == assessment.units[i] / 10_000
        expected = expected_reasons(model, band, figures, peers, visits, submissions)
        slots = (x[i].tolist() for x in (reasons.code, reasons.figure, reasons.own, reasons.median))
        named = [(Code(c), Figure(f), o, m) for c, f, o, m in zip(*slots, strict=True) if c != NONE]
        close = abs(visits - 0.15) < 1e-9 or abs(submissions - 0.15) < 1e-9 or abs(visits - submissions) < 1e-9
        assert close or named == expected


def expected_reasons(
    model: StandingModel, band: Band, own: dict[str, Any], peers: dict[str, Any], visits: float, submissions: float
) -> list[tuple[Code, Figure, int, int]]:
    silent = (Code.VISITS, Figure.DAYS_SILENT, own["silent"], peers["median_silent"])
    if band == Band.GONE:
        return [(Code.GONE, *silent[1:])]
    if band == Band.UNKNOWN:
        return []
    found = []
    is_silent = own["silent"] > peers["median_silent"]
    if visits > 0.15:
        if is_silent and own["silent"] >= 7:
            found.append((visits, silent))
        elif own["active_14"] < peers["median_14"]:
            found.append((visits, (Code.VISITS, Figure.ACTIVE_DAYS_14, own["active_14"], peers["median_14"])))
        elif own["active_28"] < peers["median_28"]:
            found.append((visits, (Code.VISITS, Figure.ACTIVE_DAYS_28, own["active_28"], peers["median_28"])))
        elif is_silent:
            found.append((visits, silent))
    if submissions > 0.15 and own["submissions"] < peers["median_submissions"]:
        reason = (Code.SUBMISSIONS, Figure.SUBMISSIONS, own["submissions"], peers["median_submissions"])
        found.append((submissions, reason))
    return [reason for _, reason in sorted(found, key=lambda pair: -pair[0])]


@given(st.lists(entries, min_size=1, max_size=6))
@settings(max_examples=examples(100), deadline=None)
def test_a_model_without_submissions_never_mentions_them(rows: list[Any]) -> None:
    assert not (explain(V2, assessed(V2, rows)).code == Code.SUBMISSIONS).any()


def entry(risk: float, age: int = 30, **figures: Any) -> tuple[dict[str, Any], dict[str, Any], int]:
    """An entry with this risk under V2, from act alone."""
    logit = math.log(risk / (1 - risk)) - V2.intercept
    own = {"act": 0.0, "silent": 0, "submissions": 0, "active_14": 0, "active_28": 0, "seen": True, **figures}
    peers = {name: 0 for name in peer_of} | {"n": 20, "act": logit / 1.101}
    return own, peers, age


def test_no_high_before_the_14th_day() -> None:
    """However high the risk, which is published all the same."""
    assessment = assessed(V2, [entry(0.9, 13), entry(0.9, 14), entry(0.7 + 1e-6), entry(0.7 - 1e-4), entry(0.4)])
    assert assessment.band.tolist() == [Band.RAISED, Band.HIGH, Band.HIGH, Band.RAISED, Band.LOW]
    assert assessment.risk.tolist() == [0.9, 0.9, 0.7, 0.6999, 0.4]


def test_extreme_figures_have_a_risk() -> None:
    """Nothing overflows."""
    own, peers, age = entry(0.5)
    steep = replace(V2S, coefficients=(-1e300, 0.0, -1e300))
    for act, risk in ((3.0, 0.0), (-3.0, 1.0)):
        assert assessed(steep, [({**own, "act": act}, {**peers, "act": 0}, age)]).risk[0] == risk


def test_a_tick_has_news_of_what_has_changed() -> None:
    """A risk that moved by .05 since the last tick that had news, up or down, or another band; events do not count."""
    assessment = assessed(V2, [entry(0.4)] * 8)
    activity = replace(
        activity_of(8),
        tick_risk=np.array([3_501, 3_500, 4_499, 4_500, 4_000, NONE, NONE, 4_000]),
        tick_band=np.array([Band.LOW] * 4 + [Band.RAISED, Band.GONE, NONE, Band.LOW]),
    )
    assert is_news(V2, activity, assessment).tolist() == [False, True, False, True, True, True, True, False]
    scored = replace(activity, tick_risk=assessment.units, tick_band=assessment.band)
    assert not is_news(V2, scored, assessment).any()
    gone = assessed(V2, [entry(0.4, silent=28)])
    again = replace(activity_of(1), tick_risk=gone.units, tick_band=gone.band)
    assert (again.tick_risk[0], again.tick_band[0]) == (NONE, Band.GONE)
    assert not is_news(V2, again, gone).any()


def test_what_is_published_is_kept() -> None:
    assessment, activity = assessed(V2, [entry(0.4), entry(0.9)]), activity_of(2)
    published = publish(activity, assessment, np.array([False, True]))
    assert published.risk.tolist() == [NONE, 9_000]
    assert published.band.tolist() == [NONE, Band.HIGH]


def test_the_unassessed_have_no_reasons() -> None:
    nobody = unassessed(2)
    assert nobody.band.tolist() == [Band.UNKNOWN] * 2
    assert nobody.units.tolist() == [NONE] * 2
    assert (explain(V2S, nobody).code == NONE).all()
    assert len(nobody.take(np.array([1]))) == 1


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ((Code.VISITS, Figure.DAYS_SILENT, 12, 2), "no visit for 12 days; the median of the course is 2"),
        ((Code.VISITS, Figure.DAYS_SILENT, 1, 0), "no visit for 1 day; the median of the course is 0"),
        ((Code.VISITS, Figure.DAYS_SILENT, 60, 9), "no visit for 60 days or more; the median of the course is 9"),
        ((Code.VISITS, Figure.ACTIVE_DAYS_14, 1, 6), "active on 1 of the last 14 days; the median of the course is 6"),
        ((Code.VISITS, Figure.ACTIVE_DAYS_28, 0, 1), "active on 0 of the last 28 days; the median of the course is 1"),
        ((Code.SUBMISSIONS, Figure.SUBMISSIONS, 0, 2), "no submission so far; the median of the course is 2"),
        ((Code.SUBMISSIONS, Figure.SUBMISSIONS, 1, 2), "1 submission so far; the median of the course is 2"),
        ((Code.SUBMISSIONS, Figure.SUBMISSIONS, 3, 4), "3 submissions so far; the median of the course is 4"),
        ((Code.GONE, Figure.DAYS_SILENT, 31, 2), "no visit for 31 days: check whether still enrolled"),
    ],
)
def test_sentences(reason: tuple[Code, Figure, int, int], text: str) -> None:
    assert sentence(*reason) == text
