"""Kafka's default partitioner for students: murmur2 of their keys, a whole column at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.rules import Bools, Int64s

Uint32s = npt.NDArray[np.uint32]

#: key of the null student: KSQL groups null userids under this text
NULL_KEY = b"null"
_M = np.uint32(0x5BD1E995)
_SEED = np.uint32(0x9747B28C)


def keys_of(student: Int64s, null: Bools) -> list[bytes]:
    """The key of each student [n]: utf8(userid), b"null" for the null student."""
    keys = [b"%d" % s for s in student.tolist()]
    for row in np.flatnonzero(null).tolist():
        keys[row] = NULL_KEY
    return keys


def partitions_of(keys: list[bytes], count: int) -> Int64s:
    """The partition of each key [n], 0…`count`-1 (Kafka: murmur2 with the sign bit cleared, modulo).

    Raises ValueError for a key of more than 32 bytes: students' keys have at most 20.
    """
    if count == 1 or not keys:
        return np.zeros(len(keys), np.int64)
    return (_murmur2(keys) & np.uint32(0x7FFFFFFF)).astype(np.int64) % count


def _murmur2(keys: list[bytes]) -> Uint32s:
    length = np.fromiter(map(len, keys), np.int64, len(keys))
    if length.max() > 32:
        raise ValueError("keys of students have at most 20 bytes")
    # numpy pads with zero bytes: words after a key's end are ignored below, and the last one is padded as murmur2 does
    padded = np.array(keys, "S36").view(np.uint8).reshape(len(keys), 36)
    words = padded.view("<u4")
    h = _SEED ^ length.astype(np.uint32)
    for i in range(8):
        full = length >= 4 * (i + 1)
        if not full.any():
            break
        k = words[:, i] * _M
        k = (k ^ (k >> np.uint32(24))) * _M
        h = np.where(full, (h * _M) ^ k, h)
    tail_length = length % 4
    tail = words[np.arange(len(keys)), length // 4]
    h = np.where(tail_length > 0, (h ^ tail) * _M, h)
    h = (h ^ (h >> np.uint32(13))) * _M
    return h ^ (h >> np.uint32(15))
