"""Two sides held against each other, without a broker: exactly what was changed is what is reported."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.parity.live import formatting as keys
from tools.parity.live import report, sequences, tables, text
from tools.parity.live import verdict as judging
from tools.parity.live.cluster import Reading
from tools.parity.live.content import Content, Trail
from tools.parity.live.lag import Lag
from tools.parity.live.verdict import Pair, Side

DAY = 86_400_000
SESSIONS, AGG, PREDICTION, IN_RISK = (
    "MOODLE_LOGS_SESSIONS_PER_15MINS", "MOODLE_LOGS_PREDICTION_AGG", "MOODLE_LOGS_PREDICTION",
    "MOODLE_LOGS_PREDICTION_IN_RISK",
)  # fmt: skip
DELETED = {"cleanup.policy": "delete", "retention.ms": "-1"}
COMPACTED = {"cleanup.policy": "compact"}


@dataclass(frozen=True)
class Rec:
    """As much of a record as is compared."""

    key: bytes | None
    value: bytes | None
    timestamp: int = 0
    headers: Sequence[tuple[str, bytes]] = ()
    offset: int = 0
    timestamp_type: int = 0


def content(*partitions: Sequence[Rec]) -> Content:
    """What is in a topic; offsets follow from the order."""
    found = Content()
    for number, records in enumerate(partitions):
        found.add(number, [replace(r, offset=i) for i, r in enumerate(records)])
    return found


def side(*partitions: Sequence[Rec], configs: dict[str, str] = DELETED, begin: int = 0) -> Side:
    numbers = dict.fromkeys(range(len(partitions) or 1), begin)
    return Side(Reading("t", len(numbers), numbers, dict(numbers), content(*partitions)), configs)


def parted(here: Sequence[Rec], there: Sequence[Rec], *, whole: bool = True) -> sequences.Compared:
    return sequences.compare(content(here).trails, content(there).trails, whole=whole)


def rows(text: str) -> list[Rec]:
    """'a1 b2 a-': key and value of each record, - a tombstone."""
    return [Rec(w[0].encode(), None if w[1] == "-" else w[1:].encode()) for w in text.split()]


# -- tables

ROWS = st.dictionaries(st.one_of(st.none(), st.binary(max_size=3)), st.tuples(st.binary(max_size=2), st.integers(0, 3)))
CHANGES = st.lists(st.sampled_from(["keep", "value", "time", "drop", "add"]), min_size=12, max_size=12)


@given(ROWS, CHANGES)
def test_a_table_differs_exactly_where_it_was_changed(here, changes):
    """A changed value, a changed timestamp, a row taken away, a row put in: each found, and nothing else."""
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
    found = tables.compare(here, there)
    assert set(found.differing) == wanted["value"] | wanted["time"]
    assert set(found.only_here) == wanted["drop"]
    assert set(found.only_there) == wanted["new"]
    assert found.only_time == len(wanted["time"])
    assert found.equal == len(wanted["keep"]) + len(wanted["add"])
    assert len(found.differing) + len(found.only_here) + len(found.only_there) == found.differences


@given(ROWS, ROWS, ROWS, ROWS)
def test_what_has_been_equal_once_is_settled(here, there, here_later, there_later):
    """Read on, the differences that stay are those of both looks."""
    first, second = tables.compare(here, there), tables.compare(here_later, there_later)
    stays = tables.settle(first, here_later, there_later)
    both = [set(f.differing) | set(f.only_here) | set(f.only_there) for f in (first, second)]
    assert {*stays.differing, *stays.only_here, *stays.only_there} == both[0] & both[1]


def test_what_retention_may_have_taken_is_counted_apart():
    """Rows only here that are older than what is kept there say nothing; younger ones do."""
    here = {b"old": (b"1", 5 * DAY), b"young": (b"1", 9 * DAY), b"both": (b"1", DAY)}
    found = tables.compare(here, {b"both": (b"1", DAY)}, -1, 9 * DAY)
    assert (found.only_here, found.gone_there, found.gone_here) == ([b"young"], 1, 0)
    kept = {"cleanup.policy": "delete", "retention.ms": str(DAY)}
    assert side([], configs=kept, begin=7).horizon(10 * DAY) == 9 * DAY
    # nothing has gone; kept for ever; compacted only
    for other in (side([], configs=kept), side([], begin=7), side([], configs={**kept, **COMPACTED}, begin=7)):
        assert other.horizon(10 * DAY) == -1


def test_a_tombstone_deletes_and_a_later_row_is_the_one_that_counts():
    """What is compared is the compacted table, also where the broker has not compacted yet."""
    assert content(rows("a1 b1 a- b2 c- d- d3")).table == {b"b": (b"2", 0), b"d": (b"3", 0)}


def test_a_key_in_two_partitions_is_found():
    """Nobody knows which of its rows is the last."""
    assert content(rows("a1 b1"), rows("c1 b2")).strays() == [b"b"]
    assert content(rows("a1 b1"), rows("c1 d2")).strays() == []


# -- sequences

LOG = st.lists(
    st.builds(Rec, st.sampled_from([b"a", b"b", b"c"]), st.sampled_from([None, b"1", b"2"]), st.integers(0, 1)),
    max_size=8,
)


def by_key(records: Sequence[Rec]) -> dict[bytes | None, list[Rec]]:
    found = defaultdict(list)
    for r in records:
        found[r.key].append(r)
    return found


def is_part(less: Sequence[Rec], more: Sequence[Rec]) -> bool:
    rest = iter([r.value for r in more])
    return len(less) < len(more) and all(r.value in rest for r in less)


def relation(here: Sequence[Rec], there: Sequence[Rec], whole: bool) -> str:
    """The rules again, in the plainest way."""
    if whole and here == there:
        return "same"
    if whole and (here[: len(there)] == there or there[: len(here)] == here):
        return "behind"
    mine, its = by_key(here), by_key(there)
    pairs = [(mine[k], its[k]) for k in {*mine, *its}]
    parts = [(a, b) for a, b in pairs if a[: len(b)] != b and b[: len(a)] != a]
    if not parts:
        if all(a == b for a, b in pairs):
            return "order" if whole else "same"
        for less, more in ((0, 1), (1, 0)):
            short = [p for p in pairs if len(p[less]) != len(p[more])]
            if all(not p[less] and p[more][-1].value is None for p in short):
                return "thin"
        if not whole:
            return "behind"
        one_sided = any(all(len(p[i]) <= len(p[1 - i]) for p in pairs) for i in (0, 1))
        return "thin" if one_sided else "differs"
    for less, more in ((0, 1), (1, 0)):
        if all(p[less] == p[more] or is_part(p[less], p[more]) for p in pairs):
            return "thin"
    return "differs"


@given(LOG, LOG, st.booleans())
def test_sequences_are_told_apart_by_the_rules(here, there, whole):
    """Any two logs: same, behind, thin, order or differs, as counted again; and the first difference is one."""
    found = parted(here, there, whole=whole)
    assert found.relation == relation(here, there, whole)
    if found.first is not None and whole:
        i = found.first.row - 1
        assert here[:i] == there[:i]
        assert here[i : i + 1] != there[i : i + 1]


@given(LOG.filter(len), st.data())
def test_a_log_with_rows_left_out_is_thin_or_behind_and_never_different(log, data):
    """KSQL's cache leaves rows out, and no look at it is a wall of differences."""
    kept = data.draw(st.lists(st.booleans(), min_size=len(log), max_size=len(log)))
    some = [r for r, keep in zip(log, kept, strict=True) if keep]
    assert parted(log, some).relation in ("same", "behind", "thin")


