"""Cohorts: sums and medians against a recount, in any order and division, and their records."""

from __future__ import annotations

import math
import random
from dataclasses import fields, replace
from statistics import median_low

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import cohort_records, state
from models.cohorts import (
    BINS,
    MAX_SUBMISSIONS,
    Cohorts,
    CohortSums,
    CohortTable,
    Peers,
    Waiting,
    add,
    of,
    peers,
    tabulate,
)
from models.figures import Figures
from models.standing import CohortRule
from models.state import NewerState, StateError
from tests.support.effort import examples

RULE = CohortRule(weeks=2, minimum=3)
COURSES = [0, 3, 2**40]


class Sample:
    """Entries with random figures."""

    def __init__(self, rng: random.Random, size: int) -> None:
        def column(values: list[int]) -> np.ndarray:
            return np.array([rng.choice(values) for _ in range(size)], np.int64)

        self.course = column(COURSES)
        self.first = column([*range(70), -30, 100_000])
        self.figures = Figures(
            act=np.array([rng.random() * 3 for _ in range(size)]),
            silent=column([0, 1, 2, 30, 59, 60]),
            submissions=column([0, 0, 1, 2, MAX_SUBMISSIONS, MAX_SUBMISSIONS + 7]),
            active_14=column([0, 1, 13, 14]),
            active_28=column([0, 1, 27, 28]),
            seen=np.array([rng.random() < 0.8 for _ in range(size)], np.bool_),
            visit_days=np.zeros(size, np.uint64),
            submission_days=np.zeros(size, np.uint64),
        )

    def __len__(self) -> int:
        return len(self.course)

    def cohorts(self, rows: list[int] | None = None) -> Cohorts:
        index = np.arange(len(self)) if rows is None else np.array(rows, np.int64)
        return of(self.course[index], self.first[index], self.figures.take(index))

    def peers_of(self, course: int, first: int) -> list[int]:
        """Indices of the peers: near weeks, or the whole course."""
        seen = [i for i in range(len(self)) if self.figures.seen[i] and self.course[i] == course]
        near = [i for i in seen if abs(int(self.first[i]) // 7 - first // 7) <= RULE.weeks]
        return near if len(near) >= RULE.minimum else seen


#: seeds instead of randoms, whose every number is drawn by hypothesis, which takes long
randoms = st.builds(random.Random, st.integers(0, 2**32))
samples = st.builds(Sample, randoms, st.integers(0, 60))


def assert_equal(one: Cohorts, other: Cohorts) -> None:
    for name in ("course", "week", "sums", "counts"):
        assert getattr(one, name).tolist() == getattr(other, name).tolist(), name
    for f in fields(Waiting):
        assert getattr(one.waiting, f.name).tolist() == getattr(other.waiting, f.name).tolist(), f.name


@settings(max_examples=examples(200), deadline=None)
@given(samples, st.lists(st.tuples(st.sampled_from([*COURSES, 4]), st.integers(-60, 140)), max_size=5))
def test_peers_are_those_of_a_recount(sample: Sample, more: list[tuple[int, int]]) -> None:
    """Of the entries themselves, and of others: in weeks and in courses without entries."""
    course = np.append(sample.course, np.array([c for c, _ in more], np.int64))
    first = np.append(sample.first, np.array([f for _, f in more], np.int64))
    own = np.arange(len(course)) < len(sample)
    table = tabulate(sample.cohorts(), RULE)
    for rows in (own, ~own, own | True):
        found = peers(table, course[rows], first[rows])
        for k, i in enumerate(np.flatnonzero(rows).tolist()):
            assert_peers(found, k, sample, sample.peers_of(int(course[i]), int(first[i])))


def assert_peers(found: Peers, k: int, sample: Sample, expected: list[int]) -> None:
    figures, n = sample.figures, len(expected)
    assert found.n[k] == n
    sums = (
        sum(round(1e4 * float(figures.act[i])) for i in expected) / 1e4,
        sum(round(1e4 * math.log1p(int(figures.silent[i]))) for i in expected) / 1e4,
        sum(int(figures.submissions[i]) for i in expected),
    )
    means = (found.act[k], found.log1p_silent[k], found.submissions[k])
    assert means == pytest.approx([total / max(n, 1) for total in sums], abs=1e-12)
    medians = (found.median_silent[k], found.median_14[k], found.median_28[k], found.median_submissions[k])
    columns = (figures.silent, figures.active_14, figures.active_28, np.minimum(figures.submissions, MAX_SUBMISSIONS))
    assert medians == tuple(median_low([int(c[i]) for i in expected]) if n else 0 for c in columns)


@settings(max_examples=examples(200), deadline=None)
@given(samples, st.integers(1, 5), randoms)
def test_sums_do_not_depend_on_the_division(sample: Sample, parts: int, rng: random.Random) -> None:
    """Into partitions, nor on the order of entries and parts."""
    division: list[list[int]] = [[] for _ in range(parts)]
    for i in rng.sample(range(len(sample)), len(sample)):
        division[rng.randrange(parts)].append(i)
    total = add([Cohorts.none(), *(sample.cohorts(rows) for rows in division)])
    assert_equal(total, sample.cohorts())
    assert_equal(add([add([sample.cohorts(rows)]) for rows in reversed(division)]), sample.cohorts())


@settings(max_examples=examples(100), deadline=None)
@given(samples, st.integers(1, 9))
def test_entries_are_summed_some_at_a_time(sample: Sample, size: int) -> None:
    """As all at once; with the line of all, cut to the budget."""
    sums = CohortSums(budget=1)
    for low in range(0, len(sample), size):
        rows = np.arange(low, min(low + size, len(sample)))
        line = waiting_of([(5, 10_000 + low)], {5: 1})
        sums.add(sample.course[rows], sample.first[rows], sample.figures.take(rows), line)
    whole, parts = sample.cohorts(), -(-len(sample) // size)
    assert len(sums) == len(whole)
    best = [(5, 10_000 + size * (parts - 1))] if parts else []
    waiting = waiting_of(best, {5: parts} if parts else {})
    assert_equal(sums.cohorts(), replace(whole, waiting=waiting))


def test_few_peers_are_the_whole_course() -> None:
    """And where the course has too few, these few are counted all the same: there is no score."""
    sample = Sample(random.Random(1), 0)
    sample.course, sample.first = np.array([3, 3, 3, 3, 7, 7]), np.array([0, 6, 14, 21, 0, 0])
    zero = np.zeros(6, np.int64)
    sample.figures = Figures(
        np.zeros(6), np.arange(6), zero, zero, zero, np.ones(6, np.bool_), zero.view(np.uint64), zero.view(np.uint64)
    )
    found = peers(tabulate(sample.cohorts(), RULE), np.array([3, 3, 3, 3, 7, 9]), np.array([0, 14, 21, 400, 0, 0]))
    assert found.n.tolist() == [3, 4, 4, 4, 2, 0]
    assert found.median_silent.tolist() == [1, 1, 1, 1, 4, 0]


# -- who waits for an alert

ranks = st.lists(st.tuples(st.sampled_from(COURSES), st.integers(0, 2**30)), max_size=20, unique=True)


def waiting_of(ranks: list[tuple[int, int]], opened: dict[int, int]) -> Waiting:
    course, rank = (np.array(c, np.int64) for c in (zip(*ranks, strict=True) if ranks else ((), ())))
    courses, numbers = np.array(list(opened), np.int64), np.array(list(opened.values()), np.int64)
    order = np.lexsort((-rank, course))
    return Waiting(course[order], rank[order], courses, numbers)


@settings(max_examples=examples(200), deadline=None)
@given(ranks, st.integers(1, 4), st.integers(0, 5), st.lists(st.sampled_from(COURSES), max_size=9), randoms)
def test_the_line_is_that_of_all_parts(
    line: list[tuple[int, int]], parts: int, budget: int, opened: list[int], rng: random.Random
) -> None:
    """Per course the first `budget` of all entries, in order, and all alerts opened."""
    division: list[list[tuple[int, int]]] = [[] for _ in range(parts)]
    for entry in line:
        division[rng.randrange(parts)].append(entry)
    cohorts = []
    for part in division:
        alone = Cohorts.none()
        cohorts.append(Cohorts(alone.course, alone.week, alone.sums, alone.counts, waiting_of(part, {})))
    for course in opened:
        alone = Cohorts.none()
        cohorts.append(Cohorts(alone.course, alone.week, alone.sums, alone.counts, waiting_of([], {course: 1})))
    rng.shuffle(cohorts)
    total = add([add(cohorts[:2], budget), *cohorts[2:]], budget).waiting
    expected = [(c, r) for c in COURSES for r in sorted((r for k, r in line if k == c), reverse=True)[:budget]]
    assert list(zip(total.course.tolist(), total.rank.tolist(), strict=True)) == expected
    numbers = dict(zip(total.opened_course.tolist(), total.opened.tolist(), strict=True))
    assert numbers == {course: opened.count(course) for course in sorted(set(opened))}


# -- records


@settings(max_examples=examples(100), deadline=None)
@given(samples, ranks, st.integers(0, 9), st.integers(0, 3), randoms)
def test_records_round_trip(sample: Sample, line: list[tuple[int, int]], opened: int, size: int, rng) -> None:
    """In one piece or in many, read in any order."""
    sums = sample.cohorts()
    cohorts = Cohorts(sums.course, sums.week, sums.sums, sums.counts, waiting_of(line, {c: c for c in range(opened)}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cohort_records, "MAX_PIECE", [80, 800, 8_000, 500_000][size])
        pieces = cohort_records.encode(cohorts)
    assert {cohort_records.pieces_of(piece) for piece in pieces} == {len(pieces)}
    assert size < 3 or len(pieces) == 1
    assert max(map(len, pieces)) <= [80, 800, 8_000, 500_000][size] + 8 * (BINS + 13)
    assert_equal(cohort_records.decode(rng.sample(pieces, len(pieces))), cohorts)


def big_cohorts() -> Cohorts:
    rng = np.random.default_rng(5)
    n, zero = 20_000, np.zeros(20_000, np.int64)
    figures = Figures(rng.random(n), zero, zero + 1, zero, zero, np.ones(n, np.bool_), *(zero.view(np.uint64),) * 2)
    return of(np.arange(n), rng.integers(0, 9_999, n), figures)


def test_a_record_fits_a_kafka_message() -> None:
    """However many cohorts there are."""
    cohorts = big_cohorts()
    pieces = cohort_records.encode(cohorts)
    assert len(pieces) > 1
    assert max(map(len, pieces)) <= 512 * 1024
    assert_equal(cohort_records.decode(pieces), cohorts)


def test_damaged_and_missing_records_are_refused() -> None:
    pieces = cohort_records.encode(big_cohorts())
    damaged = bytearray(pieces[1])
    damaged[1_000] ^= 1
    for wrong in (pieces[:-1], pieces[1:], [], [pieces[0][:-8], *pieces[1:]], [pieces[0], bytes(damaged), *pieces[2:]]):
        with pytest.raises(StateError):
            cohort_records.decode(wrong)
    with pytest.raises(NewerState, match="a cohort record has layout version 2, this program reads 1: run the"):
        cohort_records.decode([state.pack_words(2, np.zeros(6, np.int64))])


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(st.integers(-2, 300) | st.integers(-(2**63), 2**63 - 1), max_size=30), st.booleans())
def test_words_that_are_no_record_are_refused(words: list[int], plausible: bool) -> None:
    """By StateError and nothing else, even if the checksum is right."""
    head = [0, 1 << 32, len(words) // 7, 0, 0, 0] if plausible else [0]
    try:
        cohort_records.decode([state.pack_words(cohort_records.VERSION, np.array(head + words, np.int64))])
    except StateError:
        return


def test_nothing_is_one_record() -> None:
    """A partition without entries says so."""
    pieces = cohort_records.encode(Cohorts.none())
    assert len(pieces) == 1
    assert_equal(cohort_records.decode(pieces), Cohorts.none())
    table: CohortTable = tabulate(Cohorts.none(), RULE)
    assert peers(table, np.array([3]), np.array([16_000])).n.tolist() == [0]
