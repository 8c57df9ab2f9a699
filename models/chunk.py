"""A chunk: the records that one fetch returned for one topic partition, in columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from models.rules import NEVER, Int64s

#: one record's headers, as in Kafka: ordered, names may repeat
Headers = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class RefusedRange:
    """A record batch whose records are not in the chunk, since they could not be read."""

    #: its first offset, and the one behind its last
    first: int
    next_offset: int
    why: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """Records of one topic partition, in log order; possibly none.

    Offsets increase but need not be contiguous (compaction, transactions): they are carried,
    never derived.
    """

    topic: str
    partition: int
    #: offset of each record [n]
    offsets: Sequence[int] | Int64s
    #: key bytes of each record [n]
    keys: Sequence[bytes | None]
    #: value bytes of each record [n]
    values: Sequence[bytes | None]
    #: the offset at which this chunk was fetched: it holds everything from `start` up to `next_offset`
    start: int
    #: the next offset to fetch
    next_offset: int
    #: the partition's last stable offset at the time of the fetch; `next_offset` < `end`: a backlog
    end: int
    #: headers of each record [n], or None if no record has any
    headers: Sequence[Headers] | None = None
    #: size of the record batches it was read from [bytes]
    nbytes: int = 0
    #: the newest event time known before the broker was asked for `end`, if everything up to it has been delivered
    #: (SourceRange.as_of) [ms]; NEVER: unknown
    as_of: int = NEVER
    #: record batches that could not be read, in order
    refused: Sequence[RefusedRange] = ()

    def __len__(self) -> int:
        return len(self.offsets)

    def concat(self, later: Chunk) -> Chunk:
        """This chunk followed by `later`, which begins where this one ends. Copies into lists: for few records."""
        headers: list[Headers] | None = None
        if self.headers is not None or later.headers is not None:
            headers = [*(self.headers or [()] * len(self)), *(later.headers or [()] * len(later))]
        return replace(
            self,
            offsets=[*self.offsets, *later.offsets],
            keys=[*self.keys, *later.keys],
            values=[*self.values, *later.values],
            headers=headers,
            next_offset=later.next_offset,
            end=later.end,
            nbytes=self.nbytes + later.nbytes,
            as_of=max(self.as_of, later.as_of),
            refused=(*self.refused, *later.refused),
        )

    def unreadable(self, but: str) -> str | None:
        """Return what to say of the first record batch that could not be read; None if there is none.

        but: why that matters.
        """
        if not self.refused:
            return None
        first = self.refused[0]
        return (
            f"topic {self.topic} partition {self.partition}: the record batch at offset {first.first} cannot be read "
            f"({first.why}), and {but}"
        )

    @property
    def lagging(self) -> bool:
        """Whether the partition holds more than has been fetched."""
        return self.next_offset < self.end
