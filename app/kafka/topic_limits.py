"""What may make the broker refuse rows, or lose them, however often they are tried: limits and replicas of topics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from app.errors import ConfigError

#: configuration of topics as the broker shows it, by topic
Configs = Mapping[str, Mapping[str, str]]

#: Kafka's "no limit" [ms], which it also takes for "not set"
_NO_LIMIT = 2**63 - 1
#: a limit that no row's time reaches [ms]
_FAR = 2**62
BEFORE, AFTER, DIFFERENCE = (f"message.timestamp.{name}.max.ms" for name in ("before", "after", "difference"))
#: Rows of outputs have event time as their timestamp, any time at all; Kafka 4 refuses times more than an hour ahead
#: unless told otherwise. One below "no limit": Kafka 3.6 to 3.9 use a broker's log.message.timestamp.difference.max.ms
#: for a limit that is not set
ANY_TIME = {"message.timestamp.type": "CreateTime", BEFORE: str(_NO_LIMIT - 1), AFTER: str(_NO_LIMIT - 1)}
#: the same for brokers before Kafka 3.6, which have one limit for both
ANY_TIME_OLD = {"message.timestamp.type": "CreateTime", DIFFERENCE: str(_NO_LIMIT)}
#: Kafka's default, for brokers whose own default is smaller
LARGE_BATCHES = {"max.message.bytes": "1048588"}
#: the largest record batch that the app writes, rounded up [bytes]
_LARGEST_BATCH = 1_000_000
#: number of brokers from which on one replica is likely to be an oversight
_CLUSTER = 3


def require_room(large: Iterable[str], event_time: Iterable[str], configs: Configs, *, max_ahead_ms: int = 0) -> None:
    """Raise ConfigError, with what to set, if a topic refuses record batches or times that the app may write.

    large: topics to which the app writes large batches; event_time: those whose records have event time as timestamp;
    max_ahead_ms: how far event time may be ahead of the clock, 0 for any (RISK_MAX_AHEAD).
    """
    narrow: dict[tuple[str, int], list[str]] = {}
    for topic in event_time:
        for name, limit in _time_limits(configs.get(topic, {})).items():
            if name == AFTER and 0 < max_ahead_ms <= limit:
                continue
            narrow.setdefault((name, limit), []).append(topic)
    for topic in large:
        largest = int(configs.get(topic, {}).get("max.message.bytes", _LARGEST_BATCH))
        if largest < _LARGEST_BATCH:
            narrow.setdefault(("max.message.bytes", largest), []).append(topic)
    if narrow:
        raise ConfigError("; ".join(_explain(name, limit, named) for (name, limit), named in narrow.items()))


def _time_limits(configs: Mapping[str, str]) -> dict[str, int]:
    """Return the limits in force [ms] on a record's time that a row may exceed, by name."""
    if configs.get("message.timestamp.type") == "LogAppendTime":
        return {}  # the broker ignores the record's time
    limits = {}
    for name in (BEFORE, AFTER):
        limit = int(configs.get(name, _NO_LIMIT))
        if limit == _NO_LIMIT:
            name, limit = DIFFERENCE, int(configs.get(DIFFERENCE, _NO_LIMIT))
        if limit < _FAR:
            limits[name] = limit
    return limits


def _explain(name: str, limit: int, topics: list[str]) -> str:
    wanted = {**ANY_TIME, **ANY_TIME_OLD, **LARGE_BATCHES}[name]
    reason = "rows carry event time" if name != "max.message.bytes" else "large flushes need more"
    return (
        f"topic {', '.join(topics)} has {name}={limit}: {reason}, and a row that the broker refuses would be tried for "
        f"ever; set it (kafka-configs --alter --add-config {name}={wanted})"
    )


def lost_times(event_time: Iterable[str], configs: Configs) -> list[str]:
    """Return a line for each topic in which the broker replaces event time."""
    return [
        f"topic {topic} has message.timestamp.type=LogAppendTime: rows get the time of writing instead of event time; "
        "set message.timestamp.type=CreateTime"
        for topic in event_time
        if configs.get(topic, {}).get("message.timestamp.type") == "LogAppendTime"
    ]


def check_replicas(replicas: Mapping[str, int], brokers: int, configs: Configs, *, refuses: bool) -> list[str]:
    """Return a line for each kind of topics with too few replicas.

    replicas: the least number of replicas of a partition, by topic. refuses: whether the brokers refuse every write to
    a topic with fewer replicas than min.insync.replicas, as they did before Kafka 3.7; then it raises ConfigError.
    """
    lines = []
    short: dict[tuple[int, int], list[str]] = {}
    for topic, number in replicas.items():
        least = int(configs.get(topic, {}).get("min.insync.replicas", 1))
        if number < least:
            short.setdefault((number, least), []).append(topic)
    for (number, least), topics in short.items():
        named = ", ".join(topics)
        if refuses:
            raise ConfigError(
                f"topic {named} has {number} of the {least} replicas that min.insync.replicas demands, so every write "
                "would be refused: add replicas (kafka-reassign-partitions), or lower min.insync.replicas"
            )
        lines.append(
            f"topic {named} has {number} of the {least} replicas that min.insync.replicas demands: add replicas "
            "(kafka-reassign-partitions), or lower the setting"
        )
    single = [topic for topic, number in replicas.items() if number == 1]
    if single and brokers >= _CLUSTER:
        lines.append(
            f"topic {', '.join(single)} has one replica although there are {brokers} brokers: the loss of one broker "
            "stops the app, that of its disk loses rows; add replicas (kafka-reassign-partitions), set RISK_REPLICATION"
        )
    return lines
