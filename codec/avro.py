"""Avro's binary encoding, one record at a time: whether bytes are a record, and its userid and timecreated.

Every field is read, as in KSQL, so a record that is damaged anywhere is refused. The rules are those of the Avro 1.8
reader in KSQL 5.3: an int has at most 5 bytes and a long 10, excess bits are dropped, lengths and branch indices are
ints, bytes after the record are ignored, text need not be UTF-8. `codec.avro_columns` reads many records at once and
leaves to this module those that it cannot decode.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

#: bytes before the Avro body in Confluent's wire format: a zero, then the schema's id as big-endian int32
HEADER = 5


class Kind(IntEnum):
    """Avro's types, as far as their encodings differ."""

    NULL = 0
    BOOLEAN = 1
    INT = 2
    LONG = 3
    FLOAT = 4
    DOUBLE = 5
    STRING = 6
    BYTES = 7
    FIXED = 8
    ENUM = 9
    ARRAY = 10
    MAP = 11
    UNION = 12
    RECORD = 13


@dataclass(frozen=True, slots=True)
class AvroType:
    """The type of a value, as far as its encoding depends on it."""

    kind: Kind
    #: FIXED: number of bytes; ENUM: number of symbols
    size: int = 0
    #: the types of an ARRAY's items, a MAP's values, a UNION's branches or a RECORD's fields
    parts: tuple[AvroType, ...] = ()

    @property
    def optional(self) -> bool:
        """Whether this is a union of null and one other type."""
        kinds = [part.kind for part in self.parts]
        return self.kind is Kind.UNION and len(kinds) == 2 and Kind.NULL in kinds

    @property
    def present(self) -> AvroType:
        """The type of a value that is not null: an optional type's other branch, otherwise the type itself."""
        if not self.optional:
            return self
        return next(part for part in self.parts if part.kind is not Kind.NULL)


@dataclass(frozen=True, slots=True)
class Plan:
    """How to read a writer's records: their fields, and which of them are our columns."""

    fields: tuple[AvroType, ...]
    #: index of the field userid, an int or long, possibly optional; None: no such field, userid is null
    student: int | None
    #: index of the field timecreated, of the same types
    at: int | None
    #: index of the field id, of the same types; None: no such field, or nobody asks for it
    log_id: int | None = None
    #: what is odd about the schema, for the log; empty: nothing
    doubt: str = ""


class Undecodable(Exception):
    """The bytes are no record of the schema; `reason` is "truncated" or "malformed"."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def read_one(plan: Plan, value: bytes) -> tuple[int | None, int | None, int | None]:
    """Return userid, timecreated and id of one record, None for null or missing ones. Raises Undecodable."""
    pos = HEADER
    student = at = log_id = None
    for i, field in enumerate(plan.fields):
        if i == plan.student:
            student, pos = _number(field, value, pos)
        elif i == plan.at:
            at, pos = _number(field, value, pos)
        elif i == plan.log_id:
            log_id, pos = _number(field, value, pos)
        else:
            pos = _SKIP[field.kind](field, value, pos)
    return student, at, log_id


def _number(avro_type: AvroType, value: bytes, pos: int) -> tuple[int | None, int]:
    if avro_type.kind is Kind.UNION:
        avro_type, pos = _branch(avro_type, value, pos)
    if avro_type.kind is Kind.NULL:
        return None, pos
    return _int(value, pos) if avro_type.kind is Kind.INT else _varint(value, pos, 10)


def _varint(value: bytes, pos: int, max_size: int) -> tuple[int, int]:
    """The zigzag number at `pos`, of at most `max_size` bytes, and the position after it."""
    n = value[pos] if pos < len(value) else 0x80
    if n < 0x80:  # the usual case: one byte
        return (n >> 1) ^ -(n & 1), pos + 1
    n = 0
    for i in range(max_size):
        if pos + i >= len(value):
            raise _truncated(value, pos + i + 1)
        octet = value[pos + i]
        n |= (octet & 0x7F) << 7 * i
        if octet < 0x80:
            n &= (1 << 64) - 1 if max_size == 10 else (1 << 32) - 1
            return (n >> 1) ^ -(n & 1), pos + i + 1
    raise Undecodable("malformed", f"a number at byte {pos} has more than {max_size} bytes")


def _int(value: bytes, pos: int) -> tuple[int, int]:
    return _varint(value, pos, 5)


def _truncated(value: bytes, needed: int) -> Undecodable:
    return Undecodable("truncated", f"{len(value)} bytes, the schema requires at least {needed}")


def _advance(value: bytes, pos: int, size: int) -> int:
    if pos + size > len(value):
        raise _truncated(value, pos + size)
    return pos + size


def _skip_int(avro_type: AvroType, value: bytes, pos: int) -> int:
    return _int(value, pos)[1]


def _skip_long(avro_type: AvroType, value: bytes, pos: int) -> int:
    return _varint(value, pos, 10)[1]


def _skip_sized(avro_type: AvroType, value: bytes, pos: int) -> int:
    size, pos = _int(value, pos)
    if size < 0:
        raise Undecodable("malformed", f"a length at byte {pos} is {size}")
    return _advance(value, pos, size)


def _skip_enum(avro_type: AvroType, value: bytes, pos: int) -> int:
    symbol, end = _int(value, pos)
    if not 0 <= symbol < avro_type.size:
        raise Undecodable("malformed", f"symbol {symbol} at byte {pos}, of {avro_type.size}")
    return end


def _branch(avro_type: AvroType, value: bytes, pos: int) -> tuple[AvroType, int]:
    branch, end = _int(value, pos)
    if not 0 <= branch < len(avro_type.parts):
        raise Undecodable("malformed", f"branch {branch} at byte {pos}, of {len(avro_type.parts)}")
    return avro_type.parts[branch], end


def _skip_union(avro_type: AvroType, value: bytes, pos: int) -> int:
    part, pos = _branch(avro_type, value, pos)
    return _SKIP[part.kind](part, value, pos)


def _skip_record(avro_type: AvroType, value: bytes, pos: int) -> int:
    for part in avro_type.parts:
        pos = _SKIP[part.kind](part, value, pos)
    return pos


def _skip_blocks(avro_type: AvroType, value: bytes, pos: int) -> int:
    """Arrays and maps: blocks of items, each after their number, up to an empty block; a negative number is followed
    by the block's size."""
    item = avro_type.parts[0]
    skip = _SKIP[item.kind]
    while True:
        count, pos = _varint(value, pos, 10)
        if count == 0:
            return pos
        if count < 0:
            count, pos = -count, _varint(value, pos, 10)[1]
        _advance(value, pos, count)  # every item has at least one byte: bounds the loop
        for _ in range(count):
            if avro_type.kind is Kind.MAP:
                pos = _skip_sized(avro_type, value, pos)
            pos = skip(item, value, pos)


#: by kind
_SKIP: tuple[Callable[[AvroType, bytes, int], int], ...] = (
    lambda avro_type, value, pos: pos,
    lambda avro_type, value, pos: _advance(value, pos, 1),
    _skip_int,
    _skip_long,
    lambda avro_type, value, pos: _advance(value, pos, 4),
    lambda avro_type, value, pos: _advance(value, pos, 8),
    _skip_sized,
    _skip_sized,
    lambda avro_type, value, pos: _advance(value, pos, avro_type.size),
    _skip_enum,
    _skip_blocks,
    _skip_blocks,
    _skip_union,
    _skip_record,
)
