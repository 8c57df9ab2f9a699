"""`python -m bench.rates`: live latency at several rates, and how busy the machine is with it; JSON last.

A single event through all hops costs a fixed amount of CPU in worker and broker, whatever is in it. So at a low rate
latency is what the hops take one after another; as soon as they fill the machine it is how long a round of them takes,
and then it hardly depends on the rate any more.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys

from bench.environment import at_least, console, place
from bench.latency import Load
from bench.report import latency
from bench.session import Report, Session


def main() -> int:
    """Measure, print a table and one line of JSON; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.rates", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    number = parser.add_argument
    number("--rates", type=at_least(1), nargs="+", default=[10, 100, 1_000], help="single events a second")
    number("--seconds", type=at_least(1), default=15, help="of load that count")
    number("--warm-up", type=at_least(0), default=8, metavar="SECONDS", help="of load before that")
    number("--partitions", type=at_least(1), default=4, help="of the source topics")
    given = parser.parse_args()
    said, found = console(), Report()
    with place("rates", steady=True) as (servers, directory):
        for rate in given.rates:
            session = Session(servers, directory, said, tag=f"rate-{rate}")
            session.live(Load(rate, given.seconds, given.warm_up, 5_000, given.partitions))
            found.latencies += session.report.latencies
    said.print(latency(found))
    print(json.dumps({"latency": [one.as_dict() for one in found.latencies]}))
    return 0 if found.exact else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
