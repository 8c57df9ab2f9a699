"""RocksDB under Faust's table, which is only a copy: damaged, it is removed and read again from the changelog."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any, NoReturn

import rocksdict
from faust.stores import STORES, rocksdb
from faust.types import TP

from app.errors import DamagedDatabase

log = logging.getLogger(__name__)

#: the store's name in URLs; Faust's own is replaced
STORES.aliases["rocksdb"] = "app.state.store:Store"

#: parts of RocksDB's errors that say nothing against the files: used by somebody else, disk full, no rights
_NOT_THE_FILES = (
    *("while lock file", "lock hold", "resource temporarily unavailable"),
    *("no space left", "permission denied", "read-only file system", "too many open files"),
)


#: memory of each partition's database [bytes]; Faust would allow three buffers of 64 MiB and a cache of 2 GiB
_BUFFER, _BUFFERS, _CACHE = 8 << 20, 2, 8 << 20
#: most files of each that are open
_FILES = 1_000
#: a filter in every file: bits a key, one false answer in a hundred. One in front of the buffer: its share of that
_BLOOM_BITS, _BUFFER_BLOOM = 10, 0.1


class Options(rocksdb.RocksDBOptions):
    """RocksDB for records that are looked up by key: mostly there is none yet, or it lies in one file of many."""

    def as_options(self) -> rocksdict.Options:
        """All of them; where nothing is said here, RocksDB's own."""
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_max_open_files(_FILES)
        options.set_write_buffer_size(_BUFFER)
        options.set_max_write_buffer_number(_BUFFERS)
        options.set_memtable_whole_key_filtering(True)
        options.set_memtable_prefix_bloom_ratio(_BUFFER_BLOOM)
        files = rocksdict.BlockBasedOptions()
        files.set_bloom_filter(_BLOOM_BITS, block_based=False)
        files.set_block_cache(rocksdict.Cache(_CACHE))
        options.set_block_based_table_factory(files)
        return options


class Store(rocksdb.Store):
    """Faust's RocksDB store that never stops for what is on its disk."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rocksdb_options = Options()

    def _open_for_partition(self, partition: int) -> Any:
        """Open one partition's database; one that cannot be opened is removed.

        Recovery finds no offset in a new one, and reads the whole changelog.
        """
        path = self.partition_path(partition)
        if self._mark(partition).exists():
            self._remove(partition, "it was found damaged")
        tables = {file.name for file in path.glob("*.sst")}
        try:
            database = super()._open_for_partition(partition)
        except Exception as error:  # rocksdict raises nothing else
            if not path.exists() or not _damage(error):
                raise
            self._remove(partition, str(error))
            return super()._open_for_partition(partition)
        # a manifest that was cut off is taken for an older one: its last tables are dropped, while the offset comes
        # from the write-ahead log behind them. A kill in the middle of a flush looks the same, and costs a rebuild
        if lost := tables - {file["name"].lstrip("/") for file in database.live_files()}:
            database.close()
            self._remove(partition, f"its manifest does not know {', '.join(sorted(lost))}")
            return super()._open_for_partition(partition)
        return database

    def persisted_offset(self, tp: TP) -> int | None:
        """The offset of the changelog this partition's records reach. Raises Damaged."""
        try:
            return super().persisted_offset(tp)
        except Exception as error:  # rocksdict raises nothing else
            self.fail(tp.partition, error)

    def fail(self, partition: int, error: Exception) -> NoReturn:
        """A database that was open could not be read or written: the next start must not trust it.

        Raises Damaged; `error` itself where the files are not to blame.
        """
        if not _damage(error):
            raise error
        self._mark(partition).touch()
        path = self.partition_path(partition)
        raise DamagedDatabase(
            f"{path} is damaged and will be rebuilt from the changelog at the next start: {error}"
        ) from error

    def _remove(self, partition: int, why: str) -> None:
        path = self.partition_path(partition)
        log.error("%s is removed, and rebuilt from the changelog: %s", path, why)
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)  # not a directory at all
        self._mark(partition).unlink(missing_ok=True)

    def _mark(self, partition: int) -> Path:
        path = self.partition_path(partition)
        return path.with_name(f"{path.name}.damaged")


def _damage(error: Exception) -> bool:
    text = str(error).lower()
    return not any(part in text for part in _NOT_THE_FILES)
