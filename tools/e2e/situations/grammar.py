"""What a situation is made of: settings, a registry's behaviour, topic configurations and rows, drawn at random."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tools.e2e.situations.rows import BAD, GOOD, RowSpec, draw_row
from tools.e2e.situations.schemas import BEHAVIOURS

#: valid values of settings
SETTINGS: Mapping[str, Sequence[str]] = {
    "RISK_TIME_UNIT": ("ms", "s"),
    "RISK_EMIT": ("batch", "changes"),
    "RISK_BATCH_ROWS": ("1", "7", "500", "40000"),
    "RISK_MAX_AHEAD": ("0", "3600", "86400"),
    "RISK_IGNORE_HEADERS": ("", "*", "__debezium.*,traceparent"),
    "RISK_STORE": ("rocksdb://", "memory://"),
    "RISK_MODEL": ("", "none"),
    "RISK_WEB_BIND": ("127.0.0.1", "localhost"),
    "RISK_SESSION_TIMEOUT": ("2", "6"),
    "RISK_TOPIC_PREFIX": ("x.", "x-"),
}
#: settings with which a worker must not start
MISTAKES: Sequence[tuple[str, str]] = (
    ("RISK_TIME_UNIT", "minutes"), ("RISK_EMIT", "eager"), ("RISK_BATCH_ROWS", "0"), ("RISK_BATCH_ROWS", "many"),
    ("RISK_MAX_AHEAD", "-1"), ("RISK_STORE", "redis://"), ("RISK_MODEL", "/nowhere/model.json"),
    ("RISK_REPLICATION", "3"), ("RISK_WEB_BIND", "203.0.113.7"), ("RISK_SESSION_TIMEOUT", "0"),
    ("RISK_TOPIC_PREFIX", "a b"), ("RISK_BROKER", "127.0.0.1:1"), ("RISK_BROKER", "kafka"),
    ("RISK_SCHEMA_REGISTRY", "http://127.0.0.1:1"), ("RISK_SOURCE_TOPIC", "no.such.topic"),
)  # fmt: skip
#: settings of a topic that an operator, or another version of Kafka, may have chosen
CONFIGS: Mapping[str, Sequence[str]] = {
    "cleanup.policy": ("delete", "compact", "compact,delete"),
    "retention.ms": ("-1", "3600000"),
    "message.timestamp.type": ("CreateTime", "LogAppendTime"),
    "message.timestamp.after.max.ms": ("3600000", "9223372036854775807"),
    "message.timestamp.before.max.ms": ("86400000", "9223372036854775807"),
    "max.message.bytes": ("2000", "1048588"),
    "compression.type": ("producer", "gzip", "lz4", "zstd", "snappy"),
    "min.insync.replicas": ("1", "2"),
    "segment.bytes": ("1048576",),
}
#: topics that may exist before the first start, by their place in TopicNames
TOPICS = (
    "sessions",
    "agg",
    "prediction",
    "in_risk",
    "visits",
    "students_changelog",
    "alerts_changelog",
    "dead_letters",
)
COMPRESSIONS = (None, None, "gzip", "lz4", "snappy", "zstd")


@dataclass(frozen=True, slots=True)
class Situation:
    """One site on one day."""

    seed: int
    #: RISK_ variables that differ from the defaults
    settings: Mapping[str, str]
    #: number of partitions of the source topic at the start
    partitions: int
    #: topic (field of TopicNames) → its number of partitions, 0 for what the app needs, and its configuration
    topics: Mapping[str, tuple[int, Mapping[str, str]]]
    #: name of the registry's behaviour (tools/e2e/situations/schemas.py)
    registry: str
    #: compression of the source's batches; whether they are transactional, with aborted ones among them
    compression: str | None
    transactional: bool
    #: whether timecreated is in another unit than RISK_TIME_UNIT says
    wrong_unit: bool
    rows: Sequence[RowSpec]
    #: number of partitions that are added to the source topic under the running worker
    added: int = 0

    def describe(self) -> str:
        """Return one line for a report."""
        kinds = sorted({row.kind for row in self.rows} - {"plain"})
        topics = {name: {"partitions": n, **config} for name, (n, config) in self.topics.items()}
        partitions = f"{self.partitions}{f' and then {self.added} more' * bool(self.added)} partitions"
        source = f"{len(self.rows)} rows {kinds} in {partitions}, {self.compression or 'uncompressed'}"
        more = ", transactional" * self.transactional + ", in the wrong unit" * self.wrong_unit
        return f"settings {dict(self.settings)}; registry {self.registry}; topics {topics}; {source}{more}"


def draw(seed: int) -> Situation:
    """Draw a situation. In most of them the settings are right, and the rows or the registry are not."""
    rng = random.Random(seed)
    settings = {name: rng.choice(values) for name, values in SETTINGS.items() if rng.random() < 0.2}
    if rng.random() < 0.08:
        settings.update([rng.choice(MISTAKES)])
    partitions, added = rng.choice((1, 1, 2, 3)), rng.choice((0,) * 8 + (1, 2))
    topics = {name: _topic(rng) for name in TOPICS if rng.random() < 0.3} if rng.random() < 0.25 else {}
    kinds = _kinds(rng)
    count = rng.choice((0, 1, 20, 20, 60))
    rows = [draw_row(rng, i, rng.choice(kinds), rng.randrange(partitions + added)) for i in range(count)]
    return Situation(
        seed=seed,
        settings=settings,
        partitions=partitions,
        topics=topics,
        registry=rng.choice(BEHAVIOURS if rng.random() < 0.2 else ("well", "well", "flaky", "behind")),
        compression=rng.choice(COMPRESSIONS),
        transactional=rng.random() < 0.2,
        wrong_unit=rng.random() < 0.1,
        rows=rows,
        added=added,
    )


def _topic(rng: random.Random) -> tuple[int, Mapping[str, str]]:
    partitions = rng.choice((0,) * 12 + (1, 4))
    return partitions, {name: rng.choice(values) for name, values in CONFIGS.items() if rng.random() < 0.2}


def _kinds(rng: random.Random) -> list[str]:
    """The kinds of rows of one situation: mostly plain ones, and a few others."""
    good, bad = rng.choice((0, 1, 2)), rng.choice((0, 0, 1, 2, 3))
    return ["plain"] * 6 + rng.sample(GOOD, good) + rng.sample(BAD, bad)
