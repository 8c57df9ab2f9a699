"""What an Avro schema of the Moodle log means to KSQL: its columns, their types, and which ones may change.

KSQL 5.3 reads the subject's latest value schema once, at CREATE STREAM; what it then declares holds for
every record, whatever schema wrote it. Sources: ConnectSchemaTranslator (which Avro type becomes which
column), ConnectDataTranslator (which writer's type a column accepts, names in any case, missing columns
null), AvroData (what Connect makes of Avro), and the golden cases p26 to p28 and errors/.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from codec.avro import AvroType, Kind, Plan
from models.errors import ConfigError

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

_PRIMITIVES = {
    kind.name.lower(): AvroType(kind)
    for kind in (
        Kind.NULL, Kind.BOOLEAN, Kind.INT, Kind.LONG, Kind.FLOAT, Kind.DOUBLE, Kind.STRING, Kind.BYTES
    )
}  # fmt: skip
#: KSQL's type of an Avro type; those that are not here (bytes, fixed) it cannot hold and leaves out
_SQL = {
    Kind.BOOLEAN: "BOOLEAN",
    Kind.INT: "INTEGER",
    Kind.LONG: "BIGINT",
    Kind.FLOAT: "DOUBLE",
    Kind.DOUBLE: "DOUBLE",
    Kind.STRING: "STRING",
    Kind.ENUM: "STRING",
    Kind.ARRAY: "ARRAY",
    Kind.MAP: "MAP",
    Kind.RECORD: "STRUCT",
    Kind.UNION: "STRUCT",  # of two types or more besides null: Connect makes a struct of it
}
#: what a column of a type also takes from a writer that has another one
_WIDENS = {"BIGINT": {"INTEGER"}, "STRING": {"INTEGER", "BIGINT", "BOOLEAN"}}


class Unreadable(Exception):
    """No record of this schema can be used; `reason` is "unreadable-schema" or "type-mismatch"."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class DeclaredColumns:
    """The columns KSQL declares: upper-case name → KSQL type."""

    columns: Mapping[str, str]


#: the log table as Debezium sends it when nothing else is known
MOODLE = DeclaredColumns({"ID": "BIGINT", "EVENTNAME": "STRING", "USERID": "BIGINT", "TIMECREATED": "BIGINT"})


#: columns the stream needs: name, KSQL types it may have (None: any), what it is for
_NEEDED: tuple[tuple[str, tuple[str, ...] | None, str], ...] = (
    ("ID", None, "KSQL's stream is keyed by it"),
    ("USERID", ("BIGINT", "INTEGER"), "students are told apart by it"),
    ("TIMECREATED", ("BIGINT",), "it is the time of an event"),
)


def check(schema: Json, topic: str) -> DeclaredColumns:
    """What KSQL would declare for `topic` with `schema` as its latest value schema.

    Raises ConfigError where KSQL 5.3 refuses it, and where it groups by a userid that is no number.
    """
    try:
        fields = columns(schema)
    except Unreadable as why:
        problem: str | None = f"its latest schema cannot be used: {why.detail}"
    else:
        declared = {name.upper(): sql for name, wire in fields if (sql := sql_type(wire))}
        problem = _problem([name.upper() for name, _ in fields], declared)
    if problem is not None:
        raise ConfigError(f"topic {topic}, subject {topic}-value: {problem}")
    return DeclaredColumns(declared)


def _problem(names: list[str], declared: Mapping[str, str]) -> str | None:
    """What is wrong with the columns, and what to change."""
    if {"BEFORE", "AFTER", "OP"} <= set(names):
        return (
            "the records are Debezium's envelope (before, after, op), there is no column id; add "
            "transforms=unwrap and transforms.unwrap.type=io.debezium.transforms.ExtractNewRecordState "
            "to the connector"
        )
    for name in names:
        if names.count(name) > 1:
            return f"column {name.lower()} is there twice, in different case; leave one of them out"
    for name, types, purpose in _NEEDED:
        column = name.lower()
        if name not in declared:
            return f"no column {column}; let the connector send it, {purpose}"
        if types is not None and declared[name] not in types:
            return (
                f"column {column} is {declared[name]}; let the connector send it as an Avro long "
                f"(a BIGINT in the database), {purpose}"
            )
    return None


