"""Build many byte strings at once: pieces of the rows as padded columns, compressed to bytes at the end.

A piece is as wide as its longest row and has a mask of the bytes that each row uses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from models.binary_column import BinaryColumn
from models.rules import Bools, Int64s

#: rows that are compressed together: few enough that their bytes stay in the processor's cache
_BLOCK = 1_024
#: the text of every number of four digits
_FOUR_DIGITS = np.frombuffer(b"".join(b"%04d" % i for i in range(10_000)), "<u4")
#: the text of every octet in base 16
_HEX = np.frombuffer(b"".join(b"%02x" % i for i in range(256)), "<u2")
_TENS = 10 ** np.arange(1, 20, dtype=np.uint64)
_LOW7, _MORE = np.uint64(0x7F), np.uint64(0x80)


@dataclass(frozen=True, slots=True)
class PaddedBytes:
    """One piece of each of n rows."""

    #: [n, width]
    octets: npt.NDArray[np.uint8]
    #: number of bytes used: of each row [n], or the same of all
    length: Int64s | int
    #: which bytes are used [n, width]; None: all
    used: npt.NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.octets)

    @property
    def is_literal(self) -> bool:
        """Whether all rows have the same bytes in memory, of which some may not be used."""
        return self.octets.strides[0] == 0

    def where(self, condition: Bools) -> PaddedBytes:
        """This piece, empty in the rows where `condition` [n] is False."""
        used = np.broadcast_to(condition[:, None], self.octets.shape)
        return PaddedBytes(self.octets, self.length * condition, used if self.used is None else used & self.used)

    def take(self, rows: slice | Int64s) -> PaddedBytes:
        """The piece of the rows at `rows`."""
        length = self.length if isinstance(self.length, int) else self.length[rows]
        return PaddedBytes(self.octets[rows], length, None if self.used is None else self.used[rows])


def literal(text: bytes, n: int) -> PaddedBytes:
    """The same `text` in each of n rows."""
    # a view of which all rows are the same bytes: numpy's functions for it take ten times as long
    return PaddedBytes(np.ndarray((n, len(text)), np.uint8, text, 0, (0, 1)), len(text))


def big_endian(*columns: Int64s) -> PaddedBytes:
    """One or more columns of numbers [n], 8 bytes each, side by side."""
    table = np.stack(columns, axis=1).astype(">i8")
    width = 8 * len(columns)
    return PaddedBytes(table.view(np.uint8).reshape(len(table), width), width)


def take(texts: Sequence[bytes], index: Int64s) -> PaddedBytes:
    """`texts[i]` for each i of `index` [n]."""
    return pad(texts).take(index)


def pad(texts: Sequence[bytes]) -> PaddedBytes:
    """Texts [n] of any length, one per row; takes n times the longest of them [bytes]."""
    return pad_lengths(texts, lengths_of(texts))


def lengths_of(texts: Sequence[bytes]) -> Int64s:
    """The length of each of `texts` [n]."""
    return np.fromiter(map(len, texts), np.int64, len(texts))


def pad_lengths(texts: Sequence[bytes], length: Int64s) -> PaddedBytes:
    """`pad` of texts [n] whose lengths [n] are known."""
    width = int(length.max(initial=0))
    return _windows(b"".join([*texts, bytes(width)]), np.cumsum(length) - length, length, width)


def pad_column(column: BinaryColumn) -> PaddedBytes:
    """`pad` of the strings of a column [n], none of which is null."""
    length = column.stop - column.start
    width = int(length.max(initial=0))
    buffer = column.buffer
    if int(column.start.max(initial=0)) + width > len(buffer):
        buffer += bytes(width)
    return _windows(buffer, column.start, length, width)


def _windows(buffer: bytes, start: Int64s, length: Int64s, width: int) -> PaddedBytes:
    """Rows of `length` [n] bytes, at most `width`, from each `start` [n]; `width` bytes of the buffer follow each."""
    return _rows(np.ndarray((len(buffer) - width + 1, width), np.uint8, buffer, 0, (1, 1))[start], length)


def _rows(octets: npt.NDArray[np.uint8], length: Int64s) -> PaddedBytes:
    """Rows of `length` [n] bytes, which `octets` [n, w] begin with."""
    width = octets.shape[1]
    if (length == width).all():
        return PaddedBytes(octets, width)
    return PaddedBytes(octets, length, np.arange(width) < length[:, None])


class TextTable:
    """Texts of the numbers 0…n - 1, each made when it is first needed. Mutable."""

    def __init__(self, count: int, width: int, make: Callable[[int], bytes]) -> None:
        """width: of the longest text [bytes]; make: returns a text, which is not empty."""
        self._octets, self._length = np.zeros((count, width), np.uint8), np.zeros(count, np.int64)
        self._make = make

    def take(self, numbers: Int64s) -> PaddedBytes:
        """The text of each of `numbers` [n]."""
        length = self._length[numbers]
        if not length.all():
            for number in set(numbers[length == 0].tolist()):
                text = self._make(number)
                self._octets[number, : len(text)] = np.frombuffer(text, np.uint8)
                self._length[number] = len(text)
            length = self._length[numbers]
        return _rows(self._octets[numbers, : int(length.max(initial=0))], length)


def concatenate(parts: Sequence[PaddedBytes]) -> PaddedBytes:
    """The rows of all `parts`, one after another."""
    if len(parts) == 1:
        return parts[0]
    width = max(part.octets.shape[1] for part in parts)
    length = np.concatenate([np.broadcast_to(part.length, len(part)) for part in parts])
    octets = np.zeros((len(length), width), np.uint8)
    used = np.zeros(octets.shape, np.bool_)
    row = 0
    for part in parts:
        end, own = row + len(part), part.octets.shape[1]
        octets[row:end, :own] = part.octets
        used[row:end, :own] = True if part.used is None else part.used
        row = end
    return PaddedBytes(octets, length, used)


def decimals(numbers: Int64s) -> PaddedBytes:
    """The decimal text of `numbers` [n]."""
    negative = numbers < 0
    rest = numbers.view(np.uint64)
    any_negative = bool(negative.any())
    if any_negative:
        rest = np.where(negative, np.negative(rest), rest)
    if not len(numbers):
        return PaddedBytes(np.empty((0, 1), np.uint8), 1)
    fewest, most = len(str(int(rest.min()))), len(str(int(rest.max())))
    if fewest == most and not any_negative:
        return PaddedBytes(_digits(rest, (most + 3) // 4)[:, -most:], most)
    length = np.full(len(numbers), fewest)
    for power in _TENS[fewest - 1 : most - 1]:
        length += rest >= power
    groups = (most + 3) // 4
    octets = _digits(rest, groups)
    if any_negative:
        octets = np.concatenate((np.zeros((len(numbers), 1), np.uint8), octets), axis=1)
    width = octets.shape[1]
    first = width - length - negative
    if any_negative:
        octets[np.flatnonzero(negative), first[negative]] = ord("-")
    low = int(first.min())
    if (first == low).all():
        return PaddedBytes(octets[:, low:], width - low)
    return PaddedBytes(octets[:, low:], length + negative, np.arange(low, width) >= first[:, None])


def _digits(rest: npt.NDArray[np.uint64], groups: int) -> npt.NDArray[np.uint8]:
    """The last 4 * `groups` digits of each number [n], with leading zeros [n, 4 * groups]."""
    text = np.empty((len(rest), groups), "<u4")
    for group in range(groups - 1, 0, -1):
        quotient = rest // np.uint64(10_000)
        text[:, group] = _FOUR_DIGITS[(rest - quotient * np.uint64(10_000)).view(np.int64)]
        rest = quotient
    text[:, 0] = _FOUR_DIGITS[rest.view(np.int64)]
    return text.view(np.uint8)


def hexadecimals(words: npt.NDArray[np.uint64]) -> PaddedBytes:
    """The 16 hexadecimal digits of `words` [n]."""
    octets = np.ascontiguousarray(words.astype(">u8")).view(np.uint8).reshape(len(words), 8)
    return PaddedBytes(_HEX[octets].reshape(len(words), 8, 1).view(np.uint8).reshape(len(words), 16), 16)


def varints(numbers: Int64s) -> PaddedBytes:
    """Zigzag varints of `numbers` [n]: seven bits per byte, the lowest first (Avro, Kafka)."""
    zigzag = ((numbers << 1) ^ (numbers >> 63)).view(np.uint64)
    width = max(1, (int(zigzag.max(initial=0)).bit_length() + 6) // 7)
    if width == 1:
        return PaddedBytes(zigzag.astype(np.uint8)[:, None], 1)
    septets = np.empty((len(numbers), width), np.uint8)
    used = np.ones((len(numbers), width), np.bool_)
    length = np.ones(len(numbers), np.int64)
    rest = zigzag
    for column in range(width - 1):
        octet = rest & _LOW7
        rest = rest >> np.uint64(7)
        more = rest != 0
        septets[:, column] = octet + more * _MORE
        used[:, column + 1] = more
        length += more
    septets[:, width - 1] = rest
    return PaddedBytes(septets, width) if used.all() else PaddedBytes(septets, length, used)


def compress(pieces: Sequence[PaddedBytes]) -> bytes:
    """The used bytes of all rows, one row after another, its pieces in order."""
    n, widths = len(pieces[0]), [piece.octets.shape[1] for piece in pieces]
    columns = list(zip(pieces, pairwise(np.cumsum([0, *widths]).tolist()), strict=True))
    template = np.zeros(sum(widths), np.uint8)
    for piece, (begin, end) in columns:
        if n and piece.is_literal:
            template[begin:end] = piece.octets[0]
    varying = [(piece, bounds) for piece, bounds in columns if not piece.is_literal]
    out = []
    for low in range(0, n, _BLOCK):
        rows = slice(low, min(low + _BLOCK, n))
        octets = np.empty((rows.stop - low, len(template)), np.uint8)
        octets[:] = template
        used = np.ones(octets.shape, np.bool_)
        for piece, (begin, end) in varying:
            octets[:, begin:end] = piece.octets[rows]
        for piece, (begin, end) in columns:
            if piece.used is not None:
                used[:, begin:end] = piece.used[rows]
        out.append(octets[used].tobytes())
    return b"".join(out)


def split(pieces: Sequence[PaddedBytes]) -> list[bytes]:
    """The rows [n] made of `pieces`, as a list."""
    raw = compress(pieces)
    ends = np.cumsum(row_lengths(pieces)).tolist()
    return [raw[a:b] for a, b in pairwise([0, *ends])]


def row_lengths(pieces: Sequence[PaddedBytes]) -> Int64s:
    """The length of each row over all pieces [n]."""
    total = np.zeros(len(pieces[0]), np.int64)
    for piece in pieces:
        total += piece.length
    return total
