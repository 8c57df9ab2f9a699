"""How KSQL maps Avro schemas of the Moodle log: columns, their types, and which schemas of writers fit them.

KSQL 5.3 reads the subject's latest value schema once, at CREATE STREAM; the columns it declares then apply to every
record, whatever its schema. Sources: ConnectSchemaTranslator (the column type of each Avro type),
ConnectDataTranslator (which writer's types a column accepts, names in any case, missing columns null), AvroData
(Connect's reading of Avro), and the golden cases p26 to p28 and errors/.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from codec.avro import AvroType, Kind, Plan
from codec.risk_fields import risk_fields
from models.counting import CountingRules
from models.errors import ConfigError

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

_PRIMITIVES = {
    kind.name.lower(): AvroType(kind)
    for kind in (
        Kind.NULL, Kind.BOOLEAN, Kind.INT, Kind.LONG, Kind.FLOAT, Kind.DOUBLE, Kind.STRING, Kind.BYTES
    )
}  # fmt: skip
#: KSQL's type for each Avro type; KSQL has none for bytes and fixed and leaves such columns out
_SQL_TYPES = {
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
    Kind.UNION: "STRUCT",  # of two or more types besides null: Connect converts it to a struct
}
#: the other types that a column of each type accepts from a writer
_ACCEPTS = {"BIGINT": {"INTEGER"}, "STRING": {"INTEGER", "BIGINT", "BOOLEAN"}}


class UnusableSchema(Exception):
    """No record of a schema can be used; `reason` is "unreadable-schema", "type-mismatch" or "wrong-schema"."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class DeclaredColumns:
    """The columns KSQL declares: upper-case name → KSQL type."""

    columns: Mapping[str, str]
    #: full name of the record that declares them; None: a record of any name may be a row of the log
    record: str | None = None


#: the log table as Debezium sends it: the default
MOODLE = DeclaredColumns({"ID": "BIGINT", "EVENTNAME": "STRING", "USERID": "BIGINT", "TIMECREATED": "BIGINT"})

#: columns that the stream requires: name, KSQL types it may have (None: any), purpose
_REQUIRED: tuple[tuple[str, tuple[str, ...] | None, str], ...] = (
    ("ID", None, "it is the key of KSQL's stream"),
    ("USERID", ("BIGINT", "INTEGER"), "it identifies the student"),
    ("TIMECREATED", ("BIGINT",), "it is the time of an event"),
)
#: columns by which a record of another name is recognised as a row of the log
_LOG_COLUMNS = ("ID", "EVENTNAME", "USERID", "TIMECREATED")


def check(schema: Json, topic: str, origin: str | None = None) -> DeclaredColumns:
    """The columns KSQL declares for `topic` if `schema` is its latest value schema.

    origin: where the schema is from, for messages: by default the subject that is named by the topic. Raises
    ConfigError if KSQL 5.3 refuses the schema, or if userid is no number, which KSQL accepts.
    """
    try:
        fields = columns(schema)
    except UnusableSchema as error:
        problem: str | None = f"its latest schema cannot be used: {error.detail}"
    else:
        declared = {name.upper(): sql for name, avro_type in fields if (sql := sql_type(avro_type))}
        problem = _problem([name.upper() for name, _ in fields], declared)
    if problem is not None:
        origin = origin or f"subject {topic}-value"
        raise ConfigError(f"topic {topic}, {origin}: {problem}")
    return DeclaredColumns(declared, record_name(schema))


def _problem(names: list[str], declared: Mapping[str, str]) -> str | None:
    """What is wrong with the columns and what to change; None if nothing is."""
    if {"BEFORE", "AFTER", "OP"} <= set(names):
        return (
            "the records are Debezium envelopes (before, after, op) without a column id; add "
            "transforms=unwrap and transforms.unwrap.type=io.debezium.transforms.ExtractNewRecordState "
            "to the connector"
        )
    for name in names:
        if names.count(name) > 1:
            return f"column {name.lower()} occurs twice, in different case; leave one of them out"
    for name, types, purpose in _REQUIRED:
        column = name.lower()
        if name not in declared:
            return f"no column {column}; let the connector send it: {purpose}"
        if types is not None and declared[name] not in types:
            return (
                f"column {column} is {declared[name]}; let the connector send it as an Avro long "
                f"(a BIGINT in the database): {purpose}"
            )
    return None


