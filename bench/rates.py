"""Measure live latency and CPU load at several rates. Prints a table on stderr and one line of JSON on stdout.

A single event costs worker and broker a fixed amount of CPU for all hops. At a low rate the latency is the sum of the
hops; when they fill the machine it is the duration of one round over all partitions, and hardly depends on the rate.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys

from bench.environment import at_least, stderr_console, temporary_servers
from bench.latency import Load
from bench.report import latency
from bench.session import Report, Session


def main() -> int:
    """Measure, print a table and one line of JSON, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.rates", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    number = parser.add_argument
    number("--rates", type=at_least(1), nargs="+", default=[10, 100, 1_000], help="single events per second")
    number("--seconds", type=at_least(1), default=15, metavar="SECONDS", help="duration of the measured load")
    number("--warm-up", type=at_least(0), default=8, metavar="SECONDS", help="load before the measured one")
    number("--partitions", type=at_least(1), default=4, help="partitions of the source topics")
    arguments = parser.parse_args()
    console, results = stderr_console(), Report()
    with temporary_servers("rates") as (servers, directory):
        for rate in arguments.rates:
            session = Session(servers, directory, console, tag=f"rate-{rate}")
            session.run_latency(Load(rate, arguments.seconds, arguments.warm_up, 5_000, arguments.partitions))
            results.latencies += session.report.latencies
    console.print(latency(results))
    print(json.dumps({"latency": [latency.as_dict() for latency in results.latencies]}))
    return 0 if results.exact else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
