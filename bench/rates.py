"""Measure what a worker costs at several rates of single events, and how late its predictions are.

For each number of partitions: a bare transactional loop, then a worker for each RISK_LINGER_MS, under loads of single
events and idle. Reports the latency, the CPU of the worker, what it adds to the broker's CPU, and its requests to
Kafka. Prints tables on stderr and one line of JSON on stdout. Exit code 1 if an event had no prediction.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

import stack
from app.settings import Settings
from bench import latency, rates_report, request_counts
from bench.child_process import ChildProcess
from bench.environment import SAME_WORK, at_least, own_settings, stderr_console, temporary_servers
from bench.figures import LiveCost
from bench.latency import Load, Target
from bench.usage import Meter
from stack.kafka import KAFKA

#: where --save writes
DOCS = Path(__file__).parents[1] / "docs"
#: students of the load, as in `python -m bench`
_STUDENTS = 5_000
#: additional warm-up of the first load, for the broker to compile its code [s]
_COLD_S = 6.0
#: time after a load before an idle program is measured [s]
_SETTLE_S = 3.0
#: duration of the load that no program reads, and of the broker's idle time, for the broker's share [s]
_BASE_S = 3.0


@dataclass(frozen=True)
class Plan:
    """What to measure."""

    partitions: Sequence[int]
    #: values of RISK_LINGER_MS
    lingers: Sequence[int]
    #: single events per second
    rates: Sequence[int]
    #: durations of each measured load, of the warm-up before it and of the idle time (0: not measured) [s]
    seconds: float
    warm_up_s: float
    idle_s: float
    bare_loop: bool


class Measurement:
    """Measures on running servers."""

    def __init__(self, servers: stack.Environment, directory: Path, console: Console, plan: Plan) -> None:
        """directory: for state and logs."""
        self._common = {**servers.settings, **SAME_WORK}
        self._broker = next(server.pid for server in stack.status(servers.directory) if server.name == KAFKA.name)
        self._directory, self._console, self._plan = directory, console, plan
        self._cold_s = _COLD_S

    def run(self) -> list[LiveCost]:
        """Carry out the plan."""
        return [cost for partitions in self._plan.partitions for cost in self._run_programs(partitions)]

    def _run_programs(self, partitions: int) -> list[LiveCost]:
        costs: list[LiveCost] = []
        if self._plan.bare_loop:
            variables = self._variables(f"bare-{partitions}")
            running = latency.running_bare_loop(variables, partitions, self._directory)
            costs += self._measure(running, partitions, None)
        for linger in self._plan.lingers:
            variables = {**self._variables(f"app-{partitions}-{linger}"), "RISK_LINGER_MS": str(linger)}
            running = latency.running_app(variables, partitions, self._directory)
            costs += self._measure(running, partitions, linger)
        base = self._base(partitions)
        # sorting is stable: of each rate, the bare loop comes first
        return [cost.above(base[cost.rate]) for cost in sorted(costs, key=lambda cost: cost.rate)]

    def _measure(
        self, running: AbstractContextManager[Target], partitions: int, linger: int | None
    ) -> Iterator[LiveCost]:
        """Measure one program: the highest rate first, and a worker idle at last."""
        with running as started:
            counts = Path(started.variables[request_counts.VARIABLE])
            target = replace(started, broker_pid=self._broker, counts=counts)
            for rate in sorted(self._plan.rates, reverse=True):
                warm_up_s, self._cold_s = self._plan.warm_up_s + self._cold_s, 0.0
                load = Load(rate, self._plan.seconds, warm_up_s, _STUDENTS, partitions)
                measured = latency.measure(target, load, self._directory)
                yield self._print(LiveCost.of(measured, partitions, linger))
            if self._plan.idle_s and linger is not None:
                time.sleep(_SETTLE_S)
                meter = target.meter()
                time.sleep(self._plan.idle_s)
                yield self._print(LiveCost(target.key, partitions, linger, 0, meter.read()))

    def _base(self, partitions: int) -> dict[float, float]:
        """Return the broker's CPU by the rate of a load that no program reads; 0: idle."""
        variables = self._variables(f"base-{partitions}")
        asyncio.run(latency.create_source(Settings.from_env(variables), partitions))
        shares: dict[float, float] = {}
        for rate in self._plan.rates:
            file = self._directory / f"base-{partitions}-{rate}.npz"
            arguments = latency.load_arguments(Load(rate, _BASE_S, 0, _STUDENTS, partitions), file)
            with ChildProcess("bench.load", arguments, variables, self._directory / "base.log") as sender:
                sender.read()
                shares[rate] = self._broker_share(sender.read)
        if self._plan.idle_s:
            shares[0] = self._broker_share(lambda: time.sleep(_BASE_S))
        return shares

    def _broker_share(self, action: Callable[[], object]) -> float:
        """Return the broker's CPU while `action` runs."""
        meter = Meter(broker_pid=self._broker)
        action()
        return meter.read().broker_share

    def _variables(self, name: str) -> dict[str, str]:
        """Return the settings of a new program, with its own topics, state and file of request counts."""
        counts = self._directory / f"{name}.requests"
        request_counts.create(counts)
        return {
            **self._common,
            **own_settings(f"rates-{name}", self._directory),
            "RISK_SOURCE_TOPIC": f"rates-{name}.log",
            request_counts.VARIABLE: str(counts),
        }

    def _print(self, cost: LiveCost) -> LiveCost:
        self._console.print(str(cost), highlight=False)
        return cost


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.rates", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    number = parser.add_argument
    number("--rates", type=at_least(1), nargs="+", default=[10, 100, 1_000], help="single events per second")
    number("--partitions", type=at_least(1), nargs="+", default=[1, 4], help="partitions of the source topics")
    number("--linger", type=at_least(0), nargs="*", default=[0, 100], help="values of RISK_LINGER_MS; none: no worker")
    number("--seconds", type=at_least(1), default=6, metavar="SECONDS", help="duration of each measured load")
    number("--warm-up", type=at_least(0), default=1, metavar="SECONDS", help="load before each measured one")
    number("--idle", type=at_least(0), default=10, metavar="SECONDS", help="time without events, 0 for none")
    number("--no-bare-loop", action="store_true", help="measure no bare loop")
    number("--save", action="store_true", help="write docs/rates.json, and its table to docs/benchmarks.md")
    return parser.parse_args(argv)


def main(arguments: argparse.Namespace) -> int:
    """Measure, print tables and one line of JSON, and return the exit code."""
    plan = Plan(
        arguments.partitions,
        arguments.linger,
        arguments.rates,
        arguments.seconds,
        arguments.warm_up,
        arguments.idle,
        not arguments.no_bare_loop,
    )
    console = stderr_console()
    with temporary_servers("rates") as (servers, directory):
        costs = Measurement(servers, directory, console, plan).run()
    console.print(*rates_report.tables(costs))
    if arguments.save:
        rates_report.save(costs, DOCS)
    print(json.dumps(rates_report.document(costs)))
    return 1 if any(cost.unseen for cost in costs) else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main(parse_arguments(sys.argv[1:])))
