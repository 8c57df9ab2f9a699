"""Avro records of one schema, many at once: the columns userid and timecreated.

All values of a fetch lie in one buffer. A cursor per record walks the schema's fields, all records in
step; a number is taken from the 8 bytes at the cursor, wherever they are aligned. Whatever does not fit
(numbers of more than 8 bytes, records that end early, branches that are not there) is marked, never
trusted, and read again by `codec.avro.read_one`, which alone judges what is refused and why. Bytes of
one record can therefore not disturb another's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codec.avro import HEADER, AvroType, Kind, Plan, Undecodable, read_one
from models.binary_column import BinaryColumn
from models.rules import Bools, Int64s
from models.varints import LONGEST, ONE, Octets, Words, end_of, length_of, signed, squeeze, words_of

#: records that are walked together: few enough that their columns stay in the processor's cache
BLOCK = 16_384
#: the end mark of a number that has 5 bytes: the most an int has
_INT_END = np.uint64(0x80 << 32)
_INT_MAX = np.uint64(0xFFFFFFFF)
_WIDTH = {Kind.BOOLEAN: 1, Kind.FLOAT: 4, Kind.DOUBLE: 8}
_FLAT = frozenset({Kind.INT, Kind.LONG, Kind.STRING, Kind.BYTES, Kind.FIXED, Kind.ENUM, *_WIDTH})


@dataclass(frozen=True, slots=True)
class Joined:
    """The values of a fetch in one buffer."""

    values: BinaryColumn
    octets: Octets
    #: the 8 bytes from each byte of the buffer on, little-endian [octets - 8]
    words: Words
    #: where each value starts and ends [n]
    start: Int64s
    stop: Int64s

    @classmethod
    def of(cls, values: BinaryColumn) -> Joined:
        """Strings to take numbers from; every one of them is there."""
        return cls(values, np.frombuffer(values.buffer, np.uint8), words_of(values.buffer), values.start, values.stop)

    def heads(self) -> Words:
        """The first 5 bytes of each value [n], little-endian; of a shorter one, with what comes after."""
        return self.words[self.start] & np.uint64((1 << 8 * HEADER) - 1)


@dataclass(frozen=True, slots=True)
class Columns:
    """What n records say."""

    #: userid, 0 where it is null [n]
    student: Int64s
    null: Bools
    #: timecreated as it stands, 0 where it is null (KSQL: an event at 0) [n]
    at: Int64s
    #: the records that are none, by their place, and why
    refused: dict[int, Undecodable]


def flat(plan: Plan) -> bool:
    """Whether the records can be walked in step: numbers, text and the like, or optional ones."""
    return all(wire.present.kind in _FLAT for wire in plan.fields)


def read_rows(plan: Plan, joined: Joined, rows: Int64s | None = None) -> Columns:
    """The records of `joined` at `rows` [n], or all of them; their values are HEADER bytes long or more."""
    start = joined.start if rows is None else joined.start[rows]
    stop = joined.stop if rows is None else joined.stop[rows]
    n = len(start)
    student, at = np.zeros(n, np.int64), np.zeros(n, np.int64)
    null, bad = np.full(n, plan.student is None), np.ones(n, np.bool_)
    if flat(plan):
        for lo in range(0, n, BLOCK):
            s = slice(lo, lo + BLOCK)
            bad[s] = _walk(plan, joined, start[s], stop[s], student[s], null[s], at[s])
    refused = {}
    for i in np.flatnonzero(bad).tolist():
        try:
            value = joined.values[i if rows is None else int(rows[i])]
            userid, time = read_one(plan, value or b"")
        except Undecodable as why:
            refused[i] = why
        else:
            student[i], null[i], at[i] = userid or 0, userid is None, time or 0
    return Columns(student, null, at, refused)


def _walk(plan: Plan, joined: Joined, start: Int64s, stop: Int64s, student: Int64s, null: Bools, at: Int64s) -> Bools:
    """Fill the columns of one block; which records were not understood [n]."""
    bad = np.zeros(len(start), np.bool_)
    last = len(joined.words) - 2  # behind every record, with room for the byte of a branch
    pos = start + HEADER
    for i, wire in enumerate(plan.fields):
        gone = None
        if wire.optional:
            branch = joined.octets[pos]
            bad |= (branch & 0xFD) != 0
            gone = branch == 2 * [part.kind for part in wire.parts].index(Kind.NULL)
            pos = pos + 1
        cells = _cells(wire.present, joined, pos, wanted=i in (plan.student, plan.at))
        width = cells.width
        if gone is not None:
            width = np.where(gone, 0, width)
            if cells.number is not None:
                cells.number[gone] = 0
            if i == plan.student:
                null[:] = gone
        if cells.number is not None:
            (student if i == plan.student else at)[:] = cells.number
        if cells.wrong is not None:
            bad |= cells.wrong if gone is None else cells.wrong & ~gone
        pos = np.minimum(pos + width, last)
    # a cursor only moves forward: one look at the end tells whether it ever left its record
    bad |= pos > stop
    return bad


@dataclass(frozen=True, slots=True)
class _Field:
    """One field of n records."""

    #: bytes it has, of each record or of all [n]
    width: Int64s | int
    #: where it is not understood; None: nowhere [n]
    wrong: Bools | None = None
    #: its number, if that is wanted [n]
    number: Int64s | None = None


def _cells(wire: AvroType, joined: Joined, pos: Int64s, *, wanted: bool) -> _Field:
    """The field at the cursors `pos` [n]; where a cursor is astray it says nothing, but does no harm."""
    if wire.kind in _WIDTH:
        return _Field(_WIDTH[wire.kind])
    if wire.kind is Kind.FIXED:
        return _Field(wire.size)
    if wire.kind in (Kind.STRING, Kind.BYTES):
        return _sized(joined, pos)
    if wire.kind is Kind.ENUM:
        symbol = joined.octets[pos]
        return _Field(1, ((symbol & 0x81) != 0) | (symbol >> 1 >= min(wire.size, 64)))
    word = joined.words[pos]
    end = end_of(word)
    # without an end in 8 bytes, end - 1 is the largest number there is
    wrong = (end - ONE) >= (_INT_END if wire.kind is Kind.INT else LONGEST)
    if not wanted:
        return _Field(length_of(end), wrong)
    zigzag = squeeze(word, end)
    if wire.kind is Kind.INT:
        wrong |= zigzag > _INT_MAX
    return _Field(length_of(end), wrong, signed(zigzag))


def _sized(joined: Joined, pos: Int64s) -> _Field:
    """Strings: as many bytes as the length before them says."""
    octet = joined.octets[pos]
    if not (octet & 0x81).any():  # lengths below 64, as most are, have one byte
        return _Field((octet >> 1).astype(np.int64) + 1)
    word = joined.words[pos]
    end = end_of(word)
    zigzag = squeeze(word, end)
    wrong = ((end - ONE) >= _INT_END) | (zigzag > _INT_MAX) | ((zigzag & ONE) != 0)
    size = (zigzag >> ONE).view(np.int64)
    size[wrong] = 0
    return _Field(size + length_of(end), wrong)
