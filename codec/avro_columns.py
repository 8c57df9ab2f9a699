"""Read many Avro records of one schema at once: the columns userid, timecreated and, if wanted, id.

All values of a fetch are in one buffer. A cursor per record moves through the schema's fields, all records in step;
numbers are read from the 8 bytes at the cursor, whatever their alignment. Records that this cannot decode (numbers of
more than 8 bytes, truncated records, invalid branches) are marked, and `codec.avro.read_one` reads them again: it
alone decides what is refused and why. The bytes of one record therefore cannot affect another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from codec.avro import HEADER, AvroType, Kind, Plan, Undecodable, read_one
from models.binary_column import BinaryColumn
from models.rules import Bools, Int64s
from models.varints import LONGEST, ONE, Octets, Words, end_of, length_of, signed, squeeze, words_of
from models.visits import NO_LOG_ID

#: records that are read together: few enough that their columns stay in the processor's cache
BLOCK = 16_384
#: `end_of` for a number of 5 bytes, the longest int
_INT_END = np.uint64(0x80 << 32)
_INT_MAX = np.uint64(0xFFFFFFFF)
_WIDTH = {Kind.BOOLEAN: 1, Kind.FLOAT: 4, Kind.DOUBLE: 8}
_FLAT = frozenset({Kind.INT, Kind.LONG, Kind.STRING, Kind.BYTES, Kind.FIXED, Kind.ENUM, *_WIDTH})


@dataclass(frozen=True, slots=True)
class ValueBuffer:
    """The values of a fetch, for reading numbers at any position."""

    values: BinaryColumn
    octets: Octets
    #: the 8 bytes at each position of the buffer, little-endian [octets - 8]
    words: Words
    #: where each value starts and ends in the buffer [n]
    start: Int64s
    stop: Int64s

    @classmethod
    def of(cls, values: BinaryColumn) -> ValueBuffer:
        """Wrap `values`, none of which is null."""
        return cls(values, np.frombuffer(values.buffer, np.uint8), words_of(values.buffer), values.start, values.stop)

    def heads(self) -> Words:
        """The first 5 bytes of each value [n], little-endian; a shorter value's are followed by those of the next."""
        return self.words[self.start] & np.uint64((1 << 8 * HEADER) - 1)


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of n records."""

    #: userid, 0 if null [n]
    student: Int64s
    #: whether userid is null [n]
    null: Bools
    #: timecreated in its own unit, 0 if null (in KSQL an event at 0) [n]
    at: Int64s
    #: id, NO_LOG_ID if null [n]; None: the plan has none
    log_id: Int64s | None
    #: index of each refused record, and the reason
    refused: dict[int, Undecodable]


def flat(plan: Plan) -> bool:
    """Whether records can be read in columns: all fields are numbers, text and the like, possibly optional."""
    return all(field.present.kind in _FLAT for field in plan.fields)


def read_rows(plan: Plan, buffer: ValueBuffer, rows: Int64s | None = None) -> Columns:
    """Read the records of `buffer` at `rows` [n], or all of them; their values have at least HEADER bytes."""
    start = buffer.start if rows is None else buffer.start[rows]
    stop = buffer.stop if rows is None else buffer.stop[rows]
    n = len(start)
    student, at = np.zeros(n, np.int64), np.zeros(n, np.int64)
    null, undecoded = np.full(n, plan.student is None), np.ones(n, np.bool_)
    log_id = None if plan.log_id is None else np.full(n, NO_LOG_ID)
    if flat(plan):
        for lo in range(0, n, BLOCK):
            s = slice(lo, lo + BLOCK)
            numbers = {plan.student: student[s], plan.at: at[s]}
            if log_id is not None:
                numbers[plan.log_id] = log_id[s]
            undecoded[s] = _read_block(plan, buffer, start[s], stop[s], numbers, null[s])
    refused = {}
    for i in np.flatnonzero(undecoded).tolist():
        try:
            value = buffer.values[i if rows is None else int(rows[i])]
            userid, time, number = read_one(plan, value or b"")
        except Undecodable as error:
            refused[i] = error
        else:
            student[i], null[i], at[i] = userid or 0, userid is None, time or 0
            if log_id is not None:
                log_id[i] = NO_LOG_ID if number is None else number
    return Columns(student, null, at, log_id, refused)


def _read_block(
    plan: Plan,
    buffer: ValueBuffer,
    start: Int64s,
    stop: Int64s,
    numbers: Mapping[int | None, Int64s],
    null: Bools,
) -> Bools:
    """Fill the columns of one block, `numbers` by index of their field; return which records were not decoded [n]."""
    undecoded = np.zeros(len(start), np.bool_)
    last = len(buffer.words) - 2  # after every record, with room for the byte of a branch
    pos = start + HEADER
    for i, field in enumerate(plan.fields):
        is_null = None
        if field.optional:
            branch = buffer.octets[pos]
            undecoded |= (branch & 0xFD) != 0
            is_null = branch == 2 * [part.kind for part in field.parts].index(Kind.NULL)
            pos = pos + 1
        column = _read_field(field.present, buffer, pos, wanted=i in numbers)
        width = column.width
        if is_null is not None:
            width = np.where(is_null, 0, width)
            if column.number is not None:
                column.number[is_null] = NO_LOG_ID if i == plan.log_id else 0
            if i == plan.student:
                null[:] = is_null
        if column.number is not None:
            numbers[i][:] = column.number
        if column.undecoded is not None:
            undecoded |= column.undecoded if is_null is None else column.undecoded & ~is_null
        pos = np.minimum(pos + width, last)
    # cursors only move forward: their final positions tell whether any ever left its record
    undecoded |= pos > stop
    return undecoded


@dataclass(frozen=True, slots=True)
class _Field:
    """One field of n records."""

    #: its length in each record [n], or the same in all [bytes]
    width: Int64s | int
    #: whether it could not be decoded [n]; None: all could
    undecoded: Bools | None = None
    #: its number, if wanted [n]
    number: Int64s | None = None


def _read_field(avro_type: AvroType, buffer: ValueBuffer, pos: Int64s, *, wanted: bool) -> _Field:
    """The field at the cursors `pos` [n]; meaningless but harmless for a cursor that has left its record."""
    if avro_type.kind in _WIDTH:
        return _Field(_WIDTH[avro_type.kind])
    if avro_type.kind is Kind.FIXED:
        return _Field(avro_type.size)
    if avro_type.kind in (Kind.STRING, Kind.BYTES):
        return _read_sized(buffer, pos)
    if avro_type.kind is Kind.ENUM:
        symbol = buffer.octets[pos]
        return _Field(1, ((symbol & 0x81) != 0) | (symbol >> 1 >= min(avro_type.size, 64)))
    word = buffer.words[pos]
    end = end_of(word)
    # if none of the 8 bytes ends the number, end is 0 and end - 1 the largest number
    undecoded = (end - ONE) >= (_INT_END if avro_type.kind is Kind.INT else LONGEST)
    if not wanted:
        return _Field(length_of(end), undecoded)
    zigzag = squeeze(word, end)
    if avro_type.kind is Kind.INT:
        undecoded |= zigzag > _INT_MAX
    return _Field(length_of(end), undecoded, signed(zigzag))


def _read_sized(buffer: ValueBuffer, pos: Int64s) -> _Field:
    """Strings and bytes: a length, then as many bytes."""
    octet = buffer.octets[pos]
    if not (octet & 0x81).any():  # the usual case: all lengths are below 64 and have one byte
        return _Field((octet >> 1).astype(np.int64) + 1)
    word = buffer.words[pos]
    end = end_of(word)
    zigzag = squeeze(word, end)
    undecoded = ((end - ONE) >= _INT_END) | (zigzag > _INT_MAX) | ((zigzag & ONE) != 0)
    size = (zigzag >> ONE).view(np.int64)
    size[undecoded] = 0
    return _Field(size + length_of(end), undecoded)