def plan(
    schema: Json, declared: DeclaredColumns, *, with_log_id: bool = False, counting: CountingRules | None = None
) -> Plan:
    """How to read records of a writer's `schema` as the declared columns; with_log_id: the integer column id too;
    counting: the columns of the risk too, if there is one.

    Raises UnusableSchema if the schema is invalid, or has a type that KSQL does not accept for a declared column:
    KSQL skips all records of such a schema. Types inside arrays, maps and structs are not compared. Unlike KSQL, it
    also raises for a schema that is not one of the log's: see `_require_log`.
    """
    fields = columns(schema)
    index: dict[str, int] = {}
    for i, (name, _) in enumerate(fields):
        index[name.upper()] = i  # of names that differ in case only, KSQL takes the last
    record = record_name(schema)
    _require_log(record, index, declared)
    for name, declared_type in declared.columns.items():
        if name in index:
            written = sql_type(fields[index[name]][1])
            if written != declared_type and written not in _ACCEPTS.get(declared_type, ()):
                detail = f"column {name.lower()} is {written or 'bytes'}, declared {declared_type}"
                raise UnusableSchema("type-mismatch", detail)
    log_id = index.get("ID") if with_log_id else None
    if log_id is not None and fields[log_id][1].present.kind not in (Kind.INT, Kind.LONG):
        log_id = None
    types = tuple(avro_type for _, avro_type in fields)
    risk = None if counting is None else risk_fields(types, index, counting)
    return Plan(types, index.get("USERID"), index.get("TIMECREATED"), log_id, risk, _doubt(record, index, declared))


def _require_log(record: str, names: Collection[str], declared: DeclaredColumns) -> None:
    """Raise UnusableSchema if no row of the log can have the schema of `record` with the columns `names`.

    A schema id can be another schema's: the key's, or another table's, where connector and worker count ids
    differently. KSQL would read those records as events of nobody at time 0. A later schema of the log itself may lack
    userid or timecreated, as in KSQL (golden case p28), but not both; a record of another name may lack none of the
    log's columns.
    """
    if declared.record is None:
        return
    missing = [name for name in _LOG_COLUMNS if name in declared.columns and name not in names]
    if missing and (record != declared.record or {"USERID", "TIMECREATED"} <= set(missing)):
        detail = f"record {record} has no column {_listed(missing)}: it is no row of the log"
        raise UnusableSchema("wrong-schema", detail)


def _doubt(record: str, names: Collection[str], declared: DeclaredColumns) -> str:
    """What is odd about a schema that is read all the same; empty: nothing."""
    read_as = {"USERID": "their student is null", "TIMECREATED": "their time is 0"}
    missing = [name for name in read_as if name not in names]
    if missing:
        meaning = " and ".join(read_as[name] for name in missing)
        return f"record {record} has no column {_listed(missing)}: its rows count as KSQL counts them, {meaning}"
    if declared.record is not None and record != declared.record:
        return f"its rows are of record {record}, those of the latest schema of {declared.record}"
    return ""


def _listed(names: Sequence[str]) -> str:
    return " and no column ".join(name.lower() for name in names)


def record_name(schema: Json) -> str:
    """The full name of a record's schema; empty if it has none."""
    if not isinstance(schema, dict) or not isinstance(name := schema.get("name"), str):
        return ""
    space = schema.get("namespace")
    return name if "." in name or not isinstance(space, str) or not space else f"{space}.{name}"


