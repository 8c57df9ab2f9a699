"""Byte strings that lie in one buffer: no object a string until somebody asks for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.rules import Bools, Int64s
from models.varints import PAD


@dataclass(frozen=True, slots=True, eq=False)
class BinaryColumn(Sequence[bytes | None]):
    """Strings of one buffer, some of them none."""

    #: ends with PAD
    buffer: bytes
    #: where each string starts and ends [n]; one that ends before it starts is none
    start: Int64s
    stop: Int64s

    @classmethod
    def of(cls, strings: Sequence[bytes]) -> BinaryColumn:
        """Lay `strings` [n] one after another; raises TypeError where one is none."""
        stop = np.cumsum(np.fromiter(map(len, strings), np.int64, len(strings)))
        start = np.zeros_like(stop)
        start[1:] = stop[:-1]
        return cls(b"".join([*strings, PAD]), start, stop)

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, index: Any) -> Any:
        start, stop = int(self.start[index]), int(self.stop[index])
        return None if stop < start else self.buffer[start:stop]

    def __iter__(self) -> Iterator[bytes | None]:
        buffer = self.buffer
        for start, stop in zip(self.start.tolist(), self.stop.tolist(), strict=True):
            yield None if stop < start else buffer[start:stop]

    def is_valid(self) -> Bools:
        """Which strings are not none [n]."""
        return self.stop >= self.start

    def take(self, rows: Int64s | Bools) -> BinaryColumn:
        """The strings at `rows` (indices or a mask), in the same buffer."""
        return BinaryColumn(self.buffer, self.start[rows], self.stop[rows])
