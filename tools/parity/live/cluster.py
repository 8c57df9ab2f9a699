"""One connection to the cluster: its topics, their offsets and their contents."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from app.errors import ConfigError
from app.kafka import topics
from app.kafka.clients import new_consumer
from app.ops.preflight import connect, silent
from app.settings import Settings
from tools.parity.live.content import Content, Table

#: how long a read may make no progress before it fails [s]
READ_TIMEOUT_S = 30.0
#: size of one partition's part of a fetch [bytes]
_FETCH_BYTES = 1 << 22


@dataclass(slots=True)
class TopicReader:
    """One topic: its configuration and what has been read of it. Mutable: `Cluster.read` continues at `positions`."""

    topic: str
    #: first available offset of each partition; above 0, records have been deleted
    begins: dict[int, int]
    #: next offset of each partition
    positions: dict[int, int]
    configs: Mapping[str, str] = field(default_factory=dict)
    content: Content = field(default_factory=Content)

    @property
    def table(self) -> Table:
        """The last row of each key."""
        return self.content.table

    @property
    def lost_records(self) -> bool:
        """Whether the topic's first records have been deleted."""
        return any(self.begins.values())

    @property
    def is_compacted(self) -> bool:
        """Whether older rows of a key may have been removed."""
        return "compact" in self.configs.get("cleanup.policy", "").split(",")

    def retention_horizon(self, now_ms: int) -> int:
        """Return the time before which retention may have deleted rows [epoch ms]; -1 if it has deleted none."""
        retention_ms = int(self.configs.get("retention.ms", "-1"))
        deletes = "delete" in self.configs.get("cleanup.policy", "").split(",")
        return now_ms - retention_ms if deletes and retention_ms >= 0 and self.lost_records else -1


@dataclass(frozen=True, slots=True)
class Cluster:
    """A consumer without a group, which reads committed records only, and an admin client."""

    address: str
    consumer: AIOKafkaConsumer
    admin: AIOKafkaAdminClient

    @classmethod
    @asynccontextmanager
    async def connect(cls, settings: Settings) -> AsyncIterator[Cluster]:
        """Connect. Raises ConfigError if no broker answers, or if one refuses a request inside the context."""
        admin = await connect(settings)
        consumer = new_consumer(
            settings,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            max_partition_fetch_bytes=_FETCH_BYTES,
            # never wait for new records: a pending fetch would delay the next request
            fetch_max_wait_ms=20,
            # the first request for each topic waits this long until its leader is known
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

    async def end_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the end of the committed records of each partition."""
        ends: dict[TopicPartition, int] = await self.consumer.end_offsets(list(partitions))
        return ends

    async def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the first available offset of each partition."""
        begins: dict[TopicPartition, int] = await self.consumer.beginning_offsets(list(partitions))
        return begins

    async def partition_counts(self, names: Collection[str]) -> dict[str, int]:
        """Return the number of partitions of each topic that exists."""
        return await topics.partitions_of(self.admin, sorted(names)) if names else {}

    async def open(self, partition_counts: Mapping[str, int]) -> dict[str, TopicReader]:
        """Return a reader at the beginning of each topic."""
        begins = await self.beginning_offsets(all_partitions(partition_counts))
        configs = await topics.configs_of(self.admin, sorted(partition_counts))
        readers = {}
        for topic, count in partition_counts.items():
            first = {p: begins[TopicPartition(topic, p)] for p in range(count)}
            readers[topic] = TopicReader(topic, first, dict(first), configs.get(topic, {}))
        return readers

    async def read(self, readers: Mapping[str, TopicReader], ends: Mapping[TopicPartition, int]) -> None:
        """Read all topics up to `ends` and not beyond, so that their contents belong to one point in time.

        Raises ConfigError if nothing arrives for READ_TIMEOUT_S.
        """
        remaining = {
            tp for tp, end in ends.items() if tp.topic in readers and readers[tp.topic].positions[tp.partition] < end
        }
        self.consumer.assign(list(remaining))
        for tp in remaining:
            self.consumer.seek(tp, readers[tp.topic].positions[tp.partition])
        last_progress = time.monotonic()
        while remaining:
            fetched = await self.consumer.getmany(*remaining, timeout_ms=200)
            for tp, records in fetched.items():
                end = ends[tp]
                before_end = records if records[-1].offset < end else [r for r in records if r.offset < end]
                readers[tp.topic].content.add(tp.partition, before_end)
            progress = bool(fetched)
            for tp in list(remaining):
                # control markers advance the position too, without a record
                position = await self.consumer.position(tp)
                positions = readers[tp.topic].positions
                progress |= position > positions[tp.partition]
                positions[tp.partition] = min(position, ends[tp])
                if position >= ends[tp]:
                    remaining.discard(tp)
                    self.consumer.pause(tp)
            now = time.monotonic()
            if progress:
                last_progress = now
            elif now - last_progress > READ_TIMEOUT_S:
                raise ConfigError(
                    f"{self.address} (RISK_BROKER) has stopped answering: no records for {READ_TIMEOUT_S:g} s"
                )

    async def records_at(
        self, topic: str, locations: Iterable[tuple[int, int]]
    ) -> dict[tuple[int, int], ConsumerRecord]:
        """Return single records by (partition, offset), without those deleted in the meantime."""
        result = {}
        for partition, offset in locations:
            tp = TopicPartition(topic, partition)
            self.consumer.assign([tp])
            self.consumer.seek(tp, offset)
            for records in (await self.consumer.getmany(tp, timeout_ms=2000, max_records=1)).values():
                if records and records[0].offset == offset:
                    result[partition, offset] = records[0]
        return result


def all_partitions(partition_counts: Mapping[str, int]) -> list[TopicPartition]:
    """Return every partition of topics given as name → number of partitions."""
    return [TopicPartition(topic, p) for topic, n in partition_counts.items() for p in range(n)]
