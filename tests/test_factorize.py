"""Column functions against slow and simple implementations, for values of any range."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.binary_column import BinaryColumn
from models.factorize import RADIX, argsort_codes, argsort_pairs, factorize
from models.grouped import cumcount, group_ends, group_starts, grouped_cummax, grouped_cumsum, last_rows
from models.murmur2 import keys_of, partitions_of
from models.routing import Router
from models.rules import GAP_MS, MAX_LEAD_MS, NEVER
from models.sessions import cut
from models.varints import PAD
from models.visits import Visits
from models.watermarks import Watermarks, announce, stream_times
from tests.support.effort import examples

LOWEST, HIGHEST = -(2**63), 2**63 - 1
NEAR, FAR = st.integers(-50, 50), st.integers(LOWEST, HIGHEST)
EXTREME = st.sampled_from([LOWEST, LOWEST + 1, -1, 0, 1, 2**31, 2**62, HIGHEST - 1, HIGHEST])
#: close together, so that values are counted or share a word, and too far apart for either
VALUES = st.one_of(st.lists(NEAR, max_size=40), st.lists(st.one_of(NEAR, FAR, EXTREME), max_size=40))


def array(values: Sequence[int]) -> np.ndarray:
    return np.array(values, np.int64)


@given(VALUES, st.booleans())
@example([0, 8 * 258 + (1 << 16)], True)
@example([0, 8 * 258 + (1 << 16) - 1], True)
def test_factorize_equals_numpys_unique(values, many):
    """Whether values are counted, being many and close together, or sorted."""
    if many:
        values = values * (256 // max(len(values), 1) + 1)
    distinct, code = factorize(array(values))
    expected, inverse = np.unique(array(values), return_inverse=True)
    assert distinct.tolist() == expected.tolist()
    assert code.tolist() == inverse.tolist()


@given(st.lists(st.integers(0, 9), max_size=40), st.sampled_from([10, RADIX, RADIX + 1]))
@example([65_535, 0, 65_535], RADIX)
@example([65_536, 0, 65_535, 65_536], RADIX + 1)
def test_argsort_codes_is_a_stable_sort(code, count):
    """Equal codes keep their order; the largest code of 16 bits and the next one differ."""
    assert argsort_codes(array(code), count).tolist() == sorted(range(len(code)), key=lambda row: code[row])


@given(
    st.lists(st.tuples(st.one_of(st.integers(0, 3), st.integers(0, 2**62)), st.one_of(NEAR, FAR, EXTREME)), max_size=40)
)
@example([(1, HIGHEST), (0, LOWEST), (1, LOWEST), (0, HIGHEST)])
@example([(2**62, 1), (0, 0)])
@example([(2**62, 0), (1, 0), (2**62, 0)])
def test_argsort_pairs_is_lexsort(rows):
    """Pairs are sorted by code, value and row, whether or not code and value fit into one word."""
    code, value = array([c for c, _ in rows]), array([v for _, v in rows])
    assert argsort_pairs(code, value).tolist() == sorted(range(len(rows)), key=lambda row: rows[row])


@given(st.lists(st.tuples(st.integers(0, 4), st.one_of(NEAR, FAR, EXTREME)), max_size=40), st.booleans())
@example([(0, LOWEST), (0, HIGHEST), (1, LOWEST)], False)
def test_grouped_functions_equal_a_loop_over_each_group(rows, near):
    """Cumulative sums (at 64 bits), maxima and counts, first and last rows."""
    if near:
        rows = [(g, v % 100 - 50) for g, v in rows]
    shuffled = array([g for g, _ in rows])
    rows = sorted(rows, key=lambda row: row[0])
    group, values = [g for g, _ in rows], [v for _, v in rows]
    so_far = [[v for g, v in rows[: i + 1] if g == group[i]] for i in range(len(rows))]
    assert grouped_cummax(array(group), array(values)).tolist() == list(map(max, so_far))
    wrapped = [(sum(group_values) - LOWEST) % 2**64 + LOWEST for group_values in so_far]
    assert grouped_cumsum(array(group), array(values)).tolist() == wrapped
    both = grouped_cumsum(array(group), np.stack((np.zeros(len(values), np.int64), array(values))))
    assert both.tolist() == [[0] * len(wrapped), wrapped]
    first = np.flatnonzero(group_starts(array(group)))
    assert last_rows(first, len(group)).tolist() == np.flatnonzero(group_ends(array(group))).tolist()
    assert group_starts(array(group)).tolist() == [i == 0 or group[i - 1] != g for i, g in enumerate(group)]
    assert group_ends(array(group)).tolist() == [i == len(group) - 1 or group[i + 1] != g for i, g in enumerate(group)]
    assert cumcount(shuffled).tolist() == [shuffled[:i].tolist().count(g) for i, g in enumerate(shuffled)]


GAPS = st.sampled_from([0, 1, GAP_MS - 1, GAP_MS, GAP_MS + 1, -5, -GAP_MS, 3 * GAP_MS])


@given(st.lists(st.tuples(st.integers(0, 3), GAPS), max_size=40), st.integers(0, 3))
def test_runs_end_after_more_than_the_gap(rows, shuffles):
    """For visits in any order, and in several ordered runs as from several source partitions."""
    at, visits = 10 * GAP_MS, []
    for owner, since in rows:
        at += since
        visits.append((owner, at))
    visits = [v for k in range(shuffles + 1) for v in visits[k :: shuffles + 1]]
    runs: list[list[int]] = []  # owner, start, end, count
    run_of: dict[tuple[int, int], int] = {}
    for owner, when in sorted(visits):
        if not runs or runs[-1][0] != owner or when - runs[-1][2] > GAP_MS:
            runs.append([owner, when, when, 0])
        runs[-1][2:] = [when, runs[-1][3] + 1]
        run_of[owner, when] = len(runs) - 1
    result = cut(array([owner for owner, _ in visits]), array([when for _, when in visits]))
    s = result.sessions
    assert list(zip(*(c.tolist() for c in (s.owner, s.start, s.end, s.count)), strict=True)) == list(map(tuple, runs))
    assert result.run.tolist() == [run_of[visit] for visit in visits]


TIMES = st.one_of(st.integers(0, 60), st.sampled_from([HIGHEST - GAP_MS, 2**41]))


@given(
    st.integers(1, 4).flatmap(
        lambda s: st.tuples(
            st.just(s),
            st.lists(st.tuples(st.integers(0, s - 1), TIMES, st.booleans(), TIMES | st.just(-1)), max_size=6),
            st.lists(st.tuples(st.integers(0, s - 1), TIMES), max_size=30),
        )
    )
)
@settings(max_examples=examples(300))
def test_stream_times_equal_those_of_single_visits(case):
    """Each visit advances its partition's watermark; the smallest of all lagging or visited partitions counts, and
    how far the others were confirmed to be read."""
    sources, announcements, visits = case
    watermarks = Watermarks.unknown(sources)
    for source, watermark, lagging, as_of in announcements:
        watermarks = announce(watermarks, array([source]), array([watermark]), np.array([lagging]), array([as_of]))
    at, stream_time, confirmed = watermarks.at.tolist(), watermarks.stream_time, watermarks.confirmed.tolist()
    counted = [bool(lags) or any(p == source for p, _ in visits) for source, lags in enumerate(watermarks.lagging)]
    expected = []
    for source, when in visits:
        expected.append(stream_time)
        at[source] = max(at[source], when)
        limits = [at[p] if counted[p] else max(at[p], confirmed[p] + MAX_LEAD_MS) for p in range(sources)]
        stream_time = max(stream_time, min(limits))
    before, after = stream_times(watermarks, array([p for p, _ in visits]), array([when for _, when in visits]))
    assert before.tolist() == expected
    assert (after.at.tolist(), after.stream_time, after.lagging.tolist()) == (
        at,
        stream_time,
        watermarks.lagging.tolist(),
    )


def test_stream_times_of_no_visits():
    """An empty batch advances no watermark."""
    before, after = stream_times(Watermarks.unknown(2), array([]), array([]))
    assert (before.tolist(), after.stream_time) == ([], NEVER)


STUDENTS = st.one_of(st.integers(0, 40), st.sampled_from([(1 << 22) - 1, 1 << 22]), EXTREME, st.none())


@given(
    st.lists(st.one_of(st.lists(st.integers(0, 300), max_size=20), st.lists(STUDENTS, max_size=12)), max_size=6),
    st.integers(1, 9),
)
def test_visits_are_routed_by_the_hash_of_their_keys(batches, partitions):
    """Small userids are cached between batches; huge, negative and null ones are hashed each time."""
    router = Router(partitions)
    for students in batches:
        n = len(students)
        student = array([s or 0 for s in students])
        null = np.array([s is None for s in students], np.bool_)
        visits = Visits(student, null, np.zeros(n, np.int64), np.arange(n))
        assert router.route(visits).tolist() == partitions_of(keys_of(student, null), partitions).tolist()


STRINGS = st.lists(st.one_of(st.none(), st.binary(max_size=4)), max_size=12)


@given(STRINGS, st.data())
def test_a_binary_column_reads_its_strings(strings, data):
    """One by one, in sequence, and by index or mask; null is not the empty string."""
    bounds, raw = [], b"head"
    for string in strings:
        bounds.append((len(raw), len(raw) + (-1 if string is None else len(string))))
        raw += (string or b"") + b"between"
    column = BinaryColumn(raw + PAD, array([a for a, _ in bounds]), array([b for _, b in bounds]))
    assert len(column) == len(strings)
    assert list(column) == [column[i] for i in range(len(strings))] == strings
    assert column.is_valid().tolist() == [string is not None for string in strings]
    rows = data.draw(st.lists(st.integers(0, len(strings) - 1), max_size=6)) if strings else []
    assert list(column.take(array(rows))) == [strings[i] for i in rows]
    mask = data.draw(st.lists(st.booleans(), min_size=len(strings), max_size=len(strings)))
    assert list(column.take(np.array(mask, np.bool_))) == [s for s, m in zip(strings, mask, strict=True) if m]


@given(st.lists(st.binary(max_size=4), max_size=12))
def test_binary_column_of_strings(strings):
    """`of` puts nothing between the strings, and after them the padding that readers need."""
    column = BinaryColumn.of(strings)
    assert list(column) == strings
    assert column.buffer == b"".join(strings) + PAD


def test_binary_column_of_rejects_null():
    """A null would become the empty string."""
    with pytest.raises(TypeError):
        BinaryColumn.of([b"a", None])  # type: ignore[list-item]
