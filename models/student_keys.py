"""Keys of a student's binary records: a letter for the kind of record, and the student's id as 8 bytes, big-endian."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.rules import Int64s

_BYTES = 8


@dataclass(frozen=True, slots=True)
class StudentKeys:
    """The keys of one kind of record; no other record of the table has such a key."""

    #: one byte
    prefix: bytes

    def keys_of(self, students: Int64s) -> list[bytes]:
        """The keys of the records of `students` [u]."""
        raw = students.astype(">i8").tobytes()
        return [self.prefix + raw[i : i + _BYTES] for i in range(0, len(raw), _BYTES)]

    @staticmethod
    def student_of(key: bytes) -> int:
        """The student of a record's key."""
        return int.from_bytes(key[1:], "big", signed=True)

    @staticmethod
    def students_of(keys: Sequence[bytes]) -> Int64s:
        """The students of the records' keys [u]."""
        raw = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 1 + _BYTES)
        return np.ascontiguousarray(raw[:, 1:]).view(">i8").reshape(-1).astype(np.int64)

    def is_key(self, key: bytes) -> bool:
        """Whether the record under `key` is of this kind."""
        return len(key) == 1 + _BYTES and key.startswith(self.prefix)
