"""When alerts are opened and closed: against plain Python, and the weekly budget over any division into partitions."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.activity import NO_DAY, NONE, Activity, Events, add
from models.alerts import Advanced, Why, advance, waiting
from models.assessment import Assessment, Band, unassessed
from models.cohorts import Waiting, merge
from models.figures import Figures, figures
from tests.support.effort import examples
from tests.support.standing import standing_model

MODEL = standing_model()
FIRST = 16_000
SETTLED = FIRST + 14
GONE, UNKNOWN = -1.0, -2.0
#: the risk of one entry on each day
risks = st.lists(st.sampled_from([0.2, 0.5999, 0.6, 0.65, 0.6999, 0.7, 0.7, 0.8, 0.8, GONE, UNKNOWN]), max_size=30)


def entries(keys: Sequence[tuple[int, int]]) -> Activity:
    """Entries by (owner, course) whose first day is FIRST."""
    owner, course = (np.array(c, np.int64) for c in zip(*keys, strict=True))
    zero = np.zeros(len(owner), np.int64)
    return add(Activity.none(), Events(owner, course, zero + FIRST, zero > 0), forget_days=120).activity


def assessments(risk: Sequence[float], seen: bool = True) -> Assessment:
    """Assessments with these risks, or the band instead."""
    values, blank = np.array(risk), unassessed(len(risk))
    band = np.where(values >= 0.7, Band.HIGH, np.where(values >= 0.5, Band.RAISED, Band.LOW))
    band = np.where(values == GONE, Band.GONE, np.where(values == UNKNOWN, Band.UNKNOWN, band))
    own = replace(blank.figures, seen=np.full(len(risk), seen))
    return replace(blank, risk=np.where(values < 0, np.nan, values), band=band, figures=own)


@dataclass
class Alert:
    """One entry's alert in plain Python: the slow truth."""

    above: int = 0
    below: int = 0
    is_open: bool = False

    def tick(self, risk: float, settled: bool) -> tuple[bool, bool]:
        """Whether it was opened, and closed."""
        before = self.is_open
        self.above = min(self.above + 1, 3) if risk >= 0.7 and settled else 0
        self.below = min(self.below + 1, 3) if 0 <= risk < 0.6 and before else 0
        if before and (self.below >= 3 or risk == GONE):
            self.is_open = False
        elif not before and self.above >= 3:
            self.is_open = True
        return self.is_open and not before, before and not self.is_open


def tick(activity: Activity, risk: Sequence[float], day: int) -> Advanced:
    return advance(MODEL, activity, assessments(risk), day, students=np.arange(100))


@settings(max_examples=examples(300), deadline=None)
@given(risks, st.integers(-3, 14))
def test_alerts_open_and_close_after_three_ticks(risk: list[float], start: int) -> None:
    """Opened at .7 or more, closed below .6 or when gone; a tick without a risk breaks a row, days before the 14th
    do not count."""
    activity, truth = entries([(0, 5)]), Alert()
    opened_on = NO_DAY
    for day, value in enumerate(risk, FIRST + start):
        advanced = tick(activity, [value], day)
        activity = advanced.activity
        opened, closed = truth.tick(value, day >= SETTLED)
        if opened:
            opened_on = day
        assert (advanced.opened[0], advanced.closed[0], activity.alert[0]) == (opened, closed, truth.is_open)
        assert (activity.above[0], activity.below[0], activity.opened[0]) == (truth.above, truth.below, opened_on)
        if closed:
            assert advanced.why[0] == (Why.GONE if value == GONE else Why.RISK)
        elif opened:
            assert advanced.why[0] == Why.RISK


def test_an_entry_that_does_not_exist_yet_stays_as_it_is() -> None:
    """The tick of a day before its first."""
    activity = replace(entries([(0, 5)]), above=np.array([2]), below=np.array([1]))
    advanced = advance(MODEL, activity, assessments([0.9], seen=False), SETTLED, students=np.arange(1))
    assert (advanced.activity.above[0], advanced.activity.below[0], advanced.opened[0]) == (2, 1, False)


# -- the weekly budget


def seen(activity: Activity, day: int) -> Figures:
    return figures(activity, day, half_life_days=14.0, forget_days=120)


def in_line(activity: Activity, day: int, budget: int, students: np.ndarray) -> Waiting:
    return waiting(MODEL, activity, seen(activity, day), day, students=students, budget=budget)


