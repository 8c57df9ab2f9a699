"""The two Avro readers, record by record and in columns, compared with each other, fastavro and Avro 1.8."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec import avro_columns
from codec.avro import HEADER, AvroType, Kind, Plan, Undecodable, read_one
from codec.avro_columns import ValueBuffer, flat, read_rows
from codec.avro_schema import MOODLE, DeclaredColumns, Json, plan
from models.binary_column import BinaryColumn
from tests.support.kafka_batches import varint

RECORDED = json.loads((Path(__file__).parent / "golden" / "avro181.json").read_bytes())
HEAD = b"\0\0\0\0\1"
LONG, INT, STRING, NULL = AvroType(Kind.LONG), AvroType(Kind.INT), AvroType(Kind.STRING), AvroType(Kind.NULL)
PLAIN = Plan((LONG, STRING, LONG, LONG), 2, 3)
#: our two columns only: the others may have any type
OURS = DeclaredColumns({"USERID": "BIGINT", "TIMECREATED": "BIGINT"})

Verdict = tuple[int | None, int | None] | str

numbers = {"int": st.integers(-(2**31), 2**31 - 1), "long": st.integers(-(2**63), 2**63 - 1)}
leaves: dict[str, st.SearchStrategy[Any]] = {
    **numbers,
    "boolean": st.booleans(),
    "float": st.floats(width=32),
    "double": st.floats(),
    "string": st.text(max_size=80),
    "bytes": st.binary(max_size=80),
}


def verdict(plan: Plan, value: bytes) -> Verdict:
    """The result of `read_one`: the columns, or the reason why it refused the value."""
    try:
        return read_one(plan, value)[:2]
    except Undecodable as error:
        return error.reason


def verdicts(plan: Plan, values: list[bytes], rows: list[int] | None = None) -> list[Verdict]:
    """The same for `read_rows`."""
    index = None if rows is None else np.array(rows, np.int64)
    columns = read_rows(plan, ValueBuffer.of(BinaryColumn.of(values)), index)
    result: list[Verdict] = []
    rows_read = zip(columns.student.tolist(), columns.null.tolist(), columns.at.tolist(), strict=True)
    for i, (student, null, at) in enumerate(rows_read):
        error = columns.refused.get(i)
        result.append((None if null else student, at) if error is None else error.reason)
    return result


def in_columns(expected: Verdict) -> Verdict:
    """A verdict of `read_one` as `read_rows` gives it: a null time is 0."""
    return expected if isinstance(expected, str) else (expected[0], expected[1] or 0)


@st.composite
def schemas(draw: st.DrawFn) -> dict[str, Any]:
    """Schemas of flat and optional fields in any order, with or without userid and timecreated."""
    kinds = draw(st.lists(st.sampled_from(sorted(leaves)), max_size=4))
    fields: list[dict[str, Any]] = [{"name": f"c{i}", "type": kind} for i, kind in enumerate(kinds)]
    if draw(st.booleans()):
        symbols = [f"S{i}" for i in range(draw(st.sampled_from([1, 3, 64, 65])))]
        fields.append({"name": "e", "type": {"type": "enum", "name": "E", "symbols": symbols}})
    if draw(st.booleans()):
        fields.append({"name": "f", "type": {"type": "fixed", "name": "F", "size": draw(st.integers(0, 5))}})
    for name in draw(st.lists(st.sampled_from(["userid", "timecreated"]), unique=True)):
        fields.append({"name": name, "type": draw(st.sampled_from(["long", "int"]))})
    for field in fields:
        branch = draw(st.sampled_from([None, 0, 1]))
        if branch is not None:
            field["type"] = [field["type"]]
            field["type"].insert(branch, "null")
    return {"type": "record", "name": "V", "fields": draw(st.permutations(fields))}


def values_of(schema: Any) -> st.SearchStrategy[Any]:
    """Values of a field with this schema."""
    if isinstance(schema, list):
        return st.one_of([values_of(branch) for branch in schema])
    if isinstance(schema, dict) and schema["type"] == "enum":
        return st.sampled_from(schema["symbols"])
    if isinstance(schema, dict):
        return st.binary(min_size=schema["size"], max_size=schema["size"])
    return st.none() if schema == "null" else leaves[schema]


@st.composite
def damaged(draw: st.DrawFn, body: bytes) -> bytes:
    """A body with some bytes changed, inserted, removed, appended or cut off, or unchanged."""
    octets = bytearray(body)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(octets)))
        octets[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2) | st.sampled_from([b"\xff" * 9]))
    return bytes(octets[: draw(st.integers(0, len(octets)) | st.just(len(octets)))])


@st.composite
def written(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]], list[bytes]]:
    """A schema, records, and their encoded bodies."""
    schema = draw(schemas())
    shape = st.fixed_dictionaries({field["name"]: values_of(field["type"]) for field in schema["fields"]})
    records = draw(st.lists(shape, min_size=1, max_size=8))
    parsed = fastavro.parse_schema(json.loads(json.dumps(schema)))
    bodies = []
    for record in records:
        body = io.BytesIO()
        fastavro.schemaless_writer(body, parsed, record)
        bodies.append(body.getvalue())
    return schema, records, bodies


@settings(deadline=None)
@given(written())
def test_both_readers_read_what_fastavro_writes(case: tuple[dict[str, Any], list[dict[str, Any]], list[bytes]]) -> None:
    """For any fields, in any order, null or not; bytes after a record are ignored."""
    schema, records, bodies = case
    reader = plan(schema, OURS)
    assert flat(reader)
    expected: list[Verdict] = [(record.get("userid"), record.get("timecreated")) for record in records]
    values = [HEAD + body + tail for body, tail in zip(bodies, [b"", b"\0", b"\xff"] * 3, strict=False)]
    assert [verdict(reader, value) for value in values] == expected
    assert verdicts(reader, values) == list(map(in_columns, expected))


@settings(deadline=None)
@given(st.data())
def test_both_readers_agree_on_damaged_bytes(data: st.DataObject) -> None:
    """`read_rows` agrees with `read_one` on any bytes, and no record affects its neighbours."""
    schema, _, bodies = data.draw(written())
    reader = plan(schema, OURS)
    values = [HEAD + data.draw(damaged(body)) for body in bodies]
    expected = [in_columns(verdict(reader, value)) for value in values]
    assert verdicts(reader, values) == expected
    rows = sorted(data.draw(st.sets(st.sampled_from(range(len(values))))))
    assert verdicts(reader, values, rows) == [expected[row] for row in rows]


@pytest.mark.parametrize("case", RECORDED, ids=range(len(RECORDED)))
def test_agrees_with_avro_1_8(case: dict[str, Any]) -> None:
    """1,500 recorded bodies of 60 schemas, half of them unreadable."""
    reader = plan(case["schema"], OURS)
    values = [HEAD + bytes.fromhex(body) for body in case["bodies"]]
    expected = [None if read is None else tuple(read) for read in case["read"]]
    actual = [verdict(reader, value) for value in values]
    assert [None if isinstance(v, str) else v for v in actual] == expected
    assert verdicts(reader, values) == list(map(in_columns, actual))


def test_reading_in_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [HEAD + varint(i) + varint(1) + b"e" + varint(i % 7) + varint(1000 * i) for i in range(100)]
    values[13] = values[13][:-1]
    whole = verdicts(PLAIN, values)
    monkeypatch.setattr(avro_columns, "BLOCK", 8)
    assert verdicts(PLAIN, values) == whole
    assert whole[13] == "truncated"
    assert whole[14] == (0, 14_000)


@pytest.mark.parametrize("number", [0, -1, 63, 64, 2**55 - 1, -(2**55), 2**55, 2**63 - 1, -(2**63)])
def test_longs_of_any_size(number: int) -> None:
    """Numbers of up to 8 bytes are read in columns, those of 9 and 10 by `read_one`."""
    value = HEAD + varint(5) + varint(0) + varint(number) + varint(number)
    assert verdicts(PLAIN, [value]) == [(number, number)] == [verdict(PLAIN, value)]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "truncated"),
        (varint(1), "truncated"),
        (varint(1) + varint(5) + b"abc", "truncated"),
        (varint(1) + varint(0) + varint(7), "truncated"),
        (varint(1) + varint(0) + varint(7) + b"\x80", "truncated"),
        (varint(1) + varint(-1) + varint(7) + varint(8), "malformed"),
        (b"\xff" * 10 + b"\0" * 10, "malformed"),
        (varint(1) + b"\x80\x80\x80\x80\x80\0" + varint(7) + varint(8), "malformed"),
    ],
)
def test_refused(body: bytes, reason: str) -> None:
    """As in golden case p22; a string's length is an int of at most 5 bytes."""
    good = HEAD + varint(1) + varint(0) + varint(7) + varint(8)
    assert verdict(PLAIN, HEAD + body) == reason
    assert verdicts(PLAIN, [good, HEAD + body, good]) == [(7, 8), reason, (7, 8)]


