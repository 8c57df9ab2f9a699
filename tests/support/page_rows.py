"""Rows of the topics that the page reads: a course of invented students, and single rows to send while it runs."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

from codec.dead_letters import DeadLetter
from codec.output_rows import session_key
from codec.record import NO_HEADERS, Row
from models.topic_names import TopicNames
from tests.support import risk_course

DAY_MS = 86_400_000
COURSES = risk_course.COURSES
#: the newest day with an event, days since 1970-01-01: today on the page
TODAY = risk_course.FIRST_DAY + risk_course.DAYS - 1
STUDENTS = range(101, 101 + risk_course.STUDENTS)
MODEL = risk_course.MODEL.id
#: a reason as the worker writes it
REASON = {
    "CODE": "VISITS",
    "FIGURE": "days_silent",
    "OWN": 9,
    "MEDIAN": 2,
    "WEIGHT": 1.25,
    "TEXT": "no visit for 9 days; the median of the course is 2",
}


def topics(names: TopicNames) -> dict[str, list[Row]]:
    """The rows of each topic: two courses of seven weeks, sessions of a third of the students, three dead letters."""
    written = risk_course.written()
    return {
        names.risk: [(_risk_at(value), key, value, NO_HEADERS) for key, value in written.risk],
        names.risk_alerts: [(_alert_at(value), key, value, NO_HEADERS) for key, value in written.alerts],
        names.sessions: list(_sessions()),
        names.dead_letters: [dead_letter("truncated"), dead_letter("truncated", 1), dead_letter("bad-magic", 2)],
    }


def entries() -> dict[tuple[int, int], dict[str, Any]]:
    """The latest row of each student in a course, of those that `topics` writes and no tombstone deletes."""
    latest = {key: value for key, value in risk_course.written().risk if key is not None}
    rows = [json.loads(value) for value in latest.values() if value is not None]
    return {(row["USERID"], row["COURSEID"]): row for row in rows}


def risk_row(student: int, course: int | None, risk: float | None, band: str, **fields: Any) -> Row:
    """A row of MOODLE_RISK as of today; fields: other fields, by name."""
    row = {
        "USERID": student,
        "COURSEID": course,
        "RISK": risk,
        "BAND": band,
        "ALERT": False,
        "SINCE": None,
        "REASONS": [],
        "COHORT_N": 35,
        "AS_OF": day_text(TODAY),
        "VISIT_DAYS": f"{0b1011:016x}",
        "SUBMISSION_DAYS": f"{0b1000:016x}",
        "TRIGGER": "event",
        "MODEL": MODEL,
        **fields,
    }
    key = str(student) if course is None else f"{student}|{course}"
    return TODAY * DAY_MS + 13 * 3_600_000, key.encode(), json.dumps(row).encode(), NO_HEADERS


def alert_row(student: int, course: int, *, opened: bool = True, **fields: Any) -> Row:
    """A row of MOODLE_RISK_ALERTS of today; fields: other fields, by name."""
    row = {
        "USERID": student,
        "COURSEID": course,
        "ALERT": "opened" if opened else "closed",
        "RISK": 0.8,
        "BAND": "HIGH",
        "REASONS": [REASON],
        "DAY": day_text(TODAY),
        "OPENED": day_text(TODAY),
        "WHY": "risk",
        "MODEL": MODEL,
        **fields,
    }
    return (TODAY + 2) * DAY_MS, f"{student}|{course}".encode(), json.dumps(row).encode(), NO_HEADERS


def session_row(student: int, start: int, end: int, activities: int) -> Row:
    """A row of the sessions topic; start, end [ms]."""
    row = {
        "USERID": student,
        "ACTIVITIES": activities,
        "START_DATE": start,
        "END_DATE": end,
        "DURATION": (end - start) // 1000,
    }
    return end, session_key(b"%d" % student, start, end), json.dumps(row).encode(), NO_HEADERS


def dead_letter(reason: str, offset: int = 0, detail: str = "3 bytes are left") -> Row:
    """A dead letter of the source topic."""
    return DeadLetter("demo.log", 0, offset, reason, detail, b"k", b"\x00", NO_HEADERS).row


def day_text(day: int) -> str:
    """A day as the topics write it."""
    return datetime.fromtimestamp(day * DAY_MS / 1000, UTC).date().isoformat()


def _sessions() -> Iterator[Row]:
    choose = random.Random(15)
    for student in STUDENTS[::3]:
        for day in range(risk_course.FIRST_DAY, TODAY + 1):
            if choose.random() < 0.4:
                start = day * DAY_MS + choose.randrange(8 * 3600, 20 * 3600) * 1000
                yield session_row(student, start, start + choose.randrange(3_000_000), choose.randrange(1, 60))


def _risk_at(value: bytes | None) -> int:
    """The timestamp of a row: noon of an event's day, the tick 24 hours after the day's end, the last tick of all."""
    if value is None:
        return (TODAY + 2) * DAY_MS
    row = json.loads(value)
    day = _day(row["AS_OF"])
    return day * DAY_MS + 12 * 3_600_000 if row["TRIGGER"] == "event" else (day + 2) * DAY_MS


def _alert_at(value: bytes | None) -> int:
    return (_day(json.loads(value or b"")["DAY"]) + 2) * DAY_MS


def _day(text: str) -> int:
    return date.fromisoformat(text).toordinal() - date(1970, 1, 1).toordinal()
