"""The expected rows of every panel of the dashboard, computed in plain Python without aggregations."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from tests.support.lens import Row, millis
from tests.support.sink_documents import Document

DAY_MS = 86_400_000


@dataclass(frozen=True)
class Facts:
    """The documents of a replay: recomputed sessions and totals, and the predictions as written."""

    sessions: list[Document]
    totals: list[Document]
    #: in the order of writing
    predictions: list[Document]

    @property
    def latest(self) -> list[Document]:
        return list({one["USERID"]: one for one in self.predictions}.values())

    @property
    def warnings(self) -> list[Document]:
        """Predictions above the threshold of ksql/5."""
        return [one for one in self.predictions if one["PREDICTION"] > 0.7]

    def of(self, student: int) -> Facts:
        """The documents of one student."""
        return Facts(*([one for one in some if one["USERID"] == student] for some in self._all()))

    def between(self, low: int, high: int) -> Facts:
        """The documents in a time range [ms]; totals have no time, and stay."""
        sessions = [one for one in self.sessions if low <= one["START_DATE"] <= high]
        return Facts(sessions, self.totals, [one for one in self.predictions if low <= one["CREATED_DATE"] <= high])

    def _all(self) -> tuple[list[Document], list[Document], list[Document]]:
        return self.sessions, self.totals, self.predictions


@dataclass(frozen=True)
class Moment:
    """The data of a panel at a time of viewing; the index may have later documents, since the replay runs ahead."""

    whole: Facts
    now: datetime
    #: range of the time picker [ms]
    low: int
    high: int

    @property
    def facts(self) -> Facts:
        """The data of panels that follow the time picker."""
        return self.whole.between(self.low, self.high)

    @property
    def always(self) -> Facts:
        """The data of panels that ignore the time picker: everything until a day from now."""
        return self.whole.between(0, self._end)

    @property
    def latest(self) -> list[Document]:
        """The latest predictions, without those later than a day from now."""
        return [one for one in self.whole.latest if one["CREATED_DATE"] <= self._end]

    @property
    def _end(self) -> int:
        return millis(self.now + timedelta(days=1))


class Between:
    """Equal to any number in a range, since percentiles are estimates."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (int, float)) and self.low <= other <= self.high

    def __repr__(self) -> str:
        return f"{self.low:g}…{self.high:g}"


def newly(m: Moment) -> list[Row]:
    """The number of students whose first warning is less than seven days old."""
    since = millis(m.now - timedelta(days=7))
    return [{"students": sum(first >= since for first in firsts(m.always).values())}]


def firsts(facts: Facts) -> dict[int, int]:
    found: dict[int, int] = {}
    for one in facts.warnings:
        found[one["USERID"]] = min(one["CREATED_DATE"], found.get(one["USERID"], one["CREATED_DATE"]))
    return found


def median(m: Moment) -> list[Row]:
    """The median, within the error of a t-digest, as Elasticsearch uses: two ranks and a fiftieth of all."""
    lengths = sorted(one["DURATION"] for one in m.facts.sessions)
    if not lengths:
        return [{"length": None}]
    middle, off = len(lengths) // 2, 2 + len(lengths) // 50
    low, high = max(middle - 1 - off, 0), min(middle + off, len(lengths) - 1)
    return [{"length": Between(lengths[low], lengths[high])}]


def contact(m: Moment) -> list[Row]:
    risky = [one for one in m.latest if one["PREDICTION"] > 0.7]
    risky.sort(key=lambda one: (-one["PREDICTION"], str(one["USERID"])))
    return [
        {"student": str(one["USERID"]), "risk": one["PREDICTION"], "seen": one["CREATED_DATE"]} for one in risky[:100]
    ]


def first_warnings(m: Moment) -> list[Row]:
    mine: defaultdict[int, list[Document]] = defaultdict(list)
    for one in m.always.warnings:
        mine[one["USERID"]].append(one)
    found = [
        {
            "student": str(student),
            "first": min(one["CREATED_DATE"] for one in some),
            "last": max(one["CREATED_DATE"] for one in some),
            "highest": max(one["PREDICTION"] for one in some),
        }
        for student, some in mine.items()
    ]
    return sorted(found, key=lambda row: (-row["first"], row["student"]))[:100]


