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
        return list({document["USERID"]: document for document in self.predictions}.values())

    @property
    def warnings(self) -> list[Document]:
        """Predictions above the threshold of ksql/5."""
        return [document for document in self.predictions if document["PREDICTION"] > 0.7]

    def of(self, student: int) -> Facts:
        """The documents of one student."""
        return Facts(
            *([document for document in documents if document["USERID"] == student] for documents in self._all())
        )

    def between(self, low: int, high: int) -> Facts:
        """The documents in a time range [ms]; totals have no time, and stay."""
        sessions = [document for document in self.sessions if low <= document["START_DATE"] <= high]
        return Facts(
            sessions,
            self.totals,
            [document for document in self.predictions if low <= document["CREATED_DATE"] <= high],
        )

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
        return [document for document in self.whole.latest if document["CREATED_DATE"] <= self._end]

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
    times: dict[int, int] = {}
    for document in facts.warnings:
        times[document["USERID"]] = min(
            document["CREATED_DATE"], times.get(document["USERID"], document["CREATED_DATE"])
        )
    return times


def median(m: Moment) -> list[Row]:
    """The median, within the error of a t-digest, as Elasticsearch uses: two ranks and a fiftieth of all."""
    lengths = sorted(document["DURATION"] for document in m.facts.sessions)
    if not lengths:
        return [{"length": None}]
    middle, off = len(lengths) // 2, 2 + len(lengths) // 50
    low, high = max(middle - 1 - off, 0), min(middle + off, len(lengths) - 1)
    return [{"length": Between(lengths[low], lengths[high])}]


def contact(m: Moment) -> list[Row]:
    risky = [document for document in m.latest if document["PREDICTION"] > 0.7]
    risky.sort(key=lambda document: (-document["PREDICTION"], str(document["USERID"])))
    return [
        {"student": str(document["USERID"]), "risk": document["PREDICTION"], "seen": document["CREATED_DATE"]}
        for document in risky[:100]
    ]


def first_warnings(m: Moment) -> list[Row]:
    mine: defaultdict[int, list[Document]] = defaultdict(list)
    for document in m.always.warnings:
        mine[document["USERID"]].append(document)
    rows = [
        {
            "student": str(student),
            "first": min(document["CREATED_DATE"] for document in documents),
            "last": max(document["CREATED_DATE"] for document in documents),
            "highest": max(document["PREDICTION"] for document in documents),
        }
        for student, documents in mine.items()
    ]
    return sorted(rows, key=lambda row: (-row["first"], row["student"]))[:100]


def grouped(documents: Sequence[Document], field: str, begins: Callable[[int], int]) -> dict[int, list[Document]]:
    groups: defaultdict[int, list[Document]] = defaultdict(list)
    for document in documents:
        groups[begins(document[field])].append(document)
    return groups


def day(at: int) -> int:
    return at - at % DAY_MS


def week(at: int) -> int:
    """Midnight of Monday; the epoch was a Thursday."""
    return day(at) - (at // DAY_MS + 3) % 7 * DAY_MS


def each(
    m: Moment,
    documents: Sequence[Document],
    field: str,
    begins: Callable[[int], int],
    name: str,
    of: Callable[..., Any],
) -> list[Row]:
    """One row per day or week of the time range, also for empty ones."""
    groups, step = grouped(documents, field, begins), 7 * DAY_MS if begins is week else DAY_MS
    times = range(begins(m.low), m.high + 1, step)
    return [{f"{name}-x": at, f"{name}-y": of(groups.get(at, []))} for at in times]


def mean_risk(documents: Sequence[Document]) -> Any:
    return pytest.approx(sum(document["PREDICTION"] for document in documents) / len(documents)) if documents else None


def students_in(documents: Sequence[Document]) -> int:
    return len({document["USERID"] for document in documents})


def activities(documents: Sequence[Document]) -> int:
    return sum(document["ACTIVITIES"] for document in documents)


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
    starts = [datetime.fromtimestamp(document["START_DATE"] / 1000, zone) for document in m.facts.sessions]
    cells = Counter((f"{at.isoweekday()} {at:%A}", f"{at:%H}") for at in starts)
    return [{"down": weekday, "across": hour, "value": n} for (weekday, hour), n in sorted(cells.items())]


def fewest(m: Moment) -> list[Row]:
    documents = sorted(m.always.totals, key=lambda document: (document["SESSIONS"], str(document["USERID"])))[:100]
    return [
        {
            "student": str(document["USERID"]),
            "sessions": document["SESSIONS"],
            "activities": document["ACTIVITIES"],
            "length": document["DURATION"],
        }
        for document in documents
    ]


#: (panel, layer) -> function that computes the expected rows
RECOUNTS: dict[tuple[str, str], Callable[[Moment], list[Row]]] = {
    ("in-risk-now", "data"): lambda m: [{"students": sum(document["PREDICTION"] > 0.7 for document in m.latest)}],
    ("newly-in-risk", "data"): newly,
    ("students", "data"): lambda m: [{"students": len(m.always.totals)}],
    ("median-session", "data"): median,
    ("above-the-limit", "data"): contact,
    ("first-warnings", "data"): first_warnings,
    ("risk-over-time", "mean"): lambda m: each(m, m.facts.predictions, "CREATED_DATE", week, "mean", mean_risk),
    ("risk-over-time", "warned"): lambda m: each(m, m.facts.warnings, "CREATED_DATE", week, "warned", students_in),
    ("per-day", "sessions"): lambda m: each(m, m.facts.sessions, "START_DATE", day, "sessions", len),
    ("per-day", "activities"): lambda m: each(m, m.facts.sessions, "START_DATE", day, "activities", activities),
    ("session-length", "sessions"): lambda m: stepped(
        [document["DURATION"] for document in m.facts.sessions], LENGTHS, "sessions"
    ),
    ("students-by-sessions", "students"): lambda m: stepped(
        [document["SESSIONS"] for document in m.always.totals], COUNTS, "students"
    ),
    ("when", "data"): hours,
    ("fewest-sessions", "data"): fewest,
}
