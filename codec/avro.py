"""Avro's binary encoding, one record at a time: whether bytes are a record, and its userid and timecreated.

Every field is read, as in KSQL, so a record that is damaged anywhere is refused. The rules are those of the Avro 1.8
reader in KSQL 5.3: an int has at most 5 bytes and a long 10, excess bits are dropped, lengths and branch indices are
ints, bytes after the record are ignored, text need not be UTF-8. `codec.avro_columns` reads many records at once and
leaves to this module those that it cannot decode.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from models.counting import ACTED_AS, ANONYMOUS, ORIGIN, SUBMITTED
from models.counting import ORIGINS as ORIGIN_NAMES

#: bytes before the Avro body in Confluent's wire format: a zero, then the schema's id as big-endian int32
HEADER = 5
#: the origins of rows that count for the risk
ORIGINS = tuple(text.encode() for text in ORIGIN_NAMES)


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
    #: ENUM: its symbols
    symbols: tuple[str, ...] = ()

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
class RiskFields:
    """Indices of the fields that say what a row is to the risk (models/counting.py); None: no such field.

    Numbers are ints, longs or booleans, texts are strings or enums; all may be optional.
    """

    course: int | None = None
    related: int | None = None
    #: realuserid
    real: int | None = None
    anonymous: int | None = None
    #: eventname
    event: int | None = None
    origin: int | None = None
    #: eventnames that are submissions
    submissions: tuple[bytes, ...] = ()


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
    #: None: nobody asks for them
    risk: RiskFields | None = None
    #: what is odd about the schema, for the log; empty: nothing
    doubt: str = ""


class Row(NamedTuple):
    """The columns of one record; None for null or missing ones."""

    student: int | None
    at: int | None
    log_id: int | None = None
    #: as in models.counting.RiskColumns
    course: int = 0
    related: int = 0
    marks: int = 0


class Undecodable(Exception):
    """The bytes are no record of the schema; `reason` is "truncated" or "malformed"."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def read_one(plan: Plan, value: bytes) -> Row:
    """Read our columns of one record. Raises Undecodable."""
    pos = HEADER
    risk = plan.risk
    student = at = log_id = course = related = None
    marks = 0
    for i, field in enumerate(plan.fields):
        if i == plan.student:
            student, pos = _number(field, value, pos)
        elif i == plan.at:
            at, pos = _number(field, value, pos)
        elif i == plan.log_id:
            log_id, pos = _number(field, value, pos)
        elif risk is None:
            pos = _SKIP[field.kind](field, value, pos)
        elif i == risk.course:
            course, pos = _number(field, value, pos)
        elif i == risk.related:
            related, pos = _number(field, value, pos)
        elif i == risk.real or i == risk.anonymous:
            number, pos = _number(field, value, pos)
            marks |= 0 if not number else ACTED_AS if i == risk.real else ANONYMOUS
        elif i == risk.event or i == risk.origin:
            text, pos = _text(field, value, pos)
            if i == risk.event:
                marks |= SUBMITTED if text in risk.submissions else 0
            else:
                marks |= 0 if text is None or text in ORIGINS else ORIGIN
        else:
            pos = _SKIP[field.kind](field, value, pos)
    return Row(student, at, log_id, course or 0, related or 0 if marks & SUBMITTED else 0, marks)


def read_fields(fields: Sequence[AvroType], wanted: Collection[int], value: bytes) -> dict[int, int | bytes | None]:
    """Return the values of the `wanted` fields by index: numbers, or strings as bytes; the whole record is read.

    Raises Undecodable, also if one of them is of another type.
    """
    pos, found = HEADER, dict[int, "int | bytes | None"]()
    for i, field in enumerate(fields):
        if i not in wanted:
            pos = _SKIP[field.kind](field, value, pos)
            continue
        part, pos = _branch(field, value, pos) if field.kind is Kind.UNION else (field, pos)
        if part.kind in (Kind.STRING, Kind.BYTES):
            end = _skip_sized(part, value, pos)
            found[i], pos = value[_int(value, pos)[1] : end], end
        elif part.kind in (Kind.NULL, Kind.INT, Kind.LONG):
            found[i], pos = _number(part, value, pos)
        else:
            raise Undecodable("malformed", f"field {i} is neither a number nor text")
    return found


def _number(avro_type: AvroType, value: bytes, pos: int) -> tuple[int | None, int]:
    if avro_type.kind is Kind.UNION:
        avro_type, pos = _branch(avro_type, value, pos)
    if avro_type.kind is Kind.NULL:
        return None, pos
    if avro_type.kind is Kind.BOOLEAN:
        end = _advance(value, pos, 1)
        return int(value[pos] == 1), end
    return _int(value, pos) if avro_type.kind is Kind.INT else _varint(value, pos, 10)


def _text(avro_type: AvroType, value: bytes, pos: int) -> tuple[bytes | None, int]:
    """The string or the enum's symbol at `pos`, None for null, and the position after it."""
    if avro_type.kind is Kind.UNION:
        avro_type, pos = _branch(avro_type, value, pos)
    end = _SKIP[avro_type.kind](avro_type, value, pos)
    if avro_type.kind is Kind.NULL:
        return None, end
    number, start = _int(value, pos)
    return (avro_type.symbols[number].encode() if avro_type.kind is Kind.ENUM else value[start:end]), end


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
