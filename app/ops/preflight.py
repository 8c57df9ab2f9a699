"""Before the worker starts: is everything there, and as it must be? If not, one line that says what to do."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from tempfile import TemporaryFile
from threading import Thread
from urllib.parse import urlsplit

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from agents.process import Pipeline
from app.errors import ConfigError
from app.kafka import acls as rights
from app.kafka import topics
from app.kafka.registry import SchemaRegistry
from app.model_file import load_model
from app.settings import Settings
from codec.avro_schema import Json, check
from codec.moodle_log import LogDecoder

log = logging.getLogger(__name__)

#: how long the broker, and then the registry, may take to answer [s]
PATIENCE_S = 6.0


def check_machine(settings: Settings, *, web: bool) -> None:
    """Raises ConfigError for what this machine does not give: the web port, the data directory, names of hosts."""
    if web:
        check_port(settings.web_bind, settings.web_port)
    if settings.store == "rocksdb://":
        check_directory(settings.datadir)
    check_names("RISK_BROKER", [server.rpartition(":")[0] for server in settings.brokers])
    check_names("RISK_SCHEMA_REGISTRY", [urlsplit(settings.schema_registry).hostname or ""])


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
        await _require_rights(admin, pipeline)
    except KafkaError as error:
        raise ConfigError(f"{settings.broker} (RISK_BROKER) refused: {error}") from error
    finally:
        await admin.close()
    schema_id, schema = await _latest(settings)
    # the one that most records have is known from now on, should the registry go away
    schemas = SchemaRegistry(settings.schema_registry, known={schema_id: schema})
    pipeline.decoder = LogDecoder(schemas, check(schema, settings.source_topic), unit_ms=settings.unit_ms)


async def _require_rights(admin: AIOKafkaAdminClient, pipeline: Pipeline) -> None:
    """Raises ConfigError with all the rights that the broker does not give us."""
    settings, names = pipeline.settings, pipeline.names
    wanted = rights.needed(names, scoring=pipeline.model is not None)
    transactional_ids = [f"{settings.app_id}-{n}" for n in range(pipeline.sources)] + [f"{settings.app_id}-alerts-0"]
    if denied := await rights.missing(admin, wanted, settings.app_id, transactional_ids):
        raise ConfigError(
            f"{settings.broker} (RISK_BROKER) does not give the user this worker runs as the rights "
            f"{', '.join(denied)}: grant them (kafka-acls --add)"
        )


async def _latest(settings: Settings) -> tuple[int, Json]:
    """Id and schema of the source topic's latest version, the one that KSQL's CREATE STREAM judges by."""
    subject, schemas = f"{settings.source_topic}-value", SchemaRegistry(settings.schema_registry)
    try:
        with silent("app.kafka.registry"):
            latest = await asyncio.wait_for(schemas.latest(subject), PATIENCE_S)
    except asyncio.TimeoutError:
        raise ConfigError(
            f"no schema registry answers at {schemas.name} ({schemas.last_error or 'silence'}): start it, or set "
            "RISK_SCHEMA_REGISTRY"
        ) from None
    if latest is None:
        raise ConfigError(
            f"the schema registry has no subject {subject}: let the connector write a row with an Avro converter first"
        )
    return latest


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


def check_directory(path: Path) -> None:
    """Raises ConfigError if nothing can be written there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ConfigError(f"RISK_DATADIR: cannot write to {path.absolute()}: {error.strerror}; set another") from error


def check_names(variable: str, hosts: Sequence[str]) -> None:
    """Raises ConfigError if no name of `hosts` leads anywhere within PATIENCE_S.

    A name server that is silent would hold the end of the event loop, and so of the program, for minutes:
    a thread of ours does not.
    """
    found: Queue[bool] = Queue()

    def resolve(host: str) -> None:
        try:
            found.put(bool(socket.getaddrinfo(host, None)))
        except (OSError, UnicodeError):
            found.put(False)

    for host in hosts:
        Thread(target=resolve, args=(host.strip("[]"),), daemon=True).start()
    give_up = time.monotonic() + PATIENCE_S
    for _ in hosts:
        try:
            if found.get(timeout=max(0.0, give_up - time.monotonic())):
                return
        except Empty:
            break
    raise ConfigError(f"{variable}: no host {' or '.join(hosts)} is known to this machine's name service; set another")


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
