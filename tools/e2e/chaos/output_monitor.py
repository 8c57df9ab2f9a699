"""How long nothing came out: the end of the committed totals, looked at all the time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

#: between two looks, and how long one may take [s]
_LOOK_S, _ANSWER_S = 0.05, 1.0


class Watch(threading.Thread):
    """Measures the time between two moments at which a committed topic grew. Mutable.

    Looks only while `looking` is set: where nothing comes in nothing can come out.
    """

    def __init__(self, broker: str, topic: str) -> None:
        super().__init__(name="watch", daemon=True)
        self._broker, self._tp = broker, TopicPartition(topic, 0)
        self.looking = threading.Event()
        self._over = threading.Event()
        #: what is being done to the workers now
        self.deed = "start"
        #: deed → the longest time without a new row that began, lasted or ended in it [s]
        self.gaps: defaultdict[str, float] = defaultdict(float)
        #: the end of the topic as last seen
        self.end = 0

    def over(self) -> None:
        """Look no more."""
        self._over.set()

    def run(self) -> None:
        """The thread."""
        asyncio.run(self._watch())

    async def _watch(self) -> None:
        consumer: AIOKafkaConsumer | None = None
        grew = time.monotonic()
        while not self._over.is_set():
            try:
                if consumer is None:
                    consumer = AIOKafkaConsumer(bootstrap_servers=self._broker, isolation_level="read_committed")
                    await consumer.start()
                ends = await asyncio.wait_for(consumer.end_offsets([self._tp]), _ANSWER_S)
                end = ends[self._tp]
            except (KafkaError, OSError):
                end = self.end
            now = time.monotonic()
            if end != self.end or not self.looking.is_set():
                grew = now
            self.end = end
            self.gaps[self.deed] = max(self.gaps[self.deed], now - grew)
            await asyncio.sleep(_LOOK_S)
        if consumer is not None:
            await consumer.stop()
