"""`faust -A app settings`: every setting in one place."""

from __future__ import annotations

from typing import Any

from app.commands.base import Command
from app.settings import Settings


class settings(Command):
    """List the environment variables that set the app up, with defaults and units."""

    def main(self, **_: Any) -> int:
        """Print them."""
        self.say(Settings.describe())
        return 0
