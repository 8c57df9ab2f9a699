"""How far each side is behind its inputs, measured from its consumer groups' committed offsets.

Committed offsets are fetched before the end offsets they are compared with. So a lag of 0 proves that
everything up to those ends had been processed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from models.topic_names import TopicNames
from tools.parity.live.cluster import Cluster, all_partitions

#: name of a KSQL query's consumer group: service id, name and number of the query
_QUERY = re.compile(r"(?P<service>_confluent-ksql-.*)query_C[TS]AS_(?P<name>[A-Z0-9_]+)_(?P<number>[0-9]+)")
#: states of a group without members
_WITHOUT_MEMBERS = ("Empty", "Dead")


@dataclass(frozen=True, slots=True)
class CommittedOffsets:
    """What the consumer groups of one side have committed."""

    groups: Sequence[str]
    #: for each group, the next offset of each partition
    offsets: Sequence[Mapping[TopicPartition, int]] = ()
    #: topics whose partitions all count as read by this side, even if it has not committed an offset for them
    inputs: Collection[str] = ()
    #: groups without members
    empty_groups: Sequence[str] = ()
    #: why the offsets are unknown; empty if they are known
    unknown_because: str = ""


@dataclass(frozen=True, slots=True)
class Lag:
    """How far one side is behind."""

    groups: Sequence[str]
    #: lag by topic [records]
    topics: Mapping[str, int] = field(default_factory=dict)
    #: groups without members
    empty_groups: Sequence[str] = ()
    #: why the lag is unknown; empty if it is known
    unknown_because: str = ""

    @property
    def behind(self) -> int | None:
        """Lag over all topics [records], None if unknown."""
        return None if self.unknown_because else sum(self.topics.values())


async def fetch_committed(
    cluster: Cluster, groups: Sequence[str], inputs: Collection[str], *, only_inputs: bool = False
) -> CommittedOffsets:
    """Return the offsets committed by `groups`, for all topics or those of the topics `inputs` only."""
    try:
        offsets = [await _committed(cluster, group) for group in groups]
        empty = await _without_members(cluster, groups)
    except KafkaError as error:
        return CommittedOffsets(
            groups, unknown_because=f"the committed offsets could not be read ({type(error).__name__})"
        )
    if only_inputs:
        offsets = [{tp: at for tp, at in committed.items() if tp.topic in inputs} for committed in offsets]
    without = [group for group, committed in zip(groups, offsets, strict=True) if not committed]
    if without:
        why = f"group {', '.join(without)} has committed no offsets: is the name right?"
        return CommittedOffsets(groups, unknown_because=why, empty_groups=[g for g in empty if g not in without])
    return CommittedOffsets(groups, offsets, inputs, empty)


async def fetch_committed_by_ksql(
    cluster: Cluster, source: str, there: TopicNames, *, default_names: bool
) -> CommittedOffsets:
    """Return the offsets committed by the KSQL queries that write the topics `there`.

    Queries are recognised by their group's name and by the topics they read. default_names: whether the
    topics have KSQL's default names. With other names, a query that reads the source topic could write
    any topic; it is accepted if it belongs to the same KSQL service as one that reads the topics `there`.
    """
    reads = {"SESSIONS_PER_15MINS": source, "PREDICTION_AGG": there.sessions, "PREDICTION_IN_RISK": there.prediction}
    inputs = {f"MOODLE_LOGS_{name}": topic for name, topic in reads.items()}
    try:
        groups = sorted(str(group[0]) for group in await cluster.admin.list_consumer_groups())
        matches = [m for m in map(_QUERY.fullmatch, groups) if m is not None and m["name"] in inputs]
        offsets = {m: await _committed(cluster, m.string) for m in matches}
        offsets = {m: at for m, at in offsets.items() if inputs[m["name"]] in {tp.topic for tp in at}}
        empty = await _without_members(cluster, [m.string for m in offsets])
    except KafkaError as error:
        return CommittedOffsets((), unknown_because=f"the committed offsets could not be read ({type(error).__name__})")
    services = {m["service"] for m in offsets if inputs[m["name"]] != source}
    candidates = [m for m in offsets if default_names or m["service"] in services]
    # the group of a query that was dropped and recreated remains for a week
    candidates.sort(key=lambda m: (m.string not in empty, int(m["number"])))
    latest = {m["name"]: m for m in candidates}
    if not latest:
        return CommittedOffsets((), unknown_because="no consumer group of a KSQL query was found; set --group")
    chosen = [latest[name] for name in sorted(latest)]
    return CommittedOffsets(
        [m.string for m in chosen],
        [offsets[m] for m in chosen],
        {inputs[m["name"]] for m in chosen},
        [m.string for m in chosen if m.string in empty],
    )


async def measure_lag(cluster: Cluster, committed: CommittedOffsets) -> Lag:
    """Return how far the committed offsets are behind the current end offsets."""
    if committed.unknown_because:
        return Lag(committed.groups, empty_groups=committed.empty_groups, unknown_because=committed.unknown_because)
    partitions = {tp for offsets in committed.offsets for tp in offsets}
    counts = await cluster.partition_counts({tp.topic for tp in partitions} | set(committed.inputs))
    inputs = all_partitions({topic: n for topic, n in counts.items() if topic in committed.inputs})
    partitions = {tp for tp in partitions if tp.partition < counts.get(tp.topic, 0)} | set(inputs)
    ends, begins = await cluster.end_offsets(partitions), await cluster.beginning_offsets(partitions)
    topics = dict.fromkeys(sorted({tp.topic for tp in partitions}), 0)
    for tp in partitions:
        # if several groups read a topic, the slowest one counts
        at = min((offsets[tp] for offsets in committed.offsets if tp in offsets), default=begins[tp])
        topics[tp.topic] += max(0, ends[tp] - max(at, begins[tp]))
    return Lag(committed.groups, topics, committed.empty_groups)


async def _committed(cluster: Cluster, group: str) -> dict[TopicPartition, int]:
    offsets = await cluster.admin.list_consumer_group_offsets(group)
    return {tp: at.offset for tp, at in offsets.items() if at.offset >= 0}


async def _without_members(cluster: Cluster, groups: Iterable[str]) -> list[str]:
    # one request per group: aiokafka 0.14 misreads an answer about several groups
    answers = [answer for group in groups for answer in await cluster.admin.describe_consumer_groups([group])]
    return sorted(group[1] for answer in answers for group in answer.groups if group[2] in _WITHOUT_MEMBERS)
