"""Run a worker under a steady load and check that its memory does not grow.

Sends a log with late rows at a constant rate, samples memory, open files and lag, and finally compares every output
row with the expected one. Prints one line of JSON on stdout. Exit code 1 if memory grew by more than a tenth from the
second quarter to the last, or a row is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from pathlib import Path

from app.settings import Settings
from bench.environment import SAME_WORK, stderr_console, temporary_servers
from bench.procfs import peak_mb, resident_mb
from tools.e2e.chaos.feeder import Feeder
from tools.e2e.chaos.verdict import output_differences
from tools.e2e.chaos.workload import generate_workload
from tools.e2e.oracle import expected_tables
from tools.e2e.read_topic import read_outputs
from tools.e2e.workers import Worker

PARTITIONS = 4
#: interval between samples [s]
SAMPLE_S = 5.0
#: tolerated growth of memory from the second quarter to the last [fraction]
MAX_GROWTH = 0.1


def main(minutes: float, rate: float, seed: int) -> int:
    """Run the benchmark and return the exit code."""
    console = stderr_console()
    with temporary_servers("soak") as (servers, directory):
        variables = {**servers.settings, **SAME_WORK, "RISK_APP_ID": "soak", "RISK_DATADIR": str(directory / "data")}
        settings = Settings.from_env(variables)
        rows = generate_workload(seed, round(rate * minutes * 60), minutes * 60)
        feeder = Feeder(settings, rows, minutes * 60, PARTITIONS)
        feeder.start()
        while not feeder.sent:
            time.sleep(0.1)
        samples: list[tuple[float, int, int]] = []
        began = time.monotonic()
        with Worker(variables, directory / "worker.log") as worker:
            worker.wait(lambda stats: stats["problem"] is None, timeout=60)
            while not feeder.done:
                time.sleep(SAMPLE_S)
                files = len(list(Path(f"/proc/{worker.process.pid}/fd").iterdir()))
                lag = sum((worker.stats() or {"lag": {}})["lag"].values())
                samples.append((resident_mb(worker.process.pid), files, lag))
                if len(samples) % 12 == 0:
                    elapsed_s = time.monotonic() - began
                    console.print(f"{elapsed_s:6.0f} s  {samples[-1][0]:.0f} MB  {files} files  lag {lag}")
            worker.wait_idle(timeout=120)
            peak = peak_mb(worker.process.pid)
        topics = asyncio.run(read_outputs(settings))
        truth = expected_tables(zip(rows.userid.tolist(), rows.at.tolist(), strict=True))
        wrong = output_differences(truth, topics)
    quarter = max(1, len(samples) // 4)
    early, late = (
        statistics.median(mb for mb, _, _ in part) for part in (samples[quarter : 2 * quarter], samples[-quarter:])
    )
    steady = late <= early * (1 + MAX_GROWTH)
    figures = {
        "minutes": minutes,
        "events": len(rows),
        "rss_mb_second_quarter": round(early, 1),
        "rss_mb_last_quarter": round(late, 1),
        "peak_mb": round(peak),
        "files_max": max(files for _, files, _ in samples),
        "lag_max": max(lag for _, _, lag in samples),
        "steady": steady,
        "exact": not wrong,
    }
    for line in wrong:
        console.print(line)
    print(json.dumps(figures))
    return 0 if steady and not wrong else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="duration of the load")
    parser.add_argument("--rate", type=float, default=500.0, help="events per second")
    parser.add_argument("--seed", type=int, default=1, help="seed of the log")
    arguments = parser.parse_args()
    sys.exit(main(arguments.minutes, arguments.rate, arguments.seed))
