"""The set of applied log ids: against Python's set, in any order and any cuts, and its stored form."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import log_ids, state
from models.log_ids import SPAN
from models.state import NewerState, StateError
from models.visits import NO_LOG_ID

#: ids as Moodle numbers them, at the edges of spans, and any
IDS = st.one_of(
    st.integers(1, 3 * SPAN),
    st.sampled_from([0, SPAN - 1, SPAN, 63, 64, 2**63 - 1]),
    st.integers(0, 2**63 - 1),
)


class Stored:
    """A set kept as the state table keeps it: records by key."""

    def __init__(self) -> None:
        self.records: dict[bytes, bytes] = {}

    def add(self, ids: list[int]) -> list[bool]:
        column = np.array(ids, np.int64)
        spans = log_ids.spans_of(column)
        keys = log_ids.keys_of(spans)
        added = log_ids.add(column, spans, log_ids.unpack([self.records.get(key) for key in keys]))
        self.records.update(zip(keys, log_ids.pack(added.bitmaps), strict=True))
        return [bool(new) for new in added.is_new]


def first_occurrences(ids: list[int]) -> list[bool]:
    seen: set[int] = set()
    return [not (number in seen or seen.add(number)) for number in ids]  # type: ignore[func-returns-value]


@given(st.lists(IDS, max_size=60), st.lists(st.integers(0, 60), max_size=5))
def test_it_is_a_set_whatever_the_batches(ids: list[int], cuts: list[int]) -> None:
    """An id is new the first time, in its batch or in an earlier one."""
    stored = Stored()
    found: list[bool] = []
    for begin, end in pairwise([0, *sorted(min(cut, len(ids)) for cut in cuts), len(ids)]):
        found += stored.add(ids[begin:end])
    assert found == first_occurrences(ids)


@given(st.lists(IDS, max_size=60), st.randoms(use_true_random=False))
def test_equal_sets_have_equal_bytes(ids: list[int], rng: random.Random) -> None:
    """Neither order nor repetition changes the records."""
    one, other = Stored(), Stored()
    one.add(ids)
    shuffled = ids + ids
    rng.shuffle(shuffled)
    for number in shuffled:
        other.add([number])
    assert one.records == other.records


@given(st.lists(IDS, max_size=30), st.lists(IDS, max_size=30))
def test_a_union_is_the_set_of_all(left: list[int], right: list[int]) -> None:
    """As after all ids were added to one set; the union with itself and with nothing changes nothing."""
    one, other, both = Stored(), Stored(), Stored()
    one.add(left)
    other.add(right)
    both.add(left + right)
    assert log_ids.union([one.records, other.records]) == both.records
    assert log_ids.union([both.records, {}, one.records]) == both.records


def test_rows_without_an_id_are_never_duplicates() -> None:
    stored = Stored()
    assert stored.add([NO_LOG_ID, 7, NO_LOG_ID, 7]) == [True, True, True, False]
    assert stored.add([NO_LOG_ID, 7]) == [True, False]
    assert stored.add([NO_LOG_ID]) == [True]
    assert list(stored.records) == [b"ids 0"]


def test_records_are_small() -> None:
    """One id takes 24 bytes, a whole span 528."""
    stored = Stored()
    stored.add([5])
    assert [len(record) for record in stored.records.values()] == [24]
    stored.add(list(range(SPAN)))
    assert [len(record) for record in stored.records.values()] == [528]


def test_keys_are_no_students_keys() -> None:
    assert log_ids.keys_of(np.array([0, 12])) == [b"ids 0", b"ids 12"]


def record() -> bytes:
    stored = Stored()
    stored.add([1, 70, 4000])
    (record,) = stored.records.values()
    return record


@pytest.mark.parametrize("at", range(40))
def test_a_changed_byte_is_detected(at: int) -> None:
    good = record()
    bad = bytearray(good)
    bad[at] ^= 0x10
    with pytest.raises(StateError) as error:
        log_ids.unpack([None, good, bytes(bad)])
    assert error.value.index == 2


@pytest.mark.parametrize("bad", [b"", b"\1", bytes(8), record()[:-8], record() + bytes(8)])
def test_a_record_of_another_length_is_detected(bad: bytes) -> None:
    with pytest.raises(StateError, match="log-id record"):
        log_ids.unpack([bad])


def test_a_record_that_lists_more_words_than_it_has_is_detected() -> None:
    short = state.pack_words(log_ids.VERSION, np.array([0, 7, 1], np.int64))
    with pytest.raises(StateError, match="a log-id record of 24 bytes is damaged"):
        log_ids.unpack([short])
    with pytest.raises(StateError, match="a log-id record of 8 bytes is damaged"):
        log_ids.unpack([state.pack_words(log_ids.VERSION, np.array([0], np.int64))])


def test_a_newer_record_is_not_damage() -> None:
    newer = state.pack_words(log_ids.VERSION + 1, np.array([0, 1, 1], np.int64))
    with pytest.raises(NewerState, match="layout version 2"):
        log_ids.unpack([newer])
