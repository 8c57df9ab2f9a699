"""The log on its way into Kafka, in a thread, whatever becomes of the broker meanwhile."""

from __future__ import annotations

import asyncio
import threading

from app.errors import ConfigError
from app.settings import Settings
from tools.replay.log_rows import LogRows
from tools.replay.sender import prepare, produce

#: pause before a producer that failed is replaced [s]
_AGAIN_S = 0.5


class Feeding(threading.Thread):
    """Sends rows in `seconds`, evenly, and not one of them twice. Mutable: `sent` grows."""

    def __init__(self, settings: Settings, rows: LogRows, seconds: float, partitions: int) -> None:
        super().__init__(name="feeding", daemon=True)
        self._settings, self._rows, self._partitions = settings, rows, partitions
        span_s = (int(rows.written[-1]) - int(rows.written[0])) / 1000
        self._speed = span_s / seconds
        self.sent = 0
        self._hurry = threading.Event()

    @property
    def over(self) -> bool:
        """Whether all rows are in the topic."""
        return self.sent >= len(self._rows)

    def hurry(self) -> None:
        """Send the rest as fast as it goes, from the next start of the producer."""
        self._hurry.set()

    def run(self) -> None:
        """The thread: where a producer fails, the next one begins behind the last row that arrived."""
        asyncio.run(self._feed())

    async def _feed(self) -> None:
        while not self.over:
            try:
                plan = await prepare(self._settings, self._rows, partitions=self._partitions)
                self.sent = plan.already_written
                sending = asyncio.create_task(produce(plan, speed=self._pace(), advance=self._advance))
                while not sending.done():
                    await asyncio.wait([sending], timeout=_AGAIN_S)
                    if self._hurry.is_set() and self._speed and not sending.done():
                        self._speed = 0.0
                        sending.cancel()
                await sending
            except (ConfigError, OSError, asyncio.CancelledError):
                await asyncio.sleep(_AGAIN_S)

    def _pace(self) -> float | None:
        return self._speed or None

    def _advance(self, rows: int) -> None:
        self.sent += rows
