"""The app's topics against another side's, KSQL's as a rule, on one cluster: connect, wait, read, compare.

Every topic is read up to one moment's ends: the groups' commits are asked for first, then the ends of what is
written, then those of what is read. Where no side lags at that moment, a difference is no matter of time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from aiokafka import TopicPartition

from app.errors import ConfigError
from app.kafka import topics
from app.settings import Settings
from models.topic_names import TopicNames
from tools.parity.live import report, tables
from tools.parity.live import verdict as judging
from tools.parity.live.cluster import Cluster, Reading, every
from tools.parity.live.lag import Lag, commits, ksql_commits, lag
from tools.parity.live.report import Report, Step, Topic
from tools.parity.live.sequences import Place
from tools.parity.live.verdict import Pair, Side

#: told, in one line, what is waited for
Say = Callable[[str], object]
#: pause between two looks while waiting [s]
_LOOK_S = 0.3


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command was asked."""

    #: prefix of the other side's topics
    against: str
    #: the other side's consumer groups; none: find KSQL's
    groups: Sequence[str] = ()
    #: how long to wait for the sides [s]
    wait_s: float = 0.0
    #: how many examples of each kind are kept
    show: int = 10


@dataclass(frozen=True, slots=True)
class _Moment:
    """Where what is written ends, and how far each side is behind there."""

    ends: Mapping[TopicPartition, int]
    lag_here: Lag
    lag_there: Lag

    @property
    def waits(self) -> bool:
        """Whether a side is known to have work to do."""
        return bool(self.lag_here.behind or self.lag_there.behind)


class _Watch:
    """Looks at both sides."""

    def __init__(
        self, cluster: Cluster, settings: Settings, asked: Asked, outputs: Mapping[str, int], say: Say
    ) -> None:
        """outputs: partitions by topic, of all topics that are compared."""
        self._say = say
        self._cluster, self._asked, self._outputs, self._group = cluster, asked, outputs, settings.app_id
        self._names = settings.topic_names
        self._theirs = replace(settings, topic_prefix=asked.against).topic_names

    async def look(self) -> _Moment:
        """How things are now."""
        cluster, names, asked = self._cluster, self._names, self._asked
        mine = await commits(cluster, [self._group], {names.source, names.visits, names.prediction}, only=True)
        if asked.groups:
            others = await commits(cluster, asked.groups, {names.source})
        else:
            others = await ksql_commits(cluster, names.source, self._theirs, plain=not asked.against)
        ends = await cluster.ends(every(self._outputs))
        return _Moment(ends, await lag(cluster, mine), await lag(cluster, others))

    async def at_rest(self) -> _Moment:
        """A moment when no side lags, or, after the time asked for, any."""
        began = time.monotonic()
        moment = await self.look()
        if moment.waits and self._asked.wait_s:
            self.say_waiting(moment, "both sides have no lag")
        while moment.waits and time.monotonic() - began < self._asked.wait_s:
            await asyncio.sleep(_LOOK_S)
            moment = await self.look()
        return moment

    def say_waiting(self, moment: _Moment, what: str) -> None:
        """Tell what is waited for: a command that is silent for a minute looks dead."""
        lags = ((name, lag.behind) for name, lag in (("here", moment.lag_here), ("there", moment.lag_there)))
        behind = ", ".join(f"{name} {'an unknown number' if n is None else format(n, ',')}" for name, n in lags)
        self._say(f"waiting up to {self._asked.wait_s:g} s until {what}; records behind: {behind}")


async def compare(settings: Settings, asked: Asked, say: Say) -> Report:
    """Compare the app's topics with those of the prefix asked. Raises ConfigError if that cannot be done.

    say: told what is waited for.
    """
    if asked.against == settings.topic_prefix:
        raise ConfigError(
            f"both sides are the topics with prefix {asked.against!r}: set RISK_TOPIC_PREFIX to the app's prefix, "
            "or --against to the other side's"
        )
    names, theirs = settings.topic_names, replace(settings, topic_prefix=asked.against).topic_names
    async with Cluster.of(settings) as cluster:
        there = await cluster.partitions({names.source, *_four(names), *_four(theirs)})
        _check_there(settings, asked, names, theirs, there)
        outputs = {topic: n for topic, n in there.items() if topic != names.source}
        watch = _Watch(cluster, settings, asked, outputs, say)
        moment = await watch.at_rest()
        readings = await cluster.open(outputs)
        await cluster.read(list(readings.values()), moment.ends)
        configs = await topics.configs_of(cluster.admin, sorted(outputs))
        pairs = _pairs(settings, names, theirs, readings, configs)
        now_ms = int(time.time() * 1000)
        found = [pair.compare(now_ms) for pair in pairs]
        if asked.wait_s and not report.is_quiet(moment.lag_here, moment.lag_there):
            moment, found = await _follow(cluster, watch, asked, readings, pairs, found)
        return await _report(cluster, settings, asked, pairs, found, moment, there.get(names.source, 0))


