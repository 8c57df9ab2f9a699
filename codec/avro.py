"""Avro's binary form, one record at a time: which bytes are a record, and what userid and timecreated say.

Every field is read, as KSQL reads it, so a record that is damaged anywhere is refused. The rules are
those of the Avro 1.8 reader inside KSQL 5.3: an int has at most 5 bytes and a long 10, surplus bits
fall away, lengths and branch numbers are ints, bytes after the record are ignored, text need not be
UTF-8. `codec.avro_columns` reads many records at once and leaves to this module what it cannot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

#: bytes before the Avro body in Confluent's wire format: a zero, then the schema's id as int32 BE
HEADER = 5


class Kind(IntEnum):
    """The types of Avro, as far as their bytes differ."""

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
    """How one value stands in the bytes."""

    kind: Kind
    #: FIXED: its bytes; ENUM: the number of its symbols
    size: int = 0
    #: ARRAY: its items; MAP: its values; UNION: its branches; RECORD: its fields
    parts: tuple[AvroType, ...] = ()

    @property
    def optional(self) -> bool:
        """Whether this is a union of null and one other type."""
        kinds = [part.kind for part in self.parts]
        return self.kind is Kind.UNION and len(kinds) == 2 and Kind.NULL in kinds

    @property
    def present(self) -> AvroType:
        """The type of a value that is not null: an optional type's other branch, else the type itself."""
        if not self.optional:
            return self
        return next(part for part in self.parts if part.kind is not Kind.NULL)


@dataclass(frozen=True, slots=True)
class Plan:
    """A writer's record, and where in it our two columns are."""

    fields: tuple[AvroType, ...]
    #: which field is userid, an int or long or an optional one; None: there is none, it is null
    student: int | None
    #: which field is timecreated, of the same types
    at: int | None


class Undecodable(Exception):
    """Bytes that are no record of their schema; `reason` is "truncated" or "malformed"."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def read_one(plan: Plan, value: bytes) -> tuple[int | None, int | None]:
    """userid and timecreated of one record, null or missing ones as None; raises Undecodable."""
    pos = HEADER
    student = at = None
    for i, wire in enumerate(plan.fields):
        if i == plan.student:
            student, pos = _number(wire, value, pos)
        elif i == plan.at:
            at, pos = _number(wire, value, pos)
        else:
            pos = _SKIP[wire.kind](wire, value, pos)
    return student, at


def _number(wire: AvroType, value: bytes, pos: int) -> tuple[int | None, int]:
    if wire.kind is Kind.UNION:
        wire, pos = _branch(wire, value, pos)
    if wire.kind is Kind.NULL:
        return None, pos
    return _int(value, pos) if wire.kind is Kind.INT else _varint(value, pos, 10)


def _varint(value: bytes, pos: int, most: int) -> tuple[int, int]:
    """The zigzag number at `pos`, of at most `most` bytes, and where it ends."""
    n = value[pos] if pos < len(value) else 0x80
    if n < 0x80:  # one byte, as most have
        return (n >> 1) ^ -(n & 1), pos + 1
    n = 0
    for i in range(most):
        if pos + i >= len(value):
            raise _truncated(value, pos + i + 1)
        octet = value[pos + i]
        n |= (octet & 0x7F) << 7 * i
        if octet < 0x80:
            n &= (1 << 64) - 1 if most == 10 else (1 << 32) - 1
            return (n >> 1) ^ -(n & 1), pos + i + 1
    raise Undecodable("malformed", f"a number at byte {pos} has more than {most} bytes")


def _int(value: bytes, pos: int) -> tuple[int, int]:
    return _varint(value, pos, 5)


def _truncated(value: bytes, needed: int) -> Undecodable:
    return Undecodable("truncated", f"{len(value)} bytes, where its schema needs {needed} or more")


def _forward(value: bytes, pos: int, size: int) -> int:
    if pos + size > len(value):
        raise _truncated(value, pos + size)
    return pos + size


def _skip_int(wire: AvroType, value: bytes, pos: int) -> int:
    return _int(value, pos)[1]


def _skip_long(wire: AvroType, value: bytes, pos: int) -> int:
    return _varint(value, pos, 10)[1]


def _skip_sized(wire: AvroType, value: bytes, pos: int) -> int:
    size, pos = _int(value, pos)
    if size < 0:
        raise Undecodable("malformed", f"a length at byte {pos} is {size}")
    return _forward(value, pos, size)


def _skip_enum(wire: AvroType, value: bytes, pos: int) -> int:
    symbol, end = _int(value, pos)
    if not 0 <= symbol < wire.size:
        raise Undecodable("malformed", f"symbol {symbol} at byte {pos}, of {wire.size}")
    return end


def _branch(wire: AvroType, value: bytes, pos: int) -> tuple[AvroType, int]:
    branch, end = _int(value, pos)
    if not 0 <= branch < len(wire.parts):
        raise Undecodable("malformed", f"branch {branch} at byte {pos}, of {len(wire.parts)}")
    return wire.parts[branch], end


def _skip_union(wire: AvroType, value: bytes, pos: int) -> int:
    part, pos = _branch(wire, value, pos)
    return _SKIP[part.kind](part, value, pos)


def _skip_record(wire: AvroType, value: bytes, pos: int) -> int:
    for part in wire.parts:
        pos = _SKIP[part.kind](part, value, pos)
    return pos


def _skip_blocks(wire: AvroType, value: bytes, pos: int) -> int:
    """Arrays and maps: blocks of items after their number, up to an empty one; a negative number has
    the block's size after it."""
    item = wire.parts[0]
    skip = _SKIP[item.kind]
    while True:
        count, pos = _varint(value, pos, 10)
        if count == 0:
            return pos
        if count < 0:
            count, pos = -count, _varint(value, pos, 10)[1]
        _forward(value, pos, count)  # items have a byte or more each: no endless loop over nothing
        for _ in range(count):
            if wire.kind is Kind.MAP:
                pos = _skip_sized(wire, value, pos)
            pos = skip(item, value, pos)


#: by kind
_SKIP: tuple[Callable[[AvroType, bytes, int], int], ...] = (
    lambda wire, value, pos: pos,
    lambda wire, value, pos: _forward(value, pos, 1),
    _skip_int,
    _skip_long,
    lambda wire, value, pos: _forward(value, pos, 4),
    lambda wire, value, pos: _forward(value, pos, 8),
    _skip_sized,
    _skip_sized,
    lambda wire, value, pos: _forward(value, pos, wire.size),
    _skip_enum,
    _skip_blocks,
    _skip_blocks,
    _skip_union,
    _skip_record,
)
