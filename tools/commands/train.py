"""`faust -A app train`: make the risk model's artifact again from the shipped data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from faust.cli import option

from app.commands.base import Command
from tools.training import train as training


class train(Command):
    """Train the risk model on the shipped OULAD students and write it as JSON.

    The same seed makes the same file, byte for byte.
    """

    options = (
        option("--output", type=Path, default=Path("model.json"), show_default=True, help="Where to write it."),
        option("--seed", type=int, default=1, show_default=True, help="Seed of the clock times drawn."),
    )

    def main(self, *, output: Path, seed: int, **_: Any) -> int:
        """Train and write."""
        model = training.write(output, seed)
        self.say(f"{output}: model {model.sha256[:12]}")
        for name, value in sorted(model.metrics.items()):
            self.say(f"  {name}: {value}")
        return 0
