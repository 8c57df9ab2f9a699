"""The topics the app writes: created if missing, checked if they exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from app.errors import ConfigError
from app.kafka import topic_limits
from app.kafka.topic_limits import AFTER, ANY_TIME, ANY_TIME_OLD, LARGE_BATCHES
from app.upstream.aiokafka import describe_topics, newest_version
from models.topic_names import TopicNames

_ROOM = ANY_TIME | LARGE_BATCHES
#: rows have event time as their timestamp: any retention time would delete a backlog's rows at once
_UNLIMITED = {"cleanup.policy": "delete", "retention.ms": "-1"} | _ROOM
_COMPACTED = {"cleanup.policy": "compact"} | _ROOM
#: visit batches are read within moments; a month allows a site to switch the app off over the summer
_A_MONTH = {"cleanup.policy": "delete", "retention.ms": str(30 * 86_400_000)} | _ROOM

#: Kafka's error codes: no right to describe or create a topic, or to create topics in the cluster; a configuration
#: that the broker does not know
TOPIC_AUTHORIZATION_FAILED, _CLUSTER_AUTHORIZATION_FAILED, _INVALID_CONFIG = 29, 31, 40
#: Kafka's number of the request Produce, and its first version in which a topic with fewer replicas than
#: min.insync.replicas can be written (Kafka 3.7)
_PRODUCE, _WRITES_WITH_FEW_REPLICAS = 0, 10


@dataclass(frozen=True, slots=True)
class Topic:
    """The required partitions and configuration of one topic."""

    name: str
    partitions: int
    configs: dict[str, str] = field(default_factory=dict)
    #: whether the app writes records with event time as their timestamp to it
    event_time: bool = False
    #: whether a sink may keep an index of it: versions of its documents are offsets
    indexed: bool = False


def wanted(names: TopicNames, partitions: int, changelog: int | None = None, *, risk: bool = True) -> list[Topic]:
    """List all topics the app writes.

    partitions: of the visits topic; changelog: of the changelog of students, if that is another number; risk: whether
    those of the risk are among them.
    """
    of_risk = [
        Topic(names.risk, 1, _COMPACTED, event_time=True, indexed=True),
        Topic(names.risk_alerts, 1, _UNLIMITED, event_time=True, indexed=True),
        Topic(names.cohorts, 1, _COMPACTED),
    ]
    return [
        *(of_risk if risk else []),
        Topic(names.visits, partitions, _A_MONTH),
        Topic(names.students_changelog, changelog or partitions, _COMPACTED),
        Topic(names.alerts_changelog, 1, _COMPACTED),
        Topic(names.sessions, 1, _UNLIMITED, event_time=True, indexed=True),
        Topic(names.agg, 1, _COMPACTED, event_time=True, indexed=True),
        Topic(names.prediction, 1, _UNLIMITED, event_time=True, indexed=True),
        Topic(names.in_risk, 1, _UNLIMITED, event_time=True, indexed=True),
        Topic(names.dead_letters, 1, _UNLIMITED),
    ]


def of_page(names: TopicNames, audit_days: int) -> list[Topic]:
    """List the topics that the page writes; audit_days: how long the audit is kept [days]."""
    kept = {"cleanup.policy": "delete", "retention.ms": str(audit_days * 86_400_000)} | _ROOM
    # `forget` writes its tombstones with event time
    return [Topic(names.cases, 1, _COMPACTED, event_time=True), Topic(names.page_audit, 1, kept)]


async def partitions_of(admin: AIOKafkaAdminClient, topics: Sequence[str]) -> dict[str, int]:
    """Return the number of partitions of each of `topics` that exists. Raises ConfigError for a missing right."""
    described = await describe_topics(admin, topics)
    if refused := _refused(described):
        raise ConfigError(f"no right to Describe topic {', '.join(refused)}: grant it to the user this program runs as")
    return {t["topic"]: len(t["partitions"]) for t in described if t["error_code"] == 0 and t["partitions"]}


async def hidden(admin: AIOKafkaAdminClient, topics: Sequence[str]) -> list[str]:
    """Return those of `topics` that this client may not describe, whether they exist or not."""
    return _refused(await describe_topics(admin, topics))


def _refused(described: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted(t["topic"] for t in described if t["error_code"] == TOPIC_AUTHORIZATION_FAILED)


def internal_partitions(names: TopicNames, existing: Mapping[str, int]) -> dict[str, int]:
    """Return the number of partitions that the visits topic and the changelog of students have or get, in this order.

    When the app is first started that is the number of the source topic. Only `faust -A app grow` changes it.
    """
    internal = (names.visits, names.students_changelog)
    new = next((existing[topic] for topic in internal if topic in existing), existing[names.source])
    return {topic: existing.get(topic, new) for topic in internal}


def unfinished_growth(internal: Mapping[str, int]) -> str | None:
    """Return what to say if the internal topics have different numbers of partitions, else None."""
    if len(set(internal.values())) == 1:
        return None
    have = " and ".join(f"topic {topic} has {count} partitions" for topic, count in internal.items())
    most = max(internal.values())
    return f"{have}: growing was interrupted; stop all workers, then run faust -A app grow --partitions {most}"


async def declare(
    admin: AIOKafkaAdminClient, topics: Sequence[Topic], replication: int, *, max_ahead_ms: int = 0
) -> list[str]:
    """Create the missing topics; return a line for each problem of a topic that may lose rows, and for each output that
    is made anew.

    replication: replication factor of new topics, -1 for the broker's default.replication.factor; max_ahead_ms: how far
    event time may be ahead of the clock, 0 for any. Raises ConfigError if one cannot be created, has the wrong number
    of partitions or cleanup policy, or would refuse rows.
    """
    partitions = await partitions_of(admin, [t.name for t in topics])
    for topic in topics:
        if topic.name not in partitions:
            await _create(admin, topic, replication)
    existing = [t for t in topics if t.name in partitions]
    for topic in existing:
        if partitions[topic.name] != topic.partitions:
            raise ConfigError(
                f"topic {topic.name} has {partitions[topic.name]} partitions and must have {topic.partitions}: "
                "set another RISK_APP_ID or RISK_TOPIC_PREFIX, whichever it begins with"
            )
    # new topics too: they have the broker's defaults
    configs = await configs_of(admin, [t.name for t in topics])
    lines = [line for topic in existing for line in _check_configs(topic, configs.get(topic.name, {}))]
    event_time = [topic.name for topic in topics if topic.event_time]
    large = [topic.name for topic in topics if topic.configs.items() >= LARGE_BATCHES.items()]
    topic_limits.require_room(large, event_time, configs, max_ahead_ms=max_ahead_ms)
    lines += topic_limits.lost_times(event_time, configs)
    # state without its output: the topic was deleted
    if any(topic.name.endswith("-changelog") for topic in existing):
        lines += [
            f"topic {topic.name} was missing and is made anew: an index of the former one ignores its rows until it is "
            "rebuilt (connect/rebuild.py)"
            for topic in topics
            if topic.indexed and topic.name not in partitions
        ]
    return lines + await _check_replicas(admin, [t.name for t in topics], configs)


async def _check_replicas(
    admin: AIOKafkaAdminClient, topics: Sequence[str], configs: dict[str, dict[str, str]]
) -> list[str]:
    described = await describe_topics(admin, topics)
    replicas = {t["topic"]: min(len(p["replicas"]) for p in t["partitions"]) for t in described if t["partitions"]}
    brokers = len((await admin.describe_cluster())["brokers"])
    refuses = await newest_version(admin, _PRODUCE) < _WRITES_WITH_FEW_REPLICAS
    return topic_limits.check_replicas(replicas, brokers, configs, refuses=refuses)


def _check_configs(topic: Topic, configs: dict[str, str]) -> list[str]:
    """Return at most one line on rows that the topic may lose. Raises ConfigError if the state would be lost."""
    policy = configs.get("cleanup.policy", topic.configs["cleanup.policy"])
    compacted = "compact" in policy.split(",")
    if topic.configs["cleanup.policy"] == "compact" and not compacted:
        raise ConfigError(f"topic {topic.name} has cleanup.policy={policy} and must have compact: state would be lost")
    if topic.configs["cleanup.policy"] == "delete" and compacted:
        return [f"topic {topic.name} has cleanup.policy={policy}: rows that share a key will be dropped"]
    retention = int(configs.get("retention.ms", "-1"))
    required = int(topic.configs.get("retention.ms", "-1"))
    if "delete" in policy.split(",") and retention >= 0 and (required < 0 or retention < required):
        if not topic.event_time:
            return [f"topic {topic.name} has retention.ms={retention}: records are lost early; set {required}"]
        return [
            f"topic {topic.name} has retention.ms={retention}: rows carry event time, those of older events are "
            f"deleted at once; set retention.ms={required}"
        ]
    return []


async def _create(admin: AIOKafkaAdminClient, topic: Topic, replication: int) -> None:
    code, message = await _try_to_create(admin, topic, replication)
    if code == _INVALID_CONFIG and AFTER in topic.configs:  # before Kafka 3.6
        older = {name: value for name, value in topic.configs.items() if name not in ANY_TIME} | ANY_TIME_OLD
        code, message = await _try_to_create(admin, replace(topic, configs=older), replication)
    error = for_code(code)
    if code == 0 or error is TopicAlreadyExistsError:
        return  # another worker has created it
    if code in (TOPIC_AUTHORIZATION_FAILED, _CLUSTER_AUTHORIZATION_FAILED):
        raise ConfigError(
            f"no right to Create topic {topic.name}: grant it to the user this program runs as, or create it with "
            f"{topic.partitions} partitions and {_format_configs(topic.configs)}"
        )
    raise ConfigError(f"topic {topic.name} cannot be created: {message or error.__name__}")


async def _try_to_create(admin: AIOKafkaAdminClient, topic: Topic, replication: int) -> tuple[int, str | None]:
    """Create a topic; return the broker's error code and message."""
    new = NewTopic(topic.name, topic.partitions, 1, topic_configs=dict(topic.configs))
    new.replication_factor = replication  # its constructor refuses -1
    answer = await admin.create_topics([new])
    ((_, code, *rest),) = answer.topic_errors
    return int(code), rest[0] if rest else None


def _format_configs(configs: dict[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in configs.items())


async def configs_of(admin: AIOKafkaAdminClient, topics: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the configuration of each topic; empty if the broker refuses to show it."""
    if not topics:
        return {}
    try:
        answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, t) for t in topics])
    except KafkaError:
        return {}
    configs: dict[str, dict[str, str]] = {}
    for answer in answers:
        for _code, _message, _type, name, entries in answer.resources:
            configs[name] = {entry[0]: entry[1] for entry in entries}
    return configs
