"""Every client of Kafka is made here, so that all of them connect and log in the same way."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from app.kafka.producer import BATCH_BYTES
from app.settings import Settings

#: time a broker has to answer before others are asked first [s]
_ANSWER_S = 2.0


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


async def order_brokers(settings: Settings) -> Settings:
    """Return the settings with the brokers that answer within _ANSWER_S before those that do not.

    A client asks the listed brokers in order when it starts, and waits long for one that is silent: it is suspended,
    or a firewall drops what is sent to it.
    """
    brokers = settings.brokers
    if len(brokers) == 1:
        return settings
    answers = await asyncio.gather(*(_answers(replace(settings, broker=broker)) for broker in brokers))
    ordered = [
        broker for wanted in (True, False) for broker, got in zip(brokers, answers, strict=True) if got is wanted
    ]
    return replace(settings, broker=",".join(ordered))


async def _answers(settings: Settings) -> bool:
    admin = new_admin(settings, request_timeout_ms=round(_ANSWER_S * 1000))
    try:
        await asyncio.wait_for(admin.start(), _ANSWER_S)
    except (KafkaError, OSError):
        return False
    finally:
        await admin.close()
    return True


def _connection(settings: Settings) -> dict[str, Any]:
    """Return the arguments that all clients share."""
    return {"bootstrap_servers": settings.brokers}
