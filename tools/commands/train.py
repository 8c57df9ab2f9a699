"""`faust -A app train`: train a risk model, on the shipped students or on own ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from faust.cli import option

from app.commands.base import Command
from app.errors import ConfigError
from app.model_file import DEFAULT, SHIPPED, TOTALS
from app.settings import Settings
from tools.training import run
from tools.training.options import OPTIONS, days_of, source_of


class train(Command):
    """Train a risk model, write it as JSON, and evaluate it on students that it was not trained on.

    Without a log it reproduces a model that ships, from the shipped students (OULAD): the same seed gives the same
    file, byte for byte. From a log and outcomes of your own it fits as much as the number of outcomes allows.
    Bad rows of the outcomes are refused by line, and the others used.
    """

    options = (
        *OPTIONS,
        option("--test", multiple=True, help="Own log: course to test on, not to train on. May be repeated."),
        option("--model", default=DEFAULT, show_default=True, help=f"Shipped students: one of {', '.join(SHIPPED)}."),
        option("--output", type=Path, default=Path("model.json"), show_default=True, help="File to write."),
        option("--seed", type=int, default=1, show_default=True, help="Shipped students: seed of the times of day."),
    )

    def main(self, *, output: Path, model: str, test: tuple[str, ...], seed: int, **given: Any) -> int:
        """Train the model, write it and print its figures."""
        settings: Settings = self.app.settings  # type: ignore[attr-defined]
        source, days, directory = source_of(settings, given), days_of(given["days"]), given["report"]
        if not source.is_own and model not in SHIPPED:
            raise ConfigError(f"--model: {model!r} is none of {', '.join(SHIPPED)}")
        source.check()
        if source.is_own:
            lines = run.train_own(source, settings, output, test, days, directory)
        elif model == TOTALS:
            lines = run.train_totals(output, seed)
        else:
            lines = run.train_shipped(output, model, directory, source.groups, seed)
        for line in lines:
            self.say(line)
        return 0
