"""A chunk: the records that one fetch returned for one topic partition, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from models.rules import Int64s

#: one record's headers, as Kafka keeps them: ordered, a name may stand twice
Headers = Sequence[tuple[str, bytes | None]]


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
    #: the offset this chunk was fetched at: everything from `start` up to `position` is in it
    start: int
    #: the next offset to fetch
    next_offset: int
    #: the partition's last stable offset when this was fetched; `position` < `end`: a backlog
    end: int
    #: headers of each record [n], or None where no record has any
    headers: Sequence[Headers] | None = None
    #: bytes of the record batches it was read from
    octets: int = 0

    def __len__(self) -> int:
        return len(self.offsets)

    def and_then(self, later: Chunk) -> Chunk:
        """What both hold, one after the other, of which `later` begins where this one ends. For few records."""
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
            octets=self.octets + later.octets,
        )

    @property
    def lagging(self) -> bool:
        """Whether the partition holds more than has been fetched."""
        return self.next_offset < self.end
