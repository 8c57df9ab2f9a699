"""Read zigzag varints (Avro, Kafka), a whole column at once: seven bits per byte, the lowest first.

A number is read from the 8 bytes at its position, whatever their alignment; a number of more than 8 bytes is not
decoded, but detected (`end_of`).
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from models.rules import Int64s

Words: TypeAlias = npt.NDArray[np.uint64]
Octets: TypeAlias = npt.NDArray[np.uint8]

#: padding after the last record of a buffer, so that 8 bytes can be read at every position up to and including its end
PAD = bytes(16)
#: the continuation bit of a byte
MORE = 0x80
#: times a byte: that byte in all 8 places
_ALL_BYTES = 0x0101010101010101
#: the continuation bit of every byte; `end_of(word)` - 1 is below this unless the number has more than 8 bytes
LONGEST = np.uint64(MORE * _ALL_BYTES)
_LOW7 = np.uint64(0x7F * _ALL_BYTES)
#: times 2**(8k): the highest byte is k + 1
_ORDINALS = np.uint64(0x0102030405060708)
ONE, _SEVEN, _TOP_BYTE = np.uint64(1), np.uint64(7), np.uint64(56)
#: steps that close the gaps left by the continuation bits: up to how many bytes a number does not need the step,
#: bits that stay, bits that move, by how many places
_SQUEEZE = tuple(
    (reach, np.uint64(keep), np.uint64(move), np.uint64(reach))
    for reach, keep, move in (
        (1, 0x007F007F007F007F, 0x7F007F007F007F00),
        (2, 0x00003FFF00003FFF, 0x3FFF00003FFF0000),
        (4, 0x000000000FFFFFFF, 0x0FFFFFFF00000000),
    )
)


def words_of(buffer: bytes) -> Words:
    """The 8 bytes at each position of a buffer that ends with PAD, little-endian [bytes - 8]."""
    return np.ndarray((len(buffer) - 8,), "<u8", buffer=buffer, strides=(1,))


def end_of(word: Words) -> Words:
    """Mark a number's last byte, the first without continuation bit, by its highest bit; 0: not among the 8 bytes."""
    clear = ~word & LONGEST
    end: Words = clear & np.negative(clear)
    return end


def length_of(end: Words) -> Int64s:
    """Length of a number whose last byte is marked by `end` [bytes]; 0 if `end` is 0."""
    length: Int64s = (((end >> _SEVEN) * _ORDINALS) >> _TOP_BYTE).view(np.int64)
    return length


def squeeze(word: Words, end: Words, longest: int = 8) -> Words:
    """The septets up to `end`, joined; `longest`: maximum length of these numbers [bytes]."""
    number: Words = word & (end - ONE) & _LOW7
    for reach, keep, move, by in _SQUEEZE:
        if longest <= reach:
            break
        number = (number & keep) | ((number & move) >> by)
    return number


def signed(zigzag: Words) -> Int64s:
    """Decode zigzag: 0, 1, 2, 3, … is 0, -1, 1, -2, …"""
    number: Int64s = ((zigzag >> ONE) ^ np.negative(zigzag & ONE)).view(np.int64)
    return number
