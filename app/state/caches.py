"""Records of a partition that are read from memory where they can be: of students, of activity, of log ids.

Each cache is emptied when it is full. What a flush has written is put into them after the store has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from app.state.activity_copy import ActivityCopy
from app.state.partition_store import PartitionStore
from models import activity_records as activities
from models import log_ids as applied_ids
from models import state
from models.activity_records import Packed
from models.log_ids import Bitmaps
from models.murmur2 import keys_of
from models.rules import Int64s
from models.visits import StudentDictionary

K = TypeVar("K")
V = TypeVar("V")

#: maximum number of state records, and of records of activity, cached per partition; RocksDB holds the rest
CACHED_RECORDS = 50_000
#: maximum number of records of log ids cached per partition, of at most 528 B each
CACHED_LOG_IDS = 4_096


class CachedStates:
    """The state records of the students. Mutable."""

    def __init__(self, store: PartitionStore) -> None:
        self._store = store
        #: by student, None for the null student; None instead of a record: the student was forgotten
        self._records: dict[int | None, bytes | None] = {}

    def __len__(self) -> int:
        """Number of records in memory."""
        return len(self._records)

    def read(self, students: StudentDictionary) -> Sequence[bytes | None]:
        """Return the record of each student [u]. Raises StateError for one that is damaged or too new."""
        records = list(map(self._records.get, _cache_keys(students)))
        if None in records:
            missing = [i for i, record in enumerate(records) if record is None]
            stored = self._store.read(keys_of(students.student[missing], students.null[missing]))
            with self._store.locating_errors():
                state.check([r for r in stored if r is not None], state.VERSION, "a state record")
            for i, record in zip(missing, stored, strict=True):
                records[i] = record
        return records

    def update(self, students: StudentDictionary, records: Sequence[bytes | None]) -> None:
        """Keep records that have been written."""
        if len(self._records) + len(records) > CACHED_RECORDS:
            self._records.clear()
        self._records.update(zip(_cache_keys(students), records, strict=True))


class CachedActivity:
    """The records of activity by student, and a copy of all of them for the ticks. Mutable."""

    def __init__(self, store: PartitionStore) -> None:
        self._store = store
        #: by student; None: known to have none
        self._records: dict[int, bytes | None] = {}
        self._copy = ActivityCopy()

    def read(self, students: Int64s) -> Sequence[bytes | None]:
        """Return the record of each of `students` [u]. Raises StateError for one that is damaged or too new."""
        numbers = students.tolist()
        missing = [i for i, student in enumerate(numbers) if student not in self._records]
        if missing:
            stored = self._store.read(activities.keys_of(students[missing]))
            with self._store.locating_errors():
                activities.check([r for r in stored if r is not None])
            read = {numbers[i]: record for i, record in zip(missing, stored, strict=True)}
            _keep(self._records, read, CACHED_RECORDS)
            found = dict(zip(missing, stored, strict=True))
            return [found[i] if i in found else self._records.get(s) for i, s in enumerate(numbers)]
        return [self._records[student] for student in numbers]

    def scan(self, students: int) -> Iterator[Packed]:
        """Yield all records by student, about so many at a time; see ActivityCopy.scan."""
        return self._copy.scan(self._scan_stored(students), students)

    def _scan_stored(self, students: int) -> Iterator[Packed]:
        for keys, values in self._store.scan(activities.PREFIX, students):
            with self._store.locating_errors():
                packed = activities.join(activities.students_of(keys), values, verify=True)
            yield packed

    def update(self, records: Mapping[int, bytes | None]) -> None:
        """Keep records that have been written."""
        _keep(self._records, records, CACHED_RECORDS)
        self._copy.update(records)


class CachedLogIds:
    """The records of the log ids that have been applied. Mutable."""

    def __init__(self, store: PartitionStore) -> None:
        self._store = store
        #: by key
        self._records: dict[bytes, bytes] = {}

    def read(self, spans: Int64s) -> Bitmaps:
        """Return which log ids of each of `spans` [b] have been applied.

        Raises StateError for a record that is damaged or too new.
        """
        keys = applied_ids.keys_of(spans)
        records = [self._records.get(key) for key in keys]
        missing = [i for i, record in enumerate(records) if record is None]
        if missing:
            for i, record in zip(missing, self._store.read([keys[i] for i in missing]), strict=True):
                records[i] = record
        with self._store.locating_errors():
            return applied_ids.unpack(records)

    def update(self, records: Mapping[bytes, bytes]) -> None:
        """Keep records that have been written."""
        _keep(self._records, records, CACHED_LOG_IDS)


def _keep(cached: dict[K, V], records: Mapping[K, V], limit: int) -> None:
    """Add records to a cache of at most `limit`, which is emptied before if they do not fit; too many are not kept."""
    if len(cached) + len(records) > limit:
        cached.clear()
    if len(records) <= limit:
        cached.update(records)


def _cache_keys(students: StudentDictionary) -> list[int | None]:
    keys: list[int | None] = students.student.tolist()
    if len(keys) and students.null[-1]:
        keys[-1] = None
    return keys
