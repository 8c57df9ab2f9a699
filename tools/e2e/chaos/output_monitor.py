"""A thread that measures how long the pipeline produced no output."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Callable

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from app.kafka.clients import new_consumer
from app.settings import Settings

#: polling interval, and timeout of a request [s]
_POLL_S, _REQUEST_S = 0.05, 1.0


class OutputMonitor(threading.Thread):
    """Measures the time between two moments at which the committed end of a topic advanced. Mutable.

    Measures only while `enabled` is set, and until `all_sent`: without input there is no output.
    """

    def __init__(self, settings: Settings, topic: str, all_sent: Callable[[], bool]) -> None:
        super().__init__(name="output-monitor", daemon=True)
        self._settings, self._tp = settings, TopicPartition(topic, 0)
        self._all_sent = all_sent
        self.enabled = threading.Event()
        self._stopping = threading.Event()
        #: name of the current action
        self.action = "start"
        #: action → longest time without a new row that began, lasted or ended during it [s]
        self.gaps: defaultdict[str, float] = defaultdict(float)
        #: committed end of the topic as last seen
        self.end_offset = 0

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stopping.set()

    def run(self) -> None:
        """Body of the thread."""
        asyncio.run(self._monitor())

    async def _monitor(self) -> None:
        consumer: AIOKafkaConsumer | None = None
        advanced = time.monotonic()
        while not self._stopping.is_set():
            try:
                if consumer is None:
                    # a broker that is suspended keeps its connections
                    consumer = new_consumer(self._settings, request_timeout_ms=round(_REQUEST_S * 1000))
                    await consumer.start()
                ends = await asyncio.wait_for(consumer.end_offsets([self._tp]), 3 * _REQUEST_S)
                end_offset = ends[self._tp]
            except (TimeoutError, KafkaError, OSError):
                end_offset = self.end_offset
            now = time.monotonic()
            if end_offset != self.end_offset or not self.enabled.is_set() or self._all_sent():
                advanced = now
            self.end_offset = end_offset
            self.gaps[self.action] = max(self.gaps[self.action], now - advanced)
            await asyncio.sleep(_POLL_S)
        if consumer is not None:
            await consumer.stop()
