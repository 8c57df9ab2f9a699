"""A thread that sends the log to Kafka and survives outages of the broker."""

from __future__ import annotations

import asyncio
import threading

from app.errors import ConfigError
from app.settings import Settings
from tools.replay.log_rows import LogRows
from tools.replay.sender import prepare, produce

#: pause before a failed producer is replaced [s]
_RETRY_S = 0.5


class Feeder(threading.Thread):
    """Sends rows evenly over `seconds`, each exactly once. Mutable: `sent` grows."""

    def __init__(self, settings: Settings, rows: LogRows, seconds: float, partitions: int) -> None:
        super().__init__(name="feeder", daemon=True)
        self._settings, self._rows, self._partitions = settings, rows, partitions
        span_s = (int(rows.written[-1]) - int(rows.written[0])) / 1000
        self._speed = span_s / seconds
        #: rows in the topic
        self.sent = 0
        self._unthrottled = threading.Event()

    @property
    def done(self) -> bool:
        """Whether all rows are in the topic."""
        return self.sent >= len(self._rows)

    def unthrottle(self) -> None:
        """Send the remaining rows at full speed; takes effect when the producer is next restarted."""
        self._unthrottled.set()

    def run(self) -> None:
        """Body of the thread. After a producer failed, the next one resumes behind the last row that arrived."""
        asyncio.run(self._send())

    async def _send(self) -> None:
        while not self.done:
            try:
                plan = await prepare(self._settings, self._rows, partitions=self._partitions)
                self.sent = plan.already_written
                sending = asyncio.create_task(produce(plan, speed=self._speed or None, advance=self._advance))
                while not sending.done():
                    await asyncio.wait([sending], timeout=_RETRY_S)
                    if self._unthrottled.is_set() and self._speed and not sending.done():
                        self._speed = 0.0
                        sending.cancel()
                await sending
            except (ConfigError, OSError, asyncio.CancelledError):
                await asyncio.sleep(_RETRY_S)

    def _advance(self, rows: int) -> None:
        self.sent += rows
