"""Avro records of one schema, many at once: the columns userid and timecreated.

All values of a fetch lie in one buffer. A cursor per record walks the schema's fields, all records in
step; a number is taken from the 8 bytes at the cursor, wherever they are aligned. Whatever does not fit
(numbers of more than 8 bytes, records that end early, branches that are not there) is marked, never
trusted, and read again by `models.avro.read_one`, which alone judges what is refused and why. Bytes of
one record can therefore not disturb another's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from models.avro import HEADER, Kind, Plan, Undecodable, Wire, read_one
from models.rules import Bools, Int64s

Words: TypeAlias = npt.NDArray[np.uint64]

#: records that are walked together: few enough that their columns stay in the processor's cache
BLOCK = 16_384
#: zeros after the last record, so that 8 bytes can be taken at any of its bytes and at its end
_PAD = bytes(16)
#: 0x0101…01 times this byte
_EVERY = 0x0101010101010101
_HIGH = np.uint64(0x80 * _EVERY)
_LOW7 = np.uint64(0x7F * _EVERY)
#: times 2**(8k), its highest byte is k + 1
_ORDINALS = np.uint64(0x0102030405060708)
_ONE, _SEVEN, _TOP_BYTE = np.uint64(1), np.uint64(7), np.uint64(56)
#: steps of closing the gaps that the continuation bits left: bits that stay, bits that move, how far
_SQUEEZE = tuple(
    (np.uint64(keep), np.uint64(move), np.uint64(by))
    for keep, move, by in (
        (0x007F007F007F007F, 0x7F007F007F007F00, 1),
        (0x00003FFF00003FFF, 0x3FFF00003FFF0000, 2),
        (0x000000000FFFFFFF, 0x0FFFFFFF00000000, 4),
    )
)
#: the end mark of a number that has 5 bytes: the most an int has
_INT_END = np.uint64(0x80 << 32)
_INT_MAX = np.uint64(0xFFFFFFFF)
_WIDTH = {Kind.BOOLEAN: 1, Kind.FLOAT: 4, Kind.DOUBLE: 8}
_FLAT = frozenset({Kind.INT, Kind.LONG, Kind.STRING, Kind.BYTES, Kind.FIXED, Kind.ENUM, *_WIDTH})


@dataclass(frozen=True, slots=True)
class Joined:
    """The values of a fetch in one buffer."""

    values: Sequence[bytes]
    octets: npt.NDArray[np.uint8]
    #: the 8 bytes from each byte of the buffer on, little-endian [octets - 8]
    words: Words
    #: where each value starts and ends [n]
    start: Int64s
    stop: Int64s

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


def join(values: Sequence[bytes]) -> Joined:
    """Lay `values` [n] one after another; raises TypeError where one is None."""
    stop = np.cumsum(np.fromiter(map(len, values), np.int64, len(values)))
    start = np.zeros_like(stop)
    start[1:] = stop[:-1]
    buffer = b"".join([*values, _PAD])
    words = np.ndarray((len(buffer) - 8,), "<u8", buffer=buffer, strides=(1,))
    return Joined(values, np.frombuffer(buffer, np.uint8), words, start, stop)


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
            userid, time = read_one(plan, joined.values[i if rows is None else rows[i]])
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
class _Cells:
    """One field of n records."""

    #: bytes it has, of each record or of all [n]
    width: Int64s | int
    #: where it is not understood; None: nowhere [n]
    wrong: Bools | None = None
    #: its number, if that is wanted [n]
    number: Int64s | None = None


def _cells(wire: Wire, joined: Joined, pos: Int64s, *, wanted: bool) -> _Cells:
    """The field at the cursors `pos` [n]; where a cursor is astray it says nothing, but does no harm."""
    if wire.kind in _WIDTH:
        return _Cells(_WIDTH[wire.kind])
    if wire.kind is Kind.FIXED:
        return _Cells(wire.size)
    if wire.kind in (Kind.STRING, Kind.BYTES):
        return _sized(joined, pos)
    if wire.kind is Kind.ENUM:
        symbol = joined.octets[pos]
        return _Cells(1, ((symbol & 0x81) != 0) | (symbol >> 1 >= min(wire.size, 64)))
    word = joined.words[pos]
    end = _end(word)
    # without an end in 8 bytes, end - 1 is the largest number there is
    wrong = (end - _ONE) >= (_INT_END if wire.kind is Kind.INT else _HIGH)
    if not wanted:
        return _Cells(_length(end), wrong)
    zigzag = _squeeze(word, end)
    if wire.kind is Kind.INT:
        wrong |= zigzag > _INT_MAX
    number = ((zigzag >> _ONE) ^ np.negative(zigzag & _ONE)).view(np.int64)
    return _Cells(_length(end), wrong, number)


def _sized(joined: Joined, pos: Int64s) -> _Cells:
    """Strings: as many bytes as the length before them says."""
    octet = joined.octets[pos]
    if not (octet & 0x81).any():  # lengths below 64, as most are, have one byte
        return _Cells((octet >> 1).astype(np.int64) + 1)
    word = joined.words[pos]
    end = _end(word)
    zigzag = _squeeze(word, end)
    wrong = ((end - _ONE) >= _INT_END) | (zigzag > _INT_MAX) | ((zigzag & _ONE) != 0)
    size = (zigzag >> _ONE).view(np.int64)
    size[wrong] = 0
    return _Cells(size + _length(end), wrong)


def _end(word: Words) -> Words:
    """The highest bit of the first byte that has it clear: there a number ends. 0: in none of the 8."""
    clear = ~word & _HIGH
    end: Words = clear & np.negative(clear)
    return end


def _length(end: Words) -> Int64s:
    """Bytes of a number that ends at `end`; 0 where it does not."""
    length: Int64s = (((end >> _SEVEN) * _ORDINALS) >> _TOP_BYTE).view(np.int64)
    return length


def _squeeze(word: Words, end: Words) -> Words:
    """The septets up to `end`, moved together."""
    number: Words = word & (end - _ONE) & _LOW7
    for keep, move, by in _SQUEEZE:
        number = (number & keep) | ((number & move) >> by)
    return number
