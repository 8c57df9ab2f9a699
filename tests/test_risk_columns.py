"""The columns of the risk: read from Avro of any schema, record by record and in columns, and judged."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec import avro_columns
from codec.avro import RiskFields, Row, Undecodable, read_one
from codec.avro_columns import ValueBuffer, read_rows
from codec.avro_schema import MOODLE, DeclaredColumns, Json, check, plan
from codec.risk_fields import missing_columns
from models.binary_column import BinaryColumn
from models.counting import ACTED_AS, ANONYMOUS, ORIGIN, SUBMITTED, CountingRules
from tests.support.kafka_batches import varint
from tests.support.moodle_rows import HEAD, SUBMITS, moodle_rows
from tests.test_avro import OURS, damaged

#: names of 0, 1, 8, 9, 38 and 99 bytes are submissions, and others that begin or end like them
RULES = CountingRules(frozenset({1, 2}), ("", "x", "12345678", "123456789", SUBMITS, "é" * 49 + "y"))
NAMES = [*RULES.submission_events, "y", "1234567", "12345679", SUBMITS[:-1], SUBMITS + "s", "é" * 49 + "x", "é" * 700]
ORIGINS = ["web", "ws", "cli", "restore", "", "we", "webs", "w"]
NUMBERS = ["courseid", "relateduserid", "realuserid", "userid", "timecreated", "id"]

small = st.sampled_from([0, 1, 2, 3, 4, 63, 64, -1, 2**31 - 1]) | st.integers(-(2**31), 2**31 - 1)


@st.composite
def schemas(draw: st.DrawFn) -> dict[str, Any]:
    """Schemas with some of the log's columns, in any order and case and of any type that they may have, and others."""
    fields: list[dict[str, Any]] = []

    def add(name: str, kinds: list[Any]) -> None:
        kind = draw(st.sampled_from([None, *kinds]))
        branch = draw(st.sampled_from([None, 0, 1]))
        if kind is not None:
            union = [kind] if branch is None else [kind, "null"] if branch else ["null", kind]
            fields.append(
                {"name": draw(st.sampled_from([name, name.upper()])), "type": union if branch is not None else kind}
            )

    for name in NUMBERS:
        add(name, ["int", "long"])
    add("anonymous", ["int", "long", "boolean"])
    add("eventname", ["string", {"type": "enum", "name": "N", "symbols": ["a", "x", "y"]}])
    add("origin", ["string", {"type": "enum", "name": "O", "symbols": ["cli", "web", "ws"]}])
    add("other", ["string", "double", {"type": "array", "items": "long"}])
    return {"type": "record", "name": "V", "fields": draw(st.permutations(fields))}


def value_of(name: str, kind: Any) -> st.SearchStrategy[Any]:
    """Values of a column with this type."""
    if isinstance(kind, list):
        return st.one_of([value_of(name, branch) for branch in kind])
    if isinstance(kind, dict):
        return st.sampled_from(kind["symbols"]) if kind["type"] == "enum" else st.lists(small, max_size=2)
    texts = {"eventname": NAMES, "origin": ORIGINS}.get(name.lower())
    if kind == "string":
        return st.sampled_from(texts) if texts else st.text(max_size=70)
    return {"null": st.none(), "boolean": st.booleans(), "double": st.floats()}.get(kind, small)


@st.composite
def written(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]], list[bytes]]:
    """A schema, rows with lower-case names, and their values."""
    schema = draw(schemas())
    shape = st.fixed_dictionaries({f["name"]: value_of(f["name"], f["type"]) for f in schema["fields"]})
    rows = draw(st.lists(shape, min_size=1, max_size=8))
    parsed = fastavro.parse_schema(json.loads(json.dumps(schema)))
    values = []
    for row in rows:
        body = io.BytesIO()
        fastavro.schemaless_writer(body, parsed, row)
        values.append(HEAD + body.getvalue())
    return schema, [{name.lower(): value for name, value in row.items()} for row in rows], values


def expected(row: dict[str, Any], rules: CountingRules) -> tuple[int, int, int]:
    """courseid, relateduserid and marks of a row."""
    submits = row.get("eventname") in rules.submission_events
    marks = SUBMITTED * submits | ACTED_AS * bool(row.get("realuserid")) | ANONYMOUS * bool(row.get("anonymous"))
    marks |= ORIGIN * (row.get("origin") not in (None, "web", "ws"))
    course = row.get("courseid") or 0 if rules.per_course else 0
    return course, row.get("relateduserid") or 0 if submits else 0, marks


def row_wise(reader: Any, values: list[bytes]) -> list[Row | str]:
    """The result of `read_one` for each value."""
    out: list[Row | str] = []
    for value in values:
        try:
            out.append(read_one(reader, value))
        except Undecodable as error:
            out.append(error.reason)
    return out


