"""Every client of Kafka is made here, so that all of them encrypt and log in the same way."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from app.kafka.oauth import token_provider
from app.kafka.producer import BATCH_BYTES
from app.kafka.security import OAUTH
from app.kafka.tls import ssl_context
from app.settings import Settings

#: time until one of several brokers must have answered, and time the others have after it [s]
_FIRST_S, _OTHERS_S = 10.0, 1.0


def new_consumer(settings: Settings, *topics: str, **options: Any) -> AIOKafkaConsumer:
    """Create a consumer of `topics` that sees committed records only; options: more of aiokafka's arguments."""
    return AIOKafkaConsumer(*topics, **{"isolation_level": "read_committed", **_cluster(settings), **options})


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
    return AIOKafkaProducer(transactional_id=transactional_id, **{**_cluster(settings), **safe, **options})


def new_admin(settings: Settings, **options: Any) -> AIOKafkaAdminClient:
    """Create an admin client; options: more of aiokafka's arguments."""
    return AIOKafkaAdminClient(**_cluster(settings), **options)


async def without_silent_brokers(settings: Settings) -> Settings:
    """Return the settings with the brokers that answer only; with all of them if none does.

    A client begins with a random one of the listed brokers, and waits long for one that is silent: it is suspended, or
    a firewall drops what is sent to it. Afterwards it knows all brokers of the cluster from the one that has answered.
    If one answers within _FIRST_S, the others have _OTHERS_S more.
    """
    brokers = settings.brokers
    if len(brokers) == 1:
        return settings
    asked = {asyncio.ensure_future(_answers(replace(settings, broker=broker))): broker for broker in brokers}
    waiting, give_up = set(asked), time.monotonic() + _FIRST_S
    while waiting and (left := give_up - time.monotonic()) > 0:
        done, waiting = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if any(task.result() for task in done):
            give_up = min(give_up, time.monotonic() + _OTHERS_S)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    answering = [broker for task, broker in asked.items() if task not in waiting and task.result()]
    return replace(settings, broker=",".join(answering or brokers))


async def _answers(settings: Settings) -> bool:
    admin = new_admin(settings, request_timeout_ms=round(_FIRST_S * 1000))
    try:
        await admin.start()
    except (KafkaError, OSError):
        return False
    finally:
        await admin.close()
    return True


def connection(settings: Settings) -> dict[str, Any]:
    """Return the arguments for encryption and login. Raises ConfigError for files that cannot be read."""
    arguments: dict[str, Any] = {"security_protocol": settings.security_protocol}
    if settings.encrypts:
        arguments["ssl_context"] = ssl_context(settings)
    if settings.logs_in:
        arguments["sasl_mechanism"] = settings.sasl_mechanism
        if settings.sasl_mechanism == OAUTH:
            settings.secret("oauth_client_secret")
            arguments["sasl_oauth_token_provider"] = token_provider(settings)
        else:
            arguments |= {"sasl_plain_username": settings.user, "sasl_plain_password": settings.secret("password")}
    return arguments


def _cluster(settings: Settings) -> dict[str, Any]:
    """Return the arguments that all clients share."""
    return {"bootstrap_servers": settings.brokers, **connection(settings)}
