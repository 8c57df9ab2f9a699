"""A thread that sends rows of the log again while it is sent and read, as Debezium does after it was killed."""

from __future__ import annotations

import asyncio
import random
import threading
from dataclasses import replace

from aiokafka.errors import KafkaError

from app.errors import ConfigError
from app.settings import Settings
from tools.e2e.chaos.feeder import Feeder
from tools.replay.log_rows import LogRows
from tools.replay.sender import SLICE, assign_partitions, prepare, produce

#: rows that are sent again at once
_ROWS = 500
#: pause after each time, and before a failed producer is replaced [s]
_PAUSE_S = 0.5


class Repeater(threading.Thread):
    """Sends random stretches of rows that `feeder` has sent, and at the end all rows. Mutable: `sent` grows."""

    def __init__(self, settings: Settings, rows: LogRows, seed: int, partitions: int, feeder: Feeder) -> None:
        super().__init__(name="repeater", daemon=True)
        self._settings, self._rows, self._partitions, self._feeder = settings, rows, partitions, feeder
        self._rng = random.Random(seed)
        #: copies in the topic, at least
        self.sent = 0

    def run(self) -> None:
        """Body of the thread."""
        asyncio.run(self._send())

    async def _send(self) -> None:
        while not self._feeder.done:
            # the feeder resumes behind the last row of each partition: no row may be there before it sends it, and only
            # rows before its current slice are certain to be there already
            if (safe := self._feeder.sent - SLICE) > 0:
                begin = self._rng.randrange(safe)
                await self._send_again(slice(begin, min(begin + _ROWS, safe)))
            await asyncio.sleep(_PAUSE_S)
        while not await self._send_again(slice(0, len(self._rows))):
            await asyncio.sleep(_PAUSE_S)

    async def _send_again(self, part: slice) -> bool:
        """Send rows, whatever of them is in the topic; return whether all have arrived."""
        rows = self._rows.take(part)
        try:
            plan = await prepare(self._settings, rows.take(slice(0, 0)), partitions=self._partitions)
            await produce(replace(plan, rows=rows, partition=assign_partitions(rows, plan.ids[0], plan.partitions)))
        except (ConfigError, KafkaError, OSError):
            return False
        self.sent += len(rows)
        return True
