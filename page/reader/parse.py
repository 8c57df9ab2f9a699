"""Reads the records of the output topics: bytes to rows, or the reason why one is none."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any, NamedTuple

import orjson

from codec.output_rows import split_session_key
from codec.tombstones import forgotten_at
from models.assessment import RISK_SCALE, Band
from page.store.layout import DAYS, SITE
from page.store.rows import (
    AlertRow,
    AlertTombstone,
    DeadLetterRow,
    RiskRow,
    RiskTombstone,
    SessionRow,
)

Headers = Sequence[tuple[str, bytes | None]]

_BANDS = {band.name: band.value for band in Band}
_EPOCH = date(1970, 1, 1).toordinal()
_ALL_DAYS = (1 << DAYS) - 1
_MAX_INT = (1 << 63) - 1
#: longest text of a reason, a model's id, a dead letter's detail [characters]; longer ones are refused, or cut
_MAX_REASON, _MAX_MODEL, _MAX_DETAIL = 1_000, 100, 1_000
_WHYS = frozenset(("risk", "gone", "forgotten", "erased"))


class Unreadable(ValueError):
    """A record is no row of its topic: why, in a few words that are the same for all such records."""


class Record(NamedTuple):
    """A record as it was read: that much of aiokafka's ConsumerRecord; timestamp: epoch ms."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


def risk(record: Record) -> RiskRow | RiskTombstone:
    """Read a record of MOODLE_RISK. Raises Unreadable."""
    if record.value is None:
        student, course = _key(record.key)
        return RiskTombstone(student, course, forgotten_at(list(record.headers)))
    row = _object(record.value)
    student, course = _entry(row)
    is_event = row.get("TRIGGER") == "event"
    reasons = _reasons(row)
    visits = _days(row.get("VISIT_DAYS"))
    if visits is None:
        visits = _guess_visits(row, is_event)
    alert = row.get("ALERT")
    if not isinstance(alert, bool):
        raise Unreadable("ALERT is no boolean")
    return RiskRow(
        student,
        course,
        _risk(row),
        _band(row),
        alert,
        _day(row, "SINCE") if alert else None,
        reasons,
        _integer(row, "COHORT_N"),
        _day(row, "AS_OF"),
        _time(record.timestamp),
        _text(row, "MODEL", _MAX_MODEL),
        visits,
        _days(row.get("SUBMISSION_DAYS")) or 0,
        is_event,
    )


def alert(record: Record) -> AlertRow | AlertTombstone:
    """Read a record of MOODLE_RISK_ALERTS. Raises Unreadable."""
    if record.value is None:
        return AlertTombstone(record.offset, *_key(record.key))
    row = _object(record.value)
    student, course = _entry(row)
    what, why = row.get("ALERT"), row.get("WHY")
    if what not in ("opened", "closed"):
        raise Unreadable("ALERT is neither opened nor closed")
    if why not in _WHYS:
        raise Unreadable("WHY is unknown")
    day, opened = _day(row, "DAY"), _day(row, "OPENED")
    return AlertRow(record.offset, student, course, what == "opened", day, opened, why, _risk(row), _reasons(row))


def session(record: Record) -> SessionRow | None:
    """Read a record of MOODLE_LOGS_SESSIONS_PER_15MINS; None for one of no student. Raises Unreadable."""
    try:
        name, start, end = split_session_key(record.key or b"")
    except struct.error:
        raise Unreadable("the key is too short") from None
    if name == b"null":
        return None
    student = _id(name)
    if record.value is None:
        return SessionRow(student, end, start, None)
    row = _object(record.value)
    if (row.get("USERID"), row.get("START_DATE"), row.get("END_DATE")) != (student, start, end):
        raise Unreadable("key and value differ")
    return SessionRow(student, end, start, _integer(row, "ACTIVITIES"))


def dead_letter(record: Record) -> DeadLetterRow:
    """Read a dead letter. Raises Unreadable."""
    headers: dict[str, bytes] = {}
    for name, value in record.headers:  # those of the dead letter precede the record's own
        headers.setdefault(name, value or b"")
    if "dead-letter.reason" not in headers:
        raise Unreadable("no header dead-letter.reason")
    topic, reason, detail = (
        headers.get(f"dead-letter.{name}", b"").decode("utf-8", "replace")[:_MAX_DETAIL]
        for name in ("topic", "reason", "detail")
    )
    return DeadLetterRow(topic, reason, detail, _time(record.timestamp))


