"""Before the worker starts: is everything there, and as it must be? If not, one line that says what to do."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from app import topics
from app.codecs.log import LogDecoder
from app.codecs.registry import Schemas
from app.codecs.schema import Declared, check
from app.errors import ConfigError
from app.model_file import load_model
from app.pipeline import Pipeline
from app.settings import Settings

log = logging.getLogger(__name__)

#: how long the broker, and then the registry, may take to answer [s]
PATIENCE_S = 6.0


async def preflight(pipeline: Pipeline) -> None:
    """Check the model, the broker, the topics and the schema; declare topics; tell the pipeline what was found.

    Raises ConfigError with one line.
    """
    settings, names = pipeline.settings, pipeline.names
    pipeline.model = load_model(settings.model)
    admin = await connect(settings)
    try:
        found = await topics.partitions_of(admin, [names.source])
        if names.source not in found:
            raise ConfigError(
                f"topic {names.source} does not exist on {settings.broker}: start the Debezium connector, "
                "or set RISK_SOURCE_TOPIC"
            )
        pipeline.sources = found[names.source]
        for line in await topics.declare(admin, topics.wanted(names, pipeline.sources), settings.replication):
            log.warning("%s", line)
    except KafkaError as error:
        raise ConfigError(f"{settings.broker} (RISK_BROKER) refused: {error}") from error
    finally:
        await admin.close()
    declared = await _declared(settings)
    pipeline.decoder = LogDecoder(Schemas(settings.schema_registry), declared, unit_ms=settings.unit_ms)


async def _declared(settings: Settings) -> Declared:
    """What the source topic's latest schema declares, judged as KSQL's CREATE STREAM does."""
    subject = f"{settings.source_topic}-value"
    try:
        with silent("app.codecs.registry"):
            latest = await asyncio.wait_for(Schemas(settings.schema_registry).latest(subject), PATIENCE_S)
    except asyncio.TimeoutError:
        raise ConfigError(
            f"no schema registry answers at {settings.schema_registry}: start it, or set RISK_SCHEMA_REGISTRY"
        ) from None
    if latest is None:
        raise ConfigError(
            f"the schema registry has no subject {subject}: let the connector write a row with an Avro converter first"
        )
    return check(latest[1], settings.source_topic)


async def connect(settings: Settings) -> AIOKafkaAdminClient:
    """An admin client of the brokers. Raises ConfigError if none answers."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.brokers, request_timeout_ms=int(PATIENCE_S * 1000))
    try:
        with silent("aiokafka"):
            await asyncio.wait_for(admin.start(), PATIENCE_S)
    except (KafkaError, OSError, asyncio.TimeoutError) as error:
        raise ConfigError(f"no Kafka broker answers at {settings.broker}: start it, or set RISK_BROKER") from error
    return admin


def check_port(host: str, port: int) -> None:
    """Raises ConfigError if nothing can listen on this address: it is taken, or not this machine's."""
    try:
        with socket.socket() as probe:
            # as the web server does: a port that was used a moment ago may be used again
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise ConfigError(f"RISK_WEB_PORT: cannot listen on {host}:{port}: {error.strerror}; set another") from error


@contextmanager
def silent(logger: str) -> Iterator[None]:
    """Keep a library's word on each failed try back: the one line that matters is ours."""
    found = logging.getLogger(logger)
    level = found.level
    found.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        found.setLevel(level)
