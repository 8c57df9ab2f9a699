"""Compare byte strings anywhere in a buffer with a few constants, a whole column at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.rules import Bools, Int64s
from models.varints import Octets, Words


def is_any(words: Words, start: Int64s, size: Int64s | Octets, texts: Sequence[bytes]) -> Bools:
    """Whether the bytes from `start` [n] on, `size` [n] of them, are one of `texts`.

    words: the 8 bytes at each position (models/varints.py). A string may end behind the last of them: it is compared
    with anything, but read nowhere else.
    """
    matches = np.zeros(len(start), np.bool_)
    last = len(words) - 1
    for text in texts:
        same: Bools = size == len(text)
        rows: Int64s | slice = slice(None)
        if 2 * np.count_nonzero(same) < len(same):  # few are left to compare
            rows = np.flatnonzero(same)
        for at in range(0, len(text), 8):
            piece = text[at : at + 8]
            word = words[np.minimum(start[rows] + at, last)] & np.uint64((1 << 8 * len(piece)) - 1)
            equal = word == np.uint64(int.from_bytes(piece, "little"))
            if isinstance(rows, slice):
                same &= equal
            else:
                rows = rows[equal]
        if isinstance(rows, slice):
            matches |= same
        else:
            matches[rows] = True
    return matches
