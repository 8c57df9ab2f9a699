"""Measure CPU per event, throughput, memory and latency.

Starts its own servers, writes synthetic logs and measures each program in a process of its own, all in one session:
reading alone (aiokafka's getmany and the app's batch reader), the whole job, the same job in plain Faust, and the
latency of single events. Prints tables on stderr and one line of JSON on stdout. Exit code 1 if an end state of the
app was not exact.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from bench import growth, report
from bench.environment import at_least, stderr_console, temporary_servers
from bench.latency import Load
from bench.session import Plan, Session

#: where --save writes
DOCS = Path(__file__).parents[1] / "docs"


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    number = parser.add_argument
    number("--events", type=at_least(8), default=1_000_000, help="approximate number of events in each log")
    number("--students", type=at_least(1), nargs="+", default=[5_000, 100_000], help="students of each log")
    number("--partitions", type=at_least(1), default=4, help="partitions of the source topics")
    number(
        "--runs",
        type=at_least(1),
        default=3,
        help="runs of reading and of the whole job on the first log; the other logs get half as many",
    )
    number("--changes", type=at_least(0), default=1_000_000, help="events to run with RISK_EMIT=changes, 0 for none")
    number("--plain-faust", type=at_least(0), default=5_000, help="events to run in plain Faust, 0 for none")
    number("--latency", type=at_least(0), default=10, metavar="SECONDS", help="measured live load, 0 for none")
    number("--warm-up", type=at_least(0), default=8, metavar="SECONDS", help="live load before the measured one")
    number("--rate", type=at_least(1), default=1_000, help="live events per second")
    number("--save", action="store_true", help="write docs/bench.json and docs/bench.png")
    number(
        "--growth",
        type=int,
        nargs="*",
        choices=range(1, len(growth.STEPS) + 1),
        metavar="STEP",
        help="instead, measure logs of 1, 3 and 10 million events (ten minutes), or only the given steps 1, 2, 3",
    )
    return parser.parse_args(argv)


def make_plan(arguments: argparse.Namespace) -> Plan:
    """Return the plan for the command line arguments."""
    load = Load(arguments.rate, arguments.latency, arguments.warm_up, 5_000, arguments.partitions)
    return Plan(
        arguments.events,
        arguments.students,
        arguments.partitions,
        arguments.runs,
        arguments.changes,
        arguments.plain_faust,
        load,
    )


def main(arguments: argparse.Namespace) -> int:
    """Measure, print tables and one line of JSON, and return the exit code."""
    if arguments.save and find_spec("matplotlib") is None:
        sys.exit("bench: --save needs matplotlib: pip install 'moodle-risk[test]'")
    console = stderr_console()
    with temporary_servers("bench") as (servers, directory):
        if arguments.growth is not None:
            steps = [growth.STEPS[step - 1] for step in arguments.growth] or growth.STEPS
            return growth.run(servers, directory, console, arguments.partitions, steps)
        results = Session(servers, directory, console).run(make_plan(arguments))
    document = report.document(results, arguments.partitions)
    console.print(report.throughput(results, document), report.ratios(results))
    if results.latencies:
        console.print(report.latency(results))
    if arguments.save:
        save(document, DOCS, console)
    print(json.dumps(document["line"]))
    return 0 if results.exact else 1


def save(document: dict[str, object], directory: Path, console: Console) -> None:
    """Write the figures as JSON and as a plot."""
    from bench.plot import draw  # matplotlib is installed only with the extra

    directory.mkdir(exist_ok=True)
    (directory / "bench.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    draw(document, directory / "bench.png")
    console.print(f"written: {directory / 'bench.json'}, {directory / 'bench.png'}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main(parse_arguments(sys.argv[1:])))
