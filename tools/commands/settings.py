"""`faust -A app settings`: every setting in one place."""

from __future__ import annotations

from typing import Any

from app.settings import Settings
from tools.commands.base import Command


class settings(Command):
    """List the environment variables that set the app up, with defaults and units."""

    def main(self, **_: Any) -> int:
        """Print them."""
        self.say(Settings.describe())
        return 0
