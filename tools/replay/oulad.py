"""A Moodle log generated from OULAD: real students, days, click counts, submissions and results; random times of day.

One click is one row, and the last click of a day on which a student handed in is the submission. A submission on a day
without clicks is a row of its own. tools/replay/data/PROVENANCE.md says which data are real and which are generated.
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

from models.grouped import group_ends
from models.rules import Bools, Int64s
from tools.replay import click_times
from tools.replay.log_rows import LogRows, Texts

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
    r"\mod_quiz\event\attempt_reviewed": 1,
}
#: the event of a submission: of an assignment, by the student
SUBMISSION = r"\mod_assign\event\assessable_submitted"
#: all names of a generated log; the last is that of a submission
NAMES = (*EVENTS, SUBMISSION)
#: course id of the first of `PRESENTATIONS`: 1 is Moodle's front page
FIRST_COURSE = 2
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
    def course(self) -> int:
        """The courseid in the log: each presentation is a course of its own, as sites run them."""
        return FIRST_COURSE + PRESENTATIONS.index(self)

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


@dataclass(frozen=True)
class Submissions:
    """n days on which a student handed in a tutor-marked assignment, each once."""

    #: index into `PRESENTATIONS` [n]
    presentation: Int64s
    student: Int64s
    #: day relative to the presentation's start [n]
    day: Int64s


@cache
def load_submissions() -> Submissions:
    """Load all submissions up to the day where the clicks of their presentation end."""
    module, code, student, day = _columns("submission")
    of, who, on = _presentations(module, code), np.array(student, np.int64), np.array(day, np.int64)
    active = load_active_days()
    last = np.array([active.day[active.presentation == p].max() for p in range(len(PRESENTATIONS))])
    first = np.unique(_key(of, who, on), return_index=True)[1]
    kept = first[on[first] <= last[of[first]]]
    return Submissions(of[kept], who[kept], on[kept])


def generate(
    presentations: Sequence[str] | None = None,
    *,
    seed: int = 1,
    last_day: int | None = None,
    limit: int | None = None,
    submissions: bool = True,
) -> LogRows:
    """Generate the log of `presentations` (see `select_presentations`), with ids 1 … n in the order of writing.

    last_day: last day of each presentation to include; limit: number of rows to keep, from the first; submissions:
    False leaves submissions out, as for the totals model. A row is written up to `MAX_REQUEST_MS` after its event, so
    ids are almost, but not strictly, in time order, as in Moodle.
    """
    days = _days([PRESENTATIONS.index(p) for p in select_presentations(presentations)], last_day, submissions)
    presentation, student, day, count, submitted = days
    state = np.full(len(day), seed, np.int64).astype(np.uint64)
    for numbers in (presentation, student, day):
        state = click_times.combine(state, numbers)
    clicks = click_times.draw(state, count)
    midnight = np.array([p.start_ms for p in PRESENTATIONS])[presentation] + day * DAY_MS
    at = midnight[clicks.day] + clicks.second * 1000
    event = np.where(clicks.opens, 0, _event_table()[click_times.bits(clicks.word, 16)])
    event[np.flatnonzero(group_ends(clicks.day))[submitted]] = NAMES.index(SUBMISSION)
    # square of a uniform distribution: most requests are short
    request_ms = click_times.bits(clicks.word, 28) ** 2 * MAX_REQUEST_MS >> 24
    order = np.argsort(at + request_ms, kind="stable")[:limit]
    nothing = np.zeros(len(order), np.int64)
    null = np.ones(len(order), np.bool_)
    return LogRows(
        id=np.arange(1, len(order) + 1),
        event=event[order],
        names=NAMES,
        userid=student[clicks.day[order]],
        at=at[order],
        nulls={"relateduserid": null, "realuserid": null},
        more={
            "courseid": FIRST_COURSE + presentation[clicks.day[order]],
            **dict.fromkeys(("relateduserid", "anonymous", "realuserid"), nothing),
        },
        origin=Texts(nothing, ("web",)),
    )


def _days(
    selected: Sequence[int], last_day: int | None, submissions: bool
) -> tuple[Int64s, Int64s, Int64s, Int64s, Bools]:
    """Return presentation, student, day, number of rows ≥ 1 and whether there is a submission of each day with rows."""
    active, handed_in = load_active_days(), load_submissions()
    parts = [active, handed_in] if submissions else [active]
    presentation, student, day = (
        np.concatenate([vars(part)[name] for part in parts]) for name in ("presentation", "student", "day")
    )
    clicks = np.zeros(len(day), np.int64)
    clicks[: len(active.day)] = active.clicks
    keep = np.isin(presentation, selected)
    if last_day is not None:
        keep &= day <= last_day
    key = _key(presentation, student, day)
    # days with clicks first, and in the data's order
    _, first, row = np.unique(key[keep], return_index=True, return_inverse=True)
    count = np.bincount(row, clicks[keep], len(first)).astype(np.int64)
    submitted = np.bincount(row, np.flatnonzero(keep) >= len(active.day), len(first)) > 0
    order = np.argsort(first)
    kept = np.flatnonzero(keep)[first[order]]
    return presentation[kept], student[kept], day[kept], np.maximum(count[order], 1), submitted[order]


def _key(presentation: Int64s, student: Int64s, day: Int64s) -> Int64s:
    """Return one number for each student's day in a presentation."""
    return (presentation << 48) + (student << 16) + day


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
