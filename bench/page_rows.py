"""Rows of the topics that the advisers' page reads, for benchmarks: any number of students in courses."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import date, timedelta

from codec.output_rows import session_key
from codec.record import NO_HEADERS, Row
from models.days import DAY_MS

#: the newest day, days since 1970-01-01: 2026-11-01
TODAY = 20_758
#: the course whose changes are timed, with few students
TIMED_COURSE = 9_999
_ROW = (
    b'{"USERID":%d,"COURSEID":%d,"RISK":%b,"BAND":"%b","ALERT":%b,"SINCE":%b,"REASONS":[%b],"COHORT_N":%d,'
    b'"AS_OF":"%b","VISIT_DAYS":"%016x","SUBMISSION_DAYS":"%016x","TRIGGER":"event","MODEL":"v2s-0123456789ab"}'
)
_REASON = (
    b'{"CODE":"VISITS","FIGURE":"days_silent","OWN":%d,"MEDIAN":2,"WEIGHT":1.25,'
    b'"TEXT":"no visit for %d days; the median of the course is 2"}'
)


def risk_rows(students: int, courses: int, *, days: int = 1, seed: int = 15) -> Iterator[Row]:
    """Rows of MOODLE_RISK: for each of the last `days` days one of every student, in the order of time."""
    choose = random.Random(seed)
    for back in reversed(range(days)):
        for student in range(students):
            yield risk_row(student + 1, student % courses + 2, choose, TODAY - back)


def risk_row(student: int, course: int, choose: random.Random, day: int = TODAY) -> Row:
    """One row of MOODLE_RISK with a random risk."""
    risk = choose.random()
    band = b"HIGH" if risk > 0.75 else b"RAISED" if risk > 0.5 else b"LOW"
    is_alert = risk > 0.85
    silent = int(20 * risk)
    text = b'"%b"' % _day(day)
    value = _ROW % (
        student,
        course,
        b"%.4f" % risk,
        band,
        b"true" if is_alert else b"false",
        text if is_alert else b"null",
        _REASON % (silent, silent) if risk > 0.5 else b"",
        400,
        _day(day),
        choose.getrandbits(60) >> silent << silent,
        1 << 20,
    )
    return day * DAY_MS + 43_200_000, b"%d|%d" % (student, course), value, NO_HEADERS


def session_rows(students: int, *, seed: int = 16) -> Iterator[Row]:
    """Rows of the sessions topic: one of every student."""
    choose = random.Random(seed)
    for student in range(1, students + 1):
        end = TODAY * DAY_MS + choose.randrange(DAY_MS)
        start = end - choose.randrange(3_600_000)
        value = b'{"USERID":%d,"ACTIVITIES":%d,"START_DATE":%d,"END_DATE":%d,"DURATION":%d}' % (
            *(student, choose.randrange(1, 80), start, end, (end - start) // 1000),
        )
        yield end, session_key(b"%d" % student, start, end), value, NO_HEADERS


def _day(day: int) -> bytes:
    return (date(1970, 1, 1) + timedelta(day)).isoformat().encode()
