"""A column of byte strings in one buffer, like Arrow's binary arrays: no Python object per string until it is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.rules import Bools, Int64s
from models.varints import PAD


@dataclass(frozen=True, slots=True, eq=False)
class BinaryColumn(Sequence[bytes | None]):
    """Byte strings and nulls."""

    #: ends with PAD
    buffer: bytes
    #: where each string starts and ends in the buffer [n]; a null ends before it starts
    start: Int64s
    stop: Int64s

    @classmethod
    def of(cls, strings: Sequence[bytes]) -> BinaryColumn:
        """Copy `strings` [n] into one buffer. Raises TypeError for a null."""
        stop = np.cumsum(np.fromiter(map(len, strings), np.int64, len(strings)))
        start = np.zeros_like(stop)
        start[1:] = stop[:-1]
        return cls(b"".join([*strings, PAD]), start, stop)

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.take(index)
        start, stop = int(self.start[index]), int(self.stop[index])
        return None if stop < start else self.buffer[start:stop]

    def __iter__(self) -> Iterator[bytes | None]:
        buffer = self.buffer
        for start, stop in zip(self.start.tolist(), self.stop.tolist(), strict=True):
            yield None if stop < start else buffer[start:stop]

    def is_valid(self) -> Bools:
        """Which strings are not null [n]."""
        return self.stop >= self.start

    def take(self, rows: Int64s | Bools | slice) -> BinaryColumn:
        """The strings at `rows` (indices, a mask or a slice), without copying the buffer."""
        return BinaryColumn(self.buffer, self.start[rows], self.stop[rows])
