"""`faust -A app smoke`: the whole way on a real Kafka, recounted; ends by itself."""

from __future__ import annotations

import json
import sys
from typing import Any

from faust.cli import option

import stack
from app.commands.base import Command
from tools.e2e import smoke as smokes
from tools.e2e.workers import TrialError


class smoke(Command):
    """Start servers, replay real students, run a worker and compare all four topics with a recount.

    Prints one line of JSON last; exits 1 unless every row is exact.
    """

    options = (
        option("--presentation", multiple=True, default=["AAA-2013J"], show_default=True, help="What to replay."),
        option("--limit", type=int, help="Only the first so many events."),
    )

    def main(self, *, presentation: tuple[str, ...], limit: int | None = None, **_: Any) -> int:
        """Run it."""
        try:
            result = smokes.run(list(presentation), limit, lambda text: print(text, file=sys.stderr, flush=True))
        except (stack.StackError, TrialError) as error:
            print(f"moodle-risk: {error}", file=sys.stderr)
            return 1
        for difference in result.differences:
            print(difference, file=sys.stderr)
        print(json.dumps(result.as_line()))
        return 0 if result.exact else 1
