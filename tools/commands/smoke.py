"""`faust -A app smoke`: run the whole pipeline on a real Kafka and check every output row."""

from __future__ import annotations

import json
import sys
from typing import Any

from faust.cli import option

import stack
from app.commands.base import Command
from tools.e2e import smoke as runner
from tools.e2e.workers import E2EError


class smoke(Command):
    """Run the whole pipeline on a Kafka of its own and check every output row.

    Replays real students, runs a worker until it has processed them, and compares the output topics
    with an independent computation. The last line of output is JSON. Exits with 1 unless every row is exact.
    """

    options = (
        option(
            "--presentation",
            multiple=True,
            default=["AAA-2013J"],
            show_default=True,
            help="Course presentation to replay, MODULE-PRESENTATION; may be repeated.",
        ),
        option("--limit", type=int, help="Replay only the first N events."),
    )

    def main(self, *, presentation: tuple[str, ...], limit: int | None = None, **_: Any) -> int:
        """Run the smoke test."""
        try:
            result = runner.run(list(presentation), limit, lambda text: print(text, file=sys.stderr, flush=True))
        except (stack.StackError, E2EError) as error:
            print(f"moodle-risk: {error}", file=sys.stderr)
            return 1
        for difference in result.differences:
            print(difference, file=sys.stderr)
        print(json.dumps(result.as_line()))
        return 0 if result.exact else 1
