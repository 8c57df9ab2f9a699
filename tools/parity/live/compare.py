"""Compare the app's topics with those of another side, usually KSQL, on one cluster: connect, wait, read, compare.

All topics are read up to one point in time: the groups' committed offsets are fetched first, then the end
offsets of the output topics, then those of the inputs. If no side lags at that point, a difference is real
and not in flight.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from aiokafka import TopicPartition

from app.errors import ConfigError
from app.settings import Settings
from models.topic_names import TopicNames
from tools.parity.live.cluster import Cluster, TopicReader, all_partitions
from tools.parity.live.lag import Lag, fetch_committed, fetch_committed_by_ksql, measure_lag
from tools.parity.live.report import Report, SequenceRow, TopicComparison, caught_up, count_larger_totals, hints
from tools.parity.live.sequences import Location
from tools.parity.live.tables import TableComparison, recheck
from tools.parity.live.verdict import TopicPair, assess, countable_differences, with_examples

#: called with one line that says what the command is waiting for
Notify = Callable[[str], object]
#: interval between two polls while waiting [s]
_POLL_S = 0.3


@dataclass(frozen=True, slots=True)
class Options:
    """The command's options."""

    #: prefix of the other side's topics
    against: str
    #: the other side's consumer groups; if empty, those of KSQL's queries are looked up
    groups: Sequence[str] = ()
    #: how long to wait for the sides to catch up [s]
    wait_s: float = 0.0
    #: maximum number of examples of each kind of difference
    show: int = 10


@dataclass(frozen=True, slots=True)
class _PointInTime:
    """End offsets of the output topics, and each side's lag at that point."""

    ends: Mapping[TopicPartition, int]
    lag_here: Lag
    lag_there: Lag

    @property
    def lagging(self) -> bool:
        """Whether a side is known to be behind."""
        return bool(self.lag_here.behind or self.lag_there.behind)


