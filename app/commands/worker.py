"""`faust -A app worker`: Faust's command, whose banner is left out where the log is JSON."""

from __future__ import annotations

from typing import Any

from faust.cli.worker import worker as FaustCommand


class worker(FaustCommand):
    """Start a worker."""

    def on_worker_created(self, worker: Any) -> None:
        """Print the banner."""
        settings = getattr(self.app, "settings", None)  # none: another app's worker
        if settings is None or settings.log_format == "text":
            super().on_worker_created(worker)
