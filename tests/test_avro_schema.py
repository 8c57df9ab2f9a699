"""Avro schemas in KSQL: accepted or refused at CREATE STREAM, projected or refused later."""

from __future__ import annotations

from typing import Any

import pytest

from codec.avro import AvroType, Kind
from codec.avro_schema import MOODLE, DeclaredColumns, UnusableSchema, check, columns, plan, record_name, sql_type
from models.errors import ConfigError
from tests.support.golden_cases import ERRORS, PUBLIC, load

TOPIC = "demo.demo.mdl_logstore_standard_log"
#: KSQL accepts a userid of text and groups by it; the app refuses it
REFUSED_BY_US_ONLY = {"err_userid_string"}


def record(*fields: tuple[str, Any], **attributes: Any) -> dict[str, Any]:
    return {"type": "record", "name": "V", "fields": [{"name": n, "type": t} for n, t in fields], **attributes}


def moodle(**types: Any) -> dict[str, Any]:
    """The log table with other types for some columns, or without those set to None."""
    default: dict[str, Any] = {"id": "long", "eventname": "string", "userid": "long", "timecreated": "long"}
    return record(*((name, kind) for name, kind in {**default, **types}.items() if kind is not None))


def latest_at_create(name: str) -> Any:
    return [entry["schema"] for entry in load(name)["schemas"] if not entry.get("after")][-1]


@pytest.mark.parametrize("name", PUBLIC)
def test_accepts_what_ksql_accepted(name: str) -> None:
    declared = check(latest_at_create(name), TOPIC).columns
    assert {"ID", "USERID", "TIMECREATED"} <= set(declared)


@pytest.mark.parametrize("name", ERRORS)
def test_refuses_what_ksql_refused(name: str) -> None:
    """A KsqlStatementException: CREATE STREAM failed. Other errors are those of later records."""
    refused = "KsqlStatementException" in load(name).get("error", "") or name in REFUSED_BY_US_ONLY
    if refused:
        with pytest.raises(ConfigError):
            check(latest_at_create(name), TOPIC)
    else:
        check(latest_at_create(name), TOPIC)


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (moodle(id=None), "no column id"),
        (moodle(userid=None), "no column userid"),
        (moodle(timecreated=None), "no column timecreated"),
        (moodle(id="bytes"), "no column id"),
        (moodle(timecreated="int"), "column timecreated is INTEGER"),
        (moodle(timecreated="string"), "column timecreated is STRING"),
        (moodle(userid="string"), "column userid is STRING"),
        (moodle(userid="double"), "column userid is DOUBLE"),
        (moodle(userid=["null", "long", "string"]), "column userid is STRUCT"),
        (moodle(USERID="long"), "column userid occurs twice"),
        (record(("before", "long"), ("after", "long"), ("op", "string")), "ExtractNewRecordState"),
        ("long", "it is not a record"),
        (None, "it is not a record"),
        (moodle(x="Missing"), "type Missing is not defined"),
    ],
)
def test_errors_say_what_to_change(schema: Any, expected: str) -> None:
    """One line with the topic, the subject and the column."""
    with pytest.raises(ConfigError) as caught:
        check(schema, TOPIC)
    message = str(caught.value)
    assert expected in message
    assert f"topic {TOPIC}, subject {TOPIC}-value: " in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("avro", "sql"),
    [
        ("boolean", "BOOLEAN"),
        ({"type": "int", "connect.type": "int16"}, "INTEGER"),
        ({"type": "long", "logicalType": "timestamp-millis"}, "BIGINT"),
        ({"type": "long", "connect.name": "io.debezium.time.Timestamp"}, "BIGINT"),
        ("float", "DOUBLE"),
        (["null", "double"], "DOUBLE"),
        (["string", "null"], "STRING"),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, "STRING"),
        ({"type": "array", "items": "long"}, "ARRAY"),
        ({"type": "map", "values": "long"}, "MAP"),
        (record(("x", "long")), "STRUCT"),
        (["null", "long", "string"], "STRUCT"),
        (["long"], "STRUCT"),
        ("bytes", None),
        ({"type": "bytes", "logicalType": "decimal", "precision": 9}, None),
        ({"type": "fixed", "name": "F", "size": 3}, None),
        ({"type": "array", "items": "bytes"}, None),
    ],
)
def test_sql_types(avro: Any, sql: str | None) -> None:
    """ConnectSchemaTranslator; what it cannot hold it leaves out (err_wide)."""
    ((_, wire),) = columns(record(("x", avro)))
    assert sql_type(wire) == sql


#: golden case p28: whether KSQL read the records of schemas 1 to 14
ACCEPTED = {1: 1, 2: 1, 3: 1, 4: 1, 5: 0, 6: 1, 7: 1, 8: 1, 9: 0, 10: 1, 11: 1, 12: 0, 13: 0, 14: 0}


@pytest.mark.parametrize("number", ACCEPTED)
def test_later_schemas_are_projected_as_in_p28(number: int) -> None:
    schemas = {entry["id"]: entry["schema"] for entry in load("p28_schema_type_changes")["schemas"]}
    declared = check(schemas[1], TOPIC)
    if ACCEPTED[number]:
        plan(schemas[number], declared)
    else:
        with pytest.raises(UnusableSchema) as caught:
            plan(schemas[number], declared)
        assert caught.value.reason == "type-mismatch"


