"""What counts for the risk, and how it reaches the students' partitions without a change to KSQL's visits."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ops.source_schema import counting_rules
from app.settings import Settings
from codec.avro_schema import MOODLE, DeclaredColumns, check
from codec.moodle_log import LogDecoder
from models.chunk import Chunk
from models.counting import REASONS, CountingRules, RiskColumns, judge
from models.visits import COUNTED, EXTRA, NO_LOG_ID, SUBMISSION, Visits
from tests.support.golden_cases import load
from tests.support.kafka_batches import varint
from tests.support.moodle_rows import SUBMITS, moodle_rows
from tests.test_risk_columns import RULES, expected
from tools.test_driver import KnownSchemas, TopologyTestDriver


def judged_row(row: dict[str, Any], rules: CountingRules) -> tuple[int, str, int, int]:
    """kind, reason, course and the other student of a row, by the words of models/counting.py."""
    userid, related = row["userid"] or 0, row["relateduserid"] or 0
    students = [userid] if userid > 0 and userid not in rules.ignored_users else []
    against = "other-user" if row["realuserid"] else "anonymous" if row["anonymous"] else ""
    if not against and row["origin"] not in (None, "web", "ws"):
        against = "origin"
    reason = against if students else "user" if userid <= 0 else "ignored-user"
    submits = row["eventname"] in rules.submission_events
    for_other = submits and related > 0 and related != userid
    other = related if for_other and not against and related not in rules.ignored_users else 0
    kind = 0 if reason else COUNTED | SUBMISSION * (submits and not for_other)
    return kind, reason, max(row["courseid"] or 0, 0) if rules.per_course else 0, other


rows_of_the_log = st.fixed_dictionaries(
    {
        "userid": st.sampled_from([None, -1, 0, 1, 2, 3, 4, 5, 40]),
        "relateduserid": st.sampled_from([None, -1, 0, 1, 2, 3, 4, 5, 40]),
        "realuserid": st.sampled_from([None, None, None, 0, 2]),
        "anonymous": st.sampled_from([None, 0, 0, 1]),
        "origin": st.sampled_from([None, "web", "ws", "web", "cli", "restore"]),
        "eventname": st.sampled_from([SUBMITS, "x", "y"]),
        "courseid": st.sampled_from([None, -1, 0, 1, 7]),
    }
)
rules_of_sites = st.builds(
    CountingRules,
    st.frozensets(st.integers(-1, 5)) | st.just(frozenset(range(30, 50))),
    st.just(RULES.submission_events),
    st.booleans(),
)


@given(st.lists(rows_of_the_log, max_size=20), rules_of_sites)
def test_judged_as_a_loop_over_rows_does(rows: list[dict[str, Any]], rules: CountingRules) -> None:
    """judge in columns, and row by row in plain Python."""
    columns = [expected(row, rules) for row in rows]
    student = np.array([row["userid"] or 0 for row in rows], np.int64)
    course, related, marks = np.array(columns, np.int64).reshape(-1, 3).T
    judged = judge(rules, student, RiskColumns(course, related, marks.astype(np.uint8)))
    reasons = [("", *REASONS)[code] for code in judged.reason.tolist()]
    read = zip(judged.kind.tolist(), reasons, judged.course.tolist(), judged.other.tolist(), strict=True)
    assert list(read) == [judged_row(row, rules) for row in rows]
    assert judged.not_counted() == {r: reasons.count(r) for r in REASONS if r in reasons}


# -- from the log's values to visits


def decoder(schema: Any, counting: CountingRules | None, *, with_log_id: bool = False) -> LogDecoder:
    return LogDecoder(KnownSchemas({1: schema}), check(schema, "t"), with_log_id=with_log_id, counting=counting)


def chunk_of(values: list[bytes], headers: bool = False) -> Chunk:
    n = len(values)
    return Chunk(
        "t",
        0,
        range(10, 10 + n),
        [None] * n,
        values,
        10,
        10 + n,
        10 + n,
        [(("h", b"%d" % i),) for i in range(n)] if headers else None,
    )


def columns_of(visits: Visits) -> list[Any]:
    """The columns that KSQL's visits have."""
    columns = [visits.student, visits.null, visits.at, visits.offset, visits.log_id]
    return [visits.headers, *(None if c is None else c.tolist() for c in columns)]


@pytest.mark.parametrize("n", [20, 300], ids=["row by row", "in columns"])
async def test_a_submission_for_somebody_else_gives_an_extra_row(n: int) -> None:
    """It follows its row and has the same time and offset; without it, all is as with the risk off."""
    schema, values = moodle_rows(n)
    chunk = chunk_of(values, headers=True)
    visits = (await decoder(schema, RULES, with_log_id=True).decode(chunk)).visits(chunk)
    extra = visits.extra
    assert extra is not None
    assert visits.kind is not None
    assert visits.course is not None
    assert visits.log_id is not None
    assert visits.headers is not None
    at = np.flatnonzero(extra)
    assert len(at) >= n // 20
    assert (visits.kind[extra] == COUNTED | SUBMISSION | EXTRA).all()
    assert not (visits.kind[at - 1] & (EXTRA | SUBMISSION)).any()
    for column in (visits.at, visits.offset, visits.course):
        assert (column[at] == column[at - 1]).all()
    assert (visits.student[at] != visits.student[at - 1]).all()
    assert (visits.log_id[at] == NO_LOG_ID).all()
    assert {visits.headers[i] for i in at.tolist()} == {()}
    off = (await decoder(schema, None, with_log_id=True).decode(chunk)).visits(chunk)
    assert off.kind is off.course is None
    assert columns_of(visits.take(~extra)) == columns_of(off)


