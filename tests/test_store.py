"""RocksDB is a copy of the changelog: files that are damaged are removed and said so, files in use are not."""

from __future__ import annotations

import gc
import logging
import os
import random
import shutil
from pathlib import Path

import pytest
from faust.types import TP

from app.errors import DamagedDatabase
from app.settings import Settings
from app.state.store import Store
from app.state.table import StateTable
from app.topology import declare
from tools.e2e.chaos.actions import spoil

RECORDS = {b"%d" % n: bytes([n % 251]) * 50 for n in range(3_000)}


def opened(directory: Path) -> StateTable:
    """The table of students in a data directory, as a worker that has just started has it."""
    table = declare(Settings(datadir=directory)).tables["students"]
    assert isinstance(table, StateTable)
    assert isinstance(table.data, Store)
    return table


def database(table: StateTable) -> Path:
    assert isinstance(table.data, Store)
    return table.data.partition_path(0)


def offset(table: StateTable) -> int | None:
    return table.data.persisted_offset(TP(table.changelog, 0))


def filled(directory: Path) -> Path:
    """A closed database with records up to offset 7; where it is."""
    table = opened(directory)
    for start in range(0, 3_000, 1_000):
        table.write(0, dict(list(RECORDS.items())[start : start + 1_000]), 5 + start // 1_000)
    table._database(0).flush()
    path = database(table)
    table.data._dbs.clear()
    gc.collect()
    return path


def test_a_whole_one_is_read_again(tmp_path: Path) -> None:
    filled(tmp_path)
    again = opened(tmp_path)
    assert offset(again) == 7
    assert again.read(0, [b"7", b"none", b"2999"]) == [RECORDS[b"7"], None, RECORDS[b"2999"]]


def test_memory_is_bounded_and_lookups_are_filtered(tmp_path: Path) -> None:
    """What RocksDB itself says it was opened with."""
    path = filled(tmp_path)
    said = max(path.glob("OPTIONS-*"), key=lambda file: file.stat().st_mtime_ns).read_text()
    for option in (
        "write_buffer_size=8388608",
        "max_write_buffer_number=2",
        "filter_policy=bloomfilter",
        "memtable_whole_key_filtering=true",
        "memtable_prefix_bloom_size_ratio=0.1",
    ):
        assert option in said


@pytest.mark.parametrize("name", ["CURRENT", "MANIFEST", ".sst"])
@pytest.mark.parametrize("how", ["removed", "rubbish"])
def test_one_that_cannot_be_opened_is_removed_and_begun_anew(
    tmp_path: Path, name: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = filled(tmp_path)
    (file, *_) = [one for one in sorted(path.iterdir()) if name in one.name]
    file.unlink() if how == "removed" else file.write_bytes(b"\x7frubbish" * 20)
    with caplog.at_level(logging.ERROR):
        table = opened(tmp_path)
        assert offset(table) is None  # so recovery reads the changelog from its beginning
    assert table.read(0, [b"7"]) == [None]
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"{path} is removed, and rebuilt from the changelog: ")


def test_a_manifest_that_was_cut_off_is_no_older_state(tmp_path: Path) -> None:
    """RocksDB takes it for whole, drops the tables it has not heard of, and applies the log behind them."""
    table = opened(tmp_path / "killed")
    records = list(RECORDS.items())
    table.write(0, dict(records[:1_000]), 5)
    table._database(0).flush()
    table.write(0, dict(records[1_000:2_000]), 6)
    (manifest,) = database(table).glob("MANIFEST*")
    refused = 0
    for size in range(manifest.stat().st_size, 0, -7):
        copy = tmp_path / str(size)
        shutil.copytree(tmp_path / "killed", copy)
        os.truncate(copy / manifest.relative_to(tmp_path / "killed"), size)
        again = opened(copy)
        whole = offset(again) == 6
        refused += not whole
        assert offset(again) == (6 if whole else None)
        assert again.read(0, [key for key, _ in records[:2_000]]) == [
            value if whole else None for _, value in records[:2_000]
        ]
    assert refused > 10


def test_a_file_in_its_place_is_removed(tmp_path: Path) -> None:
    path = filled(tmp_path)
    for one in path.iterdir():
        one.unlink()
    path.rmdir()
    path.write_text("no database")
    assert offset(opened(tmp_path)) is None


def test_one_that_another_worker_uses_is_left_alone(tmp_path: Path) -> None:
    filled(tmp_path)
    first, second = opened(tmp_path), opened(tmp_path)
    assert offset(first) == 7
    with pytest.raises(Exception, match=r"(?i)lock"):
        second.data._open_for_partition(0)
    assert first.read(0, [b"7"]) == [RECORDS[b"7"]]


def test_damage_found_while_reading_ends_the_worker_and_the_next_start_rebuilds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A block with a wrong checksum is seen only when it is read: without a mark every start would die of it."""
    path = filled(tmp_path)
    (sst, *_) = path.glob("*.sst")
    raw = bytearray(sst.read_bytes())
    raw[100:2_000] = bytes(1_900)
    sst.write_bytes(raw)
    table = opened(tmp_path)
    assert offset(table) == 7
    with pytest.raises(DamagedDatabase, match=r"will be rebuilt from the changelog at the next start: Corruption"):
        table.read(0, list(RECORDS))
    table.data._dbs.clear()
    gc.collect()
    again = opened(tmp_path)
    assert offset(again) is None
    assert again.read(0, [b"7"]) == [None]
    assert "it was found damaged" in caplog.text


@pytest.mark.parametrize("words", ["IO error: No space left on device", "IO error: While lock file: x/LOCK"])
def test_what_is_not_the_files_fault_is_no_damage(tmp_path: Path, words: str) -> None:
    path = filled(tmp_path)
    table = opened(tmp_path)
    assert isinstance(table.data, Store)
    with pytest.raises(OSError, match=words):
        table.data.fail(0, OSError(words))
    assert not path.with_name(f"{path.name}.damaged").exists()


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_spoilt_records_are_right_or_refused(tmp_path: Path, seed: int) -> None:
    """Never a wrong record: what can be read is what was written, up to the offset that is told."""
    draw = random.Random(seed)
    path = filled(tmp_path)
    files = sorted(one for one in path.iterdir() if one.is_file())
    for one in draw.sample(files, 2):
        spoil(one, draw)
    table = opened(tmp_path)
    try:
        told = offset(table)
        found = table.read(0, list(RECORDS))
    except DamagedDatabase:
        return
    whole = 0 if told is None else 1_000 * (told - 4)
    assert found[:whole] == list(RECORDS.values())[:whole]
    assert set(found[whole:]) <= {None}