def test_text_need_not_be_utf8() -> None:
    """Java replaces malformed text; the record is valid."""
    value = HEAD + varint(1) + varint(2) + b"\xff\xfe" + varint(7) + varint(8)
    assert verdict(PLAIN, value) == (7, 8)


def test_numbers_may_be_longer_than_needed() -> None:
    value = HEAD + b"\x82\x80\x80\0" + varint(0) + b"\x8e\0" + b"\x90\x80\x80\x80\x80\x80\x80\x80\x80\0"
    assert verdicts(PLAIN, [value]) == [(7, 8)] == [verdict(PLAIN, value)]


def test_excess_bits_of_an_int_are_dropped() -> None:
    """Avro's readInt shifts them out of 32 bits."""
    reader = Plan((INT, LONG), 0, 1)
    value = HEAD + b"\x8e\x80\x80\x80\x70" + varint(8)
    assert verdicts(reader, [value]) == [(7, 8)] == [verdict(reader, value)]


def test_missing_columns_are_null() -> None:
    reader = Plan((LONG, STRING), None, None)
    assert verdicts(reader, [HEAD + varint(1) + varint(0)]) == [(None, 0)]


def test_a_huge_array_of_empty_records_is_refused_at_once() -> None:
    reader = Plan((AvroType(Kind.ARRAY, parts=(AvroType(Kind.RECORD),)), LONG, LONG), 1, 2)
    assert verdict(reader, HEAD + varint(2**62) + varint(0) + varint(1)) == "truncated"


def test_which_plans_are_flat() -> None:
    assert flat(PLAIN)
    assert flat(Plan((AvroType(Kind.UNION, parts=(NULL, LONG)),), None, None))
    assert not flat(Plan((AvroType(Kind.UNION, parts=(LONG, STRING)),), None, None))
    assert not flat(Plan((AvroType(Kind.MAP, parts=(LONG,)),), None, None))


def test_no_values() -> None:
    assert verdicts(PLAIN, []) == []


def test_heads_are_the_first_five_bytes() -> None:
    head = b"\0\1\2\3\4"
    assert ValueBuffer.of(BinaryColumn.of([head + b"x", head])).heads().tolist() == [int.from_bytes(head, "little")] * 2
    assert len(head) == HEADER


def test_the_plan_of_the_log_table() -> None:
    kinds = {"id": "long", "eventname": "string", "userid": "long", "timecreated": "long"}
    fields: list[Json] = [{"name": name, "type": kind} for name, kind in kinds.items()]
    assert plan({"type": "record", "name": "V", "fields": fields}, MOODLE) == PLAIN
