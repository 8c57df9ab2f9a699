"""A Moodle log generated from OULAD: real students, days, click counts and results; random times of day.

One click is one row. tools/replay/data/PROVENANCE.md says which data are real and which are generated.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import resources

import numpy as np
import numpy.typing as npt

from models.rules import Bools, Int64s
from tools.replay import click_times
from tools.replay.log_rows import LogRows

Strings = npt.NDArray[np.str_]

DAY_MS = 86_400_000
#: letter of a presentation → month of its start; a convention, since OULAD has no dates
MONTHS = {"B": 2, "J": 10}
#: a day later than any other, for students who never unregistered
NEVER = 1 << 30
#: first event of every session
FIRST_EVENT = r"\core\event\course_viewed"
#: Moodle's event names, and the share of each within a session [%]
EVENTS = {
    FIRST_EVENT: 22,
    r"\mod_resource\event\course_module_viewed": 16,
    r"\mod_forum\event\discussion_viewed": 15,
    r"\mod_page\event\course_module_viewed": 14,
    r"\mod_forum\event\course_module_viewed": 10,
    r"\mod_quiz\event\attempt_viewed": 9,
    r"\mod_url\event\course_module_viewed": 6,
    r"\mod_assign\event\submission_status_viewed": 5,
    r"\mod_forum\event\post_created": 2,
    r"\mod_quiz\event\attempt_submitted": 1,
}
#: maximum time from an event to the end of its request, when its row is written [ms]
MAX_REQUEST_MS = 5_000


@dataclass(frozen=True, order=True)
class Presentation:
    """One run of a module, such as BBB 2013J."""

    module: str
    code: str

    def __str__(self) -> str:
        return f"{self.module}-{self.code}"

    @property
    def start_ms(self) -> int:
        """Midnight UTC of day 0 [epoch ms]."""
        first = datetime(int(self.code[:4]), MONTHS[self.code[4]], 1, tzinfo=UTC)
        return int(first.timestamp()) * 1000

    def midnight(self, day: int) -> int:
        """Midnight UTC at which `day` begins [epoch ms]."""
        return self.start_ms + day * DAY_MS


#: the presentations in the packaged data
PRESENTATIONS = tuple(
    Presentation(module, code)
    for module, code in (("AAA", "2013J"), ("AAA", "2014J"), ("BBB", "2013B"), ("BBB", "2013J"))
)


def select_presentations(names: Sequence[str] | None) -> tuple[Presentation, ...]:
    """Return the presentations with these names: "BBB-2013J", or "BBB" for all of a module; None: all.

    Raises ValueError for an unknown name.
    """
    if names is None:
        return PRESENTATIONS
    for name in names:
        if not any(name in (p.module, str(p)) for p in PRESENTATIONS):
            raise ValueError(f"unknown presentation {name!r}: choose from {', '.join(map(str, PRESENTATIONS))}")
    return tuple(p for p in PRESENTATIONS if {p.module, str(p)} & set(names))


@dataclass(frozen=True)
class Enrolments:
    """n enrolments and their final results."""

    #: index into `PRESENTATIONS` [n]
    presentation: Int64s
    #: userid in the log [n]
    student: Int64s
    #: day of registration [n], relative to the start; -NEVER if unknown
    registered: Int64s
    #: day of unregistration [n]; `NEVER` for students who stayed
    unregistered: Int64s
    #: Pass, Distinction, Fail or Withdrawn [n]
    result: Strings

    @property
    def unsuccessful(self) -> Bools:
        """Whether each enrolment ended in Withdrawn or Fail [n]."""
        return np.isin(self.result, ("Withdrawn", "Fail"))

    def enrolled(self, presentation: Presentation, day: int) -> Int64s:
        """Return the indices of the enrolments that are registered at the end of `day`."""
        of_presentation = self.presentation == PRESENTATIONS.index(presentation)
        return np.flatnonzero(of_presentation & (self.registered <= day) & (self.unregistered > day))


@cache
def load_enrolments() -> Enrolments:
    """Load all enrolments of the packaged presentations."""
    module, code, student, registered, unregistered, result, _length = _columns("enrolment")
    return Enrolments(
        _presentations(module, code),
        np.array(student, np.int64),
        np.array([int(float(day or -NEVER)) for day in registered]),
        np.array([int(float(day or NEVER)) for day in unregistered]),
        np.array(result),
    )


@dataclass(frozen=True)
class ActiveDays:
    """n days of students with at least one click, in the data's order."""

    #: index into `PRESENTATIONS` [n]
    presentation: Int64s
    student: Int64s
    #: day relative to the presentation's start [n]; negative before it
    day: Int64s
    clicks: Int64s


@cache
def load_active_days() -> ActiveDays:
    """Load all active days of all students."""
    module, code, student, day, clicks = _columns("student_day")
    presentation = _presentations(module, code)
    return ActiveDays(presentation, np.array(student, np.int64), np.array(day, np.int64), np.array(clicks, np.int64))


def generate(
    presentations: Sequence[str] | None = None,
    *,
    seed: int = 1,
    last_day: int | None = None,
    limit: int | None = None,
) -> LogRows:
    """Generate the log of `presentations` (see `select_presentations`), with ids 1 … n in the order of writing.

    last_day: last day of each presentation to include; limit: number of rows to keep, from the first.
    A row is written up to `MAX_REQUEST_MS` after its event, so ids are almost, but not strictly, in time
    order, as in Moodle.
    """
    selected = [PRESENTATIONS.index(p) for p in select_presentations(presentations)]
    active = load_active_days()
    keep = np.isin(active.presentation, selected)
    if last_day is not None:
        keep &= active.day <= last_day
    presentation, student, day = active.presentation[keep], active.student[keep], active.day[keep]
    state = np.full(len(day), seed, np.int64).astype(np.uint64)
    for numbers in (presentation, student, day):
        state = click_times.combine(state, numbers)
    clicks = click_times.draw(state, active.clicks[keep])
    midnight = np.array([p.start_ms for p in PRESENTATIONS])[presentation] + day * DAY_MS
    at = midnight[clicks.day] + clicks.second * 1000
    # square of a uniform distribution: most requests are short
    request_ms = click_times.bits(clicks.word, 28) ** 2 * MAX_REQUEST_MS >> 24
    order = np.argsort(at + request_ms, kind="stable")[:limit]
    return LogRows(
        id=np.arange(1, len(order) + 1),
        event=np.where(clicks.opens, 0, _event_table()[click_times.bits(clicks.word, 16)])[order],
        names=tuple(EVENTS),
        userid=student[clicks.day[order]],
        at=at[order],
    )


def _event_table() -> Int64s:
    """Return quantiles of the event's index in `EVENTS` [4096]."""
    share = np.cumsum(list(EVENTS.values()))
    table: Int64s = np.searchsorted(share, (np.arange(4096) + 0.5) / 4096 * share[-1]).astype(np.int64)
    return table


def _columns(table: str) -> Iterator[tuple[str, ...]]:
    """Return the columns of a packaged table, as text."""
    packed = resources.files("tools").joinpath("replay", "data", f"{table}.csv.gz").read_bytes()
    rows = csv.reader(io.StringIO(gzip.decompress(packed).decode()))
    next(rows)
    return iter(zip(*rows, strict=True))


def _presentations(module: Sequence[str], code: Sequence[str]) -> Int64s:
    """Return the index into `PRESENTATIONS` of each (module, code) [n]."""
    index = {(p.module, p.code): i for i, p in enumerate(PRESENTATIONS)}
    return np.array([index[pair] for pair in zip(module, code, strict=True)], np.int64)
