"""Decoding chunks of the Moodle log to visits, by the schemas of their writers."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.avro_schema import Json, check
from codec.moodle_log import LogDecoder, wide_schema_id
from models.decoded import DecodedChunk
from models.rules import MAX_AT
from tests.support.golden_cases import ERRORS, PUBLIC, chunk, expected, load, source
from tests.support.kafka_batches import varint
from tests.test_avro import HEAD

SESSIONS = "MOODLE_LOGS_SESSIONS_PER_15MINS"
PLAIN: Any = load("p01_seed_rows")["schemas"][0]["schema"]
#: error cases that KSQL survives; without err_userid_string, which KSQL accepts and the app refuses
WORKING = [n for n in ERRORS if not load(n).get("error") and n != "err_userid_string"]


class Source:
    """Schemas from a dict; records the requested ids."""

    def __init__(self, schemas: Mapping[int, Any]) -> None:
        self._schemas = schemas
        self.requested: list[int] = []

    async def schema(self, schema_id: int) -> Json:
        self.requested.append(schema_id)
        schema: Json = self._schemas.get(schema_id)
        return schema


def plain(userid: int, at: int, schema_id: int = 1) -> bytes:
    """A record of the log table."""
    body = varint(9) + varint(3) + b"\\ev" + varint(userid) + varint(at)
    return b"\0" + schema_id.to_bytes(4, "big") + body


async def decode(values: list[bytes | None], unit_ms: int = 1) -> DecodedChunk:
    return await LogDecoder(Source({1: PLAIN, 2: PLAIN}), unit_ms=unit_ms).decode(chunk(values))


def rows(decoded: DecodedChunk) -> list[tuple[int, int | None, int]]:
    """(index, userid, time) of each visit."""
    columns = (decoded.row.tolist(), decoded.student.tolist(), decoded.null.tolist(), decoded.at.tolist())
    return [(row, None if null else student, at) for row, student, null, at in zip(*columns, strict=True)]


def reasons(decoded: DecodedChunk) -> dict[int, str]:
    return {reject.index: reject.reason for reject in decoded.rejects}


async def golden(name: str) -> DecodedChunk:
    case = load(name)
    latest = [entry["schema"] for entry in case["schemas"] if not entry.get("after")][-1]
    schemas = Source({entry["id"]: entry["schema"] for entry in case["schemas"]})
    return await LogDecoder(schemas, check(latest, case["source_topic"])).decode(source(case))


@pytest.mark.parametrize("name", PUBLIC + WORKING)
async def test_golden(name: str) -> None:
    """Every record that caused a session row is decoded, with the student and a time of that session."""
    decoded = await golden(name)
    visits = {row: (student, at) for row, student, at in rows(decoded)}
    for index, _, value, _ in expected(load(name), SESSIONS):
        if value is not None and not name.startswith("p37"):
            row = json.loads(value)
            student, at = visits[index]
            assert student == row["USERID"]
            assert row["START_DATE"] <= at <= row["END_DATE"]


@pytest.mark.parametrize("name", PUBLIC)
async def test_skips_as_many_as_kafka_streams_counted(name: str) -> None:
    """Kafka Streams counts undecodable records and negative times."""
    metrics = load(name)["oracle_metrics"]
    counted = [n for metric, n in metrics.items() if metric.startswith(f"{SESSIONS}:skipped-records-total")]
    assert len((await golden(name)).rejects) == sum(counted)


async def test_golden_reasons() -> None:
    assert reasons(await golden("p22_undecodable")) == {
        **dict.fromkeys((1, 2, 3), "truncated"),
        **dict.fromkeys((4, 10, 13), "bad-magic"),
        **dict.fromkeys((5, 6, 7, 15), "truncated"),
        **dict.fromkeys((8, 9), "unknown-schema"),
        14: "malformed",
    }
    assert reasons(await golden("p28_schema_type_changes")) == dict.fromkeys((4, 8, 11, 12, 13), "type-mismatch")
    assert set(reasons(await golden("p19_negative_timecreated")).values()) == {"negative-time"}
    assert reasons(await golden("err_maxts")) == {0: "time-too-large"}
    assert reasons(await golden("err_maxts2")) == dict.fromkeys((3, 4, 5, 6), "time-too-large")


async def test_missing_and_null_columns() -> None:
    decoded = rows(await golden("p28_schema_type_changes"))
    assert decoded[1] == (1, None, 1561975260000)  # userid is missing
    assert decoded[4] == (5, 38, 0)  # timecreated is missing
    assert rows(await golden("p18_null_timecreated_later"))[3] == (3, None, 0)


@pytest.mark.parametrize("name", ["default", "rewrite"])
async def test_records_of_debezium(name: str) -> None:
    """Recorded inserts, updates and deletes of a MariaDB table, as each transform writes them."""
    folder = Path(__file__).parent / "debezium"
    records = json.loads((folder / f"{name}.records.json").read_bytes())["records"]
    schemas = json.loads((folder / f"{name}.schemas.json").read_bytes())
    topic = records[0]["topic"]
    values = [None if r["value_base64"] is None else base64.b64decode(r["value_base64"]) for r in records]
    latest = schemas[f"{topic}-value"]
    decoder = LogDecoder(Source({latest["id"]: latest["schema_parsed"]}), check(latest["schema_parsed"], topic))
    for copies in (1, 20):  # decoded one by one, and in columns
        decoded = await decoder.decode(chunk(values * copies))
        expected = [
            (i, r["value"]["userid"], r["value"]["timecreated"])
            for i, r in enumerate(records * copies)
            if r["value"] is not None
        ]
        assert rows(decoded) == expected
        assert decoded.tombstones == copies * values.count(None)
        assert not decoded.rejects


async def test_each_schema_is_requested_once() -> None:
    """Once per decoder if known, once per chunk if not."""
    schemas = Source({1: PLAIN})
    decoder = LogDecoder(schemas)
    for n in (3, 40):
        for _ in range(2):
            await decoder.decode(chunk([plain(5, 6), plain(5, 6, 2), plain(5, 6, 3)] * n))
    assert sorted(schemas.requested) == [1] + [2] * 4 + [3] * 4


async def test_impossible_ids_are_not_requested() -> None:
    schemas = Source({})
    decoded = await LogDecoder(schemas).decode(chunk([b"\0\xff\xff\xff\xff\0"] * 2))
    assert (decoded.rejects[0].index, decoded.rejects[0].reason) == (0, "unknown-schema")
    assert decoded.rejects[0].detail == "schema id -1: the registry has no Avro schema with this id"
    assert not schemas.requested


async def test_many_schemas_in_one_chunk() -> None:
    ids = [i % 23 for i in range(400)]
    decoder = LogDecoder(Source(dict.fromkeys(range(1, 23), PLAIN)))
    decoded = await decoder.decode(chunk([plain(i, i * i, schema_id) for i, schema_id in enumerate(ids)]))
    assert rows(decoded) == [(i, i, i * i) for i, schema_id in enumerate(ids) if schema_id]
    assert reasons(decoded) == {i: "unknown-schema" for i, schema_id in enumerate(ids) if not schema_id}


async def test_declare_drops_cached_plans() -> None:
    decoder = LogDecoder(Source({1: PLAIN}))
    assert not (await decoder.decode(chunk([plain(1, 2)]))).rejects
    other = dict(PLAIN, fields=[dict(f, type="int") if f["name"] == "userid" else f for f in PLAIN["fields"]])
    decoder.declare(check(other, "t"))
    assert reasons(await decoder.decode(chunk([plain(1, 2)]))) == {0: "type-mismatch"}


kinds = st.sampled_from(["good", "none", "short", "magic", "cut", "unknown", "negative", "large", "wide", "empty"])


@settings(deadline=None)
@given(st.lists(kinds, min_size=25, max_size=60), st.sampled_from([1, 1000]))
async def test_large_chunks_are_decoded_like_single_records(chosen: list[str], unit_ms: int) -> None:
    """Large chunks are decoded in columns, single records are not: the results are equal and in order."""
    made: dict[str, bytes | None] = {
        "good": plain(3, 1_561_975_200),
        "none": None,
        "short": b"\0\0\0",
        "magic": b"\1" + plain(3, 4)[1:],
        "cut": plain(3, 4)[:-1],
        "unknown": plain(3, 4, 9),
        "negative": plain(3, -4),
        "large": plain(3, 2**63 - 1),
        "wide": plain(2**62, 5, 2),
        "empty": b"",
    }
    values = [made[kind] for kind in chosen]
    whole = await decode(values, unit_ms)
    single = [await decode([value], unit_ms) for value in values]
    assert rows(whole) == [(i, student, at) for i, record in enumerate(single) for _, student, at in rows(record)]
    assert whole.rejects == [replace(r, index=i) for i, record in enumerate(single) for r in record.rejects]
    assert whole.tombstones == sum(record.tombstones for record in single)
    assert whole.suspicious == sum(record.suspicious for record in single)


@pytest.mark.parametrize("copies", [1, 30])
async def test_seconds(copies: int) -> None:
    """RISK_TIME_UNIT=s: times are scaled, and refused if KSQL would not survive the result."""
    limit = MAX_AT // 1000
    decoded = await decode([plain(1, limit), plain(1, limit + 1), plain(1, -1), plain(1, 1_561_975_200)] * copies, 1000)
    assert rows(decoded)[:2] == [(0, 1, limit * 1000), (3, 1, 1_561_975_200_000)]
    assert [r.reason for r in decoded.rejects[:2]] == ["time-too-large", "negative-time"]
    assert decoded.rejects[1].detail == "timecreated is -1 s"


async def test_the_largest_accepted_time() -> None:
    decoded = await decode([plain(1, MAX_AT), plain(1, MAX_AT + 1)])
    assert rows(decoded) == [(0, 1, MAX_AT)]
    assert reasons(decoded) == {1: "time-too-large"}


@pytest.mark.parametrize(
    ("at", "unit_ms", "suspicious"),
    [
        (0, 1, 0),
        (1, 1, 1),
        (99_999_999_999, 1, 1),
        (100_000_000_000, 1, 0),
        (1_561_975_200, 1000, 0),
        (99_999_999_999, 1000, 0),
        (100_000_000_000, 1000, 1),
        (-1, 1, 0),
    ],
)
async def test_implausible_times_are_counted(at: int, unit_ms: int, suspicious: int) -> None:
    assert (await decode([plain(1, at)], unit_ms)).suspicious == suspicious


@pytest.mark.parametrize("n", [0, 1, 24, 25, 200])
async def test_sizes(n: int) -> None:
    """No records, few and many."""
    decoded = await decode([plain(i, 10**12 + i) for i in range(n)])
    assert rows(decoded) == [(i, i, 10**12 + i) for i in range(n)]
    assert (len(decoded), decoded.tombstones, decoded.suspicious, decoded.rejects) == (n, 0, 0, [])
    assert [column.dtype.kind for column in (decoded.row, decoded.student, decoded.null, decoded.at)] == list("iibi")


@pytest.mark.parametrize("copies", [1, 30])
async def test_only_tombstones_or_only_rejects(copies: int) -> None:
    assert (await decode([None] * copies)).tombstones == copies
    assert len((await decode([HEAD] * copies)).rejects) == copies


@pytest.mark.parametrize("headers", [True, False])
async def test_visits_keep_offset_and_headers(headers: bool) -> None:
    """Offsets are carried, never derived: they need not be contiguous."""
    case = chunk([plain(5, 10**12), None, plain(6, 10**12 + 1)])
    lists = [[("h", b"0")], [], [("h", b"2")]]
    case = type(case)("t", 0, [7, 9, 12], case.keys, case.values, 7, 13, 13, lists if headers else None)
    visits = (await LogDecoder(Source({1: PLAIN})).decode(case)).visits(case)
    assert visits.offset.tolist() == [7, 12]
    assert visits.student.tolist() == [5, 6]
    assert visits.headers == ([lists[0], lists[2]] if headers else None)


KEY: Any = {"type": "record", "name": "Key", "namespace": "n", "fields": [{"name": "id", "type": "long"}]}
LOG: Any = {**PLAIN, "fields": [field for field in PLAIN["fields"] if field["name"] != "userid"]}


@pytest.mark.parametrize("n", [3, 40])
async def test_records_with_the_id_of_another_schema_are_refused(n: int) -> None:
    """Row by row and in columns: the key's schema; one of the log's without a column is read, as in KSQL."""
    decoder = LogDecoder(Source({1: PLAIN, 2: KEY, 3: LOG}), check(PLAIN, "t"))
    values: list[bytes | None] = [plain(5, 6), plain(5, 6, 2), b"\0\0\0\0\3" + varint(9) + varint(0) + varint(8)] * n
    decoded = await decoder.decode(chunk(values))
    assert rows(decoded)[:2] == [(0, 5, 6), (2, None, 8)]
    assert reasons(decoded) == dict.fromkeys(range(1, 3 * n, 3), "wrong-schema")
    assert [(odd.schema_id, odd.records, odd.refused) for odd in decoded.odd_schemas] == [(2, n, True), (3, n, False)]
    assert "no column userid" in decoded.odd_schemas[1].detail


@pytest.mark.parametrize("n", [1, 40])
async def test_ids_of_eight_bytes_are_recognised(n: int) -> None:
    """Apicurio's own format; the dead letter says what to set in the connector."""
    value = b"\0" + (7).to_bytes(8, "big") + plain(5, 6)[5:]
    decoded = await LogDecoder(Source({1: PLAIN})).decode(chunk([value, plain(5, 6)] * n))
    assert len(decoded) == n
    assert {reject.reason for reject in decoded.rejects} == {"unknown-schema"}
    assert "schema id 7 in 8 bytes" in decoded.rejects[0].detail
    assert "as-confluent=true" in decoded.rejects[0].detail
    assert wide_schema_id(plain(5, 6)) is None
    assert wide_schema_id(b"\0\0\0\0\0") is None


async def test_unknown_schemas_of_one_chunk_are_requested_concurrently() -> None:
    both = asyncio.Barrier(2)

    class Slow:
        async def schema(self, schema_id: int) -> Json:
            await both.wait()
            return None

    decoder = LogDecoder(Slow())
    values: list[bytes | None] = [plain(5, 6, 8), plain(5, 6, 9)]
    assert decoder.missing(chunk(values)) == decoder.missing(chunk(values * 40)) == {8, 9}
    async with asyncio.timeout(5):
        assert len((await decoder.decode(chunk(values))).rejects) == 2
