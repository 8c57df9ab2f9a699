"""How far each side is behind what it reads, from its consumer groups' commits.

Commits are asked for before the ends they are compared with. So a lag of 0 is a proof: everything up to
those ends had been processed when they were asked for.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from models.topic_names import TopicNames
from tools.parity.live.cluster import Cluster, every

#: what KSQL calls a query's consumer group: its service's id, the query's name and number
_QUERY = re.compile(r"(?P<service>_confluent-ksql-.*)query_C[TS]AS_(?P<name>[A-Z0-9_]+)_(?P<number>[0-9]+)")
#: states of a group that nobody is in
_DESERTED = ("Empty", "Dead")


@dataclass(frozen=True, slots=True)
class Commits:
    """What the consumer groups of one side have committed."""

    groups: Sequence[str]
    #: by group: the next offset of each partition
    offsets: Sequence[Mapping[TopicPartition, int]] = ()
    #: topics that the side must read, all partitions of them, committed or not
    reads: Collection[str] = ()
    #: groups nobody is in
    deserted: Sequence[str] = ()
    #: why nothing is known
    unknown: str = ""


@dataclass(frozen=True, slots=True)
class Lag:
    """How far one side is behind."""

    groups: Sequence[str]
    #: records by topic; without an entry nothing is known
    topics: Mapping[str, int] = field(default_factory=dict)
    deserted: Sequence[str] = ()
    unknown: str = ""

    @property
    def behind(self) -> int | None:
        """Records in all topics, None if that is unknown."""
        return None if self.unknown else sum(self.topics.values())


async def commits(cluster: Cluster, groups: Sequence[str], reads: Collection[str], *, only: bool = False) -> Commits:
    """What `groups` have committed, in the topics `reads` only or in all."""
    try:
        found = [await _committed(cluster, group) for group in groups]
        deserted = await _deserted(cluster, groups)
    except KafkaError as error:
        return Commits(groups, unknown=f"the broker does not say ({type(error).__name__})")
    if only:
        found = [{tp: at for tp, at in one.items() if tp.topic in reads} for one in found]
    silent = [group for group, one in zip(groups, found, strict=True) if not one]
    if silent:
        why = f"group {', '.join(silent)} has committed nothing: is that its name?"
        return Commits(groups, unknown=why, deserted=[group for group in deserted if group not in silent])
    return Commits(groups, found, reads, deserted)


async def ksql_commits(cluster: Cluster, source: str, there: TopicNames, *, plain: bool) -> Commits:
    """What KSQL's queries have committed that write the topics `there`, found by their names and what they read.

    plain: whether the topics have the names KSQL gives them; otherwise a query's name does not tell which
    topic it writes, and the first one is known by the others.
    """
    reads = {"SESSIONS_PER_15MINS": source, "PREDICTION_AGG": there.sessions, "PREDICTION_IN_RISK": there.prediction}
    wanted = {f"MOODLE_LOGS_{name}": topic for name, topic in reads.items()}
    try:
        listed = sorted(str(group[0]) for group in await cluster.admin.list_consumer_groups())
        matches = [m for m in map(_QUERY.fullmatch, listed) if m is not None and m["name"] in wanted]
        found = {m: await _committed(cluster, m.string) for m in matches}
        found = {m: at for m, at in found.items() if wanted[m["name"]] in {tp.topic for tp in at}}
        deserted = await _deserted(cluster, [m.string for m in found])
    except KafkaError as error:
        return Commits((), unknown=f"the broker does not say ({type(error).__name__})")
    services = {m["service"] for m in found if wanted[m["name"]] != source}
    mine = [m for m in found if plain or m["service"] in services]
    # a query that was dropped and made anew leaves its old group behind for a week
    mine.sort(key=lambda m: (m.string not in deserted, int(m["number"])))
    last = {m["name"]: m for m in mine}
    if not last:
        return Commits((), unknown="no consumer group of a KSQL query was found; name it with --group")
    chosen = [last[name] for name in sorted(last)]
    return Commits(
        [m.string for m in chosen],
        [found[m] for m in chosen],
        {wanted[m["name"]] for m in chosen},
        [m.string for m in chosen if m.string in deserted],
    )


async def lag(cluster: Cluster, side: Commits) -> Lag:
    """How far these commits are behind the ends of now."""
    if side.unknown:
        return Lag(side.groups, deserted=side.deserted, unknown=side.unknown)
    asked = {tp for one in side.offsets for tp in one}
    there = await cluster.partitions({tp.topic for tp in asked} | set(side.reads))
    of_reads = every({topic: n for topic, n in there.items() if topic in side.reads})
    asked = {tp for tp in asked if tp.partition < there.get(tp.topic, 0)} | set(of_reads)
    ends, begins = await cluster.ends(asked), await cluster.begins(asked)
    topics = dict.fromkeys(sorted({tp.topic for tp in asked}), 0)
    for tp in asked:
        # of several groups that read a topic the slowest counts
        at = min((one[tp] for one in side.offsets if tp in one), default=begins[tp])
        topics[tp.topic] += max(0, ends[tp] - max(at, begins[tp]))
    return Lag(side.groups, topics, side.deserted)


async def _committed(cluster: Cluster, group: str) -> dict[TopicPartition, int]:
    found = await cluster.admin.list_consumer_group_offsets(group)
    return {tp: at.offset for tp, at in found.items() if at.offset >= 0}


async def _deserted(cluster: Cluster, groups: Iterable[str]) -> list[str]:
    # one by one: aiokafka 0.14 misreads an answer about several
    answers = [answer for group in groups for answer in await cluster.admin.describe_consumer_groups([group])]
    return sorted(group[1] for answer in answers for group in answer.groups if group[2] in _DESERTED)
