"""`faust -A app worker`: Faust's command, whose banner is left out where the log is JSON."""

from __future__ import annotations

from functools import partial
from typing import Any

from faust.cli.worker import worker as FaustCommand


class worker(FaustCommand):
    """Start a worker."""

    def on_worker_created(self, worker: Any) -> None:
        """Print the banner; the worker of this app does so once it has a port and a directory."""
        settings = getattr(self.app, "settings", None)
        if settings is None:  # another app's worker
            super().on_worker_created(worker)
        elif settings.log_format == "text":
            worker.say_banner = partial(super().on_worker_created, worker)
