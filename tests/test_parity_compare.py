"""Comparison of two sides without a broker: it reports exactly the differences that were made."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.settings import Settings
from tools.parity.live import formatting, report, verdict
from tools.parity.live.cluster import TopicReader
from tools.parity.live.content import Content, Fingerprints
from tools.parity.live.lag import Lag
from tools.parity.live.render import render
from tools.parity.live.report import TopicComparison
from tools.parity.live.sequences import SequenceComparison, compare_sequences
from tools.parity.live.tables import compare_tables, recheck
from tools.parity.live.verdict import TopicPair

DAY = 86_400_000
TOPICS = Settings().topic_names.outputs
SESSIONS, AGG, PREDICTION, IN_RISK = TOPICS
DELETED = {"cleanup.policy": "delete", "retention.ms": "-1"}
COMPACTED = {"cleanup.policy": "compact"}


@dataclass(frozen=True)
class Rec:
    """The parts of a record that are compared."""

    key: bytes | None
    value: bytes | None
    timestamp: int = 0
    headers: Sequence[tuple[str, bytes]] = ()
    offset: int = 0
    timestamp_type: int = 0


def content_of(*partitions: Sequence[Rec]) -> Content:
    """The content of a topic; a record's offset is its index."""
    content = Content()
    for number, records in enumerate(partitions):
        content.add(number, [replace(r, offset=i) for i, r in enumerate(records)])
    return content


def reader_of(*partitions: Sequence[Rec], configs: dict[str, str] = DELETED, begin: int = 0) -> TopicReader:
    begins = dict.fromkeys(range(len(partitions) or 1), begin)
    return TopicReader("t", begins, dict(begins), configs, content_of(*partitions))


def compare(here: Sequence[Rec], there: Sequence[Rec], *, total_order: bool = True) -> SequenceComparison:
    return compare_sequences(content_of(here).partitions, content_of(there).partitions, total_order=total_order)


def rows(text: str) -> list[Rec]:
    """Records from 'a1 b2 a-': key and value of each, - for a tombstone."""
    return [Rec(w[0].encode(), None if w[1] == "-" else w[1:].encode()) for w in text.split()]


# -- tables

ROWS = st.dictionaries(st.one_of(st.none(), st.binary(max_size=3)), st.tuples(st.binary(max_size=2), st.integers(0, 3)))
CHANGES = st.lists(st.sampled_from(["keep", "value", "time", "drop", "add"]), min_size=12, max_size=12)


@given(ROWS, CHANGES)
def test_table_comparison_finds_exactly_the_changes(here, changes):
    """Changed values, changed timestamps, removed rows and added rows."""
    there, wanted = {}, defaultdict(set)
    for i, (key, (value, at)) in enumerate(here.items()):
        change = changes[i % len(changes)]
        wanted[change].add(key)
        if change == "value":
            there[key] = (value + b"x", at)
        elif change == "time":
            there[key] = (value, at + 1)
        elif change != "drop":
            there[key] = (value, at)
        if change == "add":
            there[(key or b"") + b"-new%d" % i] = (value, at)
            wanted["new"].add((key or b"") + b"-new%d" % i)
    result = compare_tables(here, there)
    assert set(result.differing) == wanted["value"] | wanted["time"]
    assert set(result.only_here) == wanted["drop"]
    assert set(result.only_there) == wanted["new"]
    assert result.only_time == len(wanted["time"])
    assert result.equal == len(wanted["keep"]) + len(wanted["add"])
    assert len(result.differing) + len(result.only_here) + len(result.only_there) == result.differences


@given(ROWS, ROWS, ROWS, ROWS)
def test_recheck_keeps_only_lasting_differences(here, there, here_later, there_later):
    """A key differs if it differed both times."""
    first, second = compare_tables(here, there), compare_tables(here_later, there_later)
    rechecked = recheck(first, here_later, there_later)
    keys = [set(t.differing) | set(t.only_here) | set(t.only_there) for t in (first, second)]
    assert {*rechecked.differing, *rechecked.only_here, *rechecked.only_there} == keys[0] & keys[1]


