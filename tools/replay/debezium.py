"""Encode log rows as Debezium does: Avro in Confluent's wire format, byte for byte.

A message is a zero byte, the schema's id as int32 big-endian, and the Avro body. The schemas are those
Debezium registers for the table (tests/debezium has real records). A column that contains nulls is written
like a nullable column: as a union with null first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codec.avro import AvroType, Kind, Plan, Undecodable, read_one
from models.padded_bytes import PaddedBytes, literal, split, take, varints
from models.rules import Bools, Int64s
from tools.replay.log_rows import COLUMNS, LogRows

_KEY = Plan((AvroType(Kind.LONG),), student=0, at=None)
_TYPES = {"id": "long", "eventname": "string", "userid": "long", "timecreated": "long"}


@dataclass(frozen=True)
class Schemas:
    """Schemas of one topic's keys and values, as JSON text in the registry's form."""

    key: str
    value: str


def schemas(topic: str, nullable: frozenset[str] = frozenset()) -> Schemas:
    """Return the schemas Debezium registers for the log table as `topic`, with the given columns nullable."""

    def fields(names: tuple[str, ...]) -> list[dict[str, object]]:
        return [
            {"name": name, "type": ["null", _TYPES[name]], "default": None}
            if name in nullable
            else {"name": name, "type": _TYPES[name]}
            for name in names
        ]

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

    return Schemas(text("Key", COLUMNS[:1]), text("Value", COLUMNS))


def keys(rows: LogRows, schema_id: int) -> list[bytes]:
    """Return the key of each row: {id}."""
    return _keys(rows.id, schema_id)


def values(rows: LogRows, schema_id: int, *, unit_ms: int = 1) -> list[bytes]:
    """Return the value of each row: {id, eventname, userid, timecreated}; unit_ms: unit of timecreated, 1 or 1000."""
    columns = {
        "id": varints(rows.id),
        "eventname": _strings(rows.names, rows.event),
        "userid": varints(rows.userid),
        "timecreated": varints(rows.at // unit_ms),
    }
    fields = [piece for name in COLUMNS for piece in _field(columns[name], rows.nulls.get(name))]
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


def _strings(texts: Sequence[str], index: Int64s) -> PaddedBytes:
    """Return `texts` at `index` [n] as Avro strings: length in bytes as a long, then UTF-8."""
    utf8 = [text.encode() for text in texts]
    sizes = split([varints(np.array([len(octets) for octets in utf8], np.int64))])
    return take([size + octets for size, octets in zip(sizes, utf8, strict=True)], index)


def _field(cells: PaddedBytes, nulls: Bools | None) -> list[PaddedBytes]:
    """Return the parts of a column. A nullable one is a union: branch 0 is null, without bytes, branch 1 the cell."""
    if nulls is None:
        return [cells]
    return [varints(np.where(nulls, 0, 1)), cells.where(~nulls)]
