"""Checks before the worker starts: any problem ends the start with one line that says what to do."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from tempfile import TemporaryFile
from threading import Thread
from urllib.parse import urlsplit

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from app.errors import ConfigError
from app.kafka import acls, topics
from app.kafka.clients import new_admin
from app.kafka.registry import SchemaRegistry
from app.model_file import load_model
from app.settings import Settings
from app.state.stored_positions import divided_by, read_positions, unfinished_growth
from codec.avro_schema import Json, check
from codec.moodle_log import LogDecoder
from models.risk import RiskModel

log = logging.getLogger(__name__)

#: how long the broker, and then the registry, may take to answer [s]
PATIENCE_S = 6.0


def check_machine(settings: Settings, *, web: bool) -> None:
    """Check the web port, the data directory and the host names. Raises ConfigError for the first that fails."""
    if web:
        check_port(settings.web_bind, settings.web_port)
    if settings.store == "rocksdb://":
        check_directory(settings.datadir)
    check_names("RISK_BROKER", [server.rpartition(":")[0] for server in settings.brokers])
    check_names("RISK_SCHEMA_REGISTRY", [urlsplit(settings.schema_registry).hostname or ""])


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of preflight, from which the worker is built."""

    #: partitions among which the students are divided
    partitions: int
    #: partitions of the source topic
    sources: int
    #: partitions of the visits topic and of the changelog of students: the same, unless the worker drains
    internal: Mapping[str, int]
    decoder: LogDecoder
    #: None: scoring is off
    model: RiskModel | None


async def preflight(settings: Settings, *, draining: bool = False) -> Checked:
    """Check the model, the broker, the topics and the schema, and create the topics that are missing.

    draining: whether the worker runs for `faust -A app grow`, where growing may have been interrupted.
    Raises ConfigError with one line.
    """
    names = settings.topic_names
    model = load_model(settings.model)
    admin = await connect(settings)
    try:
        existing = await topics.partitions_of(admin, [names.source, names.visits, names.students_changelog])
        sources = existing.get(names.source)
        if sources is None:
            raise ConfigError(
                f"topic {names.source} does not exist on {settings.broker}: start the Debezium connector, "
                "or set RISK_SOURCE_TOPIC"
            )
        internal = topics.internal_partitions(names, existing)
        for line in await topics.declare(admin, topics.wanted(names, *internal.values()), settings.replication):
            log.warning("%s", line)
        await _require_rights(admin, settings, max(internal.values()), scoring=model is not None)
        partitions = await _divided_among(settings, internal, draining=draining)
        if sources > partitions:
            log.info(
                "topic %s has %d partitions, topic %s %d: at most %d workers have students; see faust -A app grow",
                names.source, sources, names.visits, partitions, partitions,
            )  # fmt: skip
    except KafkaError as error:
        raise ConfigError(f"{settings.broker} (RISK_BROKER) refused: {error}") from error
    finally:
        await admin.close()
    schema_id, schema = await _latest(settings)
    # most records have this schema: with it known, they can be decoded even if the registry goes down
    registry = SchemaRegistry(settings.schema_registry, known={schema_id: schema})
    decoder = LogDecoder(registry, check(schema, settings.source_topic), unit_ms=settings.unit_ms)
    return Checked(partitions, sources, internal, decoder, model)


async def _divided_among(settings: Settings, internal: Mapping[str, int], *, draining: bool) -> int:
    """Return the number of partitions among which the students are divided: that of the internal topics.

    Raises ConfigError if it is another one, unless the worker drains.
    """
    changelog = settings.topic_names.students_changelog
    records = await read_positions(settings, internal[changelog])
    if draining:
        return divided_by(records) or internal[changelog]
    if unfinished := topics.unfinished_growth(internal) or unfinished_growth(changelog, records):
        raise ConfigError(unfinished)
    return internal[changelog]


async def _require_rights(admin: AIOKafkaAdminClient, settings: Settings, partitions: int, *, scoring: bool) -> None:
    """Raise ConfigError with all rights that the broker does not grant."""
    wanted = acls.needed(settings.topic_names, scoring=scoring)
    transactional_ids = [f"{settings.app_id}-{n}" for n in range(partitions)] + [f"{settings.app_id}-alerts-0"]
    if denied := await acls.missing(admin, wanted, settings.app_id, transactional_ids):
        raise ConfigError(
            f"{settings.broker} (RISK_BROKER) does not grant the user this worker runs as the rights "
            f"{', '.join(denied)}: grant them (kafka-acls --add)"
        )


async def _latest(settings: Settings) -> tuple[int, Json]:
    """Return id and schema of the source topic's latest version, which KSQL's CREATE STREAM uses too."""
    subject, schemas = f"{settings.source_topic}-value", SchemaRegistry(settings.schema_registry)
    try:
        with silent("app.kafka.registry"):
            latest = await asyncio.wait_for(schemas.latest(subject), PATIENCE_S)
    except TimeoutError:
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
    """Start an admin client of the brokers. Raises ConfigError if none answers."""
    admin = new_admin(settings, request_timeout_ms=int(PATIENCE_S * 1000))
    try:
        with silent("aiokafka"):
            await asyncio.wait_for(admin.start(), PATIENCE_S)
    except (KafkaError, OSError) as error:
        raise ConfigError(f"no Kafka broker answers at {settings.broker}: start it, or set RISK_BROKER") from error
    return admin


def check_port(host: str, port: int) -> None:
    """Raise ConfigError if nothing can listen on this address: it is in use, or not one of this machine's."""
    try:
        with socket.socket() as probe:
            # as the web server does, so that a port can be reused right after its last user has ended
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise ConfigError(f"RISK_WEB_PORT: cannot listen on {host}:{port}: {error.strerror}; set another") from error


def check_directory(path: Path) -> None:
    """Raise ConfigError if the directory cannot be made or written to."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ConfigError(f"RISK_DATADIR: cannot write to {path.absolute()}: {error.strerror}; set another") from error


def check_names(variable: str, hosts: Sequence[str]) -> None:
    """Raise ConfigError if none of `hosts` can be resolved within PATIENCE_S.

    In daemon threads: the event loop's own resolver threads would keep the program from ending for minutes
    while a name server does not answer.
    """
    answers: Queue[bool] = Queue()

    def resolve(host: str) -> None:
        try:
            answers.put(bool(socket.getaddrinfo(host, None)))
        except (OSError, UnicodeError):
            answers.put(False)

    for host in hosts:
        Thread(target=resolve, args=(host.strip("[]"),), daemon=True).start()
    give_up = time.monotonic() + PATIENCE_S
    for _ in hosts:
        try:
            if answers.get(timeout=max(0.0, give_up - time.monotonic())):
                return
        except Empty:
            break
    raise ConfigError(f"{variable}: no host {' or '.join(hosts)} is known to this machine's name service; set another")


@contextmanager
def silent(logger: str) -> Iterator[None]:
    """Silence a library's logger, which reports every failed attempt; the ConfigError is enough."""
    silenced = logging.getLogger(logger)
    level = silenced.level
    silenced.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        silenced.setLevel(level)
