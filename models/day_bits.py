"""Days as the bits of 64-bit words: bit i is the i-th day before the newest one."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.rules import Int64s

#: words of 64 days
Words: TypeAlias = NDArray[np.uint64]

#: number of days of a word
WINDOW = 64
#: number of them that count, as of a day: the rest allows for events of later days
COUNTED_DAYS = 60
ONE = np.uint64(1)


def popcount(words: Words) -> Int64s:
    """The number of bits of each of `words` [m]."""
    return _count_bits(words)


def _popcount_of_numpy_2(words: Words) -> Int64s:
    count: Int64s = np.bitwise_count(words).astype(np.int64)
    return count


def popcount_of_numpy_1(words: Words) -> Int64s:
    """Sums of two bits, of four, of eight, and of all: numpy 1 has no function for it."""
    count = words - ((words >> np.uint64(1)) & np.uint64(0x5555_5555_5555_5555))
    fours = np.uint64(0x3333_3333_3333_3333)
    count = (count & fours) + ((count >> np.uint64(2)) & fours)
    count = (count + (count >> np.uint64(4))) & np.uint64(0x0F0F_0F0F_0F0F_0F0F)
    total: Int64s = ((count * np.uint64(0x0101_0101_0101_0101)) >> np.uint64(56)).view(np.int64)
    return total


_count_bits = _popcount_of_numpy_2 if hasattr(np, "bitwise_count") else popcount_of_numpy_1


def shift_left(words: Words, by: Int64s) -> Words:
    """Shift `words` [m] to the left `by` [m] bits; by more than 63, or a negative number, all bits are lost."""
    return np.left_shift(words, by.view(np.uint64))


def shift_right(words: Words, by: Int64s) -> Words:
    """Shift `words` [m] to the right; see `shift_left`."""
    return np.right_shift(words, by.view(np.uint64))
