"""The set of log ids that a visits partition has applied: what RISK_DEDUPLICATE=log-id drops rows by.

Ids are kept as bitmaps of SPAN consecutive ids. Each bitmap is one record of the table of students, and a batch reads
and writes only those that it touches. Little-endian 8-byte words:

    word 0    version of this layout in the low half, checksum in the high half (models/state.py)
    word 1    bit i: whether word i of the bitmap has any id
    then      the words that have one, ascending

A single id takes 24 bytes, SPAN ids in a row 528. Equal sets have equal bytes, in whatever order their ids came.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from models import state
from models.factorize import factorize
from models.rules import Bools, Int64s
from models.state import StateError

#: layout that this code reads and writes
VERSION = 1
#: start of the keys
_PREFIX = b"ids "
#: number of ids of a bitmap, as a power of two
_SPAN_BITS = 12
SPAN = 1 << _SPAN_BITS
#: 64-bit words of a bitmap
_WORDS = SPAN // 64
_HEAD = 2

#: bitmaps of b spans [b, _WORDS]
Bitmaps: TypeAlias = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Added:
    """The effect of adding ids to a set."""

    #: whether each id had not been in the set, nor occurs before in the batch [n]
    is_new: Bools
    #: the bitmaps afterwards [b]
    bitmaps: Bitmaps


def spans_of(ids: Int64s) -> Int64s:
    """The numbers of the spans that `ids` [n] touch, ascending and distinct [b]; an id below 0 is none."""
    return factorize(ids[ids >= 0] >> _SPAN_BITS)[0]


def keys_of(spans: Int64s) -> list[bytes]:
    """The keys of the records of `spans` [b]; no student's key has this text."""
    return [_PREFIX + b"%d" % span for span in spans.tolist()]


def is_key(key: bytes) -> bool:
    """Whether the record under `key` is one of log ids."""
    return key.startswith(_PREFIX)


def add(ids: Int64s, spans: Int64s, bitmaps: Bitmaps) -> Added:
    """Add `ids` [n] in order to the set whose `bitmaps` [b] belong to `spans` [b], which are those of the ids.

    A row without an id (below 0, such as NO_LOG_ID) is always new, and changes nothing.
    """
    is_new = np.ones(len(ids), np.bool_)
    rows = np.flatnonzero(ids >= 0)
    known = ids[rows]
    code = (np.searchsorted(spans, known >> _SPAN_BITS) << _SPAN_BITS) | (known & (SPAN - 1))
    words = bitmaps.reshape(-1)
    bit = np.left_shift(np.uint64(1), (code & 63).astype(np.uint64))
    unseen = (words[code >> 6] & bit) == 0
    is_new[rows[~unseen]] = False
    rows, code, bit = rows[unseen], code[unseen], bit[unseen]
    if len(code) > 1 and not (code[1:] > code[:-1]).all():
        order = np.argsort(code, kind="stable")  # of equal ids, the first one is the new one
        rows, code, bit = rows[order], code[order], bit[order]
        repeated = np.append(False, code[1:] == code[:-1])
        is_new[rows[repeated]] = False
    if len(code):
        word = code >> 6
        first = np.flatnonzero(np.append(True, word[1:] != word[:-1]))
        words = words.copy()
        words[word[first]] |= np.bitwise_or.reduceat(bit, first)
    return Added(is_new, words.reshape(-1, _WORDS))


def union(parts: Sequence[Mapping[bytes, bytes]]) -> dict[bytes, bytes]:
    """The records of the ids that are in any of `parts`, each the records of one partition by key.

    If students move between partitions, every partition needs all ids: which students they belong to is not kept.
    Raises StateError for a record that cannot be read.
    """
    keys = sorted({key for part in parts for key in part})
    bitmaps = np.zeros((len(keys), _WORDS), np.uint64)
    for part in parts:
        bitmaps |= unpack([part.get(key) for key in keys])
    return dict(zip(keys, pack(bitmaps), strict=True))


def pack(bitmaps: Bitmaps) -> list[bytes]:
    """One record for each of `bitmaps` [b]."""
    present = bitmaps != 0
    count = present.sum(1)
    stop = np.cumsum(count + _HEAD)
    head = stop - count - _HEAD
    words = np.empty(int(stop[-1]) if len(stop) else 0, "<i8")
    masks = np.packbits(present, axis=1, bitorder="little").view("<i8").reshape(-1)
    body = np.ones(len(words), np.bool_)
    body[head] = body[head + 1] = False
    words[body] = bitmaps[present].view(np.int64)
    words[head + 1] = masks
    words[head] = VERSION | state.checksum(words, head, VERSION) << 32
    raw = words.tobytes()
    return [raw[a:b] for a, b in pairwise([0, *(stop * 8).tolist()])]


def unpack(records: Sequence[bytes | None]) -> Bitmaps:
    """The bitmaps of `records` [b]; None stands for a span without ids.

    Raises StateError for a damaged record, NewerState for one of a newer version; `index` is its index in `records`.
    """
    index = [i for i, record in enumerate(records) if record is not None]
    stored = [record for record in records if record is not None]
    try:
        state.check(stored, VERSION, "a log-id record")
        present, words = _split(stored)
    except StateError as error:
        error.index = index[error.index]
        raise
    bitmaps = np.zeros((len(records), _WORDS), np.uint64)
    if stored:
        filled = np.zeros((len(stored), _WORDS), np.uint64)
        filled[present] = words
        bitmaps[index] = filled
    return bitmaps


def _split(records: Sequence[bytes]) -> tuple[Bools, NDArray[np.uint64]]:
    """Which words of each bitmap [b, _WORDS] are stored, and these words, one record after another."""
    size = np.fromiter(map(len, records), np.int64, len(records)) // 8
    words = np.frombuffer(b"".join(records), "<u8").astype(np.uint64, copy=False)
    head = np.cumsum(size) - size
    if (bad := size < _HEAD).any():
        raise _damaged(bad, size)
    masks = words[head + 1].astype("<u8")
    present = np.unpackbits(masks.view(np.uint8).reshape(-1, 8), axis=1, bitorder="little").astype(np.bool_)
    if (bad := present.sum(1) != size - _HEAD).any():
        raise _damaged(bad, size)
    body = np.ones(len(words), np.bool_)
    body[head] = body[head + 1] = False
    return present, words[body]


def _damaged(bad: Bools, size: Int64s) -> StateError:
    error = StateError(f"a log-id record of {8 * int(size[bad][0])} bytes is damaged")
    error.index = int(np.argmax(bad))
    return error
