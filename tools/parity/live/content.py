"""What was read from a topic: the last row of each key, and a fingerprint of every record."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeAlias

import numpy as np

from models.rules import Int64s

Key: TypeAlias = "bytes | None"
#: value and record timestamp [ms] of each key's last record; deleted keys are absent
Table: TypeAlias = "dict[Key, tuple[bytes, int]]"
#: fingerprint of a null value
TOMBSTONE = hash(None)


class Record(Protocol):
    """The attributes of aiokafka's ConsumerRecord that are compared."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class Fingerprints:
    """The records of one partition in order, as fingerprints: 32 bytes a record. Mutable: `add`.

    Fingerprints are Python's 64-bit hashes, valid within one process. Two different rows have the same
    fingerprint with probability 2⁻⁶⁴; tables are compared by their bytes.
    """

    def __init__(self) -> None:
        #: fingerprints of key, of value (TOMBSTONE for null), of timestamp and headers [n]; offsets [n]
        self.keys, self.values, self.stamps, self.offsets = (array("q") for _ in range(4))

    def __len__(self) -> int:
        return len(self.offsets)

    def add(self, records: Sequence[Record]) -> None:
        """Append `records`."""
        self.keys.extend([hash(r.key) for r in records])
        self.values.extend([hash(r.value) for r in records])
        self.stamps.extend([hash((r.timestamp, tuple(r.headers))) for r in records])
        self.offsets.extend([r.offset for r in records])

    def is_complete(self) -> bool:
        """Return whether the offsets start at 0 and have no gap wider than a transaction marker.

        Compaction can remove single records too, but hardly ever only such, and not without the first one.
        """
        offsets = np.frombuffer(self.offsets, np.int64) if len(self) else np.empty(0, np.int64)
        return len(self) == 0 or bool(offsets[0] == 0 and np.diff(offsets).max(initial=1) <= 2)


class Content:
    """The compacted table of a topic and the fingerprints of its records. Mutable: `add`."""

    def __init__(self) -> None:
        self.table: Table = {}
        self.partitions: dict[int, Fingerprints] = {}
        #: whether the broker sets the records' timestamps (message.timestamp.type=LogAppendTime)
        self.stamped_by_broker = False

    @property
    def records(self) -> int:
        """Number of records read, tombstones included."""
        return sum(map(len, self.partitions.values()))

    def add(self, partition: int, records: Sequence[Record]) -> None:
        """Append the next records of a partition."""
        if not records:
            return
        self.partitions.setdefault(partition, Fingerprints()).add(records)
        self.stamped_by_broker |= records[-1].timestamp_type == 1
        table = self.table
        for r in records:
            if r.value is None:
                table.pop(r.key, None)
            else:
                table[r.key] = (r.value, r.timestamp)

    def keys_in_several_partitions(self) -> list[Key]:
        """Return the keys of the table with records in more than one partition: their last row is undefined."""
        hashes = _in_several(np.frombuffer(f.keys, np.int64) for f in self.partitions.values() if len(f))
        return [key for key in self.table if hash(key) in hashes] if hashes else []


def _in_several(partitions: Iterable[Int64s]) -> set[int]:
    """Return the key fingerprints that occur in more than one partition."""
    distinct = [np.unique(keys) for keys in partitions]
    if len(distinct) < 2:
        return set()
    keys, count = np.unique(np.concatenate(distinct), return_counts=True)
    return set(keys[count > 1].tolist())
