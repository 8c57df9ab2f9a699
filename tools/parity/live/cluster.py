"""One connection to the cluster: what topics there are, where they end, and what stands in them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from app.errors import ConfigError
from app.kafka import topics
from app.ops.preflight import connect, silent
from app.settings import Settings
from tools.parity.live.content import Content

#: how long the broker may say nothing while there is something to read [s]
PATIENCE_S = 30.0
#: bytes of a partition in one fetch
_FETCH_BYTES = 1 << 22


@dataclass(slots=True)
class Reading:
    """A topic that is read. Mutable: `Cluster.read` goes on where it was."""

    topic: str
    partitions: int
    #: where each partition begins: above 0, records are gone
    begins: dict[int, int]
    #: the next offset of each partition
    positions: dict[int, int]
    content: Content = field(default_factory=Content)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A consumer in no group, which reads what is committed, and an admin client."""

    address: str
    consumer: AIOKafkaConsumer
    admin: AIOKafkaAdminClient

    @classmethod
    @asynccontextmanager
    async def of(cls, settings: Settings) -> AsyncIterator[Cluster]:
        """Connect. Raises ConfigError, with one line, if no broker answers, or one refuses later on."""
        admin = await connect(settings)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.brokers,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            max_partition_fetch_bytes=_FETCH_BYTES,
            # nothing new is waited for, and an answer under way would delay the next question
            fetch_max_wait_ms=20,
            # the first question about each topic waits this long for its leader to become known
            retry_backoff_ms=20,
        )
        try:
            with silent("aiokafka"):
                await consumer.start()
                yield cls(settings.broker, consumer, admin)
        except KafkaError as error:
            raise ConfigError(f"{settings.broker} (RISK_BROKER) refused: {error}") from error
        finally:
            await consumer.stop()
            await admin.close()

    async def ends(self, wanted: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The end of what is committed."""
        found: dict[TopicPartition, int] = await self.consumer.end_offsets(list(wanted))
        return found

    async def begins(self, wanted: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The first offset that is still there."""
        found: dict[TopicPartition, int] = await self.consumer.beginning_offsets(list(wanted))
        return found

    async def partitions(self, wanted: Collection[str]) -> dict[str, int]:
        """Number of partitions of each topic that exists."""
        return await topics.partitions_of(self.admin, sorted(wanted)) if wanted else {}

    async def open(self, wanted: Mapping[str, int]) -> dict[str, Reading]:
        """Begin to read topics (name → partitions) at their beginnings."""
        begins = await self.begins(every(wanted))
        found = {}
        for topic, partitions in wanted.items():
            mine = {p: begins[TopicPartition(topic, p)] for p in range(partitions)}
            found[topic] = Reading(topic, partitions, mine, dict(mine))
        return found

    async def read(self, readings: Sequence[Reading], ends: Mapping[TopicPartition, int]) -> None:
        """Go on with all topics at once up to `ends`, and not beyond: that is one moment for all of them.

        Raises ConfigError if nothing comes for PATIENCE_S.
        """
        by_topic = {reading.topic: reading for reading in readings}
        left = {tp for tp, end in ends.items() if tp.topic in by_topic and self._position(by_topic, tp) < end}
        self.consumer.assign(list(left))
        for tp in left:
            self.consumer.seek(tp, self._position(by_topic, tp))
        heard = time.monotonic()
        while left:
            fetched = await self.consumer.getmany(*left, timeout_ms=200)
            for tp, records in fetched.items():
                end = ends[tp]
                mine = records if records[-1].offset < end else [r for r in records if r.offset < end]
                by_topic[tp.topic].content.add(tp.partition, mine)
            before = len(fetched)
            for tp in list(left):
                # control markers move the position too, without a record
                at = await self.consumer.position(tp)
                reading = by_topic[tp.topic]
                before += at > reading.positions[tp.partition]
                reading.positions[tp.partition] = min(at, ends[tp])
                if at >= ends[tp]:
                    left.discard(tp)
                    self.consumer.pause(tp)
            heard = self._still_there(heard, progress=bool(before))

    async def rows(self, topic: str, places: Iterable[tuple[int, int]]) -> dict[tuple[int, int], ConsumerRecord]:
        """Single records by (partition, offset); one that is gone by now is left out."""
        found = {}
        for partition, offset in places:
            tp = TopicPartition(topic, partition)
            self.consumer.assign([tp])
            self.consumer.seek(tp, offset)
            for records in (await self.consumer.getmany(tp, timeout_ms=2000, max_records=1)).values():
                if records and records[0].offset == offset:
                    found[partition, offset] = records[0]
        return found

    @staticmethod
    def _position(by_topic: Mapping[str, Reading], tp: TopicPartition) -> int:
        return by_topic[tp.topic].positions[tp.partition]

    def _still_there(self, heard: float, *, progress: bool) -> float:
        now = time.monotonic()
        if progress:
            return now
        if now - heard > PATIENCE_S:
            raise ConfigError(f"{self.address} (RISK_BROKER) has stopped answering: nothing for {PATIENCE_S:g} s")
        return heard


def every(wanted: Mapping[str, int]) -> list[TopicPartition]:
    """All partitions of topics (name → partitions)."""
    return [TopicPartition(topic, p) for topic, n in wanted.items() for p in range(n)]
