"""Dead letters: records that could not be used, kept with where they came from and why."""

from __future__ import annotations

from dataclasses import dataclass

from codec.record import Row
from models.chunk import Chunk, Headers


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
        """The letter for record `index` of a chunk."""
        headers = () if chunk.headers is None else chunk.headers[index]
        offset = int(chunk.offsets[index])
        return cls(
            chunk.topic, chunk.partition, offset, reason, detail, chunk.keys[index], chunk.values[index], headers
        )

    def __str__(self) -> str:
        why = f"{self.reason}: {self.detail}" if self.detail else self.reason
        return f"skipped a record of topic {self.topic} partition {self.partition} offset {self.offset}: {why}"

    @property
    def row(self) -> Row:
        """Key and value as they came; the origin and the reason in headers, before the record's own."""
        origin = [
            ("dead-letter.topic", self.topic.encode()),
            ("dead-letter.partition", b"%d" % self.partition),
            ("dead-letter.offset", b"%d" % self.offset),
            ("dead-letter.reason", self.reason.encode()),
            ("dead-letter.detail", self.detail.encode("utf-8", "replace")),
        ]
        # a record without key and value cannot be batched: an empty value says the same here
        value = b"" if self.key is None and self.value is None else self.value
        return (None, self.key, value, [*origin, *self.headers])
