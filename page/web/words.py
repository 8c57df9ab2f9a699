"""How the page says numbers, days and times: filters of its templates, and the columns of its exports.

day: days since 1970-01-01; at: epoch milliseconds; risk: in 1e-4, None where there is none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any

from models.assessment import RISK_SCALE, Band
from page.cases.actions import Kind, State
from page.store.layout import DAYS, SITE

_EPOCH = date(1970, 1, 1)
_ID = re.compile(r"-?[0-9]{1,19}", re.ASCII)
#: keeps a number and its unit on one line
_NBSP = "\u00a0"
#: a change of the risk since last week below this is none [1e-4]
_NOTEWORTHY = 100
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class Word:
    """How a value is shown: never by its colour alone."""

    #: class of the style sheets, name of the icon, and value in URLs
    name: str
    #: the word beside the icon
    text: str
    #: what it means, in one sentence
    meaning: str


BANDS = {
    Band.HIGH: Word("high", "High", "Far less active than others in the course who started at the same time."),
    Band.RAISED: Word("raised", "Raised", "Less active than others in the course who started at the same time."),
    Band.LOW: Word("low", "Low", "About as active as others in the course, or more."),
    Band.GONE: Word("gone", "Gone", "No visit for weeks while the course is active: check whether still enrolled."),
    Band.UNKNOWN: Word("unknown", "Unknown", "Too few students to compare with, so there is no risk."),
}
STATES = {
    State.OPEN: Word("open", "Open", "Nobody has taken this up yet."),
    State.ACKNOWLEDGED: Word("acknowledged", "Acknowledged", "Somebody has seen it and will take it up."),
    State.CONTACTED: Word("contacted", "Contacted", "The student has been contacted."),
    State.NOT_APPLICABLE: Word("not-applicable", "Not applicable", "There is a reason that needs no contact."),
    State.WRONG: Word("wrong", "Flagged wrongly", "The risk is wrong about this student."),
}
#: what somebody did, after their name: "ada contacted the student"
KINDS = {
    Kind.ACKNOWLEDGE: "acknowledged it",
    Kind.CONTACT: "contacted the student",
    Kind.NOT_APPLICABLE: "marked it as not applicable",
    Kind.WRONG: "marked it as flagged wrongly",
    Kind.REOPEN: "reopened it",
    Kind.NOTE: "added a note",
    Kind.ASSIGN: "changed who takes care of it",
}


def band_word(band: int) -> Word:
    """How a band is shown."""
    return BANDS[Band(band)]


def state_word(state: int) -> Word:
    """How the state of a case is shown."""
    return STATES[State(state)]


def percent(risk: int | None) -> str:
    """A risk, such as 72 %."""
    return "no risk" if risk is None else f"{round(100 * risk / RISK_SCALE)}{_NBSP}%"


def points(risk: int, before: int) -> int:
    """How many percentage points a risk is above what it was before, 0 if less than one."""
    change = risk - before
    return 0 if abs(change) < _NOTEWORTHY else round(100 * change / RISK_SCALE)


def number(value: int) -> str:
    """A number with its thousands apart: 12,345."""
    return f"{value:,}"


def plural(value: int, one: str, many: str = "") -> str:
    """A number and its noun: 1 student, 2 students."""
    return f"{value:,}{_NBSP}{one if value == 1 else many or one + 's'}"


@lru_cache(4096)
def day_iso(day: int) -> str:
    """A day as 2026-11-03."""
    return (_EPOCH + timedelta(days=day)).isoformat()


@lru_cache(4096)
def day_short(day: int) -> str:
    """A day of the last months as 3 Nov."""
    d = _EPOCH + timedelta(days=day)
    return f"{d.day}{_NBSP}{MONTHS[d.month - 1]}"


@lru_cache(4096)
def day_text(day: int) -> str:
    """A day as 3 Nov 2026."""
    d = _EPOCH + timedelta(days=day)
    return f"{d.day}{_NBSP}{MONTHS[d.month - 1]}{_NBSP}{d.year}"


def day_of(at: int, zone: tzinfo) -> int:
    """The day of a time in a time zone."""
    return (datetime.fromtimestamp(at / 1000, zone).date() - _EPOCH).days


def instant_iso(at: int) -> str:
    """A time as 2026-11-03T09:05:00Z, for the attribute datetime."""
    return datetime.fromtimestamp(at // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def instant_text(at: int, zone: tzinfo) -> str:
    """A time as 3 Nov 2026, 09:05 CET: for those whose browser does not show it in their own zone."""
    t = datetime.fromtimestamp(at / 1000, zone)
    return f"{t.day}{_NBSP}{MONTHS[t.month - 1]}{_NBSP}{t.year}, {t:%H:%M}{_NBSP}{t.tzname()}"


def duration(ms: int) -> str:
    """How long something took, or how old it is, in its largest unit: 3 hours."""
    seconds = max(0, ms) // 1000
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= size:
            return plural(seconds // size, unit)
    return plural(seconds, "second")


def days_silent(last_visit: int | None, today: int) -> int | None:
    """Days since the last visit; None: longer than the days that are known."""
    return None if last_visit is None else max(0, today - last_visit)


def silence(last_visit: int | None, today: int) -> str:
    """When the last visit was: today, yesterday, 9 days ago."""
    days = days_silent(last_visit, today)
    if days is None:
        return f"over {plural(DAYS, 'day')} ago"
    return ("today", "yesterday")[days] if days < 2 else f"{plural(days, 'day')} ago"


def parse_id(text: str) -> int | None:
    """An id that somebody has written, None if it is none: a number of 64 bits."""
    text = text.strip()
    if not _ID.fullmatch(text):
        return None
    number = int(text)
    return number if -(1 << 63) <= number < 1 << 63 else None


def course_name(course: int) -> str:
    """A course, of which only the id is known."""
    if course == SITE:
        return "Whole site"
    return f"Course {course}" if course else "Outside of courses"


def reason_texts(reasons: Iterable[Mapping[str, Any]] | str) -> list[str]:
    """The sentences of reasons, as they are in the topics or as their JSON, the weightiest first."""
    each = json.loads(reasons) if isinstance(reasons, str) else reasons
    texts = [str(reason.get("TEXT", "")) for reason in each]
    return [text[:1].upper() + text[1:] for text in texts]
