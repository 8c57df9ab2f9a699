"""`faust -A app settings`: list all settings."""

from __future__ import annotations

from typing import Any

from app.settings import Settings
from tools.commands.base import Command


class settings(Command):
    """List the environment variables that configure the app, with defaults and units."""

    def main(self, **_: Any) -> int:
        """Print the settings."""
        self.say(Settings.describe())
        return 0
