"""Comparison of outputs, state and disk with the oracle after a chaos run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import rocksdict

from app.model_file import TOTALS
from app.settings import Settings
from app.state.store import Store
from models import log_ids, state
from models.state_keys import is_student
from tools.e2e.oracle import ExpectedTables, compacted, differences, expected_tables, order_differences
from tools.e2e.read_topic import Record, read_outputs, read_risk, read_topic
from tools.e2e.risk_oracle.topics import RiskVerdict, judge_risk
from tools.replay.log_rows import LogRows


@dataclass(frozen=True, slots=True)
class Verdict:
    """The comparison of what workers wrote with the oracle."""

    expected: ExpectedTables
    risk: RiskVerdict
    #: the table that each partition of the students' changelog holds, and the number of their records
    tables: Sequence[Mapping[bytes, bytes]]
    records: int
    lost: int
    duplicated: int
    #: one line for each kind of difference in outputs or state
    differences: list[str]


def judge(settings: Settings, rows: LogRows, partitions: int) -> Verdict:
    """Compare the output topics and the changelog of `partitions` with what must result from `rows`."""
    expected = expected_tables(zip(rows.userid.tolist(), rows.at.tolist(), strict=True))
    outputs = asyncio.run(read_outputs(settings)) | asyncio.run(read_risk(settings))
    tables, records = asyncio.run(read_changelog(settings, partitions))
    lost, duplicated = lost_and_duplicated(expected, outputs)
    risk = judge_risk(settings, rows, outputs)
    differences = output_differences(expected, outputs, scored=settings.model == TOTALS)
    differences += state_differences(expected, tables) + risk.differences
    return Verdict(expected, risk, tables, records, lost, duplicated, differences)


def lost_and_duplicated(expected: ExpectedTables, topics: Mapping[str, Sequence[Record]]) -> tuple[int, int]:
    """Return the number of events missing from the students' totals, and the number counted too often."""
    last = compacted(topics["MOODLE_LOGS_PREDICTION_AGG"])
    lost = duplicated = 0
    for key in expected.totals.keys() | last.keys():
        wanted = json.loads(expected.totals[key][0])["ACTIVITIES"] if key in expected.totals else 0
        actual = json.loads(last[key].value or b"{}")["ACTIVITIES"] if key in last else 0
        lost, duplicated = lost + max(0, wanted - actual), duplicated + max(0, actual - wanted)
    return lost, duplicated


def output_differences(
    expected: ExpectedTables, topics: Mapping[str, Sequence[Record]], scored: bool = True
) -> list[str]:
    """Compare the output topics of KSQL with the oracle: the final tables and the order of the rows.

    scored: whether a totals model predicts.
    """
    return differences(expected, topics, scored) + order_differences(topics, scored)


async def read_changelog(settings: Settings, partitions: int) -> tuple[list[dict[bytes, bytes]], int]:
    """Return the table that each partition of the students' changelog holds, and the number of their records."""
    tables, count, topic = [], 0, settings.topic_names.students_changelog
    for partition in range(partitions):
        records = await read_topic(settings, topic, partition)
        count += len(records)
        last = {r.key or b"": r.value for r in records}
        tables.append({key: value for key, value in last.items() if value is not None})
    return tables, count


def state_differences(expected: ExpectedTables, tables: Iterable[Mapping[bytes, bytes]]) -> list[str]:
    """Compare the students' state records with the expected totals."""
    records = [(key, value) for table in tables for key, value in table.items() if is_student(key)]
    totals, _ = state.unpack([value for _, value in records])
    columns = zip(totals.activities.tolist(), totals.sessions.tolist(), totals.at.tolist(), strict=True)
    actual = dict(zip((key for key, _ in records), columns, strict=True))
    wanted = {key: _figures(row, at) for key, (row, at) in expected.totals.items()}
    if len(records) != len(actual):
        return [f"state: {len(records) - len(actual)} students have a record in two partitions"]
    unequal = [key for key in wanted.keys() | actual.keys() if wanted.get(key) != actual.get(key)]
    if unequal:
        key = unequal[0]
        example = f"{key!r}: expected {wanted.get(key)}, found {actual.get(key)}"
        return [f"state: {len(unequal)} students differ, e.g. {example}"]
    return []


def log_id_differences(ids: Iterable[int], tables: Iterable[Mapping[bytes, bytes]]) -> list[str]:
    """Compare the log ids that all partitions have applied with those of the log."""
    expected, actual, twice = set(ids), set[int](), 0
    for table in tables:
        for key in filter(log_ids.is_key, table):
            bits = int.from_bytes(log_ids.unpack([table[key]]).tobytes(), "little")
            first = int(key.split()[1]) * log_ids.SPAN
            found = {first + bit for bit in range(log_ids.SPAN) if bits >> bit & 1}
            twice += len(found & actual)
            actual |= found
    if expected == actual and not twice:
        return []
    return [f"log ids: {len(expected - actual)} missing, {len(actual - expected)} extra, {twice} in two partitions"]


def _figures(row: bytes, at: int) -> tuple[int, int, int]:
    columns = json.loads(row)
    return columns["ACTIVITIES"], columns["SESSIONS"], at


def disk_differences(directory: Path, tables: Sequence[Mapping[bytes, bytes]]) -> list[str]:
    """Compare the RocksDB of a worker that owned all partitions with the changelog's tables."""
    lines = []
    for partition, table in enumerate(tables):
        (path,) = directory.rglob(f"students-{partition}.db")
        raw = rocksdict.Options(raw_mode=True)
        database = rocksdict.Rdict(str(path), raw, access_type=rocksdict.AccessType.read_only())
        on_disk = {key: value for key, value in database.items() if key != Store.offset_key}
        database.close()
        if on_disk != table:
            lines.append(
                f"disk: students-{partition} has {len(on_disk)} records, the changelog {len(table)}, or they differ"
            )
    return lines
