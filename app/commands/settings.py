"""`faust -A app settings`: every setting with its default and meaning."""

from __future__ import annotations

import shutil
from typing import Any

from app.commands.base import Command
from app.settings import Settings


class settings(Command):
    """List the environment variables that configure the app, with defaults and units."""

    def main(self, **_: Any) -> int:
        """Print them."""
        self.say(Settings.describe(min(120, shutil.get_terminal_size((100, 24)).columns)))
        return 0
