"""`python -m bench.rates`: live latency at several rates, and how busy the machine is with it; JSON last.

A single event through all hops costs a fixed amount of CPU in worker and broker, whatever is in it. So at a low rate
latency is what the hops take one after another; as soon as they fill the machine it is how long a round of them takes,
and then it hardly depends on the rate any more.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from pathlib import Path

from rich.console import Console

import stack
from bench.__main__ import STEADY, WIDTH
from bench.latency import Load
from bench.report import latency
from bench.session import Report, Session


def main() -> int:
    """Measure, print a table and one line of JSON; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.rates", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--rates", type=int, nargs="+", default=[10, 100, 1_000], help="single events a second")
    parser.add_argument("--seconds", type=int, default=15, help="of load that count")
    parser.add_argument("--warm-up", type=int, default=8, help="seconds of load before that")
    parser.add_argument("--partitions", type=int, default=4, help="of the source topics")
    given = parser.parse_args()
    console = Console(stderr=True)
    if not console.is_terminal:
        console.width = WIDTH
    found = Report()
    with tempfile.TemporaryDirectory(prefix="moodle-risk-rates-") as name:
        directory = Path(name)
        os.environ.update(STEADY)
        servers = stack.up(directory / "stack", owner_pid=os.getpid())
        try:
            for rate in given.rates:
                session = Session(servers, directory, console, tag=f"rate-{rate}")
                session.live(Load(rate, given.seconds, given.warm_up, 5_000, given.partitions))
                found.latencies += session.report.latencies
        finally:
            stack.down(directory / "stack")
    console.print(latency(found))
    print(json.dumps({"latency": [one.as_dict() for one in found.latencies]}))
    return 0 if found.exact else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
