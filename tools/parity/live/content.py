"""What a topic held when it was read: the last row of each key, and every record's fingerprint."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeAlias

import numpy as np

from models.rules import Int64s

Key: TypeAlias = "bytes | None"
#: value and record timestamp [ms] of a key's last record; a deleted key has none
Table: TypeAlias = "dict[Key, tuple[bytes, int]]"


class Record(Protocol):
    """As much of aiokafka's record as is looked at."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class Trail:
    """The records of one partition in order, as fingerprints: 32 bytes a record. Mutable: `add`.

    Fingerprints are Python's 64-bit hashes, good within one process: that two different rows look the
    same is as likely as a wrong CRC is rare (2⁻⁶⁴ a pair), and tables are compared by their bytes.
    """

    def __init__(self) -> None:
        #: fingerprints of key, of value (TOMBSTONE for none), of timestamp and headers [n]; offsets [n]
        self.keys, self.values, self.stamps, self.offsets = (array("q") for _ in range(4))

    def __len__(self) -> int:
        return len(self.offsets)

    def add(self, records: Sequence[Record]) -> None:
        """Go on with `records`."""
        self.keys.extend([hash(r.key) for r in records])
        self.values.extend([hash(r.value) for r in records])
        self.stamps.extend([hash((r.timestamp, tuple(r.headers))) for r in records])
        self.offsets.extend([r.offset for r in records])

    def is_whole(self) -> bool:
        """Whether nothing seems to be gone: the first record is there, and no hole wider than a commit's marker.

        Compaction takes single records too; but hardly ever only such, and never the first one last.
        """
        offsets = np.frombuffer(self.offsets, np.int64) if len(self) else np.empty(0, np.int64)
        return len(self) == 0 or bool(offsets[0] == 0 and np.diff(offsets).max(initial=1) <= 2)


#: fingerprint of no value
TOMBSTONE = hash(None)


class Content:
    """Mutable: `add` what is read."""

    def __init__(self) -> None:
        self.table: Table = {}
        #: by partition
        self.trails: dict[int, Trail] = {}
        #: whether the broker stamps the records with its own clock (message.timestamp.type=LogAppendTime)
        self.stamped_by_broker = False

    @property
    def records(self) -> int:
        """Records read, tombstones too."""
        return sum(map(len, self.trails.values()))

    def add(self, partition: int, records: Sequence[Record]) -> None:
        """Records of a partition, in order, after those before."""
        if not records:
            return
        self.trails.setdefault(partition, Trail()).add(records)
        self.stamped_by_broker |= records[-1].timestamp_type == 1
        table = self.table
        for r in records:
            if r.value is None:
                table.pop(r.key, None)
            else:
                table[r.key] = (r.value, r.timestamp)

    def strays(self) -> list[Key]:
        """Keys of the table that have records in more than one partition: which of them is last, nobody knows."""
        several = _in_several(np.frombuffer(t.keys, np.int64) for t in self.trails.values() if len(t))
        return [key for key in self.table if hash(key) in several] if several else []


def _in_several(parts: Iterable[Int64s]) -> set[int]:
    distinct = [np.unique(part) for part in parts]
    if len(distinct) < 2:
        return set()
    found, times = np.unique(np.concatenate(distinct), return_counts=True)
    return set(found[times > 1].tolist())
