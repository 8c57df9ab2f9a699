"""`faust -A app parity`: recorded KSQL cases through the whole app, without a broker."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

from faust.cli import argument, option

from app import cases
from app import parity as parities
from app.commands.base import Command


class parity(Command):
    """Hold recorded KSQL output against the app's, row by row.

    CASE is a file of one recorded run (.json or .json.gz; tests/golden/README.md has the format), or a
    directory of them. Prints every difference and one summary line; exits 1 if there is any.
    """

    options = (
        argument("case", nargs=-1, required=True, type=Path),
        option("--differences", type=Path, help="JSON list of {case, topic, input} where the app does otherwise."),
    )

    def main(self, *, case: tuple[Path, ...], differences: Path | None = None, **_: Any) -> int:
        """Compare all cases."""
        # what the cases reject is part of what they test
        logging.getLogger("app").setLevel(logging.ERROR)
        exceptions = parities.load_exceptions(differences) if differences else frozenset()
        outcomes = []
        for path in _files(case):
            outcome = asyncio.run(parities.compare(cases.load(path), exceptions))
            outcomes.append(outcome)
            self.say(f"{'differs' if outcome.differences else 'equal  '}  {outcome.name} ({outcome.rows} rows)")
            for line in outcome.differences:
                self.say(f"  {line}")
        bad = sum(bool(o.differences) for o in outcomes)
        rows = sum(o.rows for o in outcomes)
        self.say(f"{len(outcomes) - bad} of {len(outcomes)} cases equal, {rows} rows, {bad} with differences")
        return 1 if bad or not outcomes else 0


def _files(given: tuple[Path, ...]) -> list[Path]:
    found: list[Path] = []
    for path in given:
        inside = path.is_dir()
        found += sorted(p for p in path.iterdir() if p.name.endswith((".json", ".json.gz"))) if inside else [path]
    return found
