"""The copy of records of activity that ticks read, and what it is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.state import activity_copy
from app.state.activity_copy import ActivityCopy
from models import activity_records, day_bits
from models.activity import Activity, Events, add, first_events
from models.activity_records import Packed, join
from models.numbers import PairNumbers
from models.rules import Int64s
from models.state import StateError
from tests.support.effort import examples

STUDENTS = 30


def record(student: int, entries: int) -> bytes | None:
    """A record with so many entries, None for none."""
    course = np.arange(entries)
    events = Events(np.zeros(entries, np.int64), course, np.full(entries, 16_000 + student), course < 0)
    activity = add(Activity.none(), events, forget_days=120).activity
    (packed,) = activity_records.pack(activity, np.array([student]))
    return packed


class Stored:
    """Records in a dict, and how often they have been read."""

    def __init__(self) -> None:
        self.records: dict[int, bytes] = {}
        self.reads = 0

    def scan(self, students: int) -> Iterator[Packed]:
        self.reads += 1
        known = sorted(self.records)
        for low in range(0, len(known), students):
            some = known[low : low + students]
            yield join(np.array(some), [self.records[s] for s in some], verify=True)

    def write(self, records: Mapping[int, bytes | None]) -> None:
        for student, packed in records.items():
            if packed is None:
                self.records.pop(student, None)
            else:
                self.records[student] = packed


def listed(blocks: Iterator[Packed]) -> dict[int, bytes]:
    """The records by student, in the order of the blocks."""
    records = {}
    for block in blocks:
        ends = np.cumsum(block.size).tolist()
        for student, size, end in zip(block.students.tolist(), block.size.tolist(), ends, strict=True):
            records[student] = block.words[end - size : end].tobytes()
    return records


CHANGES = st.dictionaries(st.integers(-2, STUDENTS), st.integers(0, 3), max_size=STUDENTS)


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(st.tuples(CHANGES, st.booleans()), max_size=6), st.integers(1, 7))
def test_a_copy_has_what_is_stored(changes: list[tuple[dict[int, int], bool]], students: int) -> None:
    """By ascending student, read once, whatever is written between scans."""
    stored, copy = Stored(), ActivityCopy()
    for written, scans in changes:
        records = {student: record(student, entries) for student, entries in written.items()}
        stored.write(records)
        copy.update(records)
        if scans:
            found = listed(copy.scan(stored.scan(students), students))
            assert found == stored.records
            assert list(found) == sorted(found)
    assert stored.reads == any(scans for _, scans in changes)


def test_a_copy_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """More students, or more changes between scans, are read from the store each time."""
    monkeypatch.setattr(activity_copy, "COPIED", 5)
    monkeypatch.setattr(activity_copy, "_UPDATES", 2)
    stored, copy = Stored(), ActivityCopy()
    for students, reads in ((5, 1), (5, 1), (6, 2), (6, 3)):
        records = {student: record(student, 1) for student in range(students)}
        stored.write(records)
        copy.update(records)
        assert listed(copy.scan(stored.scan(2), 2)) == stored.records
        assert stored.reads == reads


def test_a_scan_that_is_given_up_leaves_no_copy() -> None:
    stored, copy = Stored(), ActivityCopy()
    stored.write({student: record(student, 1) for student in range(9)})
    next(copy.scan(stored.scan(2), 2))
    assert listed(copy.scan(stored.scan(2), 2)) == stored.records


def test_unpacking_a_buffer_is_unpacking_records() -> None:
    """With one entry each, several, and none."""
    for entries in ([1, 1, 1], [1, 0, 3], [0], []):
        records = [record(student, n) for student, n in enumerate(entries)]
        activity, predicted = join(np.arange(len(entries)), records).unpack()
        assert np.bincount(activity.owner, minlength=len(entries)).tolist() == entries
        assert activity.newest.tolist() == [16_000 + student for student, n in enumerate(entries) for _ in range(n)]
        assert activity.course.tolist() == [course for n in entries for course in range(n)]
        assert predicted.tolist() == [student if n else -1 for student, n in enumerate(entries)]


def test_an_empty_record_is_damaged() -> None:
    """It does not stand for a student without a record."""
    with pytest.raises(StateError) as error:
        join(np.arange(3), [None, record(1, 1), b""])
    assert error.value.index == 2


@settings(max_examples=examples(200), deadline=None)
@given(st.data(), st.sampled_from([1, 100, 2**40]))
def test_pairs_have_the_same_number_each_time(data: Any, step: int) -> None:
    numbers, known = PairNumbers(), {}
    for pairs in data.draw(st.lists(st.lists(st.tuples(st.integers(-9, 300), st.integers(-99, 99))), max_size=4)):
        major, minor = np.array(pairs, np.int64).reshape(-1, 2).T * np.array([[step], [1]])
        found = numbers.of(major, minor)
        for pair, number in zip(zip(major.tolist(), minor.tolist(), strict=True), found.tolist(), strict=True):
            assert known.setdefault(pair, number) == number
        assert (numbers.find(major, minor) == found).all()
        assert list(zip(*(v.tolist() for v in numbers.values), strict=True)) == sorted(known, key=known.__getitem__)
    assert sorted(known.values()) == list(range(len(numbers)))
    assert numbers.find(np.array([-step, 1]), np.array([500, -500])).tolist() == [-1, -1]


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0, 5, 2**40]), st.integers(-3, 3), st.booleans())))
def test_first_events_are_those_that_set_bits(rows: list[tuple[int, int, int, bool]]) -> None:
    owner, course, day, submission = np.array(rows, np.int64).reshape(-1, 4).T
    first = first_events(Events(owner, course, day, submission.astype(np.bool_)))
    assert first.tolist() == sorted(rows.index(row) for row in set(rows))


@pytest.mark.parametrize("count", [day_bits.popcount, day_bits.popcount_of_numpy_1])
def test_bits_are_counted(count: Callable[[day_bits.Words], Int64s]) -> None:
    """With numpy 1 too, which has no function for it."""
    words = np.random.default_rng(1).integers(0, 2**64, 500, np.uint64) >> np.arange(500, dtype=np.uint64) % np.uint64(
        64
    )
    words = np.append(words, np.array([0, 2**64 - 1], np.uint64))
    counted = count(words)
    assert counted.tolist() == [word.bit_count() for word in words.tolist()]
    assert counted.dtype == np.int64
