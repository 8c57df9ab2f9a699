"""RocksDB is a copy of the changelog: damaged files are removed with a log line, files in use are not."""

from __future__ import annotations

import gc
import logging
import os
import random
import shutil
import time
from pathlib import Path

import pytest
from faust.types import TP

from app.errors import DamagedDatabase
from app.settings import Settings
from app.state.store import Store
from app.state.table import StateTable
from app.topology import declare
from tools.e2e.chaos.actions import damage_file

RECORDS = {b"%d" % n: bytes([n % 251]) * 50 for n in range(3_000)}


def opened(directory: Path) -> StateTable:
    """Open the table of students in a data directory, as a worker does at its start."""
    table = declare(Settings(datadir=directory)).tables["students"]
    assert isinstance(table, StateTable)
    assert isinstance(table.data, Store)
    return table


def store_of(table: StateTable) -> Store:
    assert isinstance(table.data, Store)
    return table.data


def directory_of(table: StateTable) -> Path:
    """Return the directory of the database of partition 0."""
    return store_of(table).partition_path(0)


def offset(table: StateTable) -> int | None:
    return table.data.persisted_offset(TP(table.changelog, 0))


def filled(directory: Path) -> Path:
    """Write a database with records up to offset 7 and close it; return its directory."""
    table = opened(directory)
    for start in range(0, 3_000, 1_000):
        table.write(0, dict(list(RECORDS.items())[start : start + 1_000]), 5 + start // 1_000)
    store_of(table).database(0).flush()
    path = directory_of(table)
    store_of(table).close()
    gc.collect()
    return path


def test_records_are_read_after_a_restart(tmp_path: Path) -> None:
    filled(tmp_path)
    table = opened(tmp_path)
    assert offset(table) == 7
    assert table.read(0, [b"7", b"none", b"2999"]) == [RECORDS[b"7"], None, RECORDS[b"2999"]]


def test_memory_is_bounded_and_lookups_are_filtered(tmp_path: Path) -> None:
    """The options are read from RocksDB's own options file."""
    path = filled(tmp_path)
    options = max(path.glob("OPTIONS-*"), key=lambda file: file.stat().st_mtime_ns).read_text()
    for option in (
        "write_buffer_size=8388608",
        "max_write_buffer_number=2",
        "filter_policy=bloomfilter",
        "memtable_whole_key_filtering=true",
        "memtable_prefix_bloom_size_ratio=0.1",
    ):
        assert option in options


@pytest.mark.parametrize(("hours", "kept"), [(22, True), (25, False)])
def test_a_database_that_may_lack_deletions_is_replaced(
    hours: int, kept: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Kafka drops tombstones after a day: who was forgotten meanwhile would come back from a place left for days."""
    path = filled(tmp_path)
    for file in path.iterdir():
        os.utime(file, (time.time() - 3600 * hours,) * 2)
    table = opened(tmp_path)
    assert offset(table) == (7 if kept else None)
    assert table.read(0, [b"7"]) == [RECORDS[b"7"] if kept else None]
    line = f"removing {path}, to be rebuilt from the changelog: closed for 25 h, it may lack deletions"
    assert [record.getMessage() for record in caplog.records] == ([] if kept else [line])


@pytest.mark.parametrize("name", ["CURRENT", "MANIFEST", ".sst"])
@pytest.mark.parametrize("how", ["removed", "overwritten"])
def test_a_database_that_cannot_be_opened_is_replaced(
    tmp_path: Path, name: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = filled(tmp_path)
    (file, *_) = [entry for entry in sorted(path.iterdir()) if name in entry.name]
    file.unlink() if how == "removed" else file.write_bytes(b"\x7fgarbage" * 20)
    with caplog.at_level(logging.ERROR):
        table = opened(tmp_path)
        assert offset(table) is None  # so recovery reads the changelog from its beginning
    assert table.read(0, [b"7"]) == [None]
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"removing {path}, to be rebuilt from the changelog: ")


def test_a_truncated_manifest_is_not_taken_for_an_older_state(tmp_path: Path) -> None:
    """RocksDB takes it for complete, drops the tables that it does not list, and applies the log behind them."""
    table = opened(tmp_path / "killed")
    records = list(RECORDS.items())
    table.write(0, dict(records[:1_000]), 5)
    store_of(table).database(0).flush()
    table.write(0, dict(records[1_000:2_000]), 6)
    (manifest,) = directory_of(table).glob("MANIFEST*")
    replaced = 0
    for size in range(manifest.stat().st_size, 0, -7):
        copy = tmp_path / str(size)
        shutil.copytree(tmp_path / "killed", copy)
        os.truncate(copy / manifest.relative_to(tmp_path / "killed"), size)
        again = opened(copy)
        complete = offset(again) == 6
        replaced += not complete
        assert offset(again) == (6 if complete else None)
        assert again.read(0, [key for key, _ in records[:2_000]]) == [
            value if complete else None for _, value in records[:2_000]
        ]
    assert replaced > 10


def test_a_file_in_place_of_the_directory_is_removed(tmp_path: Path) -> None:
    path = filled(tmp_path)
    for file in path.iterdir():
        file.unlink()
    path.rmdir()
    path.write_text("no database")
    assert offset(opened(tmp_path)) is None


def test_a_database_in_use_is_left_alone(tmp_path: Path) -> None:
    filled(tmp_path)
    first, second = opened(tmp_path), opened(tmp_path)
    assert offset(first) == 7
    with pytest.raises(Exception, match=r"(?i)lock"):
        store_of(second).database(0)
    assert first.read(0, [b"7"]) == [RECORDS[b"7"]]


def test_damage_found_while_reading_ends_the_worker_and_the_next_start_rebuilds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A block's checksum is verified only when it is read: without a mark every start would fail."""
    path = filled(tmp_path)
    (sst, *_) = path.glob("*.sst")
    raw = bytearray(sst.read_bytes())
    raw[100:2_000] = bytes(1_900)
    sst.write_bytes(raw)
    table = opened(tmp_path)
    assert offset(table) == 7
    with pytest.raises(DamagedDatabase, match=r"will be rebuilt from the changelog at the next start: Corruption"):
        table.read(0, list(RECORDS))
    store_of(table).close()
    gc.collect()
    again = opened(tmp_path)
    assert offset(again) is None
    assert again.read(0, [b"7"]) == [None]
    assert "an earlier run found it damaged" in caplog.text


@pytest.mark.parametrize("message", ["IO error: No space left on device", "IO error: While lock file: x/LOCK"])
def test_other_errors_do_not_mean_damage(tmp_path: Path, message: str) -> None:
    path = filled(tmp_path)
    table = opened(tmp_path)
    with pytest.raises(OSError, match=message):
        store_of(table).fail(0, OSError(message))
    assert not path.with_name(f"{path.name}.damaged").exists()


@pytest.mark.parametrize("seed", range(12))
def test_records_of_damaged_files_are_right_or_refused(tmp_path: Path, seed: int) -> None:
    """A store returns no wrong record: all it returns was written, and is complete up to the offset."""
    draw = random.Random(seed)
    path = filled(tmp_path)
    files = sorted(file for file in path.iterdir() if file.is_file())
    for file in draw.sample(files, 2):
        damage_file(file, draw)
    table = opened(tmp_path)
    try:
        reached = offset(table)
        read = table.read(0, list(RECORDS))
    except DamagedDatabase:
        return
    complete = 0 if reached is None else 1_000 * (reached - 4)
    assert read[:complete] == list(RECORDS.values())[:complete]
    assert set(read[complete:]) <= {None}
