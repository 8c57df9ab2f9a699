"""`faust -A app evaluate`: a risk model against what became of the students."""

from __future__ import annotations

import json
import sys
from typing import Any

from faust.cli import option

from app.commands.base import Command
from app.model_file import DEFAULT
from app.settings import Settings
from tools.training import acceptance, run
from tools.training.options import OPTIONS, days_of, source_of


class evaluate(Command):
    """Evaluate a risk model.

    With a log and outcomes: the figures that `train` prints, without training. With --report alone: the report of a
    model on the shipped students, which is the model card of a model that ships. Without either: the figures that the
    models that ship must reach, on students that they were not trained on, by the agents of the worker. The last line
    of output is JSON then, and the exit code 1 unless all of them are reached.
    """

    options = (
        *OPTIONS,
        option("--model", help=f"v2, v2s or a file; default: RISK_MODEL, or {DEFAULT}."),
        option("--test", multiple=True, help="Own log: only this course. May be repeated."),
    )

    def main(self, *, model: str | None, test: tuple[str, ...], **given: Any) -> int:
        """Evaluate, and print the figures."""
        settings: Settings = self.app.settings  # type: ignore[attr-defined]
        source, days, directory = source_of(settings, given), days_of(given["days"]), given["report"]
        name = model or (settings.model if settings.model != "none" else "") or DEFAULT
        source.check()
        if source.is_own:
            lines = run.evaluate_own(source, settings, name, test, days, directory)
        elif directory is not None:
            lines = run.report_shipped(name, directory, source.groups)
        else:
            result = acceptance.measure(lambda text: print(text, file=sys.stderr, flush=True))
            for line in result.missed:
                print(f"moodle-risk: {line}", file=sys.stderr)
            self.say(json.dumps(result.as_line()))
            return 0 if result.reached else 1
        for line in lines:
            self.say(line)
        return 0
