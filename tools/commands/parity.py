"""`faust -A app parity`: compare the app with KSQL, from recorded cases or on a running cluster."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from faust.cli import argument, option

from app.commands.base import Command
from app.errors import ConfigError
from app.ops.preflight import silent
from app.setting import is_topic_name
from app.settings import Settings
from tools.parity import cases, recorded
from tools.parity.live import compare as live
from tools.parity.live.render import render

#: exit code if nothing could be compared; 1 means that something differs
NOT_COMPARED = 2
#: options of --live, and their value if they are not given
_LIVE_OPTIONS: dict[str, Any] = {"against": None, "group": (), "wait": 0.0, "show": 10}


class parity(Command):
    """Compare the app's output with KSQL's: recorded (CASE…), or on one cluster (--live).

    CASE is a recorded run of KSQL (.json or .json.gz; tests/golden/README.md describes the format) or a
    directory of them. Runs each case through the app without a broker, prints every difference and a
    summary line. Exits 0 if all cases are equal, 1 if any differs.

    --live compares the topics the app writes on RISK_BROKER (prefix RISK_TOPIC_PREFIX) with those KSQL
    writes there (prefix --against): the last row of every key and, with RISK_EMIT=changes, every change
    in order. Run it with the worker's settings. It reads up to the current end of the topics, writes
    nothing and joins no consumer group. Prints the number of equal and differing keys, examples with
    both rows, and the lag of each side. Exits 0 if all is equal, 1 if anything differs, 2 if nothing
    could be compared.
    """

    options = (
        argument("case", nargs=-1, type=Path),
        option("--differences", type=Path, help="JSON list of {case, topic, input} that differ on purpose."),
        option("--live", "on_cluster", is_flag=True, show_default=False, help="Compare topics on RISK_BROKER."),
        option("--against", metavar="PREFIX", help="Live: topic prefix of the other side; default '': KSQL's names."),
        option("--group", multiple=True, help="Live: the other side's consumer group, for its lag; default: KSQL's."),
        option("--wait", type=float, default=0.0, metavar="SECONDS", help="Live: time for both sides to catch up."),
        option("--show", type=int, default=10, help="Live: number of keys shown for each kind of difference."),
    )

    def main(self, *, case: tuple[Path, ...], on_cluster: bool = False, **given: Any) -> int:
        """Compare all cases, or the cluster's topics."""
        try:
            _check(case, on_cluster, given)
        except ConfigError as error:
            return _not_compared(error)
        return self._live(given) if on_cluster else self._recorded(case, given["differences"])

    def _recorded(self, case: tuple[Path, ...], differences: Path | None) -> int:
        known = recorded.load_known_differences(differences) if differences else frozenset()
        results = []
        for path in _files(case):
            with silent("agents"), silent("app.ops"):  # cases contain invalid records on purpose
                result = asyncio.run(recorded.compare(cases.load(path), known))
            results.append(result)
            self.say(f"{'differs' if result.differences else 'equal  '}  {result.name} ({result.rows} rows)")
            for line in result.differences:
                self.say(f"  {line}")
        bad = sum(bool(r.differences) for r in results)
        rows = sum(r.rows for r in results)
        self.say(f"{len(results) - bad} of {len(results)} cases equal, {rows} rows, {bad} with differences")
        return 1 if bad or not results else 0

    def _live(self, given: dict[str, Any]) -> int:
        settings: Settings = self.app.settings  # type: ignore[attr-defined]
        options = live.Options(given["against"] or "", given["group"], given["wait"], given["show"])
        try:
            report = asyncio.run(live.compare(settings, options, lambda line: print(line, file=sys.stderr, flush=True)))
        except ConfigError as error:
            return _not_compared(error)
        for line in render(report):
            self.say(line)
        return 0 if report.equal else 1


def _not_compared(error: ConfigError) -> int:
    print(f"moodle-risk: {error}", file=sys.stderr)
    return NOT_COMPARED


def _check(case: tuple[Path, ...], on_cluster: bool, given: dict[str, Any]) -> None:
    """Raises ConfigError if options contradict each other or are out of range."""
    if on_cluster and case:
        raise ConfigError(f"--live compares topics: CASE ({case[0]}) and --live cannot be combined")
    if not on_cluster and not case:
        raise ConfigError("give a CASE to compare, or --live to compare topics on a cluster")
    if on_cluster and given["differences"] is not None:
        raise ConfigError("--differences is for recorded cases and cannot be combined with --live")
    live_options = [f"--{name}" for name, default in _LIVE_OPTIONS.items() if given[name] != default]
    if not on_cluster and live_options:
        raise ConfigError(f"{', '.join(live_options)} needs --live")
    if given["against"] and not is_topic_name(given["against"]):
        raise ConfigError(f"--against: {given['against']!r} may contain only letters, digits, '.', '_' and '-'")
    if not 0 <= given["wait"] < float("inf") or given["show"] < 0:
        raise ConfigError("--wait and --show must not be below 0")


def _files(paths: tuple[Path, ...]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(p for p in path.iterdir() if p.name.endswith((".json", ".json.gz")))
        else:
            files.append(path)
    return files
