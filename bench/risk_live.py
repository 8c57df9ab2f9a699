"""`python -m bench.risk_live`: what the risk costs a worker on top of the job without it, under loads of single events.

In turn, workers without the risk (RISK_MODEL=v1) and with it (v2s), each with default settings otherwise. Of a worker's
loads the one of most events comes first, in which most students have their first visit of the day. Prints one line of
JSON: the CPU of a worker [cores] at each rate, of each run, by model.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench import latency
from bench.environment import at_least, own_settings, stderr_console, temporary_servers
from bench.latency import Load

_MODELS = ("v1", "v2s")
_STUDENTS = 5_000


def run(variables: Mapping[str, str], loads: Sequence[Load], directory: Path) -> dict[float, float]:
    """Return the CPU of a new worker [cores] by the rate of each of the loads."""
    with latency.running_app(variables, loads[0].partitions, directory) as target:
        usages = {load.rate: latency.use_under(load, target, directory)[0] for load in loads}
    return {rate: round(usage.cpu_share, 4) for rate, usage in usages.items()}


def main() -> int:
    """Measure, print one line of JSON, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.risk_live", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    number = parser.add_argument
    number("--rates", type=at_least(1), nargs="+", default=[10, 100, 1_000], help="single events per second")
    number("--partitions", type=at_least(1), default=4, help="partitions of the source topic")
    number("--seconds", type=at_least(1), default=10, help="duration of each measured load")
    number("--warm-up", type=at_least(0), default=5, help="duration of the same load before it [s]")
    number("--runs", type=at_least(1), default=3, help="runs of each worker")
    arguments = parser.parse_args()
    loads = [
        Load(rate, arguments.seconds, arguments.warm_up, _STUDENTS, arguments.partitions)
        for rate in sorted(arguments.rates, reverse=True)
    ]
    results: dict[str, list[dict[float, float]]] = {model: [] for model in _MODELS}
    console = stderr_console()
    with temporary_servers("risk-live") as (servers, directory):
        for turn in range(arguments.runs):
            for model, shares in results.items():
                name = f"live-{model}-{turn}"
                work = {"RISK_SOURCE_TOPIC": f"{name}.log", "RISK_MODEL": model}
                shares.append(run({**servers.settings, **own_settings(name, directory), **work}, loads, directory))
                console.print(f"{model}: {shares[-1]}", highlight=False)
    print(json.dumps({"partitions": arguments.partitions, **results}))
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
