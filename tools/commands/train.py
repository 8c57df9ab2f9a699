"""`faust -A app train`: reproduce the risk model from the shipped data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from faust.cli import option

from app.commands.base import Command
from tools.training.train import write


class train(Command):
    """Train the risk model on the shipped OULAD data and write it as JSON.

    Prints the model's hash and its metrics on a presentation that it was not trained on. The same seed
    gives the same file, byte for byte.
    """

    options = (
        option("--output", type=Path, default=Path("model.json"), show_default=True, help="File to write."),
        option("--seed", type=int, default=1, show_default=True, help="Seed of the generated times of day."),
    )

    def main(self, *, output: Path, seed: int, **_: Any) -> int:
        """Train the model, write it and print its metrics."""
        model = write(output, seed)
        self.say(f"{output}: model {model.sha256[:12]}")
        for name, value in sorted(model.metrics.items()):
            self.say(f"  {name}: {value}")
        return 0
