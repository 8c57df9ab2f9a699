"""Checks before the worker starts: any problem ends the start with one line that says what to do."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, Queue
from threading import Thread
from urllib.parse import urlsplit

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from app.errors import ConfigError
from app.kafka import acls, topics
from app.kafka.clients import new_admin
from app.kafka.diagnosis import diagnose
from app.kafka.group_offsets import check_group
from app.kafka.refusals import REFUSALS
from app.kafka.registry import SchemaRegistry
from app.kafka.registry_client import Login
from app.model_file import Models, load_models
from app.ops.source_schema import counting_rules, source_schema
from app.proxies import proxy_for
from app.settings import Settings
from app.state.stored_positions import divided_by, read_positions, unfinished_growth
from codec.avro_schema import DeclaredColumns, Json, check
from codec.moodle_log import LogDecoder
from models.counting import CountingRules

log = logging.getLogger(__name__)

#: how long the broker, and then the registry, may take to answer [s]
PATIENCE_S = 6.0


def check_machine(settings: Settings) -> None:
    """Check host names and secrets. Raises ConfigError for the first that fails."""
    check_names("RISK_BROKER", [server.rpartition(":")[0] for server in settings.brokers])
    proxy = proxy_for(settings.schema_registry)
    variable, url = (proxy.variable, proxy.url) if proxy else ("RISK_SCHEMA_REGISTRY", settings.schema_registry)
    check_names(variable, [urlsplit(url).hostname or ""])
    Login.of(settings)


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
    #: the schemas of the decoder
    registry: SchemaRegistry
    #: None: scoring is off
    models: Models | None
    #: what counts for the risk, as far as the log has the columns; None: scoring is off
    counting: CountingRules | None


async def preflight(settings: Settings, *, draining: bool = False) -> Checked:
    """Check the model, the broker, the topics and the schema, and create the topics that are missing.

    draining: whether the worker runs for `faust -A app grow`, where growing may have been interrupted.
    Raises ConfigError with one line.
    """
    names = settings.topic_names
    models = load_models(settings.model)
    with_risk = models is not None and models.standing is not None
    admin = await connect(settings)
    try:
        existing = await topics.partitions_of(admin, [names.source, names.visits, names.students_changelog])
        sources = existing.get(names.source)
        if sources is None:
            raise ConfigError(
                f"topic {names.source} does not exist on {settings.broker}: start the Debezium connector, "
                "or set RISK_SOURCE_TOPIC"
            )
        if names.visits in existing:  # otherwise the app has never run, and there may be no coordinator yet
            await check_group(admin, settings, PATIENCE_S)
        internal = topics.internal_partitions(names, existing)
        wanted = topics.wanted(names, *internal.values(), risk=with_risk)
        for line in await topics.declare(admin, wanted, settings.replication, max_ahead_ms=settings.max_ahead_ms):
            log.warning("%s", line)
        await _require_rights(admin, settings, scoring=models is not None, risk=with_risk)
        partitions = await _divided_among(settings, internal, draining=draining)
        if sources > partitions:
            log.info(
                "topic %s has %d partitions, topic %s %d: at most %d workers have students; see faust -A app grow",
                names.source, sources, names.visits, partitions, partitions,
            )  # fmt: skip
    except KafkaError as error:
        refused = f"{settings.broker} (RISK_BROKER) refused: {error}"
        raise ConfigError(REFUSALS.reason(settings) or refused) from error
    finally:
        await admin.close()
    # it keeps the schema that is found: most records have it, and can be decoded even if the registry goes down
    registry = SchemaRegistry(settings.schema_registry, Login.of(settings), patience_s=settings.registry_patience_s)
    with silent("app.kafka.registry"):
        found = await source_schema(settings, registry, sources, PATIENCE_S)
    declared = check_schema(settings, found.schema, found.origin)
    counting = counting_rules(settings, declared) if with_risk else None
    models = None if models is None else models.for_log(with_events="EVENTNAME" in declared.columns)
    decoder = LogDecoder(
        registry, declared, unit_ms=settings.unit_ms, with_log_id=settings.deduplicates, counting=counting
    )
    return Checked(partitions, sources, internal, decoder, registry, models, counting)


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


def check_schema(settings: Settings, schema: Json, origin: str) -> DeclaredColumns:
    """Return the columns that KSQL declares for the source topic's latest schema; origin: names it in messages.

    Raises ConfigError if KSQL refuses the schema, or if its ids cannot be de-duplicated and should be.
    """
    declared = check(schema, settings.source_topic, origin)
    if settings.deduplicates and (kind := declared.columns["ID"]) not in ("BIGINT", "INTEGER"):
        raise ConfigError(
            f"RISK_DEDUPLICATE: column id of topic {settings.source_topic} is {kind} and must be an integer: set it to "
            "off"
        )
    return declared


async def _require_rights(admin: AIOKafkaAdminClient, settings: Settings, *, scoring: bool, risk: bool) -> None:
    """Raise ConfigError with all rights that the broker does not grant."""
    wanted = acls.needed(settings.topic_names, scoring=scoring, risk=risk)
    if denied := await acls.missing(admin, wanted, settings.app_id):
        raise ConfigError(
            f"{settings.broker} (RISK_BROKER) does not grant the user this worker runs as the rights "
            f"{', '.join(denied)}: grant them (kafka-acls --add)"
        )


async def connect(settings: Settings) -> AIOKafkaAdminClient:
    """Start an admin client of the brokers. Raises ConfigError if none answers."""
    admin = new_admin(settings, request_timeout_ms=int(PATIENCE_S * 1000))
    try:
        with silent("aiokafka"):
            await asyncio.wait_for(admin.start(), PATIENCE_S)
    except (KafkaError, OSError) as error:
        nobody = f"no Kafka broker answers at {settings.broker}: start it, or set RISK_BROKER"
        # a broker that answers nothing until now would not tell the reason either
        reason = "" if isinstance(error, TimeoutError) else await diagnose(settings, PATIENCE_S)
        raise ConfigError(reason or nobody) from error
    return admin


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
