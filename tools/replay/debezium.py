"""Encode log rows as Debezium does: Avro in Confluent's wire format, byte for byte.

A message is a zero byte, the schema's id as int32 big-endian, and the Avro body. The schemas are those
Debezium registers for the table (tests/debezium has real records). A column that contains nulls is written
like a nullable column: as a union with null first.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import numpy as np

from codec.avro import AvroType, Kind, Plan, Undecodable, read_one
from models.padded_bytes import PaddedBytes, literal, split, take, varints
from models.rules import Bools, Int64s
from tools.replay.log_rows import ALL_COLUMNS, COLUMNS, LogRows, Texts

_KEY = Plan((AvroType(Kind.LONG),), student=0, at=None)
#: column → its type in the schema. Moodle's `anonymous` is TINYINT NOT NULL DEFAULT 0
_TYPES: dict[str, object] = dict.fromkeys(ALL_COLUMNS, "long") | {
    "eventname": "string",
    "anonymous": {"type": "int", "connect.default": 0, "connect.type": "int16"},
    "origin": "string",
}
_DEFAULTS = {"anonymous": 0}


@dataclass(frozen=True)
class Schemas:
    """Schemas of one topic's keys and values, as JSON text in the registry's form."""

    key: str
    value: str


def schemas(topic: str, nullable: frozenset[str] = frozenset(), columns: tuple[str, ...] = COLUMNS) -> Schemas:
    """Return the schemas Debezium registers for a log table of `columns` as `topic`, some of them `nullable`."""

    def declared(name: str) -> dict[str, object]:
        if name in nullable:
            return {"name": name, "type": ["null", _TYPES[name]], "default": None}
        default = {"default": _DEFAULTS[name]} if name in _DEFAULTS else {}
        return {"name": name, "type": _TYPES[name], **default}

    def fields(names: tuple[str, ...]) -> list[dict[str, object]]:
        return [declared(name) for name in names]

    # schema.name.adjustment.mode=avro: characters that Avro does not allow in a name become _
    namespace = re.sub(r"[^A-Za-z0-9_.]|(?<![^.])[0-9]", "_", topic)

    def text(name: str, names: tuple[str, ...]) -> str:
        record = {
            "type": "record",
            "name": name,
            "namespace": namespace,
            "fields": fields(names),
            "connect.name": f"{namespace}.{name}",
        }
        return json.dumps(record, separators=(",", ":"))

    return Schemas(text("Key", columns[:1]), text("Value", columns))


def keys(rows: LogRows, schema_id: int) -> list[bytes]:
    """Return the key of each row: {id}."""
    return _keys(rows.id, schema_id)


def schemas_of(topic: str, rows: LogRows) -> Schemas:
    """Return the schemas of a topic with these rows."""
    return schemas(topic, rows.nullable, rows.columns)


def values(rows: LogRows, schema_id: int, *, unit_ms: int = 1) -> list[bytes]:
    """Return the value of each row: its columns in the table's order; unit_ms: unit of timecreated, 1 or 1000."""
    columns = {
        "id": varints(rows.id),
        "eventname": _strings(Texts(rows.event, rows.names)),
        "userid": varints(rows.userid),
        "timecreated": varints(rows.at // unit_ms),
        **{name: varints(column) for name, column in rows.more.items()},
    }
    if rows.origin is not None:
        columns["origin"] = _strings(rows.origin)
    fields = [
        piece
        for name in rows.columns
        for piece in _field(columns[name], rows.null(name) if name in rows.nullable else None)
    ]
    return split([_header(schema_id, len(rows)), *fields])


def id_of(key: bytes | None, schema_id: int) -> int | None:
    """Return the id in a key written by `keys` with this schema id; None for any other bytes."""
    try:
        number = read_one(_KEY, key or b"")[0]
    except Undecodable:
        return None
    assert number is not None, "a long is never null"
    return number if _keys(np.array([number]), schema_id) == [key] else None


def _keys(ids: Int64s, schema_id: int) -> list[bytes]:
    return split([_header(schema_id, len(ids)), varints(ids)])


def _header(schema_id: int, n: int) -> PaddedBytes:
    return literal(b"\0" + schema_id.to_bytes(4, "big"), n)


def _strings(texts: Texts) -> PaddedBytes:
    """Return the texts [n] as Avro strings: length in bytes as a long, then UTF-8."""
    utf8 = [text.encode() for text in texts.names]
    sizes = split([varints(np.array([len(octets) for octets in utf8], np.int64))])
    return take([size + octets for size, octets in zip(sizes, utf8, strict=True)], texts.index)


def _field(cells: PaddedBytes, nulls: Bools | None) -> list[PaddedBytes]:
    """Return the parts of a column. A nullable one is a union: branch 0 is null, without bytes, branch 1 the cell."""
    if nulls is None:
        return [cells]
    return [varints(np.where(nulls, 0, 1)), cells.where(~nulls)]
