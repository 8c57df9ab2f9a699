"""Numbers of varying length, a whole column at once: zigzag, seven bits a byte, the lowest first (Avro, Kafka).

A number is taken from the 8 bytes at its place, wherever they are aligned; one of more than 8 bytes is not
understood here, and says so.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from models.rules import Int64s

Words: TypeAlias = npt.NDArray[np.uint64]
Octets: TypeAlias = npt.NDArray[np.uint8]

#: bytes to put behind the last record of a buffer, so that 8 can be taken at any of its bytes and at its end
PAD = bytes(16)
#: the bit of a byte that says that the number goes on
MORE = 0x80
#: 0x0101…01 times this byte
_EVERY = 0x0101010101010101
#: the end mark of a number of 8 bytes: the most there is here
LONGEST = np.uint64(MORE * _EVERY)
_LOW7 = np.uint64(0x7F * _EVERY)
#: times 2**(8k), its highest byte is k + 1
_ORDINALS = np.uint64(0x0102030405060708)
ONE, _SEVEN, _TOP_BYTE = np.uint64(1), np.uint64(7), np.uint64(56)
#: steps of closing the gaps that the continuation bits left: bytes that need none, bits that stay, bits that move,
#: how far
_SQUEEZE = tuple(
    (reach, np.uint64(keep), np.uint64(move), np.uint64(reach))
    for reach, keep, move in (
        (1, 0x007F007F007F007F, 0x7F007F007F007F00),
        (2, 0x00003FFF00003FFF, 0x3FFF00003FFF0000),
        (4, 0x000000000FFFFFFF, 0x0FFFFFFF00000000),
    )
)


def words_of(buffer: bytes) -> Words:
    """The 8 bytes from each byte of a buffer on, little-endian [bytes - 8]; it ends with PAD."""
    return np.ndarray((len(buffer) - 8,), "<u8", buffer=buffer, strides=(1,))


def end_of(word: Words) -> Words:
    """The highest bit of the first byte that has it clear: there a number ends. 0: in none of the 8."""
    clear = ~word & LONGEST
    end: Words = clear & np.negative(clear)
    return end


def length_of(end: Words) -> Int64s:
    """Bytes of a number that ends at `end`; 0 where it does not."""
    length: Int64s = (((end >> _SEVEN) * _ORDINALS) >> _TOP_BYTE).view(np.int64)
    return length


def squeeze(word: Words, end: Words, longest: int = 8) -> Words:
    """The septets up to `end`, moved together; no number has more than `longest` bytes."""
    number: Words = word & (end - ONE) & _LOW7
    for reach, keep, move, by in _SQUEEZE:
        if longest <= reach:
            break
        number = (number & keep) | ((number & move) >> by)
    return number


def signed(zigzag: Words) -> Int64s:
    """What zigzag numbers stand for: 0, -1, 1, -2, …"""
    number: Int64s = ((zigzag >> ONE) ^ np.negative(zigzag & ONE)).view(np.int64)
    return number
