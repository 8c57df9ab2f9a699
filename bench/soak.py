"""`python -m bench.soak --minutes 60`: a worker under a steady load, whose memory must not grow.

A log with late rows arrives at `--rate` events a second; memory, open files and lag are looked at all the while; in the
end every row is recounted. JSON last; exits 1 if memory grew by more than a tenth after the first quarter, or a row
is wrong.
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
from bench.environment import console, place
from bench.procfs import peak_mb, resident_mb
from tools.e2e.chaos import verdict
from tools.e2e.chaos.feeder import Feeding
from tools.e2e.chaos.workload import course
from tools.e2e.oracle import recount
from tools.e2e.workers import Worker

PARTITIONS = 4
#: between two looks [s]
LOOK_S = 5.0
#: growth of memory from the second quarter to the last that is still none: [share]
TOLERATED = 0.1


def main(minutes: float, rate: float, seed: int) -> int:
    """Run it."""
    said = console()
    with place("soak", steady=False) as (servers, directory):
        variables = {
            **servers.settings,
            "RISK_APP_ID": "soak",
            "RISK_DATADIR": str(directory / "data"),
        }
        settings = Settings.from_env(variables)
        rows = course(seed, round(rate * minutes * 60), minutes * 60)
        feeding = Feeding(settings, rows, minutes * 60, PARTITIONS)
        feeding.start()
        while not feeding.sent:
            time.sleep(0.1)
        looks: list[tuple[float, int, int]] = []
        began = time.monotonic()
        with Worker(variables, directory / "worker.log") as worker:
            worker.wait(lambda stats: stats["problem"] is None, timeout=60)
            while not feeding.over:
                time.sleep(LOOK_S)
                files = len(list(Path(f"/proc/{worker.process.pid}/fd").iterdir()))
                lag = sum((worker.stats() or {"lag": {}})["lag"].values())
                looks.append((resident_mb(worker.process.pid), files, lag))
                if len(looks) % 12 == 0:
                    said.print(f"{time.monotonic() - began:6.0f} s  {looks[-1][0]:.0f} MB  {files} files  lag {lag}")
            worker.wait_idle(timeout=120)
            peak = peak_mb(worker.process.pid)
        topics = asyncio.run(verdict.outputs(settings.broker, settings.topic_names, settings.topic_prefix))
        truth = recount(zip(rows.userid.tolist(), rows.at.tolist(), strict=True))
        wrong = verdict.wrong_rows(truth, topics)
    quarter = max(1, len(looks) // 4)
    early, late = (
        statistics.median(m for m, _, _ in some) for some in (looks[quarter : 2 * quarter], looks[-quarter:])
    )
    steady = late <= early * (1 + TOLERATED)
    figures = {
        "minutes": minutes,
        "events": len(rows),
        "rss_mb_second_quarter": round(early, 1),
        "rss_mb_last_quarter": round(late, 1),
        "peak_mb": round(peak),
        "files_max": max(files for _, files, _ in looks),
        "lag_max": max(lag for _, _, lag in looks),
        "steady": steady,
        "exact": not wrong,
    }
    for line in wrong:
        said.print(line)
    print(json.dumps(figures))
    return 0 if steady and not wrong else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="default %(default)g")
    parser.add_argument("--rate", type=float, default=500.0, help="events a second, default %(default)g")
    parser.add_argument("--seed", type=int, default=1, help="default %(default)s")
    given = parser.parse_args()
    sys.exit(main(given.minutes, given.rate, given.seed))