def test_the_first_difference_is_shown_with_what_is_around_it():
    """Row number from 1, the two rows before, and of each side the row that differs and the next."""
    first = parted(rows("a1 b1 c1 a2 b2 c2"), rows("a1 b1 c1 a9 b2 c2")).first
    assert first is not None
    assert (first.row, first.before) == (4, [(0, 1), (0, 2)])
    assert first.here == first.there == [(0, 3), (0, 4)]
    per_key = parted(rows("a1 b1 c1 a2 b2"), rows("b1 a1 a9 c1 b2"), whole=False).first
    assert per_key is not None
    assert (per_key.row, per_key.before, per_key.here, per_key.there) == (2, [(0, 0)], [(0, 3)], [(0, 2)])


def test_a_timestamp_or_header_alone_is_told():
    """Everything the contract names is compared."""
    log = rows("a1 b1")
    for other in (replace(log[1], timestamp=7), replace(log[1], headers=[("h", b"v")])):
        found = parted(log, [log[0], other])
        assert found.relation == "differs"
        assert found.first is not None
        assert found.first.only_stamp


def test_a_trail_with_a_hole_is_not_whole():
    """A commit's marker takes one offset; compaction takes the first record or leaves a wider hole."""
    for offsets, whole in (([], True), ([0, 1, 3], True), ([1, 2], False), ([0, 1, 5], False)):
        trail = Trail()
        trail.add([Rec(b"k", b"v", offset=o) for o in offsets])
        assert trail.is_whole() is whole


# -- what counts

LEVEL = Lag(["g"], {"log": 0})


