"""The expected rows of the dashboard's panels about risk and alerts, computed in plain Python without aggregations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from tests.support.lens import Row, millis
from tests.support.panel_oracle import DAY_MS, Moment, week
from tests.support.sink_documents import Document

#: of each student in a table
COURSES = 20


@dataclass(frozen=True)
class Courses:
    """The documents about risk and alerts: the latest of each student and course, and every alert."""

    risk: list[Document]
    alerts: list[Document]

    def of(self, student: int) -> Courses:
        """The documents of one student."""
        return Courses(*([d for d in some if d["USERID"] == student] for some in (self.risk, self.alerts)))

    def between(self, low: int, high: int) -> Courses:
        """The documents in a time range [ms]."""
        return Courses(
            [d for d in self.risk if low <= midnight(d["AS_OF"]) <= high],
            [d for d in self.alerts if low <= midnight(d["DAY"]) <= high],
        )


def midnight(day: str) -> int:
    """The beginning of a day in UTC [ms]: a day is a date to Elasticsearch."""
    return millis(datetime.fromisoformat(day).replace(tzinfo=UTC))


def until(m: Moment, courses: Courses) -> Courses:
    """The documents of panels that ignore the time picker: everything until a day from now."""
    return courses.between(0, millis(m.now + timedelta(days=1)))


def course(document: Document) -> str:
    return "all" if document["COURSEID"] is None else str(document["COURSEID"])


def shown(values: Sequence[str]) -> Any:
    """The values of an array as a table shows them: each once, in alphabetical order; one alone is no list."""
    distinct = sorted(set(values))
    return distinct[0] if len(distinct) == 1 else distinct or None


def reasons(document: Document) -> Any:
    return shown([reason["TEXT"] for reason in document["REASONS"]])


def silence(document: Document) -> int | None:
    """The number of days of silence, if that is a reason."""
    days = [reason["OWN"] for reason in document["REASONS"] if reason["FIGURE"] == "days_silent"]
    return days[0] if days else None


def contact(m: Moment, courses: Courses) -> list[Row]:
    """A student's courses stand together, at the place of the highest risk."""
    mine: defaultdict[str, list[Document]] = defaultdict(list)
    for document in until(m, courses).risk:
        if document["ALERT"]:
            mine[str(document["USERID"])].append(document)

    def risk(document: Document) -> float:
        return float("-inf") if document["RISK"] is None else document["RISK"]

    students = sorted(mine, key=lambda student: (-max(map(risk, mine[student])), student))[:100]
    return [
        {
            **{"student": student, "course": course(document), "risk": document["RISK"], "band": document["BAND"]},
            **{"reasons": reasons(document), "since": document["SINCE"], "as-of": document["AS_OF"]},
        }
        for student in students
        for document in sorted(mine[student], key=lambda d: (-risk(d), course(d)))[:COURSES]
    ]


def per_week(m: Moment, courses: Courses, change: str) -> list[Row]:
    days = [midnight(d["DAY"]) for d in courses.between(m.low, m.high).alerts if d["ALERT"] == change]
    weeks = range(week(m.low), m.high + 1, 7 * DAY_MS)
    return [{f"{change}-x": at, f"{change}-y": sum(week(day) == at for day in days)} for at in weeks]


def per_course(m: Moment, courses: Courses) -> list[Row]:
    groups: defaultdict[str, list[Document]] = defaultdict(list)
    for document in until(m, courses).risk:
        groups[course(document)].append(document)
    rows = []
    for name, documents in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        risks = [d["RISK"] for d in documents if d["RISK"] is not None]
        bands = [d["BAND"] for d in documents]
        rows.append(
            {
                **{"course": name, "students": len(documents)},
                "mean": pytest.approx(sum(risks) / len(risks)) if risks else None,
                **{"raised": bands.count("RAISED"), "high": bands.count("HIGH"), "gone": bands.count("GONE")},
                "alerts": sum(d["ALERT"] for d in documents),
            }
        )
    return rows


def silent(m: Moment, courses: Courses) -> list[Row]:
    rows = []
    for document in until(m, courses).risk:
        days = silence(document)
        if days is not None:
            visit = date.fromisoformat(document["AS_OF"]) - timedelta(days=days)
            row = {"visit": str(visit), "student": str(document["USERID"]), "course": course(document)}
            rows.append(row | {"band": document["BAND"], "reasons": reasons(document), "as-of": document["AS_OF"]})
    return sorted(rows, key=lambda row: (row["visit"], row["student"], row["course"]))


def opened_lately(m: Moment, courses: Courses) -> int:
    since = millis(m.now - timedelta(days=7))
    alerts = until(m, courses).alerts
    return sum(d["ALERT"] == "opened" and midnight(d["DAY"]) >= since for d in alerts)


def students(documents: Sequence[Document]) -> int:
    return len({d["USERID"] for d in documents})


#: (panel, layer) -> function that computes the expected rows
RISK_RECOUNTS: dict[tuple[str, str], Callable[[Moment, Courses], list[Row]]] = {
    ("alerts-open", "data"): lambda m, c: [{"alerts": sum(d["ALERT"] for d in until(m, c).risk)}],
    ("alerts-opened", "data"): lambda m, c: [{"alerts": opened_lately(m, c)}],
    ("silent-now", "data"): lambda m, c: [
        {"students": students([d for d in until(m, c).risk if silence(d) is not None])}
    ],
    ("gone", "data"): lambda m, c: [{"students": students([d for d in until(m, c).risk if d["BAND"] == "GONE"])}],
    ("contact-first", "data"): contact,
    ("alerts-per-week", "opened"): lambda m, c: per_week(m, c, "opened"),
    ("alerts-per-week", "closed"): lambda m, c: per_week(m, c, "closed"),
    ("risk-per-course", "data"): per_course,
    ("silent-students", "data"): silent,
}
