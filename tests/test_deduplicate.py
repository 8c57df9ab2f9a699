"""RISK_DEDUPLICATE=log-id: a row that is in the source topic again changes nothing."""

from __future__ import annotations

import copy
import json
import logging
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.settings import Settings
from codec.avro_schema import MOODLE
from codec.moodle_log import LogDecoder
from models import log_ids
from models.log_ids import SPAN
from tools.replay import debezium
from tools.replay.log_rows import LogRows
from tools.test_driver import KnownSchemas, TopologyTestDriver, Written

SETTINGS = Settings(app_id="test", model="none", emit="changes", deduplicate="log-id")
NOW = 1_561_975_200_000
MINUTE, DAY = 60_000, 86_400_000
#: the schema of the log's values, which has the id 1
SCHEMA = json.loads(debezium.schemas(SETTINGS.source_topic).value)


#: a row of the log: id, userid, timecreated
Row = tuple[int, int, int]


def values(rows: Sequence[Row]) -> list[bytes]:
    """Encode rows of the log as Debezium does."""
    ids, students, times = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    return list(debezium.values(LogRows(ids, np.zeros(len(ids), np.int64), ("e",), students, times), 1))


def new_driver(settings: Settings = SETTINGS, schema: Any = SCHEMA) -> TopologyTestDriver:
    decoder = LogDecoder(KnownSchemas({1: schema}), MOODLE, with_log_id=settings.deduplicates)
    return TopologyTestDriver(settings, decoder)


async def run(*fetches: Sequence[Row], settings: Settings = SETTINGS) -> TopologyTestDriver:
    """Let a pipeline read the rows, one fetch after another."""
    async with new_driver(settings) as driver:
        for rows in fetches:
            if rows:
                await driver.feed(driver.names.source, [None] * len(rows), values(rows))
    return driver


def written(driver: TopologyTestDriver) -> dict[str, list[Written]]:
    """The output rows, without the input that each belongs to."""
    return {topic: [row._replace(source=0) for row in rows] for topic, rows in driver.topics.items()}


def tables(driver: TopologyTestDriver) -> dict[str, dict[bytes | None, bytes | None]]:
    return {topic: {row.key: row.value for row in rows} for topic, rows in driver.topics.items()}


async def test_a_log_that_is_read_again_changes_nothing() -> None:
    """As after a second snapshot: every row a second time, behind everything, in one fetch and in many."""
    log = [(n, n % 7, NOW + n * MINUTE) for n in range(1, 301)]
    once, twice = await run(log), await run(log, log, *[[row] for row in log[:20]])
    assert written(twice) == written(once)
    assert twice.metrics["duplicates"] == 320
    assert once.metrics["duplicates"] == 0
    assert twice.metrics["late"] == once.metrics["late"] == 0


async def test_without_the_setting_each_copy_counts_as_in_ksql() -> None:
    off = await run([(1, 5, NOW), (1, 5, NOW)], settings=replace(SETTINGS, deduplicate="off"))
    (*_, last) = off.topics[off.names.agg]
    assert json.loads(last.value or b"")["ACTIVITIES"] == 2
    assert not [key for key in off.students(0).records if log_ids.is_key(key)]


rows_of_a_log = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 40 * MINUTE)), min_size=1, max_size=40).map(
    lambda visits: [(n * 100, student, NOW + n * MINUTE + at) for n, (student, at) in enumerate(visits, 1)]
)


@given(rows_of_a_log, st.randoms(use_true_random=False), st.integers(1, 60))
async def test_copies_anywhere_change_nothing(log: list[Row], rng: random.Random, fetch: int) -> None:
    """Copies of random rows at random places behind the row itself, in the same fetch or a later one."""
    stream: list[Row] = []
    for row in log:
        stream.append(row)
        stream += rng.choices(stream, k=rng.choice([0, 0, 1, 3]))
    fetches = [stream[i : i + fetch] for i in range(0, len(stream), fetch)]
    copies = await run(*fetches)
    assert written(copies) == written(await run(*[[row] for row in log]))
    assert copies.metrics["duplicates"] == len(stream) - len(log)
    stored = {key: value for key, value in copies.students(0).records.items() if log_ids.is_key(key)}
    once = (await run(log)).students(0).records
    assert stored == {key: value for key, value in once.items() if log_ids.is_key(key)}


