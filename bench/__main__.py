"""`python -m bench`: starts servers of its own, writes logs, measures; ends by itself, JSON last.

Everything is measured in one session on one machine, each thing in a process of its own: reading alone (aiokafka's
getmany and the app's batch reader), the whole job, the usual Faust way, and the latency of single events. Exits 1
where an end state of the app was not exact.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench import growth, report
from bench.environment import at_least, console, place
from bench.latency import Load
from bench.session import Plan, Session

#: where --save writes
DOCS = Path(__file__).parents[1] / "docs"


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    number = parser.add_argument
    number("--events", type=at_least(8), default=1_000_000, help="in each log, about")
    number("--students", type=at_least(1), nargs="+", default=[5_000, 100_000], help="one log for each number")
    number("--partitions", type=at_least(1), default=4, help="of the source topics")
    number(
        "--runs",
        type=at_least(1),
        default=3,
        help="of reading and of the whole job on the first log; half as many on others",
    )
    number("--changes", type=at_least(0), default=1_000_000, help="first events for RISK_EMIT=changes; 0: none")
    number("--usual", type=at_least(0), default=5_000, help="first events for the usual Faust way; 0: none")
    number("--latency", type=at_least(0), default=10, metavar="SECONDS", help="of live load that count; 0: none")
    number("--warm-up", type=at_least(0), default=8, metavar="SECONDS", help="of live load before that")
    number("--rate", type=at_least(1), default=1_000, help="live events a second")
    number("--save", action="store_true", help="write docs/bench.json and docs/bench.png")
    number(
        "--growth",
        type=int,
        nargs="*",
        choices=range(1, len(growth.STEPS) + 1),
        metavar="STEP",
        help="measure growth instead: 1, 3, 10 million events, some ten minutes; or only these steps: 1, 2, 3",
    )
    return parser.parse_args(given)


def plan(given: argparse.Namespace) -> Plan:
    """What the command line asks for."""
    load = Load(given.rate, given.latency, given.warm_up, 5_000, given.partitions)
    return Plan(given.events, given.students, given.partitions, given.runs, given.changes, given.usual, load)


def main(given: argparse.Namespace) -> int:
    """Measure, print tables and one line of JSON; the exit code."""
    said = console()
    with place("bench", steady=True) as (servers, directory):
        if given.growth is not None:
            steps = [growth.STEPS[step - 1] for step in given.growth] or growth.STEPS
            return growth.run(servers, directory, said, given.partitions, steps)
        found = Session(servers, directory, said).run(plan(given))
    document = report.document(found, given.partitions)
    said.print(report.throughput(found, document), report.ratios(found))
    if found.latencies:
        said.print(report.latency(found))
    if given.save:
        save(document, DOCS, said)
    print(json.dumps(document["line"]))
    return 0 if found.exact else 1


def save(document: dict[str, object], directory: Path, console: Console) -> None:
    """Write the figures as JSON and as a plot."""
    from bench.plot import draw  # matplotlib is for tests and for this only

    directory.mkdir(exist_ok=True)
    (directory / "bench.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    draw(document, directory / "bench.png")
    console.print(f"written: {directory / 'bench.json'}, {directory / 'bench.png'}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main(arguments(sys.argv[1:])))
