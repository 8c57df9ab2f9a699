"""`faust -A app situations`: random situations of real sites, none of which may end in silence."""

from __future__ import annotations

import json
import logging
import os
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from faust.cli import option

import stack
from app.commands.base import Command
from tools.e2e.situations.grammar import draw
from tools.e2e.situations.run import SilentFailure, run


class situations(Command):
    """Draw settings, a registry's behaviour, topic configurations and rows at random, and run a worker with them.

    Each run must end with every good row counted once and every bad one kept, or with one clear line and a
    non-zero exit code. The last line of output is JSON. Exits with 1 if one run ended otherwise. It starts its
    own Kafka. About four seconds a run.
    """

    options = (
        option("--runs", type=int, default=300, show_default=True, help="Number of situations."),
        option("--seed", type=int, help="Seed of the first one, the others follow. [default: random]"),
        option("--keep", type=Path, help="Directory in which to keep logs and data. [default: a temporary one]"),
    )

    def main(self, *, runs: int, seed: int | None, keep: Path | None, **_: Any) -> int:
        """Run the situations."""
        logging.disable(logging.CRITICAL)
        first = random.randrange(1_000_000) if seed is None else seed
        ended: Counter[str] = Counter()
        failures = []
        with tempfile.TemporaryDirectory(prefix="moodle-risk-situations-") as temporary:
            directory = (keep or Path(temporary)).resolve()
            directory.mkdir(parents=True, exist_ok=True)
            try:
                servers = stack.up(directory / "stack", owner_pid=os.getpid())
            except stack.StackError as error:
                print(f"moodle-risk: {error}", file=sys.stderr)
                return 1
            try:
                for number in range(first, first + runs):
                    situation = draw(number)
                    try:
                        outcome = run(situation, servers, directory)
                    except SilentFailure as failure:
                        failures.append(number)
                        print(f"seed {number} FAILED: {failure}\n  {situation.describe()}", file=sys.stderr, flush=True)
                        continue
                    ended["refused" if outcome.refusal else "counted"] += 1
                    said = outcome.refusal or f"{outcome.counted} count, {outcome.rejected} dead letters"
                    print(f"seed {number}: {said}", file=sys.stderr, flush=True)
            finally:
                stack.down(directory / "stack")
        result = {"seed": first, "runs": runs, **ended, "failed": len(failures), "failed_seeds": failures}
        print(json.dumps(result))
        return 1 if failures else 0
