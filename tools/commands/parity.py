"""`faust -A app parity`: the app against KSQL, from recorded cases or on a running cluster."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from faust.cli import argument, option

from app.commands.base import Command
from app.errors import ConfigError
from app.ops.preflight import silent
from app.settings import Settings, is_topic_name
from tools.parity import cases
from tools.parity import recorded as parities
from tools.parity.live import compare as live
from tools.parity.live import text

#: exit code where nothing could be compared; 1 says that something differs
NOT_COMPARED = 2


class parity(Command):
    """Hold KSQL's output against the app's: recorded (CASE…), or on one cluster (--live).

    CASE is a file of one recorded run (.json or .json.gz; tests/golden/README.md has the format), or a
    directory of them. Prints every difference and one summary line; exits 1 if there is any.

    --live compares the topics that KSQL writes on RISK_BROKER with those the app writes there with
    RISK_TOPIC_PREFIX: the last row of every key and, with RISK_EMIT=changes, every change in order. It
    reads up to the ends of the moment, writes nothing and joins no group. Give it the worker's settings.
    Prints equal and differing keys, both rows, and how far each side is behind. Exits 0 if all is
    equal, 1 if anything differs, 2 if nothing could be compared.
    """

    options = (
        argument("case", nargs=-1, type=Path),
        option("--differences", type=Path, help="JSON list of {case, topic, input} where the app does otherwise."),
        option("--live", "on_cluster", is_flag=True, show_default=False, help="Compare topics on RISK_BROKER."),
        option("--against", metavar="PREFIX", help="Live: prefix of the other side's topics; '' (default): KSQL's."),
        option("--group", multiple=True, help="Live: consumer group of the other side, for its lag; else KSQL's."),
        option(
            "--wait", type=float, default=0.0, metavar="SECONDS", help="Live: how long both sides may take to catch up."
        ),
        option("--show", type=int, default=10, help="Live: how many keys of each kind are shown with their rows."),
    )

    def main(self, *, case: tuple[Path, ...], on_cluster: bool = False, **chosen: Any) -> int:
        """Compare all cases, or the cluster's topics."""
        try:
            _check(case, on_cluster, chosen)
        except ConfigError as error:
            return _not_compared(error)
        return self._live(chosen) if on_cluster else self._recorded(case, chosen["differences"])

    def _recorded(self, case: tuple[Path, ...], differences: Path | None) -> int:
        exceptions = parities.load_exceptions(differences) if differences else frozenset()
        outcomes = []
        for path in _files(case):
            with silent("app"):  # what the cases reject is part of what they test
                outcome = asyncio.run(parities.compare(cases.load(path), exceptions))
            outcomes.append(outcome)
            self.say(f"{'differs' if outcome.differences else 'equal  '}  {outcome.name} ({outcome.rows} rows)")
            for line in outcome.differences:
                self.say(f"  {line}")
        bad = sum(bool(o.differences) for o in outcomes)
        rows = sum(o.rows for o in outcomes)
        self.say(f"{len(outcomes) - bad} of {len(outcomes)} cases equal, {rows} rows, {bad} with differences")
        return 1 if bad or not outcomes else 0

    def _live(self, chosen: dict[str, Any]) -> int:
        settings: Settings = self.app.settings  # type: ignore[attr-defined]
        asked = live.Asked(chosen["against"] or "", chosen["group"], chosen["wait"], chosen["show"])
        try:
            report = asyncio.run(live.compare(settings, asked, lambda line: print(line, file=sys.stderr, flush=True)))
        except ConfigError as error:
            return _not_compared(error)
        for line in text.lines(report):
            self.say(line)
        return 0 if report.equal else 1


def _not_compared(error: ConfigError) -> int:
    print(f"moodle-risk: {error}", file=sys.stderr)
    return NOT_COMPARED


def _check(case: tuple[Path, ...], on_cluster: bool, chosen: dict[str, Any]) -> None:
    """Raises ConfigError for what does not go together."""
    if on_cluster and case:
        raise ConfigError(f"--live compares topics: CASE ({case[0]}) and --live do not go together")
    if not on_cluster and not case:
        raise ConfigError("name a CASE to compare, or --live to compare topics on a cluster")
    if on_cluster and chosen["differences"] is not None:
        raise ConfigError("--differences is for recorded cases and does not go with --live")
    used = [f"--{name}" for name in ("against", "group", "wait", "show") if chosen[name] not in _UNSET[name]]
    if not on_cluster and used:
        raise ConfigError(f"{', '.join(used)} needs --live")
    if chosen["against"] and not is_topic_name(chosen["against"]):
        raise ConfigError(f"--against: {chosen['against']!r} may hold letters, digits, '.', '_' and '-'")
    if not 0 <= chosen["wait"] < float("inf") or chosen["show"] < 0:
        raise ConfigError("--wait and --show must not be below 0")


#: what options are if they were not given
_UNSET: dict[str, tuple[Any, ...]] = {"against": (None,), "group": ((),), "wait": (0.0,), "show": (10,)}


def _files(given: tuple[Path, ...]) -> list[Path]:
    found: list[Path] = []
    for path in given:
        inside = path.is_dir()
        found += sorted(p for p in path.iterdir() if p.name.endswith((".json", ".json.gz"))) if inside else [path]
    return found
