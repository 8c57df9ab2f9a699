"""`python -m bench.log_ids`: what RISK_DEDUPLICATE=log-id costs, in time, memory, disk and changelog.

Adds ids to the sets of some visits partitions as flushes of a backlog do: in order, dealt among the partitions at
random; then all of them again. RocksDB is real, Kafka is left out. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import rocksdict

from app.state.caches import CACHED_LOG_IDS
from app.state.store import Options
from bench.procfs import peak_mb
from models import log_ids
from models.rules import Int64s


class Set:
    """The ids of one partition: RocksDB and a bounded cache, as in app/state/caches.py. Mutable."""

    def __init__(self, path: Path) -> None:
        self.database = rocksdict.Rdict(str(path), Options().as_options())
        self.cache: dict[bytes, bytes] = {}
        #: size of the records written [bytes]
        self.written = 0

    def add(self, ids: Int64s) -> int:
        """Add the ids [n] of a flush, and return how many were new."""
        spans = log_ids.spans_of(ids)
        keys = log_ids.keys_of(spans)
        records = [self.cache.get(key) or self.database.get(key) for key in keys]
        before = log_ids.unpack(records)
        added = log_ids.add(ids, spans, before)
        changed = (added.bitmaps != before).any(1)
        new = dict(zip(log_ids.keys_of(spans[changed]), log_ids.pack(added.bitmaps[changed]), strict=True))
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, record in new.items():
            batch.put(key, record)
        self.database.write(batch)
        self.written += sum(map(len, new)) + sum(map(len, new.values()))
        if len(self.cache) + len(new) > CACHED_LOG_IDS:
            self.cache.clear()
        self.cache.update(new)
        return int(added.is_new.sum())


def measure(count: int, partitions: int, batch_rows: int, directory: Path) -> dict[str, float]:
    """Add `count` ids to the sets of `partitions`, twice; return the figures."""
    before_mb = peak_mb()
    sets = [Set(directory / f"{partitions}-{p}") for p in range(partitions)]
    elapsed, new = [0.0, 0.0], [0, 0]
    for turn in range(2):
        for begin in range(1, count + 1, batch_rows * partitions):
            ids = np.arange(begin, min(begin + batch_rows * partitions, count + 1))
            owner = np.random.default_rng(begin).integers(0, partitions, len(ids))
            parts = [ids[owner == p] for p in range(partitions)]
            began = time.process_time()
            new[turn] += sum(one.add(part) for one, part in zip(sets, parts, strict=True))
            elapsed[turn] += time.process_time() - began
    for one in sets:
        one.database.flush()
        one.database.close()
    disk = sum(file.stat().st_size for file in directory.rglob("*.sst"))
    assert new == [count, 0]
    return {
        "ids": count,
        "partitions": partitions,
        "first_us_per_event": round(elapsed[0] / count * 1e6, 2),
        "again_us_per_event": round(elapsed[1] / count * 1e6, 2),
        "memory_mb": round(peak_mb() - before_mb, 1),
        "disk_mb": round(disk / 1e6, 1),
        "changelog_bytes_per_event": round(sum(one.written for one in sets) / count, 2),
    }


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.log_ids", description=__doc__)
    parser.add_argument("--ids", type=int, default=10_000_000)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--batch-rows", type=int, default=40_000, help="ids of a flush, in each partition")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        figures = measure(arguments.ids, arguments.partitions, arguments.batch_rows, Path(directory))
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
