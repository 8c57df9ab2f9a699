"""Dead letters: records that could not be used, with their origin and the reason."""

from __future__ import annotations

from dataclasses import dataclass

from codec.record import Row
from models import headers
from models.chunk import Chunk, Headers, RefusedRange

#: a dead letter holds at most this much of its record [bytes]: more does not fit a record batch
MAX_BYTES = 800_000


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
        """Key and value unchanged; headers with the origin and the reason, then the record's own headers.

        Of a record above MAX_BYTES only the beginning of the value is kept, and the header `dead-letter.truncated`
        says how large it was [bytes]; the source topic has the whole.
        """
        origin = [
            ("dead-letter.topic", self.topic.encode()),
            ("dead-letter.partition", b"%d" % self.partition),
            ("dead-letter.offset", b"%d" % self.offset),
            ("dead-letter.reason", self.reason.encode()),
            ("dead-letter.detail", self.detail.encode("utf-8", "replace")),
        ]
        # a record with neither key nor value cannot be written in a batch; an empty value stands for both
        value = b"" if self.key is None and self.value is None else self.value
        nbytes = len(self.key or b"") + len(value or b"") + headers.size(self.headers)
        if nbytes <= MAX_BYTES:
            return (None, self.key, value, [*origin, *self.headers])
        origin.append(("dead-letter.truncated", b"%d" % nbytes))
        key = None if self.key is None else self.key[: MAX_BYTES // 2]
        return (None, key, (value or b"")[: MAX_BYTES // 2], origin)
