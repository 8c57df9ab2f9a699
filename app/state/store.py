"""RocksDB under Faust's table: a copy of the changelog that is removed and rebuilt if it is damaged."""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path
from typing import Any, NoReturn, cast

import rocksdict
from faust.stores import rocksdb
from faust.types import TP

from app.errors import DamagedDatabase

log = logging.getLogger(__name__)

#: parts of RocksDB's errors that do not mean damage: database in use, disk full, no rights
_NOT_DAMAGE = (
    *("while lock file", "lock hold", "resource temporarily unavailable"),
    *("no space left", "permission denied", "read-only file system", "too many open files"),
)

#: how long a database may be closed [s]. One that lacks tombstones which Kafka has dropped by now (delete.retention.ms,
#: 24 h by default) would keep what was deleted: students who were forgotten, and those who moved when the app grew
_CLOSED_S = 23 * 3600.0

#: write buffers and block cache of each partition's database [bytes]; Faust's defaults are three buffers of 64 MiB and
#: a cache of 2 GiB
_BUFFER_BYTES, _BUFFERS, _CACHE_BYTES = 8 << 20, 2, 8 << 20
#: maximum number of open files per database
_OPEN_FILES = 1_000
#: bloom filter of each file [bits per key]: one false positive in a hundred
_BLOOM_BITS = 10
#: size of the bloom filter of each write buffer, as a share of the buffer
_BUFFER_BLOOM = 0.1


class Options(rocksdb.RocksDBOptions):
    """RocksDB's options for lookups by key, most of which find nothing or one record in one of many files."""

    def as_options(self) -> rocksdict.Options:
        """Return the options; RocksDB's defaults for all others."""
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_max_open_files(_OPEN_FILES)
        options.set_write_buffer_size(_BUFFER_BYTES)
        options.set_max_write_buffer_number(_BUFFERS)
        options.set_memtable_whole_key_filtering(True)
        options.set_memtable_prefix_bloom_ratio(_BUFFER_BLOOM)
        files = rocksdict.BlockBasedOptions()
        files.set_bloom_filter(_BLOOM_BITS, block_based=False)
        files.set_block_cache(rocksdict.Cache(_CACHE_BYTES))
        options.set_block_based_table_factory(files)
        return options


class Store(rocksdb.Store):
    """Faust's RocksDB store, which removes databases that it cannot trust."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rocksdb_options = Options()

    def _open_for_partition(self, partition: int) -> Any:
        """Open one partition's database; replace one that is damaged by an empty one.

        Recovery finds no offset in an empty database, and reads the whole changelog.
        """
        path = self.partition_path(partition)
        if self._mark(partition).exists():
            self._remove(partition, "an earlier run found it damaged")
        elif (closed_s := _closed_s(path)) > _CLOSED_S:
            self._remove(partition, f"closed for {closed_s / 3600:.0f} h, it may lack deletions", logging.WARNING)
        tables = {file.name for file in path.glob("*.sst")}
        try:
            database = super()._open_for_partition(partition)
        except Exception as error:  # rocksdict raises no subclass
            if not path.exists() or not _is_damage(error):
                raise
            self._remove(partition, str(error))
            return super()._open_for_partition(partition)
        # RocksDB takes a truncated manifest for an older one: it drops the last tables, but reads the offset from the
        # write-ahead log behind them. A kill during a flush has the same effect, and costs a rebuild
        if lost := tables - {file["name"].lstrip("/") for file in database.live_files()}:
            database.close()
            self._remove(partition, f"its manifest does not list {', '.join(sorted(lost))}")
            return super()._open_for_partition(partition)
        return database

    def database(self, partition: int) -> rocksdict.Rdict:
        """Return one partition's database, opened if needed."""
        return cast(rocksdict.Rdict, self._db_for_partition(partition))

    def close(self) -> None:
        """Drop all databases, which closes those that nothing else refers to."""
        self._dbs.clear()

    def persisted_offset(self, tp: TP) -> int | None:
        """Return the changelog offset that this partition's records reach. Raises DamagedDatabase."""
        try:
            return super().persisted_offset(tp)
        except Exception as error:  # rocksdict raises no subclass
            self.fail(tp.partition, error)

    def fail(self, partition: int, error: Exception) -> NoReturn:
        """Mark a database whose read or write failed, so that the next start removes it.

        Raises DamagedDatabase; `error` itself if it does not mean damage.
        """
        if not _is_damage(error):
            raise error
        self._mark(partition).touch()
        path = self.partition_path(partition)
        raise DamagedDatabase(
            f"{path} is damaged and will be rebuilt from the changelog at the next start: {error}"
        ) from error

    def _remove(self, partition: int, why: str, level: int = logging.ERROR) -> None:
        path = self.partition_path(partition)
        log.log(level, "removing %s, to be rebuilt from the changelog: %s", path, why)
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)  # if it is a file
        self._mark(partition).unlink(missing_ok=True)

    def _mark(self, partition: int) -> Path:
        path = self.partition_path(partition)
        return path.with_name(f"{path.name}.damaged")


def _closed_s(path: Path) -> float:
    """Return for how long a database has been closed [s], to ten minutes: RocksDB writes into its log while it is open.

    0 if there is none.
    """
    return time.time() - max((entry.stat().st_mtime for entry in path.glob("*")), default=time.time())


def _is_damage(error: Exception) -> bool:
    text = str(error).lower()
    return not any(part in text for part in _NOT_DAMAGE)
