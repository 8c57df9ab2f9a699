"""Faust's aiokafka transport with chunks as messages; selected by broker URLs `chunked://host:port`.

Faust keeps the app, agents, assignment, recovery, flow control and timers. The differences:

- a message is a chunk: all records that a fetch returned for one topic partition, or several small chunks that
  wait for their agent and are merged;
- only committed records are read, and the end of a partition is its last stable offset;
- Faust's acks are ignored. A chunk counts as processed after a call of `processed(...)`, and the committed
  offset is the end of the processed prefix (ledger.py);
- records of source topics are fetched only after this generation has sought the committed offsets, and a
  chunk is delivered only if it begins where the one before it ended.
"""

from __future__ import annotations

from typing import Any

from aiokafka import AIOKafkaProducer
from faust.transport.drivers import aiokafka as driver

from app.kafka.clients import new_producer
from app.kafka.consumer import Consumer


class Producer(driver.Producer):
    """Faust's producer, which a worker starts and never sends with."""

    def _new_producer(self, transactional_id: str | None = None) -> AIOKafkaProducer:
        app: Any = self.app
        return new_producer(app.settings, transactional_id=transactional_id)


class Transport(driver.Transport):
    """Kafka with chunks as messages."""

    Consumer = Consumer
    Producer = Producer