Parse = Callable[[Record], object]


def _object(value: bytes) -> dict[str, Any]:
    try:
        row = orjson.loads(value)
    except orjson.JSONDecodeError:
        raise Unreadable("the value is not JSON") from None
    if not isinstance(row, dict):
        raise Unreadable("the value is not a JSON object")
    return row


def _id(text: bytes) -> int:
    if not text.removeprefix(b"-").isdigit() or len(text) > 20 or abs(number := int(text)) > _MAX_INT:
        raise Unreadable("the key has no id")
    return number if text[:1] != b"-" else -number


def _key(key: bytes | None) -> tuple[int, int]:
    student, separator, course = (key or b"").partition(b"|")
    return _id(student), _id(course) if separator else SITE


def _integer(row: dict[str, Any], name: str) -> int:
    value = row.get(name)
    if type(value) is not int or abs(value) > _MAX_INT:
        raise Unreadable(f"{name} is no 64-bit integer")
    return value


def _entry(row: dict[str, Any]) -> tuple[int, int]:
    student = _integer(row, "USERID")
    if row.get("COURSEID", "") is None:
        return student, SITE
    course = _integer(row, "COURSEID")
    if course < 0:
        raise Unreadable("COURSEID is below 0")
    return student, course


def _risk(row: dict[str, Any]) -> int | None:
    value = row.get("RISK", "")
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise Unreadable("RISK is not within 0 to 1")
    return round(float(value) * RISK_SCALE)


def _band(row: dict[str, Any]) -> int:
    name = row.get("BAND")
    if not isinstance(name, str) or name not in _BANDS:
        raise Unreadable("BAND is unknown")
    return _BANDS[name]


#: the day of each date that was read
_dates: dict[str, int] = {}


def _day(row: dict[str, Any], name: str) -> int:
    text = row.get(name)
    if not isinstance(text, str):
        raise Unreadable(f"{name} is no date")
    day = _dates.get(text)
    if day is None:
        try:
            day = date.fromisoformat(text).toordinal() - _EPOCH
        except ValueError:
            raise Unreadable(f"{name} is no date") from None
        if len(_dates) > 10_000:
            _dates.clear()
        _dates[text] = day
    return day


def _days(text: object) -> int | None:
    """Days as bits, from 16 hexadecimal digits; None if they are not there, as in rows of older workers."""
    if text is None:
        return None
    if not isinstance(text, str) or len(text) != 16:
        raise Unreadable("VISIT_DAYS or SUBMISSION_DAYS are not 16 hexadecimal digits")
    try:
        return _ALL_DAYS & int(text, 16)
    except ValueError:
        raise Unreadable("VISIT_DAYS or SUBMISSION_DAYS are not 16 hexadecimal digits") from None


def _guess_visits(row: dict[str, Any], is_event: bool) -> int:
    """What an older row says of visits: the last one, if an event caused it or a reason names it."""
    if is_event:
        return 1
    silent = next((int(r["OWN"]) for r in row["REASONS"] if r["FIGURE"] == "days_silent"), -1)
    return 1 << silent if 0 <= silent < DAYS else 0


def _reasons(row: dict[str, Any]) -> str:
    reasons = row.get("REASONS")
    if not isinstance(reasons, list) or len(reasons) > 2 or not all(map(_is_reason, reasons)):
        raise Unreadable("REASONS are none")
    return orjson.dumps(reasons).decode() if reasons else "[]"


def _is_reason(reason: object) -> bool:
    return (
        isinstance(reason, dict)
        and isinstance(reason.get("CODE"), str)
        and isinstance(reason.get("FIGURE"), str)
        and type(reason.get("OWN")) is int
        and type(reason.get("MEDIAN")) is int
        and isinstance(reason.get("TEXT"), str)
        and len(reason["TEXT"]) <= _MAX_REASON
    )


def _text(row: dict[str, Any], name: str, longest: int) -> str:
    text = row.get(name)
    if not isinstance(text, str) or len(text) > longest:
        raise Unreadable(f"{name} is no text of at most {longest} characters")
    return text


def _time(at: int) -> int:
    return min(max(at, -_MAX_INT), _MAX_INT)