def test_rows_that_retention_may_have_deleted_are_counted_separately():
    """A row only here is a difference unless it is older than the retention there."""
    here = {b"old": (b"1", 5 * DAY), b"young": (b"1", 9 * DAY), b"both": (b"1", DAY)}
    result = compare_tables(here, {b"both": (b"1", DAY)}, -1, 9 * DAY)
    assert (result.only_here, result.expired_there, result.expired_here) == ([b"young"], 1, 0)
    kept = {"cleanup.policy": "delete", "retention.ms": str(DAY)}
    assert reader_of([], configs=kept, begin=7).retention_horizon(10 * DAY) == 9 * DAY
    for unaffected in (
        reader_of([], configs=kept),  # nothing has been deleted yet
        reader_of([], begin=7),  # unlimited retention
        reader_of([], configs={**kept, **COMPACTED}, begin=7),  # only compacted
    ):
        assert unaffected.retention_horizon(10 * DAY) == -1


def test_table_holds_the_last_row_of_each_key_without_deleted_keys():
    """The compacted table is compared, even if the broker has not compacted the topic yet."""
    assert content_of(rows("a1 b1 a- b2 c- d- d3")).table == {b"b": (b"2", 0), b"d": (b"3", 0)}


def test_key_in_two_partitions_is_found():
    """Which of its rows is the last one is undefined."""
    assert content_of(rows("a1 b1"), rows("c1 b2")).keys_in_several_partitions() == [b"b"]
    assert content_of(rows("a1 b1"), rows("c1 d2")).keys_in_several_partitions() == []


# -- sequences

LOG = st.lists(
    st.builds(Rec, st.sampled_from([b"a", b"b", b"c"]), st.sampled_from([None, b"1", b"2"]), st.integers(0, 1)),
    max_size=8,
)


def by_key(records: Sequence[Rec]) -> dict[bytes | None, list[Rec]]:
    groups = defaultdict(list)
    for r in records:
        groups[r.key].append(r)
    return groups


def is_subsequence(short: Sequence[Rec], long: Sequence[Rec]) -> bool:
    rest = iter([r.value for r in long])
    return len(short) < len(long) and all(r.value in rest for r in short)


def relation(here: Sequence[Rec], there: Sequence[Rec], total_order: bool) -> str:
    """The same rules, implemented without numpy."""
    if total_order and here == there:
        return "same"
    if total_order and (here[: len(there)] == there or there[: len(here)] == here):
        return "behind"
    here_by_key, there_by_key = by_key(here), by_key(there)
    pairs = [(here_by_key[k], there_by_key[k]) for k in {*here_by_key, *there_by_key}]
    if all(a[: len(b)] == b or b[: len(a)] == a for a, b in pairs):
        if all(a == b for a, b in pairs):
            return "order" if total_order else "same"
        for short, long in ((0, 1), (1, 0)):
            unequal = [p for p in pairs if len(p[short]) != len(p[long])]
            if all(not p[short] and p[long][-1].value is None for p in unequal):
                return "subset"
        if not total_order:
            return "behind"
        one_sided = any(all(len(p[i]) <= len(p[1 - i]) for p in pairs) for i in (0, 1))
        return "subset" if one_sided else "differs"
    for short, long in ((0, 1), (1, 0)):
        if all(p[short] == p[long] or is_subsequence(p[short], p[long]) for p in pairs):
            return "subset"
    return "differs"


@given(LOG, LOG, st.booleans())
def test_relation_of_any_two_sequences_equals_the_oracle(here, there, total_order):
    """The relation is that of the oracle, and the first difference really is the first."""
    result = compare(here, there, total_order=total_order)
    assert result.relation == relation(here, there, total_order)
    if result.first is not None and total_order:
        i = result.first.row - 1
        assert here[:i] == there[:i]
        assert here[i : i + 1] != there[i : i + 1]