@dataclass(frozen=True, slots=True)
class _Comparison:
    """Reads and compares the topics of both sides."""

    cluster: Cluster
    settings: Settings
    options: Options
    notify: Notify
    #: topic names of the app, and of the other side
    here: TopicNames
    there: TopicNames
    #: number of partitions of the source topic; 0 if it does not exist
    source_partitions: int
    #: number of partitions of each output topic that exists
    outputs: Mapping[str, int]

    async def run(self) -> Report:
        """Wait if asked to, read and compare."""
        point = await self._wait_for_lag()
        readers = await self.cluster.open(self.outputs)
        await self.cluster.read(readers, point.ends)
        prefix = self.settings.topic_prefix
        pairs = [
            TopicPair(here.removeprefix(prefix), readers.get(here), readers.get(there))
            for here, there in zip(self.here.outputs, self.there.outputs, strict=True)
        ]
        now_ms = int(time.time() * 1000)
        tables = [pair.compare_tables(now_ms) for pair in pairs]
        in_flight = not caught_up(point.lag_here, point.lag_there)
        if self.options.wait_s and in_flight and countable_differences(pairs, tables):
            point, tables = await self._wait_for_rows(readers, pairs, tables)
        return await self._report(pairs, tables, point)

    async def _poll(self) -> _PointInTime:
        """Fetch committed offsets and end offsets, in the order that makes a lag of 0 a proof."""
        cluster, source = self.cluster, self.here.source
        inputs = {source, self.here.visits, self.here.prediction}
        by_app = await fetch_committed(cluster, [self.settings.app_id], inputs, only_inputs=True)
        if self.options.groups:
            by_other = await fetch_committed(cluster, self.options.groups, {source})
        else:
            default_names = not self.options.against
            by_other = await fetch_committed_by_ksql(cluster, source, self.there, default_names=default_names)
        ends = await cluster.end_offsets(all_partitions(self.outputs))
        return _PointInTime(ends, await measure_lag(cluster, by_app), await measure_lag(cluster, by_other))

    async def _wait_for_lag(self) -> _PointInTime:
        """Return a point in time at which no side lags, or the last one before the time limit."""
        began = time.monotonic()
        point = await self._poll()
        if point.lagging and self.options.wait_s:
            self._notify_waiting(point, "both sides have caught up")
        while point.lagging and time.monotonic() - began < self.options.wait_s:
            await asyncio.sleep(_POLL_S)
            point = await self._poll()
        return point

    async def _wait_for_rows(
        self, readers: Mapping[str, TopicReader], pairs: Sequence[TopicPair], tables: list[TableComparison]
    ) -> tuple[_PointInTime, list[TableComparison]]:
        """Read on until all differences are gone, no side lags, or the time limit is reached.

        A topic that is written continuously always has some lag, but rows in flight do arrive.
        """
        began = time.monotonic()
        self._notify_waiting(await self._poll(), "all differences are gone")
        while True:
            await asyncio.sleep(_POLL_S)
            point = await self._poll()
            await self.cluster.read(readers, point.ends)
            tables = [recheck(table, *pair.tables()) for table, pair in zip(tables, pairs, strict=True)]
            done = caught_up(point.lag_here, point.lag_there) or not countable_differences(pairs, tables)
            if done or time.monotonic() - began > self.options.wait_s:
                return point, tables

    def _notify_waiting(self, point: _PointInTime, condition: str) -> None:
        """Report what the command waits for, so that it does not look hung."""
        sides = (("here", point.lag_here.behind), ("there", point.lag_there.behind))
        behind = ", ".join(f"{side} {'unknown' if n is None else format(n, ',')}" for side, n in sides)
        self.notify(f"waiting up to {self.options.wait_s:g} s until {condition}; records behind: {behind}")

    async def _report(
        self, pairs: Sequence[TopicPair], tables: Sequence[TableComparison], point: _PointInTime
    ) -> Report:
        changes = self.settings.emit == "changes"
        topics = assess(pairs, tables, source_partitions=self.source_partitions, changes=changes)
        if not any(topic.records_here or topic.records_there for topic in topics):
            raise ConfigError("nothing to compare yet: the topics of both sides are empty")
        topics = [
            await self._with_sequence_rows(pair, with_examples(pair, topic, self.options.show))
            for pair, topic in zip(pairs, topics, strict=True)
        ]
        source = all_partitions({self.here.source: self.source_partitions})
        stamped = {side for pair in pairs for side, reader in pair.readers if reader.content.stamped_by_broker}
        return Report(
            here=self.settings.topic_prefix,
            there=self.options.against,
            topics=topics,
            lag_here=point.lag_here,
            lag_there=point.lag_there,
            no_sequences_because="" if changes else "RISK_EMIT=batch: the app does not write every change",
            hints=hints(
                topics,
                point.lag_here,
                point.lag_there,
                waits=bool(self.options.wait_s),
                larger_totals=count_larger_totals(*pairs[1].tables(), topics[1].table.differing),
                source_partitions=self.source_partitions,
                lost_records=sum((await self.cluster.beginning_offsets(source)).values()),
                stamped_by_broker=sorted(stamped),
            ),
        )

    async def _with_sequence_rows(self, pair: TopicPair, topic: TopicComparison) -> TopicComparison:
        """Add the rows around the first difference of the sequences."""
        first = topic.sequence.first if topic.sequence is not None else None
        if first is None or pair.here is None or pair.there is None:
            return topic
        rows = [
            *await self._sequence_rows("both", pair.here, first.before),
            *await self._sequence_rows("here", pair.here, first.here),
            *await self._sequence_rows("there", pair.there, first.there),
        ]
        return replace(topic, sequence_rows=rows)

    async def _sequence_rows(self, side: str, reader: TopicReader, locations: Sequence[Location]) -> list[SequenceRow]:
        records = await self.cluster.records_at(reader.topic, locations)
        existing = [records[location] for location in locations if location in records]
        return [SequenceRow(side, r.key, (r.value, r.timestamp), r.headers) for r in existing]


async def compare(settings: Settings, options: Options, notify: Notify) -> Report:
    """Compare the app's topics with those of the prefix `options.against`.

    Raises ConfigError if they cannot be compared.
    """
    if options.against == settings.topic_prefix:
        raise ConfigError(
            f"both sides are the topics with prefix {options.against!r}: set RISK_TOPIC_PREFIX to the app's prefix, "
            "or --against to the other side's"
        )
    here, there = settings.topic_names, replace(settings, topic_prefix=options.against).topic_names
    async with Cluster.connect(settings) as cluster:
        counts = await cluster.partition_counts({here.source, *here.outputs, *there.outputs})
        for names, prefix, variable in (
            (here, settings.topic_prefix, "RISK_TOPIC_PREFIX"),
            (there, options.against, "--against"),
        ):
            if names.sessions not in counts and names.agg not in counts:
                raise ConfigError(
                    f"neither {names.sessions} nor {names.agg} exists on {settings.broker}: "
                    f"is {variable} ({prefix!r}) right?"
                )
        source_partitions = counts.pop(here.source, 0)
        return await _Comparison(cluster, settings, options, notify, here, there, source_partitions, counts).run()
