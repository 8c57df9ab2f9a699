"""What came of the log: lost, counted twice, or exact."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import rocksdict

from app.state.store import Store
from models import position as positions
from models import state
from models.topic_names import TopicNames
from tools.e2e.oracle import Truth, compacted, differences, row_by_row
from tools.e2e.read_topic import Record, read_topic


async def outputs(broker: str, names: TopicNames, prefix: str) -> dict[str, list[Record]]:
    """The committed records of the four output topics, by their names without prefix."""
    four = (names.sessions, names.agg, names.prediction, names.in_risk)
    return {topic.removeprefix(prefix): await read_topic(broker, topic) for topic in four}


def balance(truth: Truth, topics: Mapping[str, Sequence[Record]]) -> tuple[int, int]:
    """Events that no student's totals have, and events they have too many."""
    last = compacted(topics["MOODLE_LOGS_PREDICTION_AGG"])
    lost = twice = 0
    for key in truth.totals.keys() | last.keys():
        wanted = json.loads(truth.totals[key][0])["ACTIVITIES"] if key in truth.totals else 0
        got = json.loads(last[key].value or b"{}")["ACTIVITIES"] if key in last else 0
        lost, twice = lost + max(0, wanted - got), twice + max(0, got - wanted)
    return lost, twice


def wrong_rows(truth: Truth, topics: Mapping[str, Sequence[Record]]) -> list[str]:
    """What differs from the recount, in the end states and row by row."""
    return differences(truth, topics) + row_by_row(topics)


async def changelog(broker: str, topic: str, partitions: int) -> tuple[list[dict[bytes, bytes]], int]:
    """The state each partition's changelog stands for, and how many records it holds in all."""
    tables, count = [], 0
    for partition in range(partitions):
        records = await read_topic(broker, topic, partition)
        count += len(records)
        tables.append({r.key or b"": r.value or b"" for r in records})
    return tables, count


def wrong_state(truth: Truth, tables: Iterable[Mapping[bytes, bytes]]) -> list[str]:
    """Where the students' records differ from the truth's totals."""
    records = [(key, value) for table in tables for key, value in table.items() if key != positions.KEY]
    totals, _ = state.unpack([value for _, value in records])
    columns = zip(totals.activities.tolist(), totals.sessions.tolist(), totals.at.tolist(), strict=True)
    got = dict(zip((key for key, _ in records), columns, strict=True))
    wanted = {key: _figures(row, at) for key, (row, at) in truth.totals.items()}
    if len(records) != len(got):
        return [f"state: {len(records) - len(got)} students have a record in two partitions"]
    if got != wanted:
        some = [key for key in wanted.keys() | got.keys() if wanted.get(key) != got.get(key)]
        key = some[0]
        return [f"state: {len(some)} students differ, e.g. {key!r}: {wanted.get(key)} became {got.get(key)}"]
    return []


def _figures(row: bytes, at: int) -> tuple[int, int, int]:
    found = json.loads(row)
    return found["ACTIVITIES"], found["SESSIONS"], at


def wrong_disk(directory: Path, tables: Sequence[Mapping[bytes, bytes]]) -> list[str]:
    """Where the RocksDB of a worker that owned every partition differs from the changelog."""
    wrong = []
    for partition, table in enumerate(tables):
        (path,) = directory.rglob(f"students-{partition}.db")
        raw = rocksdict.Options(raw_mode=True)
        database = rocksdict.Rdict(str(path), raw, access_type=rocksdict.AccessType.read_only())
        here = {key: value for key, value in database.items() if key != Store.offset_key}
        database.close()
        if here != table:
            wrong.append(f"disk: students-{partition}: {len(here)} records, changelog: {len(table)}, or they differ")
    return wrong
