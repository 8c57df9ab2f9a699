"""The topics that the page writes, and its rights, checked before the page starts."""

from __future__ import annotations

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from app.errors import ConfigError
from app.kafka import acls, topics
from app.kafka.refusals import REFUSALS
from app.ops.preflight import connect
from app.settings import Settings
from app.upstream.aiokafka import topic_operations

DAY_MS = 86_400_000


async def prepare(settings: Settings) -> list[str]:
    """Create the topics that the page writes and that are missing, and check the page's rights.

    Returns warnings, one line each. Raises ConfigError with one line.
    """
    admin = await connect(settings)
    try:
        return await _prepare(admin, settings)
    except KafkaError as error:
        refused = f"{settings.broker} (RISK_BROKER) refused: {str(error) or type(error).__name__}"
        raise ConfigError(REFUSALS.reason(settings) or refused) from error
    finally:
        await admin.close()


async def _prepare(admin: AIOKafkaAdminClient, settings: Settings) -> list[str]:
    names = settings.topic_names
    wanted = topics.of_page(names, settings.page_audit_days)
    lines = await topics.declare(admin, wanted, settings.replication, max_ahead_ms=settings.max_ahead_ms)
    rights = acls.of_page(names)
    existing = await topics.partitions_of(admin, list(rights))
    operations = await topic_operations(admin, list(existing))
    if denied := list(acls.denied({topic: rights[topic] for topic in existing}, operations)):
        raise ConfigError(
            f"{settings.broker} (RISK_BROKER) does not grant the user the page runs as the rights "
            f"{', '.join(denied)}: grant them (kafka-acls --add)"
        )
    lines += [
        f"topic {topic} does not exist yet: the page shows nothing of it until a worker with a standing model runs"
        for topic in (names.risk, names.risk_alerts, names.sessions)
        if topic not in existing
    ]
    return lines + await _kept_for_longer(admin, settings)


async def _kept_for_longer(admin: AIOKafkaAdminClient, settings: Settings) -> list[str]:
    """Return a line if the audit is kept for longer than the setting says."""
    topic, days = settings.topic_names.page_audit, settings.page_audit_days
    configs = (await topics.configs_of(admin, [topic])).get(topic, {})
    retention = int(configs.get("retention.ms", days * DAY_MS))
    if 0 <= retention <= days * DAY_MS:
        return []
    kept = "for ever" if retention < 0 else f"for {retention / DAY_MS:g} days"
    return [
        f"topic {topic} keeps the audit {kept}, and RISK_PAGE_AUDIT_DAYS is {days}: set retention.ms={days * DAY_MS} "
        "(kafka-configs --alter --add-config)"
    ]