async def _report(
    cluster: Cluster,
    settings: Settings,
    asked: Asked,
    pairs: Sequence[Pair],
    found: Sequence[tables.Compared],
    moment: _Moment,
    sources: int,
) -> Report:
    """What was found, with the rows to show. sources: partitions of the source topic."""
    changes = settings.emit == "changes"
    judged = judging.judge(pairs, found, sources=sources, changes=changes)
    if not any(topic.records_here or topic.records_there for topic in judged):
        raise ConfigError("there is nothing to compare yet: the topics of both sides are empty")
    judged = [
        await _with_steps(cluster, pair, judging.examples(pair, topic, asked.show))
        for pair, topic in zip(pairs, judged, strict=True)
    ]
    hints = report.hints(
        judged,
        moment.lag_here,
        moment.lag_there,
        waits=bool(asked.wait_s),
        activities=report.activities(*pairs[1].last_rows(), judged[1].table.differing),
        sources=sources,
        lost=sum((await cluster.begins(every({settings.source_topic: sources}))).values()),
        stamped=[name for name in ("here", "there") if _is_stamped(pairs, name)],
    )
    return Report(
        here=settings.topic_prefix,
        there=asked.against,
        topics=judged,
        lag_here=moment.lag_here,
        lag_there=moment.lag_there,
        no_sequences="" if changes else "RISK_EMIT=batch: the app does not write every change",
        hints=hints,
    )


def _check_there(
    settings: Settings, asked: Asked, names: TopicNames, theirs: TopicNames, there: Mapping[str, int]
) -> None:
    """Raises ConfigError if a side has neither of the topics that count."""
    for side, prefix, variable in (
        (names, settings.topic_prefix, "RISK_TOPIC_PREFIX"),
        (theirs, asked.against, "--against"),
    ):
        if side.sessions not in there and side.agg not in there:
            raise ConfigError(
                f"neither {side.sessions} nor {side.agg} exists on {settings.broker}: is {variable} ({prefix!r}) right?"
            )


async def _follow(
    cluster: Cluster,
    watch: _Watch,
    asked: Asked,
    readings: Mapping[str, Reading],
    pairs: Sequence[Pair],
    found: list[tables.Compared],
) -> tuple[_Moment, list[tables.Compared]]:
    """Read on until every difference has vanished, no side lags, or the time asked for is over.

    A log that is written all the time leaves no moment without lag; but what is only on its way arrives.
    """
    began = time.monotonic()
    if judging.may_count(pairs, found):
        watch.say_waiting(await watch.look(), "every difference has vanished")
    while True:
        await asyncio.sleep(_LOOK_S)
        moment = await watch.look()
        await cluster.read(list(readings.values()), moment.ends)
        found = [tables.settle(one, *pair.last_rows()) for one, pair in zip(found, pairs, strict=True)]
        quiet = report.is_quiet(moment.lag_here, moment.lag_there)
        if quiet or not judging.may_count(pairs, found) or time.monotonic() - began > asked.wait_s:
            return moment, found


def _four(names: TopicNames) -> tuple[str, str, str, str]:
    return names.sessions, names.agg, names.prediction, names.in_risk


def _pairs(
    settings: Settings,
    names: TopicNames,
    theirs: TopicNames,
    readings: Mapping[str, Reading],
    configs: Mapping[str, Mapping[str, str]],
) -> list[Pair]:
    def side(topic: str) -> Side | None:
        return Side(readings[topic], configs.get(topic, {})) if topic in readings else None

    return [
        Pair(mine.removeprefix(settings.topic_prefix), side(mine), side(its))
        for mine, its in zip(_four(names), _four(theirs), strict=True)
    ]


def _is_stamped(pairs: Sequence[Pair], name: str) -> bool:
    return any(side.reading.content.stamped_by_broker for pair in pairs for which, side in pair.sides if which == name)


async def _with_steps(cluster: Cluster, pair: Pair, topic: Topic) -> Topic:
    """The topic with the rows where its sequences part."""
    first = topic.sequence.first if topic.sequence is not None else None
    if first is None or pair.here is None or pair.there is None:
        return topic
    steps = [
        *await _steps(cluster, "both", pair.here, first.before),
        *await _steps(cluster, "here", pair.here, first.here),
        *await _steps(cluster, "there", pair.there, first.there),
    ]
    return replace(topic, steps=steps)


async def _steps(cluster: Cluster, who: str, side: Side, places: Sequence[Place]) -> list[Step]:
    rows = await cluster.rows(side.reading.topic, places)
    return [Step(who, rows[p].key, (rows[p].value, rows[p].timestamp), rows[p].headers) for p in places if p in rows]
