"""A thread that sends the log to Kafka and survives outages of the broker."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from app.errors import ConfigError
from app.settings import Settings
from tools.e2e.chaos.course_log import Stretch
from tools.replay.log_rows import LogRows
from tools.replay.sender import prepare, produce

#: pause before a failed producer is replaced [s]
_RETRY_S = 0.5


class Feeder(threading.Thread):
    """Sends rows evenly over `seconds`, each exactly once. Mutable: `sent` grows."""

    def __init__(
        self, settings: Settings, rows: LogRows, seconds: float, partitions: int, stretches: Sequence[Stretch] = ()
    ) -> None:
        """stretches: each evenly over its own seconds instead, when the one before it has arrived."""
        super().__init__(name="feeder", daemon=True)
        self._settings, self._rows, self._partitions = settings, rows, partitions
        self._stretches = stretches or [Stretch(len(rows), seconds)]
        #: rows in the topic
        self.sent = 0
        self._unthrottled = threading.Event()

    @property
    def done(self) -> bool:
        """Whether all rows are in the topic."""
        return self.sent >= len(self._rows)

    def unthrottle(self) -> None:
        """Send the remaining rows at full speed."""
        self._unthrottled.set()

    def run(self) -> None:
        """Body of the thread. After a producer failed, the next one resumes behind the last row that arrived."""
        asyncio.run(self._send())

    async def _send(self) -> None:
        begin = 0
        for stretch in self._stretches:
            written = self._rows.written[begin : stretch.stop]
            span_s = (int(written[-1]) - int(written[0])) / 1000
            while self.sent < stretch.stop:
                throttled = stretch.seconds and not self._unthrottled.is_set()
                await self._send_until(stretch.stop, span_s / stretch.seconds if throttled else None)
            begin = stretch.stop

    async def _send_until(self, stop: int, speed: float | None) -> None:
        """Send the rows up to `stop` that are not in the topic; ends early when `unthrottle` is called, or on failure.

        speed: log seconds per second, None for no limit.
        """
        try:
            plan = await prepare(self._settings, self._rows.take(slice(0, stop)), partitions=self._partitions)
            self.sent = plan.already_written
            sending = asyncio.create_task(produce(plan, speed=speed, advance=self._advance))
            while not sending.done():
                await asyncio.wait([sending], timeout=_RETRY_S)
                if self._unthrottled.is_set() and speed and not sending.done():
                    sending.cancel()
            await sending
        except (ConfigError, OSError, asyncio.CancelledError):
            await asyncio.sleep(_RETRY_S)

    def _advance(self, rows: int) -> None:
        self.sent += rows
