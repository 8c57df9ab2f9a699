"""Log rows as Debezium writes them: Avro in Confluent's wire format, byte for byte.

A message is a zero byte, the schema's id as int32 big-endian, and the Avro body. The schemas are those
Debezium registers for the table (tests/debezium holds real records); a column in which nulls occur is
written as Debezium writes a nullable one, a union with null first.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.replaying.rows import COLUMNS, LogRows
from models.avro import HEADER, Kind, Plan, Undecodable, Wire, read_one
from models.rules import Bools, Int64s

Bytes2d = npt.NDArray[np.uint8]

#: longest zigzag varint of 64 bits
_VARINT = 10
_KEY = Plan((Wire(Kind.LONG),), student=0, at=None)
_TYPES = {"id": "long", "eventname": "string", "userid": "long", "timecreated": "long"}


@dataclass(frozen=True)
class Schemas:
    """Schema texts of one topic's keys and values, as the registry keeps them."""

    key: str
    value: str


def schemas(topic: str, nullable: frozenset[str] = frozenset()) -> Schemas:
    """The schemas Debezium registers for the log table under `topic`, with these columns nullable."""

    def fields(names: tuple[str, ...]) -> list[dict[str, object]]:
        return [
            {"name": name, "type": ["null", _TYPES[name]], "default": None}
            if name in nullable
            else {"name": name, "type": _TYPES[name]}
            for name in names
        ]

    # Debezium's adjustment "avro": what Avro does not allow in a name becomes _
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
    """The key of each row: {id}."""
    return _messages(schema_id, [_varints(rows.id)])


def values(rows: LogRows, schema_id: int, *, unit_ms: int = 1) -> list[bytes]:
    """The value of each row: {id, eventname, userid, timecreated}; the last counts `unit_ms`, 1 or 1000."""
    columns = {
        "id": _varints(rows.id),
        "eventname": _strings(rows.names, rows.event),
        "userid": _varints(rows.userid),
        "timecreated": _varints(rows.at // unit_ms),
    }
    return _messages(schema_id, [_nullable(columns[name], rows.nulls.get(name)) for name in COLUMNS])


def id_of(key: bytes | None, schema_id: int) -> int | None:
    """The id in a key that `keys` wrote with this schema id; None for any other bytes."""
    try:
        number, _ = read_one(_KEY, key or b"")
    except Undecodable:
        return None
    assert number is not None, "a long is never null"
    return number if _messages(schema_id, [_varints(np.array([number]))]) == [key] else None


def _header(schema_id: int) -> bytes:
    return b"\0" + schema_id.to_bytes(4, "big")


@dataclass(frozen=True)
class _Cells:
    """One Avro field of n rows, each left-aligned in w bytes."""

    #: [n, w]
    octets: Bytes2d
    #: bytes used of each row [n]
    length: Int64s


def _varints(numbers: Int64s) -> _Cells:
    """Avro longs: zigzag, seven bits a byte, the lowest first."""
    zigzag = ((numbers << 1) ^ (numbers >> 63)).astype(np.uint64)
    shift = np.arange(0, 7 * _VARINT, 7, dtype=np.uint64)
    septets = zigzag[:, None] >> shift
    length = np.maximum((septets > 0).sum(axis=1), 1)
    more = np.arange(_VARINT) < length[:, None] - 1
    return _Cells(((septets & np.uint64(0x7F)) | (more * np.uint64(0x80))).astype(np.uint8), length)


def _strings(texts: tuple[str, ...], index: Int64s) -> _Cells:
    """Avro strings: their length in bytes as a long, then UTF-8. `index` [n] points into `texts`."""
    utf8 = [text.encode() for text in texts]
    sizes = _varints(np.array([len(octets) for octets in utf8], np.int64))
    packed = [bytes(sizes.octets[i, : sizes.length[i]]) + octets for i, octets in enumerate(utf8)]
    length = np.array([len(octets) for octets in packed], np.int64)
    width = int(length.max(initial=1))
    table = np.zeros((len(packed), width), np.uint8)
    for row, octets in zip(table, packed, strict=True):
        row[: len(octets)] = np.frombuffer(octets, np.uint8)
    return _Cells(table[index], length[index])


def _nullable(cells: _Cells, null: Bools | None) -> _Cells:
    """The same cells in a union with null: branch 0 is null and has no bytes, branch 1 the cell."""
    if null is None:
        return cells
    branch = np.where(null, 0, 2).astype(np.uint8)
    return _Cells(np.column_stack((branch, cells.octets)), 1 + np.where(null, 0, cells.length))


def _messages(schema_id: int, fields: list[_Cells]) -> list[bytes]:
    """Wire format: header and the fields of each row, closed up."""
    rows = len(fields[0].length)
    header = np.frombuffer(_header(schema_id), np.uint8)
    octets = np.hstack([np.broadcast_to(header, (rows, HEADER)), *(field.octets for field in fields)])
    used = [np.ones((rows, HEADER), np.bool_)]
    used += [np.arange(field.octets.shape[1]) < field.length[:, None] for field in fields]
    raw = octets[np.hstack(used)].tobytes()
    ends = np.cumsum(HEADER + sum(field.length for field in fields)).tolist()
    return [raw[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]
