"""Activity: on which days each student was active in each course, and where the student's risk stands.

An entry is one (student, course). Its days are bits of a word, counted back from its newest day: setting a bit
commutes and is idempotent, so neither the order of events nor their repetition matters.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from models.day_bits import ONE, WINDOW, Words, popcount, shift_left, shift_right
from models.factorize import argsort_pairs, factorize, factorize_pairs
from models.grouped import group_starts, grouped_cummax
from models.rules import Bools, Int64s

#: stands for a day that there is not
NO_DAY = -(2**31)
#: stands for a risk, or a band, that has not been published
NONE = -1
#: largest number of submissions that is kept
_MAX_OLDER = 2**16 - 1
#: up to so many cells per event the first event of each is found by a table instead of by sorting
_CELLS_PER_EVENT = 64


@dataclass(frozen=True, slots=True)
class Activity:
    """Entries of some students, ascending by (owner, course)."""

    #: index of the student [m]
    owner: Int64s
    #: courseid [m]; 0: no course, or RISK_COURSES=site
    course: Int64s
    #: first and newest day with a visit [m]
    first: Int64s
    newest: Int64s
    #: the days with a visit, and with a submission [m]: bit i is day `newest` - i
    visits: Words
    submissions: Words
    #: number of days with a submission before those of `submissions` [m]
    older: Int64s
    #: ticks in a row on which the risk was high enough to open an alert, and low enough to close one [m]
    above: Int64s
    below: Int64s
    #: whether an alert is open [m]
    alert: Bools
    #: the day on which the latest alert was opened [m], NO_DAY: never
    opened: Int64s
    #: the risk published last [m] in 1e-4, NONE: none
    risk: Int64s
    #: the band published last [m] (models.assessment.Band), NONE: none
    band: Int64s
    #: risk and band as of the latest tick that found news [m]; NONE: none. Events do not change them
    tick_risk: Int64s
    tick_band: Int64s

    @classmethod
    def none(cls) -> Activity:
        return _fresh(*(np.empty(0, np.int64) for _ in range(3)))

    def __len__(self) -> int:
        return len(self.owner)

    def take(self, rows: Int64s | Bools) -> Activity:
        """The entries at `rows` (indices or a mask)."""
        return Activity(*(getattr(self, f.name)[rows] for f in fields(self)))

    def owned_by(self, owner: Int64s) -> Activity:
        """The same entries with other indices of their students [m], ascending as before."""
        return replace(self, owner=owner)


@dataclass(frozen=True, slots=True)
class Events:
    """Events that count, in arrival order."""

    #: index of the student [n]
    owner: Int64s
    #: courseid [n]
    course: Int64s
    #: local day [n] (models/days.py)
    day: Int64s
    #: whether it is a submission [n]
    submission: Bools

    @classmethod
    def none(cls) -> Events:
        empty = np.empty(0, np.int64)
        return cls(empty, empty, empty, np.empty(0, np.bool_))

    def __len__(self) -> int:
        return len(self.owner)

    def take(self, rows: Int64s | Bools) -> Events:
        """The events at `rows` (indices or a mask)."""
        return Events(self.owner[rows], self.course[rows], self.day[rows], self.submission[rows])


@dataclass(frozen=True, slots=True)
class Added:
    """The effect of adding events."""

    activity: Activity
    #: whether a bit of the entry was set that was not set before [m]
    changed: Bools
    #: index of the event that set the last of these bits [m], -1 if none was set
    cause: Int64s
    #: whether the entry began anew while its alert was open [m]: that alert is closed
    forgotten: Bools


# -- adding events


def add(activity: Activity, events: Events, *, forget_days: int) -> Added:
    """Add `events` [n] in arrival order to the entries of their students.

    A submission counts as a visit too. An entry that gets its next event more than `forget_days` days after its newest
    day begins anew. An event more than WINDOW - 1 days before the newest day sets nothing.

    Raises ValueError if an entry would be forgotten within the window.
    """
    if forget_days < WINDOW:
        raise ValueError(f"entries are kept for {WINDOW} days at least, not for {forget_days}")
    merged, entry = _with_entries(activity, events.owner, events.course)
    rows = _first_events(entry, events.day, events.submission)
    entry, day, submission = entry[rows], events.day[rows], events.submission[rows]
    # the newest day of the entry before and after each event
    after = grouped_cummax(entry, np.maximum(day, merged.newest[entry]))
    before = np.where(group_starts(entry), merged.newest[entry], np.roll(after, 1))
    anew = np.flatnonzero(day > before + forget_days)  # and where the entry is new: its newest day is NO_DAY
    latest_anew = np.full(len(merged), -1, np.int64)
    latest_anew[entry[anew]] = anew  # of several the last one is kept
    began = latest_anew >= 0
    forgotten = began & merged.alert
    if len(anew):
        merged = _begin_anew(merged, began, day[latest_anew])
    counts = (np.arange(len(rows)) >= latest_anew[entry]) & (after - day < WINDOW)
    rows, entry, day, submission = rows[counts], entry[counts], day[counts], submission[counts]
    first, newest = merged.first.copy(), merged.newest.copy()
    if len(rows):
        starts = np.flatnonzero(group_starts(entry))
        touched = entry[starts]
        newest[touched] = np.maximum(newest[touched], np.maximum.reduceat(day, starts))
        first[touched] = np.minimum(first[touched], np.minimum.reduceat(day, starts))
    cause = np.full(len(merged), -1, np.int64)
    visits, _ = _set_bits(merged.visits, merged.newest, newest, entry, day, rows, cause)
    submissions, lost = merged.submissions, np.zeros(len(merged), np.int64)
    if submission.any() or submissions.any():
        entry, day, rows = entry[submission], day[submission], rows[submission]
        submissions, lost = _set_bits(submissions, merged.newest, newest, entry, day, rows, cause)
    result = replace(
        merged,
        first=first,
        newest=newest,
        visits=visits,
        submissions=submissions,
        older=np.minimum(merged.older + lost, _MAX_OLDER),
    )
    return Added(result, cause >= 0, cause, forgotten)


def first_events(events: Events) -> Int64s:
    """Indices of the first event of each student, course, day and kind, ascending: the others set no bits."""
    courses, course = factorize(events.course)
    return np.sort(_first_of_cells(events.owner * len(courses) + course, events.day, events.submission))


def newest_days(activity: Activity, events: Events) -> Int64s:
    """The newest day of the entry of each event [n], NO_DAY if there is none yet."""
    merged, entry = _with_entries(activity, events.owner, events.course)
    return merged.newest[entry]


def _with_entries(activity: Activity, owner: Int64s, course: Int64s) -> tuple[Activity, Int64s]:
    """The activity with an entry for each (owner, course) [n], and the index of that entry [n].

    New entries are without visits, and their newest day is NO_DAY.
    """
    if len(activity) and (index := _find(activity, owner, course)) is not None:
        return activity, index
    owners, courses = np.append(activity.owner, owner), np.append(activity.course, course)
    owners, courses, index = factorize_pairs(owners, courses)
    stored = index[: len(activity)]
    if len(owners) > len(stored):
        entries = _fresh(owners, courses, np.full(len(owners), NO_DAY, np.int64))
        for f in fields(activity):
            getattr(entries, f.name)[stored] = getattr(activity, f.name)
        activity = entries
    return activity, index[len(stored) :]


def _find(activity: Activity, owner: Int64s, course: Int64s) -> Int64s | None:
    """The index of the entry of each (owner, course) [n]; None if there is no such entry for one of them."""
    high = int(activity.course.max()) + 1
    if int(activity.course.min()) < 0 or high * (int(activity.owner[-1]) + 1) >= 1 << 62:
        return None
    wanted = owner * high + np.minimum(course, high)
    index = np.minimum(np.searchsorted(activity.owner * high + activity.course, wanted), len(activity) - 1)
    is_found = (activity.owner[index] == owner) & (activity.course[index] == course)
    return index if is_found.all() else None


def _first_events(entry: Int64s, day: Int64s, submission: Bools) -> Int64s:
    """Indices of the first event of each (entry, day, kind) among n events, by entry and then in arrival order."""
    rows = _first_of_cells(entry, day, submission)
    return rows[argsort_pairs(entry[rows], rows)]


def _first_of_cells(entry: Int64s, day: Int64s, submission: Bools) -> Int64s:
    """Indices of the first event of each (entry, day, kind) among n events, by (entry, day, kind)."""
    if not len(entry):
        return entry
    low = int(day.min())
    span = 2 * (int(day.max()) - low + 1)
    cell = entry * span + 2 * (day - low) + submission
    cells = span * (int(entry.max()) + 1)
    if cells <= _CELLS_PER_EVENT * len(entry):
        first = np.full(cells, -1, np.int64)
        first[cell[::-1]] = np.arange(len(entry))[::-1]  # of several assignments the last one, to the first event
        rows: Int64s = first[first >= 0]
    else:
        _, rows = np.unique(cell, return_index=True)
    return rows


def _fresh(owner: Int64s, course: Int64s, day: Int64s) -> Activity:
    """Entries [m] without any bit."""
    m = len(owner)
    return Activity(
        owner=owner,
        course=course,
        first=day.copy(),
        newest=day,
        visits=np.zeros(m, np.uint64),
        submissions=np.zeros(m, np.uint64),
        older=np.zeros(m, np.int64),
        above=np.zeros(m, np.int64),
        below=np.zeros(m, np.int64),
        alert=np.zeros(m, np.bool_),
        opened=np.full(m, NO_DAY, np.int64),
        risk=np.full(m, NONE, np.int64),
        band=np.full(m, NONE, np.int64),
        tick_risk=np.full(m, NONE, np.int64),
        tick_band=np.full(m, NONE, np.int64),
    )


def _begin_anew(activity: Activity, began: Bools, day: Int64s) -> Activity:
    """Replace the entries where `began` [m] by fresh ones, whose only day is `day` [m]."""
    entries = _fresh(activity.owner, activity.course, day)
    return Activity(*(np.where(began, getattr(entries, f.name), getattr(activity, f.name)) for f in fields(activity)))


def _set_bits(
    words: Words, word_day: Int64s, newest: Int64s, entry: Int64s, day: Int64s, rows: Int64s, cause: Int64s
) -> tuple[Words, Int64s]:
    """Set the bits of days [k], and shift the words.

    words [m], whose newest days are word_day [m] and shall be newest [m]; entry, day [k]: of the bits, by entry; rows
    [k]: the events. Raises cause [m] to the last event that set a new bit. Returns the words, and the number of bits of
    each that were shifted out, or would have been before the last event.
    """
    age = word_day[entry] - day
    unset = (age < 0) | (shift_right(words[entry], age) & ONE == 0)
    entry, day, rows = entry[unset], day[unset], rows[unset]
    shifted = shift_left(words, newest - word_day)
    lost = popcount(words) - popcount(shifted)
    if len(entry):
        order = np.lexsort((rows, day, entry))
        entry, day, rows = entry[order], day[order], rows[order]
        first = group_starts(entry) | group_starts(day)
        entry, day, rows = entry[first], day[first], rows[first]
        starts = np.flatnonzero(group_starts(entry))
        touched = entry[starts]
        cause[touched] = np.maximum(cause[touched], np.maximum.reduceat(rows, starts))
        bits = shift_left(np.ones(len(entry), np.uint64), newest[entry] - day)
        shifted[touched] |= np.bitwise_or.reduceat(bits, starts)
        lost[touched] += np.add.reduceat((bits == 0).astype(np.int64), starts)
    return shifted, lost


def highest_risk(activity: Activity, students: int) -> Int64s:
    """The highest risk published last among the entries of each of the `students` [u] in 1e-4, NONE if none has one."""
    highest = np.full(students, NONE, np.int64)
    if len(activity):
        starts = np.flatnonzero(group_starts(activity.owner))
        highest[activity.owner[starts]] = np.maximum.reduceat(activity.risk, starts)
    return highest