def grouped(some: Sequence[Document], field: str, begins: Callable[[int], int]) -> dict[int, list[Document]]:
    found: defaultdict[int, list[Document]] = defaultdict(list)
    for one in some:
        found[begins(one[field])].append(one)
    return found


def day(at: int) -> int:
    return at - at % DAY_MS


def week(at: int) -> int:
    """Midnight of Monday; the epoch was a Thursday."""
    return day(at) - (at // DAY_MS + 3) % 7 * DAY_MS


def each(
    m: Moment, some: Sequence[Document], field: str, begins: Callable[[int], int], name: str, of: Callable[..., Any]
) -> list[Row]:
    """One row per day or week of the time range, also for empty ones."""
    found, step = grouped(some, field, begins), 7 * DAY_MS if begins is week else DAY_MS
    times = range(begins(m.low), m.high + 1, step)
    return [{f"{name}-x": at, f"{name}-y": of(found.get(at, []))} for at in times]


def mean_risk(some: Sequence[Document]) -> Any:
    return pytest.approx(sum(one["PREDICTION"] for one in some) / len(some)) if some else None


def students_in(some: Sequence[Document]) -> int:
    return len({one["USERID"] for one in some})


def activities(some: Sequence[Document]) -> int:
    return sum(one["ACTIVITIES"] for one in some)


def stepped(numbers: Sequence[int], steps: Mapping[str, range], name: str) -> list[Row]:
    return [{f"{name}-x": label, f"{name}-y": sum(n in step for n in numbers)} for label, step in steps.items()]


FOR_EVER = 1 << 60
LENGTHS = {
    "under 1 min": range(60),
    "1 to 5 min": range(60, 300),
    "5 to 15 min": range(300, 900),
    "15 to 30 min": range(900, 1800),
    "30 to 60 min": range(1800, 3600),
    "1 h and more": range(3600, FOR_EVER),
}
COUNTS = {
    "1": range(1, 2),
    "2 to 3": range(2, 4),
    "4 to 7": range(4, 8),
    "8 to 15": range(8, 16),
    "16 to 31": range(16, 32),
    "32 to 63": range(32, 64),
    "64 and more": range(64, FOR_EVER),
}


def hours(m: Moment, zone: timezone = UTC) -> list[Row]:
    starts = [datetime.fromtimestamp(one["START_DATE"] / 1000, zone) for one in m.facts.sessions]
    cells = Counter((f"{at.isoweekday()} {at:%A}", f"{at:%H}") for at in starts)
    return [{"down": weekday, "across": hour, "value": n} for (weekday, hour), n in sorted(cells.items())]


def fewest(m: Moment) -> list[Row]:
    some = sorted(m.always.totals, key=lambda one: (one["SESSIONS"], str(one["USERID"])))[:100]
    return [
        {
            "student": str(one["USERID"]),
            "sessions": one["SESSIONS"],
            "activities": one["ACTIVITIES"],
            "length": one["DURATION"],
        }
        for one in some
    ]


#: (panel, layer) -> function that computes the expected rows
RECOUNTS: dict[tuple[str, str], Callable[[Moment], list[Row]]] = {
    ("in-risk-now", "data"): lambda m: [{"students": sum(one["PREDICTION"] > 0.7 for one in m.latest)}],
    ("newly-in-risk", "data"): newly,
    ("students", "data"): lambda m: [{"students": len(m.always.totals)}],
    ("median-session", "data"): median,
    ("contact-first", "data"): contact,
    ("first-warnings", "data"): first_warnings,
    ("risk-over-time", "mean"): lambda m: each(m, m.facts.predictions, "CREATED_DATE", week, "mean", mean_risk),
    ("risk-over-time", "warned"): lambda m: each(m, m.facts.warnings, "CREATED_DATE", week, "warned", students_in),
    ("per-day", "sessions"): lambda m: each(m, m.facts.sessions, "START_DATE", day, "sessions", len),
    ("per-day", "activities"): lambda m: each(m, m.facts.sessions, "START_DATE", day, "activities", activities),
    ("session-length", "sessions"): lambda m: stepped(
        [one["DURATION"] for one in m.facts.sessions], LENGTHS, "sessions"
    ),
    ("students-by-sessions", "students"): lambda m: stepped(
        [one["SESSIONS"] for one in m.always.totals], COUNTS, "students"
    ),
    ("when", "data"): hours,
    ("fewest-sessions", "data"): fewest,
}