@given(LOG.filter(len), st.data())
def test_sequence_with_rows_left_out_is_never_different(log, data):
    """KSQL's cache leaves rows out: that is a subset, not a difference."""
    kept = data.draw(st.lists(st.booleans(), min_size=len(log), max_size=len(log)))
    subset = [r for r, keep in zip(log, kept, strict=True) if keep]
    assert compare(log, subset).relation in ("same", "behind", "subset")


def test_first_difference_has_the_rows_around_it():
    """Row number from 1, the two rows before it, and on each side the differing row and the next."""
    first = compare(rows("a1 b1 c1 a2 b2 c2"), rows("a1 b1 c1 a9 b2 c2")).first
    assert first is not None
    assert (first.row, first.before) == (4, [(0, 1), (0, 2)])
    assert first.here == first.there == [(0, 3), (0, 4)]
    per_key = compare(rows("a1 b1 c1 a2 b2"), rows("b1 a1 a9 c1 b2"), total_order=False).first
    assert per_key is not None
    assert (per_key.row, per_key.before, per_key.here, per_key.there) == (2, [(0, 0)], [(0, 3)], [(0, 2)])


def test_difference_in_timestamp_or_headers_only_is_marked():
    """Everything in the contract is compared."""
    log = rows("a1 b1")
    for other in (replace(log[1], timestamp=7), replace(log[1], headers=[("h", b"v")])):
        result = compare(log, [log[0], other])
        assert result.relation == "differs"
        assert result.first is not None
        assert result.first.only_stamp


def test_partition_with_a_gap_in_its_offsets_is_incomplete():
    """A transaction marker takes one offset; compaction removes the first record or leaves a wider gap."""
    for offsets, complete in (([], True), ([0, 1, 3], True), ([1, 2], False), ([0, 1, 5], False)):
        fingerprints = Fingerprints()
        fingerprints.add([Rec(b"k", b"v", offset=o) for o in offsets])
        assert fingerprints.is_complete() is complete


# -- what counts

NO_LAG = Lag(["g"], {"log": 0})
Topic = Sequence[Rec] | TopicReader | None


def assess(*pairs: tuple[Topic, Topic], source_partitions: int = 1, changes: bool = True) -> list[TopicComparison]:
    """Assess sessions, totals, predictions and in-risk events; those not given are empty."""
    topic_pairs = [
        TopicPair(name, *(t if t is None or isinstance(t, TopicReader) else reader_of(t) for t in pair))
        for name, pair in zip(TOPICS, [*pairs, *([([], [])] * (4 - len(pairs)))], strict=True)
    ]
    tables = [pair.compare_tables(0) for pair in topic_pairs]
    return verdict.assess(topic_pairs, tables, source_partitions=source_partitions, changes=changes)


def report_of(topics: Sequence[TopicComparison], here: Lag = NO_LAG, there: Lag = NO_LAG) -> report.Report:
    return report.Report("new.", "", topics, here, there, "", [])


def differing(topics: Sequence[TopicComparison]) -> list[str]:
    return [topic.name for topic in topics if topic.differs]


def test_order_counts_only_if_the_source_has_one_partition():
    """With several source partitions not even the order within a key is determined."""
    swapped = rows("a1 b1 a2"), rows("b1 a1 a2")
    assert differing(assess(swapped)) == [SESSIONS]
    topics = assess(swapped, source_partitions=4)
    assert differing(topics) == []
    assert topics[0].sequence == SequenceComparison("same", False)
    result = compare(*swapped)
    assert (result.relation, result.first and result.first.row) == ("order", 1)
    assert differing(assess((rows("a1 a2 a3"), rows("a2 a1 a3")), source_partitions=4)) == []
    assert differing(assess((rows("a1 a2 a3"), rows("a2 a1 a3")))) == [SESSIONS]


def test_sequence_differences_do_not_count_if_the_first_rows_were_deleted():
    """Retention deleted the first rows of one side, so the sequences cannot begin alike."""
    late = reader_of(rows("a3 b1 a2"), begin=2)
    assert differing(assess((rows("a1 a2 b1 a3 a2"), late), changes=False)) == []
    topics = assess((reader_of(rows("a1 b1 a2")), late))
    assert differing(topics) == []
    assert topics[0].sequence_ignored_because == "the first records there have been deleted"


