"""Rows are encoded byte for byte as by a real Debezium (tests/debezium/PROVENANCE.md)."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec.avro import HEADER
from tools.replay import debezium, oulad
from tools.replay.log_rows import ALL_COLUMNS, COLUMNS, LogRows, Texts

HERE = Path(__file__).with_name("debezium")
TOPIC = "demo.demo.mdl_logstore_standard_log"

longs = st.integers(-(2**63), 2**63 - 1)
row = st.tuples(longs, st.text(max_size=80).filter(lambda s: s.isprintable()), longs, longs)


def table(rows: list[tuple[Any, ...]]) -> LogRows:
    """Rows from tuples (id, eventname, userid, timecreated), None for null, in the order given."""
    ids, events, users, times = zip(*rows, strict=True)
    names = sorted({event or "" for event in events})
    columns = {"eventname": events, "userid": users, "timecreated": times}
    nulls = {name: np.array([cell is None for cell in column]) for name, column in columns.items()}
    return LogRows(
        id=np.array(ids, np.int64),
        event=np.array([names.index(event or "") for event in events], np.int64),
        names=tuple(names),
        userid=np.array([user or 0 for user in users], np.int64),
        at=np.array([time or 0 for time in times], np.int64),
        nulls={name: mask for name, mask in nulls.items() if mask.any()},
    )


def read(message: bytes, schema: str) -> dict[str, Any]:
    """Read a value with fastavro; no bytes may remain."""
    body = io.BytesIO(message[HEADER:])
    record = fastavro.schemaless_reader(body, fastavro.parse_schema(json.loads(schema)), None)
    assert body.read() == b""
    assert isinstance(record, dict)
    return record


def test_keys_and_values_equal_debeziums() -> None:
    real = json.loads((HERE / "default.records.json").read_text())["records"]
    written = [r for r in real if r["value"] is not None]
    rows = table([tuple(r["value"][name] for name in COLUMNS) for r in written])
    assert len(rows) == 5
    assert [key.hex() for key in debezium.keys(rows, 1)] == [r["key_hex"] for r in written]
    assert [value.hex() for value in debezium.values(rows, 2)] == [r["value_hex"] for r in written]


def test_schemas_equal_debeziums_texts() -> None:
    real = json.loads((HERE / "default.schemas.json").read_text())
    ours = debezium.schemas(TOPIC)
    assert ours.key == real[f"{TOPIC}-key"]["schema"]
    assert ours.value == real[f"{TOPIC}-value"]["schema"]


def test_topic_name_is_converted_to_an_avro_name() -> None:
    """Debezium: schema.name.adjustment.mode=avro."""
    schema = json.loads(debezium.schemas("my-site.2024.log").key)
    assert schema["namespace"] == "my_site._024.log"
    assert fastavro.parse_schema(schema)


def test_nullable_column_is_declared_and_encoded_as_by_debezium() -> None:
    """`__deleted` in the rewrite mode: a union with null first, default null, branch 1 for a value."""
    fields = json.loads((HERE / "rewrite.schemas.json").read_text())[f"{TOPIC}-value"]["schema_parsed"]["fields"]
    ours = json.loads(debezium.schemas(TOPIC, frozenset({"eventname"})).value)["fields"]
    assert {**ours[1], "name": "__deleted"} == fields[4]
    real = json.loads((HERE / "rewrite.records.json").read_text())["records"][0]
    rows = table([(1, real["value"]["__deleted"], 1, 1), (2, None, 1, 1)])
    encoded = bytes.fromhex(real["value_hex"])[-7:]
    assert encoded == b"\x02\x0afalse"
    assert debezium.values(rows, 2)[0][6:13] == encoded


@given(st.lists(row, min_size=1, max_size=20))
def test_fastavro_reads_the_values(rows: list[tuple[int, str, int, int]]) -> None:
    schema = debezium.schemas(TOPIC).value
    records = [read(value, schema) for value in debezium.values(table(rows), 7)]
    assert [tuple(record.values()) for record in records] == rows


@pytest.mark.parametrize("nulls", [(None, 5, 6), ("e", None, 6), ("e", 5, None), (None, None, None)])
def test_nulls_are_read_as_nulls(nulls: tuple[Any, ...]) -> None:
    rows = table([(1, *nulls), (2, "\\core\\event\\course_viewed", -1, 0)])
    schema = debezium.schemas(TOPIC, frozenset(rows.nulls)).value
    records = [read(value, schema) for value in debezium.values(rows, 7)]
    assert tuple(records[0].values()) == (1, *nulls)
    assert tuple(records[1].values()) == (2, "\\core\\event\\course_viewed", -1, 0)


def test_unit_of_seconds_is_applied() -> None:
    rows = table([(1, "e", 2, 1_561_975_200_999)])
    value = debezium.values(rows, 7, unit_ms=1000)[0]
    assert read(value, debezium.schemas(TOPIC).value)["timecreated"] == 1_561_975_200


@given(longs, st.integers(0, 2**31 - 1))
def test_id_is_read_from_a_key(number: int, schema_id: int) -> None:
    key = debezium.keys(table([(number, "e", 1, 1)]), schema_id)[0]
    assert debezium.id_of(key, schema_id) == number
    assert debezium.id_of(key, (schema_id + 1) % 2**31) is None
    assert debezium.id_of(key + b"\0", schema_id) is None


@pytest.mark.parametrize("key", [None, b"", b"17", b"\0\0\0\0\1", b"\0\0\0\0\1\x80", b"\0\0\0\0\1\x82\x00"])
def test_other_keys_have_no_id(key: bytes | None) -> None:
    assert debezium.id_of(key, 1) is None


def test_moodles_columns_are_in_the_tables_order_and_nullable_as_in_the_table() -> None:
    """What the connectors of connect/ capture; tests/test_cdc.py compares it with a real Debezium."""
    zero, null = np.zeros(2, np.int64), np.array([True, False])
    rows = replace(
        table([(1, "\\core\\event\\course_viewed", 12, 1_561_975_200_000), (2, "e", 13, 1)]),
        more={"courseid": zero + 5, "relateduserid": zero + 7, "anonymous": zero, "realuserid": zero},
        origin=Texts(np.array([0, 1]), ("web", "ws")),
        nulls={"relateduserid": null, "realuserid": ~null},
    )
    schema = debezium.schemas_of(TOPIC, rows).value
    records = [read(value, schema) for value in debezium.values(rows, 7)]
    assert list(records[0]) == list(ALL_COLUMNS)
    assert [tuple(record.values()) for record in records] == [
        (1, "\\core\\event\\course_viewed", 12, 5, None, 0, 1_561_975_200_000, "web", 0),
        (2, "e", 13, 5, 7, 0, 1, "ws", None),
    ]
    fields = json.loads(schema)["fields"]
    nullable = {field["name"] for field in fields if isinstance(field["type"], list)}
    assert nullable == {"courseid", "relateduserid", "origin", "realuserid"}


def test_taken_rows_keep_their_columns() -> None:
    rows = oulad.generate(["AAA-2013J"], last_day=-10)
    part = rows.take(slice(5, 8))
    assert part.columns == rows.columns == ALL_COLUMNS
    assert debezium.values(part, 7) == debezium.values(rows, 7)[5:8]
