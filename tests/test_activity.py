"""Activity: day bits against sets of days, in any cuts, with every event repeated, and as stored records."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import activity_records as records
from models import log_ids, murmur2, position, state
from models.activity import NO_DAY, NONE, Activity, Added, Events, add, highest_risk
from models.day_bits import COUNTED_DAYS
from models.figures import figures, is_forgotten, weight_of_day
from models.state import NewerState, StateError
from tests.support.effort import examples

FORGET = 120
HALF_LIFE = 14.0
STUDENTS = 3
COURSES = [0, 5, 2**40]
#: owner, course, day, whether it is a submission
Event = tuple[int, int, int, bool]


@dataclass
class Days:
    """One entry as sets of days: the slow truth."""

    visits: set[int] = field(default_factory=set)
    submissions: set[int] = field(default_factory=set)
    newest: int = NO_DAY
    first: int = NO_DAY
    anew: int = 0

    def add(self, day: int, submission: bool) -> bool:
        """Whether a day was added to a set."""
        if day > self.newest + FORGET:
            self.visits, self.submissions, self.first = set(), set(), day
            self.anew += 1
        elif self.newest - day > 63:
            return False
        self.newest, self.first = max(self.newest, day), min(self.first, day)
        before = len(self.visits) + len(self.submissions)
        self.visits.add(day)
        if submission:
            self.submissions.add(day)
        return len(self.visits) + len(self.submissions) > before


class Entries:
    """All entries as sets of days."""

    def __init__(self, events: Sequence[Event] = ()) -> None:
        self.entries: dict[tuple[int, int], Days] = {}
        #: per entry the index of the event that set the last new bit
        self.cause: dict[tuple[int, int], int] = {}
        for i, (owner, course, day, submission) in enumerate(events):
            if self.entries.setdefault((owner, course), Days()).add(day, submission):
                self.cause[owner, course] = i


def columns(events: Sequence[Event]) -> Events:
    owner, course, day, submission = zip(*events, strict=True) if events else ((), (), (), ())
    return Events(*(np.array(c, np.int64) for c in (owner, course, day)), np.array(submission, np.bool_))


def add_all(events: Sequence[Event], cuts: Sequence[int] = ()) -> Activity:
    """Add the events in batches that end at `cuts`, and store and load the entries in between."""
    activity = Activity.none()
    for begin, end in pairwise([0, *sorted(min(c, len(events)) for c in cuts), len(events)]):
        activity = add(activity, columns(events[begin:end]), forget_days=FORGET).activity
        activity, _ = records.unpack(records.pack(activity, np.zeros(STUDENTS, np.int64)))
    return activity


def assert_equal(one: Activity, other: Activity) -> None:
    for f in fields(Activity):
        assert getattr(one, f.name).tolist() == getattr(other, f.name).tolist(), f.name


def assert_days(activity: Activity, truth: Entries) -> None:
    """The entries have the days of the sets."""
    assert list(zip(activity.owner.tolist(), activity.course.tolist(), strict=True)) == sorted(truth.entries)
    for i, key in enumerate(sorted(truth.entries)):
        days, newest = truth.entries[key], int(activity.newest[i])
        assert (int(activity.first[i]), newest) == (days.first, days.newest)
        for word, expected in ((activity.visits[i], days.visits), (activity.submissions[i], days.submissions)):
            assert {newest - b for b in range(64) if int(word) >> b & 1} == {d for d in expected if newest - d < 64}
        assert activity.older[i] == sum(newest - d >= 64 for d in days.submissions)


@st.composite
def logs(draw: st.DrawFn, most: int = 40) -> list[Event]:
    """Events whose days go forward on the whole: by little, past the window, and past being forgotten."""
    steps = st.sampled_from([0, 0, 0, 1, 1, 2, 7, 30, 62, 63, 64, 65, FORGET, FORGET + 1, 200, -1, -2, -62, -63, -64])
    events, day = [], 16_000
    for _ in range(draw(st.integers(0, most))):
        day += draw(steps)
        owner, course = draw(st.integers(0, STUDENTS - 1)), draw(st.sampled_from(COURSES))
        events.append((owner, course, day, draw(st.booleans())))
    return events


@settings(max_examples=examples(500), deadline=None)
@given(logs(), st.lists(st.integers(0, 40), max_size=4))
def test_day_bits_are_sets_of_days(events: list[Event], cuts: list[int]) -> None:
    """Whatever the cuts into batches."""
    assert_days(add_all(events, cuts), Entries(events))


@settings(max_examples=examples(500), deadline=None)
@given(logs(), st.integers(0, 40))
def test_the_entries_that_changed_and_why(events: list[Event], cut: int) -> None:
    """An entry has changed if a bit was set; the cause is the event that set the last one."""
    stored = add_all(events[:cut])
    added = add(stored, columns(events[cut:]), forget_days=FORGET)
    truth = Entries(events)
    causes = [truth.cause.get(key, NONE) - len(events[:cut]) for key in sorted(truth.entries)]
    assert added.cause.tolist() == [cause if cause >= 0 else NONE for cause in causes]
    assert added.changed.tolist() == [cause >= 0 for cause in causes]


@settings(max_examples=examples(300), deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from(COURSES), st.integers(0, 63), st.booleans())), st.randoms()
)
def test_neither_order_nor_repetition_matters(events: list[Event], rng: random.Random) -> None:
    """Within the window: equal sets of events have equal bytes, and what is added again changes nothing."""
    shuffled = rng.sample(events + events, 2 * len(events))
    activity = add_all(shuffled, [rng.randrange(len(shuffled) + 1)])
    assert_equal(activity, add_all(events))
    again = add(activity, columns(events), forget_days=FORGET)
    assert_equal(again.activity, activity)
    assert not again.changed.any()
    assert not again.forgotten.any()


def test_a_dense_and_a_sparse_batch_find_the_same_first_events() -> None:
    """A batch with days far apart is sorted, one with adjacent days is not."""
    rng = random.Random(3)
    days = sorted(rng.randrange(100) for _ in range(500))
    events = [(rng.randrange(STUDENTS), rng.choice(COURSES), 16_000 + day, rng.random() < 0.1) for day in days]
    far = [*events, (0, 5, 2_000_000, False)]
    for log in (events, far):
        assert_days(add_all(log), Entries(log))


def test_an_entry_that_begins_anew_has_no_past() -> None:
    """Nor an alert: that it was open is reported, so that it can be closed."""
    old = add_all([(0, 5, 16_000, True), (1, 5, 16_000, True)])
    old = replace(old, alert=np.ones(2, np.bool_), above=old.above + 4, risk=old.risk + 7_001, band=old.band + 3)
    added = add(old, columns([(0, 5, 16_121, False), (1, 5, 16_120, False)]), forget_days=FORGET)
    assert added.forgotten.tolist() == [True, False]
    assert_equal(added.activity.take(np.array([0])), add_all([(0, 5, 16_121, False)]))
    assert (added.activity.alert[1], added.activity.older[1], added.activity.risk[1]) == (True, 1, 7_000)


def test_entries_must_outlive_the_window() -> None:
    with pytest.raises(ValueError, match="64 days at least, not for 63"):
        add(Activity.none(), columns([]), forget_days=63)


# -- figures


@settings(max_examples=examples(500), deadline=None)
@given(logs(), st.integers(-3, 130))
def test_figures_are_those_of_the_sets(events: list[Event], ahead: int) -> None:
    """As of a day up to four before the newest, on which later days are not seen, or any day after."""
    activity, truth = add_all(events), Entries(events)
    for as_of in (activity.newest + ahead, int(activity.newest.max(initial=0)) + ahead):
        found = figures(activity, as_of, half_life_days=HALF_LIFE, forget_days=FORGET)
        for i, key in enumerate(sorted(truth.entries)):
            day = int(as_of[i]) if isinstance(as_of, np.ndarray) else as_of
            days = truth.entries[key]
            ages = {day - d for d in days.visits if d <= day and days.newest - d < 64}
            decayed = sum(round(2**20 * 2 ** (-age / 14)) for age in ages if age < 60)
            assert found.act[i] == pytest.approx(math.log1p(decayed / 2**20), abs=1e-12)
            assert found.silent[i] == min([60, *ages])
            assert found.submissions[i] == sum(d <= day for d in days.submissions)
            assert found.active_14[i] == sum(age < 14 for age in ages)
            assert found.active_28[i] == sum(age < 28 for age in ages)
            assert found.seen[i] == (days.first <= day <= days.newest + FORGET)
        assert (is_forgotten(activity, as_of, FORGET) == (as_of - activity.newest > FORGET)).all()


def test_weights_halve() -> None:
    """In steps of 2**-20, for 60 days; each day has its own."""
    assert [weight_of_day(age, 14.0) for age in (0, 14, 28, 59, 60, 63)] == [2**20, 2**19, 2**18, 56_490, 0, 0]
    for age in range(64):
        activity = replace(add_all([(0, 5, 16_000, False)]), visits=np.array([1 << age], np.uint64))
        found = figures(activity, 16_000, half_life_days=14.0, forget_days=FORGET)
        assert found.act[0] == pytest.approx(math.log1p(weight_of_day(age, 14.0) / 2**20), abs=1e-12)


# -- records

int32 = st.integers(-(2**31) + 1, 2**31 - 1)


@st.composite
def activities(draw: st.DrawFn) -> tuple[Activity, np.ndarray]:
    keys = sorted(draw(st.sets(st.tuples(st.integers(0, 4), st.integers(0, 2**63 - 1)), max_size=8)))

    def column(values: st.SearchStrategy[int], dtype: type = np.int64) -> np.ndarray:
        return np.array(draw(st.lists(values, min_size=len(keys), max_size=len(keys))), dtype)

    word, ticks, risk = st.integers(0, 2**64 - 1), st.integers(0, 2**15 - 1), st.integers(-1, 10_000)
    owner, course = (np.array([key[i] for key in keys], np.int64) for i in range(2))
    activity = Activity(
        owner, course, column(int32), column(int32), column(word, np.uint64), column(word, np.uint64),
        column(st.integers(0, 2**16 - 1)), column(ticks), column(ticks), column(st.booleans(), np.bool_),
        column(st.just(NO_DAY) | int32), column(risk), column(st.integers(-1, 4)),
        column(risk), column(st.integers(-1, 4)),
    )  # fmt: skip
    return activity, np.array(draw(st.lists(risk, min_size=5, max_size=5)), np.int64)


@settings(max_examples=examples(200), deadline=None)
@given(activities())
def test_records_round_trip(stored: tuple[Activity, np.ndarray]) -> None:
    """unpack reverses pack; a student without entries has no record, and nothing else is kept of them."""
    activity, predicted = stored
    packed = records.pack(activity, predicted)
    records.check([record for record in packed if record is not None])
    unpacked, got = records.unpack(packed)
    assert_equal(unpacked, activity)
    has = np.isin(np.arange(5), activity.owner)
    assert [record is not None for record in packed] == has.tolist()
    assert got.tolist() == np.where(has, predicted, NONE).tolist()


def test_the_size_of_a_record() -> None:
    """At most 80 bytes for a (student, course)."""
    (record,) = records.pack(add_all([(0, 5, 16_000, True)]), np.zeros(1, np.int64))
    assert record is not None
    assert len(record) == 64
    packed = records.pack(add_all([(0, 0, 16_000, True), (0, 5, 16_000, True)]), np.zeros(1, np.int64))
    assert [len(r or b"") for r in packed] == [112]


@given(st.integers(0, 63), st.integers(1, 255))
def test_damaged_records_are_refused(index: int, change: int) -> None:
    """A changed byte anywhere, and a wrong length."""
    (record,) = records.pack(add_all([(0, 5, 16_000, True)]), np.zeros(1, np.int64))
    assert record is not None
    damaged = bytearray(record)
    damaged[index] ^= change
    with pytest.raises(StateError):
        records.check([record, bytes(damaged)])
    for read in (records.check, records.unpack):
        with pytest.raises(StateError, match="is damaged"):
            read([record[:index]])


@given(st.binary(max_size=200))
def test_bytes_that_are_no_record_are_refused(raw: bytes) -> None:
    """By StateError and nothing else."""
    try:
        records.unpack([None, raw])
    except StateError:
        return
    assert len(raw) >= 64


def test_a_newer_record_is_refused_with_a_remedy() -> None:
    newer = state.pack_words(records.VERSION + 1, np.zeros(8, np.int64))
    for read in (records.check, records.unpack):
        with pytest.raises(NewerState, match="an activity record has layout version 2, this program reads 1: run the"):
            read([newer])


@given(st.integers(-(2**63), 2**63 - 1))
def test_no_other_record_of_the_table_has_such_a_key(student: int) -> None:
    ids = np.array([student], np.int64)
    (key,) = records.keys_of(ids)
    assert records.student_of(key) == student
    assert records.is_key(key)
    others = [*murmur2.keys_of(ids, np.array([False])), *murmur2.keys_of(ids, np.array([True]))]
    others += [position.KEY, position.NEXT_OFFSET_KEY, *log_ids.keys_of(np.array([abs(student) >> 12]))]
    assert not any(records.is_key(other) for other in others)
    assert not log_ids.is_key(key)


def test_the_highest_risk_of_a_student() -> None:
    activity = add_all([(0, 0, 16_000, True), (0, 5, 16_000, True), (2, 5, 16_000, True)])
    activity = replace(activity, risk=np.array([300, 7_001, NONE]))
    assert highest_risk(activity, 4).tolist() == [7_001, NONE, NONE, NONE]
    assert highest_risk(Activity.none(), 2).tolist() == [NONE, NONE]


def test_no_events_change_nothing() -> None:
    """Also where there are no entries."""
    added: Added = add(Activity.none(), columns([]), forget_days=FORGET)
    assert (len(added.activity), len(added.changed), len(added.cause)) == (0, 0, 0)
    assert records.unpack([]) is not None
    assert records.pack(Activity.none(), np.zeros(2, np.int64)) == [None, None]
    assert COUNTED_DAYS == 60