def due(risk: Sequence[int], course: int = 5) -> Activity:
    """Entries of owners 0… that have been high on two ticks, with the risk as of a tick in 1e-4."""
    activity = entries([(i, course) for i in range(len(risk))])
    return replace(activity, above=np.full(len(risk), 2), tick_risk=np.array(risk, np.int64))


def test_the_highest_are_first() -> None:
    """Of those in line, as many as the budget of the week has left; the others wait."""
    activity, students = due([7_100, 9_000, 8_000, 7_000]), np.arange(4)
    days = []
    for day in range(SETTLED, SETTLED + 15):
        line = in_line(activity, day, 1, students)
        advanced = advance(MODEL, activity, assessments([0.8] * 4), day, students=students, waiting=line, budget=1)
        activity = advanced.activity
        days += [(day - SETTLED, i) for i in np.flatnonzero(advanced.opened).tolist()]
    assert days == [(0, 1), (7, 2), (14, 0)]


def test_a_budget_is_per_course() -> None:
    activity = due([8_000, 9_000, 8_000, 7_000])
    activity = replace(activity, course=np.array([5, 5, 6, 6]))
    line = in_line(activity, SETTLED, 1, np.arange(4))
    risk = assessments([0.8] * 4)
    advanced = advance(MODEL, activity, risk, SETTLED, students=np.arange(4), waiting=line, budget=1)
    assert advanced.opened.tolist() == [False, True, True, False]
    unlimited = advance(MODEL, activity, risk, SETTLED, students=np.arange(4))
    assert unlimited.opened.all()


def test_without_anybody_in_line_nobody_is_admitted() -> None:
    advanced = advance(
        MODEL, due([8_000]), assessments([0.8]), SETTLED, students=np.arange(1), waiting=Waiting.none(), budget=3
    )
    assert not advanced.opened.any()


@settings(max_examples=examples(100), deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 3), st.integers(1, 4))
def test_a_budget_is_kept_over_any_division(seed: int, budget: int, parts: int) -> None:
    """The same alerts as in one partition, and per course never more than the budget within seven days."""
    rng = random.Random(seed)
    students = np.array(rng.sample(range(1, 10**9), 24))
    whole = entries(sorted({(rng.randrange(24), rng.choice([5, 6])) for _ in range(30)}))
    where = np.array([rng.randrange(parts) for _ in range(24)])
    divided = [whole.take(where[whole.owner] == part) for part in range(parts)]
    opened: list[tuple[int, int, int]] = []
    for day in range(SETTLED, SETTLED + 20):
        risk = {
            (owner, course): rng.choice([0.2, 0.65, 0.7, 0.75, 0.9, 0.9, 0.9])
            for owner, course in zip(whole.owner.tolist(), whole.course.tolist(), strict=True)
        }
        line = merge([in_line(part, day, budget, students) for part in divided], budget)
        single = in_line(whole, day, budget, students)
        assert line.rank.tolist() == single.rank.tolist()
        results = []
        for part in [whole, *divided]:
            keys = list(zip(part.owner.tolist(), part.course.tolist(), strict=True))
            assessment = assessments([risk[key] for key in keys])
            result = advance(MODEL, part, assessment, day, students=students, waiting=line, budget=budget)
            published = np.array([round(1e4 * risk[key]) for key in keys], np.int64)
            results.append(replace(result, activity=replace(result.activity, tick_risk=published)))
        whole, divided = results[0].activity, [result.activity for result in results[1:]]
        found = [names(result, day) for result in results]
        assert sorted(found[0]) == sorted(name for part in found[1:] for name in part)
        opened += found[0]
    for day in range(SETTLED, SETTLED + 20):
        for course in (5, 6):
            assert sum(day - 7 < d <= day and c == course for d, _, c in opened) <= budget


def names(result: Advanced, day: int) -> list[tuple[int, int, int]]:
    rows = result.opened
    owners, courses = result.activity.owner[rows].tolist(), result.activity.course[rows].tolist()
    return [(day, owner, course) for owner, course in zip(owners, courses, strict=True)]


def test_ties_are_broken_by_the_student() -> None:
    """Not by where it is stored: a budget of one admits one of many with the same risk."""
    activity, students = due([8_000] * 50), np.arange(1_000, 1_050)
    line = in_line(activity, SETTLED, 1, students)
    risk = assessments([0.8] * 50)
    advanced = advance(MODEL, activity, risk, SETTLED, students=students, waiting=line, budget=1)
    assert advanced.opened.sum() == 1
    order = np.arange(50)[::-1]
    assert in_line(activity, SETTLED, 1, students[order]).rank.tolist() == line.rank.tolist()
    assert activity.band[0] == NONE
