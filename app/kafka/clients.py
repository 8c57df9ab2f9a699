"""Every client of Kafka is made here, so that all of them connect and log in the same way."""

from __future__ import annotations

from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from app.kafka.producer import BATCH_BYTES
from app.settings import Settings


def new_consumer(settings: Settings, *topics: str, **options: Any) -> AIOKafkaConsumer:
    """Create a consumer of `topics` that sees committed records only; options: more of aiokafka's arguments."""
    return AIOKafkaConsumer(*topics, **{"isolation_level": "read_committed", **_connection(settings), **options})


def new_producer(settings: Settings, *, transactional_id: str | None = None, **options: Any) -> AIOKafkaProducer:
    """Create a producer that neither loses, duplicates nor reorders rows; options: more of aiokafka's arguments.

    One with a transactional id needs `app.upstream.install()` for its latency.
    """
    safe = {
        "acks": "all",
        "enable_idempotence": True,
        "transaction_timeout_ms": 30_000,
        "max_batch_size": BATCH_BYTES,
        "request_timeout_ms": 20_000,
    }
    return AIOKafkaProducer(transactional_id=transactional_id, **{**_connection(settings), **safe, **options})


def new_admin(settings: Settings, **options: Any) -> AIOKafkaAdminClient:
    """Create an admin client; options: more of aiokafka's arguments."""
    return AIOKafkaAdminClient(**_connection(settings), **options)


def _connection(settings: Settings) -> dict[str, Any]:
    """Return the arguments that all clients share."""
    return {"bootstrap_servers": settings.brokers}