async def test_a_late_row_counts_as_applied() -> None:
    """What becomes of a row is decided when it comes first: its copy is a duplicate and is not late once more."""
    driver = await run([(1, 5, NOW + 9 * DAY), (2, 5, NOW)], [(2, 5, NOW)])
    assert (driver.metrics["late"], driver.metrics["duplicates"]) == (1, 1)


async def test_a_late_row_that_would_join_a_newer_session_stays_refused() -> None:
    """Refused at first, it would be within the grace of a session that another row has opened since."""
    edge = NOW + 9 * DAY - 85_500_000
    rows = [(1, 5, NOW + 9 * DAY), (2, 5, edge - 1), (3, 5, edge)]
    once = tables(await run(rows))
    assert tables(await run(rows, [rows[1]])) == once
    assert tables(await run(rows, [rows[1]], settings=replace(SETTINGS, deduplicate="off"))) != once


async def test_a_row_that_is_set_aside_leaves_no_id() -> None:
    """A row ahead of the clock becomes a dead letter; sent again with the right time, it counts."""
    settings = replace(SETTINGS, max_ahead_s=3600.0)
    ahead = int(time.time() * 1000) + 365 * DAY
    driver = await run([(1, 5, NOW), (2, 5, ahead), (3, 5, NOW)], [(2, 5, NOW), (3, 5, NOW)], settings=settings)
    (*_, last) = driver.topics[driver.names.agg]
    assert json.loads(last.value or b"")["ACTIVITIES"] == 3
    assert driver.metrics["duplicates"] == 1


async def test_an_update_does_not_count() -> None:
    """Debezium sends the new row under the same id."""
    driver = await run([(1, 5, NOW)], [(1, 5, NOW + MINUTE), (2, 6, NOW)])
    totals = [json.loads(row.value or b"") for row in driver.topics[driver.names.agg]]
    assert [(total["USERID"], total["ACTIVITIES"]) for total in totals] == [(5, 1), (6, 1)]
    assert driver.metrics["duplicates"] == 1


@pytest.mark.parametrize("copies", [2, 60])
async def test_rows_without_an_id_count_and_are_said_once(copies: int, caplog: pytest.LogCaptureFixture) -> None:
    """With too few records for columns, and with many."""
    schema = copy.deepcopy(SCHEMA)
    schema["fields"] = [field for field in schema["fields"] if field["name"] != "id"]
    value = values([(1, 5, NOW)])[0]
    without = value[:5] + value[6:]
    with caplog.at_level(logging.WARNING):
        async with new_driver(schema=schema) as driver:
            for _ in range(2):
                await driver.feed(driver.names.source, [None] * copies, [without] * copies)
    (*_, last) = driver.topics[driver.names.agg]
    assert json.loads(last.value or b"")["ACTIVITIES"] == 2 * copies
    assert driver.metrics["without_log_id"] == 2 * copies
    (message,) = caplog.messages
    assert message.endswith("partition 0: rows without an integer id cannot be de-duplicated: each copy counts")


@pytest.mark.parametrize("copies", [2, 60])
async def test_a_null_id_is_no_id(copies: int) -> None:
    schema = copy.deepcopy(SCHEMA)
    schema["fields"][0]["type"] = ["null", schema["fields"][0]["type"]]
    value = values([(1, 5, NOW)])[0]
    null, one = value[:5] + b"\0" + value[6:], value[:5] + b"\2" + value[5:]
    async with new_driver(schema=schema) as driver:
        await driver.feed(driver.names.source, [None] * 2 * copies, [null, one] * copies)
    assert driver.metrics["without_log_id"] == copies
    assert driver.metrics["duplicates"] == copies - 1


async def test_only_touched_records_are_written() -> None:
    """A flush writes the bitmaps to which it adds, and none for duplicates."""
    driver = await run([(1, 5, NOW), (10 * SPAN, 5, NOW)])
    state = driver.students(0)
    assert sorted(key for key in state.records if log_ids.is_key(key)) == [b"ids 0", b"ids 10"]
    async with new_driver() as again:
        again.students(0).records.update(state.records)
        written_again: list[bytes] = []
        flush = again.students(0).flush

        async def spy(*arguments: Any, **risk: Any) -> bool:
            written_again.extend(arguments[-1])
            return await flush(*arguments, **risk)

        again.students(0).flush = spy  # type: ignore[method-assign]
        await again.feed(again.names.source, [None] * 3, values([(1, 5, NOW), (10 * SPAN, 5, NOW), (9 * SPAN, 5, NOW)]))
    assert written_again == [b"ids 9"]