def test_topics_with_several_partitions_are_compared_key_by_key():
    """There is no order across partitions."""
    two = reader_of(rows("a1 a2"), rows("b1"))
    topics = assess((two, rows("b1 a1 a2")))
    assert differing(topics) == []
    assert topics[0].sequence is not None
    assert not topics[0].sequence.total_order


def test_batch_mode_compares_tables_only():
    """KSQL does not write one row per batch."""
    topics = assess((rows("a2"), rows("a1 a2")), changes=False)
    assert differing(topics) == []
    assert topics[0].sequence is None
    assert differing(assess((rows("a2"), rows("a1 a3")), changes=False)) == [SESSIONS]


def test_rows_that_ksqls_cache_left_out_do_not_count():
    """Rows left out here do: the app is set to emit every change."""
    topics = assess((rows("a1 a2 a3 b1"), rows("a2 a3 b1")))
    assert differing(topics) == []
    assert topics[0].sequence_ignored_because
    assert "cache.max.bytes" in " ".join(hints(topics))
    assert differing(assess((rows("a2 a3 b1"), rows("a1 a2 a3 b1")))) == [SESSIONS]
    # compaction may have removed rows of the totals on either side
    assert differing(assess(([], []), (reader_of(rows("a2 a3 b1"), configs=COMPACTED), rows("a1 a2 a3 b1")))) == []


def test_predictions_do_not_count_and_in_risk_events_only_if_predictions_are_equal():
    """KSQL does not write predictions; in-risk events are derived from them."""
    risky, other = (rows("a9 b8"), rows("a9 b8")), (rows("a9 b8"), rows("a9 b7"))
    assert differing(assess(([], []), ([], []), other, (rows("a9"), []))) == []
    assert differing(assess(([], []), ([], []), risky, (rows("a9 b8"), rows("a9")))) == [IN_RISK]
    assert differing(assess(([], []), ([], []), risky, (rows("a9 a9"), rows("a9")))) == []  # behind, the same table
    assert differing(assess(([], []), ([], []), risky, (rows("a8 a9"), rows("a9")))) == [IN_RISK]
    assert differing(assess(([], []), ([], []), risky, risky)) == []
    assert differing(assess(([], []), ([], []), risky, (rows("a9"), None))) == [IN_RISK]
    assert differing(assess(([], []), ([], []), (rows("a9"), None), (rows("a9"), None))) == []


def test_only_differences_that_can_count_are_waited_for():
    """In-risk events of different predictions never become equal."""
    unequal = reader_of(rows("a1")), reader_of(rows("a2"))
    for prediction, expected in (("a9", 3), ("a8", 2)):
        predictions = reader_of(rows("a9")), reader_of(rows(prediction))
        topics = zip(TOPICS, (unequal, unequal, predictions, unequal), strict=True)
        pairs = [TopicPair(name, *readers) for name, readers in topics]
        assert verdict.countable_differences(pairs, [pair.compare_tables(0) for pair in pairs]) == expected


def test_topic_on_one_side_only_is_reported_as_missing():
    """Its rows are not listed."""
    topics = assess((rows("a1"), None), (None, rows("a1")))
    assert differing(topics) == [SESSIONS, AGG]
    lines = render(report_of(topics))
    assert lines[-1] == f"different: 2 topics are missing ({SESSIONS}, {AGG})"
    assert any(line.startswith(SESSIONS) and line.endswith("1        missing") for line in lines)


def hints(topics: Sequence[TopicComparison], here: Lag = NO_LAG, there: Lag = NO_LAG, **changed: object) -> list[str]:
    defaults = {
        "waits": False,
        "larger_totals": (0, 0),
        "source_partitions": 1,
        "lost_records": 0,
        "stamped_by_broker": [],
    }
    return report.hints(topics, here, there, **{**defaults, **changed})  # type: ignore[arg-type]


