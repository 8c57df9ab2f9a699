"""The topics the app needs: declared when missing, looked over when there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code
from aiokafka.protocol.metadata import MetadataRequest

from app.errors import ConfigError
from models.topic_names import TopicNames

#: rows carry event time as their timestamp: any retention would delete a backlog's rows at once
_FOR_EVER = {"cleanup.policy": "delete", "retention.ms": "-1"}
_COMPACTED = {"cleanup.policy": "compact"}
#: frames are read within moments; a month is for a site that switches the app off over the summer
_A_MONTH = {"cleanup.policy": "delete", "retention.ms": str(30 * 86_400_000)}


#: the broker's error code where the right to see a topic, or to create it, is missing
REFUSED = 29


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic as it should be."""

    name: str
    partitions: int
    configs: dict[str, str] = field(default_factory=dict)


def wanted(names: TopicNames, sources: int) -> list[Topic]:
    """All topics the app writes, for a source topic of `sources` partitions."""
    return [
        Topic(names.visits, sources, _A_MONTH),
        Topic(names.students_changelog, sources, _COMPACTED),
        Topic(names.alerts_changelog, 1, _COMPACTED),
        Topic(names.sessions, 1, _FOR_EVER),
        Topic(names.agg, 1, _COMPACTED),
        Topic(names.prediction, 1, _FOR_EVER),
        Topic(names.in_risk, 1, _FOR_EVER),
        Topic(names.dead_letters, 1, _FOR_EVER),
    ]


async def partitions_of(admin: AIOKafkaAdminClient, topics: Sequence[str]) -> dict[str, int]:
    """Number of partitions of each of `topics` that exists. Raises ConfigError where we may not know.

    The admin client's own describe_topics would have a broker that creates topics create them.
    """
    answer = await admin._send_request(MetadataRequest(list(topics), allow_auto_topic_creation=False))
    described = answer.to_object()["topics"]
    if refused := sorted(t["topic"] for t in described if t["error_code"] == REFUSED):
        raise ConfigError(f"no right to Describe topic {', '.join(refused)}: grant it to the user this worker runs as")
    return {t["topic"]: len(t["partitions"]) for t in described if t["error_code"] == 0 and t["partitions"]}


async def declare(admin: AIOKafkaAdminClient, topics: Sequence[Topic], replication: int) -> list[str]:
    """Create what is missing; returns a line for each existing topic whose configuration may lose rows.

    Raises ConfigError where one cannot be created, or has the wrong number of partitions or policy.
    """
    there = await partitions_of(admin, [t.name for t in topics])
    for topic in topics:
        if topic.name not in there:
            await _create(admin, topic, replication)
    existing = [t for t in topics if t.name in there]
    for topic in existing:
        if there[topic.name] != topic.partitions:
            raise ConfigError(
                f"topic {topic.name} has {there[topic.name]} partitions and must have {topic.partitions}: "
                "delete it, or set another RISK_APP_ID or RISK_TOPIC_PREFIX"
            )
    configs = await configs_of(admin, [t.name for t in existing])
    return [line for topic in existing for line in _unfit(topic, configs.get(topic.name, {}))]


def _unfit(topic: Topic, configs: dict[str, str]) -> list[str]:
    policy = configs.get("cleanup.policy", topic.configs["cleanup.policy"])
    compacted = "compact" in policy.split(",")
    if topic.configs["cleanup.policy"] == "compact" and not compacted:
        raise ConfigError(f"topic {topic.name} has cleanup.policy={policy} and must have compact: state would be lost")
    if topic.configs["cleanup.policy"] == "delete" and compacted:
        return [f"topic {topic.name} has cleanup.policy={policy}: rows that share a key will be dropped"]
    kept = int(configs.get("retention.ms", "-1"))
    wanted_kept = int(topic.configs.get("retention.ms", "-1"))
    if "delete" in policy.split(",") and kept >= 0 and (wanted_kept < 0 or kept < wanted_kept):
        return [
            f"topic {topic.name} has retention.ms={kept}: rows carry event time, those of older events are deleted "
            f"at once; set retention.ms={wanted_kept}"
        ]
    return []


async def _create(admin: AIOKafkaAdminClient, topic: Topic, replication: int) -> None:
    new = NewTopic(topic.name, topic.partitions, replication, topic_configs=dict(topic.configs))
    answer = await admin.create_topics([new])
    for _, code, *rest in answer.topic_errors:
        error = for_code(code)
        if code == 0 or error is TopicAlreadyExistsError:
            continue  # another worker was first
        if code in (REFUSED, 31):
            raise ConfigError(
                f"no right to Create topic {topic.name}: grant it to the user this worker runs as, or create it with "
                f"{topic.partitions} partitions and {_listed(topic.configs)}"
            )
        why = rest[0] if rest and rest[0] else error.__name__
        raise ConfigError(f"topic {topic.name} cannot be created: {why}")


def _listed(configs: dict[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in configs.items())


async def configs_of(admin: AIOKafkaAdminClient, topics: Sequence[str]) -> dict[str, dict[str, str]]:
    """The configuration of each topic; nothing where the broker does not let us look."""
    if not topics:
        return {}
    try:
        answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, t) for t in topics])
    except KafkaError:
        return {}
    found: dict[str, dict[str, str]] = {}
    for answer in answers:
        for _code, _message, _type, name, entries in answer.resources:
            found[name] = {entry[0]: entry[1] for entry in entries}
    return found