async def test_rows_without_a_visit_have_no_extra_row() -> None:
    """A row that becomes a dead letter does not count for anybody."""
    schema, values = moodle_rows(100)
    counting = decoder(schema, RULES)
    chunk = chunk_of(values)
    decoded = await counting.decode(chunk)
    assert decoded.judged is not None
    assert decoded.judged.other.any()
    kept = decoded.take(decoded.judged.other == 0)
    assert len(kept) < len(decoded)
    assert len(kept.visits(chunk)) == len(kept)
    damaged = [value[:-1] for value in values]
    assert len((await counting.decode(chunk_of(damaged))).visits(chunk_of(damaged))) == 0


async def test_rows_of_several_schemas_keep_their_order() -> None:
    """Of one schema without any of the columns, and Moodle's own."""
    schema, values = moodle_rows(60)
    bare = load("p01_seed_rows")["schemas"][0]["schema"]
    bare_values = [
        b"\0\0\0\0\2" + varint(i) + varint(1) + b"x" + varint(4) + varint(1_561_975_200_000) for i in range(60)
    ]

    mixed = [v for pair in zip(values, bare_values, strict=True) for v in pair]
    chunk = chunk_of(mixed)
    both = LogDecoder(KnownSchemas({1: schema, 2: bare}), MOODLE, counting=RULES)
    visits = (await both.decode(chunk)).visits(chunk)
    alone = (await decoder(schema, RULES).decode(chunk_of(values))).visits(chunk_of(values))
    assert visits.kind is not None
    assert alone.kind is not None
    from_bare = visits.offset % 2 == 1
    assert (visits.kind[from_bare] == COUNTED | SUBMISSION).all()
    assert visits.kind[~from_bare].tolist() == alone.kind.tolist()
    assert (np.diff(visits.offset) >= 0).all()


# -- in the pipeline


async def run(counting: CountingRules | None, fetches: list[list[bytes]], schema: Any) -> TopologyTestDriver:
    """Feed a pipeline that forwards headers and drops copies of rows."""
    settings = Settings(model="none", deduplicate="log-id", emit="changes")
    driver = TopologyTestDriver(settings, decoder(schema, counting, with_log_id=True))
    async with driver:
        for values in fetches:
            n = len(values)
            headers = [(("h", b"%d" % i),) for i in range(n)]
            await driver.feed(driver.names.source, [None] * n, values, headers)
    return driver


async def test_the_topics_of_ksql_do_not_change() -> None:
    """Key, value, headers and time of every row, with copies of rows, late ones, and some for somebody else."""
    schema, values = moodle_rows(400)
    fetches = [values[:300], values[250:270], values[300:], values[:20]]
    on, off = await run(RULES, fetches, schema), await run(None, fetches, schema)
    assert sum(map(len, off.topics.values())) > 1_000
    assert on.topics == off.topics
    on_counts, off_counts = (
        {name: n for name, n in d.metrics.counters().items() if name != "not_counted"} for d in (on, off)
    )
    assert on_counts == off_counts
    assert off_counts["duplicates"] > 0


async def test_rows_that_do_not_count_are_counted_by_reason() -> None:
    """Whatever becomes of them in the topics of KSQL."""
    schema, values = moodle_rows(400)
    rows = (await decoder(schema, RULES).decode(chunk_of(values))).judged
    assert rows is not None
    counted = (await run(RULES, [values], schema)).metrics.as_dict()["not_counted"]
    assert counted == rows.not_counted()
    assert set(rows.not_counted()) == set(REASONS)
    assert "not_counted" not in (await run(None, [values], schema)).metrics.as_dict()


def test_missing_columns_are_said_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """Those that a setting makes useless are not, and where all is there, nothing is."""
    caplog.set_level(logging.INFO, "app.ops.source_schema")
    full, some = check(moodle_rows(0)[0], "t"), Settings()
    assert counting_rules(some, full) == CountingRules()
    assert caplog.messages == []
    assert counting_rules(some, MOODLE) == CountingRules(per_course=False)
    site = Settings(courses="site", submission_events="")
    without = DeclaredColumns(
        {name: kind for name, kind in full.columns.items() if name not in ("EVENTNAME", "COURSEID")}
    )
    assert counting_rules(site, without) == CountingRules(submission_events=(), per_course=False)
    (line,) = caplog.messages
    assert line.startswith("topic demo.demo.mdl_logstore_standard_log: the risk does without the columns courseid (")
    assert "realuserid (" in line