def test_hints_are_given_only_if_they_are_certain():
    """Lag may explain a difference; KSQL's known behaviour does so only if there is no lag."""
    topics = assess(([], []), (rows("a1"), rows("a2")))
    late = Lag(["g"], {"log": 3})
    assert hints(topics) == []
    assert "there lags 3 records behind" in hints(topics, there=late)[0]
    assert "--wait" in hints(topics, there=late)[0]
    assert hints(assess(), there=late) == []
    assert "unknown" in hints(topics, there=Lag([], unknown_because="why"))[0]
    assert "Not like KSQL" in hints(topics, larger_totals=(1, 0), source_partitions=4)[0]
    assert hints(topics, larger_totals=(1, 0), source_partitions=1) == []
    assert "Not like KSQL" not in " ".join(hints(topics, there=late, larger_totals=(1, 0), source_partitions=4))
    assert "killed" in hints(topics, larger_totals=(0, 1))[0]
    assert "first 7" in hints(topics, lost_records=7)[0]
    assert "group g has no members" in hints(topics, there=Lag(["g"], {"log": 0}, ["g"]))[0]
    stamped = assess((rows("a1"), [Rec(b"a", b"1", 7)]))
    assert "1 row differs only in the" in hints(stamped, stamped_by_broker=["there"])[0]
    assert "message.timestamp.type" in hints(stamped, stamped_by_broker=["there"])[0]


def test_larger_totals_are_counted_for_each_side():
    """A row that is not valid JSON counts as 0 activities."""
    here = {k: (b'{"ACTIVITIES":%d}' % n, 0) for k, n in ((b"a", 5), (b"b", 1), (b"c", 2))}
    there = {k: (b'{"ACTIVITIES":%d}' % n, 0) for k, n in ((b"a", 4), (b"b", 3), (b"c", 2))}
    assert report.count_larger_totals(here, there, sorted(here)) == (1, 1)
    assert report.count_larger_totals({b"a": (b"?", 0)}, there, [b"a"]) == (0, 1)


# -- rendering


def test_keys_and_times_are_formatted():
    """Student, start, end and duration of a session; unprintable characters are escaped."""
    start = 1_381_104_000_000
    key = b"17" + struct.pack(">qq", start + 960_500, start)
    assert (
        formatting.format_session_key(key) == "student 17, 2013-10-07T00:00:00.000Z to 2013-10-07T00:16:00.500Z (960 s)"
    )
    assert formatting.format_session_key(b"short") == "student short"
    assert formatting.format_student_key(None) == "no key"
    assert formatting.format_student_key(b"a\nb\xff") == "student a\\nb\\xff"
    assert formatting.format_time(2**62) == f"{2**62} ms"


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [
        (NO_LAG, NO_LAG, "equal: both sides have processed everything"),
        (NO_LAG, Lag(["g"], {"log": 2}), "equal so far: a side lags behind"),
        (
            NO_LAG,
            Lag([], unknown_because="why"),
            "equal so far: it is unknown whether both sides have processed everything",
        ),
    ],
)
def test_summary_of_equal_sides_takes_lag_into_account(here, there, expected):
    """Two sides that have processed nothing yet have equal, empty tables too."""
    assert render(report_of(assess(), here, there))[-1] == expected


def test_report_shows_the_first_examples_and_counts_the_rest():
    """Both rows of the first keys, and the number of further keys."""
    pair = TopicPair(AGG, reader_of(rows("a1 b1 c1 d1")), reader_of(rows("a2 b2 c2 d1 e1")))
    topics = assess(([], []), (pair.here, pair.there), changes=False)
    topics[1] = verdict.with_examples(pair, topics[1], 2)
    lines = render(report_of(topics))
    at = lines.index(AGG)
    assert lines[at + 1 : at + 9] == [
        "  differing: student a",
        "    here   1970-01-01T00:00:00.000Z  1",
        "    there  1970-01-01T00:00:00.000Z  2",
        "  differing: student b",
        "    here   1970-01-01T00:00:00.000Z  1",
        "    there  1970-01-01T00:00:00.000Z  2",
        "  differing: 1 more (--show)",
        "  only there: student e",
    ]
    assert lines[-1] == f"different: 4 rows differ ({AGG})"
