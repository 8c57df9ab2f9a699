"""Figures of one student in one course, the peers they are measured against, and what follows from both."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tools.e2e.risk_oracle.log import Key

#: number of days that count, as of a day
DAYS = 60
#: submissions above this are not told apart in medians
_MOST_SUBMISSIONS = 32


class Figures(NamedTuple):
    """The figures of a student in a course as of a day."""

    act: float
    silent: int
    submissions: int
    active_14: int
    active_28: int
    #: how many days before there was a visit, and a submission, up to DAYS
    visit_ages: Sequence[int] = ()
    submission_ages: Sequence[int] = ()


class Peers(NamedTuple):
    """Means and lower medians over the peers."""

    n: int = 0
    act: float = 0.0
    log1p_silent: float = 0.0
    submissions: float = 0.0
    median_silent: int = 0
    median_14: int = 0
    median_28: int = 0
    median_submissions: int = 0


class Assessment(NamedTuple):
    """A risk and what explains it."""

    #: in 1e-4; None for GONE and UNKNOWN
    risk: int | None
    band: str
    reasons: Sequence[Mapping[str, Any]]
    cohort_n: int
    figures: Figures

    def columns(self) -> dict[str, Any]:
        """Return RISK and BAND as in a row."""
        return {"RISK": None if self.risk is None else self.risk / 10_000, "BAND": self.band}


#: of an entry that no longer exists
NO_ASSESSMENT = Assessment(None, "UNKNOWN", (), 0, Figures(0.0, 0, 0, 0, 0))


@dataclass(frozen=True, slots=True)
class Standing:
    """A standing model, from its JSON."""

    id: str
    #: the artefact
    model: Mapping[str, Any]
    weights: Sequence[int]

    @classmethod
    def of(cls, id: str, text: str) -> Standing:
        """Read the artefact `text` of the model `id`."""
        model = json.loads(text)
        half_life = model["half_life_days"]
        return cls(id, model, [round(2**20 * 2 ** (-age / half_life)) for age in range(DAYS)])

    def figures(self, visits: Collection[int], submissions: Collection[int], day: int) -> Figures | None:
        """Return the figures as of `day`, to which later days do not belong; None before the first, or if forgotten."""
        ages = [day - d for d in visits if d <= day]
        silent = min(ages, default=None)
        if silent is None or silent > self.model["cohort"]["forget_days"]:
            return None
        recent = [age for age in ages if age < DAYS]
        handed_in = [day - d for d in submissions if d <= day]
        return Figures(
            math.log1p(sum(self.weights[age] for age in recent) / 2**20),
            min(silent, DAYS),
            len(handed_in),
            len([age for age in recent if age < 14]),
            len([age for age in recent if age < 28]),
            recent,
            [age for age in handed_in if age < DAYS],
        )

    def assess(self, figures: Figures, peers: Peers, first: int, day: int) -> Assessment:
        """Assess a student as of `day`, whose first day is `first`."""
        model, bands, gone = self.model, self.model["bands"], self.model["gone"]
        if peers.n < model["cohort"]["minimum"]:
            return Assessment(None, "UNKNOWN", (), peers.n, figures)
        if figures.silent >= gone["silent_days"] and peers.median_silent <= gone["median_days"]:
            return Assessment(None, "GONE", (self._gone(figures, peers),), peers.n, figures)
        by_feature = dict(zip(model["features"], model["coefficients"], strict=True))
        visits = by_feature.get("act", 0.0) * (figures.act - peers.act)
        visits += by_feature.get("log1p_silent", 0.0) * (math.log1p(figures.silent) - peers.log1p_silent)
        submissions = by_feature.get("submissions", 0.0) * (figures.submissions - peers.submissions)
        logit = model["intercept"] + model["base_shift"] + visits + submissions
        risk = round(10_000 / (1 + math.exp(-logit)))
        band = "LOW"
        if risk / 10_000 >= bands["raised"]:
            settled = day - first >= bands["high_after_days"]
            band = "HIGH" if risk / 10_000 >= bands["high"] and settled else "RAISED"
        return Assessment(risk, band, self._reasons(figures, peers, visits, submissions), peers.n, figures)

    def _gone(self, figures: Figures, peers: Peers) -> Mapping[str, Any]:
        text = f"{_silence(figures.silent)}: check whether still enrolled"
        return _reason("GONE", "days_silent", figures.silent, peers.median_silent, None, text)

    def _reasons(self, own: Figures, peers: Peers, visits: float, submissions: float) -> Sequence[Mapping[str, Any]]:
        rule, weighty = self.model["reasons"], list[tuple[float, Mapping[str, Any]]]()
        named = _worse_visits(own, peers, rule["silent_days"])
        if visits > rule["weight"] and named is not None:
            figure, mine, median, text = named
            weighty.append((visits, _reason("VISITS", figure, mine, median, visits, _compared(text, median))))
        median = peers.median_submissions
        if submissions > rule["weight"] and min(own.submissions, _MOST_SUBMISSIONS) < median:
            text = _compared(f"{_count(own.submissions, 'submission')} so far", median)
            reason = _reason("SUBMISSIONS", "submissions", own.submissions, median, submissions, text)
            weighty.append((submissions, reason))
        weighty.sort(key=lambda pair: -pair[0])
        return [reason for _, reason in weighty]


def _worse_visits(own: Figures, peers: Peers, long_silence: int) -> tuple[str, int, int, str] | None:
    """Return the figure of visits to name: long silence, else active days, else silence; None if none is worse."""
    silence = ("days_silent", own.silent, peers.median_silent, _silence(own.silent))
    is_silent = own.silent > peers.median_silent
    if is_silent and own.silent >= long_silence:
        return silence
    for days, mine, median in ((14, own.active_14, peers.median_14), (28, own.active_28, peers.median_28)):
        if mine < median:
            return f"active_days_{days}", mine, median, f"active on {mine} of the last {days} days"
    return silence if is_silent else None


def _reason(code: str, figure: str, own: int, median: int, weight: float | None, text: str) -> Mapping[str, Any]:
    rounded = None if weight is None else round(weight * 100) / 100
    return {"CODE": code, "FIGURE": figure, "OWN": own, "MEDIAN": median, "WEIGHT": rounded, "TEXT": text}


def _silence(days: int) -> str:
    return f"no visit for {_count(days, 'day')}" + (" or more" if days == DAYS else "")


def _compared(text: str, median: int) -> str:
    return f"{text}; the median of the course is {median}"


def _count(number: int, noun: str) -> str:
    if number < 2:
        return f"1 {noun}" if number else f"no {noun}"
    return f"{number} {noun}s"


@dataclass(slots=True)
class CohortTable:
    """The figures of all students as of a day, by course and week of the first day. Mutable until it is complete."""

    weeks: int
    minimum: int
    figures: dict[int, dict[int, list[Figures]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    _peers: dict[tuple[int, int], Peers] = field(default_factory=dict)

    def add(self, key: Key, first: int, figures: Figures) -> None:
        """Add a student in a course, whose first day is `first`."""
        self.figures[key[1]][first // 7].append(figures)

    def peers(self, course: int, first: int) -> Peers:
        """Return the peers of a student in `course` with that first day."""
        week = first // 7
        if (course, week) not in self._peers:
            by_week = self.figures.get(course, {})
            peers = [f for w, some in by_week.items() if abs(w - week) <= self.weeks for f in some]
            if len(peers) < self.minimum:
                peers = [f for some in by_week.values() for f in some]
            self._peers[course, week] = _mean(peers) if peers else Peers()
        return self._peers[course, week]


def _mean(peers: Sequence[Figures]) -> Peers:
    n = len(peers)
    return Peers(
        n,
        sum(round(10_000 * f.act) for f in peers) / 10_000 / n,
        sum(round(10_000 * math.log1p(f.silent)) for f in peers) / 10_000 / n,
        sum(f.submissions for f in peers) / n,
        _lower_median([f.silent for f in peers]),
        _lower_median([f.active_14 for f in peers]),
        _lower_median([f.active_28 for f in peers]),
        _lower_median([min(f.submissions, _MOST_SUBMISSIONS) for f in peers]),
    )


def _lower_median(numbers: Sequence[int]) -> int:
    return sorted(numbers)[(len(numbers) - 1) // 2]
