"""Dead letters: records that could not be used, with their origin and the reason."""

from __future__ import annotations

from dataclasses import dataclass

from codec.record import Row
from models.chunk import Chunk, Headers, RefusedRange


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One unusable record."""

    topic: str
    partition: int
    offset: int
    reason: str
    detail: str
    key: bytes | None
    value: bytes | None
    headers: Headers

    @classmethod
    def of(cls, chunk: Chunk, index: int, reason: str, detail: str) -> DeadLetter:
        """Make the dead letter of record `index` of a chunk."""
        headers = () if chunk.headers is None else chunk.headers[index]
        offset = int(chunk.offsets[index])
        return cls(
            chunk.topic, chunk.partition, offset, reason, detail, chunk.keys[index], chunk.values[index], headers
        )

    @classmethod
    def of_batch(cls, chunk: Chunk, batch: RefusedRange) -> DeadLetter:
        """Make the dead letter of a record batch that could not be read: its offsets, not its content."""
        detail = f"record batch of offsets {batch.first} to {batch.next_offset - 1}: {batch.why}"
        return cls(chunk.topic, chunk.partition, batch.first, "unreadable-batch", detail, None, None, ())

    def __str__(self) -> str:
        why = f"{self.reason}: {self.detail}" if self.detail else self.reason
        return f"skipped a record of topic {self.topic} partition {self.partition} offset {self.offset}: {why}"

    @property
    def row(self) -> Row:
        """Key and value unchanged; headers with the origin and the reason, then the record's own headers."""
        origin = [
            ("dead-letter.topic", self.topic.encode()),
            ("dead-letter.partition", b"%d" % self.partition),
            ("dead-letter.offset", b"%d" % self.offset),
            ("dead-letter.reason", self.reason.encode()),
            ("dead-letter.detail", self.detail.encode("utf-8", "replace")),
        ]
        # a record with neither key nor value cannot be written in a batch; an empty value stands for both
        value = b"" if self.key is None and self.value is None else self.value
        return (None, self.key, value, [*origin, *self.headers])