def judged(
    *pairs: tuple[Sequence[Rec] | Side | None, Sequence[Rec] | Side | None], sources: int = 1, changes: bool = True
) -> list[report.Topic]:
    """Judge sessions, totals, predictions, in-risk; those not given are empty."""
    full = [*pairs, *([([], [])] * (4 - len(pairs)))]
    made = [
        Pair(name, *(one if one is None or isinstance(one, Side) else side(one) for one in pair))
        for name, pair in zip((SESSIONS, AGG, PREDICTION, IN_RISK), full, strict=True)
    ]
    return judging.judge(made, [pair.compare(0) for pair in made], sources=sources, changes=changes)


def whole_report(topics: Sequence[report.Topic], here: Lag = LEVEL, there: Lag = LEVEL) -> report.Report:
    return report.Report("new.", "", topics, here, there, "", [])


def wrong(topics: Sequence[report.Topic]) -> list[str]:
    return [topic.name for topic in topics if topic.wrong]


def test_the_same_order_counts_where_there_is_only_one():
    """One source partition: interleaving counts; several: even a key's own order is nobody's fault."""
    turned = rows("a1 b1 a2"), rows("b1 a1 a2")
    assert wrong(judged(turned)) == [SESSIONS]
    topics = judged(turned, sources=4)
    assert wrong(topics) == []
    assert topics[0].sequence == sequences.Compared("same", False)
    found = parted(*turned)
    assert (found.relation, found.first and found.first.row) == ("order", 1)
    assert wrong(judged((rows("a1 a2 a3"), rows("a2 a1 a3")), sources=4)) == []
    assert wrong(judged((rows("a1 a2 a3"), rows("a2 a1 a3")))) == [SESSIONS]


def test_sequences_without_their_beginning_do_not_count():
    """Retention took the first rows of one side: what is left cannot begin alike."""
    late = side(rows("a3 b1 a2"), begin=2)
    assert wrong(judged((rows("a1 a2 b1 a3 a2"), late), changes=False)) == []
    topics = judged((side(rows("a1 b1 a2")), late))
    assert wrong(topics) == []
    assert topics[0].sequence_pardon == "the first records there are gone"


def test_two_partitions_are_compared_key_by_key():
    """Which partition a reader saw first is no order."""
    two = side(rows("a1 a2"), rows("b1"))
    topics = judged((two, rows("b1 a1 a2")))
    assert wrong(topics) == []
    assert topics[0].sequence is not None
    assert not topics[0].sequence.whole


def test_batch_mode_compares_tables_only():
    """One row a batch is no sequence of KSQL's."""
    topics = judged((rows("a2"), rows("a1 a2")), changes=False)
    assert wrong(topics) == []
    assert topics[0].sequence is None
    assert wrong(judged((rows("a2"), rows("a1 a3")), changes=False)) == [SESSIONS]


def test_a_cache_on_the_other_side_is_told_and_does_not_count():
    """The other way round it does: the app says it emits every change."""
    topics = judged((rows("a1 a2 a3 b1"), rows("a2 a3 b1")))
    assert wrong(topics) == []
    assert topics[0].sequence_pardon
    assert "cache.max.bytes" in " ".join(hints(topics))
    assert wrong(judged((rows("a2 a3 b1"), rows("a1 a2 a3 b1")))) == [SESSIONS]
    # of the compacted totals rows may be gone on either side
    assert wrong(judged(([], []), (side(rows("a2 a3 b1"), configs=COMPACTED), rows("a1 a2 a3 b1")))) == []


def test_predictions_are_told_and_in_risk_counts_only_below_the_same_ones():
    """KSQL does not write predictions; in-risk events follow from them."""
    risky, other = (rows("a9 b8"), rows("a9 b8")), (rows("a9 b8"), rows("a9 b7"))
    assert wrong(judged(([], []), ([], []), other, (rows("a9"), []))) == []
    assert wrong(judged(([], []), ([], []), risky, (rows("a9 b8"), rows("a9")))) == [IN_RISK]
    assert wrong(judged(([], []), ([], []), risky, (rows("a9 a9"), rows("a9")))) == []  # behind, the same table
    assert wrong(judged(([], []), ([], []), risky, (rows("a8 a9"), rows("a9")))) == [IN_RISK]
    assert wrong(judged(([], []), ([], []), risky, risky)) == []
    assert wrong(judged(([], []), ([], []), risky, (rows("a9"), None))) == [IN_RISK]
    assert wrong(judged(([], []), ([], []), (rows("a9"), None), (rows("a9"), None))) == []