@pytest.mark.parametrize(
    ("declared", "written", "accepted"),
    [
        ("long", "int", True),
        ("int", "long", False),
        ("double", "float", True),
        ("double", "long", False),
        ("string", "long", True),  # ConnectDataTranslator: String.valueOf of whole numbers and booleans
        ("string", "boolean", True),
        ("string", "double", False),
        ("string", "bytes", False),
        ("boolean", "string", False),
        ("bytes", "long", True),  # KSQL leaves the column out
        (["null", "long"], "long", True),
        ("long", ["null", "int"], True),
        ("long", ["null", "string"], False),  # the type is compared before values are
    ],
)
def test_which_types_a_column_accepts(declared: Any, written: Any, accepted: bool) -> None:
    columns_declared = check(moodle(x=declared), TOPIC)
    if accepted:
        plan(moodle(X=written), columns_declared)
    else:
        with pytest.raises(UnusableSchema, match="column x is"):
            plan(moodle(X=written), columns_declared)


def test_undeclared_columns_may_have_any_type() -> None:
    plan(moodle(x={"type": "map", "values": "bytes"}, **{"__deleted": "string"}), MOODLE)


def test_the_last_of_names_that_differ_only_in_case_wins() -> None:
    assert plan(moodle(USERID="long"), MOODLE).student == 4


def test_userid_may_be_an_int_from_the_start() -> None:
    """Golden case err_userid_int: then the column does not accept a writer's long."""
    declared = check(moodle(userid="int"), TOPIC)
    assert plan(moodle(userid="int"), declared).fields[2] == AvroType(Kind.INT)
    with pytest.raises(UnusableSchema):
        plan(moodle(), declared)


def test_named_types_are_found_in_their_namespace() -> None:
    """`after` of Debezium's envelope refers to the type that `before` defines."""
    fields = dict(columns(latest_at_create("err_envelope")))
    assert fields["after"] == fields["before"]
    twice = record(("a", {"type": "fixed", "name": "F", "size": 2}), ("b", "F"), ("c", "n.F"), namespace="n")
    assert {wire for _, wire in columns(twice)} == {AvroType(Kind.FIXED, 2)}


@pytest.mark.parametrize(
    "schema",
    [
        record(("x", "null")),  # Connect: "Standalone null schemas are not supported"
        record(("x", ["null", "V"])),  # contains itself
        record(("x", "nowhere.T")),
        record(("x", None)),
        record(("x", {"type": "fixed", "name": "F"})),
        record(("x", {"type": "fixed", "name": "F", "size": "2"})),
        record(("x", {"type": "enum", "name": "E"})),
        record(("x", {"type": "record", "fields": []})),
        record(("x", {"type": "array"})),
        {"type": "record", "name": "V"},
        {"type": "record", "name": "V", "fields": ["x"]},
    ],
)
def test_unreadable_schemas(schema: Any) -> None:
    with pytest.raises(UnusableSchema) as caught:
        plan(schema, MOODLE)
    assert caught.value.reason == "unreadable-schema"


def test_a_plan_keeps_the_writers_order() -> None:
    reader = plan(record(("timecreated", "long"), ("Id", "int"), ("USERID", ["long", "null"])), DeclaredColumns({}))
    assert (reader.at, reader.student, len(reader.fields)) == (0, 2, 3)


def named(schema: dict[str, Any], name: str) -> dict[str, Any]:
    return {**schema, "name": name}


@pytest.mark.parametrize(
    ("schema", "missing"),
    [
        (record(("id", "long"), name="Key"), "eventname and no column userid and no column timecreated"),
        (moodle(userid=None, timecreated=None), "userid and no column timecreated"),
        (named(moodle(userid=None), "Other"), "userid"),
        (named(moodle(timecreated=None), "Other"), "timecreated"),
        (named(moodle(eventname=None), "Enrolment"), "eventname"),
    ],
)
def test_the_schema_of_another_record_is_refused(schema: Any, missing: str) -> None:
    """KSQL would count the key's schema, or another table's, as events of nobody at time 0."""
    with pytest.raises(UnusableSchema) as caught:
        plan(schema, check(moodle(), TOPIC))
    assert caught.value.reason == "wrong-schema"
    assert f"record {schema['name']} has no column {missing}: it is no row of the log" in caught.value.detail


@pytest.mark.parametrize(
    ("schema", "doubt"),
    [
        (moodle(), ""),
        (moodle(more="string", eventname=None), ""),
        (moodle(userid=None), "no column userid: its rows count as KSQL counts them, their student is null"),
        (moodle(timecreated=None), "no column timecreated: its rows count as KSQL counts them, their time is 0"),
        (named(moodle(), "Renamed"), "its rows are of record Renamed, those of the latest schema of V"),
    ],
)
def test_what_is_read_in_doubt_says_so(schema: Any, doubt: str) -> None:
    """The log's own later schemas are read as KSQL reads them (golden case p28)."""
    said = plan(schema, check(moodle(), TOPIC)).doubt
    assert doubt in said
    assert bool(doubt) == bool(said)


def test_record_names_include_their_namespace() -> None:
    assert record_name({"type": "record", "name": "V", "namespace": "a.b"}) == "a.b.V"
    assert record_name({"type": "record", "name": "a.V", "namespace": "b"}) == "a.V"
    assert record_name({"type": "record", "name": "V"}) == "V"
    assert record_name("long") == ""
