"""Students who are forgotten, in the test driver: exactly what was before the request is gone, once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import forget
from app.model_file import load_model
from app.ops.metrics import Metrics
from app.settings import Settings
from codec.moodle_log import LogDecoder
from models import activity_records, early_events, forgotten, state
from models.activity import NO_DAY, Activity
from models.forgotten import Forgotten
from models.risk import RiskModel
from models.state import StateError
from models.visit_batch import SourceRange, VisitBatch, encode
from models.visits import Visits
from tests import test_deduplicate
from tests.support.oracle import Ksql
from tests.support.recount import latest_rows
from tests.support.standing import standing_model
from tools.test_driver import KnownSchemas, MemoryState, TopologyTestDriver

SETTINGS = Settings(app_id="test", model="none")
MINUTE = 60_000


def new_driver(model: RiskModel | None = None) -> TopologyTestDriver:
    return TopologyTestDriver(SETTINGS, LogDecoder(KnownSchemas({})), model)


def visits(rows: Sequence[tuple[int, int]], first: int = 0) -> bytes:
    """A visit batch of (student, minute), the rows of the source from offset `first` on."""
    student, at = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    offset = np.arange(first, first + len(rows))
    columns = Visits(student, np.zeros(len(rows), np.bool_), at * MINUTE, offset)
    return encode(VisitBatch(1, [SourceRange(0, first, first + len(rows), int(at[-1]) * MINUTE, True, columns)]))


def request(*students: int, partitions: int = 0) -> bytes:
    """A request to forget students."""
    return encode(VisitBatch(0, (), partitions=partitions, forget=np.array(students, np.int64)))


async def read(driver: TopologyTestDriver, records: Sequence[bytes], offset: int = 0) -> None:
    """Deliver records of the visits topic from `offset` on, in one fetch."""
    driver.seek(driver.names.visits, offset)
    await driver.feed(driver.names.visits, [None] * len(records), records)


def stored(driver: TopologyTestDriver) -> dict[bytes, bytes]:
    """The state records of students."""
    return {key: value for key, value in driver.students(0).records.items() if key.isdigit()}


#: (student, minutes since the row before), or the students to forget
steps = st.lists(
    st.one_of(st.tuples(st.integers(1, 4), st.integers(0, 40)), st.sets(st.integers(1, 6), min_size=1, max_size=3)),
    min_size=1,
    max_size=30,
)


@given(steps, st.data())
async def test_what_was_before_a_request_is_gone_and_what_comes_later_counts_anew(steps, data):
    """Read in any fetches, and from any record on again: the tables are those of the rules, which forget too."""
    rules, records, rows, minute, position = Ksql(), [], 0, 0, 0
    for step in steps:
        if isinstance(step, tuple):
            minute += step[1]
            rules.visit(step[0], minute * MINUTE)
            records.append(visits([(step[0], minute)], rows))
            rows += 1
        else:
            for student in step:
                rules.sessions.pop(student, None)
                rules.totals.pop(student, None)
            records.append(request(*step))
    async with new_driver() as driver:
        while position < len(records):
            end = data.draw(st.integers(position + 1, len(records)))
            await read(driver, records[position:end], position)
            again = data.draw(st.integers(0, end))  # a new owner begins at the last commit
            if again < end:
                await read(driver, records[again:end], again)
            position = end
    sessions = latest_rows(driver, driver.names.sessions).values()
    assert {(row["USERID"], row["START_DATE"], row["END_DATE"], row["ACTIVITIES"]) for row in sessions} == {
        (student, *session) for student, mine in rules.sessions.items() for session in mine
    }
    totals = latest_rows(driver, driver.names.agg).values()
    assert {row["USERID"]: row["ACTIVITIES"] for row in totals} == {s: n for s, (n, *_) in rules.totals.items()}
    assert set(stored(driver)) == {b"%d" % student for student in rules.totals}
    assert driver.students(0).position.students == len(rules.totals)


async def test_a_request_writes_a_tombstone_for_every_key() -> None:
    """Of the open sessions, the totals and the prediction, with a header that tells it from others."""
    async with new_driver(load_model("")) as driver:
        await read(driver, [visits([(7, 0), (8, 1), (7, 60)])])
        driver.topics.clear()
        await read(driver, [request(7, 7, 9)], 1)
        names = driver.names
        assert [row.key for row in driver.topics[names.agg]] == [b"7", b"9"]
        assert [row.key for row in driver.topics[names.prediction]] == [b"7", b"9"]
        sessions = [row.key for row in driver.topics[names.sessions]]
        assert [(key[:-16], int.from_bytes(key[-8:], "big")) for key in sessions if key] == [
            (b"7", 0),
            (b"7", 60 * MINUTE),
        ]
        rows = [row for topic in driver.topics.values() for row in topic]
        assert {(row.value, tuple(row.headers)) for row in rows} == {(None, (("forgotten", b"3600000"),))}
        assert {row.at for row in rows} == {0, 60 * MINUTE}
    assert driver.metrics["forgotten"] == 2
    assert set(stored(driver)) == {b"8"}


@pytest.mark.parametrize("courses", ["per-course", "site"])
async def test_activity_and_risk_are_forgotten_and_alerts_closed(courses: str) -> None:
    """A tombstone for each course; the alert that is open is closed, as erased."""
    settings = replace(SETTINGS, model="", courses=courses)
    driver = TopologyTestDriver(settings, LogDecoder(KnownSchemas({})), standing=standing_model())
    course = np.array([3, 5] if courses == "per-course" else [0, 0])
    days = np.array([16_000, 16_001])
    bits = np.ones(2, np.uint64)
    none = np.zeros(2, np.int64)
    owner = np.array([0, 0]) if courses == "per-course" else np.array([0, 1])
    entries = Activity(
        owner, course, days, days, bits, bits * 0, none, none,
        none, np.array([False, True]), np.array([NO_DAY, 16_020]), np.array([100, 8_100]), np.array([0, 2]),
        np.array([100, 8_100]), np.array([0, 2]),
    )  # fmt: skip
    students = np.array([7] if courses == "per-course" else [6, 7])
    packed = activity_records.pack(entries, np.full(len(students), 8_100))
    records = dict(zip(activity_records.keys_of(students), packed, strict=True))
    async with driver:
        early = dict.fromkeys(early_events.keys_of(students), b"early")
        driver.students(0).records |= {key: record for key, record in records.items() if record is not None} | early
        await read(driver, [visits([(9, 16_025 * 1_440)])])
        driver.topics.clear()
        await read(driver, [request(*students.tolist())], 1)
        kinds = (activity_records, early_events)
        left = [key for key in driver.students(0).records if any(kind.is_key(key) for kind in kinds)]
        assert left == []
        keys = [b"7|3", b"7|5"] if courses == "per-course" else [b"6", b"7"]
        assert [(row.key, row.value) for row in driver.topics[driver.names.risk]] == [(key, None) for key in keys]
        closing, *tombstones = driver.topics[driver.names.risk_alerts]
        assert [(row.key, row.value) for row in tombstones] == [(key, None) for key in keys]
        closed = json.loads(closing.value or b"")
        assert (closing.key, closed["ALERT"], closed["WHY"]) == (keys[1], "closed", "erased")
        assert (closed["OPENED"], closed["DAY"]) == ("2013-11-11", "2013-11-16")
        assert [row.key for row in driver.topics[driver.names.prediction]] == [b"%d" % s for s in students]


@pytest.mark.parametrize("deduplicate", ["off", "log-id"])
async def test_of_two_accounts_that_were_merged_one_is_left(deduplicate: str) -> None:
    """Moodle rewrites the userid of old rows, which Debezium sends again; then the former account is forgotten."""
    settings = replace(SETTINGS, deduplicate=deduplicate)
    log = [(n, 7 + n % 2, test_deduplicate.NOW + n * 60 * MINUTE) for n in range(1, 101)]
    merged = [(n, 8, at) for n, student, at in log if student == 7]
    async with test_deduplicate.new_driver(settings) as driver:
        for rows in (log, merged):
            await driver.feed(driver.names.source, [None] * len(rows), test_deduplicate.values(rows))
        await driver.feed(driver.names.visits, [None], [request(7)])
    # a day before the newest event and more is late
    recent = [row for row in merged if row[2] > log[-1][2] - 1_440 * MINUTE + 15 * MINUTE]
    again = 0 if settings.deduplicates else len(recent)
    totals = latest_rows(driver, driver.names.agg).values()
    assert {row["USERID"]: row["ACTIVITIES"] for row in totals} == {8: 50 + again}
    assert set(stored(driver)) == {b"8"}
    assert driver.metrics["late"] == (0 if settings.deduplicates else len(merged) - len(recent))


async def test_the_in_risk_topic_gets_the_tombstones_in_their_place_and_no_others() -> None:
    """KSQL drops null predictions, and so does `alert`, unless a student was forgotten."""
    in_risk, safe = (b'{"USERID":7,"PREDICTION":%s,"CREATED_DATE":5}' % risk for risk in (b"0.9", b"0.1"))
    mark = [("forgotten", b"60000")]
    rows: list[tuple[bytes, bytes | None, Any]] = [
        (b"7", in_risk, ()), (b"7", None, mark), (b"7", in_risk, ()), (b"8", None, ()), (b"9", safe, ()),
        (b"9", None, [("forgotten", b"soon")]), (b"\xff", None, mark), (b"x" * 600, None, mark),
    ]  # fmt: skip
    for n in (1, 200):  # record by record, and in columns
        async with new_driver() as driver:
            keys, values, headers = (list(column) for column in zip(*rows * n, strict=True))
            await driver.feed(driver.names.prediction, keys, values, headers)
        written = [(row.key, row.value, row.at) for row in driver.topics[driver.names.in_risk]]
        one = [(b"7", in_risk, 5), (b"7", None, 60_000), (b"7", in_risk, 5), ("\ufffd".encode(), None, 60_000)]
        assert written == one * n


async def test_a_request_for_another_number_of_partitions_is_refused() -> None:
    """As any visit batch whose sender did not know that the app has grown."""
    partition, metrics = MemoryState(new_driver()), Metrics()
    partition.position = type(partition.position)(
        partition.position.offsets, partition.position.watermarks, partition.position.after_corrupt, 0, 4
    )
    batch = VisitBatch(0, (), partitions=2, forget=np.array([7]))
    names = SETTINGS.topic_names
    assert await forget.apply(partition, batch, 5, names, metrics, scoring=False)
    assert (metrics["outdated_batches"], metrics["forgotten"], partition.records) == (1, 0, {})


async def test_a_request_that_another_worker_has_taken_over_counts_for_nothing() -> None:
    class Taken(MemoryState):
        async def flush(self, *_: object, **__: object) -> bool:
            return False

    partition, metrics = Taken(new_driver()), Metrics()
    batch = VisitBatch(0, (), forget=np.array([7]))
    assert not await forget.apply(partition, batch, 5, SETTINGS.topic_names, metrics, scoring=False)
    assert metrics.counters() == {}


def test_the_record_of_the_last_request_is_checked() -> None:
    """As every record of the state."""
    last = Forgotten(12, 34_000)
    assert forgotten.unpack(forgotten.pack(last)) == last
    assert forgotten.unpack(None) == forgotten.NOBODY
    damaged = bytearray(forgotten.pack(last))
    damaged[9] ^= 1
    with pytest.raises(StateError, match="damaged"):
        forgotten.unpack(bytes(damaged))
    with pytest.raises(StateError, match="damaged"):
        forgotten.unpack(state.pack_words(forgotten.VERSION, np.array([0, 1])))
