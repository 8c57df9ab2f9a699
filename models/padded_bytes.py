"""Byte strings of varying length in columns: the pieces of many rows at once, closed up at the end.

A piece has room for the longest of its rows, and says which bytes of it each row uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from models.rules import Bools, Int64s

#: rows that are closed up together: few enough that their bytes stay in the processor's cache
_BLOCK = 1_024
#: every number of four digits, as its text
_FOURS = np.frombuffer(b"".join(b"%04d" % i for i in range(10_000)), "<u4")
_TENS = 10 ** np.arange(1, 20, dtype=np.uint64)
_LOW7, _MORE = np.uint64(0x7F), np.uint64(0x80)


@dataclass(frozen=True, slots=True)
class PaddedBytes:
    """One piece of n rows."""

    #: [n, w]
    octets: npt.NDArray[np.uint8]
    #: how many of them are used of each row, or of every one [n]
    length: Int64s | int
    #: which of them are used [n, w]; None: all
    used: npt.NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.octets)

    def where(self, there: Bools) -> PaddedBytes:
        """The same, with nothing where not `there` [n]."""
        used = np.broadcast_to(there[:, None], self.octets.shape)
        return PaddedBytes(self.octets, self.length * there, used if self.used is None else used & self.used)

    def take(self, rows: slice | Int64s) -> PaddedBytes:
        """Some of the rows."""
        length = self.length if isinstance(self.length, int) else self.length[rows]
        return PaddedBytes(self.octets[rows], length, None if self.used is None else self.used[rows])


def literal(text: bytes, n: int) -> PaddedBytes:
    """`text` in each of n rows."""
    return PaddedBytes(np.broadcast_to(np.frombuffer(text, np.uint8), (n, len(text))), len(text))


def big_endian(*columns: Int64s) -> PaddedBytes:
    """Numbers [n] of 8 bytes each, one after another."""
    table = np.stack(columns, axis=1).astype(">i8")
    width = 8 * len(columns)
    return PaddedBytes(table.view(np.uint8).reshape(len(table), width), width)


def take(texts: Sequence[bytes], index: Int64s) -> PaddedBytes:
    """The text that `index` [n] points to."""
    return pad(texts).take(index)


def pad(texts: Sequence[bytes]) -> PaddedBytes:
    """Texts [n] of any length, one a row: n times the longest is what they take."""
    length = np.fromiter(map(len, texts), np.int64, len(texts))
    width = int(length.max(initial=0))
    flat = np.frombuffer(b"".join([*texts, bytes(width)]), np.uint8)
    octets = np.lib.stride_tricks.sliding_window_view(flat, width)[np.cumsum(length) - length]
    if (length == width).all():
        return PaddedBytes(octets, width)
    return PaddedBytes(octets, length, np.arange(width) < length[:, None])


def decimals(numbers: Int64s) -> PaddedBytes:
    """The decimal text of numbers [n]."""
    minus = numbers < 0
    size = numbers.view(np.uint64)
    negative = bool(minus.any())
    if negative:
        size = np.where(minus, np.negative(size), size)
    length = 1 + np.searchsorted(_TENS, size, side="right")
    groups = (int(length.max(initial=1)) + 3) // 4
    fours = np.empty((len(numbers), groups), "<u4")
    for group in range(groups - 1, 0, -1):
        rest = size // np.uint64(10_000)
        fours[:, group] = _FOURS[(size - rest * np.uint64(10_000)).view(np.int64)]
        size = rest
    fours[:, 0] = _FOURS[size.view(np.int64)]
    octets = fours.view(np.uint8)
    if negative:
        octets = np.concatenate((np.zeros((len(numbers), 1), np.uint8), octets), axis=1)
    width = octets.shape[1]
    first = width - length - minus
    if negative:
        octets[np.flatnonzero(minus), first[minus]] = ord("-")
    low = int(first.min()) if len(first) else 0
    if (first == low).all():
        return PaddedBytes(octets[:, low:], width - low)
    return PaddedBytes(octets[:, low:], length + minus, np.arange(low, width) >= first[:, None])


def varints(numbers: Int64s) -> PaddedBytes:
    """Zigzag, seven bits a byte, the lowest first (Avro, Kafka)."""
    zigzag = ((numbers << 1) ^ (numbers >> 63)).view(np.uint64)
    width = max(1, (int(zigzag.max(initial=0)).bit_length() + 6) // 7)
    septets = np.empty((len(numbers), width), np.uint8)
    used = np.ones((len(numbers), width), np.bool_)
    length = np.ones(len(numbers), np.int64)
    rest = zigzag
    for place in range(width - 1):
        octet = rest & _LOW7
        rest = rest >> np.uint64(7)
        more = rest != 0
        septets[:, place] = octet + more * _MORE
        used[:, place + 1] = more
        length += more
    septets[:, width - 1] = rest
    return PaddedBytes(septets, length, None if used.all() else used)


def compress(pieces: Sequence[PaddedBytes]) -> bytes:
    """The used bytes of all rows, row after row, in each row piece after piece."""
    n, widths = len(pieces[0]), [piece.octets.shape[1] for piece in pieces]
    places = list(pairwise(np.cumsum([0, *widths]).tolist()))
    out = []
    for low in range(0, n, _BLOCK):
        rows = slice(low, min(low + _BLOCK, n))
        octets = np.empty((rows.stop - low, sum(widths)), np.uint8)
        used = np.ones(octets.shape, np.bool_)
        for piece, (begin, end) in zip(pieces, places, strict=True):
            octets[:, begin:end] = piece.octets[rows]
            if piece.used is not None:
                used[:, begin:end] = piece.used[rows]
        out.append(octets[used].tobytes())
    return b"".join(out)


def split(pieces: Sequence[PaddedBytes]) -> list[bytes]:
    """The rows [n] of `pieces`, one by one."""
    raw = compress(pieces)
    ends = np.cumsum(row_lengths(pieces)).tolist()
    return [raw[a:b] for a, b in pairwise([0, *ends])]


def row_lengths(pieces: Sequence[PaddedBytes]) -> Int64s:
    """Bytes of each row in all of its pieces [n]."""
    total = np.zeros(len(pieces[0]), np.int64)
    for piece in pieces:
        total += piece.length
    return total
