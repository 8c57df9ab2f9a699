"""Read many Avro records of one schema at once: the columns userid, timecreated and, if wanted, id and the risk's.

All values of a fetch are in one buffer. A cursor per record moves through the schema's fields, all records in step;
numbers are read from the 8 bytes at the cursor, whatever their alignment. Records that this cannot decode (numbers of
more than 8 bytes, truncated records, invalid branches) are marked, and `codec.avro.read_one` reads them again: it
alone decides what is refused and why. The bytes of one record therefore cannot affect another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codec.avro import HEADER, ORIGINS, AvroType, Kind, Plan, Row, Undecodable, read_one
from models.binary_column import BinaryColumn
from models.byte_match import is_any
from models.counting import ACTED_AS, ANONYMOUS, ORIGIN, SUBMITTED, RiskColumns
from models.rules import Bools, Int64s
from models.varints import LONGEST, MORE, ONE, Octets, Words, end_of, length_of, signed, squeeze, words_of
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
    #: None: the plan does not ask for them
    risk: RiskColumns | None
    #: index of each refused record, and the reason
    refused: dict[int, Undecodable]

    def block(self, rows: slice) -> Columns:
        """The part of all columns at `rows`, to be filled."""
        log_id = None if self.log_id is None else self.log_id[rows]
        risk = None if self.risk is None else self.risk.take(rows)
        return Columns(self.student[rows], self.null[rows], self.at[rows], log_id, risk, {})

    def put(self, i: int, row: Row) -> None:
        """Set the columns of record `i`."""
        self.student[i], self.null[i], self.at[i] = row.student or 0, row.student is None, row.at or 0
        if self.log_id is not None:
            self.log_id[i] = NO_LOG_ID if row.log_id is None else row.log_id
        if self.risk is not None:
            self.risk.course[i], self.risk.related[i], self.risk.marks[i] = row.course, row.related, row.marks


def flat(plan: Plan) -> bool:
    """Whether records can be read in columns: all fields are numbers, text and the like, possibly optional."""
    return all(field.present.kind in _FLAT for field in plan.fields)


def read_rows(plan: Plan, buffer: ValueBuffer, rows: Int64s | None = None) -> Columns:
    """Read the records of `buffer` at `rows` [n], or all of them; their values have at least HEADER bytes."""
    start = buffer.start if rows is None else buffer.start[rows]
    stop = buffer.stop if rows is None else buffer.stop[rows]
    n = len(start)
    columns = Columns(
        student=np.zeros(n, np.int64),
        null=np.full(n, plan.student is None),
        at=np.zeros(n, np.int64),
        log_id=None if plan.log_id is None else np.full(n, NO_LOG_ID),
        risk=None if plan.risk is None else RiskColumns.blank(n),
        refused={},
    )
    undecoded = np.ones(n, np.bool_)
    if flat(plan):
        for lo in range(0, n, BLOCK):
            s = slice(lo, lo + BLOCK)
            undecoded[s] = _Block(plan, buffer, start[s], stop[s], columns.block(s)).read()
    for i in np.flatnonzero(undecoded).tolist():
        try:
            row = read_one(plan, buffer.values[i if rows is None else int(rows[i])] or b"")
        except Undecodable as error:
            columns.refused[i] = error
        else:
            columns.put(i, row)
    return columns


class _Block:
    """Reads one block of records. Mutable."""

    def __init__(self, plan: Plan, buffer: ValueBuffer, start: Int64s, stop: Int64s, columns: Columns) -> None:
        """start, stop: of each record in the buffer [n]; columns: to fill [n]."""
        self._plan, self._buffer, self._columns = plan, buffer, columns
        self._stop, self._pos = stop, start + HEADER
        self._undecoded = np.zeros(len(start), np.bool_)
        numbers = {plan.student: columns.student, plan.at: columns.at}
        if columns.log_id is not None:
            numbers[plan.log_id] = columns.log_id
        if plan.risk is not None and columns.risk is not None:
            numbers[plan.risk.course] = columns.risk.course
        #: the columns of numbers, by index of their field
        self._numbers = numbers
        #: where relateduserid is in each record [n], and whether it is null
        self._related: tuple[AvroType, Int64s, Bools | None] | None = None

    def read(self) -> Bools:
        """Fill the columns; return which records were not decoded [n]."""
        last = len(self._buffer.words) - 2  # after every record, with room for the byte of a branch
        for i, field in enumerate(self._plan.fields):
            is_null = None
            if field.optional:
                branch = self._buffer.octets[self._pos]
                self._undecoded |= (branch & 0xFD) != 0
                is_null = branch == 2 * [part.kind for part in field.parts].index(Kind.NULL)
                if i == self._plan.student:
                    self._columns.null[:] = is_null
                self._pos = self._pos + 1
                if is_null.all():
                    self._pos = np.minimum(self._pos, last)
                    continue
                if not is_null.any():
                    is_null = None
            width = self._read_field(i, field.present, is_null)
            if is_null is not None:
                width = np.where(is_null, 0, width)
            self._pos = np.minimum(self._pos + width, last)
        # cursors only move forward: their final positions tell whether any ever left its record
        self._undecoded |= self._pos > self._stop
        self._read_related()
        return self._undecoded

    def _read_field(self, i: int, avro_type: AvroType, is_null: Bools | None) -> Int64s | int:
        """Read the field `i` at the cursors; return its length [bytes]."""
        risk = self._plan.risk
        if risk is None or i in self._numbers:
            field = _read_field(avro_type, self._buffer, self._pos, wanted=i in self._numbers)
        elif i in (risk.real, risk.anonymous):
            field = _read_flag(avro_type, self._buffer, self._pos)
            self._mark(ACTED_AS if i == risk.real else ANONYMOUS, field.matches, is_null)
        elif i == risk.event:
            field = _read_field(avro_type, self._buffer, self._pos, texts=risk.submissions)
            self._mark(SUBMITTED, field.matches, is_null)
        elif i == risk.origin:
            field = _read_field(avro_type, self._buffer, self._pos, texts=ORIGINS)
            self._mark(ORIGIN, None if field.matches is None else ~field.matches, is_null)
        else:
            field = _read_field(avro_type, self._buffer, self._pos)
            if i == risk.related:
                self._related = avro_type, self._pos, is_null
        if field.undecoded is not None:
            self._undecoded |= field.undecoded if is_null is None else field.undecoded & ~is_null
        if field.number is not None:
            if is_null is not None:
                field.number[is_null] = NO_LOG_ID if i == self._plan.log_id else 0
            self._numbers[i][:] = field.number
        return field.width

    def _mark(self, mark: int, rows: Bools | None, is_null: Bools | None) -> None:
        """Set the bit `mark` of the `rows` [n] that are not null."""
        assert self._columns.risk is not None
        assert rows is not None
        if is_null is not None:
            rows = rows & ~is_null
        marks = self._columns.risk.marks
        np.bitwise_or(marks, rows.view(np.uint8) * np.uint8(mark), out=marks)

    def _read_related(self) -> None:
        """Read relateduserid of the submissions, which are few."""
        risk = self._columns.risk
        if risk is None or self._related is None:
            return
        avro_type, pos, is_null = self._related
        rows = np.flatnonzero(risk.marks & SUBMITTED)
        if is_null is not None:
            rows = rows[~is_null[rows]]
        if len(rows):
            field = _read_field(avro_type, self._buffer, pos[rows], wanted=True)
            if field.number is not None and field.undecoded is not None:
                risk.related[rows] = field.number
                self._undecoded[rows] |= field.undecoded


@dataclass(frozen=True, slots=True)
class _Field:
    """One field of n records."""

    #: its length in each record [n], or the same in all [bytes]
    width: Int64s | int
    #: whether it could not be decoded [n]; None: all could
    undecoded: Bools | None = None
    #: its number, if wanted [n]
    number: Int64s | None = None
    #: whether it is one of the texts that it is compared with, or, of a flag, whether it is set [n]
    matches: Bools | None = None


def _read_field(
    avro_type: AvroType, buffer: ValueBuffer, pos: Int64s, *, wanted: bool = False, texts: Sequence[bytes] | None = None
) -> _Field:
    """The field at the cursors `pos` [n]; meaningless but harmless for a cursor that has left its record.

    wanted: read its number; texts: compare it, a string or an enum, with these.
    """
    if avro_type.kind in _WIDTH:
        return _Field(_WIDTH[avro_type.kind])
    if avro_type.kind is Kind.FIXED:
        return _Field(avro_type.size)
    if avro_type.kind in (Kind.STRING, Kind.BYTES):
        return _read_sized(buffer, pos, texts)
    if avro_type.kind is Kind.ENUM:
        return _read_enum(avro_type, buffer.octets[pos], texts)
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


def _read_flag(avro_type: AvroType, buffer: ValueBuffer, pos: Int64s) -> _Field:
    """The boolean or number at the cursors, of which only matters whether it is set: true, or not 0."""
    octet = buffer.octets[pos]
    if avro_type.kind is Kind.BOOLEAN:
        return _Field(1, matches=octet == 1)
    if not (octet & MORE).any():  # the usual case: all have one byte
        return _Field(1, matches=octet != 0)
    field = _read_field(avro_type, buffer, pos, wanted=True)
    assert field.number is not None
    return _Field(field.width, field.undecoded, matches=field.number != 0)


def _read_enum(avro_type: AvroType, octet: Octets, texts: Sequence[bytes] | None) -> _Field:
    """Enums: the index of a symbol, which is read if it has one byte."""
    symbol, count = octet >> 1, min(avro_type.size, 64)
    undecoded = ((octet & 0x81) != 0) | (symbol >= count)
    if texts is None:
        return _Field(1, undecoded)
    is_text = np.array([text.encode() in texts for text in avro_type.symbols[:count]])
    return _Field(1, undecoded, matches=is_text[np.minimum(symbol, count - 1)])


def _read_sized(buffer: ValueBuffer, pos: Int64s, texts: Sequence[bytes] | None) -> _Field:
    """Strings and bytes: a length, then as many bytes."""
    octet = buffer.octets[pos]
    if not (octet & 0x81).any():  # the usual case: all lengths are below 64 and have one byte
        size = octet >> 1
        matches = None if texts is None else is_any(buffer.words, pos + 1, size, texts)
        return _Field(size.astype(np.int64) + 1, matches=matches)
    word = buffer.words[pos]
    end = end_of(word)
    zigzag = squeeze(word, end)
    undecoded = ((end - ONE) >= _INT_END) | (zigzag > _INT_MAX) | ((zigzag & ONE) != 0)
    length = (zigzag >> ONE).view(np.int64)
    length[undecoded] = 0
    prefix = length_of(end)
    matches = None if texts is None else is_any(buffer.words, pos + prefix, length, texts)
    return _Field(length + prefix, undecoded, matches=matches)