def test_only_what_may_count_is_waited_for():
    """In-risk events of other predictions never come to be equal."""
    for predictions, wanted in (([side(rows("a9")), side(rows("a9"))], 3), ([side(rows("a9")), side(rows("a8"))], 2)):
        differ = side(rows("a1")), side(rows("a2"))
        pairs = [Pair(n, *two) for n, two in ((SESSIONS, differ), (AGG, differ), (PREDICTION, predictions))]
        pairs.append(Pair(IN_RISK, *differ))
        assert judging.may_count(pairs, [pair.compare(0) for pair in pairs]) == wanted


def test_a_topic_that_only_one_side_has_is_missing():
    """And not a wall of rows."""
    topics = judged((rows("a1"), None), (None, rows("a1")))
    assert wrong(topics) == [SESSIONS, AGG]
    lines = text.lines(whole_report(topics))
    assert lines[-1] == f"different: 2 topics are missing ({SESSIONS}, {AGG})"
    assert any(line.startswith(SESSIONS) and line.endswith("1        missing") for line in lines)


def hints(topics: Sequence[report.Topic], here: Lag = LEVEL, there: Lag = LEVEL, **more: object) -> list[str]:
    given = {"waits": False, "activities": (0, 0), "sources": 1, "lost": 0, "stamped": []}
    return report.hints(topics, here, there, **{**given, **more})  # type: ignore[arg-type]


def test_hints_are_given_only_where_they_are_certain():
    """Lag explains; what KSQL is known to do does where no lag can; otherwise nothing is said."""
    topics = judged(([], []), (rows("a1"), rows("a2")))
    late = Lag(["g"], {"log": 3})
    assert hints(topics) == []
    assert "there lags 3 records behind" in hints(topics, there=late)[0]
    assert "--wait" in hints(topics, there=late)[0]
    assert hints(judged(), there=late) == []
    assert "unknown" in hints(topics, there=Lag([], unknown="why"))[0]
    assert "Not like KSQL" in hints(topics, activities=(1, 0), sources=4)[0]
    assert hints(topics, activities=(1, 0), sources=1) == []
    assert "Not like KSQL" not in " ".join(hints(topics, there=late, activities=(1, 0), sources=4))
    assert "killed" in hints(topics, activities=(0, 1))[0]
    assert "first 7" in hints(topics, lost=7)[0]
    assert "nobody is in group g" in hints(topics, there=Lag(["g"], {"log": 0}, ["g"]))[0]
    stamped = judged((rows("a1"), [Rec(b"a", b"1", 7)]))
    assert "1 row differs in nothing but" in hints(stamped, stamped=["there"])[0]
    assert "message.timestamp.type" in hints(stamped, stamped=["there"])[0]


def test_activities_are_counted_from_the_totals():
    """In how many of the keys which side has counted more."""
    here = {k: (b'{"ACTIVITIES":%d}' % n, 0) for k, n in ((b"a", 5), (b"b", 1), (b"c", 2))}
    there = {k: (b'{"ACTIVITIES":%d}' % n, 0) for k, n in ((b"a", 4), (b"b", 3), (b"c", 2))}
    assert report.activities(here, there, sorted(here)) == (1, 1)
    assert report.activities({b"a": (b"?", 0)}, there, [b"a"]) == (0, 1)


# -- what is read


def test_keys_and_times_are_readable():
    """Whose session, from when to when, how long; a prediction's key as it is; nothing breaks a line."""
    start = 1_381_104_000_000
    key = b"17" + struct.pack(">qq", start + 960_500, start)
    assert keys.session(key) == "student 17, 2013-10-07T00:00:00.000Z to 2013-10-07T00:16:00.500Z (960 s)"
    assert keys.session(b"short") == "student short"
    assert keys.plain(None) == "no key"
    assert keys.plain(b"a\nb\xff") == "student a\\nb\\xff"
    assert keys.time(2**62) == f"{2**62} ms"


@pytest.mark.parametrize(
    ("here", "there", "says"),
    [
        (LEVEL, LEVEL, "equal: both sides have processed everything"),
        (LEVEL, Lag(["g"], {"log": 2}), "equal so far: a side lags behind"),
        (LEVEL, Lag([], unknown="why"), "equal so far: whether both sides have processed everything is unknown"),
    ],
)
def test_equal_says_how_much_that_means(here, there, says):
    """Two empty tables of two sides that have not begun are equal too."""
    assert text.lines(whole_report(judged(), here, there))[-1] == says


def test_the_report_shows_what_was_asked_for_and_counts_the_rest():
    """Both rows of the first keys, and how many more there are."""
    pair = Pair(AGG, side(rows("a1 b1 c1 d1")), side(rows("a2 b2 c2 d1 e1")))
    other = judged(([], []), (pair.here, pair.there), changes=False)
    lines = text.lines(whole_report([*other[:1], judging.examples(pair, other[1], 2), *other[2:]]))
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
