"""A Moodle log out of OULAD: real students, days, click counts and outcomes; a drawn clock.

One click is one row. What is real and what is drawn: tools/replay/data/PROVENANCE.md.
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
from tools.replay import click_times as clock
from tools.replay.log_rows import LogRows

Texts = npt.NDArray[np.str_]

DAY_MS = 86_400_000
#: the letter of a presentation → the month it starts in; OULAD gives no dates, this is a convention
MONTHS = {"B": 2, "J": 10}
#: a day after every other: for students who never unregistered
NEVER = 1 << 30
#: the event that opens every session
OPENING = r"\core\event\course_viewed"
#: names that Moodle gives its events, and how often each is drawn in a session [%]
EVENTS = {
    OPENING: 22,
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
#: a row is written when its request ends: this much after its event, at most [ms]
LONGEST_REQUEST_MS = 5_000


@dataclass(frozen=True, order=True)
class Presentation:
    """One run of a module, such as BBB 2013J."""

    module: str
    code: str

    def __str__(self) -> str:
        return f"{self.module}-{self.code}"

    @property
    def starts(self) -> int:
        """Midnight UTC of day 0 [epoch ms]."""
        first = datetime(int(self.code[:4]), MONTHS[self.code[4]], 1, tzinfo=UTC)
        return int(first.timestamp()) * 1000

    def midnight(self, day: int) -> int:
        """Midnight UTC at which `day` begins [epoch ms]."""
        return self.starts + day * DAY_MS


#: what the package has
PRESENTATIONS = tuple(
    Presentation(module, code)
    for module, code in (("AAA", "2013J"), ("AAA", "2014J"), ("BBB", "2013B"), ("BBB", "2013J"))
)


def named(names: Sequence[str] | None) -> tuple[Presentation, ...]:
    """The presentations that `names` select: "BBB-2013J", or "BBB" for all of a module; None: all.

    Raises ValueError for a name that selects none.
    """
    if names is None:
        return PRESENTATIONS
    for name in names:
        if not any(name in (one.module, str(one)) for one in PRESENTATIONS):
            known = ", ".join(map(str, PRESENTATIONS))
            raise ValueError(f"no presentation {name!r}: there are {known}")
    return tuple(one for one in PRESENTATIONS if {one.module, str(one)} & set(names))


@dataclass(frozen=True)
class Outcomes:
    """How n enrolments ended, as OULAD knows it."""

    #: index into `PRESENTATIONS` [n]
    presentation: Int64s
    #: userid in the log [n]
    student: Int64s
    #: day of registration [n], relative to the start; before every other where it is not known
    registered: Int64s
    #: day of unregistration [n]; `NEVER` for those who stayed
    left: Int64s
    #: Pass, Distinction, Fail or Withdrawn [n]
    result: Texts

    @property
    def lost(self) -> Bools:
        """Whether each enrolment ended in Withdrawn or Fail [n]."""
        return np.isin(self.result, ("Withdrawn", "Fail"))

    def enrolled(self, presentation: Presentation, day: int) -> Int64s:
        """Rows of those registered, and not yet unregistered, at the end of `day`."""
        here = self.presentation == PRESENTATIONS.index(presentation)
        return np.flatnonzero(here & (self.registered <= day) & (self.left > day))


@cache
def outcomes() -> Outcomes:
    """Every enrolment of the packaged presentations."""
    module, code, student, registered, left, result, _length = _columns("enrolment")
    return Outcomes(
        _presentations(module, code),
        np.array(student, np.int64),
        np.array([int(float(day or -NEVER)) for day in registered]),
        np.array([int(float(day or NEVER)) for day in left]),
        np.array(result),
    )


@dataclass(frozen=True)
class Days:
    """n days of students with at least one click, in the data's order."""

    #: index into `PRESENTATIONS` [n]
    presentation: Int64s
    student: Int64s
    #: day relative to the presentation's start [n]; below 0 before it
    day: Int64s
    clicks: Int64s


@cache
def days() -> Days:
    """Every active day of every student."""
    module, code, student, day, clicks = _columns("student_day")
    where = _presentations(module, code)
    return Days(where, np.array(student, np.int64), np.array(day, np.int64), np.array(clicks, np.int64))


def generate(
    presentations: Sequence[str] | None = None,
    *,
    seed: int = 1,
    last_day: int | None = None,
    limit: int | None = None,
) -> LogRows:
    """The log of `presentations` (see `named`), with ids 1 … n in the order of writing.

    `last_day` leaves out what is later in each presentation; `limit` keeps the first rows, which are
    the same as without it. Rows are written up to `LONGEST_REQUEST_MS` after their event, so ids are
    nearly, not strictly, in time order: as in Moodle.
    """
    chosen = [PRESENTATIONS.index(one) for one in named(presentations)]
    real = days()
    keep = np.isin(real.presentation, chosen)
    if last_day is not None:
        keep &= real.day <= last_day
    where, student, day = real.presentation[keep], real.student[keep], real.day[keep]
    state = np.full(len(day), seed, np.int64).astype(np.uint64)
    for part in (where, student, day):
        state = clock.after(state, part)
    drawn = clock.draw(state, real.clicks[keep])
    midnight = np.array([one.starts for one in PRESENTATIONS])[where] + day * DAY_MS
    at = midnight[drawn.day] + drawn.second * 1000
    # square of a uniform: most requests are short
    request = clock.bits(drawn.word, 28) ** 2 * LONGEST_REQUEST_MS >> 24
    order = np.argsort(at + request, kind="stable")[:limit]
    return LogRows(
        id=np.arange(1, len(order) + 1),
        event=np.where(drawn.opens, 0, _event_table()[clock.bits(drawn.word, 16)])[order],
        names=tuple(EVENTS),
        userid=student[drawn.day[order]],
        at=at[order],
    )


def _event_table() -> Int64s:
    """Quantiles of the event's index in `EVENTS` [4096]."""
    share = np.cumsum(list(EVENTS.values()))
    table: Int64s = np.searchsorted(share, (np.arange(4096) + 0.5) / 4096 * share[-1]).astype(np.int64)
    return table


def _columns(table: str) -> Iterator[tuple[str, ...]]:
    """The columns of a packaged table, as text."""
    packed = resources.files("tools").joinpath("replay", "data", f"{table}.csv.gz").read_bytes()
    rows = csv.reader(io.StringIO(gzip.decompress(packed).decode()))
    next(rows)
    return iter(zip(*rows, strict=True))


def _presentations(module: Sequence[str], code: Sequence[str]) -> Int64s:
    """Index into `PRESENTATIONS` of each (module, code) [n]."""
    index = {(one.module, one.code): i for i, one in enumerate(PRESENTATIONS)}
    return np.array([index[pair] for pair in zip(module, code, strict=True)], np.int64)