def in_columns(reader: Any, values: list[bytes]) -> list[Row | str]:
    """The same of `read_rows`."""
    columns = read_rows(reader, ValueBuffer.of(BinaryColumn.of(values)))
    risk = columns.risk
    assert risk is not None
    numbers = zip(
        *(c.tolist() for c in (columns.student, columns.null, columns.at, risk.course, risk.related, risk.marks)),
        strict=True,
    )
    out: list[Row | str] = [Row(None if null else s, at, None, *rest) for s, null, at, *rest in numbers]
    for i, error in columns.refused.items():
        out[i] = error.reason
    return out


def without_null_time(row: Row | str) -> Row | str:
    return row if isinstance(row, str) else row._replace(at=row.at or 0)


@settings(deadline=None)
@given(written(), st.booleans())
def test_both_readers_read_what_fastavro_writes(
    case: tuple[dict[str, Any], list[dict[str, Any]], list[bytes]], per_course: bool
) -> None:
    """Any of the columns missing, nullable, of any case, int or long, string or enum."""
    schema, rows, values = case
    rules = CountingRules(RULES.ignored_users, RULES.submission_events, per_course)
    reader = plan(schema, OURS, counting=rules)
    read = [Row(row.get("userid"), row.get("timecreated"), None, *expected(row, rules)) for row in rows]
    assert row_wise(reader, values) == read
    assert in_columns(reader, values) == list(map(without_null_time, read))


@settings(deadline=None)
@given(st.data())
def test_both_readers_agree_on_damaged_bytes(data: st.DataObject) -> None:
    """`read_rows` agrees with `read_one` on any bytes, and no record affects its neighbours."""
    schema, _, values = data.draw(written())
    reader = plan(schema, OURS, counting=RULES)
    values = [HEAD + data.draw(damaged(value[len(HEAD) :])) for value in values]
    assert in_columns(reader, values) == list(map(without_null_time, row_wise(reader, values)))


def test_columns_are_read_in_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of Moodle's own table need no reading one by one."""
    schema, values = moodle_rows(200)
    reader = plan(schema, check(schema, "t"), counting=RULES)
    read = row_wise(reader, values)
    assert len({row.marks for row in read if isinstance(row, Row)}) > 8
    monkeypatch.setattr(avro_columns, "read_one", None)
    assert in_columns(reader, values) == read
    monkeypatch.setattr(avro_columns, "BLOCK", 8)
    assert in_columns(reader, values) == read


def test_a_column_of_another_type_counts_as_missing() -> None:
    """Texts for numbers, numbers for texts, bytes, and unions of more than null and one type."""
    odd: dict[str, Json] = {
        "courseid": "string", "relateduserid": "double", "realuserid": ["null", "long", "string"],
        "anonymous": "string", "eventname": "long", "origin": "bytes",
    }  # fmt: skip
    fields: list[Json] = [{"name": name, "type": kind} for name, kind in odd.items()]
    reader = plan({"type": "record", "name": "V", "fields": fields}, DeclaredColumns({}), counting=RULES)
    assert reader.risk == RiskFields(submissions=tuple(name.encode() for name in RULES.submission_events))


def test_which_columns_are_missing() -> None:
    """By KSQL's types of the declared columns."""
    declared = dict(check(moodle_rows(0)[0], "t").columns)
    assert missing_columns(declared) == []
    assert missing_columns({**declared, "ANONYMOUS": "INTEGER", "COURSEID": "INTEGER"}) == []
    assert missing_columns({**declared, "COURSEID": "STRING", "ORIGIN": "BIGINT"}) == ["COURSEID", "ORIGIN"]
    assert missing_columns(MOODLE.columns) == ["COURSEID", "RELATEDUSERID", "REALUSERID", "ANONYMOUS", "ORIGIN"]


def test_numbers_may_be_longer_than_needed_and_ints_have_32_bits() -> None:
    """As Avro reads them: excess bits are dropped, of a flag and of the user of a submission too."""
    kinds = {"eventname": "string", "relateduserid": "int", "realuserid": "int", "anonymous": "long"}
    fields: list[Json] = [{"name": name, "type": kind} for name, kind in kinds.items()]
    reader = plan({"type": "record", "name": "V", "fields": fields}, DeclaredColumns({}), counting=RULES)
    seven, zero, none = b"\x8e\x80\x80\x80\x70", b"\x80\x80\x80\x80\x70", b"\x80\0"
    flags = [b"\0\0", zero + none, seven + none]
    values = [HEAD + varint(1) + b"x" + seven + rest for rest in flags]
    expected_rows = [Row(None, None, None, 0, 7, SUBMITTED | mark) for mark in (0, 0, ACTED_AS)]
    assert row_wise(reader, values) == expected_rows
    assert in_columns(reader, values) == list(map(without_null_time, expected_rows))