def plan(schema: Json, declared: DeclaredColumns) -> Plan:
    """How to read records of a writer's `schema` as the declared columns.

    Raises Unreadable where it cannot be, or where a declared column has a type that KSQL does not take
    for it: KSQL skips all records of such a schema. What is inside arrays, maps and structs is not
    compared.
    """
    fields = columns(schema)
    place: dict[str, int] = {}
    for i, (name, _) in enumerate(fields):
        place[name.upper()] = i  # of names that differ in case, KSQL takes the last
    for name, sql in declared.columns.items():
        if name in place:
            written = sql_type(fields[place[name]][1])
            if written != sql and written not in _WIDENS.get(sql, ()):
                found = written or "bytes"
                raise Unreadable("type-mismatch", f"column {name.lower()} is {found}, declared {sql}")
    wires = tuple(wire for _, wire in fields)
    return Plan(wires, place.get("USERID"), place.get("TIMECREATED"))


def columns(schema: Json) -> list[tuple[str, AvroType]]:
    """Name and type of each column, in the order of the bytes; raises Unreadable."""
    names: dict[str, AvroType | None] = {}
    if not isinstance(schema, dict) or schema.get("type") not in ("record", "error"):
        raise Unreadable("type-mismatch", "it is not a record")
    wire = _wire(schema, "", names)
    fields = schema["fields"]
    assert isinstance(fields, list)  # else _wire had raised
    found = [str(field["name"]) for field in fields if isinstance(field, dict)]
    return list(zip(found, wire.parts, strict=True))


def sql_type(wire: AvroType) -> str | None:
    """KSQL's type for a column; None where it leaves the column out (bytes, also inside arrays and maps)."""
    inner = wire.present
    if inner.kind in (Kind.ARRAY, Kind.MAP) and sql_type(inner.parts[0]) is None:
        return None
    return _SQL.get(inner.kind)


def _wire(schema: Json, space: str, names: dict[str, AvroType | None]) -> AvroType:
    """The bytes of a schema inside namespace `space`; `names` are the types named so far."""
    if isinstance(schema, str):
        return _PRIMITIVES[schema] if schema in _PRIMITIVES else _named(schema, space, names)
    if isinstance(schema, list):
        return AvroType(Kind.UNION, parts=tuple(_wire(branch, space, names) for branch in schema))
    if not isinstance(schema, dict):
        raise Unreadable("unreadable-schema", f"{schema!r} is no type")
    kind = schema.get("type")
    if kind == "array" or kind == "map":
        item = _wire(schema.get("items" if kind == "array" else "values"), space, names)
        return AvroType(Kind.ARRAY if kind == "array" else Kind.MAP, parts=(item,))
    if kind in ("record", "error", "enum", "fixed"):
        return _definition(schema, space, names)
    return _wire(kind, space, names)  # a primitive or a name with attributes, as a logical type


def _named(name: str, space: str, names: dict[str, AvroType | None]) -> AvroType:
    full = name if "." in name or not space else f"{space}.{name}"
    if full not in names:
        raise Unreadable("unreadable-schema", f"type {name} is not defined")
    wire = names[full]
    if wire is None:
        raise Unreadable("unreadable-schema", f"type {name} contains itself")
    return wire


def _definition(schema: dict[str, Json], space: str, names: dict[str, AvroType | None]) -> AvroType:
    """A record, enum or fixed, which gets a name."""
    name, own = schema.get("name"), schema.get("namespace")
    if not isinstance(name, str):
        raise Unreadable("unreadable-schema", f"a {schema['type']} without a name")
    if "." in name:
        space = name.rpartition(".")[0]
    elif isinstance(own, str):
        space = own
    full = name if "." in name or not space else f"{space}.{name}"
    names[full] = None
    names[full] = wire = _body(schema, full, space, names)
    return wire


def _body(schema: dict[str, Json], full: str, space: str, names: dict[str, AvroType | None]) -> AvroType:
    if schema["type"] == "fixed":
        size = schema.get("size")
        if not isinstance(size, int) or size < 0:
            raise Unreadable("unreadable-schema", f"fixed {full} has no size")
        return AvroType(Kind.FIXED, size)
    items = schema.get("symbols" if schema["type"] == "enum" else "fields")
    if not isinstance(items, list):
        raise Unreadable("unreadable-schema", f"{schema['type']} {full} has no list of what is in it")
    if schema["type"] == "enum":
        return AvroType(Kind.ENUM, len(items))
    parts = []
    for field in items:
        if not isinstance(field, dict) or not isinstance(field.get("name"), str):
            raise Unreadable("unreadable-schema", f"a field of {full} has no name")
        parts.append(_field(_wire(field.get("type"), space, names), str(field["name"])))
    return AvroType(Kind.RECORD, parts=tuple(parts))


def _field(wire: AvroType, name: str) -> AvroType:
    if wire.kind is Kind.NULL:
        # Connect: "Standalone null schemas are not supported by this converter"
        raise Unreadable("unreadable-schema", f"field {name} can only be null")
    return wire