def columns(schema: Json) -> list[tuple[str, AvroType]]:
    """Name and type of each column, in the order of their bytes. Raises UnusableSchema."""
    names: dict[str, AvroType | None] = {}
    if not isinstance(schema, dict) or schema.get("type") not in ("record", "error"):
        raise UnusableSchema("type-mismatch", "it is not a record")
    record = _parse(schema, "", names)
    fields = schema["fields"]
    assert isinstance(fields, list)  # otherwise _parse raises
    field_names = [str(field["name"]) for field in fields if isinstance(field, dict)]
    return list(zip(field_names, record.parts, strict=True))


def sql_type(avro_type: AvroType) -> str | None:
    """KSQL's type for a column; None if KSQL leaves the column out (bytes, arrays and maps of bytes)."""
    inner = avro_type.present
    if inner.kind in (Kind.ARRAY, Kind.MAP) and sql_type(inner.parts[0]) is None:
        return None
    return _SQL_TYPES.get(inner.kind)


def _parse(schema: Json, space: str, names: dict[str, AvroType | None]) -> AvroType:
    """The type that a schema in namespace `space` describes; `names` are the types named so far."""
    if isinstance(schema, str):
        return _PRIMITIVES[schema] if schema in _PRIMITIVES else _named(schema, space, names)
    if isinstance(schema, list):
        return AvroType(Kind.UNION, parts=tuple(_parse(branch, space, names) for branch in schema))
    if not isinstance(schema, dict):
        raise UnusableSchema("unreadable-schema", f"{schema!r} is no type")
    kind = schema.get("type")
    if kind == "array" or kind == "map":
        item = _parse(schema.get("items" if kind == "array" else "values"), space, names)
        return AvroType(Kind.ARRAY if kind == "array" else Kind.MAP, parts=(item,))
    if kind in ("record", "error", "enum", "fixed"):
        return _definition(schema, space, names)
    return _parse(kind, space, names)  # a primitive or named type with attributes, such as a logical type


def _named(name: str, space: str, names: dict[str, AvroType | None]) -> AvroType:
    full = name if "." in name or not space else f"{space}.{name}"
    if full not in names:
        raise UnusableSchema("unreadable-schema", f"type {name} is not defined")
    avro_type = names[full]
    if avro_type is None:
        raise UnusableSchema("unreadable-schema", f"type {name} contains itself")
    return avro_type


def _definition(schema: dict[str, Json], space: str, names: dict[str, AvroType | None]) -> AvroType:
    """A record, enum or fixed; its name is added to `names`."""
    name, own = schema.get("name"), schema.get("namespace")
    if not isinstance(name, str):
        raise UnusableSchema("unreadable-schema", f"a {schema['type']} without a name")
    if "." in name:
        space = name.rpartition(".")[0]
    elif isinstance(own, str):
        space = own
    full = name if "." in name or not space else f"{space}.{name}"
    names[full] = None
    names[full] = avro_type = _body(schema, full, space, names)
    return avro_type


def _body(schema: dict[str, Json], full: str, space: str, names: dict[str, AvroType | None]) -> AvroType:
    if schema["type"] == "fixed":
        size = schema.get("size")
        if not isinstance(size, int) or size < 0:
            raise UnusableSchema("unreadable-schema", f"fixed {full} has no size")
        return AvroType(Kind.FIXED, size)
    items = schema.get("symbols" if schema["type"] == "enum" else "fields")
    if not isinstance(items, list):
        raise UnusableSchema("unreadable-schema", f"{schema['type']} {full} has no list of its contents")
    if schema["type"] == "enum":
        return AvroType(Kind.ENUM, len(items), symbols=tuple(map(str, items)))
    parts = []
    for field in items:
        if not isinstance(field, dict) or not isinstance(field.get("name"), str):
            raise UnusableSchema("unreadable-schema", f"a field of {full} has no name")
        parts.append(_field(_parse(field.get("type"), space, names), str(field["name"])))
    return AvroType(Kind.RECORD, parts=tuple(parts))


def _field(avro_type: AvroType, name: str) -> AvroType:
    if avro_type.kind is Kind.NULL:
        # Connect: "Standalone null schemas are not supported by this converter"
        raise UnusableSchema("unreadable-schema", f"field {name} can only be null")
    return avro_type
